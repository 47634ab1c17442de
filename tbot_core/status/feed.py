"""The state of the current session's market data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.errors import TbotError
from tbot_core.journal import codec
from tbot_core.marketdata import received_files

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    from tbot_core.journal.projections.feed_health import DataHealth
    from tbot_core.status import Document


def feed_document(received: Path, health: DataHealth, now: dt.datetime | None) -> Document | None:
    """The market data of the current session: source, age, gaps and halts; None outside a session.

    `received` is the folder of the bars that the run received. `minute` is the last one closed, `age_s` the age of the
    last bars received: a minute without a bar counts for nothing. Without `now`, after a run, it has no age.
    """
    if not health.opened:
        return None
    path = received_files.recorded_file(received, health.opened.date())
    universe = health.universe
    return {
        **(_NOTHING_RECEIVED if path is None else _received(path, now)),
        "halted": sorted(symbol or _market(health) for symbol in health.halted),
        "apart": sorted(f"{symbol} at {broker}" if broker else symbol for broker, symbol in health.apart),
        "lost_minutes": len(health.lost),
        "universe": None if universe is None else dict(sorted(codec.write(universe).items())),
    }


_NOTHING_RECEIVED: Final[Document] = {
    "source": None, "coverage": None, "minute": None, "age_s": None, "late_bars": 0, "revised_bars": 0,
}  # fmt: skip


def _received(path: Path, now: dt.datetime | None) -> Document:
    # The feed by what was received of it. Only here arrays are read, so that the status needs no numpy elsewhere.
    from tbot_core.marketdata.bar_aggregator import BarArrival
    from tbot_core.marketdata.received_bars import read_ends

    try:
        found = read_ends(path)
    except TbotError:
        return _NOTHING_RECEIVED
    header, end, data = found.header, found.last, found.with_bars
    return {
        "source": header.source,
        "coverage": header.coverage,
        "minute": None if end is None else end.minute.index,
        "age_s": None if data is None or now is None else max(0.0, round((now - data.at).total_seconds(), 1)),
        "late_bars": 0 if end is None else end.counts.get(BarArrival.LATE.value, 0),
        "revised_bars": 0 if end is None else end.counts.get(BarArrival.REVISED.value, 0),
    }


def _market(health: DataHealth) -> str:
    return "the whole market, to the close" if health.over else "the whole market"
