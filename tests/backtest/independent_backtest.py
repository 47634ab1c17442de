"""Backtests of the opening-range breakout, computed a second time: plain loops over the bars, from the contract's text.

Nothing of tbot is imported, and no figure is taken from it: an error that all of its clocks share shows as a
difference. Money and prices are exact decimals. What is computed: range, breakout, sizing by weights, entries at the
market or with a limit, stops, volume limit, rebalancing trims, time exits, fees, the equity from session to session.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from math import ceil, floor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

CENT = Decimal("0.01")


@dataclass(frozen=True)
class Bar:
    """A minute: its prices in dollars, and its shares."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int


Session = dict[str, list[Bar | None]]
"""The bars of a session by symbol, None for a minute without one."""


@dataclass(frozen=True)
class Rules:
    """What the settings say, as numbers."""

    analysis: int
    breakout: int
    monitoring: int
    buffer: Decimal
    stop_loss: Decimal
    allocation: Decimal
    weights: tuple[Decimal, ...]
    risk: Decimal
    trades: int
    positions: int
    market: bool
    limit_pct: Decimal
    short: bool
    volume_limit: Decimal
    flatten: int
    trims: bool
    threshold: Decimal
    interval: int
    fee_per_share: Decimal
    fee_sell_bps: Decimal
    lag: int
    filters: bool
    prices: tuple[Decimal, Decimal]
    gap: Decimal
    gap_before: bool
    unknown_denies: bool
    blocked: tuple[str, ...]
    order_notional: Decimal
    gross: Decimal

    @classmethod
    def of(cls, texts: dict[str, str]) -> Rules:
        """From the texts of the settings; each is named."""
        number = {name: Decimal(text) for name, text in texts.items() if text.replace(".", "", 1).isdigit()}
        return cls(
            analysis=int(number["OPEN_ANALYSIS_TIME"]),
            breakout=int(number["OPEN_BREAKOUT_TIME"]),
            monitoring=int(number["OPEN_MONITORING_TIME"]),
            buffer=number["STRAT_OPEN_BUFFER"],
            stop_loss=number["STOP_LOSS_PCT"],
            allocation=number["TOTAL_ALLOCATION"],
            weights=tuple(Decimal(one) for one in texts["WEIGHTS"].split(",")),
            risk=number["MAX_RISK_PER_TRADE"],
            trades=int(number["MAX_TRADES"]),
            positions=int(number["MAX_OPEN_POSITIONS"]),
            market=texts["ENTRY_ORDER_TYPE"] == "market",
            limit_pct=number["ENTRY_LIMIT_PCT"],
            short=texts["SHORT_TYPE_OPEN"] == "ShortSell",
            volume_limit=number["VOLUME_LIMIT"],
            flatten=int(number["FLATTEN_BEFORE_CLOSE"]),
            trims=texts["REBALANCE_ENABLED"] == "true",
            threshold=number["REBALANCE_THRESHOLD"],
            interval=int(number["REBALANCE_CHECK_INTERVAL"]),
            fee_per_share=number["FEE_PER_SHARE"],
            fee_sell_bps=number["FEE_SELL_BPS"],
            lag=1 + int(number["SIMULATED_LATENCY_MS"]) // 60_000,
            filters=texts["FILTERS"] != "none",
            prices=(number["MIN_PRICE"], number["MAX_PRICE"]),
            gap=number["MAX_GAP_PCT_OPEN"],
            gap_before=texts["GAP_REFERENCE"] == "previous_close",
            unknown_denies=texts["FILTER_MISSING_DATA"] == "reject",
            blocked=tuple(filter(None, texts["BLOCKLIST"].split(","))),
            order_notional=number["MAX_ORDER_NOTIONAL"],
            gross=number["MAX_GROSS_EXPOSURE"],
        )

    def room(self, bar: Bar, shares: int) -> int:
        """How many of these shares a bar fills."""
        return min(shares, floor(bar.volume * self.volume_limit)) if self.volume_limit else shares * (bar.volume > 0)

    def fee(self, price: Decimal, shares: int, *, sold: bool) -> Decimal:
        """The fees of a fill, rounded up to the cent."""
        exact = self.fee_per_share * shares + (self.fee_sell_bps / 10_000 * price * shares if sold else 0)
        return exact.quantize(CENT, ROUND_CEILING)


