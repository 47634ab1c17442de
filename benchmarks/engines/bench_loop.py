"""The referee of the engine comparison: the work as a plain loop over bars, in Python without a library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench_work import MINUTES, QUANTITY, BenchTrade

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench_work import Prices, Rules, Work


def loop_trades(work: Work, fields: Mapping[str, Prices], rules: Rules | None = None) -> list[BenchTrade]:
    """The trades; `fields` have the shape (symbols, sessions x minutes)."""
    found = []
    for row, symbol in enumerate(work.symbols):
        columns = {name: fields[name][row].tolist() for name in ("open", "high", "low", "close")}
        for session, opened_ns in enumerate(work.opens_ns):
            part = slice(session * MINUTES, (session + 1) * MINUTES)
            one = {name: column[part] for name, column in columns.items()}
            trade = _session_trade(symbol, opened_ns, one, rules or work.rules)
            if trade is not None:
                found.append(trade)
    return found


def _session_trade(symbol: str, opened_ns: int, bars: Mapping[str, Sequence[float]], rules: Rules) -> BenchTrade | None:
    high, low = max(bars["high"][: rules.range_minutes]), min(bars["low"][: rules.range_minutes])
    upper, lower = round(high * (1 + rules.buffer), 8), round(low * (1 - rules.buffer), 8)
    side = entered = 0
    for minute in range(rules.range_minutes, rules.leave):
        close = bars["close"][minute]
        if side == 0 and minute < rules.entry_end:
            side = 1 if close > upper else -1 if close < lower else 0
            entered = minute + 1
        elif side and (minute == rules.leave - 1 or (close <= low if side > 0 else close >= high)):
            prices = bars["open"][entered], bars["open"][minute + 1]
            pnl = side * QUANTITY * (prices[1] - prices[0])
            times = (opened_ns + at * 60_000_000_000 for at in (entered, minute + 1))
            return BenchTrade(symbol, side, next(times), prices[0], next(times), prices[1], QUANTITY, pnl)
    return None
