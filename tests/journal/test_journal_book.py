"""What the journal's events say, and what they add up to."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import attrs
import pytest

from tbot_core.contracts import BrokerEvent, OrderStatusReport
from tbot_core.journal import codec, records
from tbot_core.journal.events.accounts import Adjustment, ForeignOrder, PositionDisputed
from tbot_core.journal.events.orders import OrderIntended, OrderReported, ReplaceRequested, SignalDecided
from tbot_core.journal.events.risk import RiskChanged, StateChanged
from tbot_core.journal.events.sessions import NearMiss, WindowClosed
from tbot_core.journal.projection import TypedEvent
from tbot_core.journal.projections import event_text
from tbot_core.journal.projections.book import SessionBook, fold_events
from tbot_core.journal.projections.event_text import contradiction_text
from tbot_core.model.reasons import Reason
from tbot_core.model.types import ExitReason, Instrument, InstrumentKind, Leg, OrderState, RiskState, dollars_of
from tbot_core.testing.trades import NONE, fill, identity, order, proposal
from tbot_core.trading.commands import Decision, ReplaceOrder
from tbot_core.trading.orders import SUPPOSED_PREFIX
from tbot_core.trading.risk.exposure import RiskChange
from tbot_core.trading.risk.states import StateCause
from tbot_core.trading.verdicts import CheckResult

TIME = dt.datetime(2026, 1, 5, 15, 0, tzinfo=dt.UTC)


@attrs.frozen(kw_only=True)
class Said(TypedEvent):
    """An event without a journal."""

    kind: str
    payload: dict[str, Any]
    cid: str | None = None
    applied: dt.datetime = TIME


def opened(*more: Said) -> SessionBook:
    """The book of a run with an open session and these events."""
    first = Said(kind=records.RUN_STARTED, payload={"equity": "1000"})
    return fold_events([first, Said(kind=records.SESSION_OPENED, payload=OPENING), *more])


LEFT = {"session": "2026-01-05", "strategy": "open", "symbol": "AAA", "minute": 3, "rule": "down"}
OPENING: dict[str, Any] = {"date": "2026-01-05", "symbols": 3, "equity": "1000"}
ENTRY = order(limit="10", protection=(order(Leg.STOP, stop="9"),))


def intended(of: Any) -> Said:
    """An order's intent."""
    return Said(kind=records.INTENDED, cid=of.client_order_id, payload=codec.write(OrderIntended.of(of)))


def moving(stop: Any, price: str) -> Said:
    """A request to move a stop."""
    request = ReplaceOrder(
        client_order_id=stop.client_order_id, stop_price=Decimal(price), reason=ExitReason.TRAILING_STOP
    )
    return Said(
        kind=records.REPLACE_REQUESTED,
        cid=stop.client_order_id,
        payload=codec.write(ReplaceRequested(stop_price=request.stop_price, reason=request.reason)),
    )


def reported(of: Any, kind: str, price: str = "", execution: str = "1", words: str = "") -> Said:
    """A broker's word on it."""
    one = fill(of, price, execution=execution, fees="0.10") if price else None
    event = BrokerEvent(kind=kind, event_id="1", client_order_id=of.client_order_id, fill=one, words=words)
    return Said(kind=kind, cid=of.client_order_id, payload=codec.write(OrderReported.of(event)))


SENDING = [intended(ENTRY), Said(kind=records.SENDING, cid="entry", payload={})]


def test_orders_fills_and_signals_come_back_as_they_were() -> None:
    """What is written is what is read, exact to the last digit."""
    assert records.signal_of(attrs.asdict(identity()) | {"session": identity().session.isoformat()}) == identity()
    whole = attrs.evolve(ENTRY, tag="REBALANCE", reason=ExitReason.TIME)
    assert records.order_of("entry", codec.write(OrderIntended.of(whole))) == attrs.evolve(whole, protection=())
    assert codec.write(OrderIntended.of(ENTRY))["protection"] == ["stop"]
    fund = Instrument(symbol="DOWN", kind=InstrumentKind.FUND, underlying=ENTRY.symbol, leverage=Decimal(-2))
    proxy = attrs.evolve(ENTRY, instrument=fund, protection=())
    assert records.order_of("entry", codec.write(OrderIntended.of(proxy))) == proxy
    one = fill(ENTRY, "10.0001", "0.000001", fees="0.01")
    event = BrokerEvent(kind="fill", event_id="1", client_order_id="entry", fill=one)
    assert records.fill_of("entry", codec.write(OrderReported.of(event))) == one
    assert records.fill_of("entry", {"words": ""}) is None


