"""The venue's account: cash, positions, orders and their life.

What the vendor refuses by the state of the account or the market: quantities, buying power, shorts, wash trades.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from tbot_broker_alpaca.venue.option_orders import assert_option_allowed, contract_of
from tbot_broker_alpaca.venue.options import OPTION_SYMBOL, OptionContract
from tbot_broker_alpaca.venue.orders import MATCHED, OPEN, Terms, VenueOrder, legs_of, replaced_terms
from tbot_broker_alpaca.venue.wire import Refusal, forbidden, id_of, invalid, not_found, stamp, text_of, unprocessable

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Mapping

    from tbot_broker_alpaca.venue.market import Listing, VenueMarket

_NO: Final = Decimal(0)

_ENDS: Final = {"canceled": "canceled_at", "expired": "expired_at", "rejected": "failed_at", "replaced": "replaced_at"}

_SHORT_COST: Final = Decimal("1.03")

_DESCRIPTIONS: Final = {"OPEXC": "Option Exercise", "OPEXP": "Option Expiry", "OPTRD": "Option Trade"}
"""What the vendor writes of each event of an option."""


class VenueAccount:
    """One account; `tell` is called with each trade update, and each of `observers` with an order that has changed.

    Each of `payment_observers` is called with the kind and symbol of an activity without an order.

    `multiplier` is the leverage of its buying power, 1 for a cash account. `depth` is what a trade fills of an order at
    most, None: all. `holds` are the steps that wait for `release`: new, cancel, replace. `refusals` are the answers to
    the next orders, whatever these are. `retired_fields`: its document has those that the vendor has withdrawn.
    `options_level` is 0 where options are not traded, 2 for purchases of calls and puts. `liquidates_expiring`: the
    vendor sells options that expire in the money and that the account cannot exercise.
    """

    def __init__(self, market: VenueMarket, tell: Callable[[dict[str, Any]], None], *, live: bool) -> None:
        self.market, self._tell, self.live = market, tell, live
        self.cash = self.last_equity = Decimal(100_000)
        self.multiplier = 2
        self.shorting_enabled = True
        self.options_level = 0
        self.liquidates_expiring = True
        self.buy_stop_collar: Decimal | None = None
        self.retired_fields = self.blocked = False
        self.held: dict[str, tuple[Decimal, Decimal]] = {}
        self.orders: list[VenueOrder] = []
        self.activities: list[dict[str, Any]] = []
        self.depth: Decimal | None = None
        self.holds: set[str] = set()
        self.refusals: list[Refusal] = []
        self.observers: list[Callable[[VenueOrder], None]] = []
        self.payment_observers: list[Callable[[str, str], None]] = []
        self._events = 0

    @property
    def now(self) -> dt.datetime:
        """The venue's time."""
        return self.market.clock.now()

    @property
    def open_orders(self) -> list[VenueOrder]:
        """The orders that have not ended, in the order of their arrival."""
        return [order for order in self.orders if order.status in OPEN]

    @property
    def values(self) -> dict[str, Decimal]:
        """The value of each position by its symbol, negative for one that was sold short."""
        return {
            symbol: quantity * self._prices(symbol)[0] * self._multiplier_of(symbol)
            for symbol, (quantity, _) in self.held.items()
        }

    @property
    def equity(self) -> Decimal:
        """Cash and the value of all positions."""
        return self.cash + sum(self.values.values(), _NO)

    @property
    def buying_power(self) -> Decimal:
        """What may be spent on further positions; working orders that open one count, and options have no leverage."""
        values = self.values
        gross = sum((abs(value) for symbol, value in values.items() if not OPTION_SYMBOL.fullmatch(symbol)), _NO)
        options = sum((value for symbol, value in values.items() if OPTION_SYMBOL.fullmatch(symbol)), _NO)
        opening = [order for order in self.open_orders if _opens_position(self, order)]
        reserved = sum((self._cost_of(order) * order.remaining for order in opening), _NO)
        base = self.cash if self.multiplier == 1 else self.multiplier * (self.equity - options) - gross
        return max(base - reserved, _NO)

    @property
    def options_buying_power(self) -> Decimal:
        """What may be spent on options, without leverage; where they are not traded, what other positions may take."""
        shown = round(self.buying_power, 2)
        return shown / self.multiplier if self.options_level else shown

    def find(self, order_id: str) -> VenueOrder:
        """An order by its id; raises Refusal for one that is not known."""
        return self._found(order_id, lambda order: order.id)

    def find_by_client_id(self, client_order_id: str) -> VenueOrder:
        """An order by the client's id; raises Refusal for one that is not known."""
        return self._found(client_order_id, lambda order: order.client_order_id)

    def submit(self, given: Mapping[str, Any]) -> VenueOrder:
        """Accept an order, or raise Refusal; `settle` lets it work afterwards."""
        if self.refusals:
            raise self.refusals.pop(0)
        symbol = str(given.get("symbol") or "")
        contract = contract_of(self, given) if OPTION_SYMBOL.fullmatch(symbol) else None
        terms = Terms.of(given)
        traded = self._listing(symbol) if contract is None else contract
        client_id = str(given.get("client_order_id") or id_of(f"client {len(self.orders)}"))
        if any(order.client_order_id == client_id for order in self.orders):
            raise invalid("client_order_id must be unique")
        legs = legs_of(given, terms)
        self._assert_allowed(terms, traded)
        order_class = str(given.get("order_class") or ("" if contract is None else "simple"))
        order = self._accept(terms, traded, client_id, order_class=order_class)
        for number, leg in enumerate(legs):
            part = self._accept(leg, traded, id_of(f"leg {order.id} {number}"), parent=order)
            part.order_class, part.status = order.order_class, "held"
            order.legs.append(part)
        return order

    def settle(self) -> None:
        """Let orders that have arrived work, match those of options, and end day orders after the close."""
        for order in self.open_orders:
            if self.market.is_open and order.status in {"accepted", "pending_new"}:
                if order.status == "accepted":
                    order.status = "pending_new"
                if "pending" not in order.times:
                    order.times["pending"] = self.now
                    self.report("pending_new", order)
                if "new" not in self.holds and not self._awaits(order):
                    order.status = "new"
                    self.report("new", order)
            elif order.life == "day" and self.now >= self._close_of(order):
                self.end(order, "expired")
            if order.contract is not None and order.status in MATCHED:
                self._match_option(order, order.contract)

    def cancel(self, order: VenueOrder) -> None:
        """Request a cancel; raises Refusal for an order that has ended."""
        if order.status not in OPEN:
            raise unprocessable(f'order is already in "{order.status}" state')
        if order.status in {"pending_cancel", "pending_replace"}:
            raise unprocessable(f"order {order.status.replace('_', ' ')}")
        if "cancel" in self.holds:
            order.status = "pending_cancel"
            self.report("pending_cancel", order)
        else:
            self.end(order, "canceled")

    def replace(self, order: VenueOrder, given: Mapping[str, Any]) -> VenueOrder:
        """Put another order in the place of one, or raise Refusal; `settle` lets it work afterwards."""
        if order.replaced_by is not None:
            raise unprocessable("order already replaced")
        if order.status not in {"new", "partially_filled"}:
            raise unprocessable(f"cannot replace order in {order.status} status")
        if order.quantity % 1:
            raise unprocessable("fractional orders cannot be replaced")
        terms, client_id = replaced_terms(order, given), str(given.get("client_order_id") or "")
        if client_id and any(other.client_order_id == client_id for other in self.orders):
            raise invalid("client_order_id must be unique")
        traded = self._listing(order.symbol) if order.contract is None else order.contract
        self._assert_allowed(terms, traded, instead_of=order)
        new = self._accept(terms, traded, client_id or id_of(f"client {len(self.orders)}"), order_class="")
        new.order_class, new.replaces, order.replaced_by = order.order_class, order.id, new.id
        if order.parent is not None:
            new.parent = order.parent
            order.parent.legs = [new if leg is order else leg for leg in order.parent.legs]
        if "replace" in self.holds:
            order.status = "pending_replace"
            self.report("pending_replace", order)
        else:
            self.end(order, "replaced")
        return new

    def release(self) -> None:
        """Do what was held back."""
        self.holds.clear()
        for order in self.open_orders:
            if order.status == "pending_cancel":
                self.end(order, "canceled")
            elif order.status == "pending_replace":
                self.end(order, "replaced")
        self.settle()

    def trade(self, symbol: str, most: Decimal | None = None) -> None:
        """Fill the orders of a symbol that match its price, each up to a quantity, or to the depth."""
        listing, most = self.market.listings[symbol], self.depth if most is None else most
        self.settle()
        for order in [one for one in self.orders if one.symbol == symbol]:
            if order.status in MATCHED and not listing.halted:
                price = order.price_at(listing.price, self.market.half_spread)
                if price is not None:
                    self.fill(order, price, order.remaining if most is None else min(most, order.remaining))

    def end(self, order: VenueOrder, status: str) -> None:
        """End an order without a fill: canceled, expired, replaced or rejected; held legs end with their order."""
        order.status = status
        order.times[_ENDS[status]] = self.now
        self.report(status, order)
        for leg in order.legs if status != "replaced" else ():
            if leg.status == "held":
                self.end(leg, status)

    def report(self, event: str, order: VenueOrder, **more: str) -> str:
        """Send a trade update, also one of an event that no client knows; returns its execution id."""
        self._events += 1
        execution = id_of(f"execution {self._events}")
        held, _ = self.held.get(order.symbol, (_NO, _NO))
        position = {"position_qty": text_of(held)} if more else {}
        head = {"event": event, "execution_id": execution, "timestamp": stamp(self.now)}
        self._observe(order)
        self._tell({**head, **more, **position, "order": order.document()})
        return execution

    def pay(
        self,
        kind: str,
        amount: Decimal,
        *,
        symbol: str = "",
        quantity: Decimal | None = None,
        price: Decimal | None = None,
    ) -> None:
        """Book an activity without an order, as a fee or a dividend.

        It changes cash, and with a quantity the position for a split and the events of an option: that its contracts
        end, and that shares are traded for them at a price.
        """
        self.cash += amount
        if kind in _DESCRIPTIONS and quantity is not None:
            self._move(symbol, quantity, price or _NO)
        elif quantity is not None and symbol in self.held:
            held, average = self.held[symbol]
            if kind == "SPLIT":
                self.held[symbol] = held + quantity, average * held / (held + quantity)
        self.activities.append(
            {
                "id": self._activity_id(id_of(f"activity {len(self.activities)}")),
                "activity_type": kind,
                "date": stamp(self.now)[:10],
                "created_at": stamp(self.now),
                "net_amount": text_of(amount),
                "status": "executed",
                "currency": "USD",
                **({"symbol": symbol} if symbol else {}),
                **({"qty": text_of(quantity)} if quantity is not None else {}),
                **({"price": text_of(price)} if price is not None else {}),
                **({"description": _DESCRIPTIONS[kind]} if kind in _DESCRIPTIONS else {}),
            }
        )
        for observer in self.payment_observers:
            observer(kind, symbol)

    def _found(self, name: str, key: Callable[[VenueOrder], str]) -> VenueOrder:
        for order in self.orders:
            if key(order) == name:
                return order
        raise not_found(f"order not found for {name}")

    def fill(self, order: VenueOrder, price: Decimal, quantity: Decimal) -> None:
        """Fill so much of an order at a price."""
        signed = quantity if order.buy else -quantity
        self._move(order.symbol, signed, price)
        self.cash -= signed * price * order.multiplier
        order.filled, order.paid = order.filled + quantity, order.paid + quantity * price
        order.times["filled_at"] = self.now
        whole = order.filled == order.quantity
        if whole or order.status in {"new", "partially_filled"}:
            order.status = "filled" if whole else "partially_filled"
        execution = self.report("fill" if whole else "partial_fill", order, price=text_of(price), qty=text_of(quantity))
        self._book_fill(order, execution, price, quantity)
        if whole:
            self._follow(order)

    def _move(self, symbol: str, signed: Decimal, price: Decimal) -> None:
        # Add so much to a position at a price.
        held, average = self.held.pop(symbol, (_NO, _NO))
        after = held + signed
        if held * signed >= 0:
            average = (abs(held) * average + abs(signed) * price) / abs(after)
        elif after * held < 0:
            average = price
        if after:
            self.held[symbol] = after, average

    def _match_option(self, order: VenueOrder, contract: OptionContract) -> None:
        # Fill an order that the market maker's quote meets, up to the depth or the size of the quote.
        quote = self.market.options.firm_quote(contract)
        if quote is None:
            return
        price = order.price_at(*self._prices(order.symbol))
        if price:
            size = Decimal(quote.ask_size if order.buy else quote.bid_size)
            self.fill(order, price, min(order.remaining, size if self.depth is None else min(size, self.depth)))

    def _book_fill(self, order: VenueOrder, execution: str, price: Decimal, quantity: Decimal) -> None:
        whole = order.status == "filled"
        self.activities.append(
            {
                "id": self._activity_id(execution),
                "activity_type": "FILL",
                "transaction_time": stamp(self.now),
                "type": "fill" if whole else "partial_fill",
                "price": text_of(price),
                "qty": text_of(quantity),
                "side": order.side,
                "symbol": order.symbol,
                "leaves_qty": text_of(order.quantity - order.filled),
                "order_id": order.id,
                "cum_qty": text_of(order.filled),
                "order_status": order.status,
            }
        )

    def _activity_id(self, name: str) -> str:
        return f"{self.now:%Y%m%d%H%M%S}{self.now.microsecond // 1000:03}::{name}"

    def _follow(self, order: VenueOrder) -> None:
        # What a whole fill causes: its legs wake, its sibling ends, and an order that was to replace it is rejected.
        for leg in order.legs:
            if leg.status == "held":
                leg.status = "new"
                self.report("new", leg)
        for sibling in [] if order.parent is None else order.parent.legs:
            if sibling is not order and sibling.status in OPEN:
                self.end(sibling, "canceled")
        if order.replaced_by is not None:
            self.end(self.find(order.replaced_by), "rejected")

    def _accept(
        self,
        terms: Terms,
        traded: Listing | OptionContract,
        client_id: str,
        *,
        order_class: str = "",
        parent: VenueOrder | None = None,
    ) -> VenueOrder:
        held, _ = self.held.get(traded.symbol, (_NO, _NO))
        opens = parent is None and (held >= 0 if terms.buy else held <= 0)
        order = VenueOrder(
            id=id_of(f"order {len(self.orders)}"),
            client_order_id=client_id,
            symbol=traded.symbol,
            asset_id=traded.asset_id,
            contract=traded if isinstance(traded, OptionContract) else None,
            buy=terms.buy,
            type=terms.type,
            life=terms.life,
            quantity=terms.quantity,
            limit=terms.limit,
            stop=terms.stop,
            order_class=order_class,
            intent=f"{'buy' if terms.buy else 'sell'}_to_{'open' if opens else 'close'}",
            extended=terms.extended,
            at=self.now,
            status="pending_new" if self.market.is_open else "accepted",
            parent=parent,
            collar=self._collar(terms),
        )
        self.orders.append(order)
        self._observe(order)
        return order

    def _observe(self, order: VenueOrder) -> None:
        for observer in self.observers:
            observer(order)

    def _collar(self, terms: Terms) -> Decimal | None:
        # The limit of a stop to buy.
        if self.buy_stop_collar is None or terms.stop is None or not terms.buy:
            return None
        return terms.stop * (1 + self.buy_stop_collar)

    def _listing(self, symbol: str) -> Listing:
        listing = self.market.listings.get(symbol)
        if listing is None:
            raise unprocessable(f'asset "{symbol}" not found')
        if not (listing.tradable and listing.active):
            raise unprocessable(f"asset {symbol} is not active")
        return listing

    def _assert_allowed(
        self, terms: Terms, traded: Listing | OptionContract, instead_of: VenueOrder | None = None
    ) -> None:
        # Raise Refusal where the account or the market excludes an order; `instead_of` is the one that it replaces.
        others = [order for order in self.open_orders if order.symbol == traded.symbol and order is not instead_of]
        if isinstance(traded, OptionContract):
            _assert_no_wash_trade(terms, others)
            assert_option_allowed(self, terms, traded, others, instead_of)
        else:
            _assert_stock_allowed(self, terms, traded, others, instead_of)

    def _contract_of(self, symbol: str) -> OptionContract | None:
        return self.market.options.find(symbol) if OPTION_SYMBOL.fullmatch(symbol) else None

    def _multiplier_of(self, symbol: str) -> int:
        contract = self._contract_of(symbol)
        return 1 if contract is None else contract.multiplier

    def _prices(self, symbol: str) -> tuple[Decimal, Decimal]:
        # The price of a symbol, and how far bid and ask are from it.
        if (contract := self._contract_of(symbol)) is not None:
            return self.market.options.prices(contract)
        return self.market.listings[symbol].price, self.market.half_spread

    def _cost_of(self, order: VenueOrder) -> Decimal:
        # What one share or contract of an order that opens a position takes of the buying power.
        cost = _share_cost(order, *self._prices(order.symbol))
        return cost if order.contract is None else cost * order.multiplier * self.multiplier

    def _awaits(self, order: VenueOrder) -> bool:
        # Whether it waits for the order that it replaces.
        return order.replaces is not None and self.find(order.replaces).status in OPEN

    def _close_of(self, order: VenueOrder) -> dt.datetime:
        return self.market.calendar.current(order.at).close


