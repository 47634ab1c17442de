"""The settings in groups, as the reference of settings has them: of the core, of each strategy, of each plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts.setting import declarations
from tbot_core.instance.registry import CORE, GROUPS, strategy_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.instance.registry import EffectiveSetting


@attrs.frozen(kw_only=True)
class SettingGroup:
    """A group: its `name` in addresses, its title, one sentence, and the variables in order."""

    name: str
    title: str
    doc: str
    variables: tuple[str, ...]


def group_title(name: str) -> str:
    """The title of a group of the core."""
    return name.capitalize()


def group_doc(config: type) -> str:
    """The sentence of a group of settings, by its class."""
    return " ".join((config.__doc__ or "").split())


def setting_groups(values: Mapping[str, EffectiveSetting]) -> tuple[SettingGroup, ...]:
    """The groups of these settings; each setting is in one of them."""
    titles = {name: (group_title(name), group_doc(config)) for name, config in GROUPS.items()}
    of_core = {one.name: name for name, config in GROUPS.items() for one in declarations(config).values()}
    members: dict[str, list[str]] = {name: [] for name in titles}
    for name, one in values.items():
        owner = one.owner if one.owner != CORE else f"strategy {strategy_of(name)}"
        group = of_core.get(name) or owner.replace(" ", "-")
        if group not in titles:
            kind, _, plugin = owner.partition(" ")
            of_plugin = f"Settings that the {kind} {plugin} reads."
            doc = "Window, universe and rules of the strategy." if kind == "strategy" else of_plugin
            titles[group] = (f"{kind.capitalize()} {plugin}", doc)
        members.setdefault(group, []).append(name)
    order = [*GROUPS, *sorted(set(members) - set(GROUPS), key=lambda it: (not it.startswith("strategy-"), it))]
    return tuple(
        SettingGroup(name=name, title=titles[name][0], doc=titles[name][1], variables=tuple(members[name]))
        for name in order
        if members[name]
    )
