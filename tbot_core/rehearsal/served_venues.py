"""The venues of installed alert channels, filters and extensions, served beside that of a broker."""

from __future__ import annotations

import inspect
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs

from tbot_core.plugins import discovery
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import LoadedPlugin, PluginLoader
from tbot_core.system.foreign_exceptions import assert_failure
from tbot_core.testing.venue import ReceivingVenue, ServedVenue

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tbot_core.contracts import Host
    from tbot_core.model.clock import Clock
    from tbot_core.testing.venue import LoopbackServer

KINDS: Final = frozenset({"alert", "extension", "filter"})
"""The kinds whose venues are served beside that of a broker."""


@attrs.frozen(kw_only=True, eq=False)
class OpenVenue:
    """A venue that is served, and its ports as a target has them."""

    venue: ServedVenue
    ports: tuple[int, int]


def installed_offers() -> Iterator[LoadedPlugin | PluginFailure]:
    """The installed plugins of these kinds, imported, or why they cannot be."""
    loader = PluginLoader()
    for entry in sorted(one.entry for one in discovery.installed_plugins() if one.entry.kind in KINDS):
        yield loader.load(entry)


@contextmanager
def served_venues(
    offers: Iterable[LoadedPlugin | PluginFailure],
    runner: asyncio.Runner,
    clock: Clock,
    report: Callable[[str], None],
) -> Iterator[Mapping[str, OpenVenue]]:
    """Open the venues in the loop of this runner; yields them by KIND.NAME.

    A plugin without a venue that takes a runner and a clock has none. `report` is called with a sentence for each
    plugin that cannot be imported, or whose venue cannot be opened.
    """
    found: dict[str, OpenVenue] = {}
    with ExitStack() as stack:
        for loaded in offers:
            if isinstance(loaded, PluginFailure):
                report(f"Not served: {loaded.sentence}")
                continue
            entry, opened = loaded.entry, loaded.plugin.venue
            if opened is None or not inspect.signature(opened).parameters:
                continue
            try:
                venue = stack.enter_context(opened(runner, clock))
            except BaseException as fault:  # noqa: BLE001  -- the border of a plugin
                assert_failure(fault)
                report(f"Not served: the venue of the {entry.kind} {entry.name} ({type(fault).__name__}: {fault})")
                continue
            if isinstance(venue, ServedVenue):
                ports = _ports(loaded.plugin.needs.hosts.values(), venue.server)
                found[f"{entry.kind}.{entry.name}"] = OpenVenue(venue=venue, ports=ports)
        yield found


def _ports(hosts: Iterable[Host], server: LoopbackServer) -> tuple[int, int]:
    # For HTTP or mail, and for WebSockets: the same one for a plugin that has none.
    sockets = server.socket_url if any(one.url.startswith("wss") for one in hosts) else server.url
    return urlsplit(server.url).port or 0, urlsplit(sockets).port or 0


class Arrivals:
    """What has newly arrived at venues."""

    def __init__(self, venues: Mapping[str, OpenVenue]) -> None:
        self._venues = {name: one.venue for name, one in venues.items() if isinstance(one.venue, ReceivingVenue)}
        self._shown = dict.fromkeys(self._venues, 0)

    def poll(self) -> list[str]:
        """A line for each message since the last call, with the name of its venue; a venue that fails is left out."""
        found = []
        for name, venue in tuple(self._venues.items()):
            try:
                lines = list(venue.received())
            except BaseException as fault:  # noqa: BLE001  -- the border of a plugin
                assert_failure(fault)
                found.append(f"{name}: no longer shown ({type(fault).__name__}: {fault})")
                del self._venues[name]
                continue
            found += [f"{name}: {line}" for line in lines[self._shown[name] :]]
            self._shown[name] = len(lines)
        return found
