"""The risk gate: each limit at its edge, in order, on the worst case."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.contracts import InstrumentRules
from tbot_core.contracts.settings import RiskSettings
from tbot_core.model.reasons import Reason
from tbot_core.model.types import (
    ATOMS_PER_DOLLAR,
    UNITS_PER_SHARE,
    Account,
    Fill,
    Leg,
    OrderType,
    RiskState,
    Side,
    dollars_of,
    stock,
)
from tbot_core.testing.trades import fill, identity, order, session
from tbot_core.trading.portfolio import Portfolio, Surplus
from tbot_core.trading.risk.exposure import (
    ExposureBook,
    ReservedEntry,
    block_entries,
    count_traded,
    is_below_minimum,
    is_tradable,
    lose_plugin,
    lot_of,
    net_of,
    share_exposure,
    window_pnl,
)
from tbot_core.trading.risk.gate import (
    RiskEngine,
    available_buying_power,
    loss_limit_breached,
    review_loss_limits,
)
from tbot_core.trading.risk.holds import Hold
from tbot_core.trading.risk.limits import Limits
from tbot_core.trading.risk.sizing import SizedEntry
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable

EQUITY = 100_000 * ATOMS_PER_DOLLAR
LONG, SHORT = Side.LONG, Side.SHORT
INDICES = {"S&P 500": {"SPY": Decimal(1), "SH": Decimal(-1), "SSO": Decimal(2)}, "Nasdaq": {"QQQ": Decimal(1)}}


def standing(**fields: Any) -> ExposureBook:
    """A session that opened with 100,000 USD."""
    return ExposureBook(portfolio=Portfolio(opening_atoms=EQUITY), **fields)


def limits(*, defense: bool = False, **settings: Any) -> Limits:
    """The limits of that session."""
    return Limits.of(RiskSettings(**settings), EQUITY, defense=defense)


def account(buying_power: int | None) -> Account:
    """A margin account that may hold so much more."""
    power = None if buying_power is None else Decimal(buying_power)
    cash = Decimal(100_000)
    return Account(account_id="A", equity=cash, cash=cash, buying_power=power, margin=True)


def hold(now: ExposureBook, symbol: str, dollars: int, side: Side = LONG, strategy: str = "open") -> ExposureBook:
    """Add a position that cost so much, at 100 USD a share."""
    bought = order(Leg.ENTRY, symbol=symbol, buy=side is LONG)
    shares = str(Decimal(dollars) / 100)
    now.portfolio.apply(fill(bought, "100", shares), identity(symbol, strategy=strategy), Leg.ENTRY)
    return now


def work(now: ExposureBook, symbol: str, dollars: int, side: Side = LONG) -> ExposureBook:
    """Add a working entry of that worst case."""
    atoms = dollars * ATOMS_PER_DOLLAR
    now.working[symbol] = ReservedEntry(
        signal=identity(symbol), instrument=stock(symbol), side=side, worst_atoms=atoms, power_atoms=atoms
    )
    return now


def planned(dollars: int, worst: int = 1_000_000, reference: int = 1_000_000, symbol: str = "AAA") -> SizedEntry:
    """An entry at 100 USD of that worst case."""
    units = dollars * ATOMS_PER_DOLLAR // worst
    return SizedEntry(instrument=stock(symbol), type=OrderType.LIMIT, price=worst, units=units, reference=reference)


def test_fractions_become_amounts() -> None:
    """Of the session's opening equity, rounded down; MAX_SYMBOL_EXPOSURE unset is MAX_RISK_PER_TRADE."""
    found = limits(max_order_notional=Decimal(1500))
    dollars = {
        name: dollars_of(getattr(found, name))
        for name in ("budget", "per_trade", "per_symbol", "per_index", "gross", "leverage", "order_notional")
    }
    assert dollars == {
        "budget": 2000,
        "per_trade": 2500,
        "per_symbol": 2500,
        "per_index": 4000,
        "gross": 10_000,
        "leverage": 100_000,
        "order_notional": 1500,
    }
    assert (dollars_of(found.daily_loss), dollars_of(found.window_loss)) == (Decimal(5000), Decimal(200))
    assert dollars_of(limits(max_symbol_exposure=Decimal("0.01")).per_symbol) == 1000


@pytest.mark.parametrize(
    ("first", "cap", "allowed", "setting"),
    [
        (True, 500, 500, "FIRST_LIVE_DAY_MAX_ORDER_NOTIONAL"),
        (False, 500, 2500, "MAX_RISK_PER_TRADE"),
        (True, 0, 2500, "MAX_RISK_PER_TRADE"),
        (True, 2500, 2500, "MAX_RISK_PER_TRADE"),
    ],
)
def test_on_the_first_live_day_an_entry_has_a_cap_in_dollars(
    cap: int, allowed: int, setting: str, *, first: bool
) -> None:
    """The smaller of the two caps counts; 0 switches it off, and so does an earlier live day."""
    risk = RiskSettings(first_live_day_max_order_notional=Decimal(cap))
    found = Limits.of(risk, EQUITY, defense=False, first_live_day=first)
    atoms, name = found.entry_cap
    assert (dollars_of(atoms), name) == (Decimal(allowed), setting)


