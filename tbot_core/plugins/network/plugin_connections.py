"""The ways to the network of a run's plugins: closed when a plugin is no longer used, and at the run's end."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from tbot_core.system import log

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from tbot_core.contracts.network import Connect

CLOSE_S: Final = 10.0
"""Seconds within which a connection closes, however a server behaves."""

_log = log.logger(__name__)


class PluginConnections:
    """What each plugin of a run was given to connect with, by `kind/name`."""

    def __init__(self) -> None:
        self._given: defaultdict[str, list[Connect]] = defaultdict(list)
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many objects of plugins were given one."""
        return sum(map(len, self._given.values()))

    def add(self, plugin: str, connect: Connect) -> None:
        """Note what a plugin is created with."""
        self._given[plugin].append(connect)

    def remove(self, plugin: str, connect: Connect) -> None:
        """Forget what an object was created with that is no longer used, and close it."""
        self._given[plugin].remove(connect)
        self._close_soon([connect])

    def close_plugin(self, plugin: str) -> None:
        """Begin to close the connections of a plugin that is switched off; it may open others when it is used again."""
        self._close_soon(self._given.get(plugin, []))

    async def close(self) -> None:
        """Close the connections of all plugins, within `CLOSE_S` seconds."""
        await _close([one for given in self._given.values() for one in given])
        if self._closing:
            import asyncio

            await asyncio.wait(self._closing)

    def _close_soon(self, connects: Iterable[Connect]) -> None:
        # In the event loop that opened them; without one nothing is open.
        import asyncio

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        task = loop.create_task(_close(list(connects)))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _close(connects: list[Connect]) -> None:
    if not connects:
        return
    import asyncio

    done, left = await asyncio.wait([asyncio.ensure_future(one.close()) for one in connects], timeout=CLOSE_S)
    for task in left:
        task.cancel()
        _log.warning("connections.not_closed", reason=f"no answer within {CLOSE_S:g} s")
    for task in done:
        if fault := task.exception():
            _log.warning("connections.not_closed", reason=str(fault))
