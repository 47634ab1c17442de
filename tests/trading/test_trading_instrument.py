"""A position whose instrument is not its signal's symbol: the signal's bars decide, the instrument is traded."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import BrokerCapabilities, InstrumentRules
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import (
    ATOMS_PER_DOLLAR,
    UNITS_PER_SHARE,
    ExitReason,
    Instrument,
    InstrumentKind,
    Leg,
    OrderType,
    RiskState,
    Side,
    atoms_of,
    dollars_of,
    stock,
)
from tbot_core.testing.sessions import SessionDraft
from tbot_core.testing.trades import fill, identity, order, proposal, rules, session
from tbot_core.trading.commands import CancelOrder, SubmitOrder
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.fill_costs import FillCosts
from tbot_core.trading.matching import SIMULATOR_CAPABILITIES, MatchingEngine
from tbot_core.trading.orders import BROKER_EVENT_KINDS
from tbot_core.trading.portfolio import CarriedPosition, Portfolio
from tbot_core.trading.risk.exposure import index_factor, net_of
from tbot_core.trading.risk.holds import Hold
from tbot_core.trading.slippage import Slippage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.model.types import SignalId
    from tbot_core.trading.commands import TradingCommand
    from tbot_core.trading.proposals import Proposal

FUND = Instrument(symbol="DOWN", kind=InstrumentKind.FUND, underlying="AAA", leverage=Decimal(-1))
PUT = Instrument(symbol="PUTAAA", kind=InstrumentKind.PUT, underlying="AAA", multiplier=100, leverage=Decimal(-4))
EQUITY = atoms_of(Decimal(100_000))
FREE = FillCosts(slippage=Slippage(kind="none", mean=0.0, deviation=0.0, seed=0))
PLACES = ("AAA", "DOWN", "PUTAAA", "BBB")


def name(signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{signal.symbol} {leg.value}" + (f" {attempt}" if attempt > 1 else "")


def short(instrument: Instrument = FUND, reference: float | None = 20.0, **fields: Any) -> Proposal:
    """A short signal of AAA at 100 with a stop at 102, expressed by an instrument at its price."""
    whole: dict[str, Any] = {"exits": ExitRules(leave=60), **fields}
    return attrs.evolve(proposal(side=Side.SHORT, **whole), instrument=instrument, reference=reference)


def draft() -> SessionDraft:
    """AAA at 100, the fund at 20 and the put at 2."""
    drawn = SessionDraft(*PLACES)
    for minute in range(390):
        drawn.bar(minute, 20.0, "DOWN").bar(minute, 2.0, "PUTAAA")
    return drawn


class Day:
    """A session at a venue that fills from bars, walked minute by minute."""

    def __init__(self, drawn: SessionDraft, **settings: Any) -> None:
        self.bars = drawn.bars()
        self.desk = DecisionEngine(rules(venue=SIMULATOR_CAPABILITIES, **settings), session(), EQUITY, name)
        self.venue = MatchingEngine(FREE, session(), self.bars.symbols)
        self.sent: list[str] = []
        self.cancelled: list[str] = []
        self.reasons: list[Reason] = []
        self.next = 25

    def walk(self, *proposals: Proposal, last: int) -> Day:
        """The minutes from the first signal, or from the last one, on."""
        for minute in range(self.next, last + 1):
            self.venue.match(self.bars, minute)
            self.book()
            self.desk.mark(self.bars, minute)
            self.act(self.desk.position_manager.orders_after_minute(self.bars, minute), minute)
            self.book()
            self.act(self.desk.position_manager.orders_due_now(), minute)
            due = [one for one in proposals if one.minute == minute]
            decisions = self.desk.decide(due)
            decisions += self.desk.top_up(self.desk.position_manager.top_ups.proposals(self.bars, minute))
            self.reasons += [decision.reason for decision in decisions]
            self.act([SubmitOrder(order=one.order) for one in decisions if one.order is not None], minute)
            self.book()
        self.next = last + 1
        return self

    def act(self, actions: Sequence[TradingCommand], minute: int) -> None:
        """Send orders and cancels."""
        for action in actions:
            if isinstance(action, SubmitOrder):
                one = action.order
                self.sent.append(f"{minute} {'buy' if one.buy else 'sell'} {one.quantity} {one.symbol} {one.leg}")
                assert [(part.leg, part.symbol) for part in one.protection] in ([], [(Leg.STOP, "DOWN")])
                self.venue.accept(one, minute)
            elif isinstance(action, CancelOrder):
                self.cancelled.append(action.client_order_id)
                self.venue.cancel(action.client_order_id)

    def book(self) -> None:
        """Apply the venue's events."""
        for event in self.venue.events():
            self.desk.book.tickets[event.client_order_id].on_answer(BROKER_EVENT_KINDS[event.kind])
            self.desk.position_manager.on_order_event(event)


