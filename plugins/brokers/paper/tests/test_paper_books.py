"""The books of the paper broker in a file: each call is kept, and another process goes on from it."""

from __future__ import annotations

import asyncio
import datetime as dt
import sqlite3
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
from tbot_broker_paper import Config
from tbot_broker_paper.broker import PaperBroker

from tbot_core.errors import BrokerError
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.model.bars import MinuteSlice
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Leg, Order, OrderType, SignalId

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tbot_core.contracts import BrokerEvent

DAY = dt.date(2026, 3, 2)
NOON = dt.datetime(2026, 3, 2, 17, 0, tzinfo=dt.UTC)
PLAIN = Config(enable_slippage_model=False, paper_cash=Decimal("10000.00"))
CASH = Decimal(10_000)


def session(day: dt.date = DAY) -> Session:
    """The session of a day."""
    found = ExchangeCalendar().session(day)
    assert found is not None
    return found


def opened(path: Path, symbols: Sequence[str] = ("A",), *, minutes: int = 0, day: dt.date = DAY) -> PaperBroker:
    """A broker on the file, in the session of a day, that was shown so many minutes at 20 USD."""
    broker = PaperBroker(PLAIN, ManualClock(NOON))
    broker.keep_books(path, None)
    broker.open_session(session(day), tuple(symbols), CASH)
    for index in range(minutes):
        broker.observe(minute(index, *[20.0] * len(symbols)))
    return broker


def minute(index: int, *prices: float) -> MinuteSlice:
    """A minute in which each symbol traded at one price."""
    price = np.array(prices)
    fields = dict.fromkeys(("open", "high", "low", "close", "vwap"), price)
    return MinuteSlice(index=index, volume=np.full(len(prices), 1e6), **fields)


def order(cid: str, leg: Leg = Leg.ENTRY, *, stop: str | None = None, symbol: str = "A") -> Order:
    """An order for 100 shares: a market entry or exit, or a protective stop."""
    signal = SignalId(session=DAY, strategy="open", symbol=symbol, minute=0, rule="breakout")
    return Order(
        client_order_id=cid,
        signal=signal,
        leg=leg,
        buy=leg is Leg.ENTRY,
        quantity=Decimal(100),
        type=OrderType.MARKET if stop is None else OrderType.STOP,
        stop_price=None if stop is None else Decimal(stop),
    )


def submit(broker: PaperBroker, sent: Order) -> None:
    """Submit an order."""
    asyncio.run(broker.submit(sent, SendPermit(sent, never_refuse)))


def events(broker: PaperBroker) -> list[BrokerEvent]:
    """What the broker reports."""
    return list(asyncio.run(broker.poll()))


def close(broker: PaperBroker) -> None:
    """Close the broker."""
    asyncio.run(broker.close())


def bought(path: Path) -> PaperBroker:
    """A broker that holds 100 shares with a stop at 19 USD, after two minutes."""
    broker = opened(path, minutes=1)
    submit(broker, attrs.evolve(order("entry"), protection=(order("stop", Leg.STOP, stop="19.00"),)))
    broker.observe(minute(1, 20.0))
    return broker


def test_a_new_file_begins_with_the_given_cash_or_paper_cash(tmp_path: Path) -> None:
    """The journal's equity comes first; without a journal it is the setting."""
    for name, cash, equity in (("a", None, CASH), ("b", Decimal("123.45"), Decimal("123.45"))):
        broker = PaperBroker(PLAIN, ManualClock(NOON))
        broker.keep_books(tmp_path / name, cash)
        assert asyncio.run(broker.connect()).equity == equity
        close(broker)


