"""Guards a session against bad data and a wrong clock.

It sets the causes of feed and clock, suspends halted symbols, checks losses on fresh marks only, and inserts late bars
before the next decision.
"""

from __future__ import annotations

import math
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.contracts import HaltStatus, SupportsPrices
from tbot_core.contracts.abilities import PRICES, SERVER_TIME
from tbot_core.errors import BrokerError
from tbot_core.execution.intents import MinuteCommands
from tbot_core.execution.requests import run_concurrently
from tbot_core.journal import records
from tbot_core.journal.events import feeds as events
from tbot_core.journal.events.feeds import FeedFilled, FeedsApart, HaltReported
from tbot_core.journal.projections.feed_health import DataHealth
from tbot_core.marketdata.bar_aggregator import BarAmendment, BarArrival
from tbot_core.model.reasons import Reason
from tbot_core.model.steady_clock import SKEW_S, SteadyClock, median_skew
from tbot_core.model.types import Leg, Order, Side, ticks_of
from tbot_core.system import log
from tbot_core.trading.commands import CancelOrder
from tbot_core.trading.risk.holds import Hold
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from tbot_core.engine.session.broker_session import BrokerSession, EntryRouter, SessionBooks
    from tbot_core.execution.trading_state import TradingStateController
    from tbot_core.journal.store import Event, JournalRecorder
    from tbot_core.marketdata.feed_health import FeedHealth
    from tbot_core.marketdata.live_feed import FeedGap, LiveFeedAggregator
    from tbot_core.model.bars import Quotes
    from tbot_core.model.calendar import Session
    from tbot_core.model.clock import Clock
    from tbot_core.model.window import Window
    from tbot_core.trading.commands import TradingCommand
    from tbot_core.trading.proposals import Proposal
    from tbot_core.trading.risk.exposure import RiskChange

FRESH_S: Final = 10.0
BREACH_HOLDS_S: Final = 2.0
MAX_SPREAD: Final = 0.01
"""A mark is the middle of a quote whose spread is at most this share of it."""

FIRST_ORDER_S: Final = 30.0
"""How long after the opening bell no order is sent."""

_log = log.logger(__name__)


def session_clock(clock: Clock, broker: object) -> SteadyClock:
    """The clock of a session, corrected from the start if the broker reports its time."""
    source = SERVER_TIME.of(broker)
    ahead = None if source is None else median_skew(source.clock_ahead_s)
    return SteadyClock(clock, ahead if ahead is not None and abs(ahead) > SKEW_S else 0.0)


def out_of_hours(session: Session, moment: datetime) -> str:
    """Why no order, entry or exit, may be sent at a moment: the exchange is closed, or has just opened."""
    if not session.open <= moment < session.close:
        return "the exchange is closed"
    early = (moment - session.open).total_seconds() < FIRST_ORDER_S
    return f"no order is sent in the first {FIRST_ORDER_S:.0f} s of a session" if early else ""


class ClockGuard:
    """Watches the machine's clock: one that jumped, or that differs from the broker's, leaves exits only."""

    def __init__(self, clock: SteadyClock, broker: object, trading_state: TradingStateController) -> None:
        self._clock = clock
        self._time_source = SERVER_TIME.of(broker)
        self._trading_state = trading_state

    @property
    def clock_ahead_s(self) -> float | None:
        """How far this machine's clock is ahead of the broker's; None if the broker does not report its time."""
        return None if self._time_source is None else median_skew(self._time_source.clock_ahead_s)

    def run_once(self) -> None:
        """Check the clock; called about once a second."""
        jump = self._clock.check()
        self._trading_state.set_cause(StateCause.CLOCK_JUMP, jump)
        ahead = self.clock_ahead_s
        is_skewed = ahead is not None and abs(ahead) > SKEW_S and not jump
        self._trading_state.set_cause(StateCause.CLOCK_SKEW, f"by {ahead:+.1f} s" if is_skewed else "")


