"""Every variable that is known: the core's, the standard ones of each strategy, and those of plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import settings
from tbot_core.contracts.setting import Declaration, Kind, declarations
from tbot_core.instance.plugin_settings import known_plugins

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tbot_core.contracts.setting import Declared

CORE: Final = "core"
GROUPS: Final[dict[str, type[Any]]] = {
    "deployment": settings.Deployment,
    "general": settings.General,
    "trading": settings.Trading,
    "risk": settings.Risk,
    "entries": settings.Entries,
    "exits": settings.Exits,
    "simulation": settings.Simulation,
    "rebalance": settings.Rebalance,
    "failover": settings.Failover,
    "notifications": settings.Notifications,
    "ledger": settings.Ledger,
}


@attrs.frozen(kw_only=True)
class Known:
    """A variable with its owner: `core`, or a plugin's kind and name (`strategy open`).

    `readers` are further plugins that declare it too, with their kinds: its text must be allowed by each.
    """

    declaration: Declaration
    owner: str
    readers: tuple[tuple[str, Kind[Any]], ...] = ()


@attrs.frozen(kw_only=True)
class Catalogue:
    """The known variables by name, in the order in which people are shown them, and the names of the aliases."""

    known: dict[str, Known]
    aliases: dict[str, str]

    def name(self, key: str) -> str | None:
        """The variable that a key of a file means, or None."""
        return key if key in self.known else self.aliases.get(key)

    def nearest(self, key: str) -> str | None:
        """The known name that looks most like the key, if any does."""
        from difflib import get_close_matches

        found = get_close_matches(key.upper()[:80], [*self.known, *self.aliases], n=1, cutoff=0.7)
        return found[0] if found else None


def catalogue(strategies: Iterable[str], declared: Sequence[Declared] = ()) -> Catalogue:
    """The variables known to a run with these strategies and these plugins' own declarations."""
    known: dict[str, Known] = {}
    for group in GROUPS.values():
        for declaration in declarations(group).values():
            known[declaration.name] = Known(declaration=declaration, owner=CORE)
    for name in frame_names(strategies, declared):
        for declaration in framed(name).values():
            known[declaration.name] = Known(declaration=declaration, owner=CORE)
    for plugin in declared:
        _declare(known, plugin)
    for absent in known_plugins():
        for name, declaration in absent.settings.items():
            known.setdefault(name, Known(declaration=declaration, owner=f"{absent.kind} {absent.name}"))
    aliases = {alias: name for name, one in known.items() for alias in one.declaration.aliases}
    return Catalogue(known=known, aliases=aliases)


def frame_names(strategies: Iterable[str], declared: Sequence[Declared] = ()) -> tuple[str, ...]:
    """The strategies whose standard variables are known: those asked for, declared, or of the data file."""
    plugins = [plugin.name for plugin in known_plugins() if plugin.kind == "strategy"]
    plugins += [plugin.name for plugin in declared if plugin.kind == "strategy"]
    return tuple(dict.fromkeys((*plugins, *strategies)))


def framed(strategy: str) -> dict[str, Declaration]:
    """The standard variables of a strategy by field of `policy.Frame`."""
    return {
        field: attrs.evolve(declaration, name=declaration.name.replace("{NAME}", strategy.upper()))
        for field, declaration in declarations(settings.Frame).items()
    }


def strategy_of(key: str) -> str | None:
    """The strategy whose standard variable this is, whether or not one of that name is known; None for all others."""
    for declaration in declarations(settings.Frame).values():
        before, _, after = declaration.name.partition("{NAME}")
        name = key.removeprefix(before).removesuffix(after)
        if name and key == f"{before}{name}{after}":
            return name.lower()
    return None


def _declare(known: dict[str, Known], plugin: Declared) -> None:
    owner = f"{plugin.kind} {plugin.name}"
    for declaration in declarations(plugin.config).values():
        name = declaration.name.replace("{NAME}", plugin.name.upper())
        if name in known:
            known[name] = attrs.evolve(known[name], readers=(*known[name].readers, (owner, declaration.kind)))
        else:
            known[name] = Known(declaration=attrs.evolve(declaration, name=name), owner=owner)
