"""What `tbot config encrypt`, `edit` and `diff` do: change the trading configuration, and say what a change risks."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import Plugin
from tbot_core.contracts.setting import Declared
from tbot_core.errors import AccessError, UsageError, VaultError
from tbot_core.instance import Instance, Settings, load, read
from tbot_core.instance.findings import Finding, Level, Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tbot_core.instance import Sources
    from tbot_core.instance.dotenv import Parsed
    from tbot_core.instance.effective import Effective
    from tbot_core.instance.settings import Settings


_MONEY: Final = {
    "DAILY_LOSS_LIMIT": "a day",
    "TOTAL_ALLOCATION": "in each window",
    "MAX_RISK_PER_TRADE": "in each trade",
    "MAX_GROSS_EXPOSURE": "held at once",
    "MAX_INDEX_EXPOSURE": "in each index",
    "DEFENSE_MODE_TOTAL_ALLOCATION": "in each window of defense",
}


@attrs.frozen(kw_only=True)
class Change:
    """A variable whose value differs; `sentence` says what it does, in USD where the variable is a share of equity."""

    name: str
    before: str
    after: str
    sentence: str


@attrs.frozen(kw_only=True)
class Comparison:
    """What differs from what was before, which `since` names; `worst_day` says what all of it does to the worst day."""

    since: str
    changes: tuple[Change, ...]
    worst_day: str


def encrypt(home: Path | None) -> Path:
    """Encrypt the plaintext trading configuration, prove it, and remove the plaintext; returns the new file.

    Raises UsageError where there is none, or an encrypted one already.
    """
    from tbot_core.instance.dotenv import LIMIT_BYTES
    from tbot_core.instance.secrets import keep, vault
    from tbot_core.instance.sources import deployment_of
    from tbot_core.system import filesystem

    sources = read(Instance.at(home))
    bot = sources.bot
    if sources.env.fault is not None:
        raise sources.env.fault
    if bot.sealed or not bot.plain:
        what = f"{bot.counts} is encrypted already." if bot.sealed else f"There is no {bot.name} to encrypt."
        remedy = f"Remove the plaintext {bot.name}." if bot.sealed and bot.plain else "`tbot config check` says more."
        raise UsageError(what, remedy)
    opened = vault(Instance.at(home), deployment_of(sources.env.parsed))
    data = filesystem.read_bytes(bot.path, limit=LIMIT_BYTES)
    keep(opened, "env_bot", data)  # which has opened what it wrote
    filesystem.remove(bot.path)
    return opened.store.place("env_bot").file


def edited(
    home: Path | None, declared: Sequence[Declared], editor: Callable[[str, bytes], bytes]
) -> tuple[Change, ...]:
    """Let the editor change the encrypted trading configuration, check what comes back, and encrypt it.

    Raises SettingsError for text that does not hold, and changes nothing then; UsageError where nothing is encrypted.
    """
    from tbot_core.instance.dotenv import parse
    from tbot_core.instance.secrets import vault
    from tbot_core.instance.sources import deployment_of

    sources = read(Instance.at(home))
    bot = sources.bot
    if not bot.sealed:
        raise UsageError(f"{bot.name} is not encrypted.", "Edit it as it is, or encrypt it with `tbot config encrypt`.")
    opened = vault(Instance.at(home), deployment_of(sources.env.parsed))
    with opened.read("env_bot") as held:
        data = bytes(held.view)
    before = _loaded(home, declared, sources)
    text = editor(bot.path.name, data)
    if text == data:
        return ()
    after = _loaded(home, declared, attrs.evolve(sources, bot=attrs.evolve(bot, parsed=parse(bot.counts, text))))
    opened.write("env_bot", text)
    return changes(before, after)


def compared(home: Path | None, declared: Sequence[Declared], other: Path | None = None) -> Comparison:
    """What differs from another trading configuration, else from the settings of the last run, else the defaults."""
    from tbot_core.status.last_settings import of_last_run

    sources = read(Instance.at(home))
    since, parsed = _of_file(other) if other is not None else of_last_run(Instance.at(home))
    former = attrs.evolve(sources, bot=attrs.evolve(sources.bot, plain=True, parsed=parsed, fault=None))
    before, after = _loaded(home, declared, former), _loaded(home, declared, sources)
    return Comparison(since=since, changes=changes(before, after), worst_day=_worst_day(before, after))


def _of_file(path: Path) -> tuple[str, Parsed]:
    from tbot_core.instance.dotenv import LIMIT_BYTES, parse
    from tbot_core.system import filesystem

    return str(path), parse(str(path), filesystem.read_bytes(path, limit=LIMIT_BYTES))


def changes(before: Settings, after: Settings) -> tuple[Change, ...]:
    """Every variable that holds another value, in the order in which settings are shown."""
    equity = _equity(after)
    pairs = [(before.values.get(name), one) for name, one in after.values.items()]
    return tuple(
        Change(
            name=new.declaration.name,
            before=old.text,
            after=new.text,
            sentence=_sentence(new.declaration.name, old.value, new.value, equity)
            or f"{old.text or 'empty'} -> {new.text or 'empty'}",
        )
        for old, new in pairs
        if old is not None and old.text != new.text
    )


def _loaded(home: Path | None, declared: Sequence[Declared], sources: Sources) -> Settings:
    return load(home, mode="paper", declared=declared, sources=sources)


def _sentence(name: str, old: object, new: object, equity: Decimal) -> str:
    from tbot_core.model.formatting import money, percent

    if name not in _MONEY or not isinstance(old, Decimal) or not isinstance(new, Decimal):
        return ""
    more = "more" if new > old else "less"
    amount = money(abs(new - old) * equity)
    return f"{percent(old)} -> {percent(new)}: up to {amount} USD {more} {_MONEY[name]}"


def _worst_day(before: Settings, after: Settings) -> str:
    # What the changes do to the planned worst day; empty where they do nothing.
    from tbot_core.instance.worst_day import plan
    from tbot_core.model.formatting import money, percent

    old, new = plan(before).worst_day, plan(after).worst_day
    if old == new:
        return ""
    amount, more = money(abs(new - old) * _equity(after)), "more" if new > old else "less"
    return f"planned worst day {percent(old)} -> {percent(new)}: up to {amount} USD {more}"


def _equity(settings: Settings) -> Decimal:
    # The last known equity of paper trading, else what it would begin with.
    from tbot_core.journal.projections.book import fold
    from tbot_core.status.runs import PAPER, reading, run_files

    for file in run_files(settings.instance):
        if file.name == PAPER:
            with reading(file) as journal:
                book = fold(journal.events())
            if book.run:
                return book.equity
    return Decimal(settings.simulation.paper_cash)


def check(home: Path | None, mode: Mode, plugins: Known | None = None) -> tuple[Finding, ...]:
    """Every finding about the instance's settings for a run in this mode, failing ones first."""
    from tbot_core.instance.report import report

    plugins = plugins or known(home)
    found = report(home, mode=mode, declared=plugins.declared, installed=plugins.installed)
    level: Level = "fail" if mode in {"dry-run", "paper", "live"} else "warn"
    return (*(Finding(level=level, message=failure) for failure in plugins.failures), *found)


