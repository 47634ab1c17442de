"""Loads validated, typed settings from files and options; all faults are collected before any is raised."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import settings
from tbot_core.contracts.setting import declarations
from tbot_core.errors import SettingsError
from tbot_core.instance import cross_checks
from tbot_core.instance.cross_checks import missing_plugins
from tbot_core.instance.dotenv import Assignment
from tbot_core.instance.enabled_plugins import applied_filters, filters_taken_away, running_strategies
from tbot_core.instance.findings import (
    OPTION,
    TRIAL,
    SettingsFinding,
    ValueOrigin,
    is_secret_for_path,
    printable_value,
)
from tbot_core.instance.folder import ENCRYPTED_SUFFIX, ENV_FILE, Instance
from tbot_core.instance.index_funds import NAME
from tbot_core.instance.registry import (
    CORE,
    GROUPS,
    EffectiveSetting,
    KnownVariable,
    VariableCatalogue,
    catalogue,
    known_strategy_names,
    strategy_declarations,
    strategy_of,
)
from tbot_core.instance.settings import Settings
from tbot_core.instance.sources import SettingsFiles
from tbot_core.instance.sources import read_settings_files as configured
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from tbot_core.contracts.setting import DeclaredConfig
    from tbot_core.instance.findings import Mode

_VERSION_FILE = Path(__file__).parents[1] / "VERSION.md"
_ENV_FILES = frozenset({ENV_FILE, f"{ENV_FILE}{ENCRYPTED_SUFFIX}"})
# A file of only unknown keys is no settings file, and comparing each would take a minute.
_COMPARED = 50
_LINES = 200
_WITHDRAWN: Final = {
    "SIGNAL_MAX_AGE": "a signal is acted on only while its bar is the latest closed one, live as in replay and backtest"
}
"""The settings that there were once, each with the reason why there are none now."""

_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
# Replaced in the fingerprint by an equivalent with fewer spellings, or irrelevant to a simulation.
_RESOLVED = frozenset({"STRATEGY_SEQUENCE", "STRATEGY_OVERRIDE", "FILTERS"})
_BROKER_KEYS = frozenset({"BROKER_NAME"})


@attrs.frozen(kw_only=True)
class ExaminedSettings:
    """The result of an examination; `settings` is None when a finding fails."""

    settings: Settings | None
    findings: tuple[SettingsFinding, ...]
    values: Mapping[str, EffectiveSetting]


def load_settings(  # noqa: PLR0913  -- the inputs of a run
    home: Path | str | None = None,
    *,
    mode: Mode,
    declared: Sequence[DeclaredConfig] = (),
    overrides: Mapping[str, str] | None = None,
    sources: SettingsFiles | None = None,
    installed: Collection[tuple[str, str]] | None = None,
) -> Settings:
    """Load the instance's settings for a run in this mode.

    `declared` are the settings classes of the plugins in use; `overrides` are option texts by variable; `sources` are
    files that were read already. With `installed`, pairs (kind, name), the settings must not need any other plugin.
    Raises SettingsError with one line per fault.
    """
    examined = examine_settings(home, mode=mode, declared=declared, overrides=overrides, sources=sources)
    lacking = () if installed is None else missing_plugins(examined.values, mode, installed)
    failing = sorted((finding for finding in (*examined.findings, *lacking) if finding.level == "fail"), key=_position)
    if examined.settings is None or failing:
        raise faults_error(failing)
    return examined.settings


def with_trial(files: SettingsFiles, trial: Mapping[str, str]) -> SettingsFiles:
    """The files with these texts, by variable, in place of the trading configuration's own: those of `--set`."""
    if not trial:
        return files
    known = catalogue(())
    names = {name: known.canonical_name(name) or name for name in trial}
    kept = [
        entry
        for entry in files.bot.parsed.entries
        if (known.canonical_name(entry.key) or entry.key) not in names.values()
    ]
    tried = [Assignment(key=names[name], value=text, file=TRIAL.file, line=0) for name, text in trial.items()]
    parsed = attrs.evolve(files.bot.parsed, entries=(*kept, *tried))
    return attrs.evolve(files, bot=attrs.evolve(files.bot, parsed=parsed))


def assert_trial_is_known(settings: Settings) -> None:
    """Raises SettingsError for a `--set` of a setting that neither the core nor a plugin of the run declares.

    In a file such a line is a warning, since a plugin may be absent; what is given for one run is meant for it.
    """
    strange = [
        attrs.evolve(warning, level="fail")
        for warning in settings.warnings
        if warning.where == TRIAL.file and settings.values.keys().isdisjoint(warning.keys)
    ]
    if strange:
        raise faults_error(strange)


