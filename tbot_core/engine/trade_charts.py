"""The charts of a run's trades, drawn after the run from the bars that it used.

A replay and a backtest read the bar store, a demo its feed once more, a run in real time the bars that it received; in
each only the sessions and symbols that were traded. Where the bars cannot be had, the report says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import numpy as np

from tbot_core.contracts import Feed, FeedRequest, FeedSession
from tbot_core.errors import TbotError
from tbot_core.marketdata import received_bars, received_files
from tbot_core.marketdata.store.store import BarStore
from tbot_core.model.bars import Array, Bars, Tape
from tbot_core.model.calendar import Session
from tbot_core.model.day_facts import DayFacts
from tbot_core.model.formatting import plural
from tbot_core.reports.trade_charts import (
    MOST_CHARTS,
    ChartLine,
    TradeCharts,
    TradedSession,
    chart_document,
    largest,
)
from tbot_core.reports.trade_levels import key_of
from tbot_core.system import log

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

    from tbot_core.engine.assembly import Assembly
    from tbot_core.model.signals import Trigger
    from tbot_core.model.types import Side
    from tbot_core.reports.trade_levels import DrawnTrade, TradeKey, TradeLevels
    from tbot_core.trading.proposals import ActiveStrategy

_PRICES: Final = ("open", "high", "low", "close")
_Traded: TypeAlias = "Mapping[dt.date, Mapping[str, Sequence[DrawnTrade]]]"
"""The trades to be drawn, by session and symbol."""
_log = log.logger(__name__)


@attrs.frozen(kw_only=True, eq=False)
class _Market:
    # One session with its bars and facts, of all or of its traded symbols.
    session: Session
    bars: Bars
    day: DayFacts


@attrs.frozen(kw_only=True, eq=False)
class BarSource:
    """Where a run took its bars: the request, its feed, and the folder of received bars of a run in real time."""

    request: FeedRequest
    feed: Feed | None = None
    received: Path | None = None


@attrs.frozen(kw_only=True, eq=False)
class StoredBars:
    """The stored bars of a run: of all symbols that it read; a store that has read their facts need not do it again."""

    store: BarStore
    symbols: Sequence[str]


async def draw_trades(
    assembly: Assembly, source: BarSource, trades: Sequence[DrawnTrade], levels: Mapping[TradeKey, TradeLevels]
) -> TradeCharts:
    """Draw the trades of a run; those with the largest results if there are too many.

    It never fails: if bars or a strategy's lines are not to be had, `missing` gives the reason.
    """
    drawing = _Drawing(assembly, trades, levels)
    try:
        async for market in _markets(assembly, source, drawing.wanted):
            drawing.add(market)
    except TbotError as fault:
        drawing.fault = str(fault)
    return drawing.result()


def draw_stored_trades(
    assembly: Assembly, stored: StoredBars, trades: Sequence[DrawnTrade], levels: Mapping[TradeKey, TradeLevels]
) -> TradeCharts:
    """The same for trades on stored bars, without waiting."""
    drawing = _Drawing(assembly, trades, levels)
    try:
        for market in _stored(stored, drawing.wanted):
            drawing.add(market)
    except TbotError as fault:
        drawing.fault = str(fault)
    return drawing.result()


class _Drawing:
    # The charts that are drawn, session by session, so that one month of bars is in memory at a time.
    def __init__(
        self, assembly: Assembly, trades: Sequence[DrawnTrade], levels: Mapping[TradeKey, TradeLevels]
    ) -> None:
        self._assembly = assembly
        self._trades = largest(trades, MOST_CHARTS)
        self._levels = levels
        self._documents: dict[TradeKey, Mapping[str, Any]] = {}
        self.fault = ""
        self.wanted = _by_session(self._trades)

    def add(self, market: _Market) -> None:
        """Draw the trades of a session."""
        try:
            for trade, found in self._traded(market):
                key = key_of(trade)
                self._documents[key] = chart_document(trade, found, self._levels.get(key))
        except Exception as error:  # noqa: BLE001  a strategy's lines only show something: they never end a run
            _log.warning("report.chart_failed", session=market.session.date, exc_info=True)
            self.fault = f"{type(error).__name__}: {error}"

    def result(self) -> TradeCharts:
        """The charts, with a sentence about those that are missing."""
        lacking = len(self._trades) - len(self._documents)
        if not lacking:
            return TradeCharts(documents=self._documents)
        subject = f"{plural(lacking, 'trade has', 'trades have')} no price chart"
        return TradeCharts(
            documents=self._documents, missing=f"{subject}: {self.fault or 'the bars are no longer stored.'}"
        )

    def _traded(self, market: _Market) -> Iterator[tuple[DrawnTrade, TradedSession]]:
        # Each trade of a session with the prices of its signal's symbol and the lines of its strategy.
        entrants = {one.name: one for one in self._assembly.entrants(market.session)}
        used = {trade.strategy for trades in self.wanted[market.session.date].values() for trade in trades}
        triggers = {name: one.triggers(market.bars, market.day) for name, one in entrants.items() if name in used}
        traded = market.bars.traded
        rows = {symbol: row for row, symbol in enumerate(market.bars.symbols) if traded[row]}
        for symbol, trades in self.wanted[market.session.date].items():
            row = rows.get(symbol)
            if row is None:
                continue
            prices = {name: market.bars.field(name)[:, row] for name in _PRICES}
            for trade in trades:
                active, levels = entrants.get(trade.strategy), self._levels.get(key_of(trade))
                if active is None:
                    yield trade, TradedSession(session=market.session, prices=prices)
                    continue
                rules = [one for one in triggers[active.name] if levels is None or one.rule == levels.rule]
                lines, start = (
                    _lines(active, rules, row, market.bars, trade.instrument.side(trade.side)),
                    active.window.start,
                )
                yield trade, TradedSession(session=market.session, prices=prices, lines=lines, start=start)


def _by_session(trades: Iterable[DrawnTrade]) -> _Traded:
    found: defaultdict[dt.date, defaultdict[str, list[DrawnTrade]]] = defaultdict(lambda: defaultdict(list))
    for trade in trades:
        found[key_of(trade)[0]][trade.instrument.underlying].append(trade)
    return found


async def _markets(assembly: Assembly, source: BarSource, wanted: _Traded) -> AsyncIterator[_Market]:
    if source.received is not None:
        for day in wanted:
            path = received_files.recorded_file(source.received, day)
            if path is not None:
                yield await _walk(received_bars.read_recording(path))
    elif source.request.kind == "replay":
        if source.request.bars is not None:
            store = BarStore(folder=source.request.bars, calendar=assembly.calendar)
            traded = sorted({symbol for symbols in wanted.values() for symbol in symbols})
            for market in _stored(StoredBars(store=store, symbols=traded), wanted):
                yield market
    elif source.feed is not None and wanted:
        async for session in source.feed.sessions():
            if isinstance(session, FeedSession) and session.session.date in wanted:
                yield await _walk(session)


def _stored(stored: StoredBars, wanted: _Traded) -> Iterator[_Market]:
    # A month at a time; of each session the symbols that were traded in it.
    if not wanted:
        return
    for block in stored.store.blocks(min(wanted), max(wanted), stored.symbols):
        places = {symbol: place for place, symbol in enumerate(block.bars.symbols)}
        for row, session in enumerate(block.sessions):
            traded = [places[symbol] for symbol in wanted.get(session.date, ()) if symbol in places]
            if traded:
                bars, day = block.bars.session(row).columns(traded), block.day.session(row).symbols(traded)
                yield _Market(session=session, bars=bars, day=day)


async def _walk(source: FeedSession) -> _Market:
    tape = Tape(source.symbols, source.session.minutes)
    async for minute in source.minutes():
        tape.append(minute)
        if isinstance(source, received_bars.RecordedSession) and (late := source.late(minute.index)):
            tape.amend((one.minute, one.row, one.values) for one in late)
    return _Market(session=source.session, bars=tape.bars, day=source.day)


def _lines(
    active: ActiveStrategy, triggers: Sequence[Trigger], row: int, bars: Bars, side: Side
) -> tuple[ChartLine, ...]:
    # The trigger levels of a trade's side, and the prices from which all of the strategy's are measured.
    window = active.window
    shape = bars.close[..., window.entry : window.entry_end].shape
    entry, end = window.entry, window.entry + shape[-1]
    found: dict[str, ChartLine] = {}
    for trigger in triggers:
        level = _of_row(trigger.level, row, shape)
        base = _base(trigger, active, row, bars)
        if base is not None:
            found[base.name] = base
        if trigger.side == side and not (base is not None and _is_level(base.values, level)):
            name = f"{trigger.rule} trigger"
            found[name] = ChartLine(name=name, kind="trigger", start=entry, stop=end, values=level)
    return tuple(sorted(found.values(), key=lambda line: line.kind))


def _of_row(values: Any, row: int, shape: tuple[int, ...]) -> Any:
    # The values of a symbol: one for each minute, or a single one for all.
    given: Array = np.asarray(values)
    return given[row] if given.shape[:-1] == shape[:-1] else np.broadcast_to(given, shape)[row]


def _is_level(values: Array, level: Array) -> bool:
    # Whether the level is the base itself, as without a buffer.
    return values.shape in {(1,), level.shape} and bool(np.all((values == level) | np.isnan(level)))


def _base(trigger: Trigger, active: ActiveStrategy, row: int, bars: Bars) -> ChartLine | None:
    # A running column is shown in the whole session, a constant base, such as the opening range, in the whole window.
    window = active.window
    if trigger.base is None:
        return None
    line = partial(ChartLine, name=trigger.base_name, kind="base")
    if isinstance(trigger.base, str):
        return line(start=0, stop=bars.minutes, values=bars.so_far(trigger.base, 0, bars.minutes)[row])
    shape = bars.close[..., window.entry : window.entry_end].shape
    values = _of_row(trigger.base, row, shape)
    if np.all(values == values[:1]):
        return line(start=window.start, stop=window.leave, values=values[:1])
    return line(start=window.entry, stop=window.entry + shape[-1], values=values)