@dataclass
class Deal:
    """A signal that was sent: its entry, its resting stop, its trim and its exit, each with what is left of it."""

    symbol: str
    side: int
    decided: int
    ordered: int
    limit: Decimal | None
    level: Decimal
    worst: Decimal
    alive: bool = True
    entered: int = -1
    quantity: int = 0
    price: Decimal = Decimal(0)
    held: int = 0
    stop: int = 0
    stop_from: int = 0
    triggered: bool = False
    trim: int = 0
    trim_from: int = 0
    exit: int = 0
    exit_from: int = 0
    reason: str = ""
    proceeds: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    left: int = -1

    def close(self, rules: Rules, minute: int, price: Decimal, shares: int, reason: str) -> None:
        """Fill a part of a closing order."""
        self.held -= shares
        self.proceeds += shares * price
        self.fees += rules.fee(price, shares, sold=self.side > 0)
        self.left = minute
        if reason != "REBALANCE" or not self.reason:
            self.reason = reason

    @property
    def pnl(self) -> Decimal:
        """The profit of a closed deal, after fees."""
        return self.side * (self.proceeds - self.quantity * self.price) - self.fees

    def row(self, opens: datetime, minutes: int) -> dict[str, str]:
        """What tbot shows of the trade, except its average exit price."""
        at = opens + timedelta(minutes=min(minutes, self.left))
        return {
            "strategy": "open",
            "symbol": self.symbol,
            "side": "long" if self.side > 0 else "short",
            "quantity": f"{self.quantity}",
            "entry_time": (opens + timedelta(minutes=self.entered)).isoformat(),
            "entry_price": f"{self.price:.4f}",
            "exit_time": at.isoformat(),
            "fees": f"{self.fees:.2f}",
            "pnl": f"{self.pnl:.2f}",
            "exit_reason": self.reason,
        }