def declared(home: Path | None) -> tuple[Declared, ...]:
    """What the enabled plugins declare."""
    return known(home).declared


def show(home: Path | None, mode: Mode) -> Settings:
    """The settings as they hold; SettingsError when they are not valid."""
    from tbot_core.instance.loading import load

    return load(home, mode=mode, declared=known(home).declared)


def explain(home: Path | None, key: str) -> dict[str, Any]:
    """Everything about one variable, by its name or alias in any case; UsageError when there is none.

    Works without an instance, with the default then.
    """
    from tbot_core.instance.loading import examine
    from tbot_core.instance.report import NOT_ACTED_ON

    examined = examine(home, mode="demo", declared=known(home).declared)
    effective = _find(examined.values, key)
    one = effective.declaration
    return {
        "name": one.name,
        "meaning": one.doc,
        "kind": one.kind.name,
        "allowed": one.kind.allowed,
        "default": one.default_text,
        "owner": effective.owner,
        "file": one.file,
        "since": one.since,
        "aliases": list(one.aliases),
        "changes_trades": one.changes_trades,
        "acted_on": one.acted_on,
        "note": "" if one.acted_on else f"{NOT_ACTED_ON.capitalize()}.",
        "value": effective.text,
        "origin": str(effective.origin),
        "findings": [str(finding) for finding in examined.findings if one.name in finding.keys],
    }


@attrs.frozen(kw_only=True)
class Known:
    """The plugins that are installed, what the enabled ones declare, and a sentence for each that does not load.

    `brokers` are the offers of the brokers among them, by name.
    """

    installed: frozenset[tuple[str, str]]
    declared: tuple[Declared, ...]
    failures: tuple[str, ...]
    brokers: Mapping[str, Plugin] = attrs.field(factory=dict)


def known(home: Path | None) -> Known:
    """What is installed, what the enabled plugins declare, and a sentence for each of these that does not load.

    Those that would not come back are held back, as in a run.
    """
    from tbot_core.instance.enabled_plugins import enabled, raw
    from tbot_core.instance.folder import Instance
    from tbot_core.model.clock import SystemClock
    from tbot_core.plugins import discovery, quarantine
    from tbot_core.plugins.loader import Loader

    listings = discovery.plugins()
    installed = frozenset((it.entry.kind, it.entry.name) for it in listings)
    try:
        wanted = enabled(raw(home)) & installed
    except (AccessError, VaultError):
        wanted = frozenset()  # the file that cannot be read is a finding of its own
    fit, held = quarantine.held_back(wanted, listings, Instance.at(home).data, SystemClock().now())
    loaded, failed = Loader().offers(fit, listings)
    return Known(
        installed=installed,
        declared=tuple(it.declared for it in loaded),
        failures=tuple(failure.sentence for failure in (*held, *failed)),
        brokers={it.entry.name: it.plugin for it in loaded if it.entry.kind == "broker"},
    )


def _find(values: Mapping[str, Effective], key: str) -> Effective:
    wanted = key.upper()
    spellings = {alias: effective for effective in values.values() for alias in effective.declaration.aliases}
    found = values.get(wanted) or spellings.get(wanted)
    if found is not None:
        return found
    from difflib import get_close_matches

    near = get_close_matches(wanted[:80], [*values, *spellings], n=3)
    remedy = f"The nearest names: {', '.join(near)}." if near else "`tbot config show` lists every setting."
    raise UsageError(f"{key} is no setting that is known.", remedy)


def with_values(text: str, changes: Mapping[str, object]) -> bytes:
    """The lines of a settings file with other values; new variables come last."""
    rest = {key: str(value) for key, value in changes.items()}
    if any("\n" in part or "\r" in part for pair in rest.items() for part in pair):
        raise UsageError("A setting holds a line break.", "Give each setting one line.")
    lines = []
    for line in text.splitlines():
        key = line.partition("=")[0]
        lines.append(f"{key}={rest.pop(key)}" if key in rest else line)
    return "\n".join([*lines, *(f"{key}={value}" for key, value in rest.items()), ""]).encode()
