"""The closed trades of a run or of one of its sessions, and the price chart of a trade."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from tbot_core.engine.assembly import SIMULATOR, feed_source
from tbot_core.engine.explain import request_of
from tbot_core.engine.trade_charts import BarSource, draw_trades
from tbot_core.errors import TbotError, UsageError
from tbot_core.instance import Instance
from tbot_core.model import dates
from tbot_core.model.formatting import money_text
from tbot_core.reports.summary import trade_document
from tbot_core.reports.timeline import in_order_of_entry, read_timeline
from tbot_core.reports.trade_charts import chart_points
from tbot_core.reports.trade_levels import key_of
from tbot_core.status import runs
from tbot_core.status.why import assembly_of_run, opened_sessions, recorded_sessions_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from tbot_core.model.types import Trade
    from tbot_core.reports.timeline import RunTimeline
    from tbot_core.reports.trade_levels import TradeKey, TradeLevels
    from tbot_core.status import Document
    from tbot_core.status.runs import RunFile

MOST_TRADES: Final = 1_000
"""How many of the latest trades are listed; sums are of all."""


def trades_document(home: Path | None, *, date: str | None = None, run: str | None = None) -> Document:
    """The closed trades of a run, of the session in which they were closed with `date`; the latest run by default.

    `trades` have an `id`; `strategies` are the sums by strategy, `fees` and `pnl` those of all. Raises UsageError for a
    session that the run does not have, JournalError without a run, DataError without a session.
    """
    file = runs.run_file(Instance.at(home), run)
    with runs.open_run_file(file) as journal:
        opened = opened_sessions(journal)
        if date is not None and date not in opened:
            day = dates.parse_day(date)
            raise UsageError(f"The run has no session on {day}.", recorded_sessions_text(sorted(opened), day))
        story = read_timeline(journal.events())
    listed = [(one.date, trade) for one in story.chapters if date in {None, one.date} for trade in one.trades]
    trades = in_order_of_entry(trade for _, trade in listed)
    return {
        **_run(file, story),
        "sessions": sorted(opened),
        "session": date,
        "trades": [{"id": trade_id(key_of(one)), **trade_document(one)} for one in trades[-MOST_TRADES:]],
        "left_out": max(len(trades) - MOST_TRADES, 0),
        "strategies": [_sum(name, of) for name, of in _by_strategy(trades)],
        **_sum("", trades),
    }


def trade_with_chart(home: Path | None, wanted: str, *, run: str | None = None) -> Document:
    """One trade by its `id`, with its levels as they were ordered, its neighbours, and its chart.

    `chart` is None where the bars cannot be had, with the reason in `missing`. Times of the chart are seconds of the
    epoch shifted to New York, for a chart that shows UTC. Raises UsageError for an unknown trade.
    """
    instance = Instance.at(home)
    file = runs.run_file(instance, run)
    with runs.open_run_file(file) as journal:
        story = read_timeline(journal.events())
    trades = in_order_of_entry(story.book.trades)
    ids = [trade_id(key_of(one)) for one in trades]
    if wanted not in ids:
        raise UsageError(f"The run {file.name} has no closed trade {wanted}.", "The list of its trades has them.")
    at = ids.index(wanted)
    trade = trades[at]
    chart, missing = _chart(instance, file, story, trade)
    return {
        **_run(file, story),
        "id": wanted,
        "trade": trade_document(trade),
        "session": key_of(trade)[0].isoformat(),
        "before": ids[at - 1] if at else None,
        "after": ids[at + 1] if at + 1 < len(ids) else None,
        "levels": _levels(story, trade, story.levels.get(key_of(trade))),
        "chart": chart,
        "missing": missing,
    }


def trade_id(key: TradeKey) -> str:
    """The id of a trade in its run: session, strategy and symbol."""
    session, strategy, symbol = key
    return f"{session}.{strategy}.{symbol}"


def _run(file: RunFile, story: RunTimeline) -> Document:
    return {"run": file.name, **{name: story.run.get(name) for name in ("mode", "source", "simulated")}}


def _by_strategy(trades: Sequence[Trade]) -> Iterator[tuple[str, list[Trade]]]:
    for name in sorted({one.strategy for one in trades}):
        yield name, [one for one in trades if one.strategy == name]


def _sum(name: str, trades: Sequence[Trade]) -> Document:
    return {
        "strategy": name,
        "count": len(trades),
        "won": sum(one.pnl > 0 for one in trades),
        "fees": money_text(_total(one.fees for one in trades)),
        "pnl": money_text(_total(one.pnl for one in trades)),
    }


def _total(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))


def _levels(story: RunTimeline, trade: Trade, found: TradeLevels | None) -> Document:
    # The signal with its stop and target, the risk up to the first stop, and the result as a multiple of that.
    if found is None:
        return {"rule": None, "signal_time": None, "stops": [], "target": None, "risk": None, "multiple": None}
    day = key_of(trade)[0].isoformat()
    opened = next((one.open for one in story.chapters if one.date == day), None)
    signal = None if opened is None else (opened + dt.timedelta(minutes=found.minute + 1)).isoformat()
    risk = abs(trade.entry_price - found.stops[0][1]) * trade.quantity if found.stops else Decimal(0)
    return {
        "rule": found.rule,
        "signal_time": signal,
        "stops": [[moment.isoformat(), f"{level:f}"] for moment, level in found.stops],
        "target": None if found.target is None else f"{found.target:f}",
        "risk": money_text(risk) if risk else None,
        "multiple": f"{trade.pnl / risk:.2f}" if risk else None,
    }


def _chart(instance: Instance, file: RunFile, story: RunTimeline, trade: Trade) -> tuple[Document | None, str]:
    run = story.run
    try:
        assembly = assembly_of_run(instance.home, file, run)
        request = request_of(run["request"], key_of(trade)[0], assembly)
        if request.kind == "live":
            source = BarSource(request=request, received=runs.received_of(instance, file))
        else:
            broker = assembly.broker()
            source = BarSource(request=request, feed=feed_source(broker, SIMULATOR).feed(request))
        drawn = asyncio.run(assembly.closing(draw_trades(assembly, source, [trade], story.levels)))
    except TbotError as fault:
        return None, str(fault)
    document = drawn.documents.get(key_of(trade))
    return (None, drawn.missing) if document is None else (chart_points(document), "")