@dataclass
class Day:
    """One session while it is computed; `before` are the sessions before it.

    `denials` counts reason codes, `decided` has that of each symbol with a signal, or ALLOWED. Prices of `adjusted`
    symbols are not those that were traded.
    """

    rules: Rules
    bars: Session
    equity: Decimal
    minutes: int
    deals: list[Deal] = field(default_factory=list)
    denials: Counter[str] = field(default_factory=Counter)
    decided: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    before: Sequence[Session] = ()
    adjusted: Collection[str] = ()

    def run(self) -> None:
        """Compute every minute, then what is open after the last one."""
        unknown = self.adjusted if self._limits_price and self.rules.unknown_denies else ()
        for reason, symbols in (("BLOCKLISTED", self.rules.blocked), ("PRICE_UNKNOWN", unknown)):
            for symbol in {*symbols} - self.used:
                self.used.add(symbol)
                self.denials[reason] += any(self.bars[symbol])  # a symbol without a bar is not denied
        for minute in range(self.minutes):
            self._minute(minute)
        for deal in self.deals:
            if deal.held:
                last = [bar for bar in self.bars[deal.symbol] if bar][-1]
                deal.close(self.rules, self.minutes, last.close, deal.held, "NO_MARKET")

    def _minute(self, minute: int) -> None:
        # A symbol has at most one deal, so that the deals need not take turns.
        for deal in self.deals:
            bar = self.bars[deal.symbol][minute]
            if bar is not None:
                self._market_orders(deal, bar, minute)
            self._entry(deal, bar, minute)
            if bar is not None:
                self._stop(deal, bar, minute)
            self._leave(deal, minute)
            if self.rules.trims and (minute + 1) * 60 // self.rules.interval > minute * 60 // self.rules.interval:
                self._check_size(deal, bar, minute)
        if self.rules.analysis <= minute < self.rules.analysis + self.rules.breakout:
            self._signals(minute)

    def _market_orders(self, deal: Deal, bar: Bar, minute: int) -> None:
        # The trim and the exit fill at the open; what is left of them goes on.
        if deal.trim and minute >= deal.trim_from and (shares := self.rules.room(bar, deal.trim)):
            deal.trim -= shares
            deal.close(self.rules, minute, bar.open, shares, "REBALANCE")
        if deal.exit and minute >= deal.exit_from and (shares := self.rules.room(bar, deal.exit)):
            deal.exit -= shares
            deal.close(self.rules, minute, bar.open, shares, deal.reason)

    def _entry(self, deal: Deal, bar: Bar | None, minute: int) -> None:
        # The first bar of three minutes decides; the rest of the entry is cancelled after it.
        first = deal.decided + self.rules.lag
        if not deal.alive or minute < first:
            return
        deal.alive = bar is None and minute < first + 2
        price = None if bar is None else self._entry_price(deal, bar)
        if bar is not None and price is not None and (shares := self.rules.room(bar, deal.ordered)):
            deal.entered, deal.quantity, deal.held, deal.price = minute, shares, shares, price
            deal.fees += self.rules.fee(price, shares, sold=deal.side < 0)
            deal.stop, deal.stop_from = shares, minute
        if not deal.alive and not deal.quantity:
            self.denials["ENTRY_NOT_FILLED"] += 1

    @staticmethod
    def _entry_price(deal: Deal, bar: Bar) -> Decimal | None:
        # The open if it is within the limit, else the limit if the bar trades through it by a tick.
        if deal.limit is None or deal.side * (deal.limit - bar.open) >= 0:
            return bar.open
        through = bar.low <= deal.limit - CENT if deal.side > 0 else bar.high >= deal.limit + CENT
        return deal.limit if through else None

    def _stop(self, deal: Deal, bar: Bar, minute: int) -> None:
        # It triggers inside a bar and fills at the worse of level and open; once triggered, at each open.
        if not deal.stop or minute < deal.stop_from:
            return
        worst = bar.low if deal.side > 0 else bar.high
        if not deal.triggered and deal.side * (worst - deal.level) > 0:
            return
        price = bar.open if deal.triggered else deal.side * min(deal.side * deal.level, deal.side * bar.open)
        deal.triggered = True
        if shares := self.rules.room(bar, deal.stop):
            deal.stop -= shares
            deal.close(self.rules, minute, price, shares, "STOP")

    def _leave(self, deal: Deal, minute: int) -> None:
        # The order to close goes when the window's last minute or the session's last before flattening has closed.
        ends = self.rules.analysis + self.rules.breakout + self.rules.monitoring
        flatten = self.minutes - self.rules.flatten
        if deal.held and not deal.exit and minute + 1 >= min(ends, flatten):
            deal.reason = "SESSION_END" if minute + 1 >= flatten else "TIME"
            deal.stop = deal.trim = 0
            deal.exit, deal.exit_from = deal.held, minute + self.rules.lag

    def _check_size(self, deal: Deal, bar: Bar | None, minute: int) -> None:
        # A position that outgrew its target is trimmed to it, except one that is being closed or changed.
        if bar is None or not deal.held or deal.exit or deal.trim or deal.triggered:
            return
        target = deal.quantity * deal.price
        beyond = deal.held * bar.close - target
        if beyond > target * self.rules.threshold and (shares := floor(beyond / bar.close)):
            deal.trim, deal.trim_from = shares, minute + self.rules.lag
            deal.stop, deal.stop_from = deal.held - shares, minute + self.rules.lag

    def _signals(self, minute: int) -> None:
        found = []
        for symbol, bars in self.bars.items():
            seen = [bar for bar in bars[: self.rules.analysis] if bar]
            bar = bars[minute]
            if symbol in self.used or not seen or bar is None:
                continue
            high, low = max(one.high for one in seen), min(one.low for one in seen)
            above, below = high * (1 + self.rules.buffer), low * (1 - self.rules.buffer)
            if bar.close > above:
                found.append((above / bar.close - 1, symbol, 1, bar.close, low))
            elif bar.close < below:
                found.append((bar.close / below - 1, symbol, -1, bar.close, high))
        for _, symbol, side, close, other in sorted(found):
            self.used.add(symbol)
            self._decide(symbol, side, close, other, minute)

    @property
    def _limits_price(self) -> bool:
        return self.rules.filters and any(self.rules.prices)

    def _filtered(self, symbol: str, close: Decimal) -> str:
        # The first filter that denies a signal; "" if none does. A limit of 0 is none.
        rules, bars = self.rules, self.bars[symbol]
        least, most = rules.prices
        opened = next(bar.open for bar in bars if bar)
        gap = opened / closes(self.before[-1][symbol])[-1] - 1 if rules.gap_before else close / opened - 1
        if not rules.filters:
            return ""
        if symbol not in self.adjusted and close < least:
            return "PRICE_LOW"
        if symbol not in self.adjusted and most and close > most:
            return "PRICE_HIGH"
        return "GAP_LARGE" if abs(gap) > rules.gap else ""

    def _restricted(self, symbol: str, minute: int) -> bool:
        # Whether a low of today until then, or of yesterday, is a tenth below the close of the day before it.
        days = [*(one[symbol] for one in self.before[-2:]), self.bars[symbol][: minute + 1]]
        pairs = itertools.pairwise(days)
        return any(bar.low <= closes(last)[-1] * Decimal("0.9") for last, day in pairs for bar in day if bar)

    def _decide(self, symbol: str, side: int, close: Decimal, other: Decimal, minute: int) -> None:
        rules, sent = self.rules, len(self.deals)
        limit = close * (1 + side * rules.limit_pct)
        limit = limit.quantize(CENT, ROUND_FLOOR if side > 0 else ROUND_CEILING)
        band = (close * (1 + PRICE_BAND)).quantize(CENT, ROUND_FLOOR)
        worst = band if rules.market else max(limit, close)
        part = min(rules.allocation * rules.weights[sent], rules.risk) if sent < len(rules.weights) else Decimal(0)
        shares = floor(self.equity * part / worst)
        reason = self._denial(symbol, side, close, minute) or self._size_denial(shares, shares * worst)
        self.decided[symbol] = reason or "ALLOWED"
        if reason:
            self.denials[reason] += 1
            return
        capped = close * (1 - side * rules.stop_loss)
        level = max(other, capped) if side > 0 else min(other, capped)
        level = level.quantize(CENT, ROUND_CEILING if side > 0 else ROUND_FLOOR)
        self.deals.append(Deal(symbol, side, minute, shares, None if rules.market else limit, level, shares * worst))

    def _denial(self, symbol: str, side: int, close: Decimal, minute: int) -> str:
        # The first stage that denies a signal before it has a size: the filters, the short rule, the counts.
        if reason := self._filtered(symbol, close):
            return reason
        if side < 0 and not self.rules.short:
            return "SHORT_DISABLED"
        if side < 0 and self._restricted(symbol, minute):
            return "SHORT_RESTRICTED"
        if len(self.deals) >= self.rules.trades:
            return "MAX_TRADES"
        held = sum(one.alive or one.held > 0 for one in self.deals)
        return "MAX_OPEN_POSITIONS" if held >= self.rules.positions else ""

    def _size_denial(self, shares: int, amount: Decimal) -> str:
        # The first stage that denies an entry of a size: the size itself, then amounts.
        if not shares:
            return "QUANTITY_TOO_SMALL"
        if self.rules.order_notional and amount > self.rules.order_notional:
            return "ORDER_NOTIONAL"
        used = sum((one.worst if one.alive else one.held * one.price for one in self.deals), Decimal(0))
        return "GROSS_EXPOSURE" if used + amount > self.equity * self.rules.gross else ""