def faults_error(failing: Sequence[SettingsFinding]) -> SettingsError:
    """The error of findings that fail, one line each."""
    faults = [str(finding) for finding in failing]
    more = [f"and {len(faults) - _LINES} more faults."] if len(faults) > _LINES else []
    return SettingsError("\n".join([*faults[:_LINES], *more]), _remedy(failing))


def examine_settings(
    home: Path | str | None = None,
    *,
    mode: Mode,
    declared: Sequence[DeclaredConfig] = (),
    overrides: Mapping[str, str] | None = None,
    sources: SettingsFiles | None = None,
) -> ExaminedSettings:
    """Return every finding about the instance's settings without raising an error."""
    instance = Instance.at(home)
    read = sources or configured(instance, live=mode == "live")
    options = {key: Assignment(key=key, value=value, file="", line=0) for key, value in (overrides or {}).items()}
    assignments = [*read.env.parsed.entries, *read.bot.parsed.entries]
    texts = {entry.key: entry.value for entry in assignments}
    texts |= {key: entry.value for key, entry in options.items()}
    known = catalogue(_mentioned(texts), declared)
    entries, found = _assigned(known, [*assignments, *options.values()])
    values, refused = _values(known, entries)
    findings = [*read.findings(live=mode == "live"), *_missing(read, instance, mode), *found, *refused]
    bad = {key for finding in refused for key in finding.keys}
    draft = _draft(mode, values)
    findings += [finding for finding in cross_checks.cross_check_findings(draft) if not bad & set(finding.keys)]
    findings += _outside(instance, values)
    findings.sort(key=_position)
    if any(finding.level == "fail" for finding in findings):
        return ExaminedSettings(settings=None, findings=tuple(findings), values=values)
    warnings = tuple(finding for finding in findings if finding.level == "warn")
    settings = _settings(instance, draft, texts, warnings, _tables(instance, draft, declared))
    return ExaminedSettings(settings=settings, findings=tuple(findings), values=values)


def package_version() -> str:
    """The version in the package's VERSION.md."""
    return filesystem.read_text(_VERSION_FILE).split()[0]


def _position(finding: SettingsFinding) -> tuple[str, int]:
    # The order in which a reader of the files finds them; findings without a location come first.
    file, _, line = finding.where.rpartition(":")
    return (file, int(line)) if line.isdecimal() else (finding.where, 0)


def _remedy(failing: Sequence[SettingsFinding]) -> str:
    # A finding about a whole file, such as a damaged or missing one, names its remedy itself.
    if not any(finding.keys or ":" in finding.where for finding in failing):
        return ""
    return "Correct it; `tbot config check` lists every finding, `tbot config explain KEY` shows the allowed values."


def _missing(sources: SettingsFiles, instance: Instance, mode: Mode) -> Iterator[SettingsFinding]:
    # A demo needs no files.
    if mode == "demo" or sources.env.fault is not None or sources.bot.exists:
        return
    what = f"{instance.home} has no trading configuration {sources.bot.name}"
    if not filesystem.exists(instance.home):
        what = f"{instance.home} does not exist"
    elif not filesystem.is_folder(instance.home):
        what = f"{instance.home} is a file, but an instance is a folder"
    sentence = (
        f"{what}: `tbot init` creates an instance, --home selects another; `tbot run --demo` runs a simulation "
        "without one."
    )
    yield SettingsFinding(level="fail", message=sentence)


def _mentioned(texts: Mapping[str, str]) -> tuple[str, ...]:
    # Strategies in the texts: in the sequence, as override, or by a standard variable of their own. A name similar to
    # a known strategy is left out, so that it is reported as misspelt.
    listed = f"{texts.get('STRATEGY_SEQUENCE', '')},{texts.get('STRATEGY_OVERRIDE', '')}"
    names = [part.strip().lower() for part in listed.split(",") if part.strip()]
    by_variable = dict.fromkeys(name for key in texts if (name := strategy_of(key)) is not None)
    ours = known_strategy_names(names)
    names += [name for name in [*by_variable][:_COMPARED] if not get_close_matches(name[:80], ours, n=1)]
    return tuple(dict.fromkeys(name for name in names if name.isidentifier() and name.isascii()))