@pytest.mark.parametrize(
    ("instrument", "price", "quantity", "cost"),
    [(FUND, 20.0, "39", "780"), (PUT, 2.0, "4", "800")],
    ids=["fund", "put"],
)
def test_the_signals_bars_decide_the_exit_of_what_is_held(
    instrument: Instrument, price: float, quantity: str, cost: str
) -> None:
    """AAA closes above the stop of the short signal: what was bought for it is sold, at its own price.

    Its own bars fall before that, and change nothing but its value.
    """
    drawn = draft().bar(40, price * 0.98, instrument.symbol).bar(50, 103.0)
    drawn.bar(51, price * 0.75, instrument.symbol)
    day = Day(drawn).walk(short(instrument, price), last=40)
    (position,) = day.desk.portfolio.positions.values()
    assert (position.signal.symbol, position.symbol, position.side) == ("AAA", instrument.symbol, Side.LONG)
    assert dollars_of(position.cost_atoms) == Decimal(cost)
    assert dollars_of(position.pnl_atoms) == -Decimal(cost) * 2 / 100
    assert day.desk.portfolio.equity_atoms == EQUITY + position.pnl_atoms
    day.walk(last=60)
    symbol = instrument.symbol
    assert day.sent == [f"25 buy {quantity} {symbol} entry", f"50 sell {quantity} {symbol} exit"]
    (trade,) = [one.to_trade() for one in day.desk.portfolio.closed]
    assert (trade.symbol, trade.side, trade.exit_reason) == (symbol, Side.LONG, ExitReason.STOP)
    assert (trade.entry_price, trade.exit_price) == (Decimal(str(price)), Decimal(str(price)) * 3 / 4)
    assert trade.pnl == -Decimal(cost) / 4
    assert day.desk.portfolio.cash_atoms == day.desk.portfolio.equity_atoms == EQUITY - atoms_of(Decimal(cost)) // 4


@pytest.mark.parametrize(
    ("fields", "exit_minute", "reason"),
    [
        ({"target": 97.0}, 45, ExitReason.TARGET),
        ({"exits": ExitRules(trailing=True)}, 47, ExitReason.TRAILING_STOP),
        ({}, 59, ExitReason.TIME),
    ],
    ids=["target", "trail", "time"],
)
def test_target_trail_and_time_are_those_of_the_signal(
    fields: dict[str, Any], exit_minute: int, reason: ExitReason
) -> None:
    """AAA falls to 96 and comes back to 99.5: the levels are prices of AAA, the orders those of the fund."""
    drawn = draft()
    drawn.bar(45, 96.0, open=100.0).bar(46, 96.0).bar(47, 99.5)
    day = Day(drawn).walk(short(**fields), last=70)
    assert day.sent == ["25 buy 39 DOWN entry", f"{exit_minute} sell 39 DOWN exit"]
    assert [one.exit_reason for one in day.desk.portfolio.closed] == [reason]


