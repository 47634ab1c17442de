"""What a journal says beyond the end of a session: positions that are still held, and sessions without an end."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.cli.commands.status import figure_lines
from tbot_core.errors import JournalError
from tbot_core.journal import codec, records
from tbot_core.journal.codec import Payload, fill_facts
from tbot_core.journal.events.risk import PositionStuck
from tbot_core.journal.events.sessions import CarriedPosition
from tbot_core.journal.projection import JournalEvent, project
from tbot_core.journal.projections import carryover
from tbot_core.journal.projections.book import fold_events
from tbot_core.journal.projections.carryover import ExternalHoldings
from tbot_core.journal.store import Event, Journal, NewEvent, open_journal
from tbot_core.model.calendar import Session
from tbot_core.model.types import ATOMS_PER_DOLLAR, Instrument, InstrumentKind, Leg, Side, SignalId
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

Said = tuple[str, Payload]


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


def test_what_is_carried_in_place_of_the_signals_stock_keeps_its_instrument() -> None:
    """The STUCK event names it, and so do the position that is carried and the book of the next session."""
    put = Instrument(symbol="PUTAAA", kind=InstrumentKind.PUT, underlying="AAA", multiplier=100, leverage=Decimal(-4))
    position = attrs.evolve(POSITION, instrument=put)
    left = PositionStuck(
        signal=SIGNAL, side="long", words="", instrument=put, **fill_facts(carryover.carried_entry(position))
    )
    (carried,) = carryover.carried_positions(events(OPENED, (records.STUCK, codec.write(left)), CLOSED))
    assert (carried.instrument, carried.fill.symbol, carried.signal) == (put, "PUTAAA", SIGNAL)
    again = CarriedPosition(signal=SIGNAL, instrument=put, **fill_facts(carried.fill))
    opened = OPENED[1] | {"symbols": 1, "equity": "1000", "carried": [codec.write(again)]}
    book = fold_events(events((records.SESSION_OPENED, opened)))
    assert book.portfolio.in_symbol("PUTAAA")[0].instrument == put
    assert book.portfolio.cost_atoms == 14_000 * ATOMS_PER_DOLLAR


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
    signal = {"session": "2026-01-05", "strategy": "open", "minute": 3, "rule": "down"}
    decisions: list[Said] = [(records.DECISION, {"signal": {"symbol": symbol, **signal}}) for symbol in "BAB"]
    assert carryover.signalled_symbols(events(*decisions, (records.STATE, {}))) == ("A", "B")


NOON = dt.datetime(2026, 11, 24, 17, tzinfo=dt.UTC)

DAY_OPENED: tuple[str, dict[str, Any]] = (records.SESSION_OPENED, {})

DAY_CLOSED: tuple[str, dict[str, Any]] = (records.SESSION_CLOSED, {})


def held(symbol: str, shares: str, price: str | None = "12.5", **more: str) -> tuple[str, dict[str, Any]]:
    """So many shares were found."""
    return records.FOREIGN_HOLDING, {"symbol": symbol, "quantity": shares, "price": price, **more}


def holdings_after(*said: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What these events come to."""
    found = ExternalHoldings()
    for number, (kind, payload) in enumerate(said):
        found.apply(
            Event(seq=number, kind=kind, cid=None, source=None, payload=payload, received=NOON, applied=NOON, hash="")
        )
    return found.document()


def test_what_was_said_last_counts() -> None:
    """Each broker's by itself; what is gone is listed no more."""
    found = holdings_after(held("B", "3"), held("A", "-5"), held("A", "2", broker="beta"), held("B", "0"))
    assert [(one["symbol"], one["quantity"], one["broker"]) for one in found] == [("A", "-5", ""), ("A", "2", "beta")]


@pytest.mark.parametrize("figure", ["1E+999999", "NaN", "1E-999999", "0E+999999", "1E+12"])
def test_a_figure_that_none_can_hold_is_unknown(figure: str) -> None:
    """An older version booked it: what was known before stays until the account is read, and its price is unknown."""
    (found,) = holdings_after(held("A", "3"), held("A", figure))
    assert found["quantity"] == "3"
    (found,) = holdings_after(held("A", "3", figure))
    assert (found["quantity"], found["price"]) == ("3", None)


def test_a_figure_that_cannot_be_computed_with_names_its_event() -> None:
    """Such a journal starts nothing; the error says which event it is, and what to do."""

    class Multiplying:
        def apply(self, event: JournalEvent) -> None:
            """Square its quantity."""
            _ = Decimal(event.payload["quantity"]) ** 2

    payload = {"quantity": "1E+999999"}
    one = Event(seq=7, kind="fill", cid=None, source=None, payload=payload, received=NOON, applied=NOON, hash="")
    with pytest.raises(JournalError, match=r"event 7 \(fill\) has a figure that cannot be computed with: Overflow"):
        project([one], Multiplying())

    def failing() -> Iterator[Event]:
        for number in range(1):
            yield attrs.evolve(one, seq=1 // number)

    with pytest.raises(JournalError, match="The journal's event has a figure"):
        project(failing(), Multiplying())


def test_a_split_counts_for_others_too() -> None:
    """Of seven shares at 12.50 are fourteen at 6.25."""
    split = (records.CORPORATE_ACTION, {"symbol": "A", "before": 1, "after": 2})
    (found,) = holdings_after(
        held("A", "7"), split, (records.CORPORATE_ACTION, {"symbol": "B", "before": 1, "after": 2})
    )
    assert (found["quantity"], found["price"]) == ("14", "6.25")


def test_a_session_forgets_what_its_own_reading_did_not_find() -> None:
    """After the close it is still listed; the next session's account is read before its bell."""
    assert len(holdings_after(held("A", "7"), DAY_OPENED, DAY_CLOSED)) == 1
    assert [
        one["symbol"] for one in holdings_after(held("A", "7"), DAY_OPENED, DAY_CLOSED, held("B", "1"), DAY_OPENED)
    ] == ["B"]


@pytest.mark.parametrize(
    ("price", "broker", "line"),
    [
        ("12.5", "", "foreign     -5 A at 12.50, external"),
        (None, "beta", "foreign     -5 A counted in no limit, its price is unknown, external, at beta"),
    ],
)
def test_status_lists_it(price: str | None, broker: str, line: str) -> None:
    """With the price that it counts at."""
    one = {"symbol": "A", "quantity": "-5", "price": price, "broker": broker}
    shown: dict[str, Any] = {
        "foreign": [one],
        "candidates": {},
        "accounts": [],
        "marks_at": None,
        "restart": None,
        "hosts": [],
    }
    assert [*figure_lines(shown)] == [line]