@pytest.mark.parametrize(
    ("trades", "positions", "pct", "left"),
    [(4, 5, "66", (2, 3)), (4, 5, "50", (2, 2)), (1, 1, "99", (0, 0)), (4, 5, "100", (4, 5)), (4, 5, "0", (0, 0))],
)
def test_defense_rounds_its_counts_down(trades: int, positions: int, pct: str, left: tuple[int, int]) -> None:
    """floor(limit x DEFENSE_MODE_TRADE_LIMIT_PCT / 100) trades and positions, and the smaller budget."""
    settings = {"max_trades": trades, "max_open_positions": positions, "defense_mode_trade_limit_pct": Decimal(pct)}
    found = limits(defense=True, **settings)
    assert (found.max_trades, found.max_positions) == left
    assert dollars_of(found.budget) == 1000
    assert dollars_of(limits(defense=True, defense_mode_total_allocation=Decimal("0.5")).budget) == 2000


def closing(minute: int, name: str = "exit") -> Fill:
    """The last fill of an exit with this client order id, in a minute."""
    return attrs.evolve(fill(order(Leg.EXIT, name), "99"), time=session().moment(minute))


def losing(runs: int, then: int) -> ExposureBook:
    """A session after so many losing trades in a row, then so many winning ones."""
    now = standing()
    for minute, pnl in enumerate([-1] * runs + [1] * then):
        now.count_closed(closing(minute), pnl)
    return now


BEFORE: list[tuple[str, ExposureBook, dict[str, Any], Reason | None]] = [
    ("nothing", standing(), {}, None),
    ("disabled", standing(), {"disable_all_trades": True}, Reason.TRADING_DISABLED),
    ("halted", standing(state=RiskState.HALTED), {}, Reason.HALTED),
    ("exit-only", standing(state=RiskState.EXIT_ONLY), {}, Reason.EXIT_ONLY),
    ("daily loss", standing(daily_loss=True), {}, Reason.DAILY_LOSS),
    ("losing run", losing(3, 0), {"max_consecutive_losses": 3}, Reason.CONSECUTIVE_LOSSES),
    ("a run that ended", losing(3, 1), {"max_consecutive_losses": 3}, Reason.CONSECUTIVE_LOSSES),
    ("a shorter run", losing(2, 1), {"max_consecutive_losses": 3}, None),
    ("runs are off", losing(9, 0), {}, None),
    ("window loss", standing(window_loss={"open"}), {}, Reason.WINDOW_LOSS),
    ("another window's loss", standing(window_loss={"mid"}), {}, None),
    ("held", hold(standing(), "AAA", 100), {}, Reason.ALREADY_HELD),
    ("worked", work(standing(), "AAA", 100), {}, Reason.ALREADY_HELD),
    ("traded", standing(traded={"AAA"}), {}, Reason.SYMBOL_TRADED),
    ("3 sent", standing(sent={"open": 3}), {}, None),
    ("4 sent", standing(sent={"open": 4}), {}, Reason.MAX_TRADES),
    ("4 sent elsewhere", standing(sent={"mid": 4}), {}, None),
    ("4 open", hold(work(hold(hold(standing(), "B", 1), "C", 1), "D", 1), "E", 1), {}, None),
    (
        "5 open",
        work(work(hold(hold(hold(standing(), "B", 1), "C", 1), "D", 1), "E", 1), "F", 1),
        {},
        Reason.MAX_OPEN_POSITIONS,
    ),
    ("1 this minute", standing(sent_at=(25, 1)), {"max_orders_per_minute": 2}, None),
    ("2 this minute", standing(sent_at=(25, 2)), {"max_orders_per_minute": 2}, Reason.ORDER_RATE),
    ("2 the minute before", standing(sent_at=(24, 2)), {"max_orders_per_minute": 2}, None),
]


@pytest.mark.parametrize(("now", "settings", "reason"), [row[1:] for row in BEFORE], ids=[row[0] for row in BEFORE])
def test_states_and_counts(now: ExposureBook, settings: dict[str, Any], reason: Reason | None) -> None:
    """Each state, latch and count denies from its edge on, with its own code."""
    gate = RiskEngine(risk=RiskSettings(**settings), once_a_day=True)
    refusal = gate.before_sizing(now, limits(**settings), identity(), stock("AAA"))
    assert (refusal.reason if refusal else None) is reason


def having(**fields: Any) -> Callable[[ExposureBook], object]:
    """Gives a book these fields."""

    def change(book: ExposureBook) -> None:
        for name, value in fields.items():
            setattr(book, name, value)

    return change


def three_losses(book: ExposureBook) -> None:
    """Close three losing trades."""
    for minute in range(3):
        book.count_closed(closing(minute), -1)