def test_what_has_no_bars_keeps_its_last_mark() -> None:
    """It is valued by its own bars alone, never by those of the signal."""
    day = Day(draft()).walk(short(), last=30)
    (held,) = day.desk.book.held.values()
    assert held.price_row(day.bars) == PLACES.index("DOWN")
    bare = SessionDraft("AAA").bar(31, 50.0).bars()
    assert held.price_row(bare) is None
    day.desk.mark(bare, 31)
    assert held.position.mark == 200_000


def test_a_proxy_without_a_price_of_its_own_is_denied() -> None:
    """The signal's price is none of the fund's."""
    assert Day(draft()).walk(short(reference=None), last=25).reasons == [Reason.NO_QUOTE]


def other(instrument: Instrument = FUND, reference: float | None = 20.0, **fields: Any) -> Proposal:
    """The same of BBB."""
    of_aaa = short(instrument, reference, **fields)
    instrument = attrs.evolve(of_aaa.instrument, underlying="BBB")
    return attrs.evolve(of_aaa, signal=identity("BBB"), row=PLACES.index("BBB"), instrument=instrument)


def test_a_signals_symbol_and_its_put_are_entered_once() -> None:
    """While the put works or is held for AAA, neither AAA nor the put is entered again; AAA counts as traded."""
    day = Day(draft())
    own, same = proposal("PUTAAA", price=2.0, stop=1.9), other(PUT, 2.0)
    day.walk(short(PUT, 2.0), own, same, last=25)
    assert day.reasons == [Reason.ALLOWED, Reason.ALREADY_HELD, Reason.ALREADY_HELD]
    for minute in (26, 27):  # working, then held
        later = [attrs.evolve(one, signal=attrs.evolve(one.signal, minute=minute)) for one in (proposal(), own, same)]
        assert [day.desk.preview(one).reason for one in later] == [Reason.ALREADY_HELD] * 3
        day.venue.match(day.bars, 26)
        day.book()
    assert day.desk.exposure.traded == {"AAA"}


def test_a_fund_is_held_for_several_signals_and_for_none_beside_them() -> None:
    """Each signal has its lot; the fund itself is not entered while it stands for a signal, nor the other way round."""
    day, own = Day(draft()), proposal("DOWN", price=20.0, stop=19.0)
    day.walk(short(), other(), last=27)
    assert day.reasons == [Reason.ALLOWED, Reason.ALLOWED]
    assert [(lot.position.signal.symbol, lot.position.units) for lot in day.desk.book.held_in("DOWN")] == [
        ("AAA", 39 * UNITS_PER_SHARE),
        ("BBB", 19 * UNITS_PER_SHARE),
    ]
    assert day.desk.portfolio.holdings == {"DOWN": 58 * UNITS_PER_SHARE}
    assert day.desk.preview(own).reason is Reason.ALREADY_HELD
    direct = Day(draft()).walk(own, short(), last=27)
    assert sorted(direct.reasons) == [Reason.ALLOWED, Reason.ALREADY_HELD]


def test_holds_are_those_of_the_instrument() -> None:
    """A frozen fund is neither entered nor sold; a frozen AAA keeps its fund from neither."""
    day = Day(draft())
    day.desk.exposure.holds.add("DOWN", Hold.FROZEN, "it is halted")
    assert day.desk.preview(short()).reason is Reason.INSTRUMENT_FROZEN
    day.desk.exposure.holds.end("DOWN", Hold.FROZEN)
    day.desk.exposure.holds.add("AAA", Hold.FROZEN, "it is halted")
    day.walk(short(), last=58)
    day.desk.exposure.holds.add("DOWN", Hold.FROZEN, "it is halted")
    day.walk(last=62)
    assert day.sent == ["25 buy 39 DOWN entry"]
    day.desk.exposure.holds.end("DOWN", Hold.FROZEN)
    day.desk.position_manager.on_market_open()
    assert day.desk.book.held_in("DOWN")[0].exit_reason is None  # the blocked exit was given up
    day.walk(last=63)
    assert day.sent[1:] == ["63 sell 39 DOWN exit"]


