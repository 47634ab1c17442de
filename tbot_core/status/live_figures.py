"""What `tbot status` shows besides the journal: the gauges of the running bot, and the findings of a restart."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from tbot_core.journal import gauges, records
from tbot_core.journal.projections import restarts
from tbot_core.journal.projections.external_holdings import ExternalHoldings
from tbot_core.journal.projections.restarts import FOUND, Restart
from tbot_core.model.formatting import format_money, format_price, format_quantity, labelled_line, plural
from tbot_core.model.types import OrderState, dollars_of, ticks_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from tbot_core.journal.gauges import Gauges
    from tbot_core.journal.projections.book import SessionBook
    from tbot_core.journal.store import Event
    from tbot_core.trading.risk.gate import Limits

FIGURES: Final = ("equity", "day_pnl", "daily_loss_limit", "daily_loss_used", "budget", "gross", "marks_at")


def revalued_gauges(data: Path, journal: str, book: SessionBook | None) -> Gauges | None:
    """The gauges of the current session; positions of the book are valued at their marks. None without gauges."""
    found = gauges.read_gauges(data)
    if (
        found is None
        or book is None
        or not book.in_session
        or (found.journal, found.session) != (journal, book.session["date"])
    ):
        return None
    for symbol in found.marks.keys() & book.portfolio.positions.keys():
        book.portfolio.mark(symbol, ticks_of(float(found.marks[symbol])))
    return found


def account_figures(book: SessionBook, limits: Limits, seen: Gauges | None) -> dict[str, Any]:
    """The figures of the account: from the journal at the running bot's marks, against its limits."""
    pnl = dollars_of(book.portfolio.pnl_atoms)
    loss, budget, most = dollars_of(limits.daily_loss), dollars_of(limits.budget), limits.max_trades
    gross = dollars_of(book.portfolio.cost_atoms)
    if seen is not None:
        loss, budget, most = seen.daily_loss_limit, seen.budget, seen.most_trades
        gross = gross if seen.gross is None else seen.gross
    return {
        "equity": str(book.equity),
        "day_pnl": str(pnl),
        "daily_loss_limit": str(loss),
        "daily_loss_used": str(round(max(-pnl, Decimal(0)) / loss, 4)) if loss else None,
        "budget": str(budget),
        "gross": str(gross),
        "most_trades": most,
        "marks_at": None if seen is None else seen.at.isoformat(),
    }


def document(events: Iterable[Event], seen: Gauges | None) -> dict[str, Any]:
    """The remaining figures as a JSON document: None for what is unknown or does not apply."""
    restart, candidates, live = Restart(), dict[str, int](), dict[str, float | None]()
    foreign = ExternalHoldings()
    for event in events:
        restart.apply(event)
        foreign.apply(event)
        if event.kind == records.SESSION_OPENED:
            candidates, live = {}, {}
        elif event.kind == records.SCREENED:
            candidates[event.payload["strategy"]] = event.payload["candidates"]
        elif event.kind == records.VIX:
            live[event.payload["strategy"]] = event.payload["value"]
    return {
        "candidates": candidates,
        "foreign": foreign.document(),
        "restart": restarts.document(restart),
        "vix": None if seen is None else seen.vix,
        "vix_live": live,
        "clock_ahead_s": None if seen is None else seen.clock_ahead_s,
        "accounts": [] if seen is None else [_account(one) for one in seen.brokers],
    }


def protection(book: SessionBook, symbol: str) -> str:
    """What protects a position as the broker reports it: `resting`, else `closing`, `asked`, or `none`."""
    if book.resting(symbol) is not None:
        return "resting"
    working = [one for one in book.orders.values() if one.order.symbol == symbol and not one.terminal]
    legs = {one.order.leg.value for one in working if one.state is not OrderState.INTENDED}
    return "closing" if "exit" in legs else "asked" if "stop" in legs else "none"


def protection_text(one: Mapping[str, str]) -> str:
    """The same as text, with the level of the resting stop."""
    match one["protection"]:
        case "resting":
            uncovered = _uncovered(Decimal(one["quantity"]), Decimal(one["covered"]))
            return f"stop {format_price(Decimal(one['stop']))}{uncovered}"
        case "closing":
            return "UNPROTECTED, being closed"
        case "asked":
            return "UNPROTECTED, its stop is not confirmed"
        case _:
            return "UNPROTECTED, no stop at the broker: simulated at each closed bar"


def _uncovered(held: Decimal, covered: Decimal) -> str:
    # What of a position the stop that rests leaves out.
    if covered >= held:
        return ""
    rest = "UNPROTECTED" if held - covered >= 1 else "simulated at each closed bar"
    return f" for {format_quantity(covered)}, {format_quantity(held - covered)} {rest}"


def lines(shown: Mapping[str, Any]) -> Iterator[str]:
    """The remaining figures as text."""
    for one in shown["foreign"]:
        yield labelled_line("foreign", _foreign(one))
    if shown["candidates"]:
        yield labelled_line("candidates", ", ".join(f"{name} {count}" for name, count in shown["candidates"].items()))
    for one in shown["accounts"]:
        if said := _answers(one):
            yield labelled_line("broker", f"{one['broker']}: {', '.join(said)}")
    if shown["marks_at"] is not None:
        vix = f"{_points(shown['vix'])} at the previous close"
        vix += "".join(f", {name} uses {_points(value)}" for name, value in shown["vix_live"].items())
        ahead = shown["clock_ahead_s"]
        clock = "" if ahead is None else f", clock {ahead:+.1f} s against the broker's"
        yield labelled_line("VIX", f"{vix}{clock}")
    if shown["restart"] is not None:
        yield labelled_line("restart", _restarted(shown["restart"]))


def _foreign(one: Mapping[str, Any]) -> str:
    # What is held and not tbot's, and at what it counts.
    known = one["price"] is not None
    counted = f"at {format_price(Decimal(one['price']))}" if known else "counted in no limit, its price is unknown"
    at = f", at {one['broker']}" if one["broker"] else ""
    return f"{format_quantity(Decimal(one['quantity']))} {one['symbol']} {counted}, external{at}"


def _points(vix: float | None) -> str:
    return "unknown" if vix is None else f"{vix:.2f}"


def _account(one: gauges.BrokerGauge) -> dict[str, Any]:
    return {
        "broker": one.name,
        "equity": None if one.equity is None else str(one.equity),
        "latency_s": None if one.latency_s is None else round(one.latency_s, 3),
        "requests_spare": one.spare,
        "requests_per_minute": one.per_minute or None,
    }


def _answers(one: Mapping[str, Any]) -> list[str]:
    said = [] if one["equity"] is None else [f"equity {format_money(Decimal(one['equity']))}"]
    said += [] if one["latency_s"] is None else [f"latency {one['latency_s'] * 1000:.0f} ms"]
    if one["requests_spare"] is not None:
        said.append(f"{plural(one['requests_spare'], 'request')} of {one['requests_per_minute']} per minute left")
    return said


def _restarted(shown: Mapping[str, Any]) -> str:
    from tbot_core.model.clock import both_times

    at = dt.datetime.fromisoformat(shown["at"])
    kinds = [plural(count, FOUND[kind]) for kind, count in shown["found"].items()]
    found = ", ".join(kinds) or ("nothing new" if shown["settled"] else "the account has not been read yet")
    missed = f"{plural(shown['missed_minutes'], 'minute')}, {plural(shown['missed_signals'], 'signal')}"
    return f"{both_times(at)}; found: {found}; missed: {missed}"
