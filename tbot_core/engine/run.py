"""A run: sessions one after the other, in a journal, resumed where it was interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.contracts import FeedSession
from tbot_core.engine import resume
from tbot_core.engine.bootstrap import DRY_RUN, SIMULATOR
from tbot_core.engine.feed_quality import BarsOnlyBroker
from tbot_core.engine.holidays import HolidayAnnouncer
from tbot_core.engine.live import run as live_run
from tbot_core.engine.live.daily_cycle import READY_AT
from tbot_core.engine.pacing import FullSpeedPace, Pace, RealTimePace, RunStopped, ScaledPace
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
from tbot_core.engine.session.config import LiveConfig
from tbot_core.engine.session.gauge_writer import GaugeWriter
from tbot_core.engine.session.recovery import recorded_failures
from tbot_core.engine.session.session import TradingSession
from tbot_core.engine.session.vix import VixSources
from tbot_core.engine.settings_reload import SettingsChanged
from tbot_core.engine.simulated.paper_feed import PaperFeed, interrupted_minutes
from tbot_core.engine.simulated.requests import PaperRequestHandler
from tbot_core.errors import DataError, JournalError, SettingsError
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
    """Run simulated sessions, a replay, or the running market day after day, to the end or until it is stopped.

    A run that was interrupted is resumed from its last closed session: the interrupted one is repeated and must say
    again what it said. The caller holds the instance's lock; of a dry run, that of dry runs.
    """
    plan.assembly.record_plugins()
    if plan.assembly.settings.mode == DRY_RUN:
        course = dry_run_setup(plan.assembly, plan.request, plan.wall.now())
    elif plan.assembly.settings.mode in {PAPER, LIVE}:
        broker: Broker = plan.assembly.broker(plan.assembly.settings.trading.broker_name)
        if not broker.rules.simulated:
            return await live_run.run_live(plan, watcher, broker)
        if plan.assembly.settings.mode == LIVE:
            name = plan.assembly.settings.trading.broker_name
            raise SettingsError(
                f"The broker {name} is a simulator, but its section says live.",
                "Set mode=paper with `tbot secrets edit broker`.",
            )
        course = paper_setup(plan.assembly, plan.request, broker, plan.wall.now())
    else:
        course = simulation_setup(plan.assembly, plan.request)
    course.journal.free_space = plan.disk_guard.release_ballast
    try:
        return await _Run(plan, watcher, course).go()
    finally:
        course.journal.close()
        await course.broker.close()
        if isinstance(course.server, BarsOnlyBroker):
            await course.server.close()


class _Run:
    # The run while it lasts.
    def __init__(self, plan: RunPlan, watcher: RunWatcher, course: RunSetup) -> None:
        self._plan = plan
        self._watcher = watcher
        self._course = course
        self._journal = course.journal
        self._since = plan.wall.now()
        self._clock = ManualClock(self._since)
        self._pace = self._paced()
        self._session: TradingSession | None = None
        self._asked: PaperRequestHandler | None = None
        self._meter = self._metered()
        self._began = 0 if course.pending is None else course.pending.started - 1
        self._company = RunServices(plan, watcher, course, LIMITS_S if self._clocked else NO_LIMITS)
        self._recorder = JournalRecorder(journal=course.journal, clock=plan.wall, on_events=self._company.on_events)
        self._holidays = HolidayAnnouncer(self._recorder, plan.assembly.calendar)

    async def go(self) -> RunOutcome:
        """Trade the sessions that the journal does not hold yet."""
        account = await self._course.broker.connect()
        self._company.announce_start()
        stopped = False
        try:
            equity = await self._trade(account)
        except SettingsChanged:
            return attrs.evolve(self._company.announce_end(self._began, stopped=True), renewed=True)
        except RunStopped:
            stopped = True
            self._measure(at_once=True)
            if not self._journal.is_repeating:  # else the stop lies before what the journal says already
                self._journal.append([self._entry(records.STOPPED, {"open": await self._open()})])
        else:
            self._finish(equity)
        return self._company.announce_end(self._began, stopped=stopped)

    async def _trade(self, account: Account) -> Decimal:
        # Trade session after session and return the equity after the last one.
        course = self._course
        equity = course.book.equity_curve[-1][1] if course.book.equity_curve else account.equity
        trading: SessionContext | None = None
        async for source in self._sessions(account):
            if trading is None:
                # In a session whatever is written says exchange time; what is asked before the bell has its own.
                opened = source.session.open
                self._clock = ManualClock(min(self._since, opened) if self._clocked else opened)
                trading = self._company.trading(account, SIMULATOR, self._clock, self._wait)
                self._begin(equity)
            after, late = self._before(source.session)
            entrants = self._plan.assembly.entrants(source.session)
            for sentence in self._plan.assembly.missed_bells(source.session):
                _log.warning("window.missed_bell", session=source.session.date, sentence=sentence)
            self._session = TradingSession(trading, source, entrants, atoms_of(equity), late)
            told = self._plan.assembly.recorded_vix
            for entrant in entrants:
                if (vix := told.get((source.session.date.isoformat(), entrant.name))) is not None:
                    self._session.set_vix(entrant.name, vix)
            if self._clocked:
                failed = recorded_failures(self._journal.events(after, kind=records.PLUGIN_FAILED))
                noted = hung_plugins.noted_hung_calls(self._plan.assembly.settings.instance.data, self._plan.wall.now())
                trading.call_guard.repeat([*(one.lost for one in noted), *failed])
                self._asked = PaperRequestHandler(self._session, self._journal, self._clock, self._plan, after)
            await self._through(source, self._session)
            equity = dollars_of(self._session.decision_engine.portfolio.equity_atoms)
            if self._plan.once and source.session.close > self._since:
                break
        return equity

    @staticmethod
    async def _through(source: FeedSession, session: TradingSession) -> None:
        if not isinstance(source, PaperFeed):
            await session.trade()
            return
        source.tape = session.tape
        async with source.receiving():
            await session.trade()

    async def _sessions(self, account: Account) -> AsyncIterator[FeedSession]:
        # The feed's sessions that are to be traded; on paper those that closed while nobody ran are passed over.
        course = self._course
        done = {day for day, _ in course.book.equity_curve}
        async for source in self._daily(done) if course.live else course.feed.sessions():
            session = source.session
            resumed = course.pending is not None and session.date == course.pending.session.date
            missed = self._clocked and session.close <= self._plan.wall.now() and not resumed
            if missed or session.date.isoformat() in done:
                continue
            if isinstance(source, FeedSession):
                yield source
            else:
                yield await self._gathered(source, account)

    async def _daily(self, done: set[str]) -> AsyncIterator[FeedSession | LiveSession]:
        # The bars of today, day after day; before them those that were kept of a session that is over.
        plan, pending = self._plan, self._course.pending
        if pending is not None and pending.session.close <= plan.wall.now():
            yield interrupted_minutes(self._received, pending.session.date)
        while True:
            now = plan.wall.now()
            today = exchange_time(now).date()
            session = plan.assembly.calendar.session(today)
            if session is None or session.close <= now or today.isoformat() in done:
                session = plan.assembly.calendar.next(today)
            await self._wait(exchange_moment(session.date, READY_AT))
            found = [one async for one in self._course.feed.sessions() if one.session.date == session.date]
            if not found:
                raise DataError(
                    f"{self._course.feed.label.name} supplies no bars of {session.date}.", "Ask the vendor."
                )
            yield found[0]

    async def _gathered(self, source: LiveSession, account: Account) -> PaperFeed:
        plan, course = self._plan, self._course
        settings = plan.assembly.settings
        places = VixSources(calendar=plan.assembly.calendar, brokers=(course.server,), bars=settings.instance.bars)
        trading = self._company.trading(account, SIMULATOR, plan.wall, self._wait)
        floor = LiveConfig(
            folder=settings.instance.control,
            poll_s=settings.trading.sleep_time,
            ttl_s=settings.entries.entry_ttl,
            grace_s=settings.trading.bar_grace,
            received=self._received,
            feed=course.feed.label.name,
        )
        return PaperFeed(source, await places.facts(source), trading, floor)

    def _begin(self, equity: Decimal) -> None:
        # Write down that the run starts, unless it is resumed.
        course = self._course
        if course.pending is None and (self._clocked or not course.book.run):
            self._began = 0 if self._journal.is_repeating else self._journal.head[0]
            self._journal.append([self._entry(records.RUN_STARTED, run_started_payload(self._plan, course, equity))])

    def _before(self, session: Session) -> tuple[int, frozenset[int]]:
        # The last event before a session, and its minutes that nobody watched.
        if not self._clocked:
            return 0, frozenset()
        pending = self._course.pending
        if pending is not None and pending.session.date == session.date:
            return pending.after, resume.late_minutes(self._journal, session)
        resume.note_unwatched_minutes(self._journal, session, 0, self._plan.wall.now())
        stale_causes.clear_market_causes(self._recorder)
        return self._journal.head[0], resume.late_minutes(self._journal, session)

    @property
    def _clocked(self) -> bool:
        return self._plan.assembly.settings.mode in REAL_TIME_MODES

    @property
    def _received(self) -> Path:
        return self._course.received or self._plan.assembly.settings.instance.data / received_bars.FOLDER

    def _metered(self) -> GaugeWriter | None:
        # The gauges are those of whoever trades in the instance, and a dry run does not.
        plan = self._plan
        if plan.assembly.settings.mode == DRY_RUN:
            return None
        return GaugeWriter(plan.assembly.settings.instance.data, self._course.journal.path, plan.wall)

    def _measure(self, *, at_once: bool = False) -> None:
        # Write down how the session stands; while it is repeated, its journal says more than it knows.
        if self._session is not None and not self._journal.is_repeating:
            if self._meter is not None:
                self._meter.write_if_due(self._session, at_once=at_once)
            if self._clocked:
                self._watcher.on_round(self._session)

    async def _wait(self, moment: datetime) -> None:
        self._measure()
        if self._asked is not None and self._session is not None and moment > self._session.session.open:
            await self._asked.repeat_requests()
        try:
            await self._pace.wait_until(moment)
        except RunStopped:
            if not (self._flattens and self._plan.stop.is_set()):
                raise
            # What is held now is known once all has been repeated; those minutes have passed, so none is waited for.
            if not self._journal.is_repeating:
                if self._asked is None or not await self._asked.begin_stop():
                    raise
                self._plan.stop.clear()
                await self._pace.wait_until(moment)
        self._clock.advance_to(moment)

    async def _look(self) -> None:
        self._measure()
        if not self._journal.is_repeating:
            self._holidays.check()
            self._plan.settings_reload.poll(self._recorder, self._plan.wall.monotonic())
            if self._session is not None and (now := self._plan.wall.now()) < self._session.session.open:
                self._clock.advance_to(now)
                self._plan.settings_reload.raise_if_pending()
        if self._asked is not None:
            await self._asked.poll()

    def _paced(self) -> Pace:
        plan = self._plan
        if self._clocked:
            return RealTimePace(
                stop=plan.stop, wall=plan.wall, on_idle=self._watcher.on_idle, on_round=self._look, nap_s=plan.watch_s
            )
        if plan.pace is not None:
            return ScaledPace(stop=plan.stop, wall=plan.wall, rate=plan.pace)
        return FullSpeedPace(stop=plan.stop)

    @property
    def _flattens(self) -> bool:
        return self._clocked and self._plan.assembly.settings.exits.stop_policy == "flatten"

    def _finish(self, equity: Decimal) -> None:
        # Write down that the run is finished, and hold the journal against the desk.
        self._journal.append([self._entry(records.RUN_FINISHED, {"equity": str(equity)})])
        told = fold_events(self._journal.events()).equity
        if told != equity:
            raise JournalError(
                f"The equity is {told} in the journal {self._journal.path}, but {equity} in the decision engine.",
                "Keep the file and report it: one of them has lost a fill.",
            )

    async def _open(self) -> list[str]:
        # What is open, by the books and by what the broker says.
        said = await self._course.broker.snapshot(self._since)
        held = () if self._session is None else self._session.decision_engine.portfolio.positions
        return sorted({*held, *(one.symbol for one in said.holdings)})

    def _entry(self, kind: str, payload: dict[str, Any]) -> NewEvent:
        return NewEvent(kind=kind, payload=payload, time=self._clock.now())
