"""Changes of single settings in the encrypted files: planned with their effect, then saved as they were planned."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.actions.config import SettingChange, StoredConfig, stored_config, worst_day_change
from tbot_core.actions.plugin_declarations import plugin_declarations
from tbot_core.contracts.setting import declarations
from tbot_core.contracts.settings import RiskSettings
from tbot_core.errors import SettingsError, UsageError
from tbot_core.instance import Instance, SettingsFiles, examine_settings, load_settings, read_settings_files
from tbot_core.instance.dotenv import replace_values
from tbot_core.instance.findings import SettingsFinding
from tbot_core.instance.folder import ENV_FILE
from tbot_core.instance.registry import EffectiveSetting
from tbot_core.instance.required_plugins import missing_plugins
from tbot_core.instance.setting_groups import SettingGroup, setting_groups

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tbot_core.actions.plugin_declarations import PluginDeclarations
    from tbot_core.instance.settings import Settings

_OF_RISK: Final = frozenset(one.name for one in declarations(RiskSettings).values())
_GUARDED: Final = frozenset(
    {
        "BROKER_NAME",
        "FAILOVER_BROKERS",
        "STOP_LOSS_PCT",
        "STOP_ATR",
        "ENVIRONMENT",
        "SECRETS_WRITE_FORMAT",
        "EXTENSIONS",
    }
)
_SAFER_WHEN_TRUE: Final = frozenset({"DISABLE_ALL_TRADES", "DEFENSE_MODE_ACTIVE"})
_OFF_AT_ZERO: Final = frozenset({"MAX_CONSECUTIVE_LOSSES", "MAX_ORDER_NOTIONAL", "FIRST_LIVE_DAY_MAX_ORDER_NOTIONAL"})
_OF_PAGE: Final = ("SESSION_TIMEOUT", "LOGIN_ATTEMPT_LIMIT", "LOGIN_LOCKOUT_MINUTES")
_PAGE: Final = "extension web"


@attrs.frozen(kw_only=True)
class SettingsView:
    """Every setting of an instance in groups, for a form.

    `version` identifies the content of the files. `fixed` tells why nothing can be changed here, "" where it can.
    `findings` are the failures and warnings about the settings as they are.
    """

    groups: tuple[SettingGroup, ...]
    values: Mapping[str, EffectiveSetting]
    version: str
    fixed: str
    findings: tuple[SettingsFinding, ...]


@attrs.frozen(kw_only=True)
class SettingsPlan:
    """Changes that are not saved yet, with their effect.

    `faults` tells by setting why a text is not allowed, "" for faults of none of them: then nothing can be saved.
    `guarded`: the names of which a person should be sure, since more can be lost than before, or the broker or who may
    log in on the page is concerned. `disarms`: live trading has to be armed again.
    """

    changes: tuple[SettingChange, ...] = ()
    worst_day: str = ""
    warnings: tuple[str, ...] = ()
    faults: Mapping[str, str] = attrs.field(factory=dict)
    guarded: tuple[str, ...] = ()
    disarms: bool = False
    version: str
    _stored: StoredConfig | None = attrs.field(default=None, repr=False)
    _text: bytes = attrs.field(default=b"", repr=False)

    def save(self, version: str) -> None:
        """Store the changes; `version` is that of the form. Raises UsageError where the files changed since."""
        if version != self.version:
            raise UsageError("The settings were changed since the form was opened; nothing was saved.", _AGAIN)
        if self.faults or self._stored is None:
            raise UsageError("There is nothing that could be saved.", _AGAIN)
        self._stored.replace(self._text)


_AGAIN: Final = "Open the settings again, and make the change once more."


def settings_view(home: Path | None) -> SettingsView:
    """Every setting with its value, its source and its declaration."""
    sources = read_settings_files(Instance.at(home))
    declared = plugin_declarations(home, sources=sources).declared
    examined = examine_settings(home, mode="paper", declared=declared, sources=sources)
    plain = [source.name for source in sources.both if source.plain and not source.sealed]
    return SettingsView(
        groups=setting_groups(examined.values),
        values=examined.values,
        version=_version(sources),
        fixed=f"{' and '.join(plain)}: not encrypted." if plain else "",
        findings=examined.findings,
    )


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
    declared = plugin_declarations(home, sources=sources).declared
    before = examine_settings(home, mode="paper", declared=declared, sources=sources)
    version = _version(sources)
    asked = {name: text.strip() for name, text in wanted.items() if _differs(before.values, name, text.strip())}
    if not asked:
        return SettingsPlan(version=version)
    files = {before.values[name].declaration.file for name in asked}
    if len(files) > 1:
        raise UsageError("Settings of both files are changed at once.", "Change those of .env on their own.")
    stored = stored_config(home, "env" if files == {ENV_FILE} else "env_bot", actor)
    spelt = {name: _spelling(before.values[name], sources) for name in asked}
    text = replace_values(stored.text.decode(), {spelt[name]: value for name, value in asked.items()})
    return _planned(home, stored, text, tuple(asked), version)


def _planned(home: Path | None, stored: StoredConfig, text: bytes, names: Sequence[str], version: str) -> SettingsPlan:
    after = stored.sources_with(text)
    plugins = plugin_declarations(home, sources=after)
    examined = examine_settings(home, mode="paper", declared=plugins.declared, sources=after)
    if examined.settings is None:
        return SettingsPlan(faults=dict(_faults(examined.findings, names)), version=version)
    changes = stored.changes(examined)
    before = _before(home, stored.sources)
    worst = worst_day_change(before, examined.settings) if before is not None else ""
    return SettingsPlan(
        changes=changes,
        worst_day=worst,
        warnings=tuple(_warnings(examined.findings, examined.settings, plugins, names)),
        guarded=tuple(one.name for one in changes if _is_guarded(one, stored.values, examined.settings)),
        disarms=before is None or before.fingerprint != examined.settings.fingerprint,
        version=version,
        stored=stored,
        text=text,
    )


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
    one = values[name]
    kind = one.declaration.kind
    try:
        differs = kind.show(kind.parse(text)) != one.text
    except ValueError:
        differs = True
    if differs and not is_editable(one):
        raise UsageError(
            f"{name} cannot be changed here.", "It names a file: move the file and change it on the machine."
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


def _faults(findings: Sequence[SettingsFinding], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    # By setting of the form, the others together.
    failing = [one for one in findings if one.level == "fail"]
    own = {name: [one.message for one in failing if name in one.keys] for name in names}
    yield from ((name, " ".join(messages)) for name, messages in own.items() if messages)
    others = [str(one) for one in failing if not set(one.keys) & set(names)]
    if others:
        yield "", " ".join(others)


def _warnings(
    findings: Sequence[SettingsFinding], settings: Settings, plugins: PluginDeclarations, names: Sequence[str]
) -> Iterator[str]:
    yield from (one.message for one in findings if one.level == "warn" and set(one.keys) & set(names))
    for one in missing_plugins(settings.values, "paper", plugins.installed):
        if one.level == "fail":
            yield f"`tbot check` fails with this setting: {one}"


def _is_guarded(change: SettingChange, before: Mapping[str, EffectiveSetting], after: Settings) -> bool:
    # Of the limits those that are raised; where that is not known they count as such.
    name = change.name
    if name not in _OF_RISK:
        return name in _GUARDED or name.startswith(_OF_PAGE) or after.values[name].owner == _PAGE
    old, new = before[name].value, after.values[name].value
    if isinstance(new, bool):
        return new is not (name in _SAFER_WHEN_TRUE)
    return not _is_less(old, new) or (name in _OFF_AT_ZERO and not new)


def _is_less(old: Any, new: Any) -> bool:
    try:
        return bool(new < old)
    except TypeError:
        return False
