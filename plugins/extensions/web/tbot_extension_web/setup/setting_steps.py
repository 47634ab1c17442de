"""The trading settings: every variable in its group, with the value that counts now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.actions.instance_creation import paper_settings
from tbot_core.contracts.setting import declarations
from tbot_core.instance import EffectiveSetting, examine_settings
from tbot_core.instance.cross_checks import missing_plugins
from tbot_core.instance.dotenv import parse_dotenv
from tbot_core.instance.registry import GROUPS, strategy_of
from tbot_core.plugins.discovery import installed_plugins
from tbot_extension_web.setup.fields import FormField
from tbot_extension_web.setup.step import Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tbot_core.instance import ExaminedSettings
    from tbot_extension_web.setup.state import SetUpState
    from tbot_extension_web.setup.step import Fault, Values

NAME: Final = "settings"
_PREFIX: Final = "settings-"


@attrs.frozen(kw_only=True)
class SettingsGroup:
    """A group of variables: its name in an address, its title, what it is about, and its variables by name."""

    name: str
    title: str
    about: str
    values: dict[str, EffectiveSetting]

    @property
    def path(self) -> str:
        """The address of its page."""
        return f"/setup/{_PREFIX}{self.name}"


def setting_groups(state: SetUpState) -> tuple[SettingsGroup, ...]:
    """The groups in the order of the reference; those of plugins that are not enabled are left out."""
    values = dict(examined(state).values)
    found = []
    for title, config in GROUPS.items():
        names = [declaration.name for declaration in declarations(config).values() if declaration.name in values]
        about = " ".join((config.__doc__ or "").replace("`", "").split())
        found.append(_group(title, about, {name: values[name] for name in names}))
    for plugin in state.enabled:
        owner = f"{plugin.entry.kind} {plugin.entry.name}"
        strategy = plugin.entry.name if plugin.entry.kind == "strategy" else ""
        own = {
            name: one
            for name, one in values.items()
            if one.owner == owner or (strategy and strategy_of(name) == strategy)
        }
        found.append(_group(owner, plugin.plugin.summary, own))
    return tuple(group for group in found if group.values)


def group_step(state: SetUpState, name: str) -> Step | None:
    """The page of a group by the name of its step; None for another name."""
    if not name.startswith(_PREFIX):
        return None
    group = next((one for one in setting_groups(state) if f"{_PREFIX}{one.name}" == name), None)
    if group is None:
        return None
    return Step(
        name=name,
        title=group.title,
        intro=group.about,
        fields=lambda _state: tuple(_fields(group)),
        keep=lambda state, values: _keep(state, values, group),
        faults=lambda state, values: tuple(_faults(state, values, group)),
        part_of=NAME,
    )


def _group(title: str, about: str, values: dict[str, EffectiveSetting]) -> SettingsGroup:
    name = title.replace(" ", "-").replace("_", "-")
    return SettingsGroup(name=name, title=title.capitalize(), about=about, values=values)


def _fields(group: SettingsGroup) -> Iterator[FormField]:
    usual = {entry.key: entry.value for entry in parse_dotenv(".env_bot", paper_settings().encode()).entries}
    for name, setting in group.values.items():
        declared = setting.declaration
        yield FormField(
            name=name,
            label=name,
            doc=declared.doc if declared.acted_on else f"{declared.doc} tbot accepts it and does nothing with it yet.",
            kind=declared.kind,
            default=declared.default_text,
            value=setting.written or setting.text,
            sample=usual.get(name, ""),
            blank=declared.kind.empty,
        )


def _keep(state: SetUpState, values: Values, group: SettingsGroup) -> SetUpState:
    for name, setting in group.values.items():
        declared = setting.declaration
        text = values.get(name, "") or ("" if declared.kind.empty else declared.default_text)
        if text != (setting.written or setting.text):
            state = state.with_setting(name, text, file=declared.file)
    return state


def _faults(state: SetUpState, values: Values, group: SettingsGroup) -> Iterator[Fault]:
    # What a paper start would refuse: what does not fit together, and plugins that are not installed, unless they were
    # named before, in settings that were taken over. Each at the first of its variables.
    installed = {(plugin.entry.kind, plugin.entry.name) for plugin in installed_plugins()}
    found = examined(_keep(state, values, group))
    before = missing_plugins(examined(state).values, "paper", installed)
    absent = (plugin for plugin in missing_plugins(found.values, "paper", installed) if plugin not in before)
    for finding in (*found.findings, *absent):
        key = next((key for key in finding.keys if key in group.values), "")
        if finding.level == "fail" and key:
            yield key, finding.message


def examined(state: SetUpState) -> ExaminedSettings:
    """Every setting and every finding, as at a paper start."""
    declared = [plugin.declared for plugin in state.enabled]
    return examine_settings(state.setup.instance.home, mode="paper", declared=declared, sources=state.sources)


def _overview(state: SetUpState) -> Mapping[str, Any]:
    changed = {*state.draft.settings, *state.draft.answers.get("env", {})}
    return {
        "groups": [(group, sum(name in changed for name in group.values)) for group in setting_groups(state)],
    }


SETTINGS: Final = Step(
    name=NAME,
    title="Trading settings",
    intro="Every setting has a usual value: you can go on without opening any of these, and change them later.",
    fields=lambda _state: (),
    keep=lambda state, _values: state,
    shows=_overview,
    template="setup/settings.html",
)
