"""The options of a run, its watcher, and its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from tbot_core.contracts import Feed, FeedRequest
from tbot_core.engine import control
from tbot_core.engine.assembly import Assembly
from tbot_core.engine.disk_guard import DiskGuard
from tbot_core.engine.journal_guard import JournalGuard
from tbot_core.engine.session.session import TradingSession
from tbot_core.engine.settings_reload import SettingsReloader
from tbot_core.instance.folder import REHEARSAL_MODE
from tbot_core.journal.projections.book import SessionBook
from tbot_core.journal.store import NewEvent
from tbot_core.marketdata.history import DownloadProgress
from tbot_core.model.clock import Clock
from tbot_core.reports.summary import RunSummary
from tbot_core.system.isolated_calls import IsolatedCalls

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tbot_core.contracts import BrokerCapabilities
    from tbot_core.journal.codec import Payload
    from tbot_core.journal.store import Event
    from tbot_core.marketdata.received_bars import RecordedSession

WATCHER: Final = "display"
WATCHER_LIMIT_S: Final = 1.0
"""How long a display may block a trading run."""


@attrs.frozen(kw_only=True, eq=False)
class RunWatcher:
    """Callbacks that observe a run.

    `on_resumed`: first of all, with the run's name and the date of an interrupted session. `on_started`: before the
    first session. `on_minute`: after each minute. `on_events`: after each append to the journal. `on_idle`: each second
    of a wait for the market, with the awaited moment. `on_round`: at least once a second of a real-time session, also
    before its open. `on_download`: while minutes of past sessions are downloaded. `on_disabled`: why the watcher is
    called no more.
    """

    on_resumed: Callable[[str, str], None] = lambda _run, _day: None
    on_started: Callable[[Feed, SessionBook], None] = lambda _feed, _book: None
    on_minute: Callable[[TradingSession, int], None] = lambda _session, _minute: None
    on_events: Callable[[Sequence[NewEvent]], None] = lambda _entries: None
    on_idle: Callable[[datetime], None] = lambda _moment: None
    on_round: Callable[[TradingSession], None] = lambda _session: None
    on_download: Callable[[DownloadProgress], None] = lambda _progress: None
    on_disabled: Callable[[str], None] = lambda _words: None

    def isolated(self, now: Callable[[], float], limit_s: float | None) -> RunWatcher:
        """This watcher behind a guard: its failures and calls longer than `limit_s` affect no run.

        `now` returns seconds that never go back.
        """

        def on_disabled(_name: str, fault: BaseException) -> None:
            why = f"{type(fault).__name__}: {fault}"
            words = f"The display of the run failed and is off: {why}. `tbot status` shows the run."
            IsolatedCalls(now).call(f"{WATCHER} (end)", partial(self.on_disabled, words), limit_s)

        calls = IsolatedCalls(now, on_disabled)

        def guarded(function: Callable[..., None]) -> Callable[..., None]:
            return lambda *arguments: calls.call(WATCHER, partial(function, *arguments), limit_s)

        return RunWatcher(**{field.name: guarded(getattr(self, field.name)) for field in attrs.fields(RunWatcher)})


SessionDrift: TypeAlias = (
    "Callable[[Assembly, BrokerCapabilities, RecordedSession, Sequence[Event]], Awaitable[Payload]]"
)
"""Computes the drift of a session from what it received and its events in the journal."""


@attrs.frozen(kw_only=True, eq=False)
class RunPlan:
    """A run to start: the assembly, the requested feed and the pace.

    `pace`: exchange seconds per wall-clock second; None: as fast as possible. `wall`: the wall clock, which also times
    paper trading. `watch_s`: the interval for polling requests. `once` ends the run after one session. Set `stop` to
    end it after the current minute, `kill` to block entries until the kill is cleared. `rehearsal`: the run id
    of a rehearsal of a person, on the live path with a journal of its own; "" for none. `drift` compares the trades
    of a session with those of a shadow run; None: it is not recorded.
    """

    assembly: Assembly
    request: FeedRequest
    wall: Clock
    pace: float | None = None
    once: bool = False
    watch_s: float = control.POLL_S
    stop: asyncio.Event = attrs.field(factory=asyncio.Event)
    kill: asyncio.Event = attrs.field(factory=asyncio.Event)
    rehearsal: str = ""
    drift: SessionDrift | None = None
    disk_guard: DiskGuard = attrs.field(factory=DiskGuard)
    journal_guard: JournalGuard = attrs.field(factory=JournalGuard)
    settings_reload: SettingsReloader = attrs.field(factory=SettingsReloader)

    @property
    def shown_mode(self) -> str:
        """The mode as READY and the start of the run name it."""
        return REHEARSAL_MODE if self.rehearsal else self.assembly.settings.mode


@attrs.frozen(kw_only=True)
class RunOutcome:
    """How a run ended: its summary, its journal, whether it was `stopped`, and what is still open.

    `unprotected`: open without a stop order at the venue, of these `cancelling` with one whose cancel was requested and
    not confirmed; `stuck`: not closed by a session's end. `unconfirmed`: why the account could not be read at a stop,
    so that `open` is known from the books alone. `renewed`: it ended between two sessions because the settings changed.
    `interrupted`: a signal asked for the stop.
    """

    summary: RunSummary
    journal: Path
    stopped: bool = False
    open: tuple[str, ...] = ()
    unprotected: tuple[str, ...] = ()
    cancelling: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    unconfirmed: str = ""
    renewed: bool = False
    interrupted: bool = False