def test_a_decision_says_what_was_compared() -> None:
    """Unknown numbers are null, amounts are text, findings come along."""
    finding = CheckResult(check="gap", value=NONE, low=None, high=0.1, reason=Reason.GAP_UNKNOWN)
    denied = Decision(
        proposal=attrs.evolve(proposal(), findings=(finding,)),
        reason=Reason.GROSS_EXPOSURE,
        value=Decimal("12.50"),
        limit=Decimal(10),
    )
    payload = codec.write(SignalDecided.of(denied))
    assert (payload["reason"], payload["value"], payload["limit"]) == ("GROSS_EXPOSURE", "12.50", "10")
    assert (payload["side"], payload["price"], payload["target"]) == ("long", 100.0, None)
    assert payload["findings"] == [{"check": "gap", "value": None, "low": None, "high": 0.1, "reason": "GAP_UNKNOWN"}]
    named = attrs.evolve(finding, reason=Reason.FILTER_DENIED, plugin="ratings", words="The rating is 2.")
    said = codec.write(SignalDecided.of(attrs.evolve(denied, proposal=attrs.evolve(proposal(), findings=(named,)))))
    assert (said["findings"][0]["plugin"], said["findings"][0]["words"]) == ("ratings", "The rating is 2.")
    allowed = codec.write(SignalDecided.of(Decision(proposal=proposal(), reason=Reason.ALLOWED)))
    assert (allowed["value"], allowed["limit"]) == (None, None)


def test_changes_and_windows_are_kept_for_the_session() -> None:
    """Risk changes and closed windows stand in the book until the next session opens."""
    change = RiskChange(what="defense", cause="half", value=Decimal(-25), limit=Decimal("-25.0"))
    near = (NearMiss(symbol="AAA", rule="up", side=1, minute=3, distance=0.1),)
    window = codec.write(WindowClosed(strategy="open", candidates=3, triggers=1, near_misses=near))
    book = opened(
        Said(kind=records.RISK, payload=codec.write(RiskChanged.of(change))),
        Said(kind=records.WINDOW_CLOSED, payload=window),
    )
    assert book.risk == [{"what": "defense", "cause": "half", "value": "-25", "limit": "-25.0"}]
    assert book.windows == [window]
    book.apply(Said(kind=records.SESSION_OPENED, payload=OPENING))
    assert (book.risk, book.windows, book.orders) == ([], [], {})


OF_THE_RUN = {
    "run", "time", "sessions", "equity_start", "trades", "denials", "allowed", "equity_curve", "brokers",
    "without_candidates", "_before", "_stuck",
}  # fmt: skip
"""What a book keeps over its sessions; a stuck position is shown only while it is held."""


def test_nothing_of_the_day_before_counts_in_a_session_but_what_belongs_to_the_run() -> None:
    """After a day with every kind of event the book of the next one is that of a first day."""
    stop, other = ENTRY.protection[0], order(name="other", limit="10", symbol="BBB", protection=())
    yesterday = [
        Said(kind=records.SESSION_OPENED, payload={**OPENING, "primary": "acme"}),
        Said(kind=records.SCREENED, payload={"strategy": "mid", "candidates": 0, "reasons": {"VIX_LOW": 3}}),
        *SENDING,
        intended(stop),
        intended(other),
        reported(ENTRY, "fill", "10"),
        reported(stop, "acknowledged"),
        moving(stop, "9.5"),
        moving(stop, "9.6"),
        reported(stop, "replaced"),
        Said(kind=records.CANCEL_REQUESTED, cid=stop.client_order_id, payload={}),
        reported(stop, "fill", "9.5", "2"),
        reported(order(Leg.EXIT, name="unknown"), "fill", "9", "3"),
        Said(kind=records.RISK, payload={"what": "daily loss latch"}),
        Said(kind=records.WINDOW_CLOSED, payload={"strategy": "mid"}),
        Said(kind=records.FROZEN, payload={"symbol": "AAA", "words": "a split", "there": True}),
        Said(kind=records.DISPUTED, payload={"symbol": "AAA", "there": True}),
        Said(kind=records.STUCK, payload={"symbol": "AAA", "signal": LEFT}),
        Said(kind=records.PROTECTION, payload={"state": records.CLOSED, "bare_s": "3", "emulated_s": "4"}),
        Said(kind=records.SESSION_CLOSED, payload={"equity": "949.80"}),
    ]
    first = Said(kind=records.RUN_STARTED, payload={"equity": "1000"})
    today = Said(kind=records.SESSION_OPENED, payload={**OPENING, "date": "2026-01-06", "equity": "949.80"})
    before, fresh = fold_events([first, *yesterday[:-1]]), fold_events([first, today])
    compared = {one.name for one in attrs.fields(SessionBook)} - OF_THE_RUN
    unlike = {name for name in compared if getattr(before, name) != getattr(fresh, name)}
    assert unlike == compared - {"symbols", "in_session", "finished", "_outside"}
    book = fold_events([first, *yesterday, today])
    assert {name for name in compared if getattr(book, name) != getattr(fresh, name)} == {"account"}
    assert (book.orders, book.portfolio) == ({}, fresh.portfolio)
    assert not book.stuck
    assert book.resting("AAA") is None
    assert not book.covered("AAA")
    assert book.broker(identity()) == ""
    assert len(book.trades) == 1


