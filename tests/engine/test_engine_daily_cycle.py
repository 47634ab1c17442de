"""The life of a run at a broker's own market: it waits, says whether it is ready, trades, and goes on."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.engine import control
from tbot_core.engine.run_setup import last_session_book
from tbot_core.journal import records
from tbot_core.journal.ledger import ledger_of
from tbot_core.journal.projections.book import fold_events
from tbot_core.journal.store import NewEvent
from tbot_core.model.clock import exchange_moment
from tbot_core.model.types import RiskState, atoms_of
from tbot_core.plugins.hung_plugins import HungCall, note_hung_call
from tbot_core.rehearsal.lifecycle import LifecycleBroker, SimulatedInstance, simulated_instance
from tbot_core.rehearsal.world import LEAD_S
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_core.engine.session.session import TradingSession


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[SimulatedInstance]:
    """The bell rings a minute after the start."""
    with simulated_instance(tmp_path) as made:
        yield made


def test_a_day_is_ready_before_its_bell_and_closed_at_its_end(scene: SimulatedInstance) -> None:
    """Ready is said once, before the session opens; with --once the session's end ends it."""
    life = scene.life()
    assert scene.world.run(life.run) is False
    (ready,) = scene.events(records.READY)
    (opened,) = scene.events(records.SESSION_OPENED)
    (closed,) = scene.events(records.SESSION_CLOSED)
    assert ready.seq < opened.seq < closed.seq
    assert ready.payload["session"] == scene.world.session.date.isoformat()
    assert scene.events(records.NOT_READY) == []


@pytest.mark.first(1)
@pytest.mark.parametrize(("tellers", "said"), [(None, {"vix"}), ((), {"vix_live"})])
def test_ready_says_which_vix_counts(scene: SimulatedInstance, tellers: tuple[()] | None, said: set[str]) -> None:
    """The close of the session before, or that it is read while the market moves; never the one for the other."""
    life = scene.life()
    life.config = attrs.evolve(life.config, vix=tellers)
    scene.world.run(life.run)
    (ready,) = scene.events(records.READY)
    assert {name for name in ready.payload if name.startswith("vix")} == said


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("equity", "account", "jumps"), [("100", "a", True), ("100", "paper", False), (None, "a", False)]
)
def test_an_opening_equity_that_nothing_explains_enters_nothing(
    scene: SimulatedInstance, equity: str | None, account: str, *, jumps: bool
) -> None:
    """Held against the last close of the same account, where no cash moved since; every entry is denied then."""
    last = equity or str(scene.world.way(scene.world.names[0]).exchange.account().equity)
    payload = {"date": "2026-01-02", "equity": last, "open": [], "account": account}
    scene.journal.append(
        [NewEvent(kind=records.SESSION_CLOSED, payload=payload, time=scene.world.start - dt.timedelta(3))]
    )
    scene.world.run(scene.life().run)
    told = [event.payload["value"] for event in scene.events(records.RISK) if event.payload["what"] == "equity jump"]
    assert len(told) == jumps
    reasons = {event.payload["reason"] for event in scene.events(records.DECISION)}
    assert reasons
    assert ("EQUITY_JUMP" in reasons, bool(scene.events(records.INTENDED))) == (jumps, not jumps)


def test_a_fill_that_nobody_accounts_for_leaves_exits_only_until_the_account_was_clean_for_a_minute(
    scene: SimulatedInstance,
) -> None:
    """The cause is withdrawn at once, and is over 60 s after it, since every reading agrees with the books."""
    scene.watch = lambda run, minute: (
        run.decision_engine.exposure.record_surplus("AAA", Decimal(5)) if minute == 3 else None
    )
    scene.world.run(scene.life().run)
    told = [event for event in scene.events(records.STATE) if event.payload["cause"] == "SURPLUS"]
    assert [(event.payload["there"], event.payload["words"]) for event in told] == [
        (True, "5 AAA beyond what is held"), (False, ""), (False, "over"),
    ]  # fmt: skip
    assert [event.payload["state"] for event in told[:2]] == ["exit-only", "exit-only"]
    assert 60 <= (told[2].applied - told[0].applied).total_seconds() < 100


