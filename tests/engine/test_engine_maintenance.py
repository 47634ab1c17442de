"""Maintenance that a broker has announced: nothing is entered there, and its silence sends no alert."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.alerts.rules import AlertRules, RoutineEvents
from tbot_core.contracts import BrokerCapabilities, MaintenanceWindow, Urgency
from tbot_core.engine.live.broker_supervisor import MAINTENANCE_POLL_S, MaintenanceMonitor
from tbot_core.errors import Unavailable
from tbot_core.execution.broker_port import BrokerPort
from tbot_core.execution.trading_state import TradingStateController
from tbot_core.journal import records
from tbot_core.journal.store import Event, JournalRecorder, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import RiskState
from tbot_core.rehearsal.bot import BotProcess, PlannedCrash, bot_config
from tbot_core.rehearsal.world import World
from tbot_core.testing.trades import session
from tbot_core.trading.risk.states import StateCause, TradingState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


OPEN = session().open
HALF_HOUR = MaintenanceWindow(
    begins=OPEN + dt.timedelta(minutes=30), ends=OPEN + dt.timedelta(minutes=60), words="an upgrade"
)


class Announcer:
    """A broker that announces; None is an answer that failed."""

    def __init__(self) -> None:
        self.found: Sequence[MaintenanceWindow] | None = [HALF_HOUR]
        self.asked = 0
        self.capabilities = BrokerCapabilities(maintenance=True)

    async def maintenance(self) -> Sequence[MaintenanceWindow]:
        """What is announced."""
        self.asked += 1
        if self.found is None:
            raise Unavailable("no way")
        return self.found


class Bench:
    """Somebody who watches what one broker announces."""

    def __init__(self, recorder: JournalRecorder, clock: ManualClock) -> None:
        self.clock = clock
        self.broker = Announcer()
        broker: Any = self.broker
        self.conditions = TradingStateController(recorder, lambda _state: None, TradingState())
        self.maintained = MaintenanceMonitor(broker, self.conditions, clock)

    def at(self, minutes: float) -> tuple[StateCause, ...]:
        """So many minutes after the bell a round is made; the causes then."""
        due = OPEN + dt.timedelta(minutes=minutes) - self.clock.now()
        asyncio.run(self.clock.sleep(due.total_seconds()))
        self.maintained.update_cause()
        asyncio.run(self.maintained.poll())
        return self.conditions.causes


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench at the bell."""
    clock = ManualClock(OPEN)
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        yield Bench(JournalRecorder(journal=journal, clock=clock), clock)


def test_f63_announced_maintenance_is_exits_only_from_two_minutes_before(bench: Bench) -> None:
    """To its end, and then until the account was clean for its time; it is not asked about while it lasts."""
    assert bench.at(1) == ()
    assert bench.broker.asked == 1
    assert bench.at(27.9) == ()
    assert bench.at(28) == (StateCause.MAINTENANCE,)
    asked = bench.broker.asked
    assert bench.conditions.state is RiskState.EXIT_ONLY
    assert bench.at(59.9) == (StateCause.MAINTENANCE,)
    assert bench.broker.asked == asked
    bench.at(60)
    assert bench.maintained.current is None
    assert bench.conditions.state is RiskState.EXIT_ONLY  # until a clean reconcile


def test_f63_what_is_announced_is_asked_every_ten_minutes(bench: Bench) -> None:
    """What was heard last counts while an answer fails, and what is called off is over."""
    bench.at(0)
    bench.at(MAINTENANCE_POLL_S / 60 - 0.1)
    assert bench.broker.asked == 1
    bench.broker.found = None
    bench.at(MAINTENANCE_POLL_S / 60)
    assert bench.broker.asked == 2
    assert bench.at(28) == (StateCause.MAINTENANCE,)
    other, nobody = Announcer(), object()
    other.found = []
    broker: Any
    for broker in (other, nobody):
        found = MaintenanceMonitor(broker, bench.conditions, bench.clock)
        asyncio.run(found.poll())
        assert found.current is None


def test_f63_the_question_passes_the_limits() -> None:
    """A broker that declares no announcements is not asked for them."""
    announcer = Announcer()
    broker = BrokerPort(announcer).for_session(ManualClock(OPEN))
    assert asyncio.run(broker.maintenance()) == [HALF_HOUR]
    announcer.capabilities = BrokerCapabilities()
    with pytest.raises(Unavailable, match="does not offer maintenance"):
        asyncio.run(broker.maintenance())


def lived(home: Path, seed: int, *, announced: bool) -> tuple[World, list[Event]]:
    """A world whose one venue is under maintenance for a while, and what its bot's journal says."""
    world = World(seed, ("F63",), rates={"F63": 0.3}, live=False, venues=1)
    world.announces = announced
    folder = home / f"{seed} {announced}"
    folder.mkdir()
    life = BotProcess(world, world.names, folder, bot_config(world), PlannedCrash(10**9, after=False))
    world.run(life.live)
    life.close()
    with closing(open_journal(folder / "tbot.sqlite")) as journal:
        return world, list(journal.events())


def pages(events: Sequence[Event]) -> set[str]:
    """The critical incidents of which anybody would have been told."""
    watch, found = AlertRules(RoutineEvents()), set()
    for event in events:
        watch.apply(event)
        standing = watch.open_incidents(event.applied).values()
        found |= {one.key for one in standing if one.urgency is Urgency.CRITICAL and one.key.startswith("state ")}
    return found


@pytest.mark.slow
@pytest.mark.first(0)  # its causes are tested above, one by one
def test_f63_nothing_is_entered_and_nobody_is_woken_while_it_lasts(tmp_path: Path) -> None:
    """The silence that was announced is one routine message; the same silence unannounced wakes somebody."""
    silent = {"state UNREACHABLE", "state UNKNOWN"}
    woken = struck = 0
    for seed in (1, 2, 3, 4):
        world, events = lived(tmp_path, seed, announced=True)
        struck += world.faults.injected.get("F63", 0)
        there = False
        entries = {event.cid for event in events if event.kind == records.INTENDED and event.payload["leg"] == "entry"}
        for event in events:
            if event.kind == records.STATE and event.payload["cause"] == "MAINTENANCE":
                there = event.payload["there"]
            assert not (there and event.kind == records.SENDING and event.cid in entries)
        assert not pages(events) & {"state MAINTENANCE", *silent}
        woken += bool(pages(lived(tmp_path, seed, announced=False)[1]) & silent)
    assert struck
    assert woken