def test_denials_are_counted_from_screening_and_decisions() -> None:
    """Each reason with its number, allowed ones apart."""
    book = opened(
        Said(kind=records.SCREENED, payload={"reasons": {"VOLUME_LOW": 3}}),
        Said(kind=records.DECISION, payload={"reason": "ALLOWED"}),
        Said(kind=records.DECISION, payload={"reason": "VOLUME_LOW"}),
    )
    assert (book.denials, book.allowed) == ({"VOLUME_LOW": 4}, 1)


def test_a_closed_session_in_which_every_symbol_was_denied_is_remembered() -> None:
    """By strategy with the reason that denied most, the first by name of several; not with a candidate, nor before."""
    denied = {"candidates": 0, "reasons": {"VIX_LOW": 2, "MARKET_CAP_LOW": 2, "PRICE_LOW": 1}}
    screened = [
        Said(kind=records.SCREENED, payload={"strategy": "close"} | denied),
        Said(kind=records.SCREENED, payload={"strategy": "open", "candidates": 1, "reasons": {"VIX_LOW": 2}}),
        Said(kind=records.SCREENED, payload={"strategy": "mid", "candidates": 0, "reasons": {}}),
    ]
    assert opened(*screened).without_candidates == {}
    closed = opened(*screened, Said(kind=records.SESSION_CLOSED, payload={"equity": "1000"}))
    assert closed.without_candidates == {"close": {"MARKET_CAP_LOW": 1}}


def test_denials_of_symbols_without_a_bar_do_not_count() -> None:
    """The session's end takes them off; a reason of which none is left is not listed."""
    screened = {"VIX_LOW": 3, "VOLUME_LOW": 2}
    book = opened(
        Said(kind=records.SCREENED, payload={"reasons": screened}),
        Said(kind=records.SESSION_CLOSED, payload={"equity": "1010", "without_bars": {"VIX_LOW": 1, "VOLUME_LOW": 2}}),
    )
    assert book.denials == {"VIX_LOW": 2}


def test_a_run_from_start_to_finish() -> None:
    """Sessions, equity and end are those of the last words."""
    book = opened(
        Said(kind=records.SESSION_CLOSED, payload={"equity": "1010"}),
        Said(kind=records.RUN_FINISHED, payload={}, applied=TIME + dt.timedelta(hours=1)),
    )
    assert (book.sessions, book.symbols, book.finished, book.in_session) == (1, 3, True, False)
    assert book.equity_start == 1000
    assert book.equity_curve == [("2026-01-05", Decimal(1010))]
    assert (book.run, book.time) == ({"equity": "1000"}, TIME + dt.timedelta(hours=1))


