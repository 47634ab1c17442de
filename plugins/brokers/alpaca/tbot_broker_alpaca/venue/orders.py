"""Orders of the venue: their state and document, and what the vendor refuses by their terms alone."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_broker_alpaca.venue.options import OptionContract
from tbot_broker_alpaca.venue.wire import Refusal, invalid, number_of, optional_text, stamp, text_of, unprocessable

if TYPE_CHECKING:
    from collections.abc import Mapping

OPEN: Final = frozenset(
    {"accepted", "pending_new", "new", "partially_filled", "held", "pending_cancel", "pending_replace"}
)
"""The statuses of an order that has not ended."""

MATCHED: Final = frozenset({"new", "partially_filled", "pending_cancel", "pending_replace"})
"""The statuses of an order that can fill."""

STOPS: Final = frozenset({"stop", "stop_limit"})
"""The types of order that wait for a price."""

TYPES: Final = ("market", "limit", "stop", "stop_limit")
_LIVES: Final = ("day", "gtc")
_LONGEST_ID: Final = 128


@attrs.define(eq=False, kw_only=True)
class VenueOrder:
    """An order that the venue has accepted; `paid` is the sum of price times quantity of its fills.

    `legs` wake when it has filled whole, and cancel each other. `triggered`: its stop has been traded through.
    `collar`: the limit that the venue gave to a stop to buy, which it does not show. `contract`: that of an option.
    """

    id: str
    client_order_id: str
    symbol: str
    asset_id: str
    buy: bool
    type: str
    life: str
    quantity: Decimal
    limit: Decimal | None = None
    stop: Decimal | None = None
    order_class: str = ""
    intent: str = ""
    extended: bool = False
    at: dt.datetime
    status: str = "pending_new"
    filled: Decimal = Decimal(0)
    paid: Decimal = Decimal(0)
    times: dict[str, dt.datetime] = attrs.field(factory=dict)
    parent: VenueOrder | None = None
    legs: list[VenueOrder] = attrs.field(factory=list)
    replaces: str | None = None
    replaced_by: str | None = None
    triggered: bool = False
    collar: Decimal | None = None
    contract: OptionContract | None = None

    @property
    def multiplier(self) -> int:
        """How many shares its price counts for."""
        return 1 if self.contract is None else self.contract.multiplier

    @property
    def remaining(self) -> Decimal:
        """What may still fill."""
        return self.quantity - self.filled if self.status in OPEN else Decimal(0)

    @property
    def side(self) -> str:
        """The side as the vendor writes it."""
        return "buy" if self.buy else "sell"

    def price_at(self, last: Decimal, half_spread: Decimal) -> Decimal | None:
        """The price at which it fills where the symbol trades at `last`; None if it does not."""
        met = last + half_spread if self.buy else last - half_spread
        if self.stop is not None and not self.triggered:
            self.triggered = last >= self.stop if self.buy else last <= self.stop
            if not self.triggered:
                return None
        limit = self.collar if self.limit is None else self.limit
        if limit is not None and (met > limit if self.buy else met < limit):
            return None
        return met

    def document(self, *, nested: bool = True) -> dict[str, Any]:
        """The order as the vendor writes it; legs are shown where `nested`."""
        times = {name: stamp(at) if (at := self.times.get(name)) else None for name in _TIMES}
        legs = [leg.document(nested=False) for leg in self.legs] if nested and self.legs else None
        return {
            "id": self.id,
            "client_order_id": self.client_order_id,
            "created_at": stamp(self.at),
            "submitted_at": stamp(self.at),
            **times,
            "updated_at": stamp(max((self.at, *self.times.values()))),
            "replaced_by": self.replaced_by,
            "replaces": self.replaces,
            "asset_id": self.asset_id,
            "symbol": self.symbol,
            "asset_class": "us_equity" if self.contract is None else "us_option",
            "notional": None,
            "qty": text_of(self.quantity),
            "filled_qty": text_of(self.filled),
            "filled_avg_price": text_of(round(self.paid / self.filled, 9)) if self.filled else None,
            "order_class": self.order_class,
            "order_type": self.type,
            "type": self.type,
            "side": self.side,
            "position_intent": self.intent,
            "time_in_force": self.life,
            "limit_price": optional_text(self.limit),
            "stop_price": optional_text(self.stop),
            "status": self.status,
            "extended_hours": self.extended,
            "legs": legs,
            "trail_percent": None,
            "trail_price": None,
            "hwm": None,
            "commission": None,
            "source": None,
            "subtag": None,
        }


_TIMES: Final = ("filled_at", "expired_at", "canceled_at", "failed_at", "replaced_at")


@attrs.frozen(kw_only=True)
class Terms:
    """The terms of an order as a client sent them, checked one by one."""

    buy: bool
    type: str
    life: str
    quantity: Decimal
    limit: Decimal | None
    stop: Decimal | None
    extended: bool

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Terms:
        """The terms of a request; raises Refusal for those that the vendor refuses without a look at the account."""
        side, kind, life = given.get("side"), given.get("type"), given.get("time_in_force")
        if side not in {"buy", "sell"}:
            raise invalid(f"invalid side: {side}")
        if kind not in TYPES:
            raise invalid(f"the test venue has no orders of type {kind}")
        if life not in _LIVES:
            raise invalid(f"the test venue has no orders with time_in_force {life}")
        if given.get("notional"):
            raise invalid("the test venue has no orders by notional")
        if len(str(given.get("client_order_id") or "")) > _LONGEST_ID:
            raise invalid("client_order_id must be no more than 128 characters")
        found = cls(
            buy=side == "buy",
            type=kind,
            life=life,
            quantity=number_of(given.get("qty"), "qty") or Decimal(0),
            limit=number_of(given.get("limit_price"), "limit_price"),
            stop=number_of(given.get("stop_price"), "stop_price"),
            extended=bool(given.get("extended_hours")),
        )
        found.assert_sound(simple=given.get("order_class") in {None, "", "simple"})
        return found

    def assert_sound(self, *, simple: bool = True) -> None:
        """Raise Refusal for terms that contradict each other; `simple`: no order of another class."""
        if self.quantity <= 0:
            raise invalid("qty must be > 0")
        for name, price, needed in (
            ("limit", self.limit, self.type in {"limit", "stop_limit"}),
            ("stop", self.stop, self.type in {"stop", "stop_limit"}),
        ):
            if needed and price is None:
                raise invalid(f"{self.type.replace('_', ' ')} orders require a {name} price")
            if not needed and price is not None:
                raise unprocessable(f"{self.type.replace('_', ' ')} orders require no {name} price")
            if price is not None:
                _assert_price(f"{name}_price", price)
        if self.extended and self.type != "limit":
            raise unprocessable("extended hours order must be DAY or GTC limit orders")
        if self.quantity % 1:
            self._assert_fraction(simple=simple)

    def _assert_fraction(self, *, simple: bool) -> None:
        if self.life != "day":
            raise unprocessable("fractional orders must be DAY orders")
        if not simple:
            raise unprocessable("fractional orders must be simple orders")
        if self.type != "market":
            raise unprocessable("fractional orders must be market orders")
        if -int(self.quantity.as_tuple().exponent) > 9:
            raise invalid("qty can have up to 9 decimal places")


def _assert_price(name: str, price: Decimal) -> None:
    if price <= 0:
        raise invalid(f"{name} must be > 0")
    if price % (Decimal("0.01") if price >= 1 else Decimal("0.0001")):
        raise unprocessable(f"invalid {name} {price}. sub-penny increment does not fulfill minimum pricing criteria")


def legs_of(given: Mapping[str, Any], terms: Terms) -> list[Terms]:
    """The protective legs of a bracket or one-triggers-other order."""
    kind, found = given.get("order_class") or "", []
    if kind in {"", "simple"}:
        return []
    if kind not in {"bracket", "oto"}:
        raise Refusal(422, 42210000, f"the test venue has no orders of class {kind}")
    for name, needs in (("take_profit", ("limit", "limit_price")), ("stop_loss", ("stop", "stop_price"))):
        if part := given.get(name):
            price = number_of(part.get(needs[1]), f"{name}.{needs[1]}")
            limit, stop = (price, None) if needs[0] == "limit" else (None, price)
            leg = attrs.evolve(terms, buy=not terms.buy, type=needs[0], extended=False, limit=limit, stop=stop)
            leg.assert_sound(simple=False)
            found.append(leg)
    if len(found) != (2 if kind == "bracket" else 1):
        raise unprocessable(f"{kind} orders require {'take_profit and stop_loss' if kind == 'bracket' else 'one leg'}")
    return found


def replaced_terms(order: VenueOrder, given: Mapping[str, Any]) -> Terms:
    """The terms of the order that takes another one's place; those that are not given stay as they were."""
    was = Terms(
        buy=order.buy,
        type=order.type,
        life=order.life,
        quantity=order.quantity,
        limit=order.limit,
        stop=order.stop,
        extended=order.extended,
    )
    terms = attrs.evolve(
        was,
        quantity=number_of(given.get("qty"), "qty") or was.quantity,
        limit=number_of(given.get("limit_price"), "limit_price") or was.limit,
        stop=number_of(given.get("stop_price"), "stop_price") or was.stop,
        life=str(given.get("time_in_force") or was.life),
    )
    if terms == was:
        raise unprocessable("order parameters are not changed")
    if terms.quantity % 1:
        raise unprocessable("fractional orders cannot be replaced")
    terms.assert_sound()
    return terms
