"""The end of a run closes the network connections of its plugins, whatever they do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.engine.bootstrap import assemble
from tbot_core.model.clock import SystemClock
from tbot_core.plugins.network import connector

if TYPE_CHECKING:
    from pathlib import Path


class Connection:
    """Counts its closings; may fail, or never end."""

    def __init__(self, fault: str = "") -> None:
        self.closed = 0
        self._fault = fault

    async def close(self) -> None:
        """Close it."""
        self.closed += 1
        if self._fault == "hangs":
            await asyncio.Event().wait()
        if self._fault:
            raise OSError(self._fault)


async def done() -> str:
    """The work."""
    return "done"


async def failed() -> str:
    """Work that fails."""
    raise ValueError("bars")


def test_every_connection_is_closed_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when the work failed; one that fails or hangs keeps none of the others open."""
    monkeypatch.setattr(connector, "CLOSE_S", 0.01)
    create_demo_instance(tmp_path)
    assembly = assemble(tmp_path, "demo", SystemClock())
    assert asyncio.run(assembly.closing(done())) == "done"
    connections = [Connection("hangs"), Connection("gone"), Connection()]
    for number, one in enumerate(connections):
        assembly.connections.add(f"broker/{number}", given(one))
    assert asyncio.run(assembly.closing(done())) == "done"
    with pytest.raises(ValueError, match="bars"):
        asyncio.run(assembly.closing(failed()))
    assert [one.closed for one in connections] == [2, 2, 2]
    assert "no answer within 0.01 s" in caplog.text
    assert "gone" in caplog.text


def given(connection: Any) -> Any:
    """What a plugin was given to connect with."""
    return connection


def test_a_plugin_that_is_built_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its way to the network is known from then on, by its name."""
    create_demo_instance(tmp_path)
    assembly = assemble(tmp_path, "demo", SystemClock())
    added: list[str] = []
    monkeypatch.setattr(assembly.connections, "add", lambda plugin, _connect: added.append(plugin))
    assembly.broker()
    assert added == ["broker/paper"]


def test_a_disabled_plugin_is_closed_in_mid_run(tmp_path: Path) -> None:
    """At once and alone, while the run goes on; it is closed again at the end, since it may have connected anew."""
    create_demo_instance(tmp_path)
    assembly = assemble(tmp_path, "demo", SystemClock())
    mine, other = Connection(), Connection()
    assembly.connections.add("filter/mine", given(mine))
    assembly.connections.add("filter/other", given(other))

    async def run() -> list[int]:
        assembly.call_guard.on_plugin_off("filter/mine")
        await asyncio.sleep(0.0)
        await asyncio.sleep(0.0)
        return [mine.closed, other.closed]

    assert asyncio.run(assembly.closing(run())) == [1, 0]
    assert [mine.closed, other.closed] == [2, 1]


def test_the_end_waits_for_what_is_being_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replaced object is closed, and forgotten; one that hangs holds the end of the run for no longer than others."""
    monkeypatch.setattr(connector, "CLOSE_S", 0.01)
    connections, gone = connector.PluginConnections(), Connection("hangs")
    connections.add("strategy/close", given(gone))

    async def run() -> None:
        connections.remove("strategy/close", given(gone))
        connections.close_plugin("strategy/close")
        connections.close_plugin("strategy/unknown")
        await connections.close()

    asyncio.run(run())
    assert gone.closed == 1


def test_without_an_event_loop_nothing_is_open() -> None:
    """What is built and dropped before the run begins is forgotten."""
    connections, one = connector.PluginConnections(), Connection()
    connections.add("strategy/close", given(one))
    connections.remove("strategy/close", given(one))
    asyncio.run(connections.close())
    assert one.closed == 0


def test_filters_and_brokers_share_the_request_budgets(tmp_path: Path) -> None:
    """The filters are built first, and one vendor may serve both."""
    create_demo_instance(tmp_path)
    assembly = assemble(tmp_path, "demo", SystemClock())
    assert attrs.evolve(assembly, notes=("another",)).budgets is assembly.budgets