CONDITIONS: list[tuple[Reason, Callable[[ExposureBook], object], dict[str, Any]]] = [
    (Reason.TRADING_DISABLED, having(), {"disable_all_trades": True}),
    (Reason.HALTED, having(imposed_state=RiskState.HALTED), {}),
    (Reason.DAILY_LOSS, having(daily_loss=True), {}),
    (Reason.NOT_ARMED, having(armed=False), {}),
    (Reason.EXIT_ONLY, having(state=RiskState.EXIT_ONLY), {}),
    (Reason.EXIT_ONLY, having(blocking_causes={StateCause.SURPLUS: "1 AAA"}), {}),
    (Reason.CONSECUTIVE_LOSSES, three_losses, {"max_consecutive_losses": 3}),
    (Reason.EQUITY_JUMP, having(equity_jump=True), {}),
    (Reason.WINDOW_LOSS, having(window_loss={"open"}), {}),
    (Reason.INSTRUMENT_FROZEN, lambda book: book.holds.add("AAA", Hold.FROZEN, "a split"), {}),
    (Reason.RULES_UNKNOWN, lambda book: book.holds.add("AAA", Hold.RULES_UNKNOWN), {}),
    (Reason.ALREADY_HELD, lambda book: hold(book, "AAA", 100), {}),
    (Reason.SYMBOL_TRADED, having(traded={"AAA"}), {}),
    (Reason.MAX_TRADES, having(sent={"open": 4}), {}),
    (Reason.MAX_OPEN_POSITIONS, lambda book: hold(book, "BBB", 100), {"max_open_positions": 1}),
    (Reason.ORDER_RATE, having(sent_at=(25, 2)), {"max_orders_per_minute": 2}),
]
"""What denies an entry by itself, in the order of the checks: how it comes about, and the settings that it needs."""


@pytest.mark.parametrize(
    "places",
    list(itertools.combinations_with_replacement(range(len(CONDITIONS)), 2)),
    ids=lambda places: "-".join(CONDITIONS[place][0].name for place in places),
)
def test_no_condition_lifts_another_one(places: tuple[int, int]) -> None:
    """Of two conditions at once, whichever came first, the earlier check names the denial; so does one alone."""
    settings = {name: value for place in places for name, value in CONDITIONS[place][2].items()}
    for order_of_events in (places, places[::-1]):
        book = standing()
        for place in order_of_events:
            CONDITIONS[place][1](book)
        gate = RiskEngine(risk=RiskSettings(**settings), once_a_day=True)
        refusal = gate.before_sizing(book, limits(**settings), identity(), stock("AAA"))
        assert (refusal.reason if refusal else None) is CONDITIONS[min(places)][0]


def test_one_trade_a_day_can_be_switched_off() -> None:
    """ONE_TRADE_PER_SYMBOL_PER_DAY=false lets a symbol in again."""
    gate = RiskEngine(risk=RiskSettings(), once_a_day=False)
    assert gate.before_sizing(standing(traded={"AAA"}), limits(), identity(), stock("AAA")) is None


def test_the_first_of_several_reasons_counts() -> None:
    """Checks keep their order: kill before loss before counts."""
    now = standing(state=RiskState.HALTED, daily_loss=True, sent={"open": 9})
    gate = RiskEngine(risk=RiskSettings(), once_a_day=True)
    seen = []
    for change in ({}, {"state": RiskState.EXIT_ONLY}, {"daily_loss": False}, {"state": RiskState.DEFENSE}):
        now = attrs.evolve(now, **change)
        refusal = gate.before_sizing(now, limits(), identity(), stock("AAA"))
        seen.append(refusal.reason if refusal else None)
    assert seen == [Reason.HALTED, Reason.DAILY_LOSS, Reason.EXIT_ONLY, Reason.MAX_TRADES]


AFTER: list[tuple[str, ExposureBook, SizedEntry, dict[str, Any], Reason | None]] = [
    ("nothing", standing(), planned(0), {}, Reason.QUANTITY_TOO_SMALL),
    ("band edge", standing(), planned(100, 1_050_000), {}, None),
    ("band", standing(), planned(100, 1_050_001), {}, Reason.PRICE_BAND),
    ("band below", standing(), planned(100, 949_999), {}, Reason.PRICE_BAND),
    ("trade edge", standing(), planned(2500), {}, None),
    ("trade", standing(), planned(2501), {}, Reason.TRADE_NOTIONAL),
    ("order edge", standing(), planned(500), {"max_order_notional": Decimal(500)}, None),
    ("order", standing(), planned(501), {"max_order_notional": Decimal(500)}, Reason.ORDER_NOTIONAL),
    ("symbol", standing(), planned(1001), {"max_symbol_exposure": Decimal("0.01")}, Reason.SYMBOL_EXPOSURE),
    ("gross edge", work(hold(standing(), "B", 4000), "C", 4000, SHORT), planned(2000), {}, None),
    ("gross", work(hold(standing(), "B", 4000), "C", 4000, SHORT), planned(2001), {}, Reason.GROSS_EXPOSURE),
    ("power edge", work(hold(standing(), "B", 400), "C", 400), planned(200), {"max_leverage": Decimal("0.01")}, None),
    (
        "power",
        work(hold(standing(), "B", 400), "C", 400),
        planned(201),
        {"max_leverage": Decimal("0.01")},
        Reason.BUYING_POWER,
    ),
]


