"""Room on the disk: exits only while there is too little, and room that is held back for the last words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.engine.disk_guard import DiskGuard, DiskReserve
from tbot_core.errors import AccessError
from tbot_core.execution.trading_state import TradingStateController
from tbot_core.journal.store import NO_ROOM_BYTES
from tbot_core.model.types import RiskState
from tbot_core.rehearsal.lifecycle import SimulatedInstance, simulated_instance
from tbot_core.trading.risk.states import StateCause, TradingState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 4096
PLENTY = 10 * NO_ROOM_BYTES


class Disk:
    """So many bytes are free, unless it cannot be asked."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.deaf = False

    def __call__(self) -> int:
        """How many bytes are free."""
        if self.deaf:
            raise AccessError("Cannot look at data: Input/output error.", "Check the disk.")
        return self.free


@pytest.fixture
def home(tmp_path: Path) -> Iterator[SimulatedInstance]:
    """An instance whose journal hears of its causes."""
    with simulated_instance(tmp_path) as made:
        yield made


def told(home: SimulatedInstance) -> list[tuple[bool, str]]:
    """Whether the disk was low, and the words, each time that changed."""
    return [(event.payload["there"], event.payload["words"]) for event in home.events("state")]


def conditions(home: SimulatedInstance) -> TradingStateController:
    """Causes that are written into that journal."""
    return TradingStateController(home.life()._recorder, lambda _state: None, TradingState())


def test_f77_a_disk_that_is_low_leaves_exits_only_until_it_is_not(home: SimulatedInstance, tmp_path: Path) -> None:
    """The cause comes with how much is free, goes when there is more, and the disk is asked once a second."""
    free, found = Disk(PLENTY), conditions(home)
    room = DiskGuard(free, DiskReserve(path=tmp_path / "ballast", size=SIZE))
    for now, bytes_free in ((0.0, PLENTY), (1.0, 30_000_000), (1.5, PLENTY), (2.0, PLENTY)):
        free.free = bytes_free
        room.update_causes(now, found)
    assert told(home) == [(True, "30 MB are free, 50 MB are needed"), (False, "")]
    assert found.causes == (StateCause.DISK_LOW,)  # until a clean reconcile
    assert found.state is RiskState.EXIT_ONLY


def test_f77_what_was_given_back_is_held_again_before_anything_is_entered(
    home: SimulatedInstance, tmp_path: Path
) -> None:
    """The journal found no room: exits only, whatever the disk says of itself, until the room is held once more."""
    ballast = DiskReserve(path=tmp_path / "ballast", size=SIZE)
    free, found = Disk(PLENTY), conditions(home)
    room = DiskGuard(free, ballast)
    room.update_causes(0.0, found)
    assert ballast.path.stat().st_size == SIZE
    assert room.release_ballast()
    assert not ballast.path.exists()
    assert not room.release_ballast()
    free.free = NO_ROOM_BYTES
    room.update_causes(0.5, found)
    room.update_causes(1.0, found)
    assert told(home) == [(True, "the disk had no space for the journal")]
    free.free = PLENTY
    room.update_causes(2.0, found)
    assert told(home)[1:] == [(False, "")]
    assert ballast.path.exists()


def test_a_disk_that_cannot_be_asked_is_low(home: SimulatedInstance, tmp_path: Path) -> None:
    """Who cannot see how much is free enters nothing."""
    free, found = Disk(PLENTY), conditions(home)
    free.deaf = True
    DiskGuard(free, DiskReserve(path=tmp_path / "ballast")).update_causes(0.0, found)
    assert told(home) == [(True, "Cannot look at data: Input/output error.")]


def test_a_disk_that_gives_no_ballast_is_traded_on_without(home: SimulatedInstance, tmp_path: Path) -> None:
    """What cannot be held or given back is said in the log; only a journal that found no room counts."""
    found = conditions(home)
    room = DiskGuard(Disk(PLENTY), DiskReserve(path=tmp_path / "no" / "ballast", size=SIZE))
    room.update_causes(0.0, found)
    assert found.causes == ()
    folder = tmp_path / "ballast"
    folder.mkdir()
    assert not DiskReserve(path=folder).fill()
    assert not DiskReserve(path=folder).drop()
    held = DiskReserve(path=tmp_path / "held", size=SIZE)
    assert held.fill()
    assert held.fill()  # as one that a run before has left


def test_nobody_looks_where_nothing_is_held(home: SimulatedInstance) -> None:
    """A simulation has no room of its own to lose; a journal that finds none there has nothing to be given."""
    found, room = conditions(home), DiskGuard()
    room.update_causes(0.0, found)
    assert (found.causes, room.release_ballast()) == ((), False)


def test_the_room_of_an_instance_is_that_on_its_disk(tmp_path: Path) -> None:
    """Its free bytes, and a ballast in its data."""
    room: Any = DiskGuard.of(tmp_path)
    assert room.free() > 0
    assert room.ballast.path == tmp_path / "ballast"