def _assigned(
    known: VariableCatalogue, entries: Sequence[Assignment]
) -> tuple[dict[str, Assignment], list[SettingsFinding]]:
    # The entry of each known variable, and findings about keys that are unknown or in the wrong file.
    assigned: dict[str, Assignment] = {}
    findings: list[SettingsFinding] = []
    for entry in entries:
        name = known.canonical_name(entry.key)
        if name is None:
            findings.append(_unknown(known, entry, compare=len(findings) < _COMPARED))
            continue
        wanted = known.variables[name].declaration.file
        if entry.file == TRIAL.file and wanted == ENV_FILE:
            sentence = f"{entry.key} belongs in {wanted}, which holds for every run."
            findings.append(SettingsFinding(level="fail", message=sentence, keys=(name,), where=entry.file))
            continue
        if entry.line and (entry.file in _ENV_FILES) != (wanted == ENV_FILE):
            sentence = f"{entry.key} belongs in {wanted} and is ignored here."
            findings.append(SettingsFinding(level="warn", message=sentence, keys=(name,), where=entry.where))
            continue
        if name in assigned and assigned[name].key != entry.key:
            sentence = (
                f"{entry.key} is an alias of {assigned[name].key} on line {assigned[name].line}; this line takes "
                "precedence."
            )
            findings.append(SettingsFinding(level="warn", message=sentence, keys=(name,), where=entry.where))
        assigned[name] = entry
    return assigned, findings


def _unknown(known: VariableCatalogue, entry: Assignment, *, compare: bool) -> SettingsFinding:
    where = entry.where if entry.line else str(_origin(entry))
    nearest = known.nearest(entry.key) if compare else None
    if not (nearest or entry.value.strip("=") or _NAME.fullmatch(entry.key)):
        sentence = "The line is not KEY=value. It is not shown, since it may be a secret that ends with `=`."
        return SettingsFinding(level="warn", message=sentence, where=where)
    sentence = unknown_setting(entry.key, nearest or "")
    return SettingsFinding(level="warn", message=sentence, keys=(entry.key,), where=where)


def unknown_setting(key: str, nearest: str = "") -> str:
    """The sentence on a key of a settings file that no class declares; `nearest` is a similar name, "" without one.

    Of a setting that was withdrawn it has the reason.
    """
    if key in _WITHDRAWN:
        return f"{key} is no longer a setting: {_WITHDRAWN[key]}."
    meant = f"; the nearest name is {nearest}" if nearest else ""
    return f"Unknown setting {printable_value(key)}{meant}."


def _origin(entry: Assignment) -> ValueOrigin:
    if entry.line:
        return ValueOrigin(file=entry.file, line=entry.line)
    return TRIAL if entry.file == TRIAL.file else OPTION


def _values(
    known: VariableCatalogue, entries: Mapping[str, Assignment]
) -> tuple[dict[str, EffectiveSetting], list[SettingsFinding]]:
    # Every effective value (the default for a refused text), and the refusals.
    values: dict[str, EffectiveSetting] = {}
    refused: list[SettingsFinding] = []
    for name, variable in known.variables.items():
        declaration, entry = variable.declaration, entries.get(name)
        held = EffectiveSetting(
            declaration=declaration,
            owner=variable.owner,
            value=declaration.default,
            text=declaration.default_text,
            origin=ValueOrigin(),
        )
        if entry is not None:
            origin = _origin(entry)
            faults = [
                SettingsFinding(level="fail", message=fault, keys=(name,), where=str(origin))
                for fault in _read(variable, entry)
            ]
            if faults:
                refused += faults
            else:
                written = entry.value.strip()
                value = declaration.kind.parse(written)
                text = declaration.kind.show(value)
                held = attrs.evolve(held, value=value, text=text, origin=origin, written=written)
        values[name] = held
    return values, refused


def _read(one: KnownVariable, entry: Assignment) -> Iterator[str]:
    # The objections of the owner and of each further reader to a variable's text, without duplicates.
    reported: set[str] = set()
    if is_secret_for_path(one.declaration.kind, entry.value.strip()):
        allowed = one.declaration.kind.allowed
        yield f"{entry.key} is shaped like a secret, which is not shown; allowed is {allowed}."
        return
    for reader, kind in (("", one.declaration.kind), *one.readers):
        try:
            kind.parse(entry.value.strip())
        except ValueError:
            if kind.allowed in reported:
                continue
            reported.add(kind.allowed)
            whose = f" for {reader}" if reader else ""
            yield f"{entry.key}={printable_value(entry.value)}: allowed{whose} is {kind.allowed}."


