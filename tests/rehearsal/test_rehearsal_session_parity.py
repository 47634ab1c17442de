"""Which differences a session at a venue has from its replay, and which cause each of them has."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.journal import codec, records
from tbot_core.journal.events.accounts import Adjustment
from tbot_core.journal.events.orders import OrderIntended
from tbot_core.journal.store import NewEvent
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.types import ExitReason, Fill, Leg, Order, OrderType, Side, SignalId, Trade
from tbot_core.rehearsal.session_parity import Cause, Kind, SessionRecord, by_cause, differences

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY = dt.date(2018, 3, 20)
_FOUND = ExchangeCalendar().session(DAY)
assert _FOUND is not None
SESSION = _FOUND
NO_SPREAD, CENT = Decimal(0), Decimal("0.01")


@attrs.frozen(kw_only=True)
class Bought:
    """A signal of a strategy that was bought, stopped and became a trade."""

    symbol: str = "AAA"
    minute: int = 20
    reason: str = "ALLOWED"
    quantity: int = 10
    limit: str = "20.04"
    price: str = "20.01"
    stop: str = "19.80"
    exit_price: str = "19.80"

    @property
    def signal(self) -> SignalId:
        """The signal."""
        return SignalId(session=DAY, strategy="open", symbol=self.symbol, minute=self.minute, rule="up")

    def events(self) -> list[NewEvent]:
        """What the journal has of it."""
        payload = {
            "signal": attrs.asdict(self.signal) | {"session": self.signal.session.isoformat()},
            "side": "long",
            "reason": self.reason,
        }
        decision = payload | dict.fromkeys(("price", "stop", "target"))
        found = [self.event(records.DECISION, decision)]
        if self.reason != "ALLOWED":
            return found
        for leg, price in ((Leg.ENTRY, self.price), (Leg.STOP, self.exit_price)):
            order = self.order(leg)
            cid = order.client_order_id
            found.append(self.event(records.INTENDED, codec.write(OrderIntended.of(order)), cid))
            found.append(self.event("fill", codec.write(Adjustment.of(self.fill(order, price))), cid))
        return found

    def order(self, leg: Leg) -> Order:
        """The order of a leg."""
        entry = leg is Leg.ENTRY
        return Order(
            client_order_id=f"{self.symbol} {self.minute} {leg.value}",
            signal=self.signal,
            leg=leg,
            symbol=self.symbol,
            buy=entry,
            quantity=Decimal(self.quantity),
            type=OrderType.LIMIT if entry else OrderType.STOP,
            limit_price=Decimal(self.limit) if entry else None,
            stop_price=None if entry else Decimal(self.stop),
        )

    def fill(self, order: Order, price: str) -> Fill:
        """The fill of an order, in the minute after the signal."""
        return Fill(
            execution_id=order.client_order_id,
            client_order_id=order.client_order_id,
            symbol=self.symbol,
            buy=order.buy,
            quantity=order.quantity,
            price=Decimal(price),
            fees=Decimal(0),
            time=SESSION.moment(self.minute + 1),
        )

    def trade(self) -> Trade:
        """The trade."""
        entry, left = Decimal(self.price), Decimal(self.exit_price)
        return Trade(
            strategy="open",
            symbol=self.symbol,
            side=Side.LONG,
            quantity=Decimal(self.quantity),
            entry_time=SESSION.moment(self.minute + 1),
            entry_price=entry,
            exit_time=SESSION.moment(self.minute + 1),
            exit_price=left,
            fees=Decimal(1),
            pnl=(left - entry) * self.quantity - 1,
            exit_reason=ExitReason.STOP,
        )

    @staticmethod
    def event(kind: str, payload: dict[str, Any], cid: str | None = None) -> NewEvent:
        """An event of the journal."""
        return NewEvent(kind=kind, payload=payload, time=SESSION.open, cid=cid)


def record(*bought: Bought, more: Sequence[NewEvent] = ()) -> SessionRecord:
    """A session with these signals."""
    events: Any = [*(event for one in bought for event in one.events()), *more]
    return SessionRecord(events=events, trades=[one.trade() for one in bought if one.reason == "ALLOWED"])


def compared(live: SessionRecord, replay: SessionRecord, half_spread: Decimal = NO_SPREAD) -> list[tuple[Kind, Cause]]:
    """What differs, and why."""
    return [(one.place.kind, one.cause) for one in differences(live, replay, SESSION, half_spread)]


def test_equal_sessions_have_no_difference_whatever_their_fees_are() -> None:
    """Fees are those of the simulator; a venue books them on another day."""
    bought = Bought()
    free = SessionRecord(
        events=record(bought).events, trades=[attrs.evolve(bought.trade(), fees=Decimal(0), pnl=Decimal("-2.1"))]
    )
    assert compared(free, record(bought)) == []


def test_without_a_spread_no_difference_has_a_cause() -> None:
    """Another limit is a fault of one of the two, and is told with both values."""
    found = differences(record(Bought(limit="20.05")), record(Bought()), SESSION, NO_SPREAD)
    assert by_cause(found) == {Cause.NONE: 1}
    assert found[0].sentence == (
        "order [OPEN] AAA at minute 20 entry: limit 20.05, in the replay 20.04 (no cause is known)"
    )


def test_a_spread_moves_the_limit_and_what_follows_from_it() -> None:
    """The entry is priced at the far side; the fills and the trade of that signal follow."""
    live = record(Bought(limit="20.05", quantity=9))
    found = compared(live, record(Bought()), CENT)
    assert found[0] == (Kind.ORDER, Cause.SPREAD)
    assert {(kind, cause) for kind, cause in found[1:]} == {
        (Kind.ORDER, Cause.SIGNAL),
        (Kind.FILL, Cause.SIGNAL),
        (Kind.TRADE, Cause.SIGNAL),
    }


def test_a_spread_does_not_explain_another_decision_on_the_same_price() -> None:
    """A decision that differs in its side or its stop is not one of sizing."""
    other = record(Bought(reason="SYMBOL_HALTED"))
    assert compared(other, record(Bought()), CENT)[0] == (Kind.DECISION, Cause.NONE)
    small = record(Bought(reason="QUANTITY_TOO_SMALL"))
    assert compared(small, record(Bought()), CENT)[0] == (Kind.DECISION, Cause.SPREAD)
    assert compared(small, record(Bought()))[0] == (Kind.DECISION, Cause.NONE)


def test_a_limit_that_counts_holdings_follows_from_an_earlier_difference() -> None:
    """A later signal is denied by MAX_TRADES at the venue alone, where more was filled before; no earlier one is."""
    spread, denied = Bought(limit="20.05", quantity=9), Bought(symbol="BBB", minute=40, reason="MAX_TRADES")
    found = differences(record(spread, denied), record(Bought(), Bought(symbol="BBB", minute=40)), SESSION, CENT)
    [later] = [one for one in found if one.place.kind is Kind.DECISION]
    assert later.cause is Cause.HOLDINGS
    assert [one.cause for one in found if one.place.symbol == "BBB"][1:] == [Cause.SIGNAL] * 5
    early = attrs.evolve(denied, minute=10)
    found = differences(record(spread, early), record(Bought(), Bought(symbol="BBB", minute=10)), SESSION, CENT)
    assert found[0].cause is Cause.NONE


def test_a_row_that_one_side_lacks_is_told_with_its_values() -> None:
    """Where it is, and what it says."""
    found = differences(record(Bought()), record(), SESSION, NO_SPREAD)
    assert found[0].sentence == (
        "decision [OPEN] AAA at minute 20: only at the venue: side long, reason ALLOWED, price None, stop None, "
        "target None (no cause is known)"
    )
    [*_, trade] = differences(record(), record(Bought()), SESSION, NO_SPREAD)
    assert "only in the replay: side long, quantity 10, entry 20.01" in trade.sentence


@pytest.mark.parametrize("kind", ["rejected", "cancel_refused"])
def test_an_order_that_the_venue_refused_is_a_cause(kind: str) -> None:
    """A stop beyond the price is refused by a venue, and taken by the simulator."""
    live = Bought(exit_price="19.75")
    refused = Bought.event(kind, {}, live.order(Leg.STOP).client_order_id)
    found = compared(record(live, more=[refused]), record(Bought()))
    assert found[0] == (Kind.FILL, Cause.REFUSED)
    assert found[1:] == [(Kind.TRADE, Cause.SIGNAL)]