PRICE_BAND = Decimal("0.05")
"""The settings' PRICE_BAND_PCT."""


def computed(
    settings: dict[str, str], sessions: dict[date, Session], equity: Decimal, adjusted: Collection[str] = ()
) -> dict[str, object]:
    """What a backtest of all sessions but the first two must give.

    Trades in the order of entry and symbol, denials by code, and the equity at its end.
    """
    days = traded_days(settings, sessions, equity, adjusted)
    trades = [deal.row(opening(day), one.minutes) for day, one in days.items() for deal in one.deals if deal.quantity]
    denials = sum((one.denials for one in days.values()), Counter[str]())
    end = equity + sum((deal.pnl for one in days.values() for deal in one.deals), Decimal(0))
    return {"trades": sorted(trades, key=order), "denials": dict(denials), "equity_end": f"{end:.2f}"}


def traded_days(
    settings: dict[str, str], sessions: dict[date, Session], equity: Decimal, adjusted: Collection[str] = ()
) -> dict[date, Day]:
    """All sessions but the first two, computed, the equity carried on."""
    rules, found, every = Rules.of(settings), dict[date, Day](), list(sessions.values())
    for number, (day, bars) in list(enumerate(sessions.items()))[2:]:
        length = len(next(iter(bars.values())))
        one = Day(rules, bars, equity, minutes=length, before=every[:number], adjusted=adjusted)
        one.run()
        equity += sum((deal.pnl for deal in one.deals), Decimal(0))
        found[day] = one
    return found


