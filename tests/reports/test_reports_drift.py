"""The drift of a session: real trades beside those of its shadow run, and the cause of each difference."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import BrokerEvent
from tbot_core.journal import codec, records
from tbot_core.journal.codec import fill_facts
from tbot_core.journal.events.orders import OrderIntended, OrderReported, SignalDecided
from tbot_core.journal.events.sessions import CarriedPosition
from tbot_core.model.reasons import Reason
from tbot_core.model.types import ExitReason, Leg, Order, Side, SignalId
from tbot_core.reports.drift import ShadowTrades, drift_document, drift_lines, events_of_session
from tbot_core.testing.trades import fill, identity, journal_event, order, proposal
from tbot_core.trading.commands import Decision
from tbot_core.trading.portfolio import Portfolio, Position

if TYPE_CHECKING:
    from tbot_core.journal.store import Event

DAY = dt.date(2026, 1, 5)
AT = dt.datetime(2026, 1, 5, 15, 0, tzinfo=dt.UTC)
OPENED = {"date": str(DAY), "symbols": 3, "equity": "1000", "minutes": 390, "account": "U1"}


class Story:
    """The events of a session, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.say(records.SESSION_OPENED, OPENED)

    def say(self, kind: str, payload: dict[str, Any], cid: str | None = None) -> None:
        """One more event."""
        self.events.append(journal_event(len(self.events) + 1, kind, payload, AT, cid))

    def decide(self, symbol: str, reason: Reason = Reason.ALLOWED, cid: str | None = None, minute: int = 25) -> None:
        """A decision on a signal of a symbol."""
        decision = Decision(proposal=proposal(symbol, minute), reason=reason)
        self.say(records.DECISION, codec.write(SignalDecided.of(decision)), cid)

    def send(self, of: Order) -> None:
        """An order that was sent."""
        self.say(records.INTENDED, codec.write(OrderIntended.of(of)), of.client_order_id)
        self.say(records.SENDING, {}, of.client_order_id)

    def report(self, of: Order, kind: str, price: str = "", words: str = "", quantity: str | None = None) -> None:
        """The broker's report about an order."""
        one = fill(of, price, quantity, execution=of.client_order_id) if price else None
        event = BrokerEvent(kind=kind, event_id="1", client_order_id=of.client_order_id, fill=one, words=words)
        self.say(kind, codec.write(OrderReported.of(event)), of.client_order_id)

    def enter(self, symbol: str, price: str, quantity: str = "100", minute: int = 25) -> None:
        """An allowed entry that filled."""
        entry = order(name=f"{symbol} entry", symbol=symbol, limit="110", quantity=quantity)
        self.decide(symbol, cid=entry.client_order_id, minute=minute)
        self.send(entry)
        self.report(entry, "fill", price)

    def leave(self, symbol: str, price: str, quantity: str = "100") -> None:
        """An exit that filled."""
        leaving = order(Leg.EXIT, name=f"{symbol} exit", symbol=symbol, quantity=quantity, reason=ExitReason.TIME)
        self.send(leaving)
        self.report(leaving, "fill", price)


def expected(symbol: str, entry: str, leaving: str, reason: ExitReason = ExitReason.TIME) -> Position:
    """A position of the shadow run."""
    portfolio, bought = Portfolio(opening_atoms=0), order(symbol=symbol)
    portfolio.apply(fill(bought, entry), identity(symbol), Leg.ENTRY)
    sold = order(Leg.EXIT, symbol=symbol)
    portfolio.apply(fill(sold, leaving, execution="2"), identity(symbol), Leg.EXIT, reason)
    return portfolio.closed[0]


def shadow(*positions: Position, denied: Reason | None = None, allowed: bool = False) -> ShadowTrades:
    """A shadow run with these positions, and a decision on AAA that gave none."""
    reason = Reason.ALLOWED if allowed else denied
    decisions = [] if reason is None else [Decision(proposal=proposal("AAA"), reason=reason)]
    return ShadowTrades(positions=positions, decisions=decisions, minutes=390)


