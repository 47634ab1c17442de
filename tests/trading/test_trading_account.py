"""What an account's own rules allow: shorts, settled cash, day trades, an equity that cannot be right."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import BrokerCapabilities, DayTradeRule
from tbot_core.model.reasons import Reason
from tbot_core.model.types import ATOMS_PER_DOLLAR, Account, Leg, Side, dollars_of, stock
from tbot_core.testing.trades import fill, identity, order, proposal, rules, session
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.portfolio import CarriedPosition, Portfolio, Surplus
from tbot_core.trading.risk.account import AccountRules, day_trade_limit, equity_jumped, simulated_account
from tbot_core.trading.risk.gate import day_trades

if TYPE_CHECKING:
    from tbot_core.model.types import SignalId

EQUITY = 100_000 * ATOMS_PER_DOLLAR
LONG, SHORT = Side.LONG, Side.SHORT
WIDE: dict[str, Any] = dict.fromkeys(("max_gross_exposure", "max_risk_per_trade", "total_allocation"), Decimal(1))


def account(cash: str = "100000", **told: Any) -> Account:
    """An account that holds cash alone, and says no more of itself than is told."""
    return Account(account_id="A", equity=Decimal(cash), cash=Decimal(cash), **told)


def desk(said: Account, table: tuple[DayTradeRule, ...] = (), opening: int = EQUITY, **settings: Any) -> DecisionEngine:
    """A desk whose broker has spoken."""
    venue = BrokerCapabilities(brackets=True, replace="same_id", shortable=True, day_trade_rules=table)
    made = DecisionEngine(rules(venue=venue, **settings), session(), opening, lambda s, leg, n: f"{s.text}/{leg}/{n}")
    made.update_account(said)
    return made


def decided(made: DecisionEngine, symbol: str = "AAA", side: Side = LONG) -> str:
    """What becomes of a signal."""
    return made.decide([proposal(symbol, side=side)])[0].reason.name


def trade(portfolio: Portfolio, symbol: str, bought: str, sold: str | None, side: Side = LONG) -> None:
    """Ten shares bought and sold at these prices, 1 USD of fees each way; without the second they are held."""
    opens, closes = (bought, sold) if side is LONG else (sold, bought)
    for leg, price in ((Leg.ENTRY, opens), (Leg.EXIT, closes)):
        if price is not None:
            one = order(leg, symbol=symbol, quantity="10", buy=(leg is Leg.ENTRY) == (side is LONG))
            portfolio.apply(fill(one, price, fees="1.00"), identity(symbol), leg)


@pytest.mark.parametrize(("margin", "reason"), [(True, "ALLOWED"), (False, "CASH_LONG_ONLY"), (None, "CASH_LONG_ONLY")])
def test_only_an_account_with_margin_sells_short(margin: bool | None, reason: str) -> None:
    """In a cash account, and in one whose kind the broker does not tell, a short is denied; a long is not."""
    made = desk(account(margin=margin))
    assert decided(made, side=SHORT) == reason
    assert decided(made, "BBB") == "ALLOWED"


@pytest.mark.parametrize(("allowed", "reason"), [(True, "ALLOWED"), (None, "ALLOWED"), (False, "SHORTING_NOT_ALLOWED")])
def test_an_account_that_may_not_sell_short_does_not(allowed: bool | None, reason: str) -> None:
    """What the broker says of the account counts before what it says of the instrument."""
    made = desk(account(margin=True, shorting_allowed=allowed))
    assert decided(made, side=SHORT) == reason
    assert decided(made, "BBB") == "ALLOWED"


def test_what_was_paid_and_received_follows_each_fill() -> None:
    """Purchases with all fees, and sales before fees, of long and short trades and of unexpected fills."""
    books = Portfolio(opening_atoms=EQUITY)
    trade(books, "L", "100", "110")
    trade(books, "H", "50", None)
    trade(books, "S", "20", "30", SHORT)
    assert dollars_of(books.paid_atoms) == 1000 + 2 + 500 + 1 + 200 + 2
    assert dollars_of(books.received_atoms) == 1100 + 300
    books.surplus.append(Surplus(instrument=stock("X"), units=-2_000_000, price=100_000, fee_atoms=5, mark=0))
    books.surplus.append(Surplus(instrument=stock("Y"), units=1_000_000, price=100_000, fee_atoms=0, mark=0))
    assert books.paid_atoms == (1705 + 10) * ATOMS_PER_DOLLAR + 5
    assert dollars_of(books.received_atoms) == 1400 + 20


def test_a_cash_account_pays_with_settled_cash_only() -> None:
    """What the session's sales bring settles on the next one, so it buys nothing today, and no violation can follow."""
    made = desk(account("3000", margin=False), max_leverage=Decimal(4), weights=(Decimal("0.02"),) * 5, **WIDE)
    assert decided(made, "A") == "ALLOWED"
    assert decided(made, "B") == "UNSETTLED_CASH"
    made.exposure.working.clear()
    trade(made.portfolio, "A", "120", "130")
    payable = made.exposure.funds.available_atoms(made.portfolio)
    assert payable == (3000 - 1202) * ATOMS_PER_DOLLAR
    assert decided(made, "C") == "UNSETTLED_CASH"
    made.update_account(account("3098", margin=True))
    assert decided(made, "D") == "ALLOWED"


