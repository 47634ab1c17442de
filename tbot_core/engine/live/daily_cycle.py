"""The daily cycle of a run at a live market: session after session, until it is stopped.

Each day has the same New York times: at 08:00 the broker's calendar is requested, at 09:00 the account is read and
readiness is reported, at the open trading begins. A start during the day takes the same steps without waiting. All
state is in the journal, so a restart needs nothing else.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from tbot_core.contracts import Broker, LiveSession, SupportsTradingHours
from tbot_core.contracts.abilities import HOURS
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.live import abandoned_positions
from tbot_core.engine.live.feed_connection import (
    AGAIN_S,
    SILENT,
    FeedConnection,
    FeedRetry,
    common_hours,
    limit_to_hours,
    shortened_hours_text,
)
from tbot_core.engine.live.market_session import LiveTradingSession
from tbot_core.engine.live.readiness import ReadinessAnnouncer, ready_facts
from tbot_core.engine.live.session_inputs import DailyServices, SessionAccount, SessionInputs
from tbot_core.engine.pacing import RunStopped
from tbot_core.engine.session.broker_login import BrokerLogin, log_in
from tbot_core.engine.session.config import PRE_OPEN, READY_AT, LiveConfig
from tbot_core.engine.session.feed_session import SessionFeed
from tbot_core.engine.session.gauge_writer import EVERY_S as METER_S
from tbot_core.engine.session.requests import SESSION_VERBS, RequestHandler
from tbot_core.engine.settings_reload import EVERY_S
from tbot_core.errors import BrokerError, FeedRefused, TbotError
from tbot_core.execution.trading_state import TradingStateController, recall_states
from tbot_core.journal import records
from tbot_core.journal.events.sessions import HolidayReported, HoursShortened, SessionClosed, SessionOpened
from tbot_core.journal.projections import carryover
from tbot_core.model import clock
from tbot_core.model.day_facts import DayFacts
from tbot_core.model.types import RiskState, atoms_of
from tbot_core.system import log
from tbot_core.trading.risk.states import StateCause
from tbot_core.trading.universe import Universe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence

    from tbot_core.engine.session.session import SessionContext
    from tbot_core.journal.store import Event, JournalRecorder
    from tbot_core.model.calendar import ExchangeCalendar, Session
    from tbot_core.trading.proposals import ActiveStrategy

_log = log.logger(__name__)

ANNOUNCE_FROM: Final = dt.time(8)
"""The New York time from which a day's holiday is reported."""

_OF_THE_FEED: Final = frozenset({StateCause.FEEDS_STALE, StateCause.UNIVERSE_STALE})
_OF_ARMING: Final = frozenset({StateCause.NOT_ARMED})
_OF_FAILOVER: Final = frozenset({StateCause.BROKERS_DOWN, StateCause.PRIMARY_DOWN})
_NOT_APPLICABLE: Final = "it does not apply in this session"
_ENDED: Final = "the session has ended"

Answer = TypeVar("Answer")


