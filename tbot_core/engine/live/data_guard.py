"""Holds a session to what the health of its data and of its clock allows.

Causes come and go with the feed and the clock, halted symbols wait, losses are judged by marks that are fresh, and bars
that came late are put in their place before anybody looks again.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from tbot_core.contracts import HaltStatus, SupportsPrices, SupportsServerTime
from tbot_core.errors import BrokerError
from tbot_core.execution.intents import MinuteCommands
from tbot_core.execution.throttling import RateLimitedBroker, run_concurrently
from tbot_core.journal import records
from tbot_core.journal.projections.feed_health import DataHealth
from tbot_core.marketdata.bar_aggregator import BarArrival
from tbot_core.model.reasons import Reason
from tbot_core.model.steady_clock import SKEW_S, SteadyClock, median_skew
from tbot_core.model.types import Leg, Side, ticks_of
from tbot_core.system import log
from tbot_core.trading.commands import CancelOrder
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tbot_core.engine.session.broker_session import BrokerSession
    from tbot_core.engine.session.session import TradingSession
    from tbot_core.execution.trading_state import TradingStateController
    from tbot_core.journal.store import Event
    from tbot_core.marketdata.bar_aggregator import BarAmendment
    from tbot_core.marketdata.live_feed import FeedGap, LiveFeedAggregator
    from tbot_core.model.bars import Quotes
    from tbot_core.model.calendar import Session
    from tbot_core.model.clock import Clock
    from tbot_core.model.types import Order
    from tbot_core.model.window import Window
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
    """The clock of a session: right from the start where the broker says the time."""
    ahead = median_skew(broker.ahead_s) if isinstance(broker, SupportsServerTime) else None
    return SteadyClock(clock, ahead if ahead is not None and abs(ahead) > SKEW_S else 0.0)


def out_of_hours(session: Session, moment: datetime) -> str:
    """Why no order, entry or exit, may be sent at a moment: the exchange is closed, or has just opened."""
    if not session.open <= moment < session.close:
        return "the exchange is closed"
    early = (moment - session.open).total_seconds() < FIRST_ORDER_S
    return f"no order is sent in the first {FIRST_ORDER_S:.0f} s of a session" if early else ""


class ClockGuard:
    """Watches the machine's clock: one that jumped, or that differs from the broker's, leaves exits only."""

    def __init__(self, clock: SteadyClock, broker: object, conditions: TradingStateController) -> None:
        self._clock = clock
        self._teller = broker if isinstance(broker, SupportsServerTime) else None  # asked once: such a question is slow
        self._conditions = conditions

    @property
    def ahead_s(self) -> float | None:
        """How far this machine's clock is ahead of the broker's; None if the broker does not report its time."""
        return None if self._teller is None else median_skew(self._teller.ahead_s)

    def run_once(self) -> None:
        """Called about once a second."""
        jump = self._clock.check()
        self._conditions.set_cause(StateCause.CLOCK_JUMP, jump)
        ahead = self.ahead_s
        away = ahead is not None and abs(ahead) > SKEW_S and not jump
        self._conditions.set_cause(StateCause.CLOCK_SKEW, f"by {ahead:+.1f} s" if away else "")


class DataGuard:
    """Watches one session's live feed, for the session that trades on it."""

    def __init__(
        self, gathering: LiveFeedAggregator, run: TradingSession, conditions: TradingStateController, clock: SteadyClock
    ) -> None:
        self._gathering = gathering
        self._health = gathering.health
        self._run = run
        self._conditions = conditions
        self._clock = clock
        self._breach: float | None = None
        self._rung = False
        self._gaps: set[int] = set()
        gathering.on_gap = self._gap
        gathering.on_filled = self._filled
        gathering.on_status = self._status

    @property
    def quotes(self) -> Quotes | None:
        """The latest quotes; None where the feed has none."""
        return self._health.quotes(self._clock.monotonic())

    @property
    def description(self) -> str:
        """The state of the feed: its age, late bars, and halted symbols."""
        now = self._clock.monotonic()
        late = self._gathering.aggregator.counts[BarArrival.LATE]
        halted = sorted(symbol or "the market" for symbol in self._health.assess(now).halted)
        parts = [f"{max(now - self._health.last_message_at, 0.0):.0f} s old", f"{late} late"]
        return ", ".join([*parts, *([f"halted {' '.join(halted)}"] if halted else ())])

    def is_backfilled(self, minute: int) -> bool:
        """Whether a minute's bars were asked for after it had closed: nothing is traded on them."""
        return minute in self._gathering.backfilled_minutes

    def judge(self, proposal: Proposal, window: Window) -> Proposal:
        """The proposal with what the data say against it, and with the far side of a fresh quote as its reference."""
        quotes, row = self.quotes, proposal.row
        if row is None:
            return attrs.evolve(proposal, reason=Reason.DATA_STALE)
        proposal = attrs.evolve(proposal, quote=None if quotes is None else quotes.of(row))
        if proposal.reason is not Reason.ALLOWED:
            return proposal
        reason = self._objection(proposal, row, window)
        if reason is not None:
            return attrs.evolve(proposal, reason=reason)
        if quotes is None:
            return proposal
        far = quotes.ask if proposal.side is Side.LONG else quotes.bid
        fresh = quotes.age_s[row] <= FRESH_S  # NaN, no quote, is not
        if not fresh:
            return attrs.evolve(proposal, reason=Reason.NO_QUOTE)
        return attrs.evolve(proposal, reference=float(far[row]))

    def denial_reason(self, order: Order, post: BrokerSession) -> str:
        """Why an order may not be sent now because of the data; "" if it may."""
        if order.leg is not Leg.ENTRY:
            return ""
        reason = self._unfit(order.symbol, self._run.tape.closed - 1, post)
        return "" if reason is None else reason.sentence

    async def run(self) -> None:
        """Listen to the feed, until cancelled."""
        await self._gathering.run()

    def apply_late_bars(self) -> Sequence[BarAmendment]:
        """Put the bars that came late in their place, and say which."""
        late = self._gathering.aggregator.pop_late_bars()
        if late:
            self._run.tape.amend((one.minute, one.row, one.values) for one in late)
        return late

    async def run_once(self) -> None:
        """Called about twice a second, and heeded while the exchange trades: causes, halts and marks."""
        if not self._run.session.open <= self._clock.now() < self._run.session.close:
            return
        if not self._rung:
            self._rung = True
            self._health.start(self._clock.monotonic())
        seen = self._health.assess(self._clock.monotonic())
        self._conditions.set_cause(StateCause.FEEDS_STALE, seen.silence)
        self._conditions.set_cause(
            StateCause.UNIVERSE_STALE, f"{len(seen.stale)} of {len(self._health.symbols)}" if seen.crowd else ""
        )
        changes = self._mark()
        for post in self._run.broker_sessions:
            custody = post.decision_engine.position_manager
            resumed, fresh = custody.exits.halted - seen.halted, seen.halted - custody.exits.halted
            custody.exits.halted = seen.halted
            if fresh:
                await self._take_back(post, fresh)
            told = changes if post is self._run.broker_sessions[0] else ()
            actions = self._run.orders_between_minutes(post) if resumed or changes else ()
            await post.execution.execute(MinuteCommands(changes=told, actions=actions))

    @staticmethod
    async def _take_back(post: BrokerSession, halted: frozenset[str]) -> None:
        # An entry that waits in a halt is taken back: it could fill at whatever price trading resumes at.
        working = post.decision_engine.exposure.working.items()
        entries = [CancelOrder(client_order_id=cid) for cid, one in working if one.signal.symbol in halted]
        if entries:
            await post.execution.execute(MinuteCommands(actions=entries))

    @property
    def halted_to_close(self) -> bool:
        """Whether the whole market is halted to the session's end."""
        return self._health.halted_to_close

    def restore(self, past: Sequence[Event]) -> None:
        """Take in the halts of before a restart, and the gaps that were still open."""
        health = DataHealth()
        for event in past:
            health.apply(event)
            if event.kind == records.HALT:
                self._gathering.restore_halt(HaltStatus(**event.payload), event.applied)
        self._gaps = health.lost
        self._gathering.restore_lost_minutes(health.lost)

    @property
    def can_compare_prices(self) -> bool:
        """Whether a broker reports prices to compare with the feed."""
        return any(_teller(post) is not None for post in self._run.broker_sessions)

    async def compare_prices(self) -> None:
        """Called about every ten seconds: request prices from the brokers, and compare the feed with each."""
        if self._run.session.open <= self._clock.now() < self._run.session.close:
            await run_concurrently([partial(self._compare, post) for post in self._run.broker_sessions])

    async def _compare(self, post: BrokerSession) -> None:
        teller = _teller(post)
        if teller is None:
            return
        try:
            theirs = await teller.prices(self._health.symbols)
        except BrokerError as silence:
            _log.warning("prices.not_read", broker=post.name, reason=silence.message)
            return
        for one in self._health.compare_prices(theirs, self._clock.monotonic(), post.journal_tag):
            payload = {"symbol": one.symbol, "feed": str(one.feed), "theirs": str(one.theirs), "there": one.is_apart}
            post.execution.recorder.record(records.FEEDS_APART, payload)

    def _mark(self) -> list[RiskChange]:
        # Value positions at fresh quotes; a breach of a loss limit counts when it still holds two seconds later.
        #
        # A run of losing trades counts at once: they are closed, and no mark says anything of them.
        desk, now = self._run.decision_engine, self._clock.monotonic()
        changes = desk.check_losses(priced=False)
        for post in self._run.broker_sessions:
            for symbol in post.decision_engine.portfolio.positions:
                if (middle := self._health.mid(symbol, now, widest=MAX_SPREAD)) is not None:
                    post.decision_engine.portfolio.mark(symbol, ticks_of(middle))
        if self._health.stale_marks(self._run.positions, now) or not desk.loss_limit_breached:
            self._breach = None
            return changes
        if self._breach is None:
            self._breach = now
        if now - self._breach < BREACH_HOLDS_S:
            return changes
        self._breach = None
        return [*changes, *desk.check_losses()]

    def _objection(self, proposal: Proposal, row: int, window: Window) -> Reason | None:
        signal, now, routing = proposal.signal, self._clock.monotonic(), self._run.routing
        post = self._run.broker_sessions[0] if routing is None else routing.broker_for(signal.symbol)
        reason = self._unfit(signal.symbol, proposal.minute, post)
        if reason is not None:
            return reason
        if self._lost_in(row, window):
            return Reason.ANALYSIS_INCOMPLETE
        if self._health.stale_marks(self._run.positions, now):
            return Reason.MARK_STALE
        return None

    def _unfit(self, symbol: str, minute: int, post: BrokerSession) -> Reason | None:
        # What the feed, and the prices of the broker where a symbol would be entered, say against that.
        #
        # Entries go to another broker than the first only on prices that it has said itself in the last minute.
        now = self._clock.monotonic()
        reason = self._health.denial_reason(symbol, minute, now, post.journal_tag)
        if (
            reason is None
            and post.journal_tag
            and _teller(post) is not None
            and self._health.is_price_unconfirmed(symbol, now, post.journal_tag)
        ):
            return Reason.DATA_STALE
        return reason

    def _lost_in(self, row: int, window: Window) -> bool:
        # Whether a minute of the analysis was lost, and has no bar of the symbol yet.
        closes = self._run.tape.bars.field("close")
        lost = [one for one in self._gathering.lost_minutes if window.start <= one < min(window.entry, len(closes))]
        return bool(lost) and bool(np.isnan(closes[lost, row]).any())

    def _gap(self, gap: FeedGap) -> None:
        self._gaps.update(range(gap.first, gap.last + 1))
        self._write(records.FEED_GAP, attrs.asdict(gap))

    def _filled(self, minutes: list[int]) -> None:
        # Only what was written down as a gap is written down as filled.
        closed = [one for one in minutes if one in self._gaps]
        if closed:
            self._gaps.difference_update(closed)
            self._write(records.FEED_FILLED, {"minutes": closed, "open": len(self._gaps)})

    def _status(self, status: HaltStatus) -> None:
        self._write(records.HALT, attrs.asdict(status))

    def _write(self, kind: str, payload: dict[str, Any]) -> None:
        self._run.execution.recorder.record(kind, payload)


def _teller(post: BrokerSession) -> SupportsPrices | None:
    # The broker of a post, where it says what symbols trade at.
    broker = post.execution.venue.broker
    silent = isinstance(broker, RateLimitedBroker) and not broker.has_prices
    return broker if isinstance(broker, SupportsPrices) and not silent else None
