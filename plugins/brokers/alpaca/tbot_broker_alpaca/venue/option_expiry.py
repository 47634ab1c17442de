"""What happens to options on the day that they expire, by the vendor's documentation.

From half an hour before the close it accepts no order that opens a position, and sells what is in the money and cannot
be exercised for want of shares or buying power. After the close it exercises what is in the money by a cent, whether
the account has the shares or not: a put that the vendor did not sell leaves a short position. The rest expires.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from tbot_broker_alpaca.venue import others
from tbot_broker_alpaca.venue.options import OPTION_SYMBOL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_broker_alpaca.venue.account import VenueAccount
    from tbot_broker_alpaca.venue.options import OptionContract

_IN_THE_MONEY: Final = Decimal("0.01")


def settle(account: VenueAccount) -> None:
    """Let the orders of an account work, and do what is due to the options that expire."""
    _liquidate(account)
    account.settle()
    _expire(account)


def _liquidate(account: VenueAccount) -> None:
    # Sell what expires today in the money and cannot be exercised, where the vendor does so and there is a quote.
    # The refusals that a test has planned are for the client's orders.
    if not account.liquidates_expiring or account.refusals:
        return
    for contract in _held(account):
        options, working = account.market.options, [one for one in account.open_orders if one.contract == contract]
        due = account.now >= contract.last_opening and _is_in_the_money(account, contract)
        selling = any(one.type == "market" for one in working)
        quoted = options.is_tradable(contract) and options.firm_quote(contract) is not None
        if due and quoted and not selling and not _can_exercise(account, contract):
            others.close_by_hand(account, contract.symbol)


def _expire(account: VenueAccount) -> None:
    # Exercise what has expired in the money, and take the rest out of the account.
    for contract in _held(account):
        if account.now < contract.ends_at:
            continue
        quantity, _ = account.held[contract.symbol]
        if not _is_in_the_money(account, contract):
            account.pay("OPEXP", Decimal(0), symbol=contract.symbol, quantity=-quantity)
            continue
        shares = quantity * contract.size * (1 if contract.call else -1)
        paid = quantity * contract.strike * contract.multiplier * (-1 if contract.call else 1)
        account.pay("OPEXC", Decimal(0), symbol=contract.symbol, quantity=-quantity)
        account.pay("OPTRD", paid, symbol=contract.underlying, quantity=shares, price=abs(paid / shares))


def _held(account: VenueAccount) -> Iterator[OptionContract]:
    for symbol in [symbol for symbol in account.held if OPTION_SYMBOL.fullmatch(symbol)]:
        if (contract := account.market.options.find(symbol)) is not None:
            yield contract


def _is_in_the_money(account: VenueAccount, contract: OptionContract) -> bool:
    return contract.intrinsic(account.market.listings[contract.underlying].price) >= _IN_THE_MONEY


def _can_exercise(account: VenueAccount, contract: OptionContract) -> bool:
    quantity, _ = account.held[contract.symbol]
    if contract.call:
        return account.buying_power >= quantity * contract.strike * contract.multiplier
    shares, _ = account.held.get(contract.underlying, (Decimal(0), Decimal(0)))
    return shares >= quantity * contract.size