def with_reference(proposal: Proposal, quotes: Quotes | None) -> Proposal:
    """An allowed proposal with the far side of a fresh quote as its reference price; unchanged without `quotes`.

    That of a proxy is known before: `quotes` are of the signals' symbols.
    """
    row = proposal.row
    if proposal.reason is not Reason.ALLOWED or quotes is None or row is None or proposal.instrument.is_proxy:
        return proposal
    far = quotes.ask if proposal.side is Side.LONG else quotes.bid
    fresh = quotes.age_s[row] <= FRESH_S  # NaN, no quote, is not
    if not fresh:
        return attrs.evolve(proposal, reason=Reason.NO_QUOTE)
    return attrs.evolve(proposal, reference=float(far[row]))


def marks_age_s(health: FeedHealth, held: Iterable[str], now: float, *, quoted: bool) -> float | None:
    """The age of the oldest price at which the held symbols are valued; None if one has no price since the start.

    `quoted`: narrow quotes value positions too, beside the closes of bars.
    """
    closed, rows = health.bar_times, {symbol: row for row, symbol in enumerate(health.symbols)}
    quotes = health.quotes(now) if quoted else None
    ages = []
    for symbol in held:
        quote = quotes.of(rows[symbol]) if quotes is not None and symbol in rows else None
        narrow = quote is not None and quote.ask - quote.bid <= MAX_SPREAD * (quote.bid + quote.ask) / 2
        ages.append(min(now - closed.get(symbol, -math.inf), quote.age_s if quote is not None and narrow else math.inf))
    oldest = max(ages, default=0.0)
    return None if oldest == math.inf else max(0.0, oldest)


class FeedEventRecorder:
    """Records the gaps and halts of a live feed."""

    def __init__(self, recorder: JournalRecorder) -> None:
        self._recorder = recorder

    def on_gap(self, gap: FeedGap) -> None:
        """Record lost minutes."""
        self._recorder.record(events.FeedGap(first=gap.first, last=gap.last, words=gap.words))

    def on_filled(self, minutes: Sequence[int], still_open: int) -> None:
        """Record back-filled minutes of gaps."""
        self._recorder.record(FeedFilled(minutes=tuple(minutes), open=still_open))

    def on_status(self, status: HaltStatus) -> None:
        """Record a halt that began or ended."""
        self._recorder.record(HaltReported(**attrs.asdict(status)))


