"""Acts of third parties at a venue: people, companies, the exchange and the broker's risk department."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import AccountActivityKind, BrokerEventKind
from tbot_core.model.types import Leg, Order, OrderType, SignalId, price_of, quantity_of
from tbot_core.rehearsal.prices import CENT, STEP_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.rehearsal.exchange import SimulatedExchange
    from tbot_core.rehearsal.faults import SeedFaults
    from tbot_core.rehearsal.prices import SimulatedMarket
    from tbot_core.rehearsal.random_streams import RandomStream

_ATOMS_A_CENT: Final = 10**8
_BEFORE_S: Final = 0.001


@attrs.frozen(kw_only=True)
class SymbolEvent:
    """A `split` or `delisted` event of a symbol at all venues; `at` is in seconds after the open."""

    at: float
    kind: str
    symbol: str


def plan_symbol_events(
    market: SimulatedMarket, faults: SeedFaults, chance: Callable[[str], RandomStream], session_s: float
) -> list[SymbolEvent]:
    """Add halts, coarser price steps, splits and delistings to the market; returns those that accounts must apply."""

    def each(name: str) -> list[tuple[float, float, str]]:
        stream = chance(name)
        return [(begins, ends, stream.one(market.symbols)) for begins, ends in faults.planned(name, 0.0, session_s)]

    def step(at: float) -> int:
        return int(at // STEP_S)

    symbol_events = []
    for begins, ends, symbol in each("F40"):
        market.paths[symbol].halts.append((step(begins), step(ends) + 1))
        faults.count("F40")
    for begins, _, symbol in each("F42"):
        market.paths[symbol].coarse_from = step(begins)
        faults.count("F42")
    for begins, _, symbol in each("F43"):
        market.paths[symbol].split(step(begins))
        symbol_events.append(
            SymbolEvent(at=step(begins) * STEP_S - _BEFORE_S, kind=AccountActivityKind.SPLIT, symbol=symbol)
        )
        faults.count("F43")
    for begins, _, symbol in each("F44"):
        market.paths[symbol].delisted_from = step(begins)
        symbol_events.append(SymbolEvent(at=step(begins) * STEP_S - _BEFORE_S, kind="delisted", symbol=symbol))
        faults.count("F44")
    return symbol_events


class ThirdParties:
    """Third parties that change an account; their acts are scheduled at the venue from the beginning."""

    def __init__(
        self,
        exchange: SimulatedExchange,
        faults: SeedFaults,
        chance: Callable[[str], RandomStream],
        symbol_events: list[SymbolEvent],
    ) -> None:
        """`chance` gives the stream of a fault."""
        self._exchange = exchange
        self._matching = exchange.matching
        self._faults = faults
        self._orders = 0
        for item in symbol_events:
            exchange.schedule(self._matching.opens + item.at, partial(self.apply_split_or_delisting, item))
        acts: dict[str, Callable[[RandomStream], bool]] = {
            "F20": self._place_with_id,
            "F29": self._bust_or_correct,
            "F45": self._pay,
            "F46": self._liquidate,
            "F47": self._trade_by_hand,
        }
        for name, act in acts.items():
            for at, _ in faults.planned(name, self._matching.opens, self._matching.closes):
                exchange.schedule(at, partial(self._act, name, act, chance(name)))

    def _act(self, name: str, act: Callable[[RandomStream], bool], chance: RandomStream) -> None:
        if act(chance):
            self._faults.count(name)

    def apply_split_or_delisting(self, symbol_events: SymbolEvent) -> None:
        """Cancel resting orders of the symbol; a split doubles the holding."""
        matching = self._matching
        for working in [*matching.open]:
            if working.order.symbol == symbol_events.symbol:
                matching.end(working, BrokerEventKind.CANCELLED, f"{symbol_events.symbol} was {symbol_events.kind}")
        if symbol_events.kind == AccountActivityKind.SPLIT:
            matching.write(
                AccountActivityKind.SPLIT,
                symbol=symbol_events.symbol,
                units=matching.books.units.get(symbol_events.symbol, 0),
                words="2 for 1",
            )

    def _place_with_id(self, chance: RandomStream) -> bool:
        self._orders += 1
        return self._place(chance, f"mobile-{self._orders}")

    def _trade_by_hand(self, chance: RandomStream) -> bool:
        # A person trades, or cancels one of our orders.
        ours = [working for working in self._matching.open if working.ours]
        if ours and chance.happens(0.25):
            self._matching.end(chance.one(ours), BrokerEventKind.CANCELLED, "cancelled by the account's owner")
            return True
        return self._place(chance)

    def _place(self, chance: RandomStream, client_order_id: str = "") -> bool:
        # Buy or sell a few shares, at the market or at a limit that rests.
        symbol, buy = chance.one(self._matching.market.symbols), chance.happens(0.5)
        quantity, away, rests = Decimal(chance.whole(1, 20)), chance.whole(1, 5) * 5 * CENT, chance.happens(0.5)
        path = self._matching.path(symbol)
        if path is None:
            return False
        order = _order(symbol, buy=buy, quantity=quantity, client_order_id=client_order_id)
        if rests:
            last = path.prices[self._matching.step] // (5 * CENT) * 5 * CENT
            limit = price_of(max(last - away if buy else last + away, 5 * CENT))
            order = attrs.evolve(order, type=OrderType.LIMIT, limit_price=limit)
        return not self._exchange.submit(order, ours=False).refusal

    def _bust_or_correct(self, chance: RandomStream) -> bool:
        # Bust our latest execution, or correct its price.
        done = [working for working in self._matching.orders if working.ours and working.fills]
        if not done:
            return False
        working = done[-1]
        fill = working.fills[-1]
        if chance.happens(0.5):
            self._matching.report_correction(BrokerEventKind.BUSTED, working, fill, fill)
        else:
            price = fill.price + price_of(chance.one((-5 * CENT, 5 * CENT)))
            self._matching.report_correction(BrokerEventKind.CORRECTED, working, fill, attrs.evolve(fill, price=price))
        return True

    def _pay(self, chance: RandomStream) -> bool:
        # A dividend of ten cents a share of a holding, else a fee.
        matching = self._matching
        held = sorted(symbol for symbol, units in matching.books.units.items() if units > 0)
        if held and chance.happens(0.5):
            symbol = chance.one(held)
            matching.write("dividend", symbol=symbol, atoms=matching.books.units[symbol] * 10 * CENT)
        else:
            matching.write("fee", atoms=-chance.whole(1, 500) * _ATOMS_A_CENT, words="market data")
        return True

    def _liquidate(self, chance: RandomStream) -> bool:
        # The broker's risk department closes a position at the market.
        matching = self._matching
        held = sorted(symbol for symbol in matching.books.units if matching.path(symbol) is not None)
        if not held or not matching.in_session:
            return False
        symbol = chance.one(held)
        units = matching.books.units[symbol]
        order = _order(symbol, buy=units < 0, quantity=quantity_of(abs(units)))
        matching.rest(matching.accept(order, ours=False))
        return True


def _order(symbol: str, *, buy: bool, quantity: Decimal, client_order_id: str = "") -> Order:
    signal = SignalId(session=dt.date.min, strategy="others", symbol=symbol, minute=0, rule="by hand")
    return Order(
        client_order_id=client_order_id,
        signal=signal,
        leg=Leg.ENTRY,
        buy=buy,
        quantity=quantity,
        type=OrderType.MARKET,
    )
