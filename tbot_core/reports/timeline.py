"""A run's timeline from journal events: sessions with their windows, trades, denials and risk changes.

Used by the report and the end of `tbot run`; no decision depends on it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from tbot_core.contracts import BrokerEventKind
from tbot_core.journal import records
from tbot_core.journal.events.risk import PositionStuck, RiskChanged
from tbot_core.journal.events.sessions import NearMiss, SessionClosed, SessionOpened, WindowClosed
from tbot_core.journal.projections.book import SessionBook
from tbot_core.model.calendar import SessionGap, session_gaps
from tbot_core.model.types import Trade
from tbot_core.reports.figures import TradingDay
from tbot_core.reports.trade_levels import DrawnTrade, LevelRecorder, TradeKey, TradeLevels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tbot_core.journal.projection import JournalEvent
    from tbot_core.model.calendar import ExchangeCalendar

AnyTrade = TypeVar("AnyTrade", bound=DrawnTrade)


@attrs.frozen(kw_only=True)
class WindowSummary:
    """A strategy's part of one session: counts of candidates and triggers, and near misses."""

    strategy: str
    candidates: int
    triggers: int
    near_misses: tuple[NearMiss, ...]


@attrs.define(kw_only=True)
class SessionTimeline:
    """One session; trades belong to the session in which they were closed."""

    date: str
    open: datetime
    close: datetime
    opening: Decimal
    closing: Decimal
    closed: bool = False
    trades: Sequence[Trade] = attrs.field(factory=list)
    windows: list[WindowSummary] = attrs.field(factory=list)
    risk: list[tuple[datetime, RiskChanged]] = attrs.field(factory=list)
    stuck: list[PositionStuck] = attrs.field(factory=list)
    primary: str = ""

    @property
    def pnl(self) -> Decimal:
        """The session's profit so far."""
        return self.closing - self.opening

    @property
    def curve(self) -> list[tuple[datetime, Decimal]]:
        """The equity at the open, after each closed trade, and at the close or so far."""
        points, value = [(self.open, self.opening)], self.opening
        for trade in sorted(self.trades, key=lambda one: one.exit_time):
            value += trade.pnl
            points.append((min(max(trade.exit_time, self.open), self.close), value))
        return [*points, (self.close if self.closed else points[-1][0], self.closing)]

    @property
    def day(self) -> TradingDay:
        """The session for the figures of the report."""
        return TradingDay(open=self.open, close=self.close, opening=self.opening, closing=self.closing)


@attrs.frozen(kw_only=True)
class RunTimeline:
    """A run's sessions in order; `run` is the payload of its start, `levels` are those of its signals.

    `gaps`: sessions of its range that were not traded.
    """

    run: Mapping[str, Any]
    chapters: tuple[SessionTimeline, ...]
    book: SessionBook
    levels: Mapping[TradeKey, TradeLevels] = attrs.field(factory=dict)
    gaps: Sequence[SessionGap] = ()

    @functools.cached_property
    def curves(self) -> Sequence[Sequence[tuple[datetime, Decimal]]]:
        """The curve of each session."""
        return [chapter.curve for chapter in self.chapters]

    @property
    def equity(self) -> list[Decimal]:
        """The equity at each open, after each closed trade, and at each close."""
        return [value for curve in self.curves for _, value in curve]

    @property
    def has_several_brokers(self) -> bool:
        """Whether its sessions had more than one broker."""
        return len(self.book.brokers) > 1


def read_timeline(events: Iterable[JournalEvent]) -> RunTimeline:
    """Build the timeline from a journal's events, in one pass that keeps none of them."""
    book, chapters, starts, recorder = SessionBook(), list[SessionTimeline](), list[int](), LevelRecorder()
    for event in events:
        book.apply(event)
        recorder.apply(event)
        if event.kind == records.SESSION_OPENED:
            chapters.append(_chapter(event.facts(SessionOpened)))
            starts.append(len(book.trades))
        if chapters:
            _apply(chapters[-1], event, book)
    for chapter, (start, end) in zip(chapters, pairwise([*starts, len(book.trades)]), strict=True):
        chapter.trades = book.trades[start:end]
    return RunTimeline(run=book.run, chapters=tuple(chapters), book=book, levels=recorder.levels)


def with_gaps(story: RunTimeline, calendar: ExchangeCalendar) -> RunTimeline:
    """The timeline with its gaps: the sessions of the calendar in the range that was asked for that are not in it.

    Without such a range they are those between its first and its last.
    """
    days = {date.fromisoformat(chapter.date) for chapter in story.chapters}
    if not days:
        return story
    asked = story.run.get("request", {})
    ends = days | {date.fromisoformat(asked[name]) for name in ("first", "last") if asked.get(name)}
    return attrs.evolve(story, gaps=session_gaps(calendar.sessions(min(ends), max(ends)), days))


def in_order_of_entry(trades: Iterable[AnyTrade]) -> list[AnyTrade]:
    """The trades by their entry times, then by strategy and symbol."""
    return sorted(trades, key=lambda one: (one.entry_time, one.strategy, one.symbol))


def _chapter(opened: SessionOpened) -> SessionTimeline:
    return SessionTimeline(
        date=opened.date.isoformat(),
        open=opened.open,
        close=opened.close,
        opening=opened.equity,
        closing=opened.equity,
        primary=opened.primary,
    )


def _apply(chapter: SessionTimeline, event: JournalEvent, book: SessionBook) -> None:
    match event.kind:
        case BrokerEventKind.FILL:
            chapter.closing = book.equity
        case records.RISK:
            chapter.risk.append((event.applied, event.facts(RiskChanged)))
        case records.STUCK:
            chapter.stuck.append(event.facts(PositionStuck))
        case records.WINDOW_CLOSED:
            chapter.windows.append(_window(event.facts(WindowClosed)))
        case records.SESSION_CLOSED:
            closed = event.facts(SessionClosed)
            several = len(records.brokers_of(book.session)) > 1  # then the stated equity is the primary's alone
            chapter.closing = chapter.opening + closed.pnl if several else closed.equity
            chapter.closed = True


def _window(window: WindowClosed) -> WindowSummary:
    return WindowSummary(
        strategy=window.strategy,
        candidates=window.candidates,
        triggers=window.triggers,
        near_misses=window.near_misses,
    )