def test_exposure_counts_the_proxys_cost_towards_its_index() -> None:
    """By the fund's own factor, else by that of its underlying times its leverage."""
    members = {"AAA": Decimal(1), "UP": Decimal(2)}
    assert index_factor(FUND, members) == -1
    assert index_factor(PUT, members) == -4
    assert index_factor(FUND, members | {"DOWN": Decimal(-3)}) == -3
    assert index_factor(stock("BBB"), members) is None
    day = Day(draft(), indices={"INDEX": members})
    day.walk(short(PUT, 2.0), last=25)
    working = day.desk.exposure.reserved
    assert working == 4 * atoms_of(Decimal(200))
    assert net_of(day.desk.exposure, members, -1) == 4 * working
    day.walk(last=26)
    held = day.desk.exposure.reserved
    assert held == 800 * ATOMS_PER_DOLLAR
    assert (net_of(day.desk.exposure, members, -1), net_of(day.desk.exposure, members, 1)) == (4 * held, -4 * held)


def test_the_index_limit_judges_the_proxys_leverage() -> None:
    """A put of 800 USD at a leverage of -4 is beyond a limit of 2,000 USD towards the short side."""
    day = Day(draft(), indices={"INDEX": {"AAA": Decimal(1)}}, max_index_exposure="0.02")
    decision = day.desk.preview(short(PUT, 2.0))
    assert (decision.reason, decision.value) == (Reason.INDEX_EXPOSURE, Decimal(3200))


def test_the_price_of_a_fill_is_compared_with_that_of_the_proxy() -> None:
    """A fund filled at its price deviates from nothing, although AAA is five times as dear."""
    day = Day(draft()).walk(short(), last=30)
    assert day.desk.exposure.deviations_in_row == 0
    assert day.desk.exposure.state is RiskState.NORMAL


def test_a_split_of_the_signals_stock_divides_levels_and_one_of_the_fund_its_shares() -> None:
    """The levels are prices of AAA, the shares are those of the fund."""
    day = Day(draft()).walk(short(), last=30)
    (held,) = day.desk.book.held.values()
    day.desk.position_manager.apply_split("AAA", Fraction(2))
    assert (held.plan.stop, held.plan.disaster_stop, held.position.units) == (510_000, 194_000, 39 * UNITS_PER_SHARE)
    day.desk.position_manager.apply_split("DOWN", Fraction(1, 2))
    assert (held.plan.stop, held.plan.disaster_stop) == (510_000, 388_000)
    assert held.position.units == 195 * UNITS_PER_SHARE // 10


def test_the_price_steps_of_the_fund_leave_the_levels_as_they_are() -> None:
    """They are prices of AAA; the stop that rests is put on the steps of the fund."""
    day = Day(draft()).walk(short(stop=102.01), last=30)
    (held,) = day.desk.book.held.values()
    level = held.plan.stop
    day.desk.exposure.instrument_rules["DOWN"] = InstrumentRules(symbol="DOWN", tick=Decimal(5))
    day.desk.position_manager.protection.on_instrument_rules("DOWN")
    assert (held.plan.stop, held.plan.tick_grid, held.plan.disaster_stop) == (level, 0, 200_000)


def test_a_put_is_bought_in_whole_contracts() -> None:
    """Also where fractions of shares are bought; a fund is bought in fractions there."""
    day = Day(draft(), fractional=True)
    contracts, shares = (day.desk.preview(short(one, price)) for one, price in ((PUT, 2.0), (FUND, 20.0)))
    assert contracts.order is not None
    assert shares.order is not None
    assert contracts.order.quantity == 4
    assert shares.order.quantity % 1


def test_a_proxy_is_topped_up_at_its_own_price() -> None:
    """Somebody sells 20 of its 39 shares: the fund is bought back at its price, as long as AAA is not near its exit."""
    settings = {"rebalance_enabled": True, "rebalance_top_up": True, "rebalance_check_interval": 300}
    for close, sent in ((100.0, ["29 buy 19 DOWN entry"]), (101.9, [])):
        day = Day(draft().bar(29, close), **settings).walk(short(exits=ExitRules()), last=27)
        sold = attrs.evolve(fill(order(quantity="20", buy=False), "20", execution="outside"), symbol="DOWN")
        day.desk.position_manager.on_external_change(sold)
        day.walk(last=29)
        assert day.sent[1:] == ["28 sell 19 DOWN stop", *sent]
        assert day.reasons[1:] == [Reason.ALLOWED if sent else Reason.TOP_UP_NEAR_EXIT]


