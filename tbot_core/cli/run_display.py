"""The displays of a run: a live view, plain lines, or none; and how signals stop a run."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import click

from tbot_core.actions.assembly import settings_warnings
from tbot_core.alerts.rules import AlertRules, RoutineEvents
from tbot_core.cli.options import print_warning
from tbot_core.cli.run_options import DRY_RUN
from tbot_core.cli.run_text import banner, plain_line
from tbot_core.engine.run_plan import RunWatcher
from tbot_core.journal.store import Event
from tbot_core.model.clock import both_times, exchange_time
from tbot_core.status.event_lines import LOUD, EventNarrator
from tbot_core.system import log, terminal
from tbot_core.system.signals import stop_signals

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from datetime import date, datetime
    from pathlib import Path
    from types import TracebackType

    from tbot_core.cli.run_options import RunOptions
    from tbot_core.contracts import Feed
    from tbot_core.engine.assembly import Assembly
    from tbot_core.engine.run_plan import RunOutcome
    from tbot_core.journal.projections.book import SessionBook
    from tbot_core.journal.store import NewEvent
    from tbot_core.marketdata.history import DownloadProgress
    from tbot_core.model.clock import Clock

T = TypeVar("T")


class RunDisplay(Protocol):
    """A display; a context manager during the run."""

    watched: bool

    @property
    def watcher(self) -> RunWatcher:
        """Receives the events of the run."""

    def __enter__(self) -> Self:
        """Start the display."""

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the display, also after an error."""

    def end(self, outcome: RunOutcome) -> None:
        """Show the result."""


def make_display(options: RunOptions, assembly: Assembly, clock: Clock, *, as_json: bool) -> RunDisplay:
    """The display that fits the command and its output; opens the log and prints the warnings."""
    live = sys.stdout.isatty() and not as_json and not terminal.is_dumb()
    folder, backups = _logs(options, assembly)
    start_log(assembly, folder, backups, screen=as_json or not sys.stdout.isatty())
    _print_warnings(assembly)
    if live:
        from tbot_core.cli.live_view import LiveView

        return LiveView(options, clock)
    return PlainDisplay(options, silent=as_json)


def start_log(
    assembly: Assembly, folder: Path | None = None, backups: Path | None = None, *, screen: bool = True
) -> None:
    """Start logging with the level and format of the settings, to standard error (`screen`) and into the folder."""
    general = assembly.settings.general
    form: log.Format = "csv" if general.log_format == "csv" else "json"
    levels: dict[str, log.Level] = {"quiet": "quiet", "verbose": "verbose"}
    log.configure(levels.get(general.debug_log_level, "info"), form, folder, backups=backups, screen=screen)


def _logs(options: RunOptions, assembly: Assembly) -> tuple[Path | None, Path | None]:
    # The folders of the log and of its backups; a dry run has its own, since another process may log beside it.
    instance = assembly.settings.instance
    if not assembly.settings.general.enable_logging:
        return None, None
    return (instance.logs / DRY_RUN, instance.home / "backups" / DRY_RUN) if options.dry else (instance.logs, None)


def _print_warnings(assembly: Assembly) -> None:
    # Print warnings about the settings to standard error.
    for warning in settings_warnings(assembly):
        print_warning(warning)


class PlainDisplay:
    """Plain lines: one per fill, exit and session; `silent`: only warnings, on standard error."""

    watched = False

    def __init__(self, options: RunOptions, *, silent: bool) -> None:
        self._options = options
        self._silent = silent
        self._narrator = EventNarrator()
        self._awaited: date | None = None
        self._interrupted = ""
        self._banner: list[str] = []
        self._mark = f"{options.badge}  " if options.is_apart else ""
        self._alerts = AlertLines() if options.rehearsal else None

    @property
    def watcher(self) -> RunWatcher:
        """Prints lines when events are recorded."""
        return RunWatcher(
            on_resumed=self._resumed,
            on_started=self._started,
            on_events=self._on_events,
            on_idle=self._idle,
            on_download=self._download,
            on_disabled=print_warning,
        )

    def __enter__(self) -> Self:
        """Return the display; it needs no preparation."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the log."""
        log.close()

    def end(self, outcome: RunOutcome) -> None:
        """Print the tables, or how to resume."""
        from tbot_core.cli.run_text import finished_lines, stopped_lines

        self._print_banner()
        width = None if self._silent else terminal.columns()
        if outcome.stopped:
            self._print(*stopped_lines(outcome, self._options, width))
        elif not self._silent:
            self._print(*finished_lines(outcome, self._options, width))

    def _print(self, *lines: str) -> None:
        for line in lines:
            click.echo(line, err=self._silent)

    def _resumed(self, run: str, day: str) -> None:
        self._interrupted = f"the session of {day} (run {run})"

    def _started(self, feed: Feed, book: SessionBook) -> None:
        self._banner = banner(self._options.title, feed.label, book.sessions, self._interrupted)
        self._narrator.continue_from(book)

    def _print_banner(self) -> None:
        # The banner, printed with the first event: a run without data to trade prints only its error.
        lines, self._banner = self._banner, []
        self._print(*lines)

    def _on_events(self, entries: Sequence[NewEvent]) -> None:
        self._print_banner()
        lines = [line for line in self._narrator.lines_for(entries) if line.weight in LOUD]
        if not self._silent:
            self._print(*(f"{self._mark}{plain_line(line)}" for line in lines))
            self._print(*(f"{self._mark}{line}" for line in self._alerts.lines_for(entries)) if self._alerts else ())

    def _download(self, progress: DownloadProgress) -> None:
        # Print once that the start takes longer, and what has come at the end.
        if not self._silent and not progress.done:
            count = f"{progress.total:,} downloads, one for each symbol and past session"
            self._print(f"{self._mark}Downloading one-minute bars: {count}.")

    def _idle(self, moment: datetime) -> None:
        # Print once which session is awaited; not within a session.
        self._print_banner()
        day = exchange_time(moment).date()
        if not self._narrator.book.in_session and day != self._awaited:
            self._awaited = day
            when = f"{exchange_time(moment):%Y-%m-%d}, {both_times(moment)}"
            self._print(f"{self._mark}Waiting for the session of {when}.")


class AlertLines:
    """The alerts of a rehearsal as lines: its channels may reach no server."""

    def __init__(self) -> None:
        self._rules = AlertRules(RoutineEvents())
        self._count = 0

    def lines_for(self, entries: Sequence[NewEvent]) -> list[str]:
        """A line for each alert that follows from these events."""
        found = []
        for entry in entries:
            self._count += 1
            event = Event(
                seq=self._count,
                kind=entry.kind,
                cid=entry.cid,
                source=entry.source,
                payload=entry.payload,
                received=entry.received or entry.time,
                applied=entry.applied,
                hash="",
            )
            found += [f"Alert, {notice.urgency.value}: {notice.what}" for notice in self._rules.apply(event)]
        return found


async def run_until_stopped(work: Coroutine[Any, Any, T], stop: asyncio.Event, kill: asyncio.Event) -> T:
    """Await the run. The first signal stops it after the current minute, the second one aborts it.

    SIGUSR2 is a kill.
    """
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)

    def request_stop() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    handlers = dict.fromkeys(stop_signals(), request_stop) | {signal.SIGUSR2: kill.set}
    before = {number: signal.getsignal(number) for number in handlers}
    for number, react in handlers.items():
        loop.add_signal_handler(number, react)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)  # the loop leaves the default handler, which kills the process
