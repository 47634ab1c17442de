"""An event is one sentence or line."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import attrs
import pytest

from tbot_core.journal import codec, records
from tbot_core.journal.events.orders import ConfirmationAsked
from tbot_core.journal.events.sessions import Ready
from tbot_core.journal.projections.event_text import PlannedStops, asked_text, entry_text, exit_text, ready_remarks
from tbot_core.journal.store import NewEvent
from tbot_core.model.exit_rules import ExitRules
from tbot_core.model.types import (
    ExitReason,
    Instrument,
    InstrumentKind,
    Leg,
    Order,
    OrderType,
    Side,
    SignalId,
    Trade,
    stock,
)
from tbot_core.trading.orders import OrderRecord

BELL = datetime(2026, 11, 24, 14, 30, tzinfo=UTC)

SIGNAL = SignalId(session=date(2026, 11, 24), strategy="open", symbol="AAPL", minute=5, rule="up")

ENTRY = Order(
    client_order_id="e",
    signal=SIGNAL,
    leg=Leg.ENTRY,
    buy=True,
    quantity=Decimal(12),
    type=OrderType.MARKET,
)

STOP = attrs.evolve(
    ENTRY,
    client_order_id="s",
    leg=Leg.STOP,
    buy=False,
    type=OrderType.STOP,
    stop_price=Decimal("170.37"),
    reason=ExitReason.STOP,
)


@pytest.mark.parametrize(
    ("order", "price", "stop", "text"),
    [
        (ENTRY, "173.85", "170.37", "[OPEN] BUY 12 AAPL @ 173.85 stop 170.37"),
        (attrs.evolve(ENTRY, buy=False), "173.85", None, "[OPEN] SELL SHORT 12 AAPL @ 173.85"),
        (attrs.evolve(ENTRY, reason=ExitReason.REBALANCE), None, None, "[OPEN] TOP-UP BUY 12 AAPL"),
    ],
)
def test_an_entry_is_one_line(order: Order, price: str | None, stop: str | None, text: str) -> None:
    """Strategy, side, quantity, symbol, price and stop; what is not known is left out."""
    known = [None if one is None else Decimal(one) for one in (price, stop)]
    assert entry_text(order, Decimal(12), *known) == text


@pytest.mark.parametrize(
    ("instrument", "text"),
    [
        (None, "[OPEN] SELL SHORT 12 AAPL @ about 173.85"),
        (
            Instrument(symbol="DOWN", kind=InstrumentKind.FUND, underlying="AAPL", leverage=Decimal(-1)),
            "[OPEN] BUY 12 DOWN @ about 20.00",
        ),
    ],
    ids=["stock", "fund"],
)
def test_a_person_confirms_what_would_be_traded(instrument: Instrument | None, text: str) -> None:
    """For a short signal a fund that gains while the stock falls is bought, at its own price."""
    asked = ConfirmationAsked(
        signal=SIGNAL,
        side="short",
        price=173.85,
        strength=None,
        target=None,
        exits=ExitRules(),
        reference=None if instrument is None else 20.0,
        reason="ALLOWED",
        value=None,
        limit=None,
        words="",
        findings=(),
        instrument=instrument,
        id="a",
        quantity=Decimal(12),
        expires=BELL,
    )
    assert asked_text(asked) == text


def test_an_exit_is_one_line() -> None:
    """Strategy, symbol, why, profit, quantity and price."""
    trade = Trade(
        strategy="mid",
        instrument=stock("FENNO"),
        side=Side.LONG,
        quantity=Decimal(10),
        entry_time=BELL,
        entry_price=Decimal(20),
        exit_time=BELL,
        exit_price=Decimal("19.50"),
        fees=Decimal(0),
        pnl=Decimal("-5.00"),
        exit_reason=ExitReason.TIME,
    )
    assert exit_text(trade) == "[MID] EXIT FENNO time \N{MINUS SIGN}5.00 (10 @ 19.50)"


def test_the_level_of_a_stop_is_that_of_its_order_else_as_planned() -> None:
    """Plans are those of the session; a decision without a level plans none."""
    planned = PlannedStops()
    decision = {
        "signal": attrs.asdict(SIGNAL) | {"session": SIGNAL.session.isoformat()},
        "stop": 170.123,
        "side": "long",
    }
    for payload in (decision, {**decision, "stop": None}):
        planned.apply(NewEvent(kind=records.DECISION, payload=payload, time=BELL))
    assert planned.of(ENTRY, [OrderRecord(order=ENTRY)]) == Decimal("170.13")
    assert planned.of(ENTRY, [OrderRecord(order=ENTRY), OrderRecord(order=STOP)]) == Decimal("170.37")
    planned.apply(NewEvent(kind=records.SESSION_OPENED, payload={}, time=BELL))
    assert planned.of(ENTRY, []) is None


VIX = {"vix_unknown": {"day": "2026-11-27", "strategies": ["close"]}}

UNKNOWN = (
    "VIX close of 2026-11-27 unknown: no entries by close. `tbot data download vix` and a new start supply it, or "
    "DATA_SOURCE with the VIX"
)


def denied(sessions: int, *strategies: tuple[str, str, int]) -> dict[str, Any]:
    """Denied short signals by strategy and value of SHORT_TYPE."""
    named = [{"strategy": name, "short_type": word, "denied": count} for name, word, count in strategies]
    return {"shorts_denied": {"sessions": sessions, "strategies": named}}


@pytest.mark.parametrize(
    ("payload", "remarks"),
    [
        ({}, []),
        (VIX, [f"{UNKNOWN}."]),
        (VIX | {"mode": "live"}, [f"{UNKNOWN}, or VIX_SOURCE=live."]),
        (VIX | {"series": ["Series vix: cboe: no answer."]}, [f"{UNKNOWN}.", "Series vix: cboe: no answer."]),
        (denied(5, ("open", "InverseETF", 4), ("mid", "InverseETF", 7)),
         [("Short signals denied in the last 5 sessions: open 4, mid 7 (InverseETF is not available); see "
          "SHORT_TYPE_OPEN, SHORT_TYPE_MID.")]),
        (denied(1, ("open", "LongPut", 0), ("mid", "InverseETF", 2)),
         [("Short signals denied in the last 1 session: mid 2 (InverseETF is not available), open 0 (LongPut is not "
          "available); see SHORT_TYPE_OPEN, SHORT_TYPE_MID.")]),
        (denied(0, ("open", "InverseETF", 0)),
         ["Short signals are denied: open (InverseETF is not available); see SHORT_TYPE_OPEN."]),
        ({"not_shortable": {"NOT_SHORTABLE": ["KO"]}}, ["NOT_SHORTABLE: no short sales of 1 symbol: KO."]),
        ({"not_shortable": {"SHORTING_NOT_ALLOWED": [f"S{number}" for number in range(10)]}},
         ["SHORTING_NOT_ALLOWED: no short sales of 10 symbols: S0, S1, S2, S3, S4, S5, S6, S7 and 2 more."]),
    ],
)  # fmt: skip
def test_what_will_not_be_traded_is_said_with_what_changes_it(payload: dict[str, Any], remarks: list[str]) -> None:
    """An unknown VIX, short types that are not available, and symbols that cannot be sold short."""
    assert ready_remarks(codec.view(Ready, payload)) == remarks
