"""Orders of options: what the vendor refuses by their terms, their contract and the account, in its codes and words.

The account buys calls and puts, and sells what it holds: nothing is written.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Protocol

from tbot_broker_alpaca.venue.wire import forbidden, number_of, text_of, unprocessable

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from tbot_broker_alpaca.venue.market import VenueMarket
    from tbot_broker_alpaca.venue.options import OptionContract
    from tbot_broker_alpaca.venue.orders import Terms, VenueOrder

_NO: Final = Decimal(0)
_BUYS: Final = 2
"""The level from which on an account buys calls and puts."""


class OptionAccount(Protocol):
    """What the rules of option orders read of an account: see `VenueAccount`."""

    @property
    def market(self) -> VenueMarket:
        """Where it trades."""

    @property
    def now(self) -> dt.datetime:
        """The venue's time."""

    @property
    def options_level(self) -> int:
        """What kinds of orders it may send."""

    @property
    def options_buying_power(self) -> Decimal:
        """What it may spend on options, in USD."""

    @property
    def held(self) -> Mapping[str, tuple[Decimal, Decimal]]:
        """Quantity and average price of its positions by symbol."""


def contract_of(account: OptionAccount, given: Mapping[str, Any]) -> OptionContract:
    """The contract that an order names; raises Refusal for the account's level, the contract or the order's terms."""
    symbol, options = str(given["symbol"]), account.market.options
    if not account.options_level:
        raise forbidden("account not authorized to trade options")
    found = options.find(symbol)
    if found is None or not options.is_listed(found):
        raise unprocessable(f'contract "{symbol}" not found')
    if not options.is_active(found):
        raise unprocessable(f'contract "{symbol}" is expired')
    if not options.is_tradable(found):
        raise unprocessable(f'contract "{symbol}" is not tradable')
    _assert_terms(account, given)
    _assert_intent(account, given)
    return found


def assert_option_allowed(
    account: OptionAccount,
    terms: Terms,
    contract: OptionContract,
    others: list[VenueOrder],
    instead_of: VenueOrder | None,
) -> None:
    """Raise Refusal for an order or a replacement; `others` are those that work for the same contract."""
    if terms.life != "day":
        raise unprocessable("order_time_in_force provided not supported for options trading")
    if terms.limit is not None and terms.limit % (tick := account.market.options.tick(contract, terms.limit)):
        raise unprocessable(f"invalid limit_price {terms.limit}. it must be a multiple of {tick}")
    if terms.buy:
        _assert_affordable(account, terms, contract, instead_of)
        return
    held, _ = account.held.get(contract.symbol, (_NO, _NO))
    promised = sum((other.remaining for other in others if not other.buy), _NO)
    if terms.quantity > held - promised:
        raise forbidden("account not eligible to trade uncovered option contracts")


def _assert_terms(account: OptionAccount, given: Mapping[str, Any]) -> None:
    # What no order of options has.
    if given.get("order_class") not in {None, "", "simple"} or given.get("take_profit") or given.get("stop_loss"):
        raise unprocessable("complex orders not supported for options trading")
    if given.get("type") not in {"market", "limit"}:
        raise unprocessable("invalid order type for options trading")
    if given.get("time_in_force") != "day":
        raise unprocessable("order_time_in_force provided not supported for options trading")
    if given.get("notional"):
        raise unprocessable("notional orders are not supported for options trading")
    if given.get("extended_hours"):
        raise unprocessable("extended hours is not supported for options trading")
    if (number_of(given.get("qty"), "qty") or _NO) % 1:
        raise unprocessable("qty must be integer for options trading")
    if given["type"] == "market" and not account.market.is_open:
        raise unprocessable("options market orders are only allowed during market hours")


def _assert_intent(account: OptionAccount, given: Mapping[str, Any]) -> None:
    # The intent that an order states must be the one that it has by the position.
    inferred = "buy_to_open" if given.get("side") == "buy" else "sell_to_close"
    if given.get("side") == "sell" and given["symbol"] not in account.held:
        inferred = "sell_to_open"
    stated = given.get("position_intent")
    if stated is not None and stated != inferred:
        raise unprocessable(f"position intent mismatch, inferred: {inferred}, specified: {stated}")


def _assert_affordable(
    account: OptionAccount, terms: Terms, contract: OptionContract, instead_of: VenueOrder | None
) -> None:
    if account.options_level < _BUYS:
        raise forbidden("account not eligible to trade long option contracts")
    if account.now >= contract.last_opening:
        raise unprocessable(f'contract "{contract.symbol}" expires soon, unable to open new positions')
    price, half = account.market.options.prices(contract)
    available = account.options_buying_power
    if instead_of is not None:
        available += (instead_of.limit or _NO) * instead_of.remaining * contract.multiplier
    required = (terms.limit or price + half) * terms.quantity * contract.multiplier
    if required > available:
        amounts = f"required: {text_of(round(required, 2))}, available: {text_of(round(available, 2))}"
        raise forbidden(f"insufficient options buying power ({amounts})")