def test_a_loss_has_the_minus_of_the_other_alerts() -> None:
    """The document keeps an ASCII minus."""
    story = Story()
    story.enter("AAA", "100.10")
    story.leave("AAA", "98.50")
    found = drift_document(story.events, shadow())
    assert found["pnl"] == "-160.00"
    assert drift_lines(found)[0].endswith("; P&L \N{MINUS SIGN}160.00, expected 0.00.")


def test_prices_are_compared_in_basis_points_and_worse_is_above_zero() -> None:
    """A buyer who pays more and a seller who gets less have done worse; the totals are means and sums."""
    story = Story()
    story.enter("AAA", "100.10")
    story.leave("AAA", "101.50")
    found = drift_document(story.events, shadow(expected("AAA", "100.00", "101.00")), note="by hand")
    (trade,) = found["trades"]
    assert (trade["entry_bps"], trade["exit_bps"], trade["words"]) == (10.0, -49.5, "")
    assert (found["both"], found["missing"], found["extra"]) == (1, 0, 0)
    assert (found["pnl"], found["expected_pnl"]) == ("140.00", "100.00")
    head, note, line = drift_lines(found)
    assert head.endswith("; entries 10.0 bps worse, exits 49.5 bps better; P&L +140.00, expected +100.00.")
    assert head.startswith("Session 2026-01-05: 1 of 1 expected trades made, 0 missing, 0 not expected")
    assert note == "Note: by hand"
    prices = "expected 100 at 100.0000 to 101.0000 time; real 100 at 100.1000 to 101.5000 time"
    assert line == f"  [OPEN] long AAA: {prices}; entry 10.0 bps worse, exit 49.5 bps better"


def test_a_seller_short_who_gets_less_has_done_worse() -> None:
    """The direction of an entry is that of the position."""
    portfolio, story = Portfolio(opening_atoms=0), Story()
    sold = order(name="short", buy=False, limit="90")
    portfolio.apply(fill(sold, "100.00"), identity(), Leg.ENTRY)
    planned = portfolio.in_symbol("AAA")[0]
    assert planned.side is Side.SHORT
    story.say(
        records.DECISION,
        codec.write(SignalDecided.of(Decision(proposal=proposal(side=Side.SHORT), reason=Reason.ALLOWED))),
        "short",
    )
    story.send(sold)
    story.report(sold, "fill", "99.90")
    (trade,) = drift_document(story.events, shadow(planned))["trades"]
    assert (trade["side"], trade["entry_bps"], trade["exit_bps"]) == ("short", 10.0, None)


def test_a_difference_besides_the_prices_is_named() -> None:
    """Another quantity and another exit; an open position has no exit."""
    story = Story()
    story.enter("AAA", "100.00", "40")
    found = drift_document(story.events, shadow(expected("AAA", "100.00", "101.00")))
    (trade,) = found["trades"]
    assert trade["words"] == "quantity 100 expected, 40, exit TIME expected, none"
    assert "real 40 at 100.0000 to open; entry as expected; quantity" in drift_lines(found)[1]
    assert "exits not known" in drift_lines(found)[0]


def rejected(story: Story) -> None:
    """The broker rejects the entry."""
    entry = order(limit="110")
    story.decide("AAA", cid="entry")
    story.send(entry)
    story.report(entry, "rejected", words="no shares")


def unfilled(story: Story) -> None:
    """The entry is cancelled without a fill."""
    entry = order(limit="110")
    story.decide("AAA", cid="entry")
    story.send(entry)
    story.report(entry, "acknowledged")
    story.report(entry, "cancelled")


@pytest.mark.parametrize(
    ("happened", "words"),
    [
        (lambda _story: None, "no signal in the session"),
        (lambda story: story.decide("AAA", Reason.NOT_ARMED), f"NOT_ARMED: {Reason.NOT_ARMED.sentence}"),
        (rejected, "the broker rejected the entry: no shares"),
        (unfilled, "ENTRY_NOT_FILLED: the entry is cancelled"),
    ],
)
def test_a_missing_trade_has_its_cause(happened: Any, words: str) -> None:
    """Without a signal, denied by tbot, rejected by the broker, or not filled."""
    story = Story()
    happened(story)
    found = drift_document(story.events, shadow(expected("AAA", "100.00", "101.00")))
    (trade,) = found["trades"]
    assert (found["missing"], trade["real"], trade["words"]) == (1, None, words)
    assert f"real none; {words}" in drift_lines(found)[1]


