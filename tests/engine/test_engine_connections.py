"""The end of a run closes the network connections of its plugins, whatever they do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.engine import bootstrap
from tbot_core.engine.bootstrap import assemble
from tbot_core.model.clock import SystemClock

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
    monkeypatch.setattr(bootstrap, "CLOSE_S", 0.01)
    create_demo_instance(tmp_path)
    assembly = assemble(tmp_path, "demo", SystemClock())
    assert asyncio.run(assembly.closing(done())) == "done"
    connections = [Connection("hangs"), Connection("gone"), Connection()]
    taken: list[Any] = assembly._connections
    taken[:] = connections
    assert asyncio.run(assembly.closing(done())) == "done"
    with pytest.raises(ValueError, match="bars"):
        asyncio.run(assembly.closing(failed()))
    assert [one.closed for one in connections] == [2, 2, 2]
    assert "connections.not_closed" in caplog.text


def test_a_plugin_that_is_built_is_closed(tmp_path: Path) -> None:
    """Its way to the network is known from then on."""
    create_demo_instance(tmp_path)
    assembly = assemble(tmp_path, "demo", SystemClock())
    before = len(assembly._connections)
    assembly.broker()
    assert len(assembly._connections) == before + 1
