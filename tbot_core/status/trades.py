"""The closed trades of a run or of one of its sessions, and the price chart of a trade, open or closed."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from tbot_core.backtest.explanations import request_of
from tbot_core.engine.assembly import SIMULATOR, feed_source
from tbot_core.engine.trade_charts import BarSource, draw_trades
from tbot_core.errors import TbotError, UsageError
from tbot_core.instance import Instance
from tbot_core.journal import codec, records
from tbot_core.journal.events.orders import SignalDecided
from tbot_core.journal.events.sessions import RunStarted
from tbot_core.journal.gauges import revalued_gauges
from tbot_core.model import dates
from tbot_core.model.calendar import Session
from tbot_core.model.formatting import money_text, round_to_cents
from tbot_core.model.reasons import Reason
from tbot_core.reports.summary import trade_document
from tbot_core.reports.timeline import RunTimeline, in_order_of_entry, read_timeline
from tbot_core.reports.trade_charts import chart_points
from tbot_core.reports.trade_levels import OpenTrade, TradeLevels, key_of, trade_id
from tbot_core.status import Document, live_figures, runs
from tbot_core.status.why import assembly_of_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from tbot_core.journal.store import Journal
    from tbot_core.model.signals import ExitRules
    from tbot_core.model.types import SignalId, Trade
    from tbot_core.status.runs import RunFile

_MOST_TRADES: Final = 1_000
"""How many of the latest trades are listed; sums are of all."""


def trades_document(home: Path | None, *, date: str | None = None, run: str | None = None) -> Document:
    """The closed trades of a run, of the session in which they were closed with `date`; the latest run by default.

    `trades` have an `id`; `strategies` are the sums by strategy, `fees` and `pnl` those of all. Raises UsageError for a
    session that the run does not have, JournalError without a run, DataError without a session.
    """
    file = runs.run_file(Instance.at(home), run)
    with runs.open_run_file(file) as journal:
        opened = runs.opened_sessions(journal)
        if date is not None and date not in opened:
            day = dates.parse_day(date)
            raise UsageError(f"The run has no session on {day}.", runs.recorded_sessions_text(sorted(opened), day))
        story = read_timeline(journal.events())
    listed = [
        (chapter.date, trade) for chapter in story.chapters if date in {None, chapter.date} for trade in chapter.trades
    ]
    trades = in_order_of_entry(trade for _, trade in listed)
    return {
        **_run(file, story),
        "sessions": sorted(opened),
        "session": date,
        "trades": [{"id": trade_id(key_of(trade)), **trade_document(trade)} for trade in trades[-_MOST_TRADES:]],
        "left_out": max(len(trades) - _MOST_TRADES, 0),
        "strategies": [_sum(name, of) for name, of in _by_strategy(trades)],
        **_sum("", trades),
    }


def trade_with_chart(home: Path | None, wanted: str, *, run: str | None = None) -> Document:
    """One trade by its `id`, open or closed, with its levels as they were ordered, its neighbours, and its chart.

    `chart` is None where the bars cannot be had, with the reason in `missing`. Times of the chart are seconds of the
    epoch shifted to New York, for a chart that shows UTC. `open` is None for a closed trade, else the position as
    `tbot status` has it, with its working `orders` and `time_exit`, when it is to be closed at the latest (None:
    unknown); such a trade has no exit. Raises UsageError for an unknown trade.
    """
    instance = Instance.at(home)
    file = runs.run_file(instance, run)
    with runs.open_run_file(file) as journal:
        story = read_timeline(journal.events())
        revalued_gauges(instance.data, file.path.name, story.book)
        until = None if story.run.get("request", {}).get("kind") == "live" else story.book.time
        positions = {signal: OpenTrade.of(one, until) for signal, one in story.book.portfolio.positions.items()}
        signal = next((one for one, trade in positions.items() if trade_id(key_of(trade)) == wanted), None)
        held, rules = (None, None) if signal is None else (positions[signal], _exit_rules(journal, signal))
    both: list[Trade | OpenTrade] = [*story.book.trades, *positions.values()]
    trades = in_order_of_entry(both)
    ids = [trade_id(key_of(one)) for one in trades]
    if wanted not in ids:
        raise UsageError(f"The run {file.name} has no trade {wanted}.", "The list of its trades has them.")
    at = ids.index(wanted)
    trade = held or trades[at]
    chart, missing = _chart(instance, file, story, trade)
    return {
        **_run(file, story),
        "id": wanted,
        "trade": _traded(trade),
        "open": None if held is None else _open(instance, story, held, rules),
        "session": key_of(trade)[0].isoformat(),
        "before": ids[at - 1] if at else None,
        "after": ids[at + 1] if at + 1 < len(ids) else None,
        "levels": _levels(story, trade, story.levels.get(key_of(trade))),
        "chart": chart,
        "missing": missing,
    }


def _traded(trade: Trade | OpenTrade) -> Document:
    if not isinstance(trade, OpenTrade):
        return trade_document(trade)
    return {
        "strategy": trade.strategy,
        "symbol": trade.symbol,
        "side": trade.side.word,
        "quantity": f"{trade.quantity:f}",
        "entry_time": trade.entry_time.isoformat(),
        "entry_price": f"{trade.entry_price:f}",
        "pnl": money_text(trade.pnl),
    }


def _open(instance: Instance, story: RunTimeline, held: OpenTrade, rules: ExitRules | None) -> Document:
    # The position with its orders, and when it is to be closed.
    book = story.book
    (position,) = (document for document in live_figures.position_documents(book) if document["symbol"] == held.symbol)
    due = None if rules is None else _time_exit(instance, story, held, rules)
    return {
        **position,
        "time_exit": None if due is None else due.isoformat(),
        "orders": [document for document in live_figures.order_documents(book) if document["symbol"] == held.symbol],
    }


def _exit_rules(journal: Journal, signal: SignalId) -> ExitRules | None:
    # Those of the allowed signal, as the strategy gave them.
    for event in journal.events(kind=records.DECISION):
        decided = event.facts(SignalDecided)
        if decided.reason == Reason.ALLOWED.name and decided.signal == signal:
            return decided.exits
    return None


def _time_exit(instance: Instance, story: RunTimeline, held: OpenTrade, rules: ExitRules) -> dt.datetime | None:
    # When the position manager closes the position at the latest; None for one of an earlier session, and where the
    # settings cannot be read.
    chapter = story.chapters[-1]
    if key_of(held)[0].isoformat() != chapter.date:
        return None
    try:
        settings, _ = runs.settings_or_last_run(instance.home, mode="demo")
    except TbotError:
        return None
    session = Session(date=key_of(held)[0], open=chapter.open, close=chapter.close)
    minute = rules.time_exit(session.minute(held.entry_time))
    flatten = session.minutes - settings.exits.flatten_before_close
    return session.moment(flatten if minute is None else min(minute, flatten))


def _run(file: RunFile, story: RunTimeline) -> Document:
    return {"run": file.name, **{name: story.run.get(name) for name in ("mode", "source", "simulated")}}


def _by_strategy(trades: Sequence[Trade]) -> Iterator[tuple[str, list[Trade]]]:
    for name in sorted({trade.strategy for trade in trades}):
        yield name, [trade for trade in trades if trade.strategy == name]


def _sum(name: str, trades: Sequence[Trade]) -> Document:
    return {
        "strategy": name,
        "count": len(trades),
        "won": sum(round_to_cents(trade.pnl) > 0 for trade in trades),
        "fees": money_text(_total(trade.fees for trade in trades)),
        "pnl": money_text(_total(trade.pnl for trade in trades)),
    }


def _total(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))


def _levels(story: RunTimeline, trade: Trade | OpenTrade, found: TradeLevels | None) -> Document:
    # The signal with its stop and target, the risk up to the first stop, and the result as a multiple of that.
    if found is None:
        return {"rule": None, "signal_time": None, "stops": [], "target": None, "risk": None, "multiple": None}
    day = key_of(trade)[0].isoformat()
    opened = next((chapter.open for chapter in story.chapters if chapter.date == day), None)
    signal = None if opened is None else (opened + dt.timedelta(minutes=found.minute + 1)).isoformat()
    known = found.stops and not trade.instrument.is_proxy  # else the levels are not prices of what is held
    risk = abs(trade.entry_price - found.stops[0][1]) * trade.quantity if known else Decimal(0)
    return {
        "rule": found.rule,
        "signal_time": signal,
        "stops": [[moment.isoformat(), f"{level:f}"] for moment, level in found.stops],
        "target": None if found.target is None else f"{found.target:f}",
        "risk": money_text(risk) if risk else None,
        "multiple": f"{trade.pnl / risk:.2f}" if risk else None,
    }


def _chart(
    instance: Instance, file: RunFile, story: RunTimeline, trade: Trade | OpenTrade
) -> tuple[Document | None, str]:
    run = codec.view(RunStarted, story.run)
    try:
        assembly = assembly_of_run(instance.home, file, run)
        request = request_of(run.request, key_of(trade)[0], assembly)
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