def test_who_cannot_log_in_is_not_ready_and_tries_on(scene: SimulatedInstance) -> None:
    """It is said once in ten minutes why; the session begins as soon as the line is there."""
    scene.broker = LifecycleBroker(scene.world, deaf=4)
    assert scene.world.run(scene.life().run) is False
    (told,) = scene.events(records.NOT_READY)
    assert "the line is dead" in told.payload["reasons"][0]
    assert len(scene.events(records.READY)) == 1
    assert len(scene.events(records.SESSION_CLOSED)) == 1


def test_a_stop_before_the_bell_ends_the_wait(scene: SimulatedInstance) -> None:
    """Nothing is opened; the command's own request is taken back, so that the next start trades."""
    control.write_request(scene.folder, control.ControlVerb.STOP, actor="somebody", now=scene.world.clock.now())
    assert scene.world.run(scene.life().run) is True
    assert scene.events(records.SESSION_OPENED) == []
    assert scene.world.clock.now() < scene.world.session.open
    assert [event.payload["there"] for event in scene.events(records.STATE)][-1] is False


def test_a_stop_between_login_and_bell_does_not_wait_for_the_bell(scene: SimulatedInstance) -> None:
    """The session that was being prepared ends at once, since nothing is held."""
    world = scene.world
    world.loop.call_at(
        LEAD_S / 2,
        lambda: (
            control.write_request(scene.folder, control.ControlVerb.STOP, actor="somebody", now=world.clock.now())
            and None
        ),
    )
    assert world.run(scene.life().run) is True
    assert world.clock.now() < world.session.open + dt.timedelta(seconds=1)
    assert scene.events(records.SESSION_OPENED) == []


def test_a_kill_file_makes_a_day_not_ready(scene: SimulatedInstance) -> None:
    """The file is named as the reason, and nothing is entered."""
    control.prepare_folder(scene.folder)
    filesystem.write_atomic(scene.folder / control.KILL, b"")
    life = scene.life()
    assert scene.world.run(life.run) is False
    assert scene.events(records.READY) == []
    assert any("the file control/kill exists" in event.payload["reasons"] for event in scene.events(records.NOT_READY))
    assert life.session is not None
    assert life.session.trading_state.state is RiskState.HALTED
    assert scene.events(records.SENDING) == []


def test_the_shorter_calendar_wins(scene: SimulatedInstance) -> None:
    """A broker that closes the day keeps it from being traded, and that is written down; the next one is waited for."""
    world = scene.world
    scene.broker = LifecycleBroker(world, hours={world.session.date: None})
    life = scene.life()
    later = world.session.close + dt.timedelta(seconds=30)
    world.loop.call_at(
        LEAD_S + (later - world.session.open).total_seconds(),
        lambda: (
            control.write_request(scene.folder, control.ControlVerb.STOP, actor="somebody", now=world.clock.now())
            and None
        ),
    )
    assert world.run(life.run) is True
    (told,) = scene.events(records.CALENDAR)
    assert told.payload == {"date": world.session.date.isoformat(), "words": "closed"}
    assert scene.events(records.SESSION_OPENED) == []


def test_days_without_a_session_are_slept_through(scene: SimulatedInstance) -> None:
    """After the day's close the next session of the calendar is waited for until its pre-open, holidays left out."""
    world = scene.world
    world.run(scene.life().run)
    following = world.calendar.next(world.session.date)
    life = scene.life(once=False)
    assert life.next_session().date == following.date
    assert exchange_moment(following.date, dt.time(8)) > world.clock.now()


def test_a_restart_after_the_close_does_not_open_the_day_again(scene: SimulatedInstance) -> None:
    """What the journal says is closed stays closed, whatever the clock says."""
    world = scene.world
    world.run(scene.life().run)
    world.clock.jump(-3600.0)
    assert scene.life().next_session().date > world.session.date


