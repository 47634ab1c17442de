"""The day as it happens: what was reported of the session, its equity, and the windows of the strategies.

Read again and again while a session runs: each reading takes the events that came since the last one.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from tbot_core.journal import records
from tbot_core.journal.events.sessions import SessionOpened
from tbot_core.model.clock import exchange_time
from tbot_core.model.formatting import money_text
from tbot_core.model.types import dollars_of
from tbot_core.model.window import Window
from tbot_core.reports.trade_levels import LevelRecorder
from tbot_core.status.event_lines import EventNarrator
from tbot_core.status.runs import open_run_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from decimal import Decimal
    from typing import Any

    from tbot_core.journal.store import Event
    from tbot_core.status import Document
    from tbot_core.status.event_lines import EventLine
    from tbot_core.status.runs import RunFile

_MOST_LINES: Final = 500
"""How many of the latest lines are kept of a day."""


class DayReader:
    """Reads the day of one journal; the lines are those of its date by the exchange's clock."""

    def __init__(self, file: RunFile) -> None:
        self.file = file
        self._seq = 0
        self._begin()

    def _begin(self) -> None:
        self._narrator = EventNarrator()
        self._lines: list[EventLine] = []
        self._before = 0
        self._levels = LevelRecorder()

    def read(self) -> Document:
        """The day as of now: `lines`, the latest last; `equity` as pairs of time and amount; `windows`; `targets`.

        `targets` are the prices at which positions of this session are to be closed with a gain, by symbol.
        """
        with open_run_file(self.file) as journal:
            if journal.head[0] < self._seq:  # another journal under this name
                self._seq = 0
                self._begin()
            for event in journal.events(self._seq):
                self._apply(event)
        book = self._narrator.book
        return {
            "date": book.session.get("date"),
            "lines": [_line(line) for line in self._lines],
            "equity": [[time.isoformat(), money_text(amount)] for time, amount in self._equity()],
            "trades": len(book.trades) - self._before,
            "targets": {
                symbol: "" if one.target is None else f"{one.target:f}"
                for (_, _, symbol), one in self._levels.levels.items()
            },
            **_session(book.session),
        }

    def _apply(self, event: Event) -> None:
        self._seq = event.seq
        self._levels.apply(event)
        if event.kind == records.SESSION_OPENED:
            self._before, self._levels = len(self._narrator.book.trades), LevelRecorder()
            day = event.facts(SessionOpened).date.isoformat()
            self._lines = [line for line in self._lines if _is_of(day, line.time)]
        self._lines = [*self._lines, *self._narrator.lines_for([event])][-_MOST_LINES:]

    def _equity(self) -> Iterator[tuple[dt.datetime, Decimal]]:
        # What was certain: the opening equity, and after each closed trade.
        book = self._narrator.book
        if not book.session:
            return
        equity = dollars_of(book.portfolio.opening_atoms)
        yield dt.datetime.fromisoformat(book.session["open"]), equity
        for trade in book.trades[self._before :]:
            equity += trade.pnl
            yield trade.exit_time, equity


def _is_of(date: str, moment: dt.datetime | None) -> bool:
    # What was reported before the bell of that day belongs to it.
    return moment is not None and exchange_time(moment).date().isoformat() == date


def _line(one: EventLine) -> Document:
    return {
        "time": None if one.time is None else one.time.isoformat(),
        "text": one.text,
        "weight": one.weight,
        "symbol": one.symbol,
        "gain": None if one.gain is None else money_text(one.gain),
    }


def _session(opened: Mapping[str, Any]) -> Document:
    # The bells of the day and the windows of the strategies, in minutes after the opening bell.
    if not opened:
        return {"open": None, "close": None, "minutes": 0, "windows": []}
    windows = {name: Window(**parts) for name, parts in opened["windows"].items()}
    return {
        "open": opened["open"],
        "close": opened["close"],
        "minutes": opened["minutes"],
        "windows": [
            {
                "strategy": name,
                "start": one.start,
                "entry": one.entry,
                "entry_end": one.entry_end,
                "leave": min(one.leave, opened["minutes"]),
            }
            for name, one in sorted(windows.items(), key=lambda named: named[1].start)
            if one.start >= 0
        ],
    }