def shortened(sessions: dict[date, Session], day: date, minutes: int) -> dict[date, Session]:
    """The sessions with one that ends early, whatever was traded after it."""
    early = {symbol: bars[:minutes] for symbol, bars in sessions[day].items()}
    return {one: early if one == day else bars for one, bars in sessions.items()}


def order(trade: dict[str, str]) -> tuple[str, str]:
    """The order in which trades are compared."""
    return trade["entry_time"], trade["symbol"]


def opening(day: date) -> datetime:
    """The opening bell of a day in winter, in UTC."""
    return datetime.combine(day, time(14, 30), UTC)


def random_sessions(seed: int, days: list[date], symbols: str, *, bursts: bool = False) -> dict[date, Session]:
    """Sessions of random walks in cents: quiet and wild ones, thin and liquid ones, with missing minutes.

    With `bursts` shares are cheap, and most minutes have next to no volume, the others a lot.
    """
    chance = random.Random(seed)
    prices = {name * 3: chance.uniform(8, 15 if bursts else 150) for name in symbols}
    found: dict[date, Session] = {}
    for day in days:
        found[day] = {symbol: _random_bars(chance, price, bursts=bursts) for symbol, price in prices.items()}
        prices = {symbol: float(closes(bars)[-1]) * chance.uniform(0.97, 1.03) for symbol, bars in found[day].items()}
    return found


def closes(bars: list[Bar | None]) -> list[Decimal]:
    """The closes of a session."""
    return [bar.close for bar in bars if bar]


def _random_bars(chance: random.Random, price: float, *, bursts: bool) -> list[Bar | None]:
    found = list[Bar | None]()
    step, thin, gone = chance.choice([0.0004, 0.0012]), chance.choice([20, 300, 20_000]), chance.choice([0, 0, 0.1])
    for _ in range(390):
        opened = price * (1 + chance.gauss(0, step / 3))
        price = opened * (1 + max(-0.01, min(0.01, chance.gauss(0, step))))
        high = max(opened, price) * (1 + abs(chance.gauss(0, step / 2)))
        low = min(opened, price) * (1 - abs(chance.gauss(0, step / 2)))
        values = (opened, ceil(high * 100) / 100, floor(low * 100) / 100, price)
        mean = chance.choice([5, 5, 100_000]) if bursts else thin
        first, most, least, last = (Decimal(f"{one:.2f}") for one in values)
        bar = Bar(first, most, least, last, volume=int(chance.expovariate(1 / mean)))
        found.append(None if chance.random() < gone else bar)
    return found


def csv_of(sessions: dict[date, Session]) -> str:
    """The sessions as a file that `tbot data import` reads."""
    lines = ["symbol,timestamp,open,high,low,close,volume"]
    for day, symbols in sessions.items():
        for symbol, bars in symbols.items():
            for minute, bar in enumerate(bars):
                if bar is not None:
                    at = (opening(day) + timedelta(minutes=minute)).isoformat()
                    lines.append(f"{symbol},{at},{bar.open},{bar.high},{bar.low},{bar.close},{bar.volume}")
    return "\n".join(lines) + "\n"