@pytest.mark.parametrize(
    ("now", "plan", "settings", "reason"), [row[1:] for row in AFTER], ids=[row[0] for row in AFTER]
)
def test_worst_cases(now: ExposureBook, plan: SizedEntry, settings: dict[str, Any], reason: Reason | None) -> None:
    """Each limit lets exactly itself pass and denies what is more, with the figures compared."""
    gate = RiskEngine(risk=RiskSettings(**settings), once_a_day=True)
    refusal = gate.after_sizing(now, limits(**settings), LONG, plan)
    assert (refusal.reason if refusal else None) is reason
    if refusal is not None and reason is not Reason.QUANTITY_TOO_SMALL:
        assert isinstance(refusal.value, Decimal)
        assert isinstance(refusal.limit, Decimal)
        assert abs(refusal.value) > refusal.limit


def test_a_short_needs_buying_power_at_1_03_times_the_reference() -> None:
    """Ten shares at 100 USD: 1,030 USD short, 1,000 USD long."""
    gate = RiskEngine(risk=RiskSettings(max_leverage=Decimal("0.0102")), once_a_day=True, shortable=True)
    found = limits(max_leverage=Decimal("0.0102"))
    assert gate.after_sizing(standing(), found, LONG, planned(1000)) is None
    refusal = gate.after_sizing(standing(), found, SHORT, planned(1000))
    assert refusal is not None
    assert (refusal.reason, refusal.value, refusal.limit) == (Reason.BUYING_POWER, 1030, 1020)


@pytest.mark.parametrize(
    ("venue", "reported", "allowed"),
    [
        (False, "nothing", False),
        (False, None, False),
        (False, False, False),
        (False, True, True),
        (True, "nothing", True),
        (True, None, True),
        (True, False, False),
        (True, True, True),
    ],
)
def test_a_short_sale_needs_the_brokers_word(venue: bool, reported: bool | str | None, allowed: bool) -> None:
    """A symbol of which the broker does not report that it can be sold short is not; a long entry needs no report."""
    gate = RiskEngine(risk=RiskSettings(), once_a_day=True, shortable=venue)
    now = standing()
    if not isinstance(reported, str):
        now.instrument_rules["AAA"] = InstrumentRules(symbol="AAA", shortable=reported, easy_to_borrow=True)
    denied = gate.after_sizing(now, limits(), SHORT, planned(1000))
    assert (None if denied is None else denied.reason) is (None if allowed else Reason.NOT_SHORTABLE)
    assert gate.after_sizing(now, limits(), LONG, planned(1000)) is None


def test_the_smaller_of_leverage_and_the_broker_s_figure_counts() -> None:
    """What the broker granted goes down by what positions cost since, and comes back when they are closed."""
    gate = RiskEngine(risk=RiskSettings(), once_a_day=True)
    found = limits(max_leverage=Decimal("0.06"), max_gross_exposure=Decimal(1))

    def denied(now: ExposureBook, dollars: int) -> str | None:
        refusal = gate.after_sizing(now, found, LONG, planned(dollars, symbol="ZZZ"))
        return None if refusal is None else f"{refusal.reason.name} {refusal.limit:.0f}"

    now = standing()
    hold(now, "B", 1000)
    assert [denied(now, dollars) for dollars in (2500,)] == [None]
    now.funds.update(account(2000), now.portfolio)
    assert [denied(now, dollars) for dollars in (2000, 2001)] == [None, "BUYING_POWER 2000"]
    hold(now, "C", 500)
    assert [denied(now, dollars) for dollars in (1500, 1501)] == [None, "BUYING_POWER 1500"]
    work(now, "D", 500)
    assert [denied(now, dollars) for dollars in (1000, 1001)] == [None, "BUYING_POWER 1500"]
    sold = order(Leg.EXIT, symbol="B")
    now.portfolio.apply(fill(sold, "100", "10"), identity("B"), Leg.EXIT)
    assert [denied(now, dollars) for dollars in (2000, 2001)] == [None, "BUYING_POWER 2500"]
    now.funds.update(account(1_000_000), now.portfolio)
    assert [denied(now, 2500)] == [None]
    now.funds.update(account(None), now.portfolio)
    assert available_buying_power(now, found) == found.leverage - now.portfolio.cost_atoms


INDEX: list[tuple[str, ExposureBook, str, Side, int, bool]] = [
    ("edge", standing(), "SPY", LONG, 4000, True),
    ("beyond", standing(), "SPY", LONG, 4001, False),
    ("twice", standing(), "SSO", LONG, 2001, False),
    ("short", standing(), "SPY", SHORT, 4001, False),
    ("inverse", standing(), "SH", LONG, 4001, False),
    ("no fund", standing(), "AAA", LONG, 9000, True),
    ("another index", hold(standing(), "SPY", 4000), "QQQ", LONG, 4000, True),
    ("adds up", hold(standing(), "SPY", 3000), "SSO", LONG, 501, False),
    ("held nets", hold(standing(), "SPY", 3000), "SH", LONG, 7000, True),
    ("held nets no further", hold(standing(), "SPY", 3000), "SH", LONG, 7001, False),
    ("working adds", work(standing(), "SPY", 3000), "SSO", LONG, 501, False),
    ("working may not fill", work(standing(), "SPY", 3000), "SH", LONG, 4001, False),
    ("reducing is free", hold(standing(), "SPY", 9000), "SPY", SHORT, 4000, True),
]