@pytest.mark.parametrize(
    ("leg", "said", "words", "moves", "reason"),
    [
        (Leg.STOP, ExitReason.STOP, "", "", ExitReason.STOP),
        (Leg.STOP, ExitReason.STOP, "", "asked", ExitReason.STOP),
        (Leg.STOP, ExitReason.STOP, "", "told", ExitReason.STOP),
        (Leg.STOP, ExitReason.STOP, "", "asked, told", ExitReason.TRAILING_STOP),
        (Leg.STOP, ExitReason.STOP, "NO_MARKET", "asked, told", ExitReason.NO_MARKET),
        (Leg.TARGET, ExitReason.TARGET, "", "", ExitReason.TARGET),
        (Leg.EXIT, ExitReason.DAILY_LOSS, "", "", ExitReason.DAILY_LOSS),
    ],
)
def test_a_trade_is_closed_for_the_reason_that_was_written(
    leg: Leg, said: ExitReason, words: str, moves: str, reason: ExitReason
) -> None:
    """That of the order that closed it, or of the move once it is reported, unless the venue found no market."""
    close = order(leg, stop="9", reason=said) if leg is Leg.STOP else order(leg, reason=said)
    steps = {"asked": moving(close, "9.50"), "told": reported(close, "replaced")}
    book = opened(
        *SENDING,
        reported(ENTRY, "fill", "10"),
        intended(close),
        Said(kind=records.SENDING, cid=close.client_order_id, payload={}),
        reported(close, "acknowledged"),
        *(step for name, step in steps.items() if name in moves),
        reported(close, "fill", "11", execution="2", words=words),
    )
    (trade,) = book.trades
    assert (trade.exit_reason, trade.pnl) == (reason, Decimal("99.80"))
    assert book.equity == dollars_of(book.portfolio.equity_atoms) == Decimal("1099.80")


def test_a_fill_reported_twice_counts_once() -> None:
    """By execution id."""
    book = opened(*SENDING, reported(ENTRY, "fill", "10"), reported(ENTRY, "fill", "10"))
    assert book.portfolio.in_symbol("AAA")[0].units == 100_000_000


def test_an_order_that_is_sent_again_is_where_it_was() -> None:
    """The event says what tbot did, not what became of the order."""
    again = opened(*SENDING, Said(kind=records.SENT_AGAIN, cid="entry", payload={}))
    assert again.orders == opened(*SENDING).orders


def test_an_entry_that_never_filled_is_a_denial() -> None:
    """Once, when it ends; one that filled in part is none."""
    missed = opened(*SENDING, reported(ENTRY, "expired"), reported(ENTRY, "cancelled"))
    assert missed.denials == {"ENTRY_NOT_FILLED": 1}
    part = attrs.evolve(ENTRY, quantity=Decimal(200))
    begun = opened(intended(part), *SENDING[1:], reported(ENTRY, "fill", "10"), reported(ENTRY, "expired"))
    assert begun.denials == {}


@pytest.mark.parametrize("kind", ["fill", "acknowledged", "celebrated", records.CANCEL_REQUESTED, records.STOPPED])
def test_words_that_mean_nothing_here_change_nothing(kind: str) -> None:
    """Foreign orders, unknown words and what only informs."""
    foreign = order(name="somebody")
    book = opened(reported(foreign, kind, "10"), Said(kind=kind, payload={}))
    assert (book.orders, book.portfolio.positions, book.trades) == ({}, {}, [])
    assert book.time == TIME


def test_f29_a_trade_whose_exit_was_busted_is_open_again() -> None:
    """It leaves the trades and the position is back; a corrected exit is another trade."""
    close = order(Leg.EXIT, reason=ExitReason.TIME)
    steps = [
        *SENDING,
        reported(ENTRY, "fill", "10"),
        intended(close),
        Said(kind=records.SENDING, cid="exit", payload={}),
        reported(close, "fill", "11", execution="2"),
    ]
    busted = opened(*steps, reported(close, "busted", "11", execution="2"))
    assert (busted.trades, busted.portfolio.in_symbol("AAA")[0].units) == ([], 100_000_000)
    assert busted.equity == Decimal("999.90")
    (trade,) = opened(*steps, reported(close, "corrected", "12", execution="2")).trades
    assert (trade.exit_price, trade.pnl) == (Decimal("12.0000"), Decimal("199.80"))


def outside(quantity: str, buy: bool = False) -> Said:
    """Shares that somebody else took from the position."""
    one = fill(order(Leg.EXIT, buy=buy), "10.50", quantity, execution=f"outside {quantity}")
    return Said(kind=records.ADJUSTMENT, payload=codec.write(Adjustment.of(one)))


