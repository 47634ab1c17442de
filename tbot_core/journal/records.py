"""The kinds of events, and values read from payloads.

A payload holds facts only; derived state is a projection (`tbot_core.journal.projections.book`).
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.model.types import ExitReason, Fill, Instrument, InstrumentKind, Leg, Order, OrderType, SignalId, stock
from tbot_core.plugins import number_bounds

if TYPE_CHECKING:
    from collections.abc import Mapping


RUN_STARTED = "run_started"
RUN_FINISHED = "run_finished"
SESSION_OPENED = "session_opened"
SESSION_CLOSED = "session_closed"
SCREENED = "screened"
DECISION = "decision"
TOP_UP = "top_up"
INTENDED = "intended"
SENDING = "sending"
DROPPED = "dropped"
NO_ANSWER = "no_answer"
SENT_AGAIN = "sent_again"
REQUEST_FAILED = "silence"
ORDER_NOT_FOUND = "absent"
LOST = "lost"
STATE = "state"
FOREIGN_ORDER = "foreign_order"
FOREIGN_HOLDING = "foreign_holding"
ADJUSTMENT = "adjustment"
ACTIVITY = "activity"
STATEMENT = "statement"
REQUEST = "request"
REQUEST_REFUSED = "request_refused"
CANCEL_REQUESTED = "cancel_requested"
REPLACE_REQUESTED = "replace_requested"
RISK = "risk"
CASH_SHARE = "cash_share"
WINDOW_CLOSED = "window_closed"
STOPPED = "stopped"
READY = "ready"
NOT_READY = "not_ready"
CALENDAR = "calendar"
HOLIDAY = "holiday"
SETTINGS = "settings"
PLUGIN_FAILED = "plugin_failed"
GAP = "gap"
CONFIRMATION_ASKED = "confirmation_asked"
LIVE_TERMS = "live_terms"
ARMED = "armed"
ARMING_KEPT = "arming_kept"
DISARMED = "disarmed"
FEED_GAP = "feed_gap"
CIRCUIT = "circuit"
FAILOVER = "failover"
FAILOVER_CONFIRMED = "failover_confirmed"
RELEASED = "released"
LEASE = "lease"
DRILL = "drill"
FEED_FILLED = "feed_filled"
FEEDS_APART = "feeds_apart"
UNIVERSE = "universe"
STANDBY_ABSENT = "standby_absent"
HALT = "halt"
FROZEN = "frozen"
OTHER_TERMS = "taken_otherwise"
SETTLED = "settled"
EXECUTION_REUSED = "execution_reused"
CORPORATE_ACTION = "corporate_action"
INSTRUMENT = "instrument"
CLOSING_LATE = "closing_late"
STUCK = "stuck"
VIX = "vix"
DRIFT = "drift"
FACTS = "facts"
PROTECTION = "protection"
DISPUTED = "disputed"

CLOSED = "closed"
"""The `state` of the last protection event of a position."""


def signal_of(payload: Mapping[str, Any]) -> SignalId:
    """The identity of a signal in a payload."""
    return SignalId(
        session=date.fromisoformat(payload["session"]),
        strategy=payload["strategy"],
        symbol=payload["symbol"],
        minute=payload["minute"],
        rule=payload["rule"],
    )


def instrument_of(payload: Mapping[str, Any]) -> Instrument | None:
    """The instrument in a payload; None for the signal's own stock."""
    fields = payload.get("instrument")
    if fields is None:
        return None
    return Instrument(
        symbol=fields["symbol"],
        kind=InstrumentKind(fields["kind"]),
        underlying=fields["underlying"],
        multiplier=fields["multiplier"],
        leverage=Decimal(fields["leverage"]),
    )


def order_of(client_order_id: str, payload: Mapping[str, Any]) -> Order:
    """The order in the payload of an intent, without the protective orders."""
    signal = signal_of(payload["signal"])
    return Order(
        client_order_id=client_order_id,
        signal=signal,
        leg=Leg(payload["leg"]),
        instrument=instrument_of(payload) or stock(signal.symbol),
        buy=payload["buy"],
        quantity=Decimal(payload["quantity"]),
        type=OrderType(payload["type"]),
        limit_price=_decimal(payload["limit_price"]),
        stop_price=_decimal(payload["stop_price"]),
        reason=_reason(payload["reason"]),
        time_in_force=payload["time_in_force"],
        tag=payload["tag"],
    )


def brokers_of(opening: Mapping[str, Any]) -> tuple[str, ...]:
    """The brokers in a session's opening event, the primary first."""
    primary = opening.get("primary", "")
    return tuple(name for name in (primary, *sorted({*opening.get("accounts", ())} - {primary})) if name)


def accounts_of(opening: Mapping[str, Any]) -> dict[str, str]:
    """The account ids in a session's opening event, by broker name; the primary's name is ""."""
    primary = {"": opening["account"]} if "account" in opening else {}
    return primary | {name: one["account"] for name, one in opening.get("accounts", {}).items()}


def fill_of(client_order_id: str, payload: Mapping[str, Any]) -> Fill | None:
    """The fill in the payload of a broker's event; None for events without one."""
    if "execution_id" not in payload:
        return None
    return attrs.evolve(adjustment_of(payload), client_order_id=client_order_id)


def adjustment_of(payload: Mapping[str, Any]) -> Fill:
    """Read the fill of an adjustment; it belongs to no order of tbot."""
    return Fill(
        execution_id=payload["execution_id"],
        client_order_id="",
        symbol=payload["symbol"],
        buy=payload["buy"],
        quantity=Decimal(payload["quantity"]),
        price=Decimal(payload["price"]),
        fees=Decimal(payload["fees"]),
        time=datetime.fromisoformat(payload["time"]),
    )


def holding_of(payload: Mapping[str, Any]) -> tuple[Decimal, Decimal | None] | None:
    """Quantity and price of an external holding; None for figures that none can have, as an older version booked them.

    The next reading of the account says what is held.
    """
    quantity, price = Decimal(payload["quantity"]), _decimal(payload.get("price"))
    if not number_bounds.is_within(quantity, number_bounds.SIGNED_QUANTITY):
        return None
    return quantity, price if price is not None and number_bounds.is_within(price, number_bounds.SIGNED_PRICE) else None


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _reason(text: str | None) -> ExitReason | None:
    return None if text is None else ExitReason(text)
