"""The live view on a terminal: receives the events of a run, and redraws at most ten times per second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

import click
from rich.console import Console, Group
from rich.live import Live as Canvas

from tbot_core.cli.text.live_frame import LiveFrame, PositionRow, render_frame
from tbot_core.cli.text.run import banner
from tbot_core.cli.text.tables import wrap_sentence
from tbot_core.engine.run_plan import RunWatcher
from tbot_core.instance.findings import SIMULATED_MODES
from tbot_core.model.types import RiskState, dollars_of, price_of, quantity_of
from tbot_core.status.event_text import EventLine, EventNarrator
from tbot_core.system import log
from tbot_core.system.isolated_calls import IsolatedCalls
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
    from tbot_core.marketdata.history import DownloadProgress
    from tbot_core.model.clock import Clock

_REDRAW_S: Final = 0.1
_MOST_EVENTS: Final = 200
_NAME: Final = "live view"


class LiveView:
    """A full screen during the run. At the end the terminal is restored, and the summary is printed below."""

    watched = True

    def __init__(self, options: RunOptions, clock: Clock, console: Console | None = None) -> None:
        self._options = options
        self._clock = clock
        self._console = console or Console()
        self._plain = not self._console.encoding.lower().startswith("utf")
        self._narrator = EventNarrator()
        self._canvas = Canvas(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._drawn = self._polled = -_REDRAW_S
        self._banner: list[str] = []
        self._interrupted = ""
        self._isolated = IsolatedCalls(clock.monotonic)
        self.frame = LiveFrame(mode=options.badge, notice="No order is sent. " if options.dry else "")

    @property
    def watcher(self) -> RunWatcher:
        """Receives the events."""
        return RunWatcher(
            on_resumed=self._resumed,
            on_started=self._started,
            on_minute=self._minute,
            on_events=self._on_events,
            on_idle=self._idle,
            on_round=self._between_minutes,
            on_download=self._download,
            on_disabled=self._close,
        )

    def __enter__(self) -> Self:
        """Switch to the full screen."""
        self._isolated.call(_NAME, self._open)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the terminal."""
        self._isolated.call(_NAME, self._canvas.stop)
        log.close()

    def _open(self) -> None:
        self._canvas.start()
        self._draw(force=True)  # the first frame shows how to stop the run

    def _close(self, words: str) -> None:
        # The view has failed: restore the terminal, so that no old frame looks like the present.
        self._canvas.stop()
        click.echo(f"tbot: {words}", err=True)

    def end(self, outcome: RunOutcome) -> None:
        """Print the summary of the run, with the source of the prices."""
        from tbot_core.cli.text.run import finished_lines, stopped_lines

        width = self._console.width
        banner_lines = [part for line in self._banner for part in wrap_sentence(line, width)]
        for line in (
            *banner_lines,
            *(stopped_lines if outcome.stopped else finished_lines)(outcome, self._options, width),
        ):
            click.echo(line)

    def _resumed(self, run: str, day: str) -> None:
        self._interrupted = f"the session of {day} (run {run})"

    def _started(self, feed: Feed, book: SessionBook) -> None:
        self._banner = banner(self._options.title, feed.label, book.sessions, self._interrupted)
        if self._interrupted:
            moment = None if self._options.mode in SIMULATED_MODES else self._clock.now()
            self.frame.events.append(EventLine(time=moment, text=self._banner[-1], weight="session"))
        self.frame.simulated, self.frame.source = feed.label.simulated, feed.label.name
        self.frame.equity = book.equity if book.sessions else None
        self._narrator.continue_from(book)  # events that were recorded before are not shown again
        self.frame.number, self.frame.sessions = book.sessions + 1, self._planned
        self._draw(force=True)

    def _on_events(self, entries: Sequence[NewEvent]) -> None:
        frame = self.frame
        frame.events = [*frame.events, *self._narrator.lines_for(entries)][-_MOST_EVENTS:]
        frame.denials = self._narrator.book.denials

    def _minute(self, run: TradingSession, minute: int) -> None:
        self._set_place(run, minute)
        self.frame.waiting, self.frame.moment = None, run.session.moment(minute + 1)
        if self._due or minute + 1 == run.session.minutes:
            self._set_figures(run)
            self._draw(force=True)

    def _download(self, progress: DownloadProgress) -> None:
        done = f"{progress.done:,} of {progress.total:,}"
        self.frame.download = f"one-minute bars, {done} downloads, one for each symbol and past session"
        self._draw(force=True)

    def _between_minutes(self, run: TradingSession) -> None:
        # Between two minutes, and before the first one: shows requests and fills of the meantime.
        if self._clock.monotonic() - self._polled < _REDRAW_S:
            return
        self._polled = self._clock.monotonic()
        self._set_place(run, max(run.tape.closed - 1, 0))
        self.frame.moment = self._clock.now()
        self.frame.waiting = run.session.open if self.frame.moment < run.session.open else None
        self._set_figures(run)
        self._draw()

    def _set_place(self, run: TradingSession, minute: int) -> None:
        frame = self.frame
        frame.number += frame.session not in {None, run.session}
        frame.session, frame.minute = run.session, minute
        windows = ((entrant.name, entrant.window) for entrant in run.entrants)
        frame.windows = tuple((name, window) for name, window in windows if window.start >= 0)

    def _idle(self, moment: datetime) -> None:
        # In a session the clock is shown; before one also the time until it opens.
        self.frame.moment = self._clock.now()
        self.frame.waiting = None if self._narrator.book.in_session else moment
        self._draw()

    def _set_figures(self, run: TradingSession) -> None:
        # The figures of positions and limits, computed only when they are drawn.
        frame, engine, book, several = (
            self.frame,
            run.decision_engine,
            self._narrator.book,
            len(run.broker_sessions) > 1,
        )
        frame.state, frame.sent = engine.exposure.current_state.word, dict(engine.exposure.sent)
        portfolio, limits = engine.portfolio, engine.limits
        frame.equity, frame.pnl = dollars_of(portfolio.equity_atoms), dollars_of(engine.exposure.pnl_atoms)
        frame.loss_limit, frame.budget = dollars_of(limits.daily_loss), dollars_of(limits.budget)
        frame.gross = dollars_of(held_atoms(engine.exposure))
        frame.feed = "" if run.outlook is None else run.outlook.description
        frame.most_trades, frame.most_positions = limits.max_trades, limits.max_positions
        frame.holdings = tuple(
            PositionRow(
                strategy=position.signal.strategy,
                symbol=symbol,
                side=position.side.word,
                shares=quantity_of(position.units),
                entry=price_of(round(position.entry_atoms / position.entry_units)),
                last=price_of(position.mark),
                stop=book.resting(symbol),
                pnl=dollars_of(position.pnl_atoms),
                broker=broker_session.name if several else "",
                cancelling=book.is_stop_cancelling(symbol),
            )
            for broker_session in run.broker_sessions
            for symbol, position in sorted(broker_session.decision_engine.portfolio.positions.items())
        )
        if engine.exposure.daily_loss and engine.exposure.current_state < RiskState.EXIT_ONLY:
            frame.state = RiskState.EXIT_ONLY.word  # no entries after the latch; exits continue

    @property
    def _planned(self) -> int:
        # The number of sessions of the run; 0 if it is not known.
        return self._options.sessions if self._options.mode == "demo" and not self._options.once else 0

    @property
    def _due(self) -> bool:
        return self._clock.monotonic() - self._drawn >= _REDRAW_S

    def _draw(self, *, force: bool = False) -> None:
        if force or self._due:
            self._drawn = self._clock.monotonic()
            width, height = self._console.size
            self._canvas.update(Group(*render_frame(self.frame, width, height, plain=self._plain)), refresh=True)
