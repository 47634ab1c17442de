"""The closed trades of a journal: each once, with an id that stays, whatever a broker says later."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import attrs

from tbot_core.contracts import BrokerEvent, ClosedTrade
from tbot_core.extensions.journal_cursor import ClosedTrades
from tbot_core.journal import codec, records
from tbot_core.journal.events.orders import OrderIntended, OrderReported
from tbot_core.journal.projection import TypedEvent
from tbot_core.model.types import ExitReason, Leg
from tbot_core.testing.trades import fill, order

TIME = dt.datetime(2026, 1, 5, 15, 0, tzinfo=dt.UTC)
ENTRY = order(limit="10")
CLOSE = order(Leg.EXIT, reason=ExitReason.TIME)
SIGNAL = ENTRY.signal.text


@attrs.frozen(kw_only=True)
class Said(TypedEvent):
    """An event without a journal."""

    kind: str
    payload: dict[str, Any]
    cid: str | None = None
    applied: dt.datetime = TIME


def sent(of: Any) -> list[Said]:
    """An order that was sent."""
    cid = of.client_order_id
    return [
        Said(kind=records.INTENDED, cid=cid, payload=codec.write(OrderIntended.of(of))),
        Said(kind=records.SENDING, cid=cid, payload={}),
    ]


def reported(of: Any, kind: str, price: str, execution: str) -> Said:
    """A broker's word on it."""
    event = BrokerEvent(
        kind=kind, event_id="1", client_order_id=of.client_order_id, fill=fill(of, price, execution=execution)
    )
    return Said(kind=kind, cid=of.client_order_id, payload=codec.write(OrderReported.of(event)))


STARTED = Said(kind=records.RUN_STARTED, payload={"equity": "1000", "mode": "LIVE", "identity": "AB_US_X_01"})
OPENED = Said(
    kind=records.SESSION_OPENED,
    payload={"date": "2026-01-06", "symbols": 3, "equity": "1000", "account": "A1", "primary": "acme"},
)
TRADED = [*sent(ENTRY), reported(ENTRY, "fill", "10", "1"), *sent(CLOSE), reported(CLOSE, "fill", "11", "2")]


def changes(*events: Said) -> list[tuple[ClosedTrade, ...]]:
    """What each event changed, without those that changed nothing."""
    projection, found = ClosedTrades(), []
    for event in (STARTED, OPENED, *events):
        projection.apply(event)
        found.append(projection.changed)
    return [one for one in found if one]


def test_a_trade_is_there_when_it_is_closed() -> None:
    """With the session of its exit, mode and identity of the run, and the account of its broker."""
    ((found,),) = changes(*TRADED)
    assert (found.id, found.cancelled, found.trade.exit_price) == (SIGNAL, False, Decimal("11.0000"))
    assert (found.session, found.mode, found.identity) == (dt.date(2026, 1, 6), "live", "AB_US_X_01")
    assert (found.account, found.trade.broker) == ("A1", "acme")


def test_a_correction_is_the_same_trade_with_other_terms() -> None:
    """By its id; what is reported twice is no change."""
    first, second = changes(*TRADED, TRADED[-1], reported(CLOSE, "corrected", "12", "2"))
    assert (first[0].id, first[0].trade.exit_price) == (SIGNAL, Decimal("11.0000"))
    assert (second[0].id, second[0].trade.exit_price) == (SIGNAL, Decimal("12.0000"))


def test_a_trade_whose_exit_was_busted_is_cancelled() -> None:
    """With the terms that were known before, until it is closed again."""
    again = order(Leg.EXIT, reason=ExitReason.TIME, name="again")
    found = changes(*TRADED, reported(CLOSE, "busted", "11", "2"), *sent(again), reported(again, "fill", "13", "3"))
    assert [(one.id, one.cancelled, str(one.trade.exit_price)) for (one,) in found] == [
        (SIGNAL, False, "11.0000"),
        (SIGNAL, True, "11.0000"),
        (SIGNAL, False, "13.0000"),
    ]


def test_a_signal_that_is_closed_twice_has_two_trades() -> None:
    """The second one is numbered."""
    more, end = order(limit="10", name="more"), order(Leg.EXIT, reason=ExitReason.TIME, name="end")
    found = changes(
        *TRADED, *sent(more), reported(more, "fill", "10", "3"), *sent(end), reported(end, "fill", "12", "4")
    )
    assert [one.id for group in found for one in group] == [SIGNAL, f"{SIGNAL}/2"]


def test_the_next_session_begins_without_trades() -> None:
    """Nothing of the last one is reported again, or as cancelled."""
    closed = Said(kind=records.SESSION_CLOSED, payload={"equity": "1100"})
    assert len(changes(*TRADED, closed, STARTED, OPENED, *sent(ENTRY))) == 1
