"""What `tbot status` says of each cause that restricts trading: since when, what tbot does, and what to do."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from typing import TYPE_CHECKING

from tbot_core.contracts import BrokerEvent
from tbot_core.engine.control import ControlVerb
from tbot_core.journal import codec, records
from tbot_core.journal.events.orders import OrderIntended, OrderReported
from tbot_core.journal.events.risk import StateChanged
from tbot_core.journal.projections.book import SessionBook, fold_events
from tbot_core.journal.store import Event, JournalRecorder, NewEvent, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Leg, Order
from tbot_core.status.risk_state import not_ready_sentence, present_conditions
from tbot_core.testing.trades import fill, journal_event, order, session
from tbot_core.trading.risk.states import KINDS, StateCause

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.journal.codec import Payload


OPENED = {"date": "2026-01-05", "symbols": 1, "equity": "1000", "primary": "acme", "accounts": {"acme": "A1"}}
STOP = order(Leg.STOP, stop="9")
ENTRY = order(limit="10", protection=(STOP,))


def events(path: Path, *entries: tuple[str, Payload]) -> list[Event]:
    """Events of a journal, one a minute from the bell on."""
    clock = ManualClock(session().open)
    with closing(open_journal(path / "tbot.sqlite")) as journal:
        recorder = JournalRecorder(journal=journal, clock=clock)
        for kind, payload in entries:
            recorder.write(NewEvent(kind=kind, payload=payload, time=recorder.clock.now()))
            clock.advance_to(clock.now() + dt.timedelta(minutes=1))
        return list(journal.events())


def state(cause: StateCause, words: str = "", *, there: bool = True) -> tuple[str, Payload]:
    """A cause that was raised or cleared."""
    return records.STATE, codec.write(
        StateChanged(cause=cause, there=there, state=KINDS[cause].state.word, words=words)
    )


def held(*, cancelling: bool = False) -> SessionBook:
    """The book of a session that holds a position, whose stop rests; `cancelling`: its cancel was requested."""
    cid_by_kind = {"acknowledged": STOP, "fill": ENTRY}
    entries: list[tuple[str, str | None, Payload]] = [
        (records.RUN_STARTED, None, {"equity": "1000"}),
        (records.SESSION_OPENED, None, OPENED),
        *((records.INTENDED, one.client_order_id, codec.write(OrderIntended.of(one))) for one in (ENTRY, STOP)),
        *((records.SENDING, one.client_order_id, {}) for one in (ENTRY, STOP)),
        *((kind, of.client_order_id, reported(kind, of)) for kind, of in cid_by_kind.items()),
        *([(records.CANCEL_REQUESTED, STOP.client_order_id, {})] if cancelling else []),
    ]
    return fold_events(
        journal_event(number, kind, payload, session().open, cid) for number, (kind, cid, payload) in enumerate(entries)
    )


def reported(kind: str, of: Order) -> Payload:
    """A broker's event of an order."""
    one = fill(of, "10") if kind == "fill" else None
    return codec.write(
        OrderReported.of(BrokerEvent(kind=kind, event_id="1", client_order_id=of.client_order_id, fill=one))
    )


def request(verb: ControlVerb) -> tuple[str, Payload]:
    """A request that was recorded."""
    return records.REQUEST, {"verb": verb.value}


def test_a_condition_says_what_since_when_what_happens_and_what_to_do(tmp_path: Path) -> None:
    """The oldest comes first, with the account that it concerns, and the words of who reported it."""
    entries = events(
        tmp_path,
        state(StateCause.LOGIN, "GET /v2/account: 401 unauthorized."),
        state(StateCause.FEEDS_STALE, "no message for 10 s; 406 taken. Stop the other program."),
        state(StateCause.KILL_FILE),
    )
    login, feed, kill = present_conditions(entries, held(), "control", running=True)
    assert login.sentence == (
        "exit-only since 09:30:00 New York, the broker requires a new login (acme): GET /v2/account: 401 unauthorized."
        " Meanwhile no position is opened; stops stay at the broker, and exits are tried. tbot tries the key with each"
        " reading, so allow it again at the broker. A new key is stored by `tbot secrets edit broker`, and used from"
        " the next start on."
    )
    assert feed.sentence.startswith(
        "exit-only since 09:31:00 New York, every feed is stale: no message for 10 s; 406 taken. Stop the other"
    )
    assert kill.sentence == (
        "halted since 09:32:00 New York, the file control/kill exists."
        " Meanwhile only stops and cancels are sent. Next: `rm control/kill`."
    )
    assert login.document["remedy"] in login.sentence
    assert login.document["over"] is None


