"""A run at a live market: made from the settings, traded day by day, and its end."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import Broker, FeedSession, LiveSession
from tbot_core.engine.assembly import DRY_RUN
from tbot_core.engine.feed_quality import check_feed_fit, request_limit
from tbot_core.engine.live.daily_cycle import DailyCycle
from tbot_core.engine.live.session_inputs import DailyServices
from tbot_core.engine.rehearsal_run import rehearsal_setup
from tbot_core.engine.run_setup import LIVE, RunServices, RunSetup, dry_run_setup, market_setup, run_started
from tbot_core.engine.session.arming import LiveContext, live_context, record_terms
from tbot_core.engine.session.broker_login import SupportsClose, log_in_within, log_out
from tbot_core.engine.session.config import LiveConfig, ProcessSignals
from tbot_core.engine.session.gauge_writer import GaugeWriter
from tbot_core.engine.session.open_positions import open_at_end
from tbot_core.engine.session.universe_selection import universe_selector
from tbot_core.engine.session.vix import live_vix_brokers
from tbot_core.engine.settings_reload import SettingsChanged
from tbot_core.errors import BrokerError, DataError, FeedRefused, TbotError
from tbot_core.execution import corporate_actions
from tbot_core.instance.report import planned_worst_day as planned
from tbot_core.journal import codec, records
from tbot_core.journal.events.failover import StandbyAbsent
from tbot_core.journal.events.sessions import DriftMeasured, RunStopped, SessionClosed
from tbot_core.journal.projections import carryover, failover
from tbot_core.journal.projections.earlier_sessions import has_traded_live
from tbot_core.journal.store import Event, Journal, JournalRecorder
from tbot_core.marketdata import received_bars, received_files
from tbot_core.model.clock import exchange_time
from tbot_core.reports.timeline import RunTimeline, read_timeline
from tbot_core.system import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from tbot_core.engine.run_plan import RunOutcome, RunPlan, RunWatcher
    from tbot_core.engine.session.broker_session import StandbyBroker
    from tbot_core.engine.session.session import SessionContext
    from tbot_core.model.calendar import Session
    from tbot_core.model.types import Account
    from tbot_core.trading.proposals import ActiveStrategy
    from tbot_core.trading.universe import Universe


_log = log.logger(__name__)


async def run_live(plan: RunPlan, watcher: RunWatcher) -> RunOutcome:
    """Trade day after day until the run is stopped, or to the session's end with `once`; a dry run likewise."""
    dry = plan.assembly.settings.mode == DRY_RUN
    rehearse = partial(rehearsal_setup, plan.rehearsal)
    make = rehearse if plan.rehearsal else dry_run_setup if dry else market_setup
    setup = make(plan.assembly, plan.request)
    setup.journal.free_space = plan.disk_guard.release_ballast
    names = () if setup.broker.capabilities.simulated else plan.assembly.settings.failover.standbys
    others = {name: plan.assembly.broker(name) for name in names}
    try:
        return await _Run(plan, watcher, setup, others).go()
    finally:
        setup.journal.close()
        trading = plan.assembly.settings.trading
        named: dict[str, SupportsClose] = {setup.name: setup.broker, **others}
        if setup.source is not None and setup.source is not setup.broker:  # used for its bars only
            named[f"{trading.data_source or trading.broker_name} (data)"] = setup.source
        await log_out(named, trading.api_timeout)