def test_another_process_finds_account_orders_and_events_after_each_call(tmp_path: Path) -> None:
    """A position with its stop; every event of the session is reported again, and the account is the same."""
    path = tmp_path / "books"
    first = bought(path)
    reported, snapshot = events(first), asyncio.run(first.snapshot(NOON))
    again = PaperBroker(PLAIN, ManualClock(NOON))
    again.keep_books(path, Decimal(1))
    assert events(again) == reported
    assert asyncio.run(again.snapshot(NOON)) == snapshot
    assert [one.kind for one in reported] == ["acknowledged", "fill", "acknowledged"]
    close(first)
    close(again)


def test_a_session_goes_on_with_the_minutes_that_it_is_shown_again(tmp_path: Path) -> None:
    """A repeated minute fills nothing, a repeated order changes nothing, and the stop fills in a new minute."""
    path = tmp_path / "books"
    first = bought(path)
    known = len(events(first))
    close(first)
    again = opened(path, ("A", "B"))
    events(again)
    again.observe(minute(0, 10.0, 5.0))
    again.observe(minute(1, 10.0, 5.0))  # would trigger the stop
    submit(again, order("entry"))
    assert events(again) == []
    again.observe(minute(2, 18.0, 5.0))
    (fill,) = events(again)
    assert (fill.client_order_id, str(fill.fill and fill.fill.price)) == ("stop", "18.0000")
    assert fill.event_id == f"{DAY}-{known + 1}"
    close(again)


def test_a_moved_stop_and_a_cancel_are_kept(tmp_path: Path) -> None:
    """Each is one call and one transaction."""
    path = tmp_path / "books"
    first = bought(path)
    asyncio.run(first.replace("stop", order("stop", Leg.STOP, stop="19.50")))
    close(first)
    second = opened(path, minutes=2)
    second.observe(minute(2, 19.6))
    assert [one.kind for one in events(second)][-1] == "replaced"
    asyncio.run(second.cancel("stop"))
    close(second)
    third = opened(path, minutes=3)
    third.observe(minute(3, 10.0))
    assert [one.kind for one in events(third)][-1] == "cancelled"
    close(third)


def test_a_session_left_open_is_closed_at_the_last_price_that_was_seen(tmp_path: Path) -> None:
    """By the end of that session, or by the next one; a session that was closed stays closed."""
    path = tmp_path / "books"
    close(bought(path))
    late = PaperBroker(PLAIN, ManualClock(NOON))
    late.keep_books(path, None)
    late.close_session()
    late.close_session()
    last = [one for one in events(late) if one.fill is not None][-1]
    assert (last.client_order_id, last.words, asyncio.run(late.account()).equity) == (
        "stop",
        "NO_MARKET",
        Decimal("9999.94"),  # less the fee of the sale
    )
    close(late)
    close(bought(tmp_path / "other"))
    later = opened(tmp_path / "other", day=DAY + dt.timedelta(days=1))
    snapshot = asyncio.run(later.snapshot(NOON))
    assert (snapshot.holdings, snapshot.orders) == ((), ())
    assert snapshot.account.cash < CASH + 1
    close(later)


def test_what_one_call_could_not_write_is_written_by_the_next(tmp_path: Path) -> None:
    """A locked file makes the call fail, so the core looks the order up; nothing of it is lost."""
    path = tmp_path / "books"
    broker = opened(path, minutes=1)
    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    with pytest.raises(BrokerError, match=r"books of the paper broker, .*books, cannot be used: database is locked"):
        submit(broker, order("entry"))
    locker.execute("ROLLBACK")
    locker.close()
    broker.observe(minute(1, 20.0))
    close(broker)
    again = PaperBroker(PLAIN, ManualClock(NOON))
    again.keep_books(path, None)
    assert [one.kind for one in events(again)] == ["acknowledged", "fill"]
    assert [one.client_order_id for one in asyncio.run(again.snapshot(NOON)).orders] == ["entry"]
    close(again)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    """A database that is no book of this broker is named, and left as it is."""
    path = tmp_path / "other.sqlite"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(BrokerError, match=r"other\.sqlite holds no books of this paper broker"):
        PaperBroker(PLAIN, ManualClock(NOON)).keep_books(path, None)
