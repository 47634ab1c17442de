"""Acts of others at a venue: people, companies, the exchange, the broker's own risk desk, as the faults plan them."""

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
    """What becomes of a symbol at all venues: `split` or `delisted`, `at` so many seconds after the bell."""

    at: float
    kind: str
    symbol: str


def plan_symbol_events(
    market: SimulatedMarket, faults: SeedFaults, chance: Callable[[str], RandomStream], session_s: float
) -> list[SymbolEvent]:
    """Halts, coarser prices, splits and delistings enter the market's paths; what accounts must follow is returned."""

    def each(name: str) -> list[tuple[float, float, str]]:
        stream = chance(name)
        return [(begins, ends, stream.one(market.symbols)) for begins, ends in faults.planned(name, 0.0, session_s)]

    def step(at: float) -> int:
        return int(at // STEP_S)

    news = []
    for begins, ends, symbol in each("F40"):
        market.paths[symbol].halts.append((step(begins), step(ends) + 1))
        faults.count("F40")
    for begins, _, symbol in each("F42"):
        market.paths[symbol].coarse_from = step(begins)
        faults.count("F42")
    for begins, _, symbol in each("F43"):
        market.paths[symbol].split(step(begins))
        news.append(SymbolEvent(at=step(begins) * STEP_S - _BEFORE_S, kind=AccountActivityKind.SPLIT, symbol=symbol))
        faults.count("F43")
    for begins, _, symbol in each("F44"):
        market.paths[symbol].delisted_from = step(begins)
        news.append(SymbolEvent(at=step(begins) * STEP_S - _BEFORE_S, kind="delisted", symbol=symbol))
        faults.count("F44")
    return news


class ThirdParties:
    """Everybody but the bot who moves an account; what they do stands in the venue's agenda from the beginning."""

    def __init__(
        self,
        exchange: SimulatedExchange,
        faults: SeedFaults,
        chance: Callable[[str], RandomStream],
        news: list[SymbolEvent],
    ) -> None:
        """`chance` gives the stream of a fault."""
        self._exchange = exchange
        self._floor = exchange.floor
        self._faults = faults
        self._orders = 0
        for item in news:
            exchange.schedule(self._floor.opens + item.at, partial(self.apply_split_or_delisting, item))
        acts: dict[str, Callable[[RandomStream], bool]] = {
            "F20": self._places_under_an_id,
            "F29": self._takes_back,
            "F45": self._pays,
            "F46": self._liquidates,
            "F47": self._trades,
        }
        for name, act in acts.items():
            for at, _ in faults.planned(name, self._floor.opens, self._floor.closes):
                exchange.schedule(at, partial(self._act, name, act, chance(name)))

    def _act(self, name: str, act: Callable[[RandomStream], bool], chance: RandomStream) -> None:
        if act(chance):
            self._faults.count(name)

    def apply_split_or_delisting(self, news: SymbolEvent) -> None:
        """Resting orders of the symbol go; a split doubles what is held."""
        floor = self._floor
        for working in [*floor.open]:
            if working.order.symbol == news.symbol:
                floor.end(working, BrokerEventKind.CANCELLED, f"{news.symbol} was {news.kind}")
        if news.kind == AccountActivityKind.SPLIT:
            floor.write(
                AccountActivityKind.SPLIT,
                symbol=news.symbol,
                units=floor.books.units.get(news.symbol, 0),
                words="2 for 1",
            )

    def _places_under_an_id(self, chance: RandomStream) -> bool:
        self._orders += 1
        return self._place(chance, f"mobile-{self._orders}")

    def _trades(self, chance: RandomStream) -> bool:
        # A person trades, or takes one of our orders out.
        ours = [working for working in self._floor.open if working.ours]
        if ours and chance.happens(0.25):
            self._floor.end(chance.one(ours), BrokerEventKind.CANCELLED, "cancelled by the account's owner")
            return True
        return self._place(chance)

    def _place(self, chance: RandomStream, client_order_id: str = "") -> bool:
        # Buy or sell a few shares, at the market or at a limit that rests.
        symbol, buy = chance.one(self._floor.market.symbols), chance.happens(0.5)
        quantity, away, rests = Decimal(chance.whole(1, 20)), chance.whole(1, 5) * 5 * CENT, chance.happens(0.5)
        path = self._floor.path(symbol)
        if path is None:
            return False
        order = _order(symbol, buy=buy, quantity=quantity, client_order_id=client_order_id)
        if rests:
            last = path.prices[self._floor.step] // (5 * CENT) * 5 * CENT
            limit = price_of(max(last - away if buy else last + away, 5 * CENT))
            order = attrs.evolve(order, type=OrderType.LIMIT, limit_price=limit)
        return not self._exchange.submit(order, ours=False).refusal

    def _takes_back(self, chance: RandomStream) -> bool:
        # One of our latest executions is void, or was at another price.
        done = [working for working in self._floor.orders if working.ours and working.fills]
        if not done:
            return False
        working = done[-1]
        fill = working.fills[-1]
        if chance.happens(0.5):
            self._floor.report_correction(BrokerEventKind.BUSTED, working, fill, fill)
        else:
            price = fill.price + price_of(chance.one((-5 * CENT, 5 * CENT)))
            self._floor.report_correction(BrokerEventKind.CORRECTED, working, fill, attrs.evolve(fill, price=price))
        return True

    def _pays(self, chance: RandomStream) -> bool:
        # A dividend of ten cents a share for what is held, else a fee.
        floor = self._floor
        held = sorted(symbol for symbol, units in floor.books.units.items() if units > 0)
        if held and chance.happens(0.5):
            symbol = chance.one(held)
            floor.write(AccountActivityKind.DIVIDEND, symbol=symbol, atoms=floor.books.units[symbol] * 10 * CENT)
        else:
            floor.write(AccountActivityKind.FEE, atoms=-chance.whole(1, 500) * _ATOMS_A_CENT, words="market data")
        return True

    def _liquidates(self, chance: RandomStream) -> bool:
        # The broker's risk desk closes a position at the market, without asking.
        floor = self._floor
        held = sorted(symbol for symbol in floor.books.units if floor.path(symbol) is not None)
        if not held or not floor.in_session:
            return False
        symbol = chance.one(held)
        units = floor.books.units[symbol]
        order = _order(symbol, buy=units < 0, quantity=quantity_of(abs(units)))
        floor.rest(floor.accept(order, ours=False))
        return True


def _order(symbol: str, *, buy: bool, quantity: Decimal, client_order_id: str = "") -> Order:
    signal = SignalId(session=dt.date.min, strategy="others", symbol=symbol, minute=0, rule="by hand")
    return Order(
        client_order_id=client_order_id,
        signal=signal,
        leg=Leg.ENTRY,
        symbol=symbol,
        buy=buy,
        quantity=quantity,
        type=OrderType.MARKET,
    )