@pytest.mark.parametrize(
    ("now", "symbol", "side", "dollars", "passes"), [row[1:] for row in INDEX], ids=[row[0] for row in INDEX]
)
def test_index_exposure_is_net_and_signed(
    now: ExposureBook, symbol: str, side: Side, dollars: int, passes: bool
) -> None:
    """Leverage x notional per index: positions net, inverse funds are negative, a working entry never helps."""
    loose: dict[str, Any] = {"max_risk_per_trade": Decimal(1), "max_gross_exposure": Decimal(1)}
    gate = RiskEngine(risk=RiskSettings(**loose), once_a_day=True, shortable=True, indices=INDICES)
    refusal = gate.after_sizing(now, limits(**loose), side, planned(dollars, symbol=symbol))
    assert (refusal.reason if refusal else None) is (None if passes else Reason.INDEX_EXPOSURE)


def lost(now: ExposureBook, dollars: int) -> ExposureBook:
    """Hold a thousand shares of AAA that have lost so much."""
    hold(now, "AAA", 100_000)
    now.sent["open"] = 1
    now.portfolio.mark("AAA", 1_000_000 - dollars * 10)
    return now


@pytest.mark.parametrize(
    ("dollars", "told", "state", "latched"),
    [
        (199, [], RiskState.NORMAL, False),
        (200, ["window loss latch of open"], RiskState.NORMAL, False),
        (2499, ["window loss latch of open"], RiskState.NORMAL, False),
        (2500, ["defense", "window loss latch of open"], RiskState.DEFENSE, False),
        (4999, ["defense", "window loss latch of open"], RiskState.DEFENSE, False),
        (5000, ["daily loss latch", "defense", "window loss latch of open"], RiskState.DEFENSE, True),
    ],
)
def test_losses_latch_at_their_limits(dollars: int, told: list[str], state: RiskState, latched: bool) -> None:
    """A loss of exactly the limit counts; each latch is told once and never cleared."""
    now = lost(standing(), dollars)
    assert [change.what for change in review_loss_limits(now, limits())] == told
    assert (now.state, now.daily_loss, now.window_loss) == (state, latched, {"open"} if told else set())
    now.portfolio.mark("AAA", 2_000_000)
    assert review_loss_limits(now, limits()) == []
    assert (now.state, now.daily_loss) == (state, latched)


@pytest.mark.parametrize(("fees", "latched"), [("0.00", False), ("0.49", False), ("0.50", True)])
@pytest.mark.parametrize("what", ["open", "closed", "surplus"])
def test_the_daily_loss_is_counted_after_fees(what: str, fees: str, latched: bool) -> None:
    """A loss of 4,999.50 USD in the price reaches a limit of 5,000 by the fees: of what is held, closed or surplus."""
    now, entry = standing(state=RiskState.DEFENSE), fill(order(Leg.ENTRY), "100", "100", fees=fees)
    now.portfolio.apply(entry, None if what == "surplus" else identity(), Leg.ENTRY)
    if what == "open":
        now.portfolio.mark("AAA", 500_050)
    elif what == "closed":
        now.portfolio.apply(fill(order(Leg.EXIT), "50.005", "100"), identity(), Leg.EXIT)
    else:
        now.portfolio.surplus[0].mark = 500_050
    assert loss_limit_breached(now, limits()) is latched
    review_loss_limits(now, limits())
    assert now.daily_loss is latched


def test_a_review_says_what_it_compared() -> None:
    """The change carries cause, value and limit in dollars."""
    change = review_loss_limits(lost(standing(), 5000), limits())[0]
    assert (change.cause, change.value, change.limit) == ("DAILY_LOSS_LIMIT reached", Decimal(-5000), Decimal(-5000))


@pytest.mark.parametrize(
    ("now", "own"),
    [
        (standing(), RiskState.NORMAL),
        (standing(state=RiskState.DEFENSE), RiskState.DEFENSE),
        (standing(state=RiskState.DEFENSE, daily_loss=True), RiskState.EXIT_ONLY),
        (standing(losing_run=True), RiskState.EXIT_ONLY),
    ],
)
def test_after_a_latch_the_session_leaves_exits_only(now: ExposureBook, own: RiskState) -> None:
    """What it asks for by itself is one of the four states."""
    assert now.own_state is own


def test_a_state_that_permits_less_is_not_loosened_to_defense() -> None:
    """Half of the daily limit used changes a normal state alone."""
    now = lost(standing(state=RiskState.EXIT_ONLY), 2500)
    review_loss_limits(now, limits())
    assert now.state is RiskState.EXIT_ONLY


