"""The payload of each kind of event: written from values and read back into them.

Amounts are text. A payload holds facts only; derived state is a projection (`tbot_core.journal.projections.book`).
"""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.model.reasons import Reason
from tbot_core.model.types import ExitReason, Fill, Leg, Order, OrderType, SignalId
from tbot_core.plugins import number_bounds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from fractions import Fraction

    from tbot_core.contracts import AccountActivity, BrokerEvent, OrderStatusReport
    from tbot_core.model.types import Account, RiskState
    from tbot_core.trading.commands import Decision, ReplaceOrder
    from tbot_core.trading.risk.exposure import RiskChange
    from tbot_core.trading.risk.states import StateCause
    from tbot_core.trading.universe import Universe
    from tbot_core.trading.verdicts import CheckResult

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
SILENCE = "silence"
ABSENT = "absent"
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
TAKEN_OTHERWISE = "taken_otherwise"
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

Payload = dict[str, Any]


def signal_payload(signal: SignalId) -> Payload:
    """Write a signal's identity."""
    return {
        "session": signal.session.isoformat(),
        "strategy": signal.strategy,
        "symbol": signal.symbol,
        "minute": signal.minute,
        "rule": signal.rule,
    }


def signal_of(payload: Mapping[str, Any]) -> SignalId:
    """Read what `signal_payload` wrote."""
    return SignalId(
        session=date.fromisoformat(payload["session"]),
        strategy=payload["strategy"],
        symbol=payload["symbol"],
        minute=payload["minute"],
        rule=payload["rule"],
    )


def order_payload(order: Order) -> Payload:
    """Write an order; its protective orders have intents of their own and are referenced by id."""
    return {
        "signal": signal_payload(order.signal),
        "leg": order.leg.value,
        "buy": order.buy,
        "quantity": str(order.quantity),
        "type": order.type.value,
        "limit_price": _optional(order.limit_price),
        "stop_price": _optional(order.stop_price),
        "time_in_force": order.time_in_force,
        "protection": [one.client_order_id for one in order.protection],
        "reason": _optional(order.reason),
        "tag": order.tag,
    }