def test_a_fill_of_something_else_is_surplus_of_a_stock() -> None:
    """A put was ordered and shares came: they cost their price once."""
    books = Portfolio(opening_atoms=EQUITY)
    shares = fill(order(symbol="AAA", quantity="5"), "100")
    assert books.apply(shares, None, Leg.ENTRY, ordered=PUT) is None
    (surplus,) = books.surplus
    assert (surplus.instrument, surplus.symbol) == (stock("AAA"), "AAA")
    assert EQUITY - books.cash_atoms == surplus.cost_atoms == surplus.value_atoms == 500 * ATOMS_PER_DOLLAR
    contracts = attrs.evolve(shares, symbol=PUT.symbol, price=Decimal(2), execution_id="2")
    assert books.apply(contracts, None, Leg.EXIT, ordered=PUT) is None
    assert books.cost_atoms == 1500 * ATOMS_PER_DOLLAR
    assert books.correct_fill(attrs.evolve(contracts, quantity=Decimal(0)), None) == contracts
    assert EQUITY - books.cash_atoms == 500 * ATOMS_PER_DOLLAR


def test_an_overfill_of_a_proxy_is_reversed_in_the_proxy() -> None:
    """More was filled than is held: the excess of the fund is sold, not AAA."""
    day = Day(draft()).walk(short(), last=58)
    manager = day.desk.position_manager
    day.walk(last=60)
    late = fill(attrs.evolve(day.desk.book.tickets["AAA entry"].order, quantity=Decimal(3)), "20", execution="9")
    day.desk.portfolio.apply(late, None, Leg.ENTRY, ordered=FUND)
    manager.overfills.confirmed = frozenset({"DOWN"})
    day.act(manager.orders_after_minute(day.bars, 61), 61)
    assert day.sent[-1] == "61 sell 3 DOWN exit"


def test_a_carried_position_in_a_proxy_is_sold() -> None:
    """What the last session could not close is closed at the open, in the fund."""
    day = Day(draft())
    bought = attrs.evolve(fill(order(quantity="10"), "20"), symbol="DOWN")
    carried = CarriedPosition(fill=bought, signal=identity(), attempts={}, account="A", instrument=FUND)
    day.desk.position_manager.recovery.restore_position(carried, 0)
    assert day.desk.book.held_in("DOWN")[0].position.instrument == FUND
    day.act(day.desk.position_manager.on_market_open(), 0)
    assert day.sent == ["0 sell 10 DOWN exit"]


def test_a_recorded_entry_of_a_proxy_is_counted_as_it_was() -> None:
    """A restart reserves the same amounts, and emulates the stop again."""
    before, after = Day(draft()), Day(draft())
    one = short(PUT, 2.0)
    entry = before.desk.decide([one])[0].order
    assert entry is not None
    assert (entry.type, entry.buy, entry.symbol) == (OrderType.LIMIT, True, "PUTAAA")
    after.desk.restore_entry(entry, one)
    assert after.desk.exposure.working == before.desk.exposure.working
    assert [(one.plan.on_close, one.plan.stop_rests) for one in after.desk.book.signals.values()] == [(True, False)]
    assert after.desk.book.tickets["AAA entry"].reference == 20_000


def test_the_disaster_stop_of_each_lot_rests_at_its_own_size() -> None:
    """At 1.5 times the distance of the stop of AAA, times the leverage: the sum of the stops is what is held."""
    day = Day(draft()).walk(short(), other(stop=104.0), last=30)
    stops = {lot.position.signal.symbol: lot.stop for lot in day.desk.book.held_in("DOWN")}
    assert {symbol: stop and stop.order.stop_price for symbol, stop in stops.items()} == {
        "AAA": Decimal("19.4"),
        "BBB": Decimal("18.8"),
    }
    assert sum(stop.open_units for stop in stops.values() if stop is not None) == day.desk.portfolio.holdings["DOWN"]