def test_a_windows_profit_is_that_of_its_own_trades() -> None:
    """Open and closed positions of the strategy, at the marks, after fees."""
    now = hold(hold(standing(), "AAA", 1000), "BBB", 1000, strategy="mid")
    now.portfolio.mark("AAA", 1_010_000)
    sold = order(Leg.EXIT, symbol="BBB")
    now.portfolio.apply(fill(sold, "95", "10", fees="0.50"), identity("BBB", strategy="mid"), Leg.EXIT)
    assert dollars_of(window_pnl(now, "open")) == 10
    assert dollars_of(window_pnl(now, "mid")) == Decimal("-50.50")


def test_a_windows_profit_is_that_at_all_brokers() -> None:
    """Windows are added up by strategy; a surplus counts for the session, and for no window."""
    here, there = hold(standing(), "AAA", 1000), hold(hold(standing(), "AAA", 1000), "BBB", 1000, strategy="mid")
    share_exposure(there, here)
    for one in (here, there):
        one.portfolio.mark("AAA", 1_010_000)
    there.portfolio.mark("BBB", 980_000)
    here.portfolio.apply(fill(order(Leg.EXIT, symbol="CCC"), "50", "10", fees="3"), None, Leg.EXIT)
    assert [dollars_of(window_pnl(one, "open")) for one in (here, there)] == [20, 20]
    assert dollars_of(window_pnl(here, "mid")) == -20
    assert dollars_of(here.pnl_atoms) == 20 - 20 - 3


def test_a_run_of_losses_is_told_once() -> None:
    """MAX_CONSECUTIVE_LOSSES latches to the session's end, with its counts."""
    now = losing(3, 1)
    changes = review_loss_limits(now, limits(max_consecutive_losses=3))
    assert [(change.what, change.value, change.limit) for change in changes] == [
        ("losing run latch", Decimal(3), Decimal(3))
    ]
    assert review_loss_limits(now, limits(max_consecutive_losses=3)) == []
    assert review_loss_limits(losing(2, 0), limits(max_consecutive_losses=3)) == []


@pytest.mark.parametrize("reported", list(itertools.permutations([(40, "b", -1), (41, "a", 1), (41, "c", -1)])))
def test_losses_count_in_the_order_of_fills(reported: list[tuple[int, str, int]]) -> None:
    """By the time of the last fill, within a moment by client order id, however they were reported."""
    now = standing()
    for minute, name, pnl in reported:
        now.count_closed(closing(minute, name), pnl)
    assert (now.losses_in_row, now.most_losses_in_row) == (1, 1)
    now.count_closed(closing(41, "b"), -1)
    assert (now.losses_in_row, now.most_losses_in_row) == (2, 2)


def test_rejects_in_a_row_leave_exits_only() -> None:
    """An answer that is no rejection starts the count again; the third of three in a row is told."""
    now, risk = standing(), RiskSettings()
    for rejected in (True, True, False, True, True):
        now.count_answer(risk, rejected=rejected)
    assert now.state.word == "normal"
    for _ in range(2):
        now.count_answer(risk, rejected=True)
    assert now.state.word == "exit-only"
    assert [(change.what, change.cause, change.value) for change in review_loss_limits(now, limits())] == [
        ("exit-only", "MAX_REJECTS_IN_ROW", Decimal(3))
    ]


def test_f28_a_symbol_that_is_held_beyond_its_positions_is_not_entered() -> None:
    """Until what was filled too much is gone."""
    now = standing()
    now.portfolio.surplus.append(Surplus(instrument=stock("AAA"), units=-5, price=1, fee_atoms=0, mark=1))
    assert (now.is_busy("AAA"), now.is_busy("BBB")) == (True, False)
    now.portfolio.surplus.append(Surplus(instrument=stock("AAA"), units=5, price=1, fee_atoms=0, mark=1))
    assert not now.is_busy("AAA")


def test_where_the_account_can_be_read_trouble_is_handed_over() -> None:
    """Exits alone are allowed until somebody takes the trouble over, whose causes then last as long as they must."""
    troubles: dict[StateCause, str] = {}
    now, risk = standing(blocking_causes=troubles), RiskSettings()
    for _ in range(3):
        now.count_answer(risk, rejected=True)
    now.record_surplus("AAA", Decimal(5))
    assert troubles == {StateCause.REJECTS: "3 rejections", StateCause.SURPLUS: "5 AAA beyond what is held"}
    assert (now.current_state, now.pending_changes, now.rejects_in_row) == (RiskState.EXIT_ONLY, [], 0)
    troubles.clear()
    assert now.current_state is RiskState.NORMAL


