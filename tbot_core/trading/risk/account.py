"""The account's own rules besides the limits of the settings: shorts, settled cash, day trades, buying power.

Pure. Unknown facts count against the account: one of unknown type has the rules of a cash account.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from tbot_core.contracts import AccountKind
from tbot_core.model.types import Account, atoms_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from tbot_core.contracts import DayTradeRule
    from tbot_core.trading.portfolio import Portfolio

Money = TypeVar("Money", int, Decimal)

LEVERAGE: Final = 2
"""Leverage of a simulated account: that of a US margin account overnight."""

JUMP: Final = Decimal("0.20")
"""The largest change of equity between two sessions, as a fraction of the last close's, without cash transfers."""


@attrs.define(kw_only=True)
class AccountRules:
    """What the account allows, as the broker reported last; None where it reports nothing.

    `power_limit_atoms`: the largest cost of positions and entries together. `settled_atoms`: what a cash account may
    pay in this session, without the session's own sales, which settle later. `day_trades`: those of the last five
    sessions without this session's trades. `shorting_allowed`: false if the broker forbids short sales.
    """

    power_limit_atoms: int | None = None
    margin: bool | None = True
    settled_atoms: int | None = None
    day_trades: int | None = None
    shorting_allowed: bool | None = None

    def update(self, account: Account, portfolio: Portfolio, *, crossed: bool = False) -> None:
        """Apply a broker's report of the account; `portfolio` has the session's trades.

        Within a session settled cash never grows and the number of earlier day trades never falls, so that a report
        older than the books cannot allow too much. `crossed`: the report may be older or newer than the books, so that
        a trade could count twice; then only margin, short sales and buying power are applied.
        """
        self.margin, self.shorting_allowed = account.margin, account.shorting_allowed
        power = account.buying_power
        self.power_limit_atoms = None if power is None else atoms_of(power) + portfolio.cost_atoms
        if crossed:
            return
        cash = atoms_of(account.cash) - portfolio.received_atoms
        if account.settled_cash is not None:
            cash = min(cash, atoms_of(account.settled_cash))
        self.restore_settled(cash + portfolio.paid_atoms)
        reported, ours = account.day_trades, portfolio.count_opened_today(portfolio.closed)
        self.day_trades = None if reported is None else max(self.day_trades or 0, reported - ours)

    def restore_settled(self, settled: int) -> None:
        """Lower the settled cash to that of a reading of this session, also one from before a restart."""
        self.settled_atoms = settled if self.settled_atoms is None else min(settled, self.settled_atoms)

    def available_atoms(self, portfolio: Portfolio) -> int | None:
        """The settled cash left for entries, in atoms; None for a margin account, which has no such limit."""
        return None if self.margin else (self.settled_atoms or 0) - portfolio.paid_atoms


def day_trade_limit(rules: Iterable[DayTradeRule], on: date, funds: AccountRules, equity_atoms: int) -> int | None:
    """The smallest limit of day trades in five sessions of the rules in force; None if none is in force."""
    kind = AccountKind.MARGIN if funds.margin else AccountKind.CASH
    found = [
        rule.max_day_trades
        for rule in rules
        if on <= rule.until and rule.account == kind and equity_atoms < atoms_of(rule.equity_below)
    ]
    return min(found, default=None)


def equity_jumped(opening: Decimal, closing: Decimal, moved: Decimal) -> bool:
    """Whether opening equity differs from the last close by more than `JUMP`, without the cash that `moved`."""
    return abs(opening - moved - closing) > JUMP * abs(closing)


def buying_power(equity: Money, gross: Money | None = None) -> Money:
    """The buying power left in a simulated account with this equity and gross exposure; dollars, or atoms."""
    zero = equity * 0
    return max(LEVERAGE * equity - (zero if gross is None else gross), zero)


def simulated_account(
    account_id: str, cash: Decimal, equity: Decimal | None = None, gross: Decimal = Decimal(0)
) -> Account:
    """The margin account that a simulated broker reports; without `equity` it holds only cash."""
    worth = cash if equity is None else equity
    return Account(
        account_id=account_id,
        equity=worth,
        cash=cash,
        buying_power=buying_power(worth, gross),
        margin=True,
        live=False,
        evidence="the account is simulated",
    )
