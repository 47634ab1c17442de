"""All known variables, of the core, of each strategy and of plugins, their effective values, and their groups.

The groups are those of the reference of settings: of the core, of each strategy, of each plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import settings
from tbot_core.contracts.setting import SettingDeclaration, SettingKind, declarations
from tbot_core.instance.findings import ValueOrigin
from tbot_core.instance.plugin_settings import known_plugins

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tbot_core.contracts.setting import DeclaredConfig

CORE: Final = "core"
GROUPS: Final[dict[str, type[Any]]] = {
    "deployment": settings.DeploymentSettings,
    "general": settings.GeneralSettings,
    "trading": settings.TradingSettings,
    "risk": settings.RiskSettings,
    "entries": settings.EntrySettings,
    "exits": settings.ExitSettings,
    "simulation": settings.SimulationSettings,
    "rebalance": settings.RebalanceSettings,
    "failover": settings.FailoverSettings,
    "notifications": settings.NotificationSettings,
    "ledger": settings.LedgerSettings,
}


@attrs.frozen(kw_only=True)
class KnownVariable:
    """A variable with its owner: `core`, or a plugin's kind and name (`strategy open`).

    `readers` are other plugins that declare it too, with their kinds: each must accept its text.
    """

    declaration: SettingDeclaration
    owner: str
    readers: tuple[tuple[str, SettingKind[Any]], ...] = ()


@attrs.frozen(kw_only=True)
class VariableCatalogue:
    """The known variables by name, in display order, and the aliases."""

    variables: dict[str, KnownVariable]
    aliases: dict[str, str]

    def canonical_name(self, key: str) -> str | None:
        """The variable for a key in a file; None if unknown."""
        return key if key in self.variables else self.aliases.get(key)

    def nearest(self, key: str) -> str | None:
        """The known name most similar to the key; None without one."""
        from difflib import get_close_matches

        found = get_close_matches(key.upper()[:80], [*self.variables, *self.aliases], n=1, cutoff=0.7)
        return found[0] if found else None


@attrs.frozen(kw_only=True)
class EffectiveSetting:
    """A variable's effective value: its declaration, owner (`core`, or `strategy open`), value, text and origin.

    `written` is the text in the file or the option, "" for a default.
    """

    declaration: SettingDeclaration
    owner: str
    value: Any
    text: str
    origin: ValueOrigin
    written: str = ""

    @property
    def is_set(self) -> bool:
        """Whether a file or an option sets it."""
        return self.origin != ValueOrigin()


@attrs.frozen(kw_only=True)
class SettingGroup:
    """A group: its `name` in addresses, its title, one sentence, and the variables in order."""

    name: str
    title: str
    doc: str
    variables: tuple[str, ...]


def catalogue(strategies: Iterable[str], declared: Sequence[DeclaredConfig] = ()) -> VariableCatalogue:
    """Collect the variables known to a run with these strategies and plugin declarations."""
    known: dict[str, KnownVariable] = {}
    for group in GROUPS.values():
        for declaration in declarations(group).values():
            known[declaration.name] = KnownVariable(declaration=declaration, owner=CORE)
    for name in known_strategy_names(strategies, declared):
        for declaration in strategy_declarations(name).values():
            known[declaration.name] = KnownVariable(declaration=declaration, owner=CORE)
    for plugin in declared:
        _declare(known, plugin)
    for absent in known_plugins():
        for name, declaration in absent.settings.items():
            known.setdefault(name, KnownVariable(declaration=declaration, owner=f"{absent.kind} {absent.name}"))
    aliases = {alias: name for name, one in known.items() for alias in one.declaration.aliases}
    return VariableCatalogue(variables=known, aliases=aliases)


def known_strategy_names(strategies: Iterable[str], declared: Sequence[DeclaredConfig] = ()) -> tuple[str, ...]:
    """The strategies whose standard variables are known: given, declared, or in plugins.json."""
    plugins = [plugin.name for plugin in known_plugins() if plugin.kind == "strategy"]
    plugins += [plugin.name for plugin in declared if plugin.kind == "strategy"]
    return tuple(dict.fromkeys((*plugins, *strategies)))


def strategy_declarations(strategy: str) -> dict[str, SettingDeclaration]:
    """The standard variables of a strategy by field of `StrategySettings`."""
    return {
        field: attrs.evolve(declaration, name=declaration.name.replace("{NAME}", strategy.upper()))
        for field, declaration in declarations(settings.StrategySettings).items()
    }


def strategy_of(key: str) -> str | None:
    """The strategy of a standard variable, known or not; None for other variables."""
    for declaration in declarations(settings.StrategySettings).values():
        before, _, after = declaration.name.partition("{NAME}")
        name = key.removeprefix(before).removesuffix(after)
        if name and key == f"{before}{name}{after}":
            return name.lower()
    return None


def group_title(name: str) -> str:
    """The title of a group of the core."""
    return name.capitalize()


def group_doc(config: type) -> str:
    """The sentence of a group of settings, by its class."""
    return " ".join((config.__doc__ or "").split())


def setting_groups(values: Mapping[str, EffectiveSetting]) -> tuple[SettingGroup, ...]:
    """The groups of these settings; each setting is in one of them."""
    titles = {name: (group_title(name), group_doc(config)) for name, config in GROUPS.items()}
    of_core = {
        declaration.name: name for name, config in GROUPS.items() for declaration in declarations(config).values()
    }
    members: dict[str, list[str]] = {name: [] for name in titles}
    for name, setting in values.items():
        owner = setting.owner if setting.owner != CORE else f"strategy {strategy_of(name)}"
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


def _declare(known: dict[str, KnownVariable], plugin: DeclaredConfig) -> None:
    owner = f"{plugin.kind} {plugin.name}"
    for declaration in declarations(plugin.config).values():
        name = declaration.name.replace("{NAME}", plugin.name.upper())
        if name in known:
            known[name] = attrs.evolve(known[name], readers=(*known[name].readers, (owner, declaration.kind)))
        else:
            known[name] = KnownVariable(declaration=attrs.evolve(declaration, name=name), owner=owner)
    if not plugin.hosts:
        return
    from tbot_core.contracts.network import host_settings  # settings that are read without plugins need no network

    for declaration in host_settings(plugin.name, plugin.hosts).values():
        known.setdefault(declaration.name, KnownVariable(declaration=declaration, owner=owner))