def test_settled_cash_does_not_grow_within_a_session() -> None:
    """A reading that shows the proceeds of sales, or is older than the books, gives no more than the first one."""
    funds, books = AccountRules(), Portfolio(opening_atoms=EQUITY)
    funds.update(account("5000", margin=False), books)
    trade(books, "A", "100", "200")
    funds.update(account("5998", margin=False), books)
    assert funds.settled_atoms == 5000 * ATOMS_PER_DOLLAR
    funds.update(account("9000", margin=False), books)
    assert funds.settled_atoms == 5000 * ATOMS_PER_DOLLAR
    funds.update(account("5998", margin=False, settled_cash=Decimal(400)), books)
    assert funds.settled_atoms == 1402 * ATOMS_PER_DOLLAR
    assert funds.available_atoms(books) == 400 * ATOMS_PER_DOLLAR
    restarted = AccountRules()
    restarted.update(account("5998", margin=False), books)  # its first reading comes after the sale
    assert restarted.settled_atoms == 5000 * ATOMS_PER_DOLLAR


def test_a_sale_that_crosses_a_reading_takes_nothing_from_settled_cash() -> None:
    """Cash without the sale, held against books with it, would be too little for the rest of the session."""
    funds, books = AccountRules(), Portfolio(opening_atoms=EQUITY)
    funds.update(account("5000", margin=False), books)
    trade(books, "A", "100", "200")
    funds.update(account("3999", margin=False, day_trades=3), books, crossed=True)
    assert (funds.settled_atoms, funds.day_trades) == (5000 * ATOMS_PER_DOLLAR, None)
    first = AccountRules()
    first.update(account("3999", margin=False), books, crossed=True)
    assert (first.margin, first.settled_atoms) == (False, None)


def test_what_had_settled_before_a_restart_has_settled_after_it() -> None:
    """A person's own sale of the day is cash that has not settled, whichever reading is the first to show it."""
    funds, books = AccountRules(), Portfolio(opening_atoms=EQUITY)
    funds.restore_settled(5000 * ATOMS_PER_DOLLAR)
    funds.update(account("9000", margin=False), books)
    assert funds.available_atoms(books) == 5000 * ATOMS_PER_DOLLAR
    funds.restore_settled(8000 * ATOMS_PER_DOLLAR)
    assert funds.available_atoms(books) == 5000 * ATOMS_PER_DOLLAR


def test_an_account_with_margin_is_not_held_to_its_settled_cash() -> None:
    """Buying power is its bound; an account of unknown kind that told nothing at all pays nothing."""
    funds, books = AccountRules(), Portfolio(opening_atoms=EQUITY)
    funds.update(account("5", margin=True), books)
    assert funds.available_atoms(books) is None
    assert AccountRules(margin=None).available_atoms(books) == 0


def test_a_simulated_account_has_margin() -> None:
    """Twice its equity less what it holds; without an equity it holds cash alone."""
    held = simulated_account("P", Decimal(100), Decimal(150), Decimal(50))
    assert held.margin
    assert (str(held.equity), str(held.buying_power)) == ("150", "250")
    assert simulated_account("P", Decimal(100)).buying_power == 200


RULE = DayTradeRule(until=date(2026, 1, 5), account="margin", equity_below=Decimal(25_000), max_day_trades=3)
SMALL = 20_000 * ATOMS_PER_DOLLAR