def test_what_somebody_else_closed_ends_the_trade() -> None:
    """In part the position shrinks; wholly it is a trade, closed OUTSIDE."""
    book = opened(*SENDING, reported(ENTRY, "fill", "10"), outside("40"))
    assert (book.portfolio.in_symbol("AAA")[0].units, book.trades) == (60_000_000, [])
    (trade,) = opened(*SENDING, reported(ENTRY, "fill", "10"), outside("40"), outside("60")).trades
    assert (trade.exit_reason, trade.pnl) == (ExitReason.OUTSIDE, Decimal("49.90"))


def test_executions_that_are_named_later_are_booked_once() -> None:
    """Those of a supposed fill are part of it; what goes beyond it is booked, and closes what it closes."""
    supposed = reported(ENTRY, "fill", "10", execution=f"{SUPPOSED_PREFIX}1")
    book = opened(*SENDING, supposed, reported(ENTRY, "fill", "10", execution="a"))
    assert book.portfolio.in_symbol("AAA")[0].units == 100_000_000
    assert book.orders["entry"].inferred_quantity == 0


def test_what_was_dropped_or_lost_is_known_as_such() -> None:
    """An entry that never left is a denial; one that was not found stays open."""
    dropped = opened(intended(ENTRY), Said(kind=records.DROPPED, cid="entry", payload={"words": "halted"}))
    assert dropped.orders["entry"].state is OrderState.DROPPED
    assert dropped.denials == {"ENTRY_NOT_FILLED": 1}
    silent = Said(kind=records.NO_ANSWER, cid="entry", payload={"words": "time-out"})
    steps = [Said(kind=kind, cid="entry", payload={}) for kind in (records.ORDER_NOT_FOUND, records.LOST)]
    lost = opened(*SENDING, silent, *steps)
    assert (lost.orders["entry"].state, lost.orders["entry"].open_quantity) == (OrderState.LOST, Decimal(100))


def test_an_order_that_is_not_ours_is_written_with_what_it_says() -> None:
    """Its ids, its side, what of it is filled, and the broker's word for it; amounts are text."""
    report = OrderStatusReport(
        client_order_id="",
        broker_order_id="b7",
        kind="acknowledged",
        symbol="ZZZ",
        buy=True,
        quantity=Decimal(5),
        time=TIME,
    )
    assert codec.write(ForeignOrder.of(report)) == {
        "client_order_id": "",
        "broker_order_id": "b7",
        "symbol": "ZZZ",
        "buy": True,
        "quantity": "5",
        "filled": "0",
        "paid": "0",
        "said": "acknowledged",
    }


def test_a_cause_is_written_by_its_name() -> None:
    """With the state since, and whose words it came with."""
    payload = codec.write(
        StateChanged(cause=StateCause.DISK_LOW, there=True, state=RiskState.EXIT_ONLY.word, words="2 % left")
    )
    assert payload == {"cause": "DISK_LOW", "there": True, "state": "exit-only", "words": "2 % left"}


def test_a_stop_rests_by_the_brokers_word_alone() -> None:
    """Not while it is only sent or asked for, at the level that the broker has, and no longer once it has ended."""
    stop = ENTRY.protection[0]
    sent = [*SENDING, intended(stop), Said(kind=records.SENDING, cid="stop", payload={})]
    assert opened(*sent).resting("AAA") is None
    rests = [*sent, reported(stop, "acknowledged")]
    assert opened(*rests).resting(stop.symbol) == Decimal(9)
    assert opened(*rests).resting("ZZZ") is None
    asked = [*rests, moving(stop, "9.5")]
    assert opened(*asked).resting(stop.symbol) == Decimal(9)
    replaced = opened(*asked, reported(stop, "replaced"))
    assert replaced.resting(stop.symbol) == replaced.price(stop.client_order_id) == Decimal("9.5")
    assert opened(*asked, reported(stop, "cancelled")).resting(stop.symbol) is None