def test_a_condition_that_is_over_says_how_long_its_state_lasts(tmp_path: Path) -> None:
    """Until the account agreed for a minute, or for a quiet time; what was cleared by a request is gone at once."""
    entries = events(
        tmp_path,
        state(StateCause.UNKNOWN, "503"),
        state(StateCause.UNIVERSE_STALE, "3 of 3"),
        state(StateCause.STOP_FILE),
        state(StateCause.UNKNOWN, there=False),
        state(StateCause.UNIVERSE_STALE, there=False),
        state(StateCause.STOP_FILE, there=False),
    )
    account, universe = present_conditions(entries, held(), "control", running=True)
    assert account.sentence == (
        "exit-only since 09:30:00 New York, the account is unknown (acme): 503. Over since 09:33:00 New York; the"
        " state lasts until readings of the account have agreed for 60 s."
    )
    assert universe.sentence.endswith("the state lasts until 09:49:00 New York.")
    ended = "as its cause ended at 09:34:00 New York: over 20 % of the universe is stale"
    assert universe.document["lasting"] == f"defense until 09:49:00 New York, {ended}"
    assert universe.document["ends"] == "2026-01-05T14:49:00+00:00"
    assert (account.document["ends"], account.document["lasting"]) == (None, "")
    assert account.document["over"] == "2026-01-05T14:33:00+00:00"


def test_no_condition_promises_a_stop_whose_cancel_was_requested(tmp_path: Path) -> None:
    """Its position is UNPROTECTED from then on, as its own row says."""
    entries = events(tmp_path, state(StateCause.UNREACHABLE), request(ControlVerb.STOP_FLATTEN))
    (resting,) = present_conditions(entries, held(), "control", running=True)
    assert "stops stay at the broker, and exits are tried. tbot goes on trying. `tbot broker test`" in resting.sentence
    (cancelling,) = present_conditions(entries, held(cancelling=True), "control", running=True)
    assert "Meanwhile no position is opened; UNPROTECTED: AAA, and exits are tried." in cancelling.sentence


def test_a_kill_that_closes_says_that_exits_are_sent(tmp_path: Path) -> None:
    """Until another request keeps the positions."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    closing = (state(StateCause.KILL_COMMAND), request(ControlVerb.KILL_FLATTEN))
    (kill,) = present_conditions(events(tmp_path / "a", *closing), held(), "control", running=True)
    assert "Meanwhile only cancels and exits are sent. Next: `tbot kill --clear`." in kill.sentence
    kept = events(tmp_path / "b", *closing, request(ControlVerb.STOP_KEEP))
    assert (
        "Meanwhile only stops and cancels are sent." in present_conditions(kept, held(), "", running=True)[0].sentence
    )


def test_of_a_bot_that_has_ended_a_condition_says_what_the_next_start_does(tmp_path: Path) -> None:
    """Nothing is tried and nothing connects where no process runs; what a person can do stays."""
    entries = events(
        tmp_path, state(StateCause.UNREACHABLE), state(StateCause.FEEDS_STALE), state(StateCause.KILL_FILE)
    )
    account, feed, kill = (one.sentence for one in present_conditions(entries, held(), "control", running=False))
    assert account == (
        "exit-only since 09:30:00 New York, the broker does not respond (acme). The next start checks it again."
        " `tbot broker test` shows what the broker answers, its own page what is held there."
    )
    assert feed.endswith("every feed is stale. The next start checks it again.")
    assert kill.endswith("the file control/kill exists. It holds at the next start too. Next: `rm control/kill`.")


def test_a_session_that_is_not_ready_is_named_until_it_is(tmp_path: Path) -> None:
    """With the reasons of the latest report."""
    missing: tuple[str, Payload] = (records.NOT_READY, {"session": "2026-01-05", "reasons": ["no feed: 406."]})
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert not_ready_sentence([]) == ""
    assert not_ready_sentence(events(tmp_path / "a", missing)) == (
        "NOT READY for the session of 2026-01-05, at 09:30:00 New York: no feed: 406."
    )
    assert not_ready_sentence(events(tmp_path / "b", missing, (records.READY, {}))) == ""