OTHER_BARS = "the session decided on other bars than those recorded"


@pytest.mark.parametrize(
    ("minute", "remarks", "words"),
    [
        (25, {"AAA": [(25, "came late (LATE)")]}, ""),
        (26, {}, f"signal at minute 25 expected, 26: {OTHER_BARS}"),
        (24, {"AAA": [(26, "came late (LATE)")]}, f"signal at minute 25 expected, 24: {OTHER_BARS}"),
        (26, {"BBB": [(25, "was revised")]}, f"signal at minute 25 expected, 26: {OTHER_BARS}"),
        (
            26,
            {"AAA": [(3, "was revised"), (25, "came late (LATE)"), (27, "was revised")], "": [(9, "was not recorded")]},
            "signal at minute 25 expected, 26: its bar of minute 25 came late (LATE)",
        ),
        (
            24,
            {"AAA": [(3, "was revised")], "": [(9, "was not recorded")]},
            "signal at minute 25 expected, 24: its bar of minute 9 was not recorded",
        ),
    ],
)
def test_a_signal_in_another_minute_has_its_cause(minute: int, remarks: dict[str, Any], words: str) -> None:
    """It is named beside the prices of a trade, and beside the reason that denied it."""
    plan = attrs.evolve(shadow(expected("AAA", "100", "101"), allowed=True), remarks=remarks)
    denied, made = Story(), Story()
    denied.decide("AAA", Reason.SIGNAL_TOO_LATE, minute=minute)
    (missing,) = drift_document(denied.events, plan)["trades"]
    reason = f"SIGNAL_TOO_LATE: {Reason.SIGNAL_TOO_LATE.sentence}"
    assert missing["words"] == ", ".join(filter(None, (reason, words)))
    made.enter("AAA", "100", minute=minute)
    made.leave("AAA", "101")
    (both,) = drift_document(made.events, plan)["trades"]
    assert both["words"] == words


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (shadow(), "no signal in the shadow run"),
        (shadow(denied=Reason.MAX_TRADES), f"in the shadow run MAX_TRADES: {Reason.MAX_TRADES.sentence}"),
        (shadow(allowed=True), "ENTRY_NOT_FILLED in the shadow run: no bar traded through the limit"),
    ],
)
def test_a_trade_that_was_not_expected_has_its_cause(run: ShadowTrades, words: str) -> None:
    """The shadow run had no signal, denied it, or its entry did not fill."""
    story = Story()
    story.enter("AAA", "100.10")
    story.leave("AAA", "101.00")
    found = drift_document(story.events, run)
    (trade,) = found["trades"]
    assert (found["extra"], trade["expected"], trade["words"]) == (1, None, words)


def test_a_position_of_an_earlier_session_is_no_trade_of_this_one() -> None:
    """What was carried in was entered by another day's decision."""
    story, before = Story(), attrs.evolve(identity(), session=dt.date(2026, 1, 2))
    carried = order(name="carried")
    story.events[0] = journal_event(
        1, records.SESSION_OPENED, {**OPENED, "carried": [carried_payload(carried, before)]}, AT
    )
    assert drift_document(story.events, shadow())["trades"] == []


def carried_payload(of: Order, signal: SignalId) -> dict[str, Any]:
    """A position that is carried into a session."""
    return codec.write(CarriedPosition(signal=signal, **fill_facts(fill(of, "100.00"))))


def test_the_events_of_a_session_end_with_its_close() -> None:
    """Those of other days and those after the close are left out; an unknown day has none."""
    story = Story()
    story.say(records.SESSION_OPENED, {**OPENED, "date": "2026-01-06"})
    story.say(records.READY, {})
    story.say(records.SESSION_CLOSED, {"date": "2026-01-06"})
    story.say(records.STOPPED, {})
    found = events_of_session(story.events, dt.date(2026, 1, 6))
    assert [one.seq for one in found] == [2, 3, 4]
    assert [one.seq for one in events_of_session(story.events[:1], DAY)] == [1]
    assert events_of_session(story.events, dt.date(2026, 1, 7)) == []
