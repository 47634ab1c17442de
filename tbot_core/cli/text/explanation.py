"""The answer of `tbot why`, as a JSON document and as text."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import click

from tbot_core.model.clock import both_times, exchange_time
from tbot_core.model.formatting import MINUS, format_money, format_percent, format_price, format_quantity
from tbot_core.model.reasons import Reason
from tbot_core.model.types import dollars_of, price_of, quantity_of
from tbot_core.reports.summary import trade_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tbot_core.engine.explain import MinuteExplanation, ScreeningExplanation, StrategyExplanation
    from tbot_core.journal.store import Event
    from tbot_core.model.types import Trade
    from tbot_core.status.why import SymbolExplanation
    from tbot_core.trading.near_misses import TriggerComparison
    from tbot_core.trading.orders import OrderRecord
    from tbot_core.trading.proposals import CheckResult

_SIDES = {1: "long", -1: "short"}


def document(found: SymbolExplanation) -> dict[str, Any]:
    """The answer as a JSON document. The `time` of a minute is the end of that minute, in UTC."""
    explained = found.explained
    return {
        "symbol": found.symbol,
        "run": found.file.name,
        "mode": found.run["mode"],
        "source": found.run["source"],
        "simulated": found.run["simulated"],
        "session": found.session["date"],
        "sessions_with_decisions": list(found.sessions),
        "note": found.lacking,
        "screening": [] if explained is None else [_screening(one) for one in explained.screenings],
        "minutes": [] if explained is None else [_moment(found, one) for one in explained.moments],
        "decisions": [{"time": one.applied, **one.payload} for one in found.decisions],
        "top_ups": [{"time": one.applied, **one.payload} for one in found.top_ups],
        "position": _position(found),
        "stuck": _stuck(found),
        "frozen": found.book.frozen.get(found.symbol, ""),
        "orders": [_order(one) for one in _orders(found)],
        "trades": [trade_document(trade) for trade in _trades(found)],
    }


def lines(found: SymbolExplanation) -> Iterator[str]:
    """The answer as text."""
    label = "SIMULATED PRICES, " if found.run["simulated"] else ""
    yield click.style(f"{found.symbol} in the session of {found.session['date']}", bold=True)
    yield f"{found.run['mode']} run {found.file.name}, {label}{found.run['source']}"
    others = [day for day in found.sessions if day != found.session["date"]]
    if others:
        yield f"Other sessions with decisions on it: {', '.join(others[-8:])}. Choose one with --date."
    if found.lacking:
        yield f"Note: {found.lacking}"
    if found.explained is not None:
        yield ""
        yield "Before the opening bell"
        for screening in found.explained.screenings:
            yield from _screening_lines(found, screening)
        for moment in found.explained.moments:
            yield from _moment_lines(found, moment)
    else:
        for event in found.decisions:
            yield ""
            yield from _decision_lines(event)
    if found.asked is None and not found.decisions:
        yield ""
        yield "No strategy gave a signal on it. --at HH:MM (New York) explains any minute."
    yield from _standing_lines(found)


def _screening(one: ScreeningExplanation) -> dict[str, Any]:
    return {
        "strategy": one.strategy,
        "reason": one.reason.name,
        "findings": [_plain(attrs.asdict(finding)) for finding in one.findings],
        "window": attrs.asdict(one.window),
        "nearest": None if one.near is None else _plain(attrs.asdict(one.near)),
    }


def _moment(found: SymbolExplanation, one: MinuteExplanation) -> dict[str, Any]:
    return {
        "minute": one.minute,
        "time": _closed(found, one.minute),
        "bar": one.bar,
        "quote": None if one.quote is None else attrs.asdict(one.quote),
        "strategies": [
            {
                "strategy": part.strategy,
                "comparisons": [_plain(attrs.asdict(compared)) for compared in part.comparisons],
                "findings": [_plain(attrs.asdict(finding)) for finding in part.findings],
                "filters": None if part.verdict is None else part.verdict.name,
            }
            for part in one.parts
        ],
    }


def _plain(value: Any) -> Any:
    # JSON knows no NaN: unknown is null; a reason is its name.
    match value:
        case Reason():
            return value.name
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _plain(part) for key, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
        case _:
            return value


def _stuck(found: SymbolExplanation) -> str:
    # Why the symbol could not be closed; "" where it is not stuck.
    return str(found.book.stuck.get(found.symbol, {}).get("words", ""))


def _position(found: SymbolExplanation) -> dict[str, str] | None:
    position = found.book.portfolio.positions.get(found.symbol)
    if position is None:
        return None
    stop = found.book.stops.get(found.symbol)
    return {
        "strategy": position.signal.strategy,
        "side": position.side.word,
        "quantity": f"{quantity_of(position.units):f}",
        "entry_price": str(price_of(round(position.entry_atoms / position.entry_units))),
        "stop": "" if stop is None else str(stop),
        "pnl_at_last_fill": str(dollars_of(position.pnl_atoms)),
    }


def _orders(found: SymbolExplanation) -> list[OrderRecord]:
    return [record for record in found.book.orders.values() if record.order.symbol == found.symbol]


def _order(record: OrderRecord) -> dict[str, Any]:
    order = record.order
    return {
        "client_order_id": order.client_order_id,
        "leg": order.leg.value,
        "buy": order.buy,
        "type": order.type.value,
        "quantity": f"{order.quantity:f}",
        "limit_price": order.limit_price,
        "stop_price": order.stop_price,
        "state": record.state.value,
        "filled": f"{record.filled:f}",
    }


def _trades(found: SymbolExplanation) -> list[Trade]:
    opened = dt.datetime.fromisoformat(found.session["open"])
    return [trade for trade in found.book.trades if trade.symbol == found.symbol and trade.entry_time >= opened]


def _closed(found: SymbolExplanation, minute: int) -> dt.datetime:
    return dt.datetime.fromisoformat(found.session["open"]) + dt.timedelta(minutes=minute + 1)


def _at(found: SymbolExplanation, minute: int) -> str:
    return f"{exchange_time(_closed(found, minute)):%H:%M}"


def _screening_lines(found: SymbolExplanation, one: ScreeningExplanation) -> Iterator[str]:
    window = one.window
    entries = f"entries {_at(found, window.entry - 1)} to {_at(found, window.entry_end - 1)}"
    verdict = "candidate" if one.reason is Reason.ALLOWED else f"{one.reason.name}: {one.reason.sentence}"
    yield f"  {click.style(one.strategy, bold=True)}, {entries}: {verdict}"
    yield from _findings(one.findings)
    if one.near is not None:
        near = one.near
        rule = f"{near.rule} {_SIDES[near.side]}"
        yield f"    no trigger; closest to {rule} at {_at(found, near.minute)}, {format_percent(near.distance)} away"


def _findings(findings: Iterable[CheckResult]) -> Iterator[str]:
    for one in findings:
        value = "unknown" if math.isnan(one.value) else _number(one.value)
        outcome = "passes" if one.reason is Reason.ALLOWED else f"denies: {one.reason.name}"
        yield f"    {one.check:24} {value:>16}  {_bounds(one.low, one.high):32} {outcome}"


def _bounds(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return "no limit"
    if low is None or high is None:
        return f"at least {_number(low)}" if low is not None else f"at most {_number(high or 0.0)}"
    return f"{_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    text = f"{value:,.0f}" if abs(value) >= 100_000 else f"{value:,.4f}".rstrip("0").rstrip(".")
    return text.replace("-", MINUS)


def _moment_lines(found: SymbolExplanation, one: MinuteExplanation) -> Iterator[str]:
    yield ""
    yield click.style(
        f"{both_times(_closed(found, one.minute))}, after the bar of {_at(found, one.minute - 1)}", bold=True
    )
    if one.bar is None:
        yield "  no bar: no trade in this minute"
    else:
        ohlc = "  ".join(f"{name} {_number(one.bar[name])}" for name in ("open", "high", "low", "close", "volume"))
        yield f"  bar: {ohlc}"
    if one.quote is not None:
        yield f"  quote: {_quote(attrs.asdict(one.quote))}"
    quiet = [part.strategy for part in one.parts if not part.comparisons]
    for part in one.parts:
        if part.comparisons:
            yield from _part_lines(part)
    if quiet:
        yield f"  {', '.join(quiet)}: not in the entry phase, nothing to compare"
    for event in found.decisions:
        if event.payload["signal"]["minute"] == one.minute:
            yield from _decision_lines(event)


def _quote(quote: Mapping[str, float]) -> str:
    middle = (quote["bid"] + quote["ask"]) / 2
    spread = format_percent((quote["ask"] - quote["bid"]) / middle)
    return f"bid {_number(quote['bid'])}  ask {_number(quote['ask'])}  spread {spread}, {quote['age_s']:.1f} s old"


def _part_lines(part: StrategyExplanation) -> Iterator[str]:
    yield f"  {click.style(part.strategy, bold=True)}"
    for one in part.comparisons:
        yield _compared(one, f"{one.rule} {_SIDES[one.side]}", "FIRES" if one.fires else "no")
        for condition in one.conditions:
            yield _compared(condition, f"  and {condition.rule}", "holds" if condition.fires else "no")
    if part.verdict is not None:
        word = "pass" if part.verdict is Reason.ALLOWED else f"deny: {part.verdict.name}"
        yield f"    filters on a signal in this minute {word}"
        yield from _findings(part.findings)


def _compared(one: TriggerComparison, name: str, outcome: str) -> str:
    value, level = ("unknown" if math.isnan(number) else _number(number) for number in (one.value, one.level))
    bound = f"{'above' if one.above else 'below'} {level}"
    return f"    {name:24} {value:>16}  {bound:32} {outcome}"


def _decision_lines(event: Event, what: str = "decided") -> Iterator[str]:
    payload = event.payload
    signal, reason = payload["signal"], payload["reason"]
    words = f" ({payload['words']})" if payload["words"] else ""
    words += f" at {payload['broker']}" if "broker" in payload else ""
    figures = "" if payload["value"] is None else f" {payload['value']} of {payload['limit']}"
    rule = f"{signal['strategy']} {payload['side']} by {signal['rule']}"
    yield (f"  {what} at {both_times(event.applied)}: {rule}, {click.style(reason, bold=True)}{figures}{words}")
    yield f"    {Reason[reason].sentence}"
    if "quote" in payload:
        yield f"    by the quote {_quote(payload['quote'])}"


def _standing_lines(found: SymbolExplanation) -> Iterator[str]:
    last = "now" if found.book.in_session else "at the end of the session"
    when = last if found.asked is None else "then"
    position, orders = _position(found), _orders(found)
    yield ""
    if position is None:
        yield f"Position {when}: none"
    else:
        held = f"{position['side']} {format_quantity(Decimal(position['quantity']))} at {position['entry_price']}"
        yield f"Position {when}: {held}, stop {position['stop'] or 'on close'}"
    if words := found.book.frozen.get(found.symbol):
        yield f"  FROZEN: no entries and no exits, {words}"
    if words := _stuck(found):
        yield f"  STUCK: not closed by the end of the session, {words}"
    for event in found.top_ups:
        yield from _decision_lines(event, "top-up")
    for record in orders:
        order = record.order
        leg = "top-up" if order.tops_up else order.leg.value
        kind = f"{leg} {'buy' if order.buy else 'sell'} {format_quantity(order.quantity)} {order.type.value}"
        level = order.limit_price or order.stop_price
        yield f"  order {kind}{'' if level is None else f' {format_price(level)}'}: {record.state.value}"
    for trade in _trades(found):
        out = (
            f"{format_price(trade.entry_price)} to {format_price(trade.exit_price)}, {trade.exit_reason.value.lower()}"
        )
        pnl = format_money(trade.pnl, signed=True)
        yield f"  trade {trade.side.word} {format_quantity(trade.quantity)}: {out}, {pnl}"
