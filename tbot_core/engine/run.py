"""A run: sessions in sequence, in a journal, resumed after an interruption."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.contracts import FeedSession
from tbot_core.engine import control, resume
from tbot_core.engine.bootstrap import DRY_RUN, SIMULATOR
from tbot_core.engine.feed_quality import BarsOnlyBroker
from tbot_core.engine.holidays import HolidayAnnouncer
from tbot_core.engine.live import run as live_run
from tbot_core.engine.live.daily_cycle import READY_AT
from tbot_core.engine.live.feed_retry import FeedRetry
from tbot_core.engine.pacing import FullSpeedPace, Pace, RealTimePace, RunStopped, ScaledPace
from tbot_core.engine.run_plan import WATCHER_LIMIT_S
from tbot_core.engine.run_setup import (
    LIVE,
    PAPER,
    REAL_TIME_MODES,
    RunServices,
    RunSetup,
    dry_run_setup,
    paper_setup,
    run_started_payload,
    simulation_setup,
)
from tbot_core.engine.session import stale_causes
from tbot_core.engine.session.broker_login import log_out
from tbot_core.engine.session.config import LiveConfig
from tbot_core.engine.session.gauge_writer import GaugeWriter
from tbot_core.engine.session.recovery import recorded_failures
from tbot_core.engine.session.session import TradingSession
from tbot_core.engine.session.universe_selection import universe_selector
from tbot_core.engine.settings_reload import SettingsChanged
from tbot_core.engine.simulated.paper_feed import PaperFeed, interrupted_minutes
from tbot_core.engine.simulated.requests import PaperRequestHandler
from tbot_core.errors import DataError, JournalError, SettingsError
from tbot_core.instance.control_folder import record_control_folder
from tbot_core.journal import records
from tbot_core.journal.projections.book import fold_events
from tbot_core.journal.recorder import JournalRecorder
from tbot_core.journal.store import NewEvent
from tbot_core.marketdata import received_bars
from tbot_core.model.clock import ManualClock, exchange_moment, exchange_time
from tbot_core.model.types import atoms_of, dollars_of
from tbot_core.plugins import hung_plugins
from tbot_core.plugins.observers import LIMITS_S, NO_LIMITS
from tbot_core.system import log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from decimal import Decimal
    from pathlib import Path

    from tbot_core.contracts import Broker, LiveSession
    from tbot_core.engine.run_plan import RunOutcome, RunPlan, RunWatcher
    from tbot_core.engine.session.session import SessionContext
    from tbot_core.model.calendar import Session
    from tbot_core.model.types import Account

_log = log.logger(__name__)


async def run(plan: RunPlan, watcher: RunWatcher) -> RunOutcome:
    """Run simulated sessions, a replay, or the live market day after day, to the end or until stopped.

    An interrupted run is resumed after its last closed session: the interrupted one is repeated and must write the
    same events again. The watcher is isolated: its failures do not affect the run. The caller holds the instance's
    lock; for a dry run, the lock of dry runs.
    """
    plan.assembly.record_plugins()
    instance = plan.assembly.settings.instance
    if plan.assembly.settings.mode in {PAPER, LIVE}:
        control.prepare_folder(instance.control)
        record_control_folder(instance)
    real_time = plan.assembly.settings.mode in {*REAL_TIME_MODES, LIVE}
    watcher = watcher.isolated(plan.wall.monotonic, WATCHER_LIMIT_S if real_time else None)
    if plan.assembly.settings.mode == DRY_RUN:
        setup = dry_run_setup(plan.assembly, plan.request, plan.wall.now())
    elif plan.assembly.settings.mode in {PAPER, LIVE}:
        broker: Broker = plan.assembly.broker(plan.assembly.settings.trading.broker_name)
        if not broker.capabilities.simulated:
            return await live_run.run_live(plan, watcher, broker)
        if plan.assembly.settings.mode == LIVE:
            name = plan.assembly.settings.trading.broker_name
            raise SettingsError(
                f"The broker {name} is a simulator, but its section says live.",
                "Set mode=paper with `tbot secrets edit broker`.",
            )
        setup = paper_setup(plan.assembly, plan.request, broker, plan.wall.now())
    else:
        setup = simulation_setup(plan.assembly, plan.request)
    setup.journal.free_space = plan.disk_guard.release_ballast
    try:
        return await _Run(plan, watcher, setup).go()
    finally:
        setup.journal.close()
        trading = plan.assembly.settings.trading
        data = {"data source": setup.server} if isinstance(setup.server, BarsOnlyBroker) else {}
        await log_out({SIMULATOR: setup.broker, **data}, trading.api_timeout)


class _Run:
    # The run while it lasts.
    def __init__(self, plan: RunPlan, watcher: RunWatcher, setup: RunSetup) -> None:
        self._plan = plan
        self._watcher = watcher
        self._setup = setup
        self._journal = setup.journal
        self._since = plan.wall.now()
        self._clock = ManualClock(self._since)
        self._pace = self._make_pace()
        self._session: TradingSession | None = None
        self._requests: PaperRequestHandler | None = None
        self._gauges = self._make_gauge_writer()
        self._began = 0 if setup.pending is None else setup.pending.started - 1
        self._services = RunServices(plan, watcher, setup, LIMITS_S if self._is_real_time else NO_LIMITS)
        self._recorder = JournalRecorder(journal=setup.journal, clock=plan.wall, on_events=self._services.on_events)
        self._holidays = HolidayAnnouncer(self._recorder, plan.assembly.calendar)

    async def go(self) -> RunOutcome:
        """Trade the sessions that the journal does not hold yet."""
        account = await self._setup.broker.connect()
        self._services.announce_start()
        stopped = False
        try:
            equity = await self._trade(account)
        except SettingsChanged:
            return attrs.evolve(self._services.announce_end(self._began, stopped=True), renewed=True)
        except RunStopped:
            stopped = True
            self._write_gauges(at_once=True)
            if not self._journal.is_repeating:  # else the journal already has later events
                self._journal.append([self._entry(records.STOPPED, {"open": await self._open()})])
        else:
            self._finish(equity)
        return self._services.announce_end(self._began, stopped=stopped)

    async def _trade(self, account: Account) -> Decimal:
        # Trade session after session and return the equity after the last one.
        setup = self._setup
        equity = setup.book.equity_curve[-1][1] if setup.book.equity_curve else account.equity
        trading: SessionContext | None = None
        async for source in self._sessions(account):
            if trading is None:
                # Events of a session carry exchange time; requests before the open have their own.
                opened = source.session.open
                self._clock = ManualClock(min(self._since, opened) if self._is_real_time else opened)
                trading = self._services.trading(account, SIMULATOR, self._clock, self._wait)
                self._record_start(equity)
            after, late = self._find_restart_point(source.session)
            entrants = self._plan.assembly.entrants(source.session)
            for sentence in self._plan.assembly.missed_bells(source.session):
                _log.warning("window.missed_bell", session=source.session.date, sentence=sentence)
            self._session = TradingSession(trading, source, entrants, atoms_of(equity), late)
            recorded = self._plan.assembly.recorded_vix
            for entrant in entrants:
                if (vix := recorded.get((source.session.date.isoformat(), entrant.name))) is not None:
                    self._session.set_vix(entrant.name, vix)
            if self._is_real_time:
                failed = recorded_failures(self._journal.events(after, kind=records.PLUGIN_FAILED))
                noted = hung_plugins.noted_hung_calls(self._plan.assembly.settings.instance.data, self._plan.wall.now())
                trading.call_guard.repeat([*(one.lost for one in noted), *failed])
                self._requests = PaperRequestHandler(self._session, self._journal, self._clock, self._plan, after)
            await self._trade_session(source, self._session)
            equity = dollars_of(self._session.decision_engine.portfolio.equity_atoms)
            if self._plan.once and source.session.close > self._since:
                break
        return equity

    @staticmethod
    async def _trade_session(source: FeedSession, session: TradingSession) -> None:
        if not isinstance(source, PaperFeed):
            await session.trade()
            return
        source.tape = session.tape
        async with source.receiving():
            await session.trade()

    async def _sessions(self, account: Account) -> AsyncIterator[FeedSession]:
        # The feed's sessions to trade; paper trading skips those that closed while tbot was not running.
        setup = self._setup
        done = {day for day, _ in setup.book.equity_curve}
        async for source in self._daily(done) if setup.live else setup.feed.sessions():
            session = source.session
            resumed = setup.pending is not None and session.date == setup.pending.session.date
            missed = self._is_real_time and session.close <= self._plan.wall.now() and not resumed
            if missed or session.date.isoformat() in done:
                continue
            if isinstance(source, FeedSession):
                yield source
            else:
                yield await self._make_paper_feed(source, account)

    async def _daily(self, done: set[str]) -> AsyncIterator[FeedSession | LiveSession]:
        # The bars of today, day after day; first the recorded ones of an interrupted session that is over.
        plan, pending = self._plan, self._setup.pending
        if pending is not None and pending.session.close <= plan.wall.now():
            yield interrupted_minutes(self._received, pending.session.date)
        while True:
            now = plan.wall.now()
            today = exchange_time(now).date()
            session = plan.assembly.calendar.session(today)
            if session is None or session.close <= now or today.isoformat() in done:
                session = plan.assembly.calendar.next(today)
            await self._wait(exchange_moment(session.date, READY_AT))
            found = [one async for one in self._setup.feed.sessions() if one.session.date == session.date]
            if not found:
                raise DataError(f"{self._setup.feed.label.name} supplies no bars of {session.date}.", "Ask the vendor.")
            yield found[0]

    async def _make_paper_feed(self, source: LiveSession, account: Account) -> PaperFeed:
        plan, setup = self._plan, self._setup
        settings = plan.assembly.settings
        venue = setup.broker.capabilities
        selector = universe_selector(plan.assembly, plan.request, venue, (setup.server,))
        request = FeedRetry(partial(selector.select, source, ()), plan.wall)
        universe = await request.retry_until_answered(lambda fault: _log.warning("feed.silent", reason=fault.message))
        trading = self._services.trading(account, SIMULATOR, plan.wall, self._wait)
        config = LiveConfig(
            folder=settings.instance.control,
            poll_s=settings.trading.sleep_time,
            ttl_s=settings.entries.entry_ttl,
            grace_s=settings.trading.bar_grace,
            received=self._received,
            feed=setup.feed.label.name,
        )
        return PaperFeed(source, universe, trading, config)

    def _record_start(self, equity: Decimal) -> None:
        # Record the start of the run, unless it is resumed.
        setup = self._setup
        if setup.pending is None and (self._is_real_time or not setup.book.run):
            self._began = 0 if self._journal.is_repeating else self._journal.head[0]
            self._journal.append([self._entry(records.RUN_STARTED, run_started_payload(self._plan, setup, equity))])

    def _find_restart_point(self, session: Session) -> tuple[int, frozenset[int]]:
        # The last event before a session, and its minutes that closed while tbot was not running.
        if not self._is_real_time:
            return 0, frozenset()
        pending = self._setup.pending
        if pending is not None and pending.session.date == session.date:
            return pending.after, resume.late_minutes(self._journal, session)
        resume.note_unwatched_minutes(self._journal, session, 0, self._plan.wall.now())
        stale_causes.clear_market_causes(self._recorder)
        return self._journal.head[0], resume.late_minutes(self._journal, session)

    @property
    def _is_real_time(self) -> bool:
        return self._plan.assembly.settings.mode in REAL_TIME_MODES

    @property
    def _received(self) -> Path:
        return self._setup.received or self._plan.assembly.settings.instance.data / received_bars.FOLDER

    def _make_gauge_writer(self) -> GaugeWriter | None:
        # The gauges belong to the trading run; a dry run writes none.
        plan = self._plan
        if plan.assembly.settings.mode == DRY_RUN:
            return None
        return GaugeWriter(plan.assembly.settings.instance.data, self._setup.journal.path, plan.wall)

    def _write_gauges(self, *, at_once: bool = False) -> None:
        # Write the gauges; not while the session is repeated, because the journal is ahead of it.
        if self._session is not None and not self._journal.is_repeating:
            if self._gauges is not None:
                self._gauges.write_if_due(self._session, at_once=at_once)
            if self._is_real_time:
                self._watcher.on_round(self._session)

    async def _wait(self, moment: datetime) -> None:
        self._write_gauges()
        if self._requests is not None and self._session is not None and moment > self._session.session.open:
            await self._requests.repeat_requests()
        try:
            await self._pace.wait_until(moment)
        except RunStopped:
            if not (self._flattens and self._plan.stop.is_set()):
                raise
            # Positions are known once all minutes are repeated; those have passed and are not awaited.
            if not self._journal.is_repeating:
                if self._requests is None or not await self._requests.begin_stop():
                    raise
                self._plan.stop.clear()
                await self._pace.wait_until(moment)
        self._clock.advance_to(moment)

    async def _on_round(self) -> None:
        self._write_gauges()
        if not self._journal.is_repeating:
            self._holidays.check()
            self._plan.settings_reload.poll(self._recorder, self._plan.wall.monotonic())
            if self._session is not None and (now := self._plan.wall.now()) < self._session.session.open:
                self._clock.advance_to(now)
                self._plan.settings_reload.raise_if_pending()
        if self._requests is not None:
            await self._requests.poll()

    def _make_pace(self) -> Pace:
        plan = self._plan
        if self._is_real_time:
            return RealTimePace(
                stop=plan.stop,
                wall=plan.wall,
                on_idle=self._watcher.on_idle,
                on_round=self._on_round,
                nap_s=plan.watch_s,
            )
        if plan.pace is not None:
            return ScaledPace(stop=plan.stop, wall=plan.wall, rate=plan.pace)
        return FullSpeedPace(stop=plan.stop)

    @property
    def _flattens(self) -> bool:
        return self._is_real_time and self._plan.assembly.settings.exits.stop_policy == "flatten"

    def _finish(self, equity: Decimal) -> None:
        # Record the end of the run, and compare the journal with the decision engine.
        self._journal.append([self._entry(records.RUN_FINISHED, {"equity": str(equity)})])
        recorded = fold_events(self._journal.events()).equity
        if recorded != equity:
            raise JournalError(
                f"The equity is {recorded} in the journal {self._journal.path}, but {equity} in the decision engine.",
                "Keep the file and report it: one of them has lost a fill.",
            )

    async def _open(self) -> list[str]:
        # The symbols open by the books or at the broker.
        snapshot = await self._setup.broker.snapshot(self._since)
        held = () if self._session is None else self._session.decision_engine.portfolio.positions
        return sorted({*held, *(one.symbol for one in snapshot.holdings)})

    def _entry(self, kind: str, payload: dict[str, Any]) -> NewEvent:
        return NewEvent(kind=kind, payload=payload, time=self._clock.now())