class DailyCycle:
    """Trades day after day, with the recorder's journal and clock."""

    def __init__(
        self,
        recorder: JournalRecorder,
        broker: Broker,
        config: LiveConfig,
        inputs: SessionInputs,
        services: DailyServices,
    ) -> None:
        self._recorder = recorder
        self._journal = recorder.journal
        self._clock = recorder.clock
        self._broker = broker
        self.config = config
        self._inputs = inputs
        self._services = services
        self._holidays = HolidayAnnouncer(recorder, services.calendar)
        self._announcer = ReadinessAnnouncer(recorder)
        self.session: LiveTradingSession | None = None

    async def run(self) -> bool:
        """Trade until the end; returns whether a stop ended it."""
        try:
            while True:
                session = await self._next()
                if await self._trade(session) and self._services.once:
                    return False
        except RunStopped:
            return True

    async def _next(self) -> Session:
        # Wait for the next session that is not over, in the hours that the broker agrees to.
        while True:
            await self._end_previous()
            session = self.next_session()
            await self._until(clock.exchange_moment(session.date, PRE_OPEN))
            agreed = await self._agreed_hours(session)
            if agreed is not None:
                return agreed

    def next_session(self) -> Session:
        """Today's session if it is neither over nor closed in the journal, else the next one."""
        now = self._clock.now()
        last = self._journal.last_event(records.SESSION_CLOSED)
        done = None if last is None else last.facts(SessionClosed).date
        today = clock.exchange_time(now).date()
        session = self._services.calendar.session(today)
        if session is None or session.close <= now or session.date == done:
            return self._services.calendar.next(today)
        return session

    async def _agreed_hours(self, session: Session) -> Session | None:
        # The session in the hours common to both calendars; None if the broker has none.
        broker = HOURS.of(self._broker)
        if broker is None:
            return session
        ask = partial(self._broker_hours, broker, session)
        found = await self._retry_until_close(session, "the broker does not report its trading hours", ask)
        if found is None or found.close <= self._clock.now():
            await self._until(session.close)
            return None
        return found

    async def _broker_hours(self, broker: SupportsTradingHours, session: Session) -> Session | None:
        # The hours that the broker grants; a session opened before a restart keeps its hours if the broker fails.
        try:
            hours = await broker.hours(session.date)
        except BrokerError:
            opened = self._journal.last_event(records.SESSION_OPENED)
            if opened is not None and opened.facts(SessionOpened).date == session.date:
                return carryover.session_hours(opened.payload)
            raise
        found = common_hours(session, hours)
        if found != session:
            words = shortened_hours_text(session, found)
            self._recorder.record(HoursShortened(date=session.date, words=words))
        return found

    async def _trade(self, session: Session) -> bool:
        # Trade a session; returns whether it could be traded before its close.
        if self._clock.now() < (ready_at := clock.exchange_moment(session.date, READY_AT)):
            await self._answer(lambda: self._inputs.prepare(session))
        await self._until(ready_at)
        since = carryover.events_since_close(carryover.events_for_session(self._journal))
        opened = next((one for one in since if one.kind == records.SESSION_OPENED), None)
        found = await self._log_in(session, opened)
        if found is None:
            return False
        # A session opened before a restart, or with STUCK positions, does not wait for the feed.
        waits = opened is None and not carryover.carried_positions(carryover.events_for_session(self._journal))
        inputs = None if waits else await self._session_inputs(found, opened)
        ask = partial(self._request_feed, session)
        feed = await (
            self._retry_until_close(session, SILENT, ask)
            if inputs is None
            else self._trade_without_feed(session, inputs)
        )
        if feed is None:
            return inputs is not None
        inputs = inputs or await self._session_inputs(found, opened)
        market = self._make_session(inputs, self.config, feed, self._inputs.entrants(feed.session))
        await self._run_session(market, feed)
        await _isolate("drift", self._inputs.compare(session))
        return True

    async def _request_feed(self, session: Session) -> SessionFeed:
        # The feed of a session, with its symbols and the facts known before its open.
        source = limit_to_hours(await self._inputs.bars(session), session)

        def on_wait(reason: str) -> None:
            self._announcer.announce_not_ready(session, [reason])

        universe = await self._inputs.universe(source, carryover.events_for_session(self._journal), on_wait)
        connected = FeedConnection(source.session, self._clock, source) if isinstance(source, LiveSession) else source
        return SessionFeed(session=source.session, universe=universe, source=connected)

    async def _trade_without_feed(self, session: Session, inputs: SessionAccount) -> SessionFeed | None:
        # The feed of a session that does not wait for it; None if it did not respond before the close.
        #
        # Until it responds, positions and orders are managed without it, as with a silent feed.
        retry = FeedRetry(partial(self._request_feed, session), self._clock)
        feed = await retry.first_answer()
        if isinstance(feed, SessionFeed):
            return feed
        since = carryover.events_since_close(carryover.events_for_session(self._journal))
        hours = carryover.session_hours(inputs.opened) if inputs.opened else session
        connection = FeedConnection(hours, self._clock, None, feed)
        config = attrs.evolve(self.config, received=None)  # leave the recording to the session with the feed
        silent = SessionFeed(session=hours, universe=_signalled(since), source=connection)
        market = self._make_session(inputs, config, silent)

        def failed(fault: TbotError) -> None:
            self._announcer.announce_not_ready(session, [f"{SILENT}: {fault.message}"])
            connection.silence = fault

        answer = asyncio.ensure_future(retry.retry_until_answered(failed))
        answer.add_done_callback(lambda _answer: market.hand_over())
        await self._run_session(market, silent, answer)
        inputs.restarted = market.awaits_match
        return answer.result() if market.handed_over else None

    async def _session_inputs(self, found: BrokerLogin, opened: Event | None) -> SessionAccount:
        # The inputs of a session that do not depend on its feed.
        context = await self._inputs.context(found.account, opened)
        context = attrs.evolve(context, venue=attrs.evolve(context.venue, not_logged_in=bool(found.login_fault)))
        return SessionAccount(found.account, context, {} if opened is None else opened.payload)

    def _make_session(
        self, inputs: SessionAccount, config: LiveConfig, feed: SessionFeed, entrants: tuple[ActiveStrategy, ...] = ()
    ) -> LiveTradingSession:
        # The session in its current state.
        past = carryover.events_for_session(self._journal)
        config = attrs.evolve(
            config,
            live=self._inputs.arming_terms(inputs.account),
            drilled=self._inputs.is_drilled(past),
            restarted=inputs.restarted,
        )
        market = LiveTradingSession(inputs.context, config, feed, entrants, inputs.equity_atoms, past)
        unowned = _unowned_causes(arming=config.live, failover=market.failover, feed=market.data_guard)
        is_open = any(one.kind == records.SESSION_OPENED for one in carryover.events_since_close(past))
        _clear_unowned_causes(market.trading_state, unowned, opened=is_open)
        return market

    async def _run_session(self, market: LiveTradingSession, feed: SessionFeed, *others: asyncio.Future[Any]) -> None:
        # Trade a session with its side tasks; raises RunStopped if a stop ended it.
        self.session = market
        connection = feed.source if isinstance(feed.source, FeedConnection) else None
        contents = partial(ready_facts, market, feed, self.config, self._services)
        side_actions = {
            "readiness": self._announcer.announce_ready(market, connection, contents),
            "settings": self._watch_settings(),
            "gauges": self._keep_gauges(market),
        }
        side_tasks = [*(asyncio.ensure_future(_isolate(name, one)) for name, one in side_actions.items()), *others]
        try:
            await market.trade()
        finally:
            for task in side_tasks:
                task.cancel()
            await asyncio.gather(*side_tasks, return_exceptions=True)
            self._write_gauges(market, at_once=True)
        if feed.session.close <= self._clock.now():
            _clear_feed_causes(market.trading_state)
        if market.requests.is_stopping and not market.handed_over:
            market.requests.on_stop_done(kept=market.left_open)
            raise RunStopped

    async def _end_previous(self) -> None:
        # End a past session that a crash or a stop left open, so that its positions are known and reported.
        since = carryover.events_since_close(carryover.events_for_session(self._journal))
        if (unfinished := carryover.unfinished_session(since, self.next_session(), self._clock.now())) is None:
            return
        found = None
        while found is None:
            found = await self._log_in(self.next_session(), None)
        context = await self._inputs.context(found.account, unfinished)
        await self._end_late(unfinished.payload, context, carryover.events_for_session(self._journal))

    async def _end_late(self, opened: Mapping[str, Any], context: SessionContext, past: Sequence[Event]) -> None:
        # The session of another account is closed from the journal alone.
        since = carryover.events_since_close(past)
        if opened.get("account", context.venue.account_id) != context.venue.account_id:
            self._recorder.write(
                *abandoned_positions.session_end_events(self._recorder, since, carryover.carried_positions(past))
            )
            return
        config = attrs.evolve(self.config, received=None)  # no minute comes: keep the recording as it is
        equity = atoms_of(Decimal(opened["equity"]))
        feed = SessionFeed(session=carryover.session_hours(opened), universe=_signalled(since))
        market = LiveTradingSession(context, config, feed, (), equity, past)
        ready_at = clock.exchange_moment(self.next_session().date, READY_AT)
        if not await market.end_late(ready_at, self._announce_unread):
            market.requests.on_stop_done()
            raise RunStopped
        _clear_feed_causes(market.trading_state)

    def _announce_unread(self) -> None:
        # An unread account blocks the end of the previous session, and so the start of the next one.
        session = self.next_session()
        self._announcer.announce_not_ready(session, ["the previous session has not ended: the account cannot be read"])
        self._services.on_idle(clock.exchange_moment(session.date, READY_AT))

    async def _log_in(self, session: Session, opened: Event | None) -> BrokerLogin | None:
        # A session of several brokers that was opened before a restart continues without its primary.
        words = "the login to the broker failed"
        return await self._retry_until_close(
            session, words, lambda: log_in(self._broker, self._services.primary, opened)
        )

    async def _retry_until_close(
        self, session: Session, words: str, ask: Callable[[], Awaitable[Answer]]
    ) -> Answer | None:
        # Repeat a request until it succeeds, reporting NOT READY; None if the close comes first. Raises FeedRefused.
        failures = 0
        while True:
            try:
                return await self._answer(ask)
            except FeedRefused:
                raise
            except BrokerError as fault:
                self._announcer.announce_not_ready(session, [f"{words}: {fault.message}"])
                pause = AGAIN_S[min(failures, len(AGAIN_S) - 1)]
                failures += 1
                await self._until(self._clock.now() + dt.timedelta(seconds=pause), awaited=session.open)
            if session.close <= self._clock.now():
                return None

    async def _answer(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        # The answer of a request; while it is awaited, requests of people are executed.
        answer = asyncio.ensure_future(ask())
        try:
            while not (await asyncio.wait({answer}, timeout=self.config.watch_s))[0]:
                await self._until(self._clock.now())
            return answer.result()
        finally:
            answer.cancel()
            await asyncio.wait({answer}, timeout=self.config.timeout_s)

    async def _watch_settings(self) -> None:
        # Record settings changed during a session; they apply from the next one.
        while True:
            self._services.settings_reload.poll(self._recorder, self._clock.monotonic())
            await self._clock.sleep(EVERY_S)

    def _write_gauges(self, market: LiveTradingSession, *, at_once: bool = False) -> None:
        # Write the gauges of the session for displays; without a live feed the prices are those of now.
        meter, guard, ahead = self._services.meter, market.data_guard, market.clock_guard.clock_ahead_s
        if meter is not None:
            age = 0.0 if guard is None else guard.marks_age_s
            meter.write_if_due(market.run, ahead, marks_age_s=age, at_once=at_once)

    async def _keep_gauges(self, market: LiveTradingSession) -> None:
        while self._services.meter is not None:
            self._write_gauges(market)
            self._services.on_round(market.run)
            await self._clock.sleep(METER_S)

    async def _until(self, moment: dt.datetime, awaited: dt.datetime | None = None) -> None:
        # Wait between sessions and execute requests; raises RunStopped for a stop. `awaited` is what people wait for.
        #
        # During a session, the session itself carries out a stop, except one that keeps positions.
        past = carryover.events_between_sessions(self._journal)
        since = carryover.events_since_close(past)
        in_session = carryover.session_under_way(since, self._clock.now())
        trading_state = TradingStateController(self._recorder, _ignore_state, recall_states(past))
        accept = {ControlVerb.ACCEPT_JOURNAL: partial(self.config.journal_guard.accept, trading_state)}
        requests = RequestHandler(self._recorder, trading_state, past, accept, SESSION_VERBS)
        requests.restore(past, flattens=self.config.signals.flattens)
        while True:
            requests.poll(self.config.folder)
            if self.config.signals.raise_causes(trading_state):
                requests.on_signal(flattens=self.config.signals.flattens)
            self.config.disk_guard.update_causes(self._clock.monotonic(), trading_state)
            if requests.is_stopping and (requests.keeps_positions or not in_session):
                requests.on_stop_done(kept=in_session)
                raise RunStopped
            trading_state.expire_causes()
            self._holidays.check()
            self._services.settings_reload.poll(self._recorder, self._clock.monotonic())
            if not in_session:
                self._services.settings_reload.raise_if_pending()
            rest_s = (moment - self._clock.now()).total_seconds()
            if rest_s <= 0:
                return
            self._services.on_idle(awaited or moment)
            await self._clock.sleep(min(rest_s, self.config.watch_s))


async def _isolate(name: str, action: Coroutine[Any, Any, None]) -> None:
    # Run what only reports; its failure ends no session.
    try:
        await action
    except Exception:  # noqa: BLE001  -- the border of what only reports
        _log.exception("side_task.failed", task=name)


def _ignore_state(state: RiskState) -> None:
    # Between sessions no decision depends on the state.
    pass


def _signalled(since: Sequence[Event]) -> Universe:
    # The symbols of a session's signals, for one without a feed; nothing is known of them.
    symbols = carryover.signalled_symbols(since)
    return Universe(symbols=symbols, day=DayFacts.unknown(len(symbols)))


def _unowned_causes(*, arming: object, failover: object, feed: object) -> frozenset[StateCause]:
    # The causes without an owner in a session; None marks an owner that it does not have.
    owners = ((_OF_ARMING, arming), (_OF_FAILOVER, failover), (_OF_THE_FEED, feed))
    return frozenset(cause for causes, owner in owners if owner is None for cause in causes)


def _clear_unowned_causes(
    trading_state: TradingStateController, unowned: Iterable[StateCause], *, opened: bool
) -> None:
    # Clear the causes of an earlier session that have no owner in this one; those set by a person stay.
    #
    # The owner of a cause clears it; a run with other settings may lack that owner. In an `opened` session, continued
    # after a restart, they expire after their usual time. Before the open they expire at once, and so do the causes of
    # the feed.
    if opened:
        for cause in unowned:
            trading_state.clear_cause(cause, _NOT_APPLICABLE)
        return
    _expire(trading_state, {*unowned}, _NOT_APPLICABLE)
    _expire(trading_state, _OF_THE_FEED, _ENDED)


def _clear_feed_causes(trading_state: TradingStateController) -> None:
    # Clear the causes of a feed at its session's end.
    _expire(trading_state, _OF_THE_FEED, _ENDED)


def _expire(trading_state: TradingStateController, causes: Iterable[StateCause], words: str) -> None:
    for cause in sorted(causes):
        trading_state.clear_cause(cause, words)
        trading_state.expire_cause(cause)


class HolidayAnnouncer:
    """Reports an exchange holiday once, also across restarts; weekends and the owner's closures are not reported."""

    def __init__(self, recorder: JournalRecorder, calendar: ExchangeCalendar) -> None:
        self._recorder = recorder
        self._calendar = calendar
        last = recorder.journal.last_event(records.HOLIDAY)
        self._reported = None if last is None else last.facts(HolidayReported).date

    def check(self) -> None:
        """Report a holiday if it is due; called while waiting for a session."""
        local = clock.exchange_time(self._recorder.clock.now())
        day = local.date()
        if day == self._reported or local.time() < ANNOUNCE_FROM:
            return
        self._reported = day
        name = self._calendar.holiday(day)
        if name is not None:
            following = self._calendar.next(day).date
            self._recorder.record(HolidayReported(date=day, name=name, next=following))
