"""A broker that does not know our key any more: exits only, one more login, and a person who is told."""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.contracts import BrokerCapabilities
from tbot_core.engine.session.broker_login import LoginMonitor, log_out
from tbot_core.errors import LoginNeeded, Unavailable
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.broker_port import BrokerPort
from tbot_core.execution.trading_state import TradingStateController
from tbot_core.journal import records
from tbot_core.journal.store import JournalRecorder, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Account, RiskState
from tbot_core.rehearsal.bot import BotProcess, PlannedCrash, bot_config
from tbot_core.rehearsal.world import World
from tbot_core.system import log
from tbot_core.testing.trades import session
from tbot_core.trading.risk.states import StateCause, TradingState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any


ACCOUNT = Account(account_id="A1", equity=Decimal(1), cash=Decimal(1))


class Leaving:
    """A broker whose log-out takes so long, or fails."""

    def __init__(self, seconds: float = 0.0, fault: Exception | None = None) -> None:
        self.seconds = seconds
        self.fault = fault
        self.closed = False

    async def close(self) -> None:
        """Log out."""
        await asyncio.sleep(self.seconds)
        if self.fault is not None:
            raise self.fault
        self.closed = True


def test_every_broker_is_logged_out_within_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    """A broker that hangs or fails is named in the log and keeps no other one open."""
    log.configure("info", "json", None)
    brokers = {"slow": Leaving(3600.0), "broken": Leaving(fault=Unavailable("reset.")), "sound": Leaving()}
    asyncio.run(log_out(brokers, 0.05))
    log.close()
    assert [name for name, one in brokers.items() if one.closed] == ["sound"]
    logged = capsys.readouterr().err
    assert "no answer within 0.05 s" in logged
    assert "reset." in logged
    assert logged.count("broker.not_closed") == 2


class Door:
    """A broker that refuses the key, or does not; it counts who knocks."""

    capabilities = BrokerCapabilities()

    def __init__(self) -> None:
        self.shut = False
        self.opens_to = True
        self.account_id = "A1"
        self.knocks = 0

    def __getattr__(self, name: str) -> Any:
        """Logging out and the like is not asked for."""
        raise AttributeError(name)

    async def connect(self) -> Account:
        """Log in."""
        self.knocks += 1
        if not self.opens_to:
            raise LoginNeeded("403 forbidden")
        return attrs.evolve(ACCOUNT, account_id=self.account_id)

    async def account(self) -> Account:
        """The money."""
        if self.shut:
            raise LoginNeeded("401 unauthorized")
        return ACCOUNT


@attrs.define(eq=False)
class Bench:
    """A login that is looked after."""

    door: Door
    paced: BrokerPort
    login: LoginMonitor
    conditions: TradingStateController

    def read(self) -> None:
        """Ask for the account, whatever comes of it."""

        async def ask() -> None:
            with suppress(LoginNeeded):
                await self.paced.account()

        asyncio.run(ask())

    def tend(self) -> None:
        """One round."""
        asyncio.run(self.login.retry())

    @property
    def needed(self) -> bool:
        """Whether the cause stands, or holds on."""
        return StateCause.LOGIN in self.conditions.causes


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A door that is open."""
    clock = ManualClock(session().open)
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        conditions = TradingStateController(JournalRecorder(journal=journal, clock=clock), _nobody, TradingState())
        door = Door()
        paced = BrokerPort(door).for_session(clock)
        venue = BrokerAccount(broker=paced, name="door", account_id="A1")
        yield Bench(door, paced, LoginMonitor(venue, conditions), conditions)


def _nobody(state: RiskState) -> None:
    assert state.word


def test_f13_one_more_login_is_tried_and_helps(bench: Bench) -> None:
    """The cause begins with the refusal, and holds on after it only as long as it takes to reconcile."""
    bench.door.shut = True
    bench.read()
    bench.login.update_cause()
    assert bench.needed
    bench.tend()
    assert bench.door.knocks == 1
    assert bench.paced.login_rejection == ""
    bench.conditions.on_reconciled(clean=True)
    assert bench.needed  # until a clean reconcile has held for its time


def test_f13_a_login_that_fails_is_not_tried_again(bench: Bench) -> None:
    """However long it lasts; a reading that is answered ends it, and the next refusal has a try of its own."""
    bench.door.shut, bench.door.opens_to = True, False
    for _ in range(5):
        bench.read()
        bench.tend()
    assert (bench.door.knocks, bench.needed) == (1, True)
    bench.door.shut = False
    bench.read()
    bench.tend()
    bench.door.shut = True
    bench.read()
    bench.tend()
    assert bench.door.knocks == 2


def test_another_account_is_no_login(bench: Bench) -> None:
    """Nothing is entered any more, whatever is answered: the orders would be somebody else's."""
    bench.door.shut, bench.door.account_id = True, "B2"
    bench.read()
    bench.tend()
    bench.door.shut = False
    bench.read()
    bench.tend()
    assert (bench.door.knocks, bench.needed) == (1, True)


@pytest.mark.slow
@pytest.mark.first(1)
@pytest.mark.parametrize("seed", [3, 5])
def test_f13_a_session_whose_key_is_refused_only_exits(tmp_path: Path, seed: int) -> None:
    """From the first refusal on no entry is sent, and each refusal is answered with one login at most."""
    world = World(seed, (), rates={"F13": 0.2}, live=False)
    life = BotProcess(world, world.names[:1], tmp_path, bot_config(world), PlannedCrash(10**9, after=False))
    world.run(life.live)
    life.close()
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        events = list(journal.events())
    begun = [one for one in events if one.kind == records.STATE and one.payload["cause"] == "LOGIN"]
    assert [one for one in begun if one.payload["there"]]
    entries, there, sent = set(), False, []
    for event in events:
        if event.kind == records.STATE and event.payload["cause"] == "LOGIN":
            there = event.payload["there"]
        elif event.kind == records.INTENDED and event.payload["leg"] == "entry":
            entries.add(event.cid)
        elif event.kind == records.SENDING and there and event.cid in entries:
            sent.append(event.cid)
    assert sent == []
    way = world.way(world.names[0])
    logins = [one for one in way.requests if one.kind == "connect"]
    assert len(logins) <= 1 + sum(one.payload["there"] for one in begun)
