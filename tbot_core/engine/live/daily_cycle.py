"""The life of a run at a broker's own market: session after session, until it is stopped.

Each day has the same hours in New York: at 08:00 the broker is asked for its calendar, at 09:00 the account is read and
a message says whether all is ready, at the bell trading begins. A start in the middle of a day goes the same way; what
has passed takes no time. Nothing is remembered beside the journal: a restart is a start.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from tbot_core.contracts import Broker, FeedSession, LiveSession, SupportsTradingHours
from tbot_core.engine.holidays import HolidayAnnouncer
from tbot_core.engine.live import abandoned_positions, trading_hours
from tbot_core.engine.live.ended_feed import EndedFeed
from tbot_core.engine.live.feed_connection import FeedConnection
from tbot_core.engine.live.feed_retry import AGAIN_S, SILENT, FeedRetry
from tbot_core.engine.live.market_session import LiveTradingSession
from tbot_core.engine.live.readiness import ReadinessAnnouncer
from tbot_core.engine.live.session_inputs import SessionAccount, SessionFactory, SessionFeed
from tbot_core.engine.live.silent_feed import SilentFeed
from tbot_core.engine.pacing import RunStopped
from tbot_core.engine.session import stale_causes
from tbot_core.engine.session.broker_login import BrokerLogin, log_in
from tbot_core.engine.session.gauge_writer import EVERY_S as METER_S
from tbot_core.engine.session.requests import SESSION_VERBS, RequestHandler
from tbot_core.engine.session.vix import known_vix
from tbot_core.engine.settings_reload import EVERY_S
from tbot_core.errors import BrokerError, TbotError
from tbot_core.execution.trading_state import TradingStateController, recall_states
from tbot_core.journal import records
from tbot_core.journal.projections import carryover
from tbot_core.journal.projections.arming import armed_of
from tbot_core.model import clock
from tbot_core.model.types import RiskState, atoms_of, dollars_of
from tbot_core.system import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from tbot_core.engine.session.config import LiveConfig
    from tbot_core.engine.session.session import SessionContext
    from tbot_core.journal.recorder import JournalRecorder
    from tbot_core.journal.store import Event
    from tbot_core.model.calendar import Session
    from tbot_core.trading.proposals import ActiveStrategy

PRE_OPEN: Final = dt.time(8)
READY_AT: Final = dt.time(9)

_log = log.logger(__name__)

Answer = TypeVar("Answer")


class DailyCycle:
    """Trades day after day; `once` ends it with the first session's end. `await go()` returns when it is over.

    `floor` says how often who is asked; the recorder holds the journal and the clock of all sessions.
    """

    def __init__(
        self, recorder: JournalRecorder, broker: Broker, floor: LiveConfig, days: SessionFactory, *, once: bool = False
    ) -> None:
        self._recorder = recorder
        self._journal = recorder.journal
        self._clock = recorder.clock
        self._broker = broker
        self.config = floor
        self._days = days
        self._once = once
        self._holidays = HolidayAnnouncer(recorder, days.calendar)
        self._announcer = ReadinessAnnouncer(recorder)
        self.session: LiveTradingSession | None = None

    async def run(self) -> bool:
        """Trade until the end; returns whether a stop ended it."""
        try:
            while True:
                session = await self._next()
                if await self._trade(session) and self._once:
                    return False
        except RunStopped:
            return True

    async def _next(self) -> Session:
        # Wait for the next session that is not over, through days without one, and ask the broker what it knows.
        while True:
            await self._finish()
            session = self.next_session()
            await self._until(clock.exchange_moment(session.date, PRE_OPEN))
            agreed = await self._agreed(session)
            if agreed is not None:
                return agreed

    def next_session(self) -> Session:
        """Today's session where it is neither over nor closed in the journal, else the next one."""
        now = self._clock.now()
        last = self._journal.last_event(records.SESSION_CLOSED)
        done = None if last is None else dt.date.fromisoformat(last.payload["date"])
        today = clock.exchange_time(now).date()
        session = self._days.calendar.session(today)
        if session is None or session.close <= now or session.date == done:
            return self._days.calendar.next(today)
        return session

    async def _agreed(self, session: Session) -> Session | None:
        # The session in the hours that both calendars grant it; None where the broker says that there is none.
        if not isinstance(self._broker, SupportsTradingHours):
            return session
        ask = partial(self._granted, self._broker, session)
        found = await self._insist(session, "the broker does not report its trading hours", ask)
        if found is None or found.close <= self._clock.now():
            await self._until(session.close)
            return None
        return found

    async def _granted(self, broker: SupportsTradingHours, session: Session) -> Session | None:
        # What the broker grants of a session; of one that was opened before a restart nobody need say it again.
        try:
            theirs = await broker.hours(session.date)
        except BrokerError:
            opened = self._journal.last_event(records.SESSION_OPENED)
            if opened is not None and opened.payload["date"] == session.date.isoformat():
                return carryover.session_hours(opened.payload)
            raise
        found = trading_hours.common_hours(session, theirs)
        if found != session:
            payload = {"date": session.date.isoformat(), "words": trading_hours.shortened_hours_text(session, found)}
            self._recorder.record(records.CALENDAR, payload)
        return found

    async def _trade(self, session: Session) -> bool:
        # Trade a session; whether it could be, before its close.
        await self._until(clock.exchange_moment(session.date, READY_AT))
        since = carryover.events_since_close(carryover.events_for_session(self._journal))
        opened = next((one for one in since if one.kind == records.SESSION_OPENED), None)
        found = await self._log_in(session, opened)
        if found is None:
            return False
        # What was begun before a restart, or is STUCK since an earlier session, does not wait for the feed.
        waits = opened is None and not carryover.carried_positions(carryover.events_for_session(self._journal))
        made = None if waits else await self._made(found, opened)
        ask = partial(self._heard, session)
        heard = await (self._insist(session, SILENT, ask) if made is None else self._hear_later(session, made))
        if heard is None:
            return made is not None
        made = made or await self._made(found, opened)
        market = self._market(made, self.config, heard, self._days.entrants(heard.source.session))
        await self._attend(market, heard.source)
        return True

    async def _heard(self, session: Session) -> SessionFeed:
        # The feed of a session, and what is known before its bell.
        source = self._on_the_line(trading_hours.limit_to_hours(await self._days.bars(session), session))
        return SessionFeed(source, await self._days.facts(source))

    async def _hear_later(self, session: Session, made: SessionAccount) -> SessionFeed | None:
        # The feed of a session that does not wait for it; None where it did not answer before its close.
        #
        # Until it does, what is held and what works is looked after without it, like while it says nothing.
        asking = FeedRetry(partial(self._heard, session), self._clock)
        heard = await asking.first_answer()
        if isinstance(heard, SessionFeed):
            return heard
        since = carryover.events_since_close(carryover.events_for_session(self._journal))
        unheard = SilentFeed.of(carryover.session_hours(made.opened) if made.opened else session, since, heard)
        floor = attrs.evolve(self.config, received=None)  # what was recorded of it is for whoever hears it
        source = self._on_the_line(unheard)
        market = self._market(made, floor, SessionFeed(source, None))

        def failed(fault: TbotError) -> None:
            self._announcer.announce_not_ready(session, [f"{SILENT}: {fault.message}"])
            unheard.fault = fault

        answer = asyncio.ensure_future(asking.retry_until_answered(failed))
        answer.add_done_callback(lambda _answer: market.hand_over())
        await self._attend(market, source, answer)
        made.restarted = market.awaits_match
        return answer.result() if market.handed_over else None

    async def _made(self, found: BrokerLogin, opened: Event | None) -> SessionAccount:
        # What of a session is the same on whichever feed it goes on.
        trading = self._days.trading(found.account)
        trading = attrs.evolve(trading, venue=attrs.evolve(trading.venue, not_logged_in=bool(found.login_fault)))
        trading = attrs.evolve(trading, standbys=await self._days.standbys(opened))
        return SessionAccount(found.account, trading, {} if opened is None else opened.payload)

    def _market(
        self, made: SessionAccount, floor: LiveConfig, heard: SessionFeed, entrants: tuple[ActiveStrategy, ...] = ()
    ) -> LiveTradingSession:
        # A session as it stands by now.
        past = carryover.events_for_session(self._journal)
        floor = attrs.evolve(floor, live=self._days.live(made.account), drilled=self._days.is_drilled(past))
        market = LiveTradingSession(made.trading, floor, heard.source, entrants, made.equity_atoms, past, heard.day)
        market.restarted = made.restarted
        unowned = stale_causes.unowned_causes(arming=floor.live, failover=market.failover, feed=market.data_guard)
        begun = any(one.kind == records.SESSION_OPENED for one in carryover.events_since_close(past))
        stale_causes.clear_unowned_causes(market.trading_state, unowned, begun=begun)
        return market

    async def _attend(
        self, market: LiveTradingSession, source: FeedSession | LiveSession, *others: asyncio.Future[Any]
    ) -> None:
        # Trade a session, with all that goes on beside it; raises Stopped where a stop has ended it.
        self.session = market
        line = source if isinstance(source, FeedConnection) else None
        said = partial(self._said, market, live=market.live)
        company = (self._announcer.announce_ready(market, line, said), self._heed(), self._measure(market))
        beside = [*(asyncio.ensure_future(one) for one in company), *others]
        try:
            await market.trade()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            if self._days.meter is not None:
                self._days.meter.write_if_due(market.run, market.clock_guard.ahead_s, at_once=True)
        if source.session.close <= self._clock.now():
            stale_causes.clear_feed_causes(market.trading_state)
        if market.requests.is_stopping and not market.handed_over:
            market.requests.on_stop_done(kept=market.left_open)
            raise RunStopped

    def _on_the_line(self, source: FeedSession | LiveSession) -> FeedSession | LiveSession:
        # A live feed with its connection.
        return FeedConnection(source, self._clock) if isinstance(source, LiveSession) else source

    async def _finish(self) -> None:
        # End a session that a crash or a stop left open and that is over, at once: what it holds is said, and known.
        since = carryover.events_since_close(carryover.events_for_session(self._journal))
        if (left := carryover.unfinished_session(since, self.next_session(), self._clock.now())) is None:
            return
        found = None
        while found is None:
            found = await self._log_in(self.next_session(), None)
        trading = attrs.evolve(self._days.trading(found.account), standbys=await self._days.standbys(left))
        await self._end_late(left.payload, trading, carryover.events_for_session(self._journal))

    async def _end_late(self, opened: Mapping[str, Any], trading: SessionContext, past: Sequence[Event]) -> None:
        # Where it was another account's, what is written down of it is all that can be said.
        since = carryover.events_since_close(past)
        if opened.get("account", trading.venue.account_id) != trading.venue.account_id:
            self._recorder.write(
                *abandoned_positions.session_end_events(self._recorder, since, carryover.carried_positions(past))
            )
            return
        floor = attrs.evolve(self.config, received=None)  # no minute comes: what was recorded of it stays the latest
        equity = atoms_of(Decimal(opened["equity"]))
        market = LiveTradingSession(
            trading, floor, EndedFeed.of(carryover.session_hours(opened), since), (), equity, past
        )
        ready_at = clock.exchange_moment(self.next_session().date, READY_AT)
        if not await market.end_late(ready_at, self._unread):
            market.requests.on_stop_done()
            raise RunStopped
        stale_causes.clear_feed_causes(market.trading_state)

    def _unread(self) -> None:
        # An account that cannot be read keeps the session before from its end, and so the next one from its beginning.
        session = self.next_session()
        self._announcer.announce_not_ready(session, ["the previous session has not ended: the account cannot be read"])
        self._days.on_idle(clock.exchange_moment(session.date, READY_AT))

    async def _log_in(self, session: Session, opened: Event | None) -> BrokerLogin | None:
        # A session of several brokers that was opened before a restart goes on without its primary until it is there.
        words = "the login to the broker failed"
        return await self._insist(session, words, lambda: log_in(self._broker, self._days.primary, opened))

    async def _insist(self, session: Session, words: str, ask: Callable[[], Awaitable[Answer]]) -> Answer | None:
        # Ask until there is an answer: without it the session is not ready. None where its close comes first.
        failures = 0
        while True:
            try:
                return await ask()
            except BrokerError as fault:
                self._announcer.announce_not_ready(session, [f"{words}: {fault.message}"])
                pause = AGAIN_S[min(failures, len(AGAIN_S) - 1)]
                failures += 1
                await self._until(self._clock.now() + dt.timedelta(seconds=pause))
            if session.close <= self._clock.now():
                return None

    def _said(self, market: LiveTradingSession, *, live: bool) -> records.Payload:
        # What READY says.
        vix = {"vix": known_vix(market.run.day)} if self.config.vix is None else {"vix_live": True}
        armed = self._journal.last_event(records.ARMED) if live else None
        worst = self._days.worst_day
        return {
            "session": market.run.session.date.isoformat(),
            "mode": self._days.mode,
            "armed": None if armed is None else armed_of(armed.payload).sessions[-1].isoformat(),
            "equity": str(dollars_of(market.run.decision_engine.portfolio.opening_atoms)),
            "feed": self.config.feed,
            "windows": [entrant.name for entrant in market.run.entrants],
            "worst_day": None if worst is None else str(worst),
            **vix,
            "positions": market.run.positions,
            "stuck": sorted(market.stuck_symbols),
        }

    async def _heed(self) -> None:
        # Notice in a session that the settings have been changed; they count from the next one.
        while True:
            self._days.settings_reload.poll(self._recorder, self._clock.monotonic())
            await self._clock.sleep(EVERY_S)

    async def _measure(self, market: LiveTradingSession) -> None:
        # Write down beside the session how it stands, for whoever looks on.
        meter = self._days.meter
        while meter is not None:
            meter.write_if_due(market.run, market.clock_guard.ahead_s)
            self._days.on_round(market.run)
            await self._clock.sleep(METER_S)

    async def _until(self, moment: dt.datetime) -> None:
        # Wait between sessions, and obey what is asked meanwhile; raises Stopped for a stop.
        #
        # A session that is under way carries it out itself: only what is to be kept can be left as it is.
        past = carryover.events_between_sessions(self._journal)
        since = carryover.events_since_close(past)
        under_way = carryover.session_under_way(since, self._clock.now())
        conditions = TradingStateController(self._recorder, _nobody, recall_states(past))
        requests = RequestHandler(self._recorder, conditions, _nothing_held, past, later=SESSION_VERBS)
        requests.restore(past, flattens=self.config.signals.flattens)
        while True:
            requests.poll(self.config.folder)
            if self.config.signals.raise_causes(conditions):
                requests.on_signal(flattens=self.config.signals.flattens)
            self.config.disk_guard.update_causes(self._clock.monotonic(), conditions)
            if requests.is_stopping and (requests.keeps_positions or not under_way):
                requests.on_stop_done(kept=under_way)
                raise RunStopped
            conditions.expire_causes()
            self._holidays.check()
            self._days.settings_reload.poll(self._recorder, self._clock.monotonic())
            if not under_way:
                self._days.settings_reload.raise_if_pending()
            rest_s = (moment - self._clock.now()).total_seconds()
            if rest_s <= 0:
                return
            self._days.on_idle(moment)
            await self._clock.sleep(min(rest_s, self.config.watch_s))


def _nobody(state: RiskState) -> None:
    # Between sessions nobody decides.
    pass


def _nothing_held(*, on: bool = True) -> None:
    # Between sessions there is nothing to close that could be closed.
    pass