class _Run:
    # The run while it lasts; it provides the inputs of its sessions.
    def __init__(
        self,
        plan: RunPlan,
        watcher: RunWatcher,
        setup: RunSetup,
        others: Mapping[str, Broker],
    ) -> None:
        self._plan = plan
        self._others = others
        self._watcher = watcher
        self._setup = setup
        if setup.files is None:
            message = "A run in real time needs its files."
            raise ValueError(message)
        self._files = setup.files
        self._since = plan.wall.now()
        closed, opened = (setup.journal.last_event(kind) for kind in (records.SESSION_CLOSED, records.SESSION_OPENED))
        in_session = opened is not None and (closed is None or closed.seq < opened.seq)
        start = setup.journal.last_event(records.RUN_STARTED) if in_session else None
        self._started = start is not None  # a continued session belongs to the run that began it
        self._began = setup.journal.head[0] if start is None else start.seq - 1
        self._services = RunServices(plan, watcher, setup)
        brokers = (*([] if setup.source in {None, setup.broker} else [setup.source]), setup.broker, *others.values())
        self._vix = live_vix_brokers(plan.assembly.settings, brokers)
        self._recorder = JournalRecorder(journal=setup.journal, clock=plan.wall, on_events=self._services.on_events)
        record = self._recorder.record
        selector = universe_selector(plan.assembly, plan.request, setup.broker.capabilities, brokers, record)
        self._selector = attrs.evolve(selector, on_download=watcher.on_download)

    async def go(self) -> RunOutcome:
        """Trade, and return the outcome."""
        plan, setup = self._plan, self._setup
        await self._check_feed()
        self._services.announce_start()
        plan.journal_guard.begin(self._recorder)
        record_terms(plan.assembly, self._recorder)
        settings = plan.assembly.settings
        services = DailyServices(
            calendar=plan.assembly.calendar,
            primary=setup.name,
            settings_reload=plan.settings_reload,
            meter=self._make_gauge_writer(),
            mode=plan.shown_mode,
            worst_day=planned(settings).worst_day,
            on_idle=self._watcher.on_idle,
            on_round=self._watcher.on_round,
            once=plan.once,
        )
        cycle = DailyCycle(self._recorder, setup.broker, self._config(), self, services)
        try:
            stopped = await cycle.run()
        except SettingsChanged:
            outcome = await self._services.announce_end(self._story(), stopped=True)
            return attrs.evolve(outcome, renewed=True)
        if not stopped:
            return await self._services.announce_end(self._story(), stopped=False)
        working = () if cycle.session is None else cycle.session.run.books.open_symbols
        left, unconfirmed = await still_open(setup.journal, setup.broker, self._since, working)
        self._recorder.record(RunStopped(open=tuple(left), unconfirmed=unconfirmed))
        return await self._services.announce_end(self._story(), stopped=True, reported=left, unconfirmed=unconfirmed)

    def _story(self) -> RunTimeline:
        # This run, from the instance's journal.
        return read_timeline(self._setup.journal.events(self._began))

    async def _check_feed(self) -> None:
        # End a run whose account does not have the feed, before it waits for a session; one with positions goes on.
        setup = self._setup
        past = carryover.events_for_session(setup.journal)
        if self._started or carryover.carried_positions(past) or setup.feed.label.simulated:
            return
        try:
            async with asyncio.timeout(self._plan.assembly.settings.trading.api_timeout):
                async for _ in setup.feed.sessions():
                    return
        except FeedRefused:
            raise
        except (TbotError, TimeoutError) as fault:  # the session asks again, and reports it
            _log.info("feed.not_checked", reason=str(fault))

    async def compare(self, session: Session) -> None:
        """Record the drift of a closed session; at a venue that fills from bars there is none."""
        if self._plan.drift is None:
            return
        journal, capabilities = self._setup.journal, self._setup.broker.capabilities
        closed = journal.last_event(records.SESSION_CLOSED)
        path = received_files.recorded_file(self._files.received, session.date)
        if capabilities.simulated or path is None or closed is None or closed.facts(SessionClosed).date != session.date:
            return
        opened = journal.last_event(records.SESSION_OPENED)
        events = list(journal.events(0 if opened is None else opened.seq - 1))
        recording = received_bars.read_recording(path)
        found = await self._plan.drift(self._plan.assembly, capabilities, recording, events)
        self._recorder.record(codec.read(DriftMeasured, found))

    def _make_gauge_writer(self) -> GaugeWriter | None:
        # The gauges belong to the trading run; a dry run writes none.
        data = self._files.data
        return (
            None
            if data is None
            else GaugeWriter(data, self._setup.journal.path, self._plan.wall, self._plan.assembly.budgets)
        )

    def _config(self) -> LiveConfig:
        plan, settings, files = self._plan, self._plan.assembly.settings, self._files
        return LiveConfig(
            folder=files.control,
            poll_s=settings.trading.sleep_time,
            ttl_s=settings.entries.entry_ttl,
            timeout_s=settings.trading.api_timeout,
            watch_s=plan.watch_s,
            grace_s=settings.trading.bar_grace,
            received=files.received,
            feed=self._setup.feed.label.name,
            request_limit=request_limit(plan.assembly),
            disk_guard=plan.disk_guard,
            journal_guard=plan.journal_guard,
            lost=files.data,
            splits=None if files.data is None else files.data / corporate_actions.NAME,
            vix=self._vix,
            signals=ProcessSignals(stop=plan.stop, kill=plan.kill, flattens=settings.exits.stop_policy == "flatten"),
        )

    def entrants(self, session: Session) -> tuple[ActiveStrategy, ...]:
        """The strategies of a session."""
        return self._plan.assembly.entrants(session)

    async def context(self, account: Account, opened: Event | None) -> SessionContext:
        """The context of a session at the reported account; the first one records the run's start."""
        plan, setup = self._plan, self._setup
        if not self._started:
            self._started = True
            self._recorder.record(run_started(plan, setup, account.equity))
        context = self._services.trading(account, setup.name, plan.wall, plan.wall.sleep_until)
        if plan.assembly.settings.mode == LIVE:
            today = exchange_time(plan.wall.now()).date()
            is_first = not has_traded_live(setup.journal, account.account_id, before=today)
            context = attrs.evolve(context, rules=attrs.evolve(context.rules, first_live_day=is_first))
        return attrs.evolve(context, standbys=await self._make_standbys(opened))

    async def _make_standbys(self, opened: Event | None) -> tuple[StandbyBroker, ...]:
        # The brokers that may take over; one whose login fails or hangs is reported and left out of the session.
        limit_s = self._plan.assembly.settings.trading.api_timeout
        accounts = () if opened is None else opened.payload.get("accounts", {})
        named = {name: broker for name, broker in self._others.items() if opened is None or name in accounts}
        logins = (log_in_within(limit_s, broker, name, opened) for name, broker in named.items())
        found = []
        for (name, broker), account in zip(named.items(), await asyncio.gather(*logins), strict=True):
            if isinstance(account, str):
                self._recorder.record(StandbyAbsent(of=name, words=account))
            else:
                found.append(self._services.standby(broker, name, account))
        return tuple(found)

    def is_drilled(self, past: Sequence[Event]) -> bool:
        """Whether a recent failover drill of these brokers passed."""
        names = (self._setup.name, *self._others)
        return not failover.drill_objection(failover.latest_drill(past, names), self._plan.wall.now())

    def arming_terms(self, account: Account) -> LiveContext | None:
        """The arming context; paper trading is not armed."""
        assembly = self._plan.assembly
        return live_context(assembly, account.account_id) if assembly.settings.mode == LIVE else None

    async def prepare(self, session: Session) -> None:
        """Download the session's history into the bar store; a fault is reported when the session needs it."""
        try:
            await self._selector.select(await self.bars(session), carryover.events_for_session(self._setup.journal))
        except TbotError as fault:
            _log.warning("history.not_prepared", session=session.date, reason=fault.message)

    async def universe(
        self, source: FeedSession | LiveSession, past: Sequence[Event], on_wait: Callable[[str], None]
    ) -> Universe:
        """The symbols of a source with their facts."""
        return await self._selector.select(source, past, on_wait)

    async def bars(self, session: Session) -> FeedSession | LiveSession:
        """The running session's bars; raises DataError if the source has none for that day."""
        async for source in self._setup.feed.sessions():
            if source.session.date == session.date:
                if isinstance(source, LiveSession):
                    check_feed_fit(source.quality, self._plan.assembly.settings)
                return source
        raise DataError(f"{self._setup.feed.label.name} supplies no bars of {session.date}.", "Ask the vendor.")


async def still_open(
    journal: Journal, broker: Broker, since: datetime, working: Iterable[str] = ()
) -> tuple[list[str], str]:
    """The symbols open by the books and the broker's account, and why the account could not be read, "" if it was.

    Known external holdings are left out. `working` are further open symbols of the session, such as those of orphan
    orders.
    """
    held, unconfirmed = {*open_at_end(journal).open, *working}, ""
    try:
        snapshot = await broker.snapshot(since)
    except BrokerError as fault:
        unconfirmed = fault.message
        _log.warning("account.not_read", reason=unconfirmed)
    else:
        external = carryover.known_external_holdings(journal, snapshot.account.account_id)
        held |= {one.symbol for one in snapshot.holdings if one.quantity != external.get(one.symbol, 0)}
    return sorted(held), unconfirmed