def test_a_signal_stops_a_session_that_holds_nothing_before_its_bell(scene: SimulatedInstance) -> None:
    """SIGTERM is obeyed while the bell is waited for, and the next start knows nothing of it."""
    world, life = scene.world, scene.life()
    world.loop.call_at(LEAD_S / 2, life.config.signals.stop.set)
    assert world.run(life.run) is True
    assert scene.events(records.SESSION_OPENED) == []
    assert scene.life().next_session().date == world.session.date
    assert [event.payload["there"] for event in scene.events(records.STATE)][-1] is False


def test_a_kill_signal_between_sessions_is_a_cause(scene: SimulatedInstance) -> None:
    """It is written down while the pre-open is waited for, and the session that follows is halted by it."""
    world, life = scene.world, scene.life()
    life.config.signals.kill.set()
    assert world.run(life.run) is False
    assert next(iter(scene.events(records.STATE))).payload["cause"] == "KILL_SIGNAL"
    assert scene.events(records.SENDING) == []


def test_what_only_a_session_can_obey_waits_for_one(scene: SimulatedInstance) -> None:
    """An arming that is asked for while the pre-open is waited for stays in the folder until the session looks."""
    world = scene.world
    scene.broker = LifecycleBroker(world, hours={world.session.date: None})
    for verb in (control.ControlVerb.ARM, control.ControlVerb.DEFENSE_ON):
        control.write_request(scene.folder, verb, actor="somebody", now=world.clock.now())
    after_s = LEAD_S + (world.session.close - world.session.open).total_seconds() + 30.0
    world.loop.call_at(
        after_s,
        lambda: (
            control.write_request(scene.folder, control.ControlVerb.STOP, actor="me", now=world.clock.now()) and None
        ),
    )
    assert world.run(scene.life().run) is True
    assert [event.payload["verb"] for event in scene.events(records.REQUEST)] == ["defense-on", "stop"]
    assert [request.verb for request in control.read_folder(scene.folder).requests] == [control.ControlVerb.ARM]


def test_f88_a_handler_that_runs_out_of_memory_ends_the_life_and_the_next_one_goes_on(scene: SimulatedInstance) -> None:
    """F88: the error passes as it is, after it nothing is sent, and the next start takes the session to its end."""

    def fail(_run: TradingSession, minute: int) -> None:
        if minute == 15:
            raise MemoryError("no room")

    scene.watch = fail

    async def lives() -> None:
        with pytest.raises(MemoryError):
            await scene.life().run()
        sent = len(scene.events(records.SENDING))
        await scene.world.clock.sleep(5.0)
        assert len(scene.events(records.SENDING)) == sent
        scene.watch = lambda _run, _minute: None
        await scene.life().run()

    scene.world.run(lives)
    (closed,) = scene.events(records.SESSION_CLOSED)
    assert closed.payload["open"] == []
    assert scene.events(records.INTENDED)
    scene.journal.verify()


def pay(scene: SimulatedInstance, kind: str, dollars: int, hours: int) -> None:
    """Move the account's money without an order, so many hours before the start."""
    world = scene.world
    floor = world.way(world.names[0]).exchange.matching
    floor.write(kind, atoms=atoms_of(Decimal(dollars)))
    fact = floor.books.facts[-1]
    floor.books.facts[-1] = attrs.evolve(fact, at=fact.at - dt.timedelta(hours=hours))


def test_f45_what_was_paid_overnight_is_booked_and_explains_the_opening(scene: SimulatedInstance) -> None:
    """F45: a transfer and a fee of the night, and one before the books began: cash agrees to the cent, no jump."""
    world = scene.world
    before = world.way(world.names[0]).exchange.account()
    for kind, hours in ((records.STATEMENT, 90), (records.STATEMENT, 18), (records.SESSION_CLOSED, 18)):
        payload = {"date": "2026-01-02", "equity": str(before.equity), "cash": str(before.cash), "account": "a"}
        entry = NewEvent(kind=kind, payload=payload | {"open": []}, time=world.start - dt.timedelta(hours=hours))
        scene.journal.append([entry])
    pay(scene, "transfer", 40_000, hours=12)
    pay(scene, "fee", -3, hours=30)  # listed a day late
    world.run(scene.life().run)
    assert [event.payload["activity"] for event in scene.events(records.ACTIVITY)] == ["transfer", "fee"]
    found, account = ledger_of(scene.journal.events()), world.way(world.names[0]).exchange.account()
    assert found.cash == account.cash
    assert "adjustments" not in found.balances
    assert [event for event in scene.events(records.RISK) if event.payload["what"] == "equity jump"] == []
    assert scene.events(records.INTENDED)


