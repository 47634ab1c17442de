"""The actions of `tbot config`: check and show the settings, change the trading configuration, and report the risk."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.actions.plugin_declarations import (
    PluginDeclarations,
    examine_edited,
    plugin_declarations,
)
from tbot_core.errors import SettingsError, UsageError
from tbot_core.instance import Instance, Settings, SettingsFiles, load_settings, read_settings_files
from tbot_core.instance.findings import Level, Mode, SettingsFinding
from tbot_core.instance.plugin_settings import off_by_filters
from tbot_core.instance.registry import EffectiveSetting
from tbot_core.system.redaction import hide_keys
from tbot_core.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tbot_core.contracts.setting import DeclaredConfig
    from tbot_core.instance import ExaminedSettings
    from tbot_core.instance.dotenv import ParsedDotenv
    from tbot_core.instance.settings import Settings
    from tbot_core.instance.sources import SettingsFile


_MONEY: Final = {
    "DAILY_LOSS_LIMIT": "a day",
    "TOTAL_ALLOCATION": "of orders in each window",
    "MAX_RISK_PER_TRADE": "of orders in each trade",
    "MAX_GROSS_EXPOSURE": "held at once",
    "MAX_INDEX_EXPOSURE": "held in each index",
    "DEFENSE_MODE_TOTAL_ALLOCATION": "of orders in each window of defense",
}


@attrs.frozen(kw_only=True)
class SettingChange:
    """A variable whose value differs. `sentence` states the effect, in USD where the variable is a share of equity."""

    name: str
    before: str
    after: str
    sentence: str


@attrs.frozen(kw_only=True)
class SettingsComparison:
    """The differences from earlier settings, named by `since`. `worst_day` is the effect on the planned worst day."""

    since: str
    changes: tuple[SettingChange, ...]
    worst_day: str


def encrypt_config(home: Path | None) -> tuple[Path, ...]:
    """Encrypt each settings file that is plaintext, and delete the plaintext after the encrypted file was opened again.

    A second call completes one that was interrupted. Returns the encrypted files. Raises UsageError where nothing is
    plaintext, or the two forms of a file differ.
    """
    from tbot_core.instance.secrets import encrypt_category, open_instance_vault, remove_plaintext
    from tbot_core.instance.sources import deployment_of, plaintext_of

    instance = Instance.at(home)
    sources = read_settings_files(instance)
    for source in sources.both:
        if source.fault is not None:
            raise source.fault
    if not any(source.plain for source in sources.both):
        sealed = [source.active_name for source in sources.both if source.sealed]
        what = f"{' and '.join(sealed)}: encrypted already" if sealed else f"there is no {sources.bot.name}"
        raise UsageError(f"There is nothing to encrypt: {what}.", "`tbot config check` shows the details.")
    opened = open_instance_vault(instance, deployment_of(sources.env.parsed))
    done = []
    for category, source in (("env_bot", sources.bot), ("env", sources.env)):
        if source.plain:
            if not source.sealed:
                encrypt_category(opened, category, plaintext_of(source), edition="")
            remove_plaintext(opened, category, source.path)
            done.append(opened.store.place(category).file)
    return tuple(done)


@attrs.frozen(kw_only=True)
class StoredConfig:
    """An encrypted settings file as it is stored, by default the trading configuration: its text and its values.

    `findings` are those about both files. `fault` tells why the text is invalid, None if it is valid; `values` has its
    invalid values too.
    """

    sources: SettingsFiles
    text: bytes = attrs.field(repr=False)
    values: Mapping[str, EffectiveSetting]
    findings: tuple[SettingsFinding, ...]
    fault: SettingsError | None
    category: str = "env_bot"
    _vault: Vault
    _edition: str

    @property
    def name(self) -> str:
        """The name of the file that it would have in plaintext."""
        return self._file.path.name

    @property
    def _file(self) -> SettingsFile:
        return self.sources.env if self.category == "env" else self.sources.bot

    def sources_with(self, text: bytes) -> SettingsFiles:
        """The settings files as they would be with another text."""
        from tbot_core.instance.dotenv import parse_dotenv

        changed = attrs.evolve(self._file, parsed=parse_dotenv(self._file.active_name, text))
        return attrs.evolve(self.sources, **{"env" if self.category == "env" else "bot": changed})

    @property
    def home(self) -> Path:
        """The folder of the instance."""
        return self._vault.instance.home

    def changes(self, examined: ExaminedSettings) -> tuple[SettingChange, ...]:
        """What differs in examined settings of another text."""
        return _setting_changes(self.values, examined.values, Instance.at(self.home))

    def replace(self, text: bytes, words: str = "") -> None:
        """Store a text that was judged; `words` tell the audit log what changes.

        Raises UsageError where the file has changed meanwhile.
        """
        if not self._vault.write(self.category, text, self._edition, words):
            raise UsageError(f"{self.name} was changed meanwhile; nothing was saved.", "Make the change once more.")


def stored_config(home: Path | None, category: str = "env_bot", actor: str = "") -> StoredConfig:
    """Open an encrypted settings file for a change by `actor` (default: the user and the program).

    Raises UsageError where the file is plaintext, SettingsError without an instance.
    """
    from tbot_core.instance.secrets import open_instance_vault
    from tbot_core.instance.sources import deployment_of

    sources = read_settings_files(Instance.at(home))
    file = sources.env if category == "env" else sources.bot
    if sources.env.fault is not None:
        raise sources.env.fault
    if not sources.bot.exists:
        raise SettingsError(f"{Instance.at(home).home} has no trading configuration.", "Give an instance with --home.")
    if not file.sealed:
        raise UsageError(
            f"{file.name} is not encrypted.", "Edit the file directly, or encrypt it with `tbot config encrypt`."
        )
    opened = open_instance_vault(Instance.at(home), deployment_of(sources.env.parsed), actor=actor)
    edition = opened.store.edition(category)
    with opened.read(category) as content:
        text = bytes(content.view)
    examined = examine_edited(home, sources, plugin_declarations(home, sources=sources))
    values, fault = _as_stored(sources, examined)
    return StoredConfig(
        sources=sources,
        text=text,
        values=values,
        findings=examined.findings,
        fault=fault,
        category=category,
        vault=opened,
        edition=edition,
    )


def _as_stored(
    sources: SettingsFiles, examined: ExaminedSettings
) -> tuple[Mapping[str, EffectiveSetting], SettingsError | None]:
    # The values of the settings, those that are not allowed with their texts, and the error of the file that is edited.
    failing = [finding for finding in examined.findings if finding.level == "fail"]
    if not failing:
        return examined.values, None
    texts, refused = sources.texts(), {key for finding in failing for key in finding.keys}
    values = {
        name: attrs.evolve(one, text=hide_keys(texts.get(name, one.text))) if name in refused else one
        for name, one in examined.values.items()
    }
    own = [str(finding) for finding in failing if sources.file_of(finding) is not sources.env]
    return values, SettingsError("\n".join(own)) if own else None


def compare_config(home: Path | None, other: Path | None = None) -> SettingsComparison:
    """The differences from another trading configuration, the settings of the last run, or the defaults."""
    from tbot_core.status.runs import settings_of_last_run

    declared = plugin_declarations(home).declared
    sources = read_settings_files(Instance.at(home))
    since, parsed = _read_file(other) if other is not None else settings_of_last_run(Instance.at(home))
    former = attrs.evolve(sources, bot=attrs.evolve(sources.bot, plain=True, parsed=parsed, fault=None))
    before, after = _load(home, declared, former), _load(home, declared, sources)
    changes = _setting_changes(before.values, after.values, after.instance)
    return SettingsComparison(since=since, changes=changes, worst_day=worst_day_change(before, after))


def _read_file(path: Path) -> tuple[str, ParsedDotenv]:
    from tbot_core.instance.dotenv import LIMIT_BYTES, parse_dotenv
    from tbot_core.system import filesystem

    return str(path), parse_dotenv(str(path), filesystem.read_bytes(path, limit=LIMIT_BYTES))


def _setting_changes(
    before: Mapping[str, EffectiveSetting], after: Mapping[str, EffectiveSetting], instance: Instance
) -> tuple[SettingChange, ...]:
    # Every variable with a different value, in the order of `tbot config show`; one that is new had its default.
    equity = _equity(instance, after)
    changes = []
    for name, new in after.items():
        old, declared = before.get(name), new.declaration
        text, value = (declared.default_text, declared.default) if old is None else (old.text, old.value)
        if text != new.text:
            sentence = _effect(name, value, new.value, equity) or f"{text or 'empty'} -> {new.text or 'empty'}"
            changes.append(SettingChange(name=name, before=text, after=new.text, sentence=sentence))
    return tuple(changes)


def _load(home: Path | None, declared: Sequence[DeclaredConfig], sources: SettingsFiles) -> Settings:
    return load_settings(home, mode="paper", declared=declared, sources=sources)


def _effect(name: str, old: object, new: object, equity: Decimal) -> str:
    from tbot_core.model.formatting import format_money, format_percent

    if name not in _MONEY or not isinstance(old, Decimal) or not isinstance(new, Decimal):
        return ""
    more = "more" if new > old else "less"
    amount = format_money(abs(new - old) * equity)
    return f"{format_percent(old)} -> {format_percent(new)}: up to {amount} USD {more} {_MONEY[name]}"


def worst_day_change(before: Settings, after: Settings) -> str:
    """The effect of the changes on the planned worst day; empty without an effect."""
    from tbot_core.instance.report import planned_worst_day
    from tbot_core.model.formatting import format_money, format_percent

    old, new = planned_worst_day(before).worst_day, planned_worst_day(after).worst_day
    if old == new:
        return ""
    amount, more = format_money(abs(new - old) * _equity(after.instance, after.values)), "more" if new > old else "less"
    lost = f"a loss of up to {amount} USD {more}, if every stop is hit"
    return f"planned worst day {format_percent(old)} -> {format_percent(new)}: {lost}"


def _equity(instance: Instance, values: Mapping[str, EffectiveSetting]) -> Decimal:
    # The last known equity of paper trading, else its initial cash.
    from tbot_core.journal.projections.book import fold_events
    from tbot_core.status.runs import PAPER, open_run_file, run_files

    for file in run_files(instance):
        if file.name == PAPER:
            with open_run_file(file) as journal:
                book = fold_events(journal.events())
            if book.run:
                return book.equity
    return Decimal(str(values["PAPER_CASH"].value))


def check_config(
    home: Path | None,
    mode: Mode,
    plugins: PluginDeclarations | None = None,
    examined: ExaminedSettings | None = None,
) -> tuple[SettingsFinding, ...]:
    """Every finding about the settings for a run in this mode, failures first.

    `plugins` are what the settings enable, `examined` the settings where they were examined for this mode already.
    """
    from tbot_core.instance.loading import examine_settings, unknown_setting
    from tbot_core.instance.report import examined_report

    plugins = plugins or plugin_declarations(home)
    examined = examined or examine_settings(home, mode=mode, declared=plugins.declared)
    findings = examined_report(examined, mode, plugins.installed)
    if plugins.failures:  # a setting without a similar name is probably one that the plugin would have declared
        findings = tuple(finding for finding in findings if finding.message not in map(unknown_setting, finding.keys))
    level: Level = "fail" if mode in {"dry-run", "paper", "live"} else "warn"
    return (*(SettingsFinding(level=level, message=failure) for failure in plugins.failures), *findings)


def show_config(home: Path | None, mode: Mode) -> Settings:
    """The current settings; raises SettingsError if they are invalid."""
    from tbot_core.instance.loading import load_settings

    return load_settings(home, mode=mode, declared=plugin_declarations(home).declared)


def settings_document(settings: Settings, mode: str) -> dict[str, Any]:
    """Every setting as a JSON document."""
    return {
        "mode": mode,
        "settings": {
            name: {"value": one.text, "origin": str(one.origin), "owner": one.owner}
            for name, one in settings.values.items()
        },
        "settings_hash": settings.fingerprint,
        "strategies": list(settings.strategies),
        "filters": list(settings.filters),
        "filters_off": list(settings.filters_off),
    }


def settings_lines(settings: Settings) -> Iterator[str]:
    """Every setting as text."""
    width = max(len(name) for name in settings.values)
    for name, effective in settings.values.items():
        yield f"{name:<{width}}  {effective.text or '(empty)':<48}  {effective.origin}"
    if off := off_by_filters(settings.filters_off):
        yield off
    yield f"settings_hash {settings.fingerprint}"


def explain_variable(home: Path | None, key: str) -> dict[str, Any]:
    """Everything about one variable, by its name or alias in any case; UsageError for an unknown name.

    Without an instance the value is the default.
    """
    from tbot_core.instance.cross_checks import needed_plugin
    from tbot_core.instance.loading import examine_settings
    from tbot_core.instance.report import NOT_ACTED_ON

    plugins = plugin_declarations(home, keys=(key.upper(),))
    examined = examine_settings(home, mode="demo", declared=plugins.declared)
    effective = _find(examined.values, key)
    declaration = effective.declaration
    idle = "" if declaration.acted_on else f"{NOT_ACTED_ON.capitalize()}."
    return {
        "name": declaration.name,
        "meaning": declaration.doc,
        "kind": declaration.kind.name,
        "allowed": declaration.kind.allowed,
        "default": declaration.default_text,
        "owner": effective.owner,
        "file": declaration.file,
        "since": declaration.since,
        "aliases": list(declaration.aliases),
        "changes_trades": declaration.changes_trades,
        "acted_on": declaration.acted_on,
        "note": " ".join(filter(None, (needed_plugin(effective.owner, plugins.installed), idle))),
        "value": effective.text,
        "origin": str(effective.origin),
        "findings": [str(finding) for finding in examined.findings if declaration.name in finding.keys],
    }


def explanation_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The document of a variable as text."""
    yield f"{document['name']}={document['value']}    ({document['origin']})"
    yield f"  {document['meaning']}"
    yield f"  Allowed: {document['allowed']}. Default: {document['default'] or 'empty'}. File: {document['file']}."
    yield f"  Owner: {document['owner']}. Since {document['since']}."
    if document["aliases"]:
        yield f"  Aliases: {', '.join(document['aliases'])}."
    if document["note"]:
        yield f"  {document['note']}"
    for finding in document["findings"]:
        yield f"  {finding}"


def _find(values: Mapping[str, EffectiveSetting], key: str) -> EffectiveSetting:
    name = key.upper()
    spellings = {alias: effective for effective in values.values() for alias in effective.declaration.aliases}
    setting = values.get(name) or spellings.get(name)
    if setting is not None:
        return setting
    from difflib import get_close_matches

    near = get_close_matches(name[:80], [*values, *spellings], n=3)
    remedy = f"The nearest names: {', '.join(near)}." if near else "`tbot config show` lists every setting."
    raise UsageError(f"Unknown setting {key}.", remedy)
