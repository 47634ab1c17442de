"""The state of a session's market data as text, for the live view and `tbot status`."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from tbot_core.errors import TbotError
from tbot_core.journal import records
from tbot_core.journal.projections.feed_health import DataHealth
from tbot_core.marketdata import received_bars
from tbot_core.marketdata.bar_aggregator import BarArrival
from tbot_core.marketdata.feed_health import ENDS_THE_DAY
from tbot_core.model.formatting import format_price, labelled_line, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from tbot_core.journal.store import Event


def data_words(kind: str, payload: Mapping[str, Any]) -> str:
    """What happened to the data, in one line."""
    match kind:
        case records.UNIVERSE:
            return f"UNIVERSE_TRUNCATED: {_universe(payload)}"
        case records.FEED_GAP:
            return f"Feed: {payload['words']}, {plural(payload['last'] - payload['first'] + 1, 'minute')} to backfill"
        case records.FEED_FILLED:
            return f"Feed: {plural(len(payload['minutes']), 'minute')} backfilled, {payload['open']} still missing"
        case records.HALT:
            return _halt(payload)
        case _:
            word = "differ" if payload["there"] else "agree again"
            at = " and ".join(format_price(Decimal(payload[name])) for name in ("feed", "theirs"))
            return f"{payload['symbol']}: feed and {payload.get('broker', 'broker')} {word}, {at}"


DATA: Final = frozenset({records.UNIVERSE, records.FEED_GAP, records.FEED_FILLED, records.HALT, records.FEEDS_APART})


def document(data: Path, events: Iterable[Event], now: dt.datetime) -> dict[str, Any] | None:
    """The data of the current session as a JSON document; None where none is recorded."""
    health = DataHealth()
    for event in events:
        health.apply(event)
    if not health.opened:
        return None
    path = received_bars.recorded_file(data / received_bars.FOLDER, dt.datetime.fromisoformat(health.opened).date())
    try:
        found = None if path is None else received_bars.read_first_and_last(path)
    except TbotError:
        found = None
    header, end = (None, None) if found is None else found
    universe = health.universe
    return {
        "source": None if header is None else header.source,
        "coverage": None if header is None else header.coverage,
        "minute": None if end is None else end.minute.index,
        "age_s": None if end is None else round((now - end.at).total_seconds(), 1),
        "late_bars": 0 if end is None else end.counts.get(BarArrival.LATE.value, 0),
        "revised_bars": 0 if end is None else end.counts.get(BarArrival.REVISED.value, 0),
        "halted": sorted(symbol or _market(health) for symbol in health.halted),
        "apart": sorted(f"{symbol} at {broker}" if broker else symbol for broker, symbol in health.apart),
        "lost_minutes": len(health.lost),
        "universe": dict(universe) if universe else None,
    }


def lines(shown: Mapping[str, Any]) -> Iterator[str]:
    """The same as text."""
    if shown["source"]:
        coverage = f", {shown['coverage'].replace('_', ' ')}" if shown["coverage"] else ""
        age = "no minute yet" if shown["age_s"] is None else f"last minute {shown['age_s']:.0f} s ago"
        late = f"{plural(shown['late_bars'], 'late bar')}, {shown['revised_bars']} revised"
        yield labelled_line("feed", f"{shown['source']}{coverage}: {age}, {late}")
    if shown["universe"]:
        yield labelled_line("universe", _universe(shown["universe"]))
    if shown["lost_minutes"]:
        yield labelled_line("gaps", f"{plural(shown['lost_minutes'], 'minute')} lost and not backfilled")
    if shown["halted"]:
        yield labelled_line("halted", ", ".join(shown["halted"]))
    if shown["apart"]:
        yield labelled_line("apart", f"feed and broker differ on {', '.join(shown['apart'])}: no entries")


def _halt(payload: Mapping[str, Any]) -> str:
    level = f"level {payload['level']}" if payload["level"] else ""
    words = ", ".join(filter(None, (level, payload["words"])))
    why = f" ({words})" if words else ""
    until = " to the close" if payload["level"] >= ENDS_THE_DAY else ""
    what = f"halted{until}" if payload["halted"] else "trading again"
    return f"{payload['symbol'] or 'The whole market'} is {what}{why}"


def _market(health: DataHealth) -> str:
    return "the whole market, to the close" if health.over else "the whole market"


def _universe(payload: Mapping[str, Any]) -> str:
    kept = payload["kept"]
    return f"{kept} of {kept + len(payload['cut'])} symbols, by {payload['by']} of {payload['limit']}"
