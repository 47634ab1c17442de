"""The life of a run at a broker's own market: session after session, until it is stopped.

Each day has the same hours in New York: at 08:00 the broker is asked for its calendar, at 09:00 the account is read and
a message says whether all is ready, at the bell trading begins. A start in the middle of a day goes the same way; what
has passed takes no time. Nothing is remembered beside the journal: a restart is a start.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from tbot_core import clock
from tbot_core.bars import Day
from tbot_core.calendar import ExchangeCalendar, Session
from tbot_core.conditions import Conditions, recall
from tbot_core.contracts import Broker, FeedSession, KeepsHours, LiveSession
from tbot_core.decide import Entrant
from tbot_core.errors import BrokerError, TbotError
from tbot_core.journal import records
from tbot_core.journal.arming import armed_of
from tbot_core.journal.journal import Event
from tbot_core.model import Account, RiskState, atoms_of, dollars_of
from tbot_core.runner import hours, leftovers, overnight, owning
from tbot_core.runner.announcing import Announcer
from tbot_core.runner.holidays import Holidays
from tbot_core.runner.line import Line
from tbot_core.runner.manning import Manned, manned
from tbot_core.runner.market import MarketSession
from tbot_core.runner.metering import EVERY_S as METER_S
from tbot_core.runner.metering import Meter
from tbot_core.runner.pacing import Stopped
from tbot_core.runner.posts import Standby
from tbot_core.runner.renewal import EVERY_S, Renewal
from tbot_core.runner.requests import OF_A_SESSION, Requests
from tbot_core.runner.safety import Live
from tbot_core.runner.session import SessionRun, Trading
from tbot_core.runner.unheard import Unheard
from tbot_core.runner.volatility import known_vix
from tbot_core.seams import log

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.recorder import Recorder
    from tbot_core.runner.floor import Floor

PRE_OPEN: Final = dt.time(8)
READY_AT: Final = dt.time(9)

_SILENT: Final = "the feed does not answer"
_AGAIN_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_log = log.logger(__name__)

Answer = TypeVar("Answer")


async def _alone(_opened: Event | None) -> tuple[Standby, ...]:
    # No other broker may take over.
    return ()


async def _its_own(source: FeedSession | LiveSession) -> Day:
    # Nobody knows more than the source.
    return source.day


@attrs.frozen(kw_only=True, eq=False)
class Days:
    """What each session is made of: the owner's calendar, its bars, the strategies that trade it, and all else.

    `trading` is asked for whenever the broker has said whose account it is, and so is `live`: what makes a session a
    live one. `idle` is told once a look what is waited for. `standbys` are the brokers that may take over from
    `primary`: those that can be logged in to, and after a restart those of the session that was opened; `drilled`
    tells from the journal whether that was tried lately. `facts` adds to what the bars' source knows before the bell.
    `meter` writes down how a session stands, None for nobody, and `look` is told of it as often. READY says the `mode`,
    and the planned worst day as a share of equity.
    """

    calendar: ExchangeCalendar
    bars: Callable[[Session], Awaitable[FeedSession | LiveSession]]
    entrants: Callable[[Session], tuple[Entrant, ...]]
    trading: Callable[[Account], Trading]
    live: Callable[[Account], Live | None] = lambda _account: None
    idle: Callable[[dt.datetime], None] = lambda _moment: None
    renewal: Renewal = attrs.field(factory=Renewal)
    primary: str = ""
    standbys: Callable[[Event | None], Awaitable[tuple[Standby, ...]]] = _alone
    drilled: Callable[[Sequence[Event]], bool] = lambda _past: False
    facts: Callable[[FeedSession | LiveSession], Awaitable[Day]] = _its_own
    meter: Meter | None = None
    look: Callable[[SessionRun], None] = lambda _run: None
    mode: str = "paper"
    worst_day: Decimal | None = None


class Life:
    """Trades day after day; `once` ends it with the first session's end. `await go()` returns when it is over.

    `floor` says how often who is asked; the recorder holds the journal and the clock of all sessions.
    """

    def __init__(self, recorder: Recorder, broker: Broker, floor: Floor, days: Days, *, once: bool = False) -> None:
        self._recorder = recorder
        self._journal = recorder.journal
        self._clock = recorder.clock
        self._broker = broker
        self.floor = floor
        self._days = days
        self._once = once
        self._holidays = Holidays(recorder, days.calendar)
        self._announcer = Announcer(recorder)
        self.session: MarketSession | None = None

    async def go(self) -> bool:
        """Trade until the end; whether it was a stop that ended it."""
        try:
            while True:
                session = await self._next()
                if await self._trade(session) and self._once:
                    return False
        except Stopped:
            return True

    async def _next(self) -> Session:
        # Wait for the next session that is not over, through days without one, and ask the broker what it knows.
        while True:
            await self._finish()
            session = self.due()
            await self._until(clock.exchange_moment(session.date, PRE_OPEN))
            agreed = await self._agreed(session)
            if agreed is not None:
                return agreed

    def due(self) -> Session:
        """Today's session where it is neither over nor closed in the journal, else the next one."""
        now = self._clock.now()
        last = self._journal.last(records.SESSION_CLOSED)
        done = None if last is None else dt.date.fromisoformat(last.payload["date"])
        today = clock.exchange_time(now).date()
        session = self._days.calendar.session(today)
        if session is None or session.close <= now or session.date == done:
            return self._days.calendar.next(today)
        return session

    async def _agreed(self, session: Session) -> Session | None:
        # The session in the hours that both calendars grant it; None where the broker says that there is none.
        if not isinstance(self._broker, KeepsHours):
            return session
        ask = partial(self._granted, self._broker, session)
        found = await self._insist(session, "the broker does not say when it trades", ask)
        if found is None or found.close <= self._clock.now():
            await self._until(session.close)
            return None
        return found

    async def _granted(self, broker: KeepsHours, session: Session) -> Session | None:
        # What the broker grants of a session; of one that was opened before a restart nobody need say it again.
        try:
            theirs = await broker.hours(session.date)
        except BrokerError:
            opened = self._journal.last(records.SESSION_OPENED)
            if opened is not None and opened.payload["date"] == session.date.isoformat():
                return overnight.hours(opened.payload)
            raise
        found = hours.shorter(session, theirs)
        if found != session:
            payload = {"date": session.date.isoformat(), "words": hours.words(session, found)}
            self._recorder.note(records.CALENDAR, payload)
        return found

    async def _trade(self, session: Session) -> bool:
        # Trade a session; whether it could be, before its close.
        await self._until(clock.exchange_moment(session.date, READY_AT))
        since = overnight.since_the_last(overnight.counting(self._journal))
        opened = next((one for one in since if one.kind == records.SESSION_OPENED), None)
        found = await self._log_in(session, opened)
        if found is None:
            return False
        if opened is None:
            source = await self._insist(session, _SILENT, lambda: self._days.bars(session))
        else:
            source = await self._hear_again(session, found, opened)
        if source is None:
            return opened is not None
        source = self._on_the_line(hours.within(source, session))
        days, day = self._days, await self._days.facts(source)
        market = await self._market(found, opened, self.floor, source, days.entrants(source.session), day)
        await self._attend(market, source)
        return True

    async def _hear_again(self, session: Session, found: Manned, opened: Event) -> FeedSession | LiveSession | None:
        # The bars of a session that was opened before a restart; None where none came before its close.
        #
        # Until the feed answers, what is held and what works is looked after without it, like while it says nothing.
        try:
            return await self._days.bars(session)
        except BrokerError as fault:
            self._announcer.deny(session, [f"{_SILENT}: {fault.message}"])
            unheard = Unheard.of(opened.payload, overnight.since_the_last(overnight.counting(self._journal)), fault)
        floor = attrs.evolve(self.floor, received=None)  # what was recorded of it is for whoever hears it
        source = self._on_the_line(unheard)
        market = await self._market(found, opened, floor, source)
        asking = asyncio.ensure_future(self._ask_again(session, unheard, market))
        await self._attend(market, source, asking)
        return asking.result() if market.relieved else None

    async def _ask_again(self, session: Session, unheard: Unheard, market: MarketSession) -> FeedSession | LiveSession:
        # Ask for the bars until they are there: then whoever looks after the session without them may go.
        failures = 0
        while True:
            await self._clock.sleep(_AGAIN_S[min(failures, len(_AGAIN_S) - 1)])
            try:
                source = await self._days.bars(session)
            except TbotError as fault:  # whatever it is, what is held is looked after
                unheard.fault = fault
                failures += 1
            else:
                market.relieve()
                return source

    async def _market(  # noqa: PLR0913, PLR0917  all that is known of a session
        self,
        found: Manned,
        opened: Event | None,
        floor: Floor,
        source: FeedSession | LiveSession,
        entrants: tuple[Entrant, ...] = (),
        day: Day | None = None,
    ) -> MarketSession:
        # A session as it stands by now.
        account = found.account
        trading = self._days.trading(account)
        trading = attrs.evolve(trading, venue=attrs.evolve(trading.venue, absent=bool(found.absent)))
        trading = attrs.evolve(trading, standbys=await self._days.standbys(opened))
        past = overnight.counting(self._journal)
        equity = account.equity if opened is None else Decimal(opened.payload["equity"])
        floor = attrs.evolve(floor, live=self._days.live(account), drilled=self._days.drilled(past))
        market = MarketSession(trading, floor, source, entrants, atoms_of(equity), past, day)
        unowned = owning.unowned(arming=floor.live, failover=market.failover, feed=market.guard)
        owning.take_over(market.conditions, unowned, begun=opened is not None)
        return market

    async def _attend(
        self, market: MarketSession, source: FeedSession | LiveSession, *others: asyncio.Future[Any]
    ) -> None:
        # Trade a session, with all that goes on beside it; raises Stopped where a stop has ended it.
        self.session = market
        line = source if isinstance(source, Line) else None
        said = partial(self._said, market, live=market.live)
        company = (self._announcer.announce(market, line, said), self._heed(), self._measure(market))
        beside = [*(asyncio.ensure_future(one) for one in company), *others]
        try:
            await market.trade()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            if self._days.meter is not None:
                self._days.meter.look(market.run, market.clock_guard.ahead_s, at_once=True)
        if source.session.close <= self._clock.now():
            owning.end(market.conditions)
        if market.requests.stopping and not market.relieved:
            market.requests.carried_out(kept=market.leaves)
            raise Stopped

    def _on_the_line(self, source: FeedSession | LiveSession) -> FeedSession | LiveSession:
        # A live feed with its connection.
        return Line(source, self._clock) if isinstance(source, LiveSession) else source

    async def _finish(self) -> None:
        # End a session that a crash or a stop left open and that is over, at once: what it holds is said, and known.
        since = overnight.since_the_last(overnight.counting(self._journal))
        if (left := overnight.unfinished(since, self.due(), self._clock.now())) is None:
            return
        found = None
        while found is None:
            found = await self._log_in(self.due(), None)
        trading = attrs.evolve(self._days.trading(found.account), standbys=await self._days.standbys(left))
        await self._end_late(left.payload, trading, overnight.counting(self._journal))

    async def _end_late(self, opened: Mapping[str, Any], trading: Trading, past: Sequence[Event]) -> None:
        # Where it was another account's, what is written down of it is all that can be said.
        since = overnight.since_the_last(past)
        if opened.get("account", trading.venue.account_id) != trading.venue.account_id:
            self._recorder.write(*leftovers.ending(self._recorder, since, overnight.left(past)))
            return
        floor = attrs.evolve(self.floor, received=None)  # no minute comes: what was recorded of it stays the latest
        equity = atoms_of(Decimal(opened["equity"]))
        market = MarketSession(trading, floor, overnight.Bygone.of(opened, since), (), equity, past)
        ready_at = clock.exchange_moment(self.due().date, READY_AT)
        if not await market.end_late(ready_at, self._unread):
            market.requests.carried_out()
            raise Stopped
        owning.end(market.conditions)

    def _unread(self) -> None:
        # An account that cannot be read keeps the session before from its end, and so the next one from its beginning.
        session = self.due()
        self._announcer.deny(session, ["the session before is not over: the account cannot be read"])
        self._days.idle(clock.exchange_moment(session.date, READY_AT))

    async def _log_in(self, session: Session, opened: Event | None) -> Manned | None:
        # A session of several brokers that was opened before a restart goes on without its primary until it is there.
        words = "the broker cannot be logged in to"
        return await self._insist(session, words, lambda: manned(self._broker, self._days.primary, opened))

    async def _insist(self, session: Session, words: str, ask: Callable[[], Awaitable[Answer]]) -> Answer | None:
        # Ask until there is an answer: without it the session is not ready. None where its close comes first.
        failures = 0
        while True:
            try:
                return await ask()
            except BrokerError as fault:
                self._announcer.deny(session, [f"{words}: {fault.message}"])
                pause = _AGAIN_S[min(failures, len(_AGAIN_S) - 1)]
                failures += 1
                await self._until(self._clock.now() + dt.timedelta(seconds=pause))
            if session.close <= self._clock.now():
                return None

    def _said(self, market: MarketSession, *, live: bool) -> records.Payload:
        # What READY says.
        vix = {"vix": known_vix(market.run.day)} if self.floor.vix is None else {"vix_live": True}
        armed = self._journal.last(records.ARMED) if live else None
        worst = self._days.worst_day
        return {
            "session": market.run.session.date.isoformat(),
            "mode": self._days.mode,
            "armed": None if armed is None else armed_of(armed.payload).sessions[-1].isoformat(),
            "equity": str(dollars_of(market.run.desk.portfolio.opening_atoms)),
            "feed": self.floor.feed,
            "windows": [entrant.name for entrant in market.run.entrants],
            "worst_day": None if worst is None else str(worst),
            **vix,
            "positions": market.run.positions,
            "stuck": sorted(market.stuck),
        }

    async def _heed(self) -> None:
        # Notice in a session that the settings have been changed; they count from the next one.
        while True:
            self._days.renewal.heed(self._recorder, self._clock.monotonic())
            await self._clock.sleep(EVERY_S)

    async def _measure(self, market: MarketSession) -> None:
        # Write down beside the session how it stands, for whoever looks on.
        meter = self._days.meter
        while meter is not None:
            meter.look(market.run, market.clock_guard.ahead_s)
            self._days.look(market.run)
            await self._clock.sleep(METER_S)

    async def _until(self, moment: dt.datetime) -> None:
        # Wait between sessions, and obey what is asked meanwhile; raises Stopped for a stop.
        #
        # A session that is under way carries it out itself: only what is to be kept can be left as it is.
        past = overnight.between(self._journal)
        since = overnight.since_the_last(past)
        under_way = overnight.under_way(since, self._clock.now())
        conditions = Conditions(self._recorder, _nobody, recall(past))
        requests = Requests(self._recorder, conditions, _nothing_held, past, later=OF_A_SESSION)
        requests.resume(since, flattens=self.floor.signals.flattens)
        while True:
            requests.look(self.floor.folder)
            if self.floor.signals.tell(conditions):
                requests.signalled(flattens=self.floor.signals.flattens)
            self.floor.room.tell(self._clock.monotonic(), conditions)
            if requests.stopping and (requests.keep or not under_way):
                requests.carried_out(kept=under_way)
                raise Stopped
            conditions.expire()
            self._holidays.look()
            self._days.renewal.heed(self._recorder, self._clock.monotonic())
            if not under_way:
                self._days.renewal.allow()
            rest_s = (moment - self._clock.now()).total_seconds()
            if rest_s <= 0:
                return
            self._days.idle(moment)
            await self._clock.sleep(min(rest_s, self.floor.watch_s))


def _nobody(state: RiskState) -> None:
    # Between sessions nobody decides.
    pass


def _nothing_held(*, on: bool = True) -> None:
    # Between sessions there is nothing to close that could be closed.
    pass