def test_a_broker_whose_plugin_fails_allows_exits_only_at_that_broker() -> None:
    """The cause is handed over for its account alone; a simulation has nobody to hand it to."""
    failing, other, simulated = standing(blocking_causes={}), standing(blocking_causes={}), standing()
    for book in (failing, simulated):
        block_entries(book, StateCause.BROKER_PLUGIN, "poll: KeyError: 'id'")
    assert failing.blocking_causes == {StateCause.BROKER_PLUGIN: "poll: KeyError: 'id'"}
    assert [book.current_state for book in (failing, other, simulated)] == [
        RiskState.EXIT_ONLY, RiskState.NORMAL, RiskState.NORMAL
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("side", "prices", "told", "state"),
    [
        (LONG, ["101", "101", "101"], 0, RiskState.NORMAL),  # exactly 1 % is not more
        (LONG, ["101.01", "101.01", "101.01"], 3, RiskState.DEFENSE),
        (LONG, ["101.01", "100", "101.01", "101.01"], 3, RiskState.NORMAL),
        (LONG, ["90", "90", "90"], 0, RiskState.NORMAL),  # better than asked
        (SHORT, ["98.99", "98.99", "98.99"], 3, RiskState.DEFENSE),
        (SHORT, ["101.01", "101.01", "101.01"], 0, RiskState.NORMAL),
    ],
)
def test_fills_far_from_their_reference_are_told(side: Side, prices: list[str], told: int, state: RiskState) -> None:
    """Worse than the reference by more than MAX_FILL_DEVIATION_PCT is told; three in a row are defense."""
    now = standing()
    for price in prices:
        now.count_fill(RiskSettings(), Decimal(price), Decimal(100), side)
    changes = review_loss_limits(now, limits())
    assert [change.what for change in changes].count("fill deviation") == told
    assert now.state is state
    assert ("defense" in [change.what for change in changes]) is (state is RiskState.DEFENSE)


def test_defense_by_fills_does_not_loosen_another_state() -> None:
    """A fourth far fill changes nothing more, nor does one in a state that permits less."""
    now = standing(state=RiskState.EXIT_ONLY)
    for _ in range(4):
        now.count_fill(RiskSettings(), Decimal(102), Decimal(100), LONG)
    assert now.state is RiskState.EXIT_ONLY


wider = st.sampled_from(
    ["max_risk_per_trade", "max_gross_exposure", "max_index_exposure", "max_leverage", "price_band_pct"]
)


@given(wider, st.integers(0, 40), st.integers(0, 40), st.integers(1, 9000), st.sampled_from([LONG, SHORT]))
def test_a_wider_limit_never_denies_what_a_narrower_one_allows(
    name: str, narrow: int, more: int, dollars: int, side: Side
) -> None:
    """The gate is monotone in each limit."""
    now = work(hold(standing(), "SPY", 2000), "QQQ", 1000)

    def allowed(hundredths: int) -> bool:
        settings: dict[str, Any] = {"max_symbol_exposure": Decimal(1), name: Decimal(hundredths) / 100}
        gate = RiskEngine(risk=RiskSettings(**settings), once_a_day=True, shortable=True, indices=INDICES)
        plan = SizedEntry(
            instrument=stock("SSO"),
            type=OrderType.LIMIT,
            price=1_002_000,
            units=dollars * UNITS_PER_SHARE // 100,
            reference=1_000_000,
        )
        return gate.after_sizing(now, limits(**settings), side, plan) is None

    assert not allowed(narrow) or allowed(narrow + more)


def test_counting_what_was_sent() -> None:
    """Orders count by strategy for the session, and by minute for the rate."""
    now = standing()
    for strategy, minute in (("open", 25), ("open", 25), ("mid", 26)):
        now.count_sent(strategy, minute)
    assert (now.sent, now.sent_at) == ({"open": 2, "mid": 1}, (26, 1))


def test_what_stands_at_two_brokers_counts_as_one_but_for_what_is_an_accounts() -> None:
    """Exposure, places, counts and latches are one sum on both sides; what a person says of one side is its least."""
    here, there = work(hold(standing(), "A", 400), "B", 400), hold(standing(), "C", 100)
    share_exposure(there, here)
    for one in (here, there):
        assert one.gross() == here.reserved + there.reserved
        assert (one.position_count, one.is_busy("B"), one.is_busy("C"), one.is_busy("D")) == (3, True, True, False)
        assert net_of(one, {"A": Decimal(1), "B": Decimal(1), "C": Decimal(1)}, 1) == one.gross()
        assert one.pnl_atoms == here.portfolio.pnl_atoms + there.portfolio.pnl_atoms
    there.count_sent("open", 3)
    count_traded(there, "C")
    there.count_closed(closing(4), -1)
    there.latch("daily_loss")
    there.latch("window_loss", "open")
    assert (here.sent, here.sent_at, here.traded, here.losses_in_row) == ({"open": 1}, (3, 1), {"C"}, 1)
    assert (here.daily_loss, here.window_loss) == (True, {"open"})
    here.stated_atoms = here.reserved + 7
    assert there.gross() == here.reserved + there.reserved + 7
    here.stated_atoms = here.reserved - 7
    assert there.gross() == here.reserved + there.reserved


@pytest.mark.parametrize("state", [RiskState.NORMAL, RiskState.EXIT_ONLY])
def test_half_of_the_daily_loss_is_defense_at_every_broker(state: RiskState) -> None:
    """It is told once, whatever the state of the account that lost, and leaves a graver state as it is."""
    found = limits(daily_loss_limit=Decimal("0.01"), window_loss_limit=Decimal(1))
    here, there = hold(standing(state=state), "A", 1000), standing()
    share_exposure(there, here)
    here.portfolio.mark("A", 500_000)
    assert loss_limit_breached(here, found)
    assert [change.what for change in review_loss_limits(here, found)] == ["defense"]
    assert (here.current_state, there.current_state) == (max(state, RiskState.DEFENSE), RiskState.DEFENSE)
    assert (loss_limit_breached(here, found), review_loss_limits(here, found)) == (False, [])


