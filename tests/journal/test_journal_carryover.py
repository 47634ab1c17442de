"""What a journal says beyond the end of a session: positions that are still held, and sessions without an end."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.journal import codec, records
from tbot_core.journal.codec import fill_facts
from tbot_core.journal.events.sessions import CarriedPosition
from tbot_core.journal.projections import carryover
from tbot_core.journal.store import Event, Journal, NewEvent, open_journal
from tbot_core.model.calendar import Session
from tbot_core.model.types import Leg, Side, SignalId
from tbot_core.trading.portfolio import Position

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BELL = dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC)
SESSION = Session(date=BELL.date(), open=BELL, close=BELL + dt.timedelta(hours=6))
SIGNAL = SignalId(session=BELL.date(), strategy="open", symbol="AAA", minute=3, rule="up")
POSITION = Position(signal=SIGNAL, side=Side.LONG, entry_time=BELL, units=7_000_000, mark=200_000)
OPENED = (
    records.SESSION_OPENED,
    {
        "date": str(SESSION.date),
        "open": SESSION.open.isoformat(),
        "close": SESSION.close.isoformat(),
        "primary": "paper",
        "account": "a",
        "accounts": {"beta": {"account": "b"}},
    },
)
CLOSED = (records.SESSION_CLOSED, {"account": "a"})
Said = tuple[str, records.Payload]


def stuck(broker: str = "", tries: int = 2) -> Said:
    """The position could not be closed at a broker, after so many exits."""
    whose = {"broker": broker} if broker else {}
    carried = codec.write(CarriedPosition(signal=SIGNAL, **fill_facts(carryover.carried_entry(POSITION))))
    return records.STUCK, carried | whose | {"attempts": {"exit": tries}}


def events(*said: Said) -> list[Event]:
    """Events in this order, a minute apart."""
    return [
        Event(seq=at, kind=kind, cid=None, source=None, payload=payload, received=time, applied=time, hash="")
        for at, (kind, payload) in enumerate(said, 1)
        for time in (BELL + dt.timedelta(minutes=at),)
    ]


def test_what_is_carried_is_an_entry_at_the_last_mark() -> None:
    """What it has gained before is booked already."""
    fill = carryover.carried_entry(POSITION)
    assert (fill.symbol, fill.buy, fill.quantity, fill.price) == ("AAA", True, Decimal(7), Decimal(20))


def test_what_the_last_session_could_not_close_is_carried() -> None:
    """With its broker, its account and the exits that were tried; what was named before the end counts once."""
    found = carryover.carried_positions(
        events(OPENED, stuck(tries=1), (records.RISK, {}), stuck(), stuck("beta"), CLOSED)
    )
    assert [(one.broker, one.account) for one in found] == [("paper", "a"), ("beta", "b")]
    assert found[0].attempts == {Leg.EXIT: 2}


def test_a_session_that_closed_everything_carries_nothing() -> None:
    """What the one before it could not close is gone."""
    assert carryover.carried_positions(events(OPENED, stuck(), CLOSED, OPENED, CLOSED)) == []


def test_what_a_person_says_is_gone_is_carried_no_more() -> None:
    """That of its account alone, and also where nothing is held there."""
    said: list[Said] = [OPENED, stuck(), stuck("beta"), CLOSED]
    found = carryover.carried_positions(
        events(*said, (records.RELEASED, {"account": "b"}), (records.RELEASED, {"account": "c"}))
    )
    assert [one.account for one in found] == ["a"]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A session that ended, and what was asked since."""
    said: tuple[Said, ...] = (
        OPENED,
        (records.RISK, {}),
        (records.DECISION, {}),
        CLOSED,
        (records.STATE, {}),
        (records.DECISION, {}),
    )
    with closing(open_journal(tmp_path / "run.sqlite")) as found:
        found.append([NewEvent(kind=kind, payload=payload, time=BELL) for kind, payload in said])
        yield found


def test_a_session_begins_with_what_lasts(journal: Journal) -> None:
    """All since the end of the last one counts, and of what was before only that which lasts; in order."""
    assert [one.seq for one in carryover.events_for_session(journal)] == [1, 2, 4, 5, 6]
    assert [one.seq for one in carryover.events_between_sessions(journal)] == [1, 4, 5]
    assert [one.seq for one in carryover.events_since_close([*journal.events()])] == [5, 6]


def test_a_first_session_begins_with_all_there_is(tmp_path: Path) -> None:
    """Nothing has ended before it."""
    with closing(open_journal(tmp_path / "run.sqlite")) as journal:
        journal.append(
            [NewEvent(kind=kind, payload=payload, time=BELL) for kind, payload in (OPENED, (records.DECISION, {}))]
        )
        assert carryover.events_for_session(journal) == [*journal.events()]
        assert carryover.events_since_close([*journal.events()]) == [*journal.events()]


@pytest.mark.parametrize(
    ("day", "hours", "ended", "under_way"), [(0, 1, True, True), (1, 1, False, True), (0, 7, False, False)]
)
def test_a_session_without_an_end_is_found(day: int, hours: int, *, ended: bool, under_way: bool) -> None:
    """One of another day, or one whose close has passed, has to be ended; the present one goes on."""
    now = BELL + dt.timedelta(hours=hours)
    present = attrs.evolve(SESSION, date=SESSION.date + dt.timedelta(days=day))
    (opened,) = events(OPENED)
    assert carryover.unfinished_session([opened], present, now) == (None if ended else opened)
    assert carryover.session_under_way([opened], now) == under_way
    assert carryover.session_hours(opened.payload) == SESSION


def test_where_nothing_was_opened_nothing_is_to_be_ended() -> None:
    """Also where something was asked between two sessions."""
    since = events((records.STATE, {}))
    assert carryover.unfinished_session(since, SESSION, BELL) is None
    assert not carryover.session_under_way(since, BELL)


def test_the_symbols_with_a_signal_are_listed_once() -> None:
    """In order of the alphabet, whatever became of the signals."""
    said: list[Said] = [(records.DECISION, {"signal": {"symbol": symbol}}) for symbol in ("B", "A", "B")]
    assert carryover.signalled_symbols(events(*said, (records.STATE, {}))) == ("A", "B")