def test_a_leveraged_fund_rests_its_stop_farther_away() -> None:
    """A stop at 2 % and a leverage of 3: 9 % below the fund's price."""
    day = Day(draft())
    day.walk(short(attrs.evolve(FUND, leverage=Decimal(-3))), last=27)
    (held,) = day.desk.book.held.values()
    assert held.plan.resting_stop == 182_000


def test_the_disaster_stop_sells_one_lot_and_leaves_the_other() -> None:
    """The fund trades at 19.20: the lot whose stop is at 19.40 is sold, that at 18.80 is kept with its own stop."""
    drawn = draft().bar(40, 19.2, "DOWN")
    day = Day(drawn).walk(short(), other(stop=104.0), last=41)
    (kept,) = day.desk.book.held_in("DOWN")
    assert kept.position.signal.symbol == "BBB"
    assert kept.stop is not None
    assert kept.stop.open_units == kept.position.units
    (sold,) = day.desk.portfolio.closed
    assert (sold.signal.symbol, sold.exit_reason) == ("AAA", ExitReason.STOP)


def test_the_exit_of_one_lot_leaves_the_stop_of_the_other() -> None:
    """AAA closes above its stop: its lot is sold, and nothing that works for BBB is cancelled."""
    day = Day(draft().bar(50, 103.0)).walk(short(), other(), last=55)
    assert day.sent == ["25 buy 39 DOWN entry", "25 buy 19 DOWN entry", "50 sell 39 DOWN exit"]
    assert day.cancelled == ["AAA stop"]
    assert day.desk.portfolio.holdings == {"DOWN": 19 * UNITS_PER_SHARE}


def test_shares_that_others_sold_are_those_of_the_earliest_lot() -> None:
    """45 of 58 shares are gone: the lot of AAA is closed, that of BBB has 13, and a stop for as many."""
    day = Day(draft()).walk(short(), other(), last=30)
    manager, bought = day.desk.position_manager, day.desk.book.tickets["AAA entry"].order
    for number, gone in (("7", "39"), ("8", "6")):
        sold = fill(attrs.evolve(bought, buy=False, quantity=Decimal(gone)), "20", execution=number)
        manager.on_external_change(attrs.evolve(sold, client_order_id=""))
    (kept,) = day.desk.book.held_in("DOWN")
    assert (kept.position.signal.symbol, kept.position.units) == ("BBB", 13 * UNITS_PER_SHARE)
    day.walk(last=32)
    assert kept.stop is not None
    assert kept.stop.open_units == 13 * UNITS_PER_SHARE


def test_a_sale_by_others_lets_only_the_lots_that_it_may_close_wait() -> None:
    """Of 58 shares 30 were sold, then 20: the lot of AAA waits for a reading, then that of BBB too."""
    day = Day(draft()).walk(short(), other(), last=30)
    manager, bought = day.desk.position_manager, day.desk.book.tickets["AAA entry"].order
    waits = list[list[bool]]()
    for quantity in ("30", "20"):
        sold = fill(attrs.evolve(bought, buy=False, quantity=Decimal(quantity)), "20")
        manager.on_foreign_fill(sold, 100.0)
        waits.append([lot.reading_after is not None for lot in day.desk.book.held_in("DOWN")])
    assert waits == [[True, False], [True, True]]


