"""A session at a live market. It uses one event loop and no threads: the books change only between two awaits."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.engine import control, resume
from tbot_core.engine.control import CONFIRMATION_VERBS, ControlVerb
from tbot_core.engine.live.abandoned_positions import AbandonedPositions
from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
from tbot_core.engine.live.data_guard import ClockGuard, DataGuard, FeedEventRecorder, out_of_hours, session_clock
from tbot_core.engine.live.failover import guard_standbys, make_failover, monitor_brokers
from tbot_core.engine.live.protection import ProtectionMonitor
from tbot_core.engine.live.restart import SessionRestart
from tbot_core.engine.live.session_close import SessionClose
from tbot_core.engine.live.session_tasks import (
    AsyncAction,
    SessionTasks,
    WatchLoop,
    close_accounts,
    poll_brokers,
    settle_orders,
    side_tasks,
)
from tbot_core.engine.live.shutdown import PositionFlattener, Shutdown
from tbot_core.engine.session.arming import ArmingGuard
from tbot_core.engine.session.feed_session import FeedReceiver, SessionFeed, empty_minute
from tbot_core.engine.session.requests import FUTURE_SESSION_VERBS, RequestAction, RequestHandler
from tbot_core.engine.session.session import SessionContext, SessionServices, TradingSession, open_books
from tbot_core.engine.session.session_events import check_opening_equity
from tbot_core.engine.session.vix import ASK_S, WindowVix
from tbot_core.errors import AccessError
from tbot_core.execution.reconciler import LEAST_WINDOW_S
from tbot_core.execution.requests import run_concurrently
from tbot_core.execution.trading_state import recall_states
from tbot_core.journal import records
from tbot_core.journal.projections import carryover
from tbot_core.marketdata.feed_health import MINUTE_S
from tbot_core.model.types import Leg
from tbot_core.system import log
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from tbot_core.engine.control import ControlRequest
    from tbot_core.engine.session.broker_session import BrokerSession
    from tbot_core.engine.session.config import LiveConfig
    from tbot_core.journal.store import Event, NewEvent
    from tbot_core.model.types import Order
    from tbot_core.trading.proposals import ActiveStrategy

RECONCILE_INTERVAL_S: Final = 0.5
PRICE_CHECK_INTERVAL_S: Final = 10.0
_EXTRA_LOOKUP_S: Final = 120.0
_OPEN_POLL: Final = timedelta(seconds=1)
_START_KINDS: Final = frozenset({records.RUN_STARTED, records.SESSION_OPENED})
_OPENING_KINDS: Final = frozenset({records.SESSION_OPENED, records.SCREENED, records.UNIVERSE})
_log = log.logger(__name__)


class LiveTradingSession:
    """A session at a live market.

    `past` are the journal's events, including this session's own after a restart.
    """

    def __init__(  # noqa: PLR0913, PLR0917  the parts of one session
        self,
        context: SessionContext,
        config: LiveConfig,
        feed: SessionFeed,
        entrants: tuple[ActiveStrategy, ...],
        equity_atoms: int,
        past: Sequence[Event] = (),
    ) -> None:
        self.supervisors: tuple[BrokerSupervisor, ...] = ()
        broker = context.venue.broker
        context, circuits = monitor_brokers(context.watching(feed.universe.watch_only))
        venue = attrs.evolve(context.venue, denial_reason=self.denial_reason, on_read_result=partial(self._on_read, 0))
        standbys = guard_standbys(context.standbys, self._objection, self._on_read)
        self._context = attrs.evolve(context, venue=venue, standbys=standbys)
        self._config, clock = config, context.clock
        self._past, self._carried = carryover.events_since_close(past), carryover.carried_positions(past)
        self.steady_clock = session_clock(context.clock, broker)
        universe = feed.universe
        self.books = open_books(self._context, feed.session, universe.symbols, universe.day, equity_atoms)
        reports = FeedEventRecorder(self.books.execution.recorder)
        self._receiver = FeedReceiver(feed, config, clock, self.steady_clock, reports)
        self.supervisors = tuple(map(self._supervisor, self.books.broker_sessions, repeat(past)))
        self.trading_state, self.reconciler = self.supervisors[0].trading_state, self.supervisors[0].reconciler
        self.failover = make_failover(self.supervisors, circuits, clock, self._past, drilled=config.drilled)
        self.abandoned_positions = AbandonedPositions(past, {one.account_id for one in self.books.broker_sessions})
        self._arming_guard, self._equity_checked, self._closed = self._make_arming_guard(past), False, False
        self.requests = RequestHandler(self.books.execution.recorder, self.trading_state, past, self._handlers())
        self.requests.restore(past, flattens=config.signals.flattens)
        self.clock_guard = ClockGuard(self.steady_clock, broker, self.trading_state)
        self.data_guard = self._make_data_guard()
        services = SessionServices(outlook=self.data_guard, routing=self.failover, stops=self.requests)
        self.run = TradingSession(self._context, self.books, entrants, services)
        self._vix = None if config.vix is None else WindowVix(config.vix, self.run, self.steady_clock, self._past)
        health = None if self.data_guard is None else self.data_guard.health
        self._protection = tuple(
            ProtectionMonitor(one, self.steady_clock, health)
            for one in self.run.broker_sessions
            if not one.execution.venue.broker.capabilities.simulated
        )
        self._session_close = SessionClose(self.run, self.supervisors, self.steady_clock, self._past, self._is_halted)
        self._tasks, self._first_read_done = SessionTasks(clock, config.timeout_s), asyncio.Event()
        self._watch_loop = WatchLoop(config, clock, self.supervisors, self.requests, self._checks())
        self._restart = SessionRestart(self.run, self._past, self._carried, self.steady_clock)
        event_when = self._watch_loop.event_when
        self._shutdown = Shutdown(self.requests, self.supervisors, clock, config.timeout_s, event_when)

    def _supervisor(self, broker: BrokerSession, past: Sequence[Event]) -> BrokerSupervisor:
        causes = recall_states(past, broker.journal_tag)
        # At a venue that fills from bars an entry ends after the first bar that could fill it.
        ttl_s = math.inf if broker.execution.venue.broker.capabilities.simulated else self._config.ttl_s
        return BrokerSupervisor(broker, causes, ttl_s, self._config.splits)

    async def trade(self) -> None:
        """Trade the session to its end, or until a stop has been carried out."""
        self._restart.restore(self.supervisors, self._config, self.data_guard, self._context.call_guard)
        self.abandoned_positions.update_cause(self.trading_state)
        for monitor in self._protection:
            monitor.restore(self._past)
        if self._arming_guard is not None:
            starts = any(event.kind in _START_KINDS for event in self._past)
            self._arming_guard.restore(restarted=self._config.restarted and starts)
        repeat_every, config = self._tasks.repeat_every, self._config
        actions: list[tuple[float, AsyncAction]] = [(config.watch_s, self._watch)]
        actions.append((RECONCILE_INTERVAL_S, self._supervise))
        actions += [(one.broker_session.pause_s(config.poll_s), one.process_broker_events) for one in self.supervisors]
        actions += [(RECONCILE_INTERVAL_S, one.run_once) for one in self.supervisors[1:]]
        actions += [(RECONCILE_INTERVAL_S, one.run_once) for one in self._protection]
        main = asyncio.ensure_future(self._main())
        side = [asyncio.ensure_future(repeat_every(seconds, action)) for seconds, action in actions]
        side += [asyncio.ensure_future(self._after_first_read(action)) for action in self._later_actions()]
        side += side_tasks(self.supervisors, self._tasks)
        requests = [one.execution.open_requests for one in self.run.broker_sessions]
        try:
            await self._tasks.run_until_first_ends(main, side)
            await run_concurrently([partial(one.finish, self._config.timeout_s) for one in requests])
        finally:
            for one in requests:
                one.cancel()

    async def _main(self) -> None:
        # The account, then the minutes; other tasks do not wait for a slow reading.
        await self._reconcile()
        self._first_read_done.set()
        await self._minutes()

    async def _after_first_read(self, action: AsyncAction) -> None:
        await self._first_read_done.wait()
        await action()

    def _later_actions(self) -> list[AsyncAction]:
        # The actions that begin after the first attempt to read the account.
        repeat_every = self._tasks.repeat_every
        found = self._event_actions()
        if self._vix is not None:
            found.append(partial(repeat_every, ASK_S, self._vix.refresh))
        if self.data_guard is not None:
            run_once = partial(self.data_guard.run_once, self.run.orders_between_minutes)
            found += [self.data_guard.run, partial(repeat_every, RECONCILE_INTERVAL_S, run_once)]
            if self.data_guard.can_compare_prices:
                found.append(partial(repeat_every, PRICE_CHECK_INTERVAL_S, self.data_guard.compare_prices))
        return found

    def _make_data_guard(self) -> DataGuard | None:
        live_feed = self._receiver.live_feed
        return (
            None
            if live_feed is None
            else DataGuard(live_feed, self.books, self.failover, self.trading_state, self.steady_clock)
        )

    def _checks(self) -> list[Callable[[], None]]:
        return [one.run_once for one in (self.failover, self.clock_guard) if one is not None]

    def _event_actions(self) -> list[AsyncAction]:
        # Broker actions that run as soon as a round finds them due, each in its own task.
        closers = [PositionFlattener(self.run, broker, self.steady_clock) for broker in self.run.broker_sessions]
        calls = [
            *((supervisor.should_cancel_entries, supervisor.cancel_entries) for supervisor in self.supervisors),
            *((supervisor.should_settle_orders, supervisor.settle_orders) for supervisor in self.supervisors),
            *((one.should_begin, one.begin) for one in closers),
            (self.run.confirmations.has_pending, self.run.resolve_confirmations),
        ]
        return [partial(self._tasks.run_on_event, self._watch_loop.event_when(due), action) for due, action in calls]

    @property
    def left_open(self) -> bool:
        """Whether it ended before its close with open positions, working orders or lookups."""
        is_over = self._closed or self.steady_clock.now() >= self.run.session.close
        return not (is_over or all(one.is_idle and not one.has_lookups for one in self.run.broker_sessions))

    @property
    def stuck_symbols(self) -> set[str]:
        """The symbols that the previous session could not close and that are still held."""
        return {one.fill.symbol for one in self._carried}.intersection(self.books.positions)

    @property
    def live(self) -> bool:
        """Whether the session must be armed."""
        return self._config.live is not None

    @property
    def awaits_match(self) -> bool:
        """Whether an arming waits, after a restart, for the account to be matched."""
        return self._arming_guard is not None and self._arming_guard.awaits_match

    def hand_over(self) -> None:
        """End, so that another object continues the session from the journal; a pending stop is carried out first."""
        self._shutdown.hand_over()

    @property
    def handed_over(self) -> bool:
        """Whether it ended by `hand_over`."""
        return self._shutdown.handed_over

    async def end_late(self, until: datetime, on_unread: Callable[[], None]) -> bool:
        """End a past session: look up its orders, read the accounts, and record the outcome and the close.

        The primary account must be read first, however long that takes; other brokers are awaited `until` then.
        `on_unread` is called meanwhile. Returns False if a stop came first; the session then stays open.
        """
        self._restart.restore(self.supervisors, self._config, self.data_guard, self._context.call_guard)
        self._equity_checked = True
        self.requests.leave_to_next_session(FUTURE_SESSION_VERBS)
        tasks = SessionTasks(self._context.clock, self._config.timeout_s)
        side = side_tasks(self.supervisors, tasks)
        side.append(asyncio.ensure_future(tasks.repeat_every(self._config.watch_s, self._watch_loop.process_requests)))
        resolving = asyncio.ensure_future(self._resolve_orders(until, on_unread))
        await tasks.run_until_first_ends(resolving, side)
        return resolving.result()

    async def _resolve_orders(self, until: datetime, on_unread: Callable[[], None]) -> bool:
        # Read the accounts, look up orders, and close; returns False if a stop came first.
        await self._reconcile()
        while not self._accounts_read(until):
            if self.requests.is_stopping:
                return False
            on_unread()
            await self._poll_brokers()
        clock = self._context.clock
        lookup_until = clock.monotonic() + self._lookup_timeout_s
        while clock.monotonic() < lookup_until and any(one.in_flight for one in self.run.broker_sessions):
            if self.requests.is_stopping:
                return False
            await self._poll_brokers()
        return await self._close()

    async def _close(self) -> bool:
        # Read the accounts and record the close; returns False if a stop came first: the next start does both.
        self._closed = await close_accounts(self.supervisors, lambda: self.requests.is_stopping)
        if self._closed:
            await self.run.close_session(self._stuck)
        return self._closed

    def _accounts_read(self, until: datetime) -> bool:
        # Whether the primary account was read since the start, and until that moment all others too.
        supervisors = self.supervisors if self.steady_clock.now() < until else self.supervisors[:1]
        return all(supervisor.reconciler.has_read_account for supervisor in supervisors)

    async def _poll_brokers(self) -> None:
        await poll_brokers(self.supervisors)
        await self._context.clock.sleep(RECONCILE_INTERVAL_S)

    def _stuck(self) -> list[NewEvent]:
        # The positions held at the session's end, including abandoned ones.
        return [*self._session_close.stuck_entries(), *self.abandoned_positions.entries(self.run.execution.recorder)]

    @property
    def _lookup_timeout_s(self) -> float:
        return max(LEAST_WINDOW_S, self._context.venue.broker.capabilities.lookup_window_s) + _EXTRA_LOOKUP_S

    def denial_reason(self, order: Order) -> str:
        """Why an order may not be sent now; checked in the second barrier and again before its first byte."""
        return self._objection(0, order)

    def _objection(self, index: int, order: Order) -> str:
        supervisor = self.supervisors[index]
        try:
            if control.kill_file_exists(self._config.folder):
                self.trading_state.raise_cause(StateCause.KILL_FILE)
        except AccessError as fault:
            if order.leg is Leg.ENTRY:  # stops and exits do not depend on the folder
                return f"the control folder cannot be read: {fault.message}"
        supervisor.raise_causes()
        states = (one.trading_state for one in self.supervisors)
        self._config.disk_guard.update_causes(self._context.clock.monotonic(), *states)
        if words := out_of_hours(self.run.session, self.steady_clock.now()):
            return words
        if words := supervisor.denial_reason(order, flattening=self.run.flattening):
            return words
        elsewhere = "" if self.failover is None else self.failover.denial_reason(supervisor, order)
        guard = self.data_guard
        return elsewhere or ("" if guard is None else guard.denial_reason(order, supervisor.broker_session))

    def _is_halted(self) -> bool:
        return self.data_guard is not None and self.data_guard.halted_to_close

    def _on_read(self, index: int, fault_text: str) -> None:
        self.supervisors[index].record_read_result(fault_text)

    async def _reconcile(self) -> None:
        # Read the primary's account first; entries are blocked until one reading has succeeded.
        await self.supervisors[0].reconcile()
        self._on_account_read()

    def _on_account_read(self) -> None:
        if self.reconciler.has_read_account and not self._equity_checked:
            self._equity_checked = True
            check_opening_equity(self.books, self._context.journal, self._context.venue)
        if self._arming_guard is not None:
            self._arming_guard.update(self.reconciler.verdict)

    def _make_arming_guard(self, past: Sequence[Event]) -> ArmingGuard | None:
        live, books = self._config.live, self.books
        if live is None:
            return None
        live = attrs.evolve(live, events=past)
        recorder, exposure = books.execution.recorder, books.decision_engine.exposure
        return ArmingGuard(live, books.session.date, recorder, self.trading_state, exposure)

    def _handlers(self) -> dict[ControlVerb, RequestAction]:
        answers: dict[ControlVerb, RequestAction] = dict.fromkeys(CONFIRMATION_VERBS, self._record_answer)
        answers[ControlVerb.ACCEPT_JOURNAL] = partial(self._config.journal_guard.accept, self.trading_state)
        if self.failover is not None or self.abandoned_positions:
            answers[ControlVerb.FAILOVER_CONFIRM] = self._confirm
        return answers if self._arming_guard is None else answers | self._arming_guard.handlers

    def _record_answer(self, request: ControlRequest) -> str:
        return self.run.confirmations.record_answer(request)

    def _confirm(self, request: ControlRequest) -> str:
        # A person confirms what is open where no account can be read.
        if self.abandoned_positions and (self.failover is None or not self.failover.broken_route):
            return self.abandoned_positions.release(request, self.run.execution.recorder, self.trading_state)
        if self.failover is None:
            return "No entry needs a confirmation any more."
        return self.failover.confirm_exposure(request)

    async def _await_open(self) -> bool:
        # Wait for the bell and open the session; returns whether a stop came first.
        run, clock = self.run, self._context.clock
        while (rest := run.session.open - clock.now()).total_seconds() > 0:
            if self._shutdown.finish_if_over():
                return True
            await self._context.wait(clock.now() + min(rest, _OPEN_POLL))
        recorded = _OPENING_KINDS.intersection(event.kind for event in self._past)
        await run.open_session(self._receiver.partial_volume, recorded)
        if self._receiver.truncation is not None and records.UNIVERSE not in recorded:
            run.execution.recorder.record(self._receiver.truncation)
        return False

    async def _minutes(self) -> None:
        # Trade the minutes in order: drop late and repeated ones, keep missing ones empty, skip if positions are kept.
        run = self.run
        if await self._await_open():
            return
        start_minute = run.session.minute(self.steady_clock.now())
        if self.data_guard is None:  # a live feed records its own gaps
            resume.note_missed_minutes(
                run.execution.recorder, run.session, self._receiver.first_unrecorded, start_minute - 1
            )
        minutes = aiter(self._receiver.minutes())
        while (minute := await self._shutdown.next_minute(minutes)) is not None:
            if minute.index < run.tape.closed:
                _log.warning("minute.late", index=minute.index)
                continue
            while run.tape.closed < minute.index:
                run.append_minute(empty_minute(minute, run.tape.closed))
            run.append_minute(minute)
            late = () if self.data_guard is None else self.data_guard.apply_late_bars()
            if (old := minute.index < start_minute - 1) or run.keeps_positions():
                await run.skip_minute(minute.index, late=old)
                self._receiver.record_minute(minute, late)
                continue
            if self._vix is not None:
                self._vix.apply_due(minute.index)
            await self._restart.repeat_orders()
            await run.step(minute.index, late=self._is_late(minute.index))
            self._context.on_minute(run, minute.index)
            self._receiver.record_minute(minute, late, run.quoted)
        if not self._shutdown.ended and await self._settle():
            await self._context.wait(run.session.close)
            await self._close()

    async def _settle(self) -> bool:
        # After the last minute: wait for orders in flight, as long as a lookup may still find one; returns False if a
        # stop ended that. A venue that fills from bars ends them at the close.
        clock, limits = self._context.clock, (self._lookup_timeout_s, self._config.timeout_s)
        return self.run.fills_on_bars or await settle_orders(
            self.supervisors, clock, limits[0], lambda: self.requests.is_stopping, limits[1]
        )

    def _is_late(self, index: int) -> bool:
        # Whether a minute came too long after its end to enter on it.
        behind = self.steady_clock.now() - self.run.session.moment(index + 1)
        filled = self.data_guard is not None and self.data_guard.is_backfilled(index)
        # A venue that fills from bars fills on the next one, whenever the order arrives before its end.
        limit_s = MINUTE_S if self.run.fills_on_bars else self._config.ttl_s
        return filled or behind.total_seconds() > limit_s

    async def _watch(self) -> None:
        # Until the account has been read, only requests are executed.
        await (self._watch_loop.run_once() if self._first_read_done.is_set() else self._watch_loop.process_requests())

    async def _supervise(self) -> None:
        await self.supervisors[0].run_once()
        if self._first_read_done.is_set():
            self._on_account_read()
            await self._session_close.run_once()
