"""What the vendor refuses by the state of the account or the market: quantities, buying power, shorts, wash trades."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from tbot_broker_alpaca.venue.wire import forbidden, text_of, unprocessable

if TYPE_CHECKING:
    from tbot_broker_alpaca.venue.account import VenueAccount
    from tbot_broker_alpaca.venue.market import Listing
    from tbot_broker_alpaca.venue.orders import Terms, VenueOrder

_NO: Final = Decimal(0)
_SHORT_COST: Final = Decimal("1.03")


def opens_position(account: VenueAccount, order: VenueOrder) -> bool:
    """Whether an order opens a position, or adds to one."""
    held, _ = account.held.get(order.symbol, (_NO, _NO))
    return order.parent is None and (held >= 0 if order.buy else held <= 0)


def share_cost(order: VenueOrder | Terms, last: Decimal, half_spread: Decimal) -> Decimal:
    """What one share of an order that opens a position takes of the buying power."""
    if order.buy:
        return order.limit or max(order.stop or _NO, last + half_spread)
    return max(order.limit or _NO, (last + half_spread) * _SHORT_COST)


def assert_allowed(account: VenueAccount, terms: Terms, listing: Listing, instead_of: VenueOrder | None = None) -> None:
    """Raise Refusal where the account or the market excludes an order; `instead_of` is the one that it replaces."""
    others = [one for one in account.open_orders if one.symbol == listing.symbol and one is not instead_of]
    leg = instead_of is not None and instead_of.parent is not None
    if terms.quantity % 1 and not listing.fractionable:
        raise forbidden(f'asset "{listing.symbol}" is not fractionable')
    if terms.type == "stop" and terms.stop is not None:
        _assert_stop(terms.stop, listing, buy=terms.buy)
    if not leg:
        _assert_no_wash_trade(terms, others)
    held, _ = account.held.get(listing.symbol, (_NO, _NO))
    if held and (held > 0) is not terms.buy:
        _assert_quantity(terms, listing, held, others)
    elif not leg:
        _assert_affordable(account, terms, listing, instead_of)


def _assert_stop(stop: Decimal, listing: Listing, *, buy: bool) -> None:
    # A stop that has been traded through is refused, not triggered.
    if stop <= listing.price if buy else stop >= listing.price:
        words = f"stop price must be {'greater' if buy else 'less'} than current price"
        raise unprocessable(words, market_price=text_of(listing.price))


def _assert_no_wash_trade(terms: Terms, others: list[VenueOrder]) -> None:
    # Only two orders with limits that do not cross may work on both sides; legs of a complex order are exempt.
    for other in others:
        if other.buy is terms.buy or other.parent is not None:
            continue
        if terms.limit is not None and other.limit is not None:
            bought, sold = (terms.limit, other.limit) if terms.buy else (other.limit, terms.limit)
            if bought < sold:
                continue
        kind = "limit" if other.limit is not None else "market/stop"
        raise forbidden(
            "potential wash trade detected. use complex orders",
            existing_order_id=other.id,
            reject_reason=f"opposite side {kind} order exists",
        )


def _assert_quantity(terms: Terms, listing: Listing, held: Decimal, others: list[VenueOrder]) -> None:
    # What closes a position may not be more than is not promised to other orders: it never turns to the other side.
    closing = [one for one in others if one.buy is terms.buy and one.status != "held"]
    reserved = sum((one.remaining for one in closing), _NO)
    available = abs(held) - reserved
    if terms.quantity > available:
        requested = f"requested: {text_of(terms.quantity)}, available: {text_of(available)}"
        raise forbidden(
            f"insufficient qty available for order ({requested})",
            available=text_of(available),
            existing_qty=text_of(abs(held)),
            held_for_orders=text_of(reserved),
            related_orders=[one.id for one in closing],
            symbol=listing.symbol,
        )


def _assert_affordable(account: VenueAccount, terms: Terms, listing: Listing, instead_of: VenueOrder | None) -> None:
    if not terms.buy:
        _assert_shortable(account, terms, listing)
    half, power = account.market.half_spread, account.buying_power
    if instead_of is not None and opens_position(account, instead_of):
        power += share_cost(instead_of, listing.price, half) * instead_of.remaining
    cost = share_cost(terms, listing.price, half) * terms.quantity
    if cost > power:
        amounts = {"buying_power": text_of(round(power, 2)), "cost_basis": text_of(round(cost, 2))}
        raise forbidden("insufficient buying power", **amounts)


def _assert_shortable(account: VenueAccount, terms: Terms, listing: Listing) -> None:
    if not account.shorting_enabled or account.multiplier == 1:
        raise forbidden("account is not allowed to short")
    if terms.quantity % 1:
        raise unprocessable("fractional orders cannot be sold short")
    if not listing.shortable:
        raise unprocessable(f'asset "{listing.symbol}" cannot be sold short')
    if not listing.easy_to_borrow and terms.life != "day":
        raise unprocessable(f"only day orders are allowed for hard-to-borrow asset {listing.symbol}")