def test_shares_of_a_fund_come_back_to_the_lots_that_they_left() -> None:
    """45 of 58 shares were missing, without an explanation, and are there again: both lots are whole."""
    day = Day(draft()).walk(short(), other(), last=30)
    manager, bought = day.desk.position_manager, day.desk.book.tickets["AAA entry"].order
    for number, gone in (("7", "39"), ("8", "6")):
        sold = fill(attrs.evolve(bought, buy=False, quantity=Decimal(gone)), "20", execution=number)
        manager.on_external_change(attrs.evolve(sold, client_order_id=""), unexplained=True)
    assert day.desk.portfolio.holdings == {"DOWN": 13 * UNITS_PER_SHARE}
    for back in manager.returned_fills("DOWN", Decimal(45)):
        manager.on_external_change(back)
    lots = {lot.position.signal.symbol: lot.position.units for lot in day.desk.book.held_in("DOWN")}
    assert lots == {"AAA": 39 * UNITS_PER_SHARE, "BBB": 19 * UNITS_PER_SHARE}
    assert day.desk.book.departed == {}


def test_a_fund_that_was_overfilled_stands_for_no_other_signal() -> None:
    """Its surplus belongs to none of them, and is to be sold first."""
    day = Day(draft()).walk(short(), last=30)
    late = fill(attrs.evolve(day.desk.book.tickets["AAA entry"].order, quantity=Decimal(3)), "20", execution="9")
    day.desk.portfolio.apply(late, None, Leg.ENTRY, ordered=FUND)
    assert day.desk.preview(other()).reason is Reason.ALREADY_HELD


def test_shares_that_come_back_are_those_of_the_latest_position_in_their_symbol() -> None:
    """Two signals held AAA one after the other, and the account showed neither any more: the first is forgotten."""
    day = Day(draft())
    manager, first = day.desk.position_manager, identity()
    second = attrs.evolve(first, strategy="mid")
    for number, (signal, quantity) in enumerate(((first, "10"), (second, "7"))):
        bought = fill(order(quantity=quantity), "100", execution=f"in {number}")
        carried = CarriedPosition(fill=bought, signal=signal, attempts={}, account="A")
        manager.recovery.restore_position(carried, 0)
        gone = attrs.evolve(bought, buy=False, execution_id=f"out {number}", client_order_id="")
        manager.on_external_change(gone, unexplained=True)
    assert manager.returned_fills("AAA", Decimal(10)) == []
    (back,) = manager.returned_fills("AAA", Decimal(7))
    assert (back.execution_id, back.quantity) == ("out 1", Decimal(0))


def test_an_emulated_trail_is_caught_up_after_a_restart() -> None:
    """The stop of AAA trailed while the bot was away; no order at the broker tells its level."""
    drawn = draft()
    for minute in range(30, 41):
        drawn.bar(minute, 96.0, low=95.0)
    trailing = short(exits=ExitRules(trailing=True))
    through, after = Day(drawn).walk(trailing, last=40), Day(drawn)
    (planned,) = through.desk.book.held.values()
    entry = through.desk.book.tickets["AAA entry"].order
    after.desk.restore_entry(entry, trailing)
    bought = attrs.evolve(fill(entry, "20"), time=planned.position.entry_time)
    after.desk.position_manager._apply_fill(bought, after.desk.book.tickets["AAA entry"], "")
    after.desk.position_manager.orders_after_minute(drawn.bars(), 40)
    (restored,) = after.desk.book.held.values()
    assert restored.plan.stop == planned.plan.stop < 1_020_000


def test_a_broker_without_brackets_gets_the_disaster_stop_after_the_fill() -> None:
    """Its level is a price of the fund; those of AAA are emulated on the bars of AAA."""
    desk = DecisionEngine(rules(venue=BrokerCapabilities(shortable=True)), session(), EQUITY, name)
    entry = desk.decide([short()])[0].order
    assert entry is not None
    desk.book.apply("AAA entry", BROKER_EVENT_KINDS["acknowledged"])
    (ticket,) = desk.book.tickets.values()
    filled = fill(entry, "20")
    desk.position_manager._apply_fill(filled, ticket, "")
    (placed,) = desk.position_manager.orders_due_now()
    assert isinstance(placed, SubmitOrder)
    assert (placed.order.leg, placed.order.symbol, placed.order.stop_price) == (Leg.STOP, "DOWN", Decimal("19.4"))