@pytest.mark.parametrize(
    ("on", "margin", "equity", "allowed"),
    [
        (5, True, SMALL, 3),
        (6, True, SMALL, None),
        (5, False, SMALL, None),
        (5, None, SMALL, None),
        (5, True, 25_000 * ATOMS_PER_DOLLAR, None),
        (5, True, 25_000 * ATOMS_PER_DOLLAR - 1, 3),
    ],
)
def test_a_day_trade_rule_holds_for_its_days_kind_and_equity(
    on: int, margin: bool | None, equity: int, allowed: int | None
) -> None:
    """Up to its last day, in accounts of its kind that are worth less than it says."""
    assert day_trade_limit((RULE,), date(2026, 1, on), AccountRules(margin=margin), equity) == allowed


def test_the_strictest_rule_in_force_counts() -> None:
    """Two rules of one broker both apply."""
    stricter = DayTradeRule(until=RULE.until, account="margin", equity_below=Decimal(30_000), max_day_trades=1)
    assert day_trade_limit((RULE, stricter), RULE.until, AccountRules(), SMALL) == 1


def test_an_entry_that_would_be_a_day_trade_too_many_is_denied() -> None:
    """All that is held and worked is closed today: each counts, on top of the broker's figure of five sessions."""
    made = desk(account("20000", margin=True, day_trades=1), (RULE,), SMALL, **WIDE)
    assert decided(made, "A") == "ALLOWED"
    trade(made.portfolio, "A", "10", "11")
    made.exposure.working.clear()
    assert decided(made, "B") == "ALLOWED"
    denied = made.decide([proposal("C")])[0]
    assert (denied.reason, denied.value, denied.limit) == (Reason.DAY_TRADES, 3, 3)
    made.update_account(account("20000", margin=True, day_trades=2))
    assert day_trades(made.exposure) == 3


def test_a_reading_older_than_the_books_forgets_no_day_trade() -> None:
    """It does not count the one that was closed since; those of the sessions before do not become fewer by that."""
    made = desk(account("20000", margin=True, day_trades=2), (RULE,), SMALL, **WIDE)
    trade(made.portfolio, "A", "10", "11")
    made.update_account(account("20000", margin=True, day_trades=2))
    assert day_trades(made.exposure) == 3
    assert decided(made, "B") == "DAY_TRADES"
    made.update_account(account("20000", margin=True, day_trades=4))
    assert day_trades(made.exposure) == 4


def left_over(made: DecisionEngine, symbol: str) -> SignalId:
    """A position of the session before, which is held on."""
    signal = attrs.evolve(identity(symbol), session=session().date - timedelta(days=1))
    carried = CarriedPosition(fill=fill(order(symbol=symbol), "100"), signal=signal, attempts={}, account="A")
    made.position_manager.recovery.restore_position(carried, None)
    return signal


def test_a_position_of_yesterday_makes_no_day_trade() -> None:
    """The broker counts none when it is closed, so it takes none of those that may still be made."""
    made = desk(account("20000", margin=True, day_trades=2), (RULE,), SMALL, **WIDE)
    signal = left_over(made, "A")
    assert day_trades(made.exposure) == 2
    made.portfolio.apply(fill(order(Leg.EXIT, symbol="A", buy=False), "101"), signal, Leg.EXIT)
    made.update_account(account("20000", margin=True, day_trades=2))
    assert day_trades(made.exposure) == 2
    assert decided(made, "B") == "ALLOWED"


def test_an_unknown_number_of_day_trades_denies_where_a_rule_is_in_force() -> None:
    """Elsewhere the figure is not needed."""
    assert decided(desk(account("20000", margin=True), (RULE,), SMALL)) == "DAY_TRADES"
    assert decided(desk(account("20000", margin=True), (), SMALL)) == "ALLOWED"
    assert decided(desk(account(margin=True), (RULE,))) == "ALLOWED"


@pytest.mark.parametrize(
    ("opening", "moved", "found"),
    [("120", "0", False), ("120.01", "0", True), ("80", "0", False), ("79.99", "0", True), ("200", "100", False)],
)
def test_an_equity_that_jumped_is_found(opening: str, moved: str, found: bool) -> None:
    """More than 20 % from the last close, cash that moved put aside."""
    assert equity_jumped(Decimal(opening), Decimal(100), Decimal(moved)) is found


def test_nothing_is_sized_by_an_equity_that_jumped() -> None:
    """Every entry is denied with that code, and the change is told with both figures."""
    made = desk(account(margin=True))
    made.exposure.record_equity_jump(Decimal(130), Decimal(100))
    assert decided(made) == "EQUITY_JUMP"
    told = made.exposure.pending_changes[0]
    assert (told.what, str(told.value), str(told.limit)) == ("equity jump", "130", "100")