def _draft(mode: Mode, values: Mapping[str, EffectiveSetting]) -> cross_checks.SettingsDraft:
    texts = {name: effective.text for name, effective in values.items()}
    trading = _group(settings.TradingSettings, values)
    override = (trading.strategy_override,) if trading.strategy_override else ()
    names = [name for name in (*trading.strategy_sequence, *override) if f"STRAT_{name.upper()}_ENABLED" in values]
    return cross_checks.SettingsDraft(
        mode=mode,
        version=package_version(),
        groups={group: _group(config, values) for group, config in GROUPS.items()},
        frames={
            name: settings.StrategySettings(
                **{field: values[one.name].value for field, one in strategy_declarations(name).items()}
            )
            for name in names
        },
        strategies=running_strategies(texts),
        filters=applied_filters(trading.filters, texts),
        filters_off=filters_taken_away(trading.filters, texts),
        values=values,
    )


def _group(config: type[Any], values: Mapping[str, EffectiveSetting]) -> Any:
    return config(**{field: values[one.name].value for field, one in declarations(config).items()})


def _outside(instance: Instance, values: Mapping[str, EffectiveSetting]) -> Iterator[SettingsFinding]:
    for name, effective in values.items():
        if effective.declaration.kind.name == "path" and instance.outside(effective.text):
            sentence = f"{name}={printable_value(effective.text)} is outside of the instance."
            yield SettingsFinding(level="warn", message=sentence, keys=(name,), where=str(effective.origin))


def _settings(
    instance: Instance,
    draft: cross_checks.SettingsDraft,
    texts: Mapping[str, str],
    warnings: tuple[SettingsFinding, ...],
    tables: Mapping[str, str],
) -> Settings:
    return Settings(
        mode=draft.mode,
        instance=attrs.evolve(instance, control_dir=draft.groups["deployment"].control_dir),
        frames=draft.frames,
        strategies=draft.strategies,
        filters=draft.filters,
        filters_off=draft.filters_off,
        values=draft.values,
        texts=texts,
        warnings=warnings,
        fingerprint=_fingerprint(draft, {name: found for name, found in tables.items() if found}),
        tables=tables,
        **draft.groups,
    )


def _tables(
    instance: Instance, draft: cross_checks.SettingsDraft, declared: Sequence[DeclaredConfig]
) -> dict[str, str]:
    # The operator's tables for the core and for deciding plugins, with their hashes.
    deciding = {"strategy": draft.strategies, "filter": draft.filters}
    named = (config for config in declared if config.name in deciding.get(config.kind, (config.name,)))
    own = [NAME] if filesystem.exists(instance.table(NAME)) else []
    return table_hashes(instance, sorted({table for config in named for table in config.tables}.union(own)))


def table_hashes(instance: Instance, tables: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of each of these tables as currently stored; "" for a missing one.

    Raises AccessError for an unreadable one.
    """
    places = {name: instance.table(name) for name in tables}
    return {name: _hash(place) if filesystem.exists(place) else "" for name, place in places.items()}


def _hash(place: Path) -> str:
    return hashlib.sha256(filesystem.read_bytes(place)).hexdigest()


def _fingerprint(draft: cross_checks.SettingsDraft, tables: Mapping[str, str]) -> str:
    # SHA-256 over the canonical JSON of all inputs of decisions, each value in its canonical text.
    left_out = _RESOLVED | (_BROKER_KEYS if draft.mode in {"replay", "demo", "backtest"} else frozenset())
    idle = {declaration.name for name in _idle(draft) for declaration in strategy_declarations(name).values()}
    active = {CORE, *(f"strategy {name}" for name in draft.strategies), *(f"filter {name}" for name in draft.filters)}
    content: dict[str, object] = {"STRATEGIES": draft.strategies, "FILTERS": draft.filters, **tables}
    for name, effective in draft.values.items():
        one = effective.declaration
        plugin = effective.owner.split(" ")[0] in {"strategy", "filter"}
        if (
            one.changes_trades
            and one.acted_on
            and name not in left_out | idle
            and (not plugin or effective.owner in active)
        ):
            content[name] = effective.text
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _idle(draft: cross_checks.SettingsDraft) -> Iterator[str]:
    # Strategies that have standard variables but do not run.
    for name in draft.values:
        if name.startswith("STRAT_") and name.endswith("_ENABLED"):
            strategy = name[6:-8].lower()
            if strategy not in draft.strategies:
                yield strategy
