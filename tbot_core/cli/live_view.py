"""The live view on a terminal: receives the events of a run, and redraws at most ten times per second."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Final, Self

import click
from rich.console import Console, Group
from rich.live import Live as Canvas

from tbot_core.cli.text.live_frame import LiveFrame, PositionRow, render_frame
from tbot_core.cli.text.run import banner
from tbot_core.cli.text.tables import wrap_sentence
from tbot_core.engine.bootstrap import SIMULATED_MODES
from tbot_core.engine.run_plan import RunWatcher
from tbot_core.model.types import RiskState, dollars_of, price_of, quantity_of
from tbot_core.status.event_text import EventLine, EventNarrator
from tbot_core.system import log
from tbot_core.trading.risk.exposure import held_atoms

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from types import TracebackType

    from tbot_core.cli.run_options import RunOptions
    from tbot_core.contracts import Feed
    from tbot_core.engine.run_plan import RunOutcome
    from tbot_core.engine.session.session import TradingSession
    from tbot_core.journal.projections.book import SessionBook
    from tbot_core.journal.store import NewEvent
    from tbot_core.model.clock import Clock

_EVERY_S: Final = 0.1
_KEPT: Final = 200


class LiveView:
    """A full screen during the run. At the end the terminal is restored, and the summary is printed below."""

    watched = True

    def __init__(self, wish: RunOptions, clock: Clock, console: Console | None = None) -> None:
        self._wish = wish
        self._clock = clock
        self._console = console or Console()
        self._plain = not self._console.encoding.lower().startswith("utf")
        self._narrator = EventNarrator()
        self._canvas = Canvas(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._drawn = self._looked = -_EVERY_S
        self._banner: list[str] = []
        self._interrupted = ""
        self.board = LiveFrame(mode=wish.badge, vow="No order is sent. " if wish.dry else "")

    @property
    def watcher(self) -> RunWatcher:
        """Receives the events."""
        return RunWatcher(
            on_resumed=self._resumed,
            on_started=self._started,
            on_minute=self._minute,
            on_events=self._wrote,
            on_idle=self._idle,
            on_round=self._look,
        )

    def __enter__(self) -> Self:
        """Switch to the full screen."""
        self._canvas.start()
        self._draw(at_once=True)  # an empty screen says nothing to whoever stops it already
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the terminal."""
        self._canvas.stop()
        log.close()

    def end(self, outcome: RunOutcome) -> None:
        """Print the summary of the run, with the source of the prices."""
        from tbot_core.cli.text.run import finished_lines, stopped_lines

        width = self._console.width
        said = [part for line in self._banner for part in wrap_sentence(line, width)]
        for line in (*said, *(stopped_lines if outcome.stopped else finished_lines)(outcome, self._wish, width)):
            click.echo(line)

    def _resumed(self, run: str, day: str) -> None:
        self._interrupted = f"run {run} at {day}"

    def _started(self, feed: Feed, book: SessionBook) -> None:
        self._banner = banner(self._wish.title, feed.label, book.sessions, self._interrupted)
        if self._interrupted:
            moment = None if self._wish.mode in SIMULATED_MODES else self._clock.now()
            self.board.told.append(EventLine(time=moment, text=self._banner[-1], weight="session"))
        self.board.simulated, self.board.source = feed.label.simulated, feed.label.name
        self.board.equity = book.equity if book.sessions else None
        if book.in_session:  # it is not said again what was written before
            self._narrator.book = deepcopy(book)
        self.board.number, self.board.sessions = book.sessions + 1, self._planned
        self._draw(at_once=True)

    def _wrote(self, entries: Sequence[NewEvent]) -> None:
        board = self.board
        board.told = [*board.told, *self._narrator.lines_for(entries)][-_KEPT:]
        board.denials = self._narrator.book.denials

    def _minute(self, run: TradingSession, minute: int) -> None:
        self._place(run, minute)
        self.board.waiting, self.board.moment = None, run.session.moment(minute + 1)
        if self._due or minute + 1 == run.session.minutes:
            self._measure(run)
            self._draw(at_once=True)

    def _look(self, run: TradingSession) -> None:
        # Between two minutes, and before the first one that is seen: what was asked or filled meanwhile shows.
        if self._clock.monotonic() - self._looked < _EVERY_S:
            return
        self._looked = self._clock.monotonic()
        self._place(run, max(run.tape.closed - 1, 0))
        self.board.moment = self._clock.now()
        self.board.waiting = run.session.open if self.board.moment < run.session.open else None
        self._measure(run)
        self._draw()

    def _place(self, run: TradingSession, minute: int) -> None:
        board = self.board
        board.number += board.session not in {None, run.session}
        board.session, board.minute = run.session, minute
        board.windows = tuple((entrant.name, entrant.window) for entrant in run.entrants)

    def _idle(self, moment: datetime) -> None:
        # In a session the clock goes on; before one it says how long.
        self.board.moment = self._clock.now()
        self.board.waiting = None if self._narrator.book.in_session else moment
        self._draw()

    def _measure(self, run: TradingSession) -> None:
        # The figures of positions and limits, worked out only when they are drawn.
        board, desk, book, several = self.board, run.decision_engine, self._narrator.book, len(run.broker_sessions) > 1
        board.state, board.sent = desk.exposure.current_state.word, dict(desk.exposure.sent)
        portfolio, limits = desk.portfolio, desk.limits
        board.equity, board.pnl = dollars_of(portfolio.equity_atoms), dollars_of(desk.exposure.pnl_atoms)
        board.loss_limit, board.budget = dollars_of(limits.daily_loss), dollars_of(limits.budget)
        board.gross = dollars_of(held_atoms(desk.exposure))
        board.feed = "" if run.outlook is None else run.outlook.description
        board.most_trades, board.most_positions = limits.max_trades, limits.max_positions
        board.holdings = tuple(
            PositionRow(
                strategy=position.signal.strategy,
                symbol=symbol,
                side=position.side.word,
                shares=quantity_of(position.units),
                entry=price_of(round(position.entry_atoms / position.entry_units)),
                last=price_of(position.mark),
                stop=book.resting(symbol),
                pnl=dollars_of(position.pnl_atoms),
                broker=post.name if several else "",
            )
            for post in run.broker_sessions
            for symbol, position in sorted(post.decision_engine.portfolio.positions.items())
        )
        if desk.exposure.daily_loss and desk.exposure.current_state < RiskState.EXIT_ONLY:
            board.state = RiskState.EXIT_ONLY.word  # nothing is entered after the latch, and exits go on

    @property
    def _planned(self) -> int:
        # How many sessions there are to be; 0 where only the market or the store knows.
        return self._wish.sessions if self._wish.mode == "demo" and not self._wish.once else 0

    @property
    def _due(self) -> bool:
        return self._clock.monotonic() - self._drawn >= _EVERY_S

    def _draw(self, *, at_once: bool = False) -> None:
        if at_once or self._due:
            self._drawn = self._clock.monotonic()
            width, height = self._console.size
            self._canvas.update(Group(*render_frame(self.board, width, height, plain=self._plain)), refresh=True)
