"""A run: trading in real time, or simulated sessions in sequence, which continue after an interruption."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.contracts import FeedSession
from tbot_core.engine import control
from tbot_core.engine.assembly import DRY_RUN, SIMULATOR
from tbot_core.engine.live import run as live_run
from tbot_core.engine.pacing import FullSpeedPace, Pace, RunStopped, ScaledPace
from tbot_core.engine.run_plan import WATCHER_LIMIT_S, RunOutcome, RunPlan, RunWatcher
from tbot_core.engine.run_setup import LIVE, PAPER, RunServices, RunSetup, run_started, simulation_setup
from tbot_core.engine.session.broker_login import log_out
from tbot_core.engine.session.gauge_writer import GaugeWriter
from tbot_core.engine.session.session import SessionContext, TradingSession, open_books
from tbot_core.errors import JournalError
from tbot_core.instance.control_folder import record_control_folder
from tbot_core.journal import codec
from tbot_core.journal.events.sessions import RunFinished
from tbot_core.journal.store import NewEvent
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Account, atoms_of, dollars_of
from tbot_core.plugins.hook_calls import NO_LIMITS
from tbot_core.reports.timeline import read_timeline
from tbot_core.system import log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from decimal import Decimal

    from tbot_core.journal.codec import EventFacts

_log = log.logger(__name__)


async def run(plan: RunPlan, watcher: RunWatcher) -> RunOutcome:
    """Run simulated sessions, a replay, or the market day after day, to the end or until stopped.

    An interrupted simulation continues after its last closed session. The watcher is isolated: its failures do not
    affect the run. The caller holds the instance's lock; for a dry run, the lock of dry runs.
    """
    plan.assembly.record_plugins()
    settings = plan.assembly.settings
    real_time = settings.mode in {PAPER, LIVE, DRY_RUN}
    watcher = watcher.isolated(plan.wall.monotonic, WATCHER_LIMIT_S if real_time else None)
    if real_time:
        if settings.mode != DRY_RUN:
            control.prepare_folder(settings.instance.control)
            record_control_folder(settings.instance)
        return await live_run.run_live(plan, watcher)
    setup = simulation_setup(plan.assembly, plan.request)
    setup.journal.free_space = plan.disk_guard.release_ballast
    try:
        return await _Run(plan, watcher, setup).go()
    finally:
        setup.journal.close()
        await log_out({SIMULATOR: setup.broker}, settings.trading.api_timeout)


class _Run:
    # A simulation while it lasts.
    def __init__(self, plan: RunPlan, watcher: RunWatcher, setup: RunSetup) -> None:
        self._plan = plan
        self._setup = setup
        self._journal = setup.journal
        self._clock = ManualClock(plan.wall.now())
        self._pace = self._make_pace()
        self._session: TradingSession | None = None
        self._gauges = GaugeWriter(plan.assembly.settings.instance.data, setup.journal.path, plan.wall)
        self._services = RunServices(plan, watcher, setup, NO_LIMITS)

    async def go(self) -> RunOutcome:
        """Trade the sessions that the journal does not hold yet."""
        account = await self._setup.broker.connect()
        self._services.announce_start()
        try:
            equity = await self._trade(account)
        except RunStopped:  # the events of the interrupted session are reported, and not committed
            self._write_gauges(at_once=True)
            return await self._services.announce_end(read_timeline(self._journal.events()), stopped=True)
        self._journal.append([self._entry(RunFinished(equity=equity))])
        story = read_timeline(self._journal.events())
        self._compare(story.book.equity, equity)
        return await self._services.announce_end(story, stopped=False)

    async def _trade(self, account: Account) -> Decimal:
        # Trade session after session and return the equity after the last one.
        setup, assembly = self._setup, self._plan.assembly
        equity = setup.book.equity_curve[-1][1] if setup.book.equity_curve else account.equity
        context: SessionContext | None = None
        async for source in self._sessions():
            if context is None:
                self._clock = ManualClock(source.session.open)
                context = self._services.trading(account, SIMULATOR, self._clock, self._wait)
                if not setup.book.run:
                    self._journal.append([self._entry(run_started(self._plan, setup, equity))])
            entrants = assembly.entrants(source.session)
            for sentence in assembly.missed_bells(source.session):
                _log.warning("window.missed_bell", session=source.session.date, sentence=sentence)
            books = open_books(context, source.session, source.symbols, source.day, atoms_of(equity))
            self._session = TradingSession(context, books, entrants)
            for entrant in entrants:
                if (vix := assembly.recorded_vix.get((source.session.date.isoformat(), entrant.name))) is not None:
                    self._session.set_vix(entrant.name, vix)
            await self._session.trade(source)
            equity = dollars_of(self._session.decision_engine.portfolio.equity_atoms)
        return equity

    async def _sessions(self) -> AsyncIterator[FeedSession]:
        # The feed's sessions that are not in the journal.
        done = {day for day, _ in self._setup.book.equity_curve}
        async for source in self._setup.feed.sessions():
            if isinstance(source, FeedSession) and source.session.date.isoformat() not in done:
                yield source

    def _write_gauges(self, *, at_once: bool = False) -> None:
        if self._session is not None:
            self._gauges.write_if_due(self._session, at_once=at_once)

    async def _wait(self, moment: datetime) -> None:
        self._write_gauges()
        await self._pace.wait_until(moment)
        self._clock.advance_to(moment)

    def _make_pace(self) -> Pace:
        plan = self._plan
        if plan.pace is not None:
            return ScaledPace(stop=plan.stop, wall=plan.wall, rate=plan.pace)
        return FullSpeedPace(stop=plan.stop)

    def _compare(self, recorded: Decimal, equity: Decimal) -> None:
        # Compare the journal with the decision engine.
        if recorded != equity:
            raise JournalError(
                f"The equity is {recorded} in the journal {self._journal.path}, but {equity} in the decision engine.",
                "Keep the file and report it: one of them has lost a fill.",
            )

    def _entry(self, facts: EventFacts) -> NewEvent:
        return NewEvent(kind=facts.kind, payload=codec.write(facts), time=self._clock.now())