def order_of(client_order_id: str, payload: Mapping[str, Any]) -> Order:
    """Read what `order_payload` wrote, without the protective orders."""
    signal = signal_of(payload["signal"])
    return Order(
        client_order_id=client_order_id,
        signal=signal,
        leg=Leg(payload["leg"]),
        symbol=signal.symbol,
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


def replace_payload(request: ReplaceOrder) -> Payload:
    """A stop's new level, and the exit reason of its fill once the broker has moved it."""
    return {"stop_price": str(request.stop_price), "reason": request.reason.value}


def broker_payload(event: BrokerEvent) -> Payload:
    """A broker's event about an order."""
    words: Payload = {"words": event.words}
    if event.meaning is not None:
        words["meaning"] = event.meaning.value
    return words if event.fill is None else words | fill_payload(event.fill)


def fill_payload(fill: Fill) -> Payload:
    """Write a fill."""
    return {
        "execution_id": fill.execution_id,
        "symbol": fill.symbol,
        "buy": fill.buy,
        "quantity": str(fill.quantity),
        "price": str(fill.price),
        "fees": str(fill.fees),
        "time": fill.time.isoformat(),
    }


def split_payload(activity: AccountActivity, ratio: Fraction) -> Payload:
    """A split reported by the broker: `before` shares became `after` shares."""
    report = {"activity_id": activity.activity_id, "words": activity.words}
    return report | {"symbol": activity.symbol, "before": ratio.denominator, "after": ratio.numerator}


def carried_payload(signal: SignalId, fill: Fill) -> Payload:
    """A position carried over from the previous session, as if it had been bought at its last mark."""
    return {"signal": signal_payload(signal)} | fill_payload(fill)


def fill_of(client_order_id: str, payload: Mapping[str, Any]) -> Fill | None:
    """Read the fill that `broker_payload` wrote; None for events without one."""
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


def report_payload(report: OrderStatusReport) -> Payload:
    """An order at the broker that is not tbot's."""
    return {
        "client_order_id": report.client_order_id,
        "broker_order_id": report.broker_order_id,
        "symbol": report.symbol,
        "buy": report.buy,
        "quantity": str(report.quantity),
        "filled": str(report.filled),
        "paid": str(_paid(report)),
        "said": report.kind,
    }


def otherwise_payload(report: OrderStatusReport, order: Order) -> Payload:
    """Terms of an order at the broker that differ from what was ordered."""
    return {
        "leg": order.leg.value,
        "symbol": report.symbol,
        "buy": report.buy,
        "quantity": str(report.quantity),
        "ordered": {"symbol": order.symbol, "buy": order.buy, "quantity": str(order.quantity)},
    }


def foreign_payload(symbol: str, quantity: Decimal, price: Decimal | None) -> Payload:
    """An external holding, and the price at which it counts toward exposure (None: it does not count yet)."""
    return {"symbol": symbol, "quantity": str(quantity), "price": _optional(price)}


def holding_of(payload: Mapping[str, Any]) -> tuple[Decimal, Decimal | None] | None:
    """Quantity and price of an external holding; None for figures that none can have, as an older version booked them.

    The next reading of the account says what is held.
    """
    quantity, price = Decimal(payload["quantity"]), _decimal(payload.get("price"))
    if not number_bounds.is_within(quantity, number_bounds.SIGNED_QUANTITY):
        return None
    return quantity, price if price is not None and number_bounds.is_within(price, number_bounds.SIGNED_PRICE) else None


def disputed_payload(symbol: str, ours: Decimal | None = None, theirs: Decimal | None = None) -> Payload:
    """That readings contradict the books in a symbol, or, without quantities, that they no longer do."""
    return {"symbol": symbol, "there": ours is not None, "ours": _optional(ours), "theirs": _optional(theirs)}


def activity_payload(activity: AccountActivity) -> Payload:
    """A movement of money or shares without an order."""
    return {
        "activity": activity.kind,
        "activity_id": activity.activity_id,
        "symbol": activity.symbol,
        "quantity": str(activity.quantity),
        "cash": str(activity.cash),
        "time": activity.time.isoformat(),
        "words": activity.words,
    }


def statement_payload(account: Account, ours: Decimal | None) -> Payload:
    """The cash that a broker reports, and the ledger's figure; None when this report opens the ledger."""
    return {"cash": str(account.cash), "ours": _optional(ours), "currency": account.currency}


def settled_payload(account_id: str, session: date, settled: Decimal) -> Payload:
    """The cash of an account known to be settled when a session began."""
    return {"account": account_id, "session": session.isoformat(), "settled": str(settled)}


def state_payload(cause: StateCause, state: RiskState, *, there: bool, words: str) -> Payload:
    """A cause that was set or cleared, and the resulting risk state."""
    return {"cause": cause.name, "there": there, "state": state.word, "words": words}


def decision_payload(decision: Decision) -> Payload:
    """The outcome of a signal: allowed or denied, and the values that were compared."""
    proposal = decision.proposal
    confirmed = {} if proposal.confirmed_minute is None else {"confirmed": proposal.confirmed_minute}
    return confirmed | {
        "signal": signal_payload(proposal.signal),
        "side": proposal.side.word,
        "price": _number(proposal.price),
        "strength": _number(proposal.strength),
        "stop": _number(proposal.stop),
        "target": _number(proposal.target),
        "exits": attrs.asdict(proposal.exits),
        **({} if proposal.reference is None else {"reference": proposal.reference}),
        **({} if proposal.quote is None else {"quote": attrs.asdict(proposal.quote)}),
        "reason": decision.reason.name,
        "value": None if decision.value is None else str(decision.value),
        "limit": None if decision.limit is None else str(decision.limit),
        "words": decision.detail,
        "findings": [finding_payload(finding) for finding in proposal.findings],
        **({} if decision.sizing is None else {"sizing": _as_texts(attrs.asdict(decision.sizing, recurse=False))}),
        **(
            {"limits": [_as_texts(attrs.asdict(one, recurse=False)) for one in decision.limits]}
            if decision.limits
            else {}
        ),
    }


def _as_texts(figures: Mapping[str, Any]) -> Payload:
    # Exact amounts as text; a reason or an order's type by its name.
    return {name: _as_text(value) for name, value in figures.items()}


def _as_text(value: object) -> str | None:
    match value:
        case None:
            return None
        case Reason():
            return value.name
        case OrderType():
            return value.value
        case Decimal():
            return f"{value:f}"
        case _:
            return str(value)


def finding_payload(finding: CheckResult) -> Payload:
    """One comparison of a filter; with its name and words where the reason leaves the explanation to it."""
    return {
        "check": finding.check,
        "value": _number(finding.value),
        "low": _number(finding.low),
        "high": _number(finding.high),
        "reason": finding.reason.name,
        **({"plugin": finding.plugin, "words": finding.words} if finding.plugin else {}),
    }


def risk_payload(change: RiskChange) -> Payload:
    """A change of the risk state, or a latch."""
    return {"what": change.what, "cause": change.cause, "value": str(change.value), "limit": str(change.limit)}


def window_payload(
    strategy: str, counts: Mapping[str, int], near: Sequence[Mapping[str, Any]], bad_prints: Sequence[str] = ()
) -> Payload:
    """The end of a window: counts of candidates and triggers, near misses (closest first), missing first bars."""
    return {"strategy": strategy, **counts, "near_misses": list(near), "bad_prints": list(bad_prints)}


def universe_payload(universe: Universe) -> Payload:
    """A universe that was cut: how many symbols remain, by which limit, and which are not subscribed.

    `denied`, if any: those that a filter denies before the bell, by reason.
    """
    kept, denied = len(universe.symbols), {reason: list(found) for reason, found in universe.denied.items()}
    cut = {"kept": kept, "limit": universe.limit, "by": universe.limited_by, "cut": list(universe.cut)}
    return cut | ({"denied": denied} if denied else {})


def _paid(report: OrderStatusReport) -> Decimal:
    # What an order's executions added to cash: itemised fills, and the broker's average price for the rest.
    sign = -1 if report.buy else 1
    paid = sum((sign * fill.quantity * fill.price - fill.fees for fill in report.fills), Decimal(0))
    unnamed = report.filled - sum((fill.quantity for fill in report.fills), Decimal(0))
    return paid + sign * unnamed * (report.average_price or Decimal(0))


def _optional(value: Decimal | ExitReason | None) -> str | None:
    return None if value is None else str(value)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _reason(text: str | None) -> ExitReason | None:
    return None if text is None else ExitReason(text)


def _number(value: float | None) -> float | None:
    # A measured value for JSON, which has no NaN: unknown is null.
    return None if value is None or not math.isfinite(value) else value
