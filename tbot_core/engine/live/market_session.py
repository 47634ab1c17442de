"""A session at a broker's own market. One event loop, no threads: the books change only between two waits."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from itertools import product, repeat
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.live.abandoned_positions import AbandonedPositions
from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
from tbot_core.engine.live.data_guard import ClockGuard, DataGuard, out_of_hours, session_clock
from tbot_core.engine.live.failover import guard_standbys, make_failover, monitor_brokers
from tbot_core.engine.live.flatten import PositionFlattener
from tbot_core.engine.live.session_close import SessionClose
from tbot_core.engine.live.shutdown import Shutdown
from tbot_core.engine.live.task_group import AsyncAction, SessionTasks
from tbot_core.engine.live.watch_loop import WatchLoop
from tbot_core.engine.session.arming import ArmingGuard
from tbot_core.engine.session.confirmations import CONFIRMATION_VERBS
from tbot_core.engine.session.feed_session import FeedReceiver, empty_minute
from tbot_core.engine.session.opening_equity import check_opening_equity
from tbot_core.engine.session.recovery import SessionRecovery, recorded_failures
from tbot_core.engine.session.requests import FUTURE_SESSION_VERBS, RequestAction, RequestHandler
from tbot_core.engine.session.session import SessionContext, TradingSession
from tbot_core.engine.session.vix import ASK_S, WindowVix
from tbot_core.errors import AccessError
from tbot_core.execution.reconciler import LEAST_WINDOW_S
from tbot_core.execution.throttling import run_concurrently
from tbot_core.execution.trading_state import recall_states
from tbot_core.journal import records
from tbot_core.journal.projections import carryover
from tbot_core.model.types import Leg
from tbot_core.plugins import hung_plugins
from tbot_core.system import log
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from tbot_core.contracts import FeedSession, LiveSession
    from tbot_core.engine.control import ControlRequest
    from tbot_core.engine.session.broker_session import BrokerSession
    from tbot_core.engine.session.config import LiveConfig
    from tbot_core.journal.store import Event, NewEvent
    from tbot_core.model.bars import DayFacts
    from tbot_core.model.types import Order
    from tbot_core.trading.proposals import ActiveStrategy

RECONCILE_INTERVAL_S: Final = 0.5
PRICE_CHECK_INTERVAL_S: Final = 10.0
_AFTER_S: Final = 120.0
_BEFORE_THE_BELL: Final = timedelta(seconds=1)
_STARTS: Final = frozenset({records.RUN_STARTED, records.SESSION_OPENED})
_AT_THE_BELL: Final = frozenset({records.SESSION_OPENED, records.SCREENED, records.UNIVERSE})
_log = log.logger(__name__)


class LiveTradingSession:
    """A session at a broker's own market.

    `past` are the journal's events, this session's own after a restart included. `day` holds facts known before the
    open, if more than the source's. `restarted`: an earlier process began it.
    """

    restarted = True

    def __init__(  # noqa: PLR0913, PLR0917  everything that one session is made of
        self,
        trading: SessionContext,
        floor: LiveConfig,
        source: FeedSession | LiveSession,
        entrants: tuple[ActiveStrategy, ...],
        equity_atoms: int,
        past: Sequence[Event] = (),
        day: DayFacts | None = None,
    ) -> None:
        self.supervisors: tuple[BrokerSupervisor, ...] = ()
        broker = trading.venue.broker
        trading, circuits = monitor_brokers(trading)
        venue = attrs.evolve(trading.venue, denial_reason=self.denial_reason, on_read_result=partial(self._see, 0))
        standbys = guard_standbys(trading.standbys, self._objection, self._see)
        self._trading = attrs.evolve(trading, venue=venue, standbys=standbys)
        self._floor, clock = floor, trading.clock
        self._past, self._carried = carryover.events_since_close(past), carryover.carried_positions(past)
        self.steady_clock = session_clock(trading.clock, broker)
        self._hearing = FeedReceiver(source, day or source.day, floor, self._trading, self.steady_clock, past)
        self.run = TradingSession(self._trading, self._hearing.source, entrants, equity_atoms)
        self.run.day = self._hearing.universe.day
        self._vix = None if floor.vix is None else WindowVix(floor.vix, self.run, self.steady_clock, self._past)
        self.supervisors = tuple(map(self._supervisor, self.run.broker_sessions, repeat(past)))
        self.trading_state, self.reconciler = self.supervisors[0].trading_state, self.supervisors[0].reconciler
        self.failover = make_failover(self.supervisors, circuits, clock, self._past, drilled=floor.drilled)
        self.abandoned_positions = AbandonedPositions(past, {one.account_id for one in self.run.broker_sessions})
        self._safety, self._weighed, self._closed = self._guarded(past), False, False
        recorder, flatten = self.run.execution.recorder, self.run.flatten
        self.requests = RequestHandler(recorder, self.trading_state, flatten, past, self._further())
        self.requests.restore(past, flattens=floor.signals.flattens)
        self.clock_guard = ClockGuard(self.steady_clock, broker, self.trading_state)
        self.data_guard = self._watching()
        self.run.outlook, self.run.routing = self.data_guard, self.failover
        self.run.keeps_positions = lambda: self.requests.keeps_positions
        self._closing = SessionClose(self.run, self.supervisors, self.steady_clock, self._past, self._ended)
        self._errands, self._been_read = SessionTasks(clock, floor.timeout_s), asyncio.Event()
        self._looking = WatchLoop(floor, clock, self.supervisors, self.requests, self._sights())
        self._ending = Shutdown(self.requests, self.supervisors, clock, floor.timeout_s)

    def _supervisor(self, post: BrokerSession, past: Sequence[Event]) -> BrokerSupervisor:
        causes, opens = recall_states(past, post.journal_tag), self.run.session.open
        return BrokerSupervisor(post, causes, self._trading.clock, opens, self._floor.ttl_s)

    async def trade(self) -> None:
        """Trade the session to its end, or until a stop has been carried out."""
        self._recall()
        self.abandoned_positions.update_cause(self.trading_state)
        if self._safety is not None:
            starts = any(event.kind in _STARTS for event in self._past)
            self._safety.restore(restarted=self.restarted and starts)
        every, poll_s = self._errands.repeat_every, self._floor.poll_s
        acts: list[tuple[float, AsyncAction]] = [(self._floor.watch_s, self._look), (RECONCILE_INTERVAL_S, self._tend)]
        acts += [(keeper.broker_session.pause_s(poll_s), keeper.process_broker_events) for keeper in self.supervisors]
        acts += [(RECONCILE_INTERVAL_S, keeper.run_once) for keeper in self.supervisors[1:]]
        main = asyncio.ensure_future(self._course())
        side = [asyncio.ensure_future(every(seconds, act)) for seconds, act in acts]
        side += [asyncio.ensure_future(self._once_read(act)) for act in self._later()]
        await self._errands.run_until_first_ends(main, side)

    async def _course(self) -> None:
        # The account, then the minutes. Of what is not decided nothing waits for a reading that takes long.
        await self._reconcile()
        self._been_read.set()
        await self._minutes()

    async def _once_read(self, act: AsyncAction) -> None:
        await self._been_read.wait()
        await act()

    def _later(self) -> list[AsyncAction]:
        # What begins when the account has been read, or could not be.
        every = self._errands.repeat_every
        found = self._called()
        if self._vix is not None:
            found.append(partial(every, ASK_S, self._vix.refresh))
        if self.data_guard is not None:
            found += [self.data_guard.run, partial(every, RECONCILE_INTERVAL_S, self.data_guard.run_once)]
            if self.data_guard.can_compare_prices:
                found.append(partial(every, PRICE_CHECK_INTERVAL_S, self.data_guard.compare_prices))
        return found

    def _watching(self) -> DataGuard | None:
        gathering = self._hearing.live_feed
        return None if gathering is None else DataGuard(gathering, self.run, self.trading_state, self.steady_clock)

    def _sights(self) -> list[Callable[[], None]]:
        return [one.run_once for one in (self.failover, self.clock_guard) if one is not None]

    def _called(self) -> list[AsyncAction]:
        # What is done at a broker as soon as a look finds it due, each by itself: none waits for another's answer.
        self._ending.bell = self._looking.event_when(self._ending.check)
        closers = [PositionFlattener(self.run, post, self.steady_clock) for post in self.run.broker_sessions]
        calls = [
            *((keeper.should_cancel_entries, keeper.cancel_entries) for keeper in self.supervisors),
            *((one.should_begin, one.begin) for one in closers),
            (self.run.confirmations.has_pending, self.run.resolve_confirmations),
        ]
        return [partial(self._errands.run_on_event, self._looking.event_when(due), act) for due, act in calls]

    @property
    def left_open(self) -> bool:
        """Whether it has ended before its close, and something is held, works, or is asked for still."""
        return not (self._closed or all(post.is_idle and not post.has_lookups for post in self.run.broker_sessions))

    @property
    def stuck_symbols(self) -> set[str]:
        """What the session before could not close and is held still."""
        return {one.fill.symbol for one in self._carried}.intersection(self.run.positions)

    @property
    def live(self) -> bool:
        """Whether it has to be armed."""
        return self._floor.live is not None

    @property
    def awaits_match(self) -> bool:
        """Whether a restart has still to be found matched, for an arming to hold on."""
        return self._safety is not None and self._safety.awaits_match

    def hand_over(self) -> None:
        """Let somebody else go on with the session from the journal; a stop that is under way is carried out first."""
        self._ending.hand_over = True

    @property
    def handed_over(self) -> bool:
        """Whether it has ended so that somebody else goes on with the session."""
        return self._ending.handed_over

    async def end_late(self, until: datetime, unread: Callable[[], None]) -> bool:
        """End a session that nobody was there to end: what became of its orders is found out and written down.

        Before its account has been read that is not known, however late it is; of other brokers a reading is waited for
        `until` then. `unread` is called while one is. Whether it has ended: a stop that comes first leaves it as it is.
        """
        self._recall()
        self._weighed, self.requests.later = True, FUTURE_SESSION_VERBS
        first = SessionTasks(self._trading.clock, self._floor.timeout_s)
        heeding = asyncio.ensure_future(first.repeat_every(self._floor.watch_s, self._looking.process_requests))
        finding = asyncio.ensure_future(self._find_out(until, unread))
        await first.run_until_first_ends(finding, [heeding])
        if not finding.result():
            return False
        await run_concurrently([keeper.reconciler.close for keeper in self.supervisors])
        await self.run.close_session(self._stuck)
        return True

    async def _find_out(self, until: datetime, unread: Callable[[], None]) -> bool:
        # Whether all is known that can be; a stop does not wait for it.
        await self._reconcile()
        while not self._read(until):
            if self.requests.is_stopping:
                return False
            unread()
            await self._pursue()
        clock = self._trading.clock
        patient_until = clock.monotonic() + self._patience_s
        while clock.monotonic() < patient_until and any(post.in_flight for post in self.run.broker_sessions):
            if self.requests.is_stopping:
                return False
            await self._pursue()
        return True

    def _read(self, until: datetime) -> bool:
        # Whether the account has been read since the start, and up to that moment those of the other brokers too.
        keepers = self.supervisors if self.steady_clock.now() < until else self.supervisors[:1]
        return all(keeper.reconciler.has_read_account for keeper in keepers)

    async def _pursue(self) -> None:
        await run_concurrently([post.execution.process_broker_events for post in self.run.broker_sessions])
        await run_concurrently([keeper.run_once for keeper in self.supervisors])
        await self._trading.clock.sleep(RECONCILE_INTERVAL_S)

    def _stuck(self) -> list[NewEvent]:
        # What is still held when the session is over, also where nobody could look after it.
        return [*self._closing.stuck_entries(), *self.abandoned_positions.entries(self.run.execution.recorder)]

    @property
    def _patience_s(self) -> float:
        return max(LEAST_WINDOW_S, self._trading.venue.broker.rules.lookup_window_s) + _AFTER_S

    def denial_reason(self, order: Order) -> str:
        """Why an order may not leave now; looked at in the second barrier and again before its first byte."""
        return self._objection(0, order)

    def _objection(self, place: int, order: Order) -> str:
        keeper = self.supervisors[place]
        try:
            if control.kill_file_exists(self._floor.folder):
                self.trading_state.raise_cause(StateCause.KILL_FILE)
        except AccessError as fault:
            if order.leg is Leg.ENTRY:  # what is held is protected and closed whatever lies there
                return f"the control folder cannot be read: {fault.message}"
        keeper.raise_causes()
        states = (one.trading_state for one in self.supervisors)
        self._floor.disk_guard.update_causes(self._trading.clock.monotonic(), *states)
        if words := out_of_hours(self.run.session, self.steady_clock.now()):
            return words
        if words := keeper.denial_reason(order, flattening=self.run.flattening):
            return words
        elsewhere = "" if self.failover is None else self.failover.denial_reason(keeper, order)
        guard = self.data_guard
        return elsewhere or ("" if guard is None else guard.denial_reason(order, keeper.broker_session))

    def _ended(self) -> bool:
        return self.data_guard is not None and self.data_guard.halted_to_close

    def _see(self, place: int, silence: str) -> None:
        self.supervisors[place].record_silence(silence)

    def _recall(self) -> None:
        rows = {symbol: row for row, symbol in enumerate(self.run.source.symbols)}
        recalls = [SessionRecovery(post.decision_engine, post.execution, rows) for post in self.run.broker_sessions]
        for post, one in product(self.run.broker_sessions, self._carried):
            if one.account == post.account_id:
                post.decision_engine.position_manager.recovery.restore_position(one, rows.get(one.fill.symbol))
        for event in self._past:  # what several brokers' trades count together, they count in the order of the journal
            for found in recalls:
                found.apply(event)
        for keeper, found in zip(self.supervisors, recalls, strict=True):
            keeper.reconciler.splits.file = self._floor.splits
            found.resolve_open_orders()
            self.run.decided |= found.decided
        self.run.decided |= self.run.confirmations.restore(self._past, rows)
        if self.data_guard is not None:
            self.data_guard.restore(self._past)
        self._trading.call_guard.restore(recorded_failures(self._past))
        if self._floor.lost is not None:
            noted = hung_plugins.failures_of_day(self._floor.lost, self._trading.clock.now(), self.run.session.date)
            self._trading.call_guard.record_hung(noted)

    async def _reconcile(self) -> None:
        # Before anything else the account is read; until that has worked once, nothing is entered.
        await run_concurrently([keeper.reconcile for keeper in self.supervisors])
        self._know()

    def _know(self) -> None:
        if self.reconciler.has_read_account and not self._weighed:
            self._weighed = True
            check_opening_equity(self.run, self._trading.journal, self._trading.venue)
        if self._safety is not None:
            self._safety.update(self.reconciler.verdict)

    def _guarded(self, past: Sequence[Event]) -> ArmingGuard | None:
        live, run = self._floor.live, self.run
        if live is None:
            return None
        live = attrs.evolve(live, events=past)
        exposure = run.decision_engine.exposure
        return ArmingGuard(live, run.session.date, run.execution.recorder, self.trading_state, exposure)

    def _further(self) -> dict[ControlVerb, RequestAction]:
        # What else can be asked of this session, and who obeys it.
        record = self.run.confirmations.record_answer
        answers: dict[ControlVerb, RequestAction] = dict.fromkeys(CONFIRMATION_VERBS, record)
        if self.failover is not None or self.abandoned_positions:
            answers[ControlVerb.FAILOVER_CONFIRM] = self._confirm
        return answers if self._safety is None else answers | self._safety.handlers

    def _confirm(self, request: ControlRequest) -> str:
        # A person says what is open where nobody can look.
        if self.abandoned_positions and (self.failover is None or not self.failover.broken_route):
            return self.abandoned_positions.release(request, self.run.execution.recorder, self.trading_state)
        if self.failover is None:
            return "No entry needs a confirmation any more."
        return self.failover.confirm_exposure(request)

    async def _minutes(self) -> None:
        # Minutes in order; late and repeated ones are dropped, missing ones stay empty. While positions are kept, skip.
        run, wait = self.run, self._trading.wait
        while (rest := run.session.open - self._trading.clock.now()).total_seconds() > 0:
            if self._ending.finish_if_over():
                return
            await wait(self._trading.clock.now() + min(rest, _BEFORE_THE_BELL))
        said = _AT_THE_BELL.intersection(event.kind for event in self._past)
        await run.open_session(said)
        if self._hearing.truncation is not None and records.UNIVERSE not in said:
            run.execution.recorder.record(records.UNIVERSE, self._hearing.truncation)
        came = run.session.minute(self.steady_clock.now())
        minutes = aiter(run.source.minutes())
        while (minute := await self._ending.next_minute(minutes)) is not None:
            if minute.index < run.tape.closed:
                _log.warning("minute.late", index=minute.index)
                continue
            while run.tape.closed < minute.index:
                run.tape.append(empty_minute(minute, run.tape.closed))
            run.tape.append(minute)
            late = () if self.data_guard is None else self.data_guard.apply_late_bars()
            if (old := minute.index < came - 1) or run.keeps_positions():
                await run.skip_minute(minute.index, late=old)
                self._hearing.record_minute(minute, late)
                continue
            if self._vix is not None:
                self._vix.apply_due(minute.index)
            await run.step(minute.index, late=self._late(minute.index))
            self._trading.on_minute(run, minute.index)
            self._hearing.record_minute(minute, late, run.quoted)
        if self._ending.ended:
            return
        await self._settle()
        await wait(run.session.close)
        await run_concurrently([keeper.reconciler.close for keeper in self.supervisors])
        await run.close_session(self._stuck)
        self._closed = True

    async def _settle(self) -> None:
        # After the last minute: wait for the outcome of what is in flight, as long as an order may still turn up.
        clock, run = self._trading.clock, self.run
        until = clock.monotonic() + self._patience_s
        while clock.monotonic() < until and any(post.in_flight for post in run.broker_sessions):
            await clock.sleep(1.0)

    def _late(self, index: int) -> bool:
        # Whether a minute came so long after its end that nothing is entered on it.
        behind = self.steady_clock.now() - self.run.session.moment(index + 1)
        filled = self.data_guard is not None and self.data_guard.is_backfilled(index)
        return filled or behind.total_seconds() > self._floor.ttl_s

    async def _look(self) -> None:
        # Until the account has been read only what is asked is obeyed.
        await (self._looking.run_once() if self._been_read.is_set() else self._looking.process_requests())

    async def _tend(self) -> None:
        await self.supervisors[0].run_once()
        if self._been_read.is_set():
            self._know()
            await self._closing.run_once()
