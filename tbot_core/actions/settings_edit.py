"""Changes of single settings in the encrypted files: planned with their effect, then saved as they were planned."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.actions.checks import start_faults
from tbot_core.actions.config import SettingChange, StoredConfig, stored_config, worst_day_change
from tbot_core.actions.plugin_declarations import PluginDeclarations, examine_edited, plugin_declarations
from tbot_core.errors import SettingsError, UsageError
from tbot_core.instance import Instance, SettingsFiles, examine_settings, load_settings, read_settings_files
from tbot_core.instance.cross_checks import needed_plugin
from tbot_core.instance.dotenv import replace_values
from tbot_core.instance.findings import SettingsFinding, printable_value
from tbot_core.instance.folder import ENV_FILE
from tbot_core.instance.loading import faults_error
from tbot_core.instance.plugin_settings import off_by_filters
from tbot_core.instance.registry import CORE, EffectiveSetting, SettingGroup, setting_groups, strategy_of
from tbot_core.system.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tbot_core.instance.settings import Settings

_OF_PAGE: Final = ("SESSION_TIMEOUT", "LOGIN_ATTEMPT_LIMIT", "LOGIN_LOCKOUT_MINUTES")
_PAGE: Final = "extension web"


@attrs.frozen(kw_only=True)
class SettingsView:
    """Every setting of an instance in groups, for a form.

    `version` identifies the content of the files. `fixed` tells why nothing can be changed here, "" where it can.
    `findings` are the failures and warnings about the settings as they are. `checks_off` names the standard filters
    that FILTERS takes away, "" without one. `needs` says by setting which plugin is not installed.
    """

    groups: tuple[SettingGroup, ...]
    values: Mapping[str, EffectiveSetting]
    version: str
    fixed: str
    findings: tuple[SettingsFinding, ...]
    checks_off: str
    needs: Mapping[str, str]


@attrs.frozen(kw_only=True)
class SettingsPlan:
    """Changes that are not saved yet, with their effect.

    `faults` tells by setting why a text is not allowed, or why the next start would fail with it, "" for faults of none
    of them: then nothing can be saved, and `fault` has them all. `guarded` tells by setting why its change permits
    more, for which a person enters the password again on the page. `disarms`: live trading has to be armed again.
    """

    changes: tuple[SettingChange, ...] = ()
    worst_day: str = ""
    warnings: tuple[str, ...] = ()
    faults: Mapping[str, str] = attrs.field(factory=dict)
    fault: SettingsError | None = None
    guarded: Mapping[str, str] = attrs.field(factory=dict)
    disarms: bool = False
    version: str
    _stored: StoredConfig | None = attrs.field(default=None, repr=False)
    _text: bytes = attrs.field(default=b"", repr=False)

    def save(self, version: str, *, password: bool = False) -> None:
        """Store the changes; `version` is that of the form, `password` whether it was entered again.

        The audit log names each setting with both values. Raises UsageError where the files changed since.
        """
        if version != self.version:
            raise UsageError("The settings were changed since the form was opened; nothing was saved.", _AGAIN)
        if self.faults or self._stored is None:
            raise UsageError("There is nothing that could be saved.", _AGAIN)
        named = ", ".join(
            f"{change.name} {_printed(change.before)} -> {_printed(change.after)}" for change in self.changes
        )
        given = "with the password" if password else "without the password"
        self._stored.replace(self._text, redact(f"{named or 'no value'}; {given}"))


_AGAIN: Final = "Open the settings again, and make the change once more."


def settings_view(home: Path | None) -> SettingsView:
    """Every setting with its value, its source and its declaration."""
    sources = read_settings_files(Instance.at(home))
    plugins = plugin_declarations(home, sources=sources)
    examined = examine_settings(home, mode="paper", declared=plugins.declared, sources=sources)
    plain = [source.name for source in sources.both if source.plain and not source.sealed]
    return SettingsView(
        groups=setting_groups(examined.values),
        values=examined.values,
        version=_version(sources),
        fixed=f"{' and '.join(plain)}: not encrypted." if plain else "",
        findings=examined.findings,
        checks_off=" ".join(_checks_off(examined.settings)),
        needs=dict(_needs(examined.values, plugins)),
    )


def _needs(values: Mapping[str, EffectiveSetting], plugins: PluginDeclarations) -> Iterator[tuple[str, str]]:
    for name, setting in values.items():
        strategy = strategy_of(name) if setting.owner == CORE else None
        if sentence := needed_plugin(f"strategy {strategy}" if strategy else setting.owner, plugins.installed):
            yield name, sentence


def is_editable(one: EffectiveSetting) -> bool:
    """Whether a form may change the setting: where files are is changed together with the files."""
    return not (one.declaration.file == ENV_FILE and one.declaration.kind.name == "path")


def choices_of(one: EffectiveSetting) -> tuple[str, ...]:
    """The texts that a form offers; empty where any text is entered."""
    kind = one.declaration.kind
    return ("true", "false") if kind.name == "boolean" else kind.choices


def plan_settings(home: Path | None, wanted: Mapping[str, str], actor: str = "") -> SettingsPlan:
    """Plan settings by name, each as its text in the file; those that have the value already are left out.

    Raises UsageError for a name that is not known, cannot be changed, or is of the other file; SettingsError without an
    instance.
    """
    sources = read_settings_files(Instance.at(home))
    declared = plugin_declarations(home, sources=sources, keys=wanted).declared
    before = examine_settings(home, mode="paper", declared=declared, sources=sources)
    version = _version(sources)
    values = _values_with_enabled(home, sources, before.values, wanted)
    asked = {name: text.strip() for name, text in wanted.items() if _differs(values, name, text.strip())}
    if not asked:
        return SettingsPlan(version=version)
    files = {values[name].declaration.file for name in asked}
    if len(files) > 1:
        raise UsageError("Settings of both files are changed at once.", "Change those of .env on their own.")
    stored = stored_config(home, "env" if files == {ENV_FILE} else "env_bot", actor)
    spelt = {name: _spelling(values[name], sources) for name in asked}
    text = replace_values(stored.text.decode(), {spelt[name]: value for name, value in asked.items()})
    return plan_text(stored, text, tuple(asked))


def _values_with_enabled(
    home: Path | None, sources: SettingsFiles, values: Mapping[str, EffectiveSetting], wanted: Mapping[str, str]
) -> Mapping[str, EffectiveSetting]:
    # The settings, and where a wanted one is not among them those of the plugins that the other ones enable.
    others = {_spelling(values[name], sources): text.strip() for name, text in wanted.items() if name in values}
    if not others or all(name in values for name in wanted):
        return values
    stored = stored_config(home, "env_bot")
    after = stored.sources_with(replace_values(stored.text.decode(), others))
    declared = plugin_declarations(home, sources=after).declared
    return {**examine_settings(home, mode="paper", declared=declared, sources=after).values, **values}


def plan_text(stored: StoredConfig, text: bytes, names: Sequence[str] = ()) -> SettingsPlan:
    """Plan another text of a settings file; `names` are the settings that a form changes.

    A fault in that file is a fault of the plan, and so is one with which the next start would fail and the one before
    would not have. Other faults are warnings: each file can be corrected while the other one is invalid.
    """
    home, version, after = stored.home, _version(stored.sources), stored.sources_with(text)
    plugins = plugin_declarations(home, sources=after)
    examined = examine_edited(home, after, plugins)
    failing, left = _failing(home, stored, after, examined.findings)
    if failing:
        faults = dict(_faults(failing, names))
        return SettingsPlan(faults=faults, fault=faults_error(failing), version=version)
    changes = stored.changes(examined)
    before = _before(home, stored.sources)
    return SettingsPlan(
        changes=changes,
        worst_day=worst_day_change(before, examined.settings) if before and examined.settings else "",
        warnings=(*left, *_warnings(stored, examined.findings, changes), *_checks_off(examined.settings)),
        guarded=dict(_guarded(changes, examined.values)),
        disarms=not (before and examined.settings and before.fingerprint == examined.settings.fingerprint),
        version=version,
        stored=stored,
        text=text,
    )


def _failing(
    home: Path, stored: StoredConfig, after: SettingsFiles, findings: Sequence[SettingsFinding]
) -> tuple[list[SettingsFinding], list[str]]:
    # The findings with which nothing is saved, and a sentence for each that was there before and is not in this file.
    edited = after.env if stored.category == "env" else after.bot
    own = [finding for finding in findings if finding.level == "fail" and after.file_of(finding) is edited]
    if own:
        return [attrs.evolve(finding, where=_place_of_edit(finding)) for finding in own], []
    later = start_faults(home, after)
    earlier = {(fault.keys, fault.message) for fault in start_faults(home, stored.sources)} if later else set()
    new = [finding for finding in later if (finding.keys, finding.message) not in earlier]
    words = "The next start would fail: "
    return [attrs.evolve(finding, message=f"{words}{finding.message}") for finding in new], [
        _as_before(finding, after) for finding in later if finding not in new
    ]


def _place_of_edit(finding: SettingsFinding) -> str:
    # The line of a text that is not saved: the file has another one there, or none.
    line = finding.where.rpartition(":")[2]
    return f"line {line} of the new text" if line.isdecimal() else finding.where


def _as_before(finding: SettingsFinding, sources: SettingsFiles) -> str:
    file = sources.file_of(finding)
    return f"as before, a start fails: {finding}{f' {file.edit_words}' if file is not None else ''}"


def takes_effect(one: EffectiveSetting, *, running: bool, in_session: bool) -> str:
    """When a change of the setting takes effect, for a bot that runs or does not."""
    name = one.declaration.name
    if one.owner == _PAGE or name.startswith(_OF_PAGE):
        return "when `tbot web` starts again"
    if one.declaration.file == ENV_FILE:
        return "at the next start of each process"
    if not running:
        return "at the next start of the bot"
    return "from the next session" if in_session else "from the next session; none is under way, so within seconds"


def _version(sources: SettingsFiles) -> str:
    content = [
        [source.active_name, *([entry.key, entry.value, entry.line] for entry in source.parsed.entries)]
        for source in sources.both
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _differs(values: Mapping[str, EffectiveSetting], name: str, text: str) -> bool:
    if name not in values:
        raise UsageError(f"Unknown setting {name[:80]!a}.", "`tbot config show` lists every setting.")
    setting = values[name]
    kind = setting.declaration.kind
    try:
        differs = kind.show(kind.parse(text)) != setting.text
    except ValueError:
        differs = True
    if differs and not is_editable(setting):
        raise UsageError(
            f"{name} cannot be changed here.", "It names a file or folder: move that, and change it on the machine."
        )
    return differs


def _spelling(one: EffectiveSetting, sources: SettingsFiles) -> str:
    # The key in the file, which may be an alias: its line is changed, and no second one added.
    entries = [entry for source in sources.both for entry in source.parsed.entries]
    found = (entry.key for entry in entries if (entry.file, entry.line) == (one.origin.file, one.origin.line))
    return next(found, one.declaration.name)


def _before(home: Path | None, sources: SettingsFiles) -> Settings | None:
    declared = plugin_declarations(home, sources=sources).declared
    try:
        return load_settings(home, mode="paper", declared=declared, sources=sources)
    except SettingsError:
        return None


def _faults(failing: Sequence[SettingsFinding], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    # By setting of the form, the others together.
    own = {name: [finding.message for finding in failing if name in finding.keys] for name in names}
    yield from ((name, " ".join(messages)) for name, messages in own.items() if messages)
    others = [str(finding) for finding in failing if not set(finding.keys) & set(names)]
    if others:
        yield "", " ".join(others)


def _warnings(
    stored: StoredConfig, findings: Sequence[SettingsFinding], changes: Sequence[SettingChange]
) -> Iterator[str]:
    # What is notable about the changed settings, and unknown keys and lines that the text did not have before.
    changed = {change.name for change in changes}
    before = {(finding.keys, finding.message) for finding in stored.findings}
    for finding in findings:
        unknown = finding.where and not any(key in stored.values for key in finding.keys)
        if finding.level in {"warn", "note"} and (
            changed & set(finding.keys) or (unknown and (finding.keys, finding.message) not in before)
        ):
            yield str(finding) if unknown else finding.message


def _checks_off(settings: Settings | None) -> Iterator[str]:
    if settings is not None and (off := off_by_filters(settings.filters_off)):
        yield off


def _guarded(changes: Sequence[SettingChange], values: Mapping[str, EffectiveSetting]) -> Iterator[tuple[str, str]]:
    for change in changes:
        declared = values[change.name].declaration
        if reason := declared.permits.reason(declared.kind, change.before, change.after):
            yield change.name, reason


def _printed(text: str) -> str:
    return printable_value(text) if text else "empty"
