"""What was asked of one session and counts in the next, whoever ended the first one."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.engine import control
from tbot_core.engine.control import ControlRequest, ControlVerb
from tbot_core.engine.session.arming import LiveContext, armed_event
from tbot_core.engine.session.requests import RequestHandler
from tbot_core.errors import Unavailable
from tbot_core.execution.trading_state import TradingStateController, recall_states
from tbot_core.journal import codec, records
from tbot_core.journal.codec import fill_facts
from tbot_core.journal.events.sessions import CarriedPosition
from tbot_core.journal.projections.approvals import ArmingGrant, ArmingTerms
from tbot_core.journal.store import JournalRecorder, NewEvent
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Fill, SignalId
from tbot_core.rehearsal.lifecycle import SimulatedInstance, simulated_instance
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tbot_core.contracts import FeedSession, LiveSession
    from tbot_core.journal.codec import Payload
    from tbot_core.model.calendar import Session

TERMS = ArmingTerms(mode="live", account="a", settings="s", plugins="p")


@attrs.define(eq=False)
class Two:
    """The session of the day before, that of today, and seven shares that one before both could not close."""

    scene: SimulatedInstance

    @property
    def earlier(self) -> Session:
        """The session of the day before."""
        return self.scene.calendar.previous(self.scene.world.session.date)

    def begin(self) -> None:
        """The day before began, with shares from the session before it."""
        first, carried = self.scene.calendar.previous(self.earlier.date), self._carried
        stuck = carried | {"side": "long", "words": "it is halted", "attempts": {"exit": 2}}
        self._say(records.SESSION_OPENED, self._opened(first), first.open)
        self._say(records.STUCK, stuck, first.close)
        self._say(records.SESSION_CLOSED, self._closed(first), first.close)
        self._say(records.SESSION_OPENED, self._opened(self.earlier) | {"carried": [carried]}, self.earlier.open)
        self._books[self._symbol] = 7_000_000

    def ask(self, *steps: ControlVerb | str) -> None:
        """Something was asked of the day before, stopped by a signal, or carried out."""
        now = self.earlier.close - dt.timedelta(hours=1)
        recorder = JournalRecorder(journal=self.scene.journal, clock=ManualClock(now))
        conditions = TradingStateController(recorder, lambda _state: None, recall_states(()))
        requests = RequestHandler(recorder, conditions)
        for number, step in enumerate(steps):
            if isinstance(step, ControlVerb):
                requests.execute(ControlRequest(name=f"{number}.json", verb=step, actor="ann", made=now, arguments={}))
            elif step == "signal":
                conditions.raise_cause(StateCause.STOP_SIGNAL)
                requests.on_signal(flattens=False)
            else:
                requests.on_stop_done()

    def end(self) -> None:
        """The day before ended, and the shares were held still."""
        stuck = self._carried | {"side": "long", "words": "it is halted", "attempts": {"exit": 3}}
        self._say(records.STUCK, stuck, self.earlier.close)
        self._say(records.SESSION_CLOSED, self._closed(self.earlier), self.earlier.close)

    def drop(self, verb: ControlVerb, **arguments: str) -> None:
        """Somebody asks today."""
        now = self.scene.world.clock.now()
        control.write_request(self.scene.folder, verb, actor="ann", now=now, arguments=arguments)

    def exits(self) -> list[float]:
        """When exits were sent today, in seconds after the bell."""
        legs = {one.cid: one.payload["leg"] for one in self.scene.events(records.INTENDED)}
        sent = [one.applied for one in self.scene.events(records.SENDING) if legs[one.cid] == "exit"]
        return [(moment - self.scene.world.session.open).total_seconds() for moment in sent]

    @property
    def held(self) -> int:
        """The shares that are left, in millionths."""
        return self._books.get(self._symbol, 0)

    @property
    def _books(self) -> dict[str, int]:
        return self.scene.world.way(self.scene.world.names[0]).exchange.matching.books.units

    @property
    def _symbol(self) -> str:
        return self.scene.world.market.symbols[0]

    @property
    def _carried(self) -> Payload:
        first = self.scene.calendar.previous(self.earlier.date)
        price = Decimal(self.scene.world.market.paths[self._symbol].prices[0]) / 10_000
        signal = SignalId(session=first.date, strategy="open", symbol=self._symbol, minute=3, rule="up")
        fill = Fill(execution_id="carried", client_order_id="", symbol=self._symbol, buy=True, quantity=Decimal(7),
                    price=round(price, 4), fees=Decimal(0), time=first.open)  # fmt: skip
        return codec.write(CarriedPosition(signal=signal, **fill_facts(fill)))

    def _opened(self, session: Session) -> Payload:
        equity = self.scene.world.way(self.scene.world.names[0]).exchange.account().equity
        hours = {"open": session.open.isoformat(), "close": session.close.isoformat(), "minutes": session.minutes}
        return {"date": str(session.date), "symbols": 2, "equity": str(equity), "primary": "w", "account": "a"} | hours

    def _closed(self, session: Session) -> Payload:
        return {"date": str(session.date), "equity": "100000", "open": [self._symbol], "account": "a"}

    def _say(self, kind: str, payload: Payload, time: dt.datetime) -> None:
        self.scene.journal.append([NewEvent(kind=kind, payload=payload, time=time)])


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    """The bell of today rings a minute after the start."""
    with simulated_instance(tmp_path) as scene:
        yield Two(scene)


def _in_the_session(two: Two) -> None:
    two.ask(ControlVerb.KILL_FLATTEN)
    two.end()


def _in_a_session_that_nobody_ended(two: Two) -> None:
    two.ask(ControlVerb.KILL_FLATTEN)


def _before_a_late_end(two: Two) -> None:
    two.drop(ControlVerb.KILL_FLATTEN)


@pytest.mark.slow
@pytest.mark.parametrize("asked", [_in_the_session, _in_a_session_that_nobody_ended, _before_a_late_end])
def test_a_kill_that_closes_goes_on_closing_in_the_next_session(two: Two, asked: Callable[[Two], None]) -> None:
    """What it could not close in the day before is closed half a minute after the bell."""
    two.begin()
    asked(two)
    two.scene.world.run(two.scene.life().run)
    (after_the_bell,) = two.exits()
    assert after_the_bell == pytest.approx(30.0, abs=2.0)
    assert two.held == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "steps",
    [
        (ControlVerb.KILL_FLATTEN, ControlVerb.KILL_CLEAR),
        (ControlVerb.STOP_FLATTEN, "carried out"),
        (ControlVerb.STOP_FLATTEN, ControlVerb.STOP_CANCEL),
        (ControlVerb.STOP_KEEP, "carried out"),
        ("signal", "carried out"),
        (ControlVerb.STOP_KEEP, "signal", ControlVerb.KILL_FLATTEN, "carried out", ControlVerb.KILL_CLEAR),
    ],
)
def test_nothing_else_that_was_asked_of_a_session_comes_back_in_the_next(
    two: Two, steps: tuple[ControlVerb | str, ...]
) -> None:
    """What was taken back or carried out neither closes nor keeps nor stops."""
    two.begin()
    two.ask(*steps)
    two.end()
    life = two.scene.life()
    two.scene.world.run(life.run)
    assert life.session is not None
    requests = life.session.requests
    assert (life.session.run.flattening, requests.keeps_positions, requests.is_stopping) == (False, False, False)
    assert len(two.scene.events(records.SESSION_CLOSED)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("verb", [ControlVerb.ARM, ControlVerb.DISARM])
def test_arming_that_is_asked_for_before_a_late_end_counts_for_the_session_to_come(two: Two, verb: ControlVerb) -> None:
    """The session that is over leaves it to the next, which enters as it says; nothing is refused."""
    two.begin()
    scene = two.scene
    scene.arming = LiveContext(terms=TERMS, calendar=scene.calendar)
    day = scene.world.session.date
    if verb is ControlVerb.DISARM:
        armed = codec.write(armed_event(ArmingGrant(terms=TERMS, sessions=(two.earlier.date, day), actor="ann")))
        scene.journal.append([NewEvent(kind=records.ARMED, payload=armed, time=two.earlier.open)])
    two.drop(verb)
    scene.world.run(scene.life().run)
    assert scene.events(records.REQUEST_REFUSED) == []
    (asked,) = scene.events(records.REQUEST)
    assert asked.seq > scene.events(records.SESSION_CLOSED)[1].seq
    entered = [one for one in scene.events(records.INTENDED) if one.payload["leg"] == "entry"]
    assert bool(entered) is (verb is ControlVerb.ARM)


@pytest.mark.slow
@pytest.mark.parametrize("answers_s", [None, 20.0, 600.0], ids=["never", "before the bell", "in the session"])
@pytest.mark.parametrize(("hangs", "live"), [(True, False), (False, True)])
def test_what_is_stuck_is_closed_after_the_bell_whatever_the_feed_answers(
    two: Two, monkeypatch: pytest.MonkeyPatch, answers_s: float | None, *, hangs: bool, live: bool
) -> None:
    """The session begins without its feed, goes on with it once it answers, and is opened, screened and closed once."""
    two.begin()
    two.end()
    scene, bars = two.scene, SimulatedInstance.bars
    scene.live = live
    begun = scene.world.clock.monotonic()

    async def late(household: SimulatedInstance, session: Session) -> FeedSession | LiveSession:
        rest_s = math.inf if answers_s is None else begun + answers_s - scene.world.clock.monotonic()
        if rest_s > 0 and hangs:
            await scene.world.clock.sleep(min(rest_s, 86_400.0))
        elif rest_s > 0:
            raise Unavailable("no feed")
        return await bars(household, session)

    monkeypatch.setattr(SimulatedInstance, "bars", late)
    life = scene.life()
    scene.world.run(life.run)
    assert two.held == 0
    assert [moment // 60 for moment in two.exits()] == [0]
    today = str(scene.world.session.date)
    assert [one.payload["date"] for one in scene.events(records.SESSION_OPENED)].count(today) == 1
    (*_, closed) = scene.events(records.SESSION_CLOSED)
    assert (closed.payload["date"], closed.payload["open"]) == (today, [])
    screened = [one.payload["strategy"] for one in scene.events(records.SCREENED)]
    assert len(screened) == len(set(screened))
    assert bool(screened) is (answers_s is not None)