def test_a_requested_cancel_of_a_stop_is_known_until_the_broker_answers() -> None:
    """Its stop still rests by the broker's word, but may be gone; a refused cancel leaves it, a second stop counts."""
    stop, second = ENTRY.protection[0], order(Leg.STOP, "second", stop="8")
    rests = [
        *SENDING,
        intended(stop),
        Said(kind=records.SENDING, cid="stop", payload={}),
        reported(stop, "acknowledged"),
    ]
    assert not opened(*SENDING).is_stop_cancelling("AAA")
    assert not opened(*rests).is_stop_cancelling("AAA")
    asked = [*rests, Said(kind=records.CANCEL_REQUESTED, cid="stop", payload={})]
    assert opened(*asked).is_stop_cancelling("AAA")
    assert opened(*asked).resting("AAA") == Decimal(9)
    assert not opened(*asked, reported(stop, "cancel_refused")).is_stop_cancelling("AAA")
    assert not opened(*asked, reported(stop, "cancelled")).is_stop_cancelling("AAA")
    more = [intended(second), Said(kind=records.SENDING, cid="second", payload={}), reported(second, "acknowledged")]
    assert not opened(*asked, *more).is_stop_cancelling("AAA")
    assert opened(*asked, *more).resting("AAA") == Decimal(8)


def test_a_stop_that_was_to_move_twice_has_moved_once_by_one_word() -> None:
    """To the older level, whatever was asked for again; what is refused does not happen any more."""
    stop = ENTRY.protection[0]
    sent = [
        *SENDING,
        intended(stop),
        Said(kind=records.SENDING, cid="stop", payload={}),
        reported(stop, "acknowledged"),
    ]
    asked = [*sent, moving(stop, "9.5"), moving(stop, "9.6"), moving(stop, "9.5")]
    assert opened(*asked, reported(stop, "replaced")).resting("AAA") == Decimal("9.5")
    assert opened(*asked, *[reported(stop, "replaced")] * 3).resting("AAA") == Decimal("9.6")
    assert opened(*asked, reported(stop, "cancel_refused"), reported(stop, "replaced")).resting("AAA") == Decimal(9)


@pytest.mark.parametrize(("broker", "units"), [("", 200_000_000), ("beta", 100_000_000)])
def test_f43_a_split_changes_what_is_held_at_the_broker_that_says_so(broker: str, units: int) -> None:
    """Each broker that holds the symbol, ours or not, says that it was split."""
    split = {"symbol": ENTRY.symbol, "before": 1, "after": 2, "activity_id": "a1", "broker": broker}
    found = opened(*SENDING, reported(ENTRY, "fill", "10"), Said(kind=records.CORPORATE_ACTION, payload=split))
    assert found.portfolio.holdings == {ENTRY.symbol: units}


def test_an_entry_reported_after_its_stop_has_sold_is_one_trade() -> None:
    """The stop's fill was reported first: bought at 10, sold at 9, nothing is held."""
    stop = attrs.evolve(ENTRY.protection[0], reason=ExitReason.STOP)
    legs = [intended(stop), Said(kind=records.SENDING, cid="stop", payload={})]
    book = opened(*SENDING, *legs, reported(stop, "fill", "9", "2"), reported(ENTRY, "fill", "10", "1"))
    (trade,) = book.trades
    assert (trade.entry_price, trade.exit_price, trade.pnl) == (Decimal(10), Decimal(9), Decimal("-100.20"))
    assert book.portfolio.positions == {}


def test_the_book_knows_which_symbols_readings_contradict() -> None:
    """Until they agree, or the session ends."""
    begins = codec.write(PositionDisputed(symbol="AAA", there=True, ours=Decimal(7), theirs=Decimal(3)))
    noted = Said(kind=records.DISPUTED, payload=begins)
    over = Said(kind=records.DISPUTED, payload=codec.write(PositionDisputed(symbol="AAA", there=False)))
    assert opened(noted).disputed == {"AAA": begins}
    assert opened(noted, over).disputed == {}
    assert (
        contradiction_text(noted.facts(PositionDisputed)) == "the broker lists 3 AAA, and has reported executions for 7"
    )
    assert contradiction_text(over.facts(PositionDisputed)) == "The readings of AAA agree with the books again"


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ([], ""),
        (["emulated"], ""),
        ([records.CLOSED], ", 5 s without a stop at the broker, 3 s of them emulated"),
        ([records.CLOSED, "bare", records.CLOSED], ", 10 s without a stop at the broker, 6 s of them emulated"),
    ],
)
def test_the_seconds_of_closed_positions_without_a_stop_add_up(states: list[str], text: str) -> None:
    """Each position counts once, when it is closed."""
    seconds = {"symbol": "AAA", "bare_s": "2.0", "emulated_s": "3.0"}
    book = opened(*(Said(kind=records.PROTECTION, payload=seconds | {"state": one}) for one in states))
    assert event_text.unprotected_text(book.unprotected_s) == text
