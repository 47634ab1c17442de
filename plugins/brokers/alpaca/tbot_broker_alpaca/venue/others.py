"""What others do in the account: a person in the vendor's own screen, or the vendor.

Shares that a resting stop would sell are reserved for it, so that a person cancels it first, as the vendor does before
it liquidates. Either sells by a market order under an id that is not the bot's. Orders, positions and activities list
it like any other; no field says who sent it.
"""

from __future__ import annotations

from decimal import ROUND_UP, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tbot_broker_alpaca.venue.account import VenueAccount


def cancel_by_hand(account: VenueAccount, symbol: str) -> None:
    """A person cancels the orders of a symbol, and does nothing more."""
    for order in [one for one in account.open_orders if one.symbol == symbol]:
        account.end(order, "canceled")


def close_by_hand(account: VenueAccount, symbol: str, share: Decimal = Decimal(1)) -> None:
    """A person cancels the orders of a symbol and closes a share of the position; it fills with the next trade."""
    if symbol in account.held:
        cancel_by_hand(account, symbol)
        _send_closing(account, symbol, share)


def liquidate(account: VenueAccount, symbol: str, share: Decimal = Decimal(1)) -> None:
    """The vendor cancels the orders of a symbol and closes the position, or a share for a margin call, at once."""
    if symbol in account.held:
        close_by_hand(account, symbol, share)
        account.trade(symbol)


def _send_closing(account: VenueAccount, symbol: str, share: Decimal) -> None:
    held, _ = account.held[symbol]
    quantity = (abs(held) * share).to_integral_value(ROUND_UP)
    side = "sell" if held > 0 else "buy"
    account.submit({"symbol": symbol, "qty": quantity, "side": side, "type": "market", "time_in_force": "day"})
    account.settle()