def test_three_far_fills_in_a_row_are_defense_at_every_broker() -> None:
    """They are counted in their order wherever they come, and one that was good begins the count anew."""
    here, there = standing(), standing()
    share_exposure(there, here)
    for one, price in ((here, 102), (there, 100), (here, 102), (here, 102)):
        one.count_fill(RiskSettings(), Decimal(price), Decimal(100), LONG)
    assert (here.current_state, there.current_state) == (RiskState.NORMAL, RiskState.NORMAL)
    there.count_fill(RiskSettings(), Decimal(102), Decimal(100), LONG)
    assert (here.current_state, there.current_state) == (RiskState.DEFENSE, RiskState.DEFENSE)
    assert [change.cause for change in there.pending_changes] == ["MAX_FILL_DEVIATION_PCT", StateCause.DEVIATIONS.value]


def test_who_joins_a_session_in_defense_is_in_defense() -> None:
    """What concerns an account alone, such as rejections that leave exits only, stays at that account."""
    defended, barred, first, second = standing(state=RiskState.DEFENSE), standing(), standing(), standing()
    for _ in range(3):
        barred.count_answer(RiskSettings(), rejected=True)
    share_exposure(first, defended)
    share_exposure(second, barred)
    assert (first.current_state, second.current_state) == (RiskState.DEFENSE, RiskState.NORMAL)


def test_leverage_counts_both_brokers_and_a_grant_its_own() -> None:
    """What is held, worked or stated at one of them leaves less at the other, whatever that one grants itself."""
    gate = RiskEngine(risk=RiskSettings(), once_a_day=True)
    found = limits(max_leverage=Decimal("0.03"), max_gross_exposure=Decimal(1))
    here, there = work(hold(standing(), "A", 400), "B", 400), hold(standing(), "C", 200)
    share_exposure(there, here)

    def most(now: ExposureBook) -> int:
        refusal = gate.after_sizing(now, found, LONG, planned(2500, symbol="ZZZ"))
        assert refusal is not None
        assert refusal.reason is Reason.BUYING_POWER
        assert isinstance(refusal.limit, Decimal)
        return int(refusal.limit)

    assert (most(here), most(there)) == (2400, 2000)
    there.funds.update(account(100), there.portfolio)
    assert (most(here), most(there)) == (2400, 100)
    here.stated_atoms = 1500 * ATOMS_PER_DOLLAR
    there.funds.update(account(100_000), there.portfolio)
    assert most(there) == 1300


@pytest.mark.parametrize(
    ("facts", "units", "atoms", "below"),
    [
        (None, 1, 1, False),
        ({}, 1, 1, False),
        ({"minimum_quantity": Decimal(2)}, UNITS_PER_SHARE, ATOMS_PER_DOLLAR, True),
        ({"minimum_quantity": Decimal(1)}, UNITS_PER_SHARE, ATOMS_PER_DOLLAR, False),
        ({"minimum_notional": Decimal(5)}, UNITS_PER_SHARE, 4 * ATOMS_PER_DOLLAR, True),
        ({"minimum_notional": Decimal(5)}, UNITS_PER_SHARE, 5 * ATOMS_PER_DOLLAR, False),
    ],
)
def test_an_order_below_a_reported_minimum_is_recognised(
    facts: dict[str, Any] | None, units: int, atoms: int, below: bool
) -> None:
    """By its quantity or by its cost; without a report there is no minimum."""
    now = standing()
    if facts is not None:
        now.instrument_rules["AAA"] = InstrumentRules(symbol="AAA", **facts)
    assert is_below_minimum(now, "AAA", units, atoms) is below


@pytest.mark.parametrize(
    ("facts", "step", "tradable"),
    [
        (None, 1, True),
        ({}, 1, True),
        ({"quantity_step": Decimal("0.01")}, UNITS_PER_SHARE // 100, True),
        ({"quantity_step": Decimal("0.01"), "fractionable": False}, UNITS_PER_SHARE, True),
        ({"tradable": False}, 1, False),
    ],
)
def test_a_reported_step_and_state_of_trading_count(facts: dict[str, Any] | None, step: int, tradable: bool) -> None:
    """An instrument without fractions has whole shares, whatever its step."""
    now = standing()
    if facts is not None:
        now.instrument_rules["AAA"] = InstrumentRules(symbol="AAA", **facts)
    assert (lot_of(now, "AAA"), is_tradable(now, "AAA")) == (step, tradable)


def test_a_lost_plugin_blocks_nothing_in_a_simulation() -> None:
    """There a failure ends the run, so no cause is kept."""
    now = standing()
    lose_plugin(now, "filter/theirs")
    assert now.blocking_causes is None