class DataGuard:
    """Watches the live feed of one session."""

    def __init__(
        self,
        live_feed: LiveFeedAggregator,
        books: SessionBooks,
        routing: EntryRouter | None,
        trading_state: TradingStateController,
        clock: SteadyClock,
    ) -> None:
        self._live_feed = live_feed
        self._health = live_feed.health
        self._books = books
        self._routing = routing
        self._trading_state = trading_state
        self._clock = clock
        self._breach: float | None = None
        self._started = False

    @property
    def quotes(self) -> Quotes | None:
        """The latest quotes; None where the feed has none."""
        return self._health.quotes(self._clock.monotonic())

    @property
    def description(self) -> str:
        """The state of the feed: its age, late bars, and halted symbols."""
        now = self._clock.monotonic()
        late = self._live_feed.aggregator.counts[BarArrival.LATE]
        halted = sorted(symbol or "the market" for symbol in self._health.assess(now).halted)
        parts = [f"{max(now - self._health.last_message_at, 0.0):.0f} s old", f"{late} late"]
        return ", ".join([*parts, *([f"halted {' '.join(halted)}"] if halted else ())])

    @property
    def marks_age_s(self) -> float | None:
        """The age of the oldest price at which the positions are valued; None if one has no price since the start."""
        return marks_age_s(
            self._health, self._books.positions, self._clock.monotonic(), quoted=not self._books.fills_on_bars
        )

    @property
    def health(self) -> FeedHealth:
        """The health of the feed."""
        return self._health

    def is_backfilled(self, minute: int) -> bool:
        """Whether a minute's bars were backfilled after its close: they are not traded on."""
        return minute in self._live_feed.backfilled_minutes

    def judge(self, proposal: Proposal, window: Window) -> Proposal:
        """The proposal with its data checks applied, and the far side of a fresh quote as its reference price."""
        quotes, row = self.quotes, proposal.row
        if row is None:
            return attrs.evolve(proposal, reason=Reason.DATA_STALE)
        proposal = attrs.evolve(proposal, quote=None if quotes is None else quotes.of(row))
        if proposal.reason is not Reason.ALLOWED:
            return proposal
        reason = self._objection(proposal, row, window)
        if reason is not None:
            return attrs.evolve(proposal, reason=reason)
        return with_reference(proposal, quotes)

    def denial_reason(self, order: Order, broker_session: BrokerSession) -> str:
        """Why an order may not be sent now because of the data; "" if it may."""
        if order.leg is not Leg.ENTRY:
            return ""
        reason = self._feed_objection(order.symbol, self._books.tape.closed - 1, broker_session)
        return "" if reason is None else reason.sentence

    async def run(self) -> None:
        """Receive the feed until cancelled."""
        await self._live_feed.run()

    def apply_late_bars(self) -> Sequence[BarAmendment]:
        """Insert late bars into the tape, and return them."""
        late = self._live_feed.aggregator.pop_late_bars()
        if late:
            self._books.tape.amend((one.minute, one.row, one.values) for one in late)
        return late

    async def run_once(self, orders_between_minutes: Callable[[BrokerSession], Sequence[TradingCommand]]) -> None:
        """Update causes, halts and marks during exchange hours; called about twice a second.

        After a halt or a breached loss limit, it sends the `orders_between_minutes` of each broker.
        """
        if not self._books.session.open <= self._clock.now() < self._books.session.close:
            return
        if not self._started:
            self._started = True
            self._health.start(self._clock.monotonic())
        seen = self._health.assess(self._clock.monotonic())
        fault = f"; {self._live_feed.fault}" if seen.silence and self._live_feed.fault else ""
        self._trading_state.set_cause(StateCause.FEEDS_STALE, seen.silence + fault)
        self._trading_state.set_cause(
            StateCause.UNIVERSE_STALE, f"{len(seen.stale)} of {len(self._health.symbols)}" if seen.crowd else ""
        )
        changes = self._mark()
        for broker_session in self._books.broker_sessions:
            holds = broker_session.decision_engine.exposure.holds
            before = holds.symbols(Hold.HALTED)
            resumed, fresh = before - seen.halted, seen.halted - before
            holds.keep_only(Hold.HALTED, seen.halted)
            if fresh:
                await self._cancel_entries(broker_session, fresh)
            own_changes = changes if broker_session is self._books.broker_sessions[0] else ()
            actions = orders_between_minutes(broker_session) if resumed or changes else ()
            await broker_session.execution.execute(MinuteCommands(changes=own_changes, actions=actions))

    @staticmethod
    async def _cancel_entries(broker_session: BrokerSession, halted: frozenset[str]) -> None:
        # Cancel entries in a halt: they could fill at any price when trading resumes.
        working = broker_session.decision_engine.exposure.working.items()
        entries = [
            CancelOrder(client_order_id=cid)
            for cid, one in working
            if halted & {one.signal.symbol, one.instrument.symbol}
        ]
        if entries:
            await broker_session.execution.execute(MinuteCommands(actions=entries))

    @property
    def halted_to_close(self) -> bool:
        """Whether the whole market is halted to the session's end."""
        return self._health.halted_to_close

    def restore(self, past: Sequence[Event]) -> None:
        """Restore halts and open gaps from before a restart."""
        health = DataHealth()
        for event in past:
            health.apply(event)
            if event.kind == records.HALT:
                halt = event.facts(HaltReported)
                status = HaltStatus(symbol=halt.symbol, halted=halt.halted, level=halt.level, words=halt.words)
                self._live_feed.restore_halt(status, event.applied)
        self._live_feed.restore_lost_minutes(health.lost)

    @property
    def can_compare_prices(self) -> bool:
        """Whether a broker reports prices to compare with the feed."""
        return any(_price_source(broker_session) is not None for broker_session in self._books.broker_sessions)

    async def compare_prices(self) -> None:
        """Request prices from the brokers and compare the feed with each; called about every ten seconds."""
        if self._books.session.open <= self._clock.now() < self._books.session.close:
            await run_concurrently(
                [partial(self._compare, broker_session) for broker_session in self._books.broker_sessions]
            )

    async def _compare(self, broker_session: BrokerSession) -> None:
        source = _price_source(broker_session)
        if source is None:
            return
        try:
            prices = await source.prices(self._health.symbols)
        except BrokerError as fault:
            _log.warning("prices.not_read", broker=broker_session.name, reason=fault.message)
            return
        for one in self._health.compare_prices(prices, self._clock.monotonic(), broker_session.journal_tag):
            apart = FeedsApart(
                symbol=one.symbol, feed=Decimal(str(one.feed)), theirs=Decimal(str(one.theirs)), there=one.is_apart
            )
            broker_session.execution.recorder.record(apart)

    def _mark(self) -> list[RiskChange]:
        # Value positions at fresh quotes; a breach of a loss limit counts if it still holds two seconds later.
        #
        # A losing run counts at once: its trades are closed and need no marks. At a venue that fills from bars the
        # limits are judged on closes, with each minute.
        if self._books.fills_on_bars:
            return []
        engine, now = self._books.decision_engine, self._clock.monotonic()
        changes = engine.check_losses(priced=False)
        for broker_session in self._books.broker_sessions:
            for symbol in broker_session.decision_engine.portfolio.symbols:
                if (middle := self._health.mid(symbol, now, widest=MAX_SPREAD)) is not None:
                    broker_session.decision_engine.portfolio.mark(symbol, ticks_of(middle))
        if self._health.stale_marks(self._books.positions, now) or not engine.loss_limit_breached:
            self._breach = None
            return changes
        if self._breach is None:
            self._breach = now
        if now - self._breach < BREACH_HOLDS_S:
            return changes
        self._breach = None
        return [*changes, *engine.check_losses()]

    def _objection(self, proposal: Proposal, row: int, window: Window) -> Reason | None:
        signal, now, routing = proposal.signal, self._clock.monotonic(), self._routing
        broker_session = (
            self._books.broker_sessions[0] if routing is None else routing.broker_for(proposal.instrument.symbol)
        )
        reason = self._feed_objection(signal.symbol, proposal.minute, broker_session)
        if reason is not None:
            return reason
        if self._has_lost_minutes(row, window):
            return Reason.ANALYSIS_INCOMPLETE
        if self._health.stale_marks(self._books.positions, now):
            return Reason.MARK_STALE
        return None

    def _feed_objection(self, symbol: str, minute: int, broker_session: BrokerSession) -> Reason | None:
        # Why the feed, or the prices of the entering broker, forbid an entry.
        #
        # A standby enters only on prices that it reported itself within the last minute.
        now = self._clock.monotonic()
        reason = self._health.denial_reason(symbol, minute, now, broker_session.journal_tag)
        if (
            reason is None
            and broker_session.journal_tag
            and _price_source(broker_session) is not None
            and self._health.is_price_unconfirmed(symbol, now, broker_session.journal_tag)
        ):
            return Reason.DATA_STALE
        return reason

    def _has_lost_minutes(self, row: int, window: Window) -> bool:
        # Whether a lost minute of the analysis still has no bar of the symbol.
        closes = self._books.tape.bars.field("close")
        lost = [one for one in self._live_feed.lost_minutes if window.start <= one < min(window.entry, len(closes))]
        return bool(lost) and bool(np.isnan(closes[lost, row]).any())


def _price_source(broker_session: BrokerSession) -> SupportsPrices | None:
    # The broker, if it reports prices of symbols.
    return PRICES.of(broker_session.execution.venue.broker)
