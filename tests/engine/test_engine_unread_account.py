"""A start whose first reading of the account takes long: protection, requests and a kill do not wait for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.errors import Unavailable
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.journal import records
from tbot_core.model.types import Leg
from tbot_core.rehearsal.lifecycle import LifecycleBroker, SimulatedInstance, simulated_instance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from tbot_core.contracts import AccountSnapshot, BrokerCapabilities
    from tbot_core.model.types import Order
    from tbot_core.rehearsal.world import World


class Dead(Exception):
    """The process is no more."""


class Slow(LifecycleBroker):
    """A broker that keeps no brackets, and takes `hangs_s` seconds for a reading, which fails then."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._clock = world.clock
        self.hangs_s = 0.0
        self.fails = True

    @property
    def capabilities(self) -> BrokerCapabilities:
        """Those of a broker without brackets."""
        found: BrokerCapabilities = attrs.evolve(self._client.capabilities, brackets=False)
        return found

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """A reading."""
        if self.hangs_s:
            await self._clock.sleep(self.hangs_s)
            if self.fails:
                raise Unavailable("time-out")
        found: AccountSnapshot = await self._client.snapshot(since)
        return found


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[SimulatedInstance]:
    """A broker that is slow after the first life."""
    with simulated_instance(tmp_path) as made:
        made.broker = Slow(made.world)
        yield made


def slow(scene: SimulatedInstance) -> Slow:
    """Its broker."""
    assert isinstance(scene.broker, Slow)
    return scene.broker


async def dies(scene: SimulatedInstance, monkeypatch: pytest.MonkeyPatch, leg: Leg, *, sent: bool) -> None:
    """A life that ends right before the first order of that kind is marked as sent, or right after it was."""
    mark, submit = ExecutionEngine._mark, ExecutionEngine._submit

    def before(self: ExecutionEngine, orders: Sequence[Order]) -> list[Order]:
        if any(one.leg is leg for one in orders):
            raise Dead
        return mark(self, orders)

    async def behind(self: ExecutionEngine, order: Order) -> None:
        await submit(self, order)
        if order.leg is leg:
            raise Dead

    with monkeypatch.context() as patch:
        patch.setattr(ExecutionEngine, "_submit", behind) if sent else patch.setattr(ExecutionEngine, "_mark", before)
        with pytest.raises(Dead):
            await scene.life(once=False).run()


async def lives(scene: SimulatedInstance, seconds: float, verb: ControlVerb | None = None) -> None:
    """Another life, of which something is asked after a second."""
    clock = scene.world.clock
    life = asyncio.ensure_future(scene.life(once=False).run())
    await clock.sleep(1.0)
    if verb is not None:
        control.write_request(scene.folder, verb, actor="ann", now=clock.now())
    await clock.sleep(seconds - 1.0)
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)


@pytest.fixture
def restarted(scene: SimulatedInstance, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[[str], list[float]]]:
    """A life that dies at an order, and another beside a slow broker; returns when events of a kind came after it."""

    def go(
        leg: Leg, *, sent: bool, hangs_s: float, seconds: float = 20.0, verb: ControlVerb | None = None
    ) -> Callable[[str], list[float]]:
        begun: list[datetime] = []

        async def both() -> None:
            await dies(scene, monkeypatch, leg, sent=sent)
            slow(scene).hangs_s = hangs_s
            begun.append(scene.world.clock.now())
            await lives(scene, seconds, verb)

        scene.world.run(both)
        return lambda kind: [
            (one.applied - begun[0]).total_seconds() for one in scene.events(kind) if one.applied >= begun[0]
        ]

    return go


@pytest.mark.first(1)
@pytest.mark.parametrize("hangs_s", [0.01, 30.0, 3000.0])
def test_a_stop_that_never_left_is_placed_within_a_second_however_long_the_reading_takes(
    restarted: Callable[..., Callable[[str], list[float]]], hangs_s: float
) -> None:
    """A position is not left bare by a broker that is slow to list it."""
    after_s = restarted(Leg.STOP, sent=False, hangs_s=hangs_s)
    assert after_s(records.SENDING)[0] <= 1.0


@pytest.mark.first(1)
@pytest.mark.parametrize("verb", [ControlVerb.KILL, ControlVerb.STOP_KEEP])
@pytest.mark.parametrize("hangs_s", [30.0, 3000.0])
def test_entries_are_taken_back_for_a_kill_or_a_stop_however_long_the_reading_takes(
    restarted: Callable[..., Callable[[str], list[float]]], hangs_s: float, verb: ControlVerb
) -> None:
    """A known order is cancelled without waiting for a list of orders."""
    after_s = restarted(Leg.ENTRY, sent=True, hangs_s=hangs_s, verb=verb)
    assert after_s(records.CANCEL_REQUESTED)[0] <= 2.5


def test_a_slow_reading_by_itself_takes_no_entry_back(
    scene: SimulatedInstance, restarted: Callable[..., Callable[[str], list[float]]]
) -> None:
    """What may still be found as it should be goes on working."""
    slow(scene).fails = False
    after_s = restarted(Leg.ENTRY, sent=True, hangs_s=5.0, seconds=4.0)
    assert after_s(records.CANCEL_REQUESTED) == []
