"""What an account's own rules allow besides the limits of the settings: shorts, settled cash, day trades, its equity.

Pure. What a broker does not say of its account is not taken for granted: an account of unknown type is held to the
rules of a cash account.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import AccountKind
from tbot_core.model.types import Account, atoms_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from tbot_core.contracts import DayTradeRule
    from tbot_core.trading.portfolio import Portfolio

LEVERAGE: Final = 2
"""A simulated account holds up to so many times its equity, as a US margin account does overnight."""

JUMP: Final = Decimal("0.20")
"""A session's opening equity may lie this share of the last close's from it, cash that moved put aside."""


@attrs.define(kw_only=True)
class AccountRules:
    """What the account allows, as the broker said last; None where it does not say.

    `granted`: what positions and entries may cost together. `settled`: what a cash account may pay in this session, of
    which the session's own sales are no part, since they settle on the next one. `day_trades`: those of the last five
    sessions that this session's own trades are no part of. Before the first reading nothing is entered at all.
    """

    power_limit_atoms: int | None = None
    margin: bool | None = True
    settled_atoms: int | None = None
    day_trades: int | None = None

    def update(self, account: Account, portfolio: Portfolio, *, crossed: bool = False) -> None:
        """Take in what a broker says of an account whose trades of the session are in the portfolio.

        Neither does settled cash grow within a session nor does the number of day trades before it fall, so that a
        reading older than the books cannot give too much. `crossed`: it is not of the moment of the books, so that a
        trade would count twice, or against itself: of what only goes one way nothing is learned then.
        """
        self.margin = account.margin
        power = account.buying_power
        self.power_limit_atoms = None if power is None else atoms_of(power) + portfolio.cost_atoms
        if crossed:
            return
        cash = atoms_of(account.cash) - portfolio.received_atoms
        if account.settled_cash is not None:
            cash = min(cash, atoms_of(account.settled_cash))
        self.restore_settled(cash + portfolio.paid_atoms)
        told, ours = account.day_trades, portfolio.count_opened_today(portfolio.closed)
        self.day_trades = None if told is None else max(self.day_trades or 0, told - ours)

    def restore_settled(self, settled: int) -> None:
        """So much had settled by a reading of this session, which may have been before a restart."""
        self.settled_atoms = settled if self.settled_atoms is None else min(settled, self.settled_atoms)

    def available_atoms(self, portfolio: Portfolio) -> int | None:
        """What entries may still cost in atoms; None where the account has margin and the cash is no bound."""
        return None if self.margin else (self.settled_atoms or 0) - portfolio.paid_atoms


def day_trade_limit(rules: Iterable[DayTradeRule], on: date, funds: AccountRules, equity_atoms: int) -> int | None:
    """The least number of day trades that a rule in force allows in five sessions; None where none is in force."""
    kind = AccountKind.MARGIN if funds.margin else AccountKind.CASH
    found = [
        rule.most
        for rule in rules
        if on <= rule.until and rule.account == kind and equity_atoms < atoms_of(rule.equity_below)
    ]
    return min(found, default=None)


def equity_jumped(opening: Decimal, closing: Decimal, moved: Decimal) -> bool:
    """Whether a session's opening equity is not that of the last close, nor explained by the cash that `moved`."""
    return abs(opening - moved - closing) > JUMP * abs(closing)


def buying_power(equity: Decimal, gross: Decimal = Decimal(0)) -> Decimal:
    """How much more a simulated account may hold that is worth `equity` and holds `gross`, in dollars."""
    return max(LEVERAGE * equity - gross, Decimal(0))


def simulated_account(
    account_id: str, cash: Decimal, equity: Decimal | None = None, gross: Decimal = Decimal(0)
) -> Account:
    """What a simulated broker says of an account: one with margin; without `equity` it holds cash alone."""
    worth = cash if equity is None else equity
    return Account(account_id=account_id, equity=worth, cash=cash, buying_power=buying_power(worth, gross), margin=True)
