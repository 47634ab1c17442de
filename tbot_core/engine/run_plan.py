"""The options of a run, its watcher, and its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import attrs

from tbot_core.contracts import Feed, FeedRequest
from tbot_core.engine import control
from tbot_core.engine.bootstrap import Assembly
from tbot_core.engine.disk_guard import DiskGuard
from tbot_core.engine.session.session import TradingSession
from tbot_core.engine.settings_reload import SettingsReloader
from tbot_core.journal.projections.book import SessionBook
from tbot_core.journal.store import NewEvent
from tbot_core.model.clock import Clock
from tbot_core.reports.summary import RunSummary


@attrs.frozen(kw_only=True, eq=False)
class RunWatcher:
    """Whoever looks on.

    `resumed` before all else where a session was interrupted, with the run's name and the session's date, `started`
    before the first session, `minute` after each, `wrote` after each append, `idle` each second of a wait
    for the market, with the moment that is waited for. `look` is told at least once a second of a session that goes as
    the clock does, also before its bell.
    """

    on_resumed: Callable[[str, str], None] = lambda _run, _day: None
    on_started: Callable[[Feed, SessionBook], None] = lambda _feed, _book: None
    on_minute: Callable[[TradingSession, int], None] = lambda _session, _minute: None
    on_events: Callable[[Sequence[NewEvent]], None] = lambda _entries: None
    on_idle: Callable[[datetime], None] = lambda _moment: None
    on_round: Callable[[TradingSession], None] = lambda _session: None


@attrs.frozen(kw_only=True, eq=False)
class RunPlan:
    """What is to be run: the assembly, the feed that is wanted, and the pace.

    `pace`: exchange seconds a wall-clock second; None: as fast as it goes. `wall` waits for it; paper trading goes by
    `wall` itself, and looks for requests every `watch_s` seconds. `once` ends it with the session. Set `stop` to end
    the run after the minute at hand, `kill` to let nothing be entered on paper until that is taken back. `room` is that
    on the instance's disk, `renewal` knows when the settings have been changed.
    """

    assembly: Assembly
    request: FeedRequest
    wall: Clock
    pace: float | None = None
    once: bool = False
    watch_s: float = control.POLL_S
    stop: asyncio.Event = attrs.field(factory=asyncio.Event)
    kill: asyncio.Event = attrs.field(factory=asyncio.Event)
    disk_guard: DiskGuard = attrs.field(factory=DiskGuard)
    settings_reload: SettingsReloader = attrs.field(factory=SettingsReloader)


@attrs.frozen(kw_only=True)
class RunOutcome:
    """How a run ended: its summary, its journal, whether it was `stopped`, and what is still open.

    `bare`: what is open without a stop order at the venue; `stuck`: what could not be closed by a session's end.
    `unconfirmed` is why the account could not be read at a stop, so that what is open is known by the books alone.
    `renewed`: it ended between two sessions, for a run with other settings to begin.
    """

    summary: RunSummary
    journal: Path
    stopped: bool = False
    open: tuple[str, ...] = ()
    unprotected: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    unconfirmed: str = ""
    renewed: bool = False