@pytest.mark.slow
def test_f92_a_plugin_that_a_watchdog_noted_stays_off_after_every_restart(scene: SimulatedInstance) -> None:
    """F92: its failure is written down once, leaves exits only for a minute, and concerns no other session."""
    opened = scene.world.session.open
    stuck = HungCall(plugin="strategy/theirs", call="scan", turn=0, moment=opened, noticed=opened)

    def die(_run: TradingSession, minute: int) -> None:
        if minute in {4, 6}:
            raise MemoryError

    async def lives() -> None:
        for days in (0, -1):
            note_hung_call(
                scene.home, attrs.evolve(stuck, plugin=f"strategy/{days}", moment=opened + dt.timedelta(days=days))
            )
        for watch in (die, die, lambda _run, _minute: None):
            scene.watch = watch
            await asyncio.gather(scene.life().run(), return_exceptions=True)

    scene.world.run(lives)
    (failed,) = scene.events(records.PLUGIN_FAILED)
    assert (failed.payload["plugin"], failed.payload["off"]) == ("strategy/0", True)
    causes = [event.payload for event in scene.events(records.STATE) if event.payload["cause"] == "PLUGIN_LOST"]
    assert [(one["there"], one["words"]) for one in causes] == [(True, "strategy/0"), (False, ""), (False, "over")]
    assert len(scene.events(records.SESSION_CLOSED)) == 1


def test_before_a_session_only_what_counts_is_read_of_the_journal(scene: SimulatedInstance) -> None:
    """Of sessions that are over, what lasts; all else of a journal of years is left where it is."""
    session, day = scene.world.session, dt.timedelta(1)
    opened = {"date": str(session.date - day), "open": (session.open - day).isoformat(), "minutes": session.minutes,
              "close": (session.close - day).isoformat(), "symbols": 2, "equity": "100000"}  # fmt: skip
    closed = {"date": str(session.date - day), "equity": "100000", "open": [], "account": "paper"}
    denied = {"signal": {}, "reason": "MAX_TRADES"}
    asked = {"name": "stop-1", "verb": "stop", "actor": "ada"}
    said: list[tuple[str, dict[str, Any]]] = [
        (records.SESSION_OPENED, opened), (records.DECISION, denied), (records.REQUEST, asked),
        (records.SESSION_CLOSED, closed), (records.CALENDAR, {"date": str(session.date), "words": "closed"}),
    ]  # fmt: skip
    scene.journal.append([NewEvent(kind=kind, payload=payload, time=session.close - day) for kind, payload in said])
    before = scene.journal.head[0]
    scene.world.run(scene.life().run)
    told = [(event.seq, event.kind) for event in scene.past]
    kinds = [kind for seq, kind in told if seq <= before]
    assert kinds == [records.SESSION_OPENED, records.REQUEST, records.SESSION_CLOSED, records.CALENDAR]
    assert told == sorted(set(told))


def test_a_start_at_a_market_tells_of_the_last_session_alone(scene: SimulatedInstance) -> None:
    """Its equity and positions, and how many sessions there were, are those of the whole journal."""
    assert last_session_book(scene.journal).sessions == 0
    scene.world.run(scene.life().run)
    whole, found = fold_events(scene.journal.events()), last_session_book(scene.journal)
    assert found.sessions == whole.sessions == 1
    assert (found.equity, found.portfolio, found.session) == (whole.equity, whole.portfolio, whole.session)
