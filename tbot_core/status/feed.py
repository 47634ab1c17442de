"""The state of the current session's market data."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from tbot_core.errors import TbotError
from tbot_core.marketdata import received_bars
from tbot_core.marketdata.bar_aggregator import BarArrival

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.journal.projections.feed_health import DataHealth
    from tbot_core.status import Document


def feed_document(received: Path, health: DataHealth, now: dt.datetime) -> Document | None:
    """The market data of the current session: source, age, gaps and halts; None outside a session.

    `received` is the folder of the bars that the run received. `minute` is the last one closed, `age_s` the age of the
    last bars received: a minute without a bar counts for nothing.
    """
    if not health.opened:
        return None
    path = received_bars.recorded_file(received, dt.datetime.fromisoformat(health.opened).date())
    try:
        found = None if path is None else received_bars.read_ends(path)
    except TbotError:
        found = None
    header, end, data = (None, None, None) if found is None else (found.header, found.last, found.with_bars)
    universe = health.universe
    return {
        "source": None if header is None else header.source,
        "coverage": None if header is None else header.coverage,
        "minute": None if end is None else end.minute.index,
        "age_s": None if data is None else max(0.0, round((now - data.at).total_seconds(), 1)),
        "late_bars": 0 if end is None else end.counts.get(BarArrival.LATE.value, 0),
        "revised_bars": 0 if end is None else end.counts.get(BarArrival.REVISED.value, 0),
        "halted": sorted(symbol or _market(health) for symbol in health.halted),
        "apart": sorted(f"{symbol} at {broker}" if broker else symbol for broker, symbol in health.apart),
        "lost_minutes": len(health.lost),
        "universe": dict(universe) if universe else None,
    }


def _market(health: DataHealth) -> str:
    return "the whole market, to the close" if health.over else "the whole market"