def _opens_position(account: VenueAccount, order: VenueOrder) -> bool:
    # Whether an order opens a position, or adds to one.
    held, _ = account.held.get(order.symbol, (_NO, _NO))
    return order.parent is None and (held >= 0 if order.buy else held <= 0)


def _share_cost(order: VenueOrder | Terms, last: Decimal, half_spread: Decimal) -> Decimal:
    # What one share of an order that opens a position takes of the buying power.
    if order.buy:
        return order.limit or max(order.stop or _NO, last + half_spread)
    return max(order.limit or _NO, (last + half_spread) * _SHORT_COST)


def _assert_stock_allowed(
    account: VenueAccount, terms: Terms, listing: Listing, others: list[VenueOrder], instead_of: VenueOrder | None
) -> None:
    # Raise Refusal for an order of shares; `others` are those that work for the same stock.
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
    closing = [other for other in others if other.buy is terms.buy and other.status != "held"]
    reserved = sum((order.remaining for order in closing), _NO)
    available = abs(held) - reserved
    if terms.quantity > available:
        requested = f"requested: {text_of(terms.quantity)}, available: {text_of(available)}"
        raise forbidden(
            f"insufficient qty available for order ({requested})",
            available=text_of(available),
            existing_qty=text_of(abs(held)),
            held_for_orders=text_of(reserved),
            related_orders=[order.id for order in closing],
            symbol=listing.symbol,
        )


def _assert_affordable(account: VenueAccount, terms: Terms, listing: Listing, instead_of: VenueOrder | None) -> None:
    if not terms.buy:
        _assert_shortable(account, terms, listing)
    half, power = account.market.half_spread, account.buying_power
    if instead_of is not None and _opens_position(account, instead_of):
        power += _share_cost(instead_of, listing.price, half) * instead_of.remaining
    cost = _share_cost(terms, listing.price, half) * terms.quantity
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
