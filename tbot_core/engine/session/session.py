"""One session, minute by minute: broker events, marks, exits, signals, decisions, orders."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

import attrs
import numpy as np

from tbot_core.contracts import FeedSession, RiskCheck, SimulatedVenue
from tbot_core.engine.session import session_events
from tbot_core.engine.session.broker_session import BrokerSession, EntryRouter, StandbyBroker
from tbot_core.engine.session.confirmations import ConfirmationQueue
from tbot_core.engine.session.loop_guard import gc_paused
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.execution.intents import MinuteCommands
from tbot_core.execution.throttling import run_concurrently
from tbot_core.journal import records
from tbot_core.journal.recorder import JournalRecorder
from tbot_core.journal.store import Journal, NewEvent
from tbot_core.model.bars import MarketView, Tape
from tbot_core.model.clock import Clock
from tbot_core.model.reasons import Reason
from tbot_core.model.types import dollars_of
from tbot_core.plugins.call_guard import CallGuard, FailedCall, GuardSession
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.near_misses import find_near_misses
from tbot_core.trading.orders import ClientOrderIds
from tbot_core.trading.positions import rebalance_rules
from tbot_core.trading.proposals import (
    ActiveStrategy,
    Proposal,
    ScanResult,
    TradingRules,
    Verdicts,
    propose,
    renew,
    screen,
)
from tbot_core.trading.risk.exposure import lose_plugin

if TYPE_CHECKING:
    from datetime import datetime

    from tbot_core.model.bars import Bars, DayFacts, Quotes
    from tbot_core.model.window import Window
    from tbot_core.trading.commands import Decision, TradingCommand

Wait = Callable[["datetime"], Awaitable[None]]
"""Waits until a moment of the session has come; in a replay at full speed it only moves the clock."""


@attrs.frozen(kw_only=True, eq=False)
class SessionContext:
    """What every session of a run needs; `wait` paces it, `tell` hears what was written, `watch` sees each minute.

    `standbys` are the brokers that may take over from that of `venue`, in their order.
    """

    rules: TradingRules
    venue: BrokerAccount
    journal: Journal
    clock: Clock
    naming: ClientOrderIds
    wait: Wait
    on_events: Callable[[Sequence[NewEvent]], None]
    on_minute: Callable[[TradingSession, int], None]
    checks: tuple[tuple[str, RiskCheck], ...] = ()
    call_guard: CallGuard = attrs.field(factory=lambda: CallGuard(strict=True))
    standbys: tuple[StandbyBroker, ...] = ()

    @property
    def recorder(self) -> JournalRecorder:
        """What the session writes down with."""
        return JournalRecorder(journal=self.journal, clock=self.clock, on_events=self.on_events)


class FeedView(Protocol):
    """What is known of a live feed besides its bars."""

    @property
    def quotes(self) -> Quotes | None:
        """The latest quotes; None where the feed has none."""

    @property
    def description(self) -> str:
        """How the feed is now, in a few words."""

    def judge(self, proposal: Proposal, window: Window) -> Proposal:
        """The proposal with what the data say against it, and the price that it is sized by."""


class TradingSession:
    """A session being traded. Build it at the bell with the account's equity, then `await trade()`.

    `day` holds the facts known before the open. `flatten()` blocks entries and closes what is held. Signals of the
    minutes in `late`, which closed while nobody watched, are ignored. `outlook` judges the data of a live feed;
    `quoted` are the quotes of its last decision, None without quotes. `keeping` says whether positions are kept as
    they are. `abreast`: a minute was traded since the start; before that, after a restart, the bars are old.
    """

    def __init__(
        self,
        trading: SessionContext,
        source: FeedSession,
        entrants: tuple[ActiveStrategy, ...],
        equity_atoms: int,
        late: frozenset[int] = frozenset(),
    ) -> None:
        self.source = source
        self.session = source.session
        self.day = source.day
        self.entrants = entrants
        self.tape = Tape(source.symbols, self.session.minutes)
        self.decision_engine = DecisionEngine(
            trading.rules, self.session, equity_atoms, trading.naming.client_order_id, trading.checks
        )
        self.execution = ExecutionEngine(trading.recorder, trading.venue, self.decision_engine)
        primary = BrokerSession(name=trading.venue.name, decision_engine=self.decision_engine, execution=self.execution)
        self.broker_sessions = (primary, *(self._standing_by(trading, one) for one in trading.standbys))
        self.routing: EntryRouter | None = None
        self.confirmations = ConfirmationQueue(trading.rules.entries, self, self.execution.recorder)
        self.triggers: dict[str, int] = {entrant.name: 0 for entrant in entrants}
        self._trading = trading
        self.late_minutes = late
        self._flattening = self.has_traded_minute = False
        self.keeps_positions: Callable[[], bool] = lambda: False
        for post in self.broker_sessions:
            post.decision_engine.position_manager.exits.keeps_positions = self._keeps
        self._cash_is_off = False
        self.decided: set[str] = set()
        self.outlook: FeedView | None = None
        self.quoted: Quotes | None = None
        self._screened: dict[str, Verdicts] = {}
        self._seen_by: dict[str, DayFacts] = {}
        self._opened: list[NewEvent] | None = None
        journal = trading.journal
        trading.call_guard.open_session(
            GuardSession(clock=trading.clock, on_failure=self._lost, repeating=lambda: journal.is_repeating)
        )

    async def trade(self) -> None:
        """Trade the whole session; when it returns, everything is closed and written down."""
        trading = self._trading
        await trading.wait(self.session.open)
        await self.open_session()
        async for minute in self.source.minutes():
            await trading.wait(self.session.moment(minute.index + 1))
            self.tape.append(minute)
            venue = trading.venue.broker
            if isinstance(venue, SimulatedVenue):
                venue.observe(minute)
            await self.step(minute.index)
            trading.on_minute(self, minute.index)
        await self.close_session()

    async def step(self, minute: int, *, late: bool = False) -> None:
        """Everything that follows from a minute that has closed; when it came too late, nothing is entered on it."""
        with gc_paused():
            bars, self.quoted, self.has_traded_minute = self.tape.bars, None, True
            for post in self.broker_sessions:
                post.decision_engine.position_manager.exits.flattening = self._flattening
            answering = filter(self._answers, self.broker_sessions)
            await run_concurrently([post.execution.process_broker_events for post in answering])
            await self.resolve_confirmations()
            kept = {post.name: self._kept(post, bars, minute) for post in self.broker_sessions}
            asked, proposals = self.confirmations.hold_for_confirmation(self._proposals(bars, minute, late=late))
            decisions = self.decide(proposals)
            for post in () if late or minute in self.late_minutes else self.broker_sessions:
                kept[post.name] = attrs.evolve(kept[post.name], top_ups=self._topped_up(post, bars, minute))
            await self._carry_out(decisions, kept)
            self.confirmations.request_confirmation(asked)
            self._weigh_cash(minute)
            for entrant in (one for one in self.entrants if minute == one.window.entry_end - 1):
                self._close_window(entrant, bars)

    def preview(self, proposal: Proposal) -> Decision:
        """What would be decided now; nothing counts for it."""
        return self.decision_engine.preview(proposal) if self.routing is None else self.routing.preview(proposal)

    def decide(self, proposals: Sequence[Proposal]) -> list[Decision]:
        """Decide signals in their order; each allowed one counts for those after it."""
        if self.routing is None:
            return self.decision_engine.decide(proposals)
        return [self.routing.decide(one) for one in sorted(proposals, key=lambda one: one.sort_key)]

    def _answers(self, post: BrokerSession) -> bool:
        return self.routing is None or self.routing.is_responsive(post)

    def _kept(self, post: BrokerSession, bars: Bars, minute: int) -> MinuteCommands:
        # What a minute asks for of what is held at a broker; losses are judged once, for all of them together.
        engine, judged = post.decision_engine, self.outlook is None and post is self.broker_sessions[0]
        changes = engine.mark(bars, minute, judged=judged)
        return MinuteCommands(changes=changes, actions=engine.position_manager.orders_after_minute(bars, minute))

    def _topped_up(self, post: BrokerSession, bars: Bars, minute: int) -> Sequence[Decision]:
        # What is added to positions of a broker that are under their share.
        windows = {entrant.name: entrant.window for entrant in self.entrants}
        wanted = post.decision_engine.position_manager.top_ups.proposals(bars, minute) if self._answers(post) else ()
        ours = [one for one in wanted if one.signal.strategy in windows]  # a restart may know fewer strategies
        return post.decision_engine.top_up([self._seen(one, windows[one.signal.strategy]) for one in ours])

    async def _carry_out(self, decisions: Sequence[Decision], kept: Mapping[str, MinuteCommands] | None = None) -> None:
        # Carry out what was decided and what is kept, each at its broker, none waiting for another.
        #
        # All of it is on disk before anybody else has a turn: who takes back or closes meanwhile finds it there.
        if not decisions and not kept:
            return
        acts = []
        for post in self.broker_sessions:
            mine = [one for one in decisions if (one.broker or self.broker_sessions[0].name) == post.name]
            minute = attrs.evolve((kept or {}).get(post.name, MinuteCommands()), decisions=mine)
            if not minute.is_empty:
                acts.append(partial(post.execution.send, minute, post.execution.persist_intents(minute)))
        await run_concurrently(acts)

    def _standing_by(self, trading: SessionContext, standby: StandbyBroker) -> BrokerSession:
        desk = DecisionEngine(
            standby.rules, self.session, standby.equity_atoms, standby.naming.client_order_id, trading.checks
        )
        desk.share_limits_with(self.decision_engine)
        recorder = attrs.evolve(trading.recorder, broker=standby.venue.name, tag=standby.tag)
        execution = ExecutionEngine(recorder, standby.venue, desk)
        return BrokerSession(name=standby.venue.name, decision_engine=desk, execution=execution)

    def _weigh_cash(self, minute: int) -> None:
        # Write down that the cash's share of equity has left its target, once until it has come back.
        rules = self._trading.rules
        due = rebalance_rules.interval_elapsed(rules.rebalance, minute)
        if not (rules.rebalance.enable_rebalance_notifier and due):
            return
        portfolio, allocation = self.decision_engine.portfolio, rules.risk.total_allocation
        found = rebalance_rules.cash_share(portfolio, allocation, len(self.entrants))
        before, self._cash_is_off = self._cash_is_off, found.exceeds_trigger(rules.rebalance)
        if self._cash_is_off and not before:
            payload = {"share": str(found.share), "target": str(found.target)}
            self.execution.recorder.record(records.CASH_SHARE, payload)

    def orders_between_minutes(self, post: BrokerSession) -> Sequence[TradingCommand]:
        """What is to be done with what is held at a broker between two minutes, by the one that has closed last.

        Nothing is begun where all is kept, nor on bars that are old.
        """
        if self._keeps() or not self.has_traded_minute:
            return ()
        return post.decision_engine.position_manager.orders_after_minute(self.tape.bars, self.tape.closed - 1)

    def _keeps(self) -> bool:
        return self.keeps_positions()

    def flatten(self, *, on: bool = True) -> None:
        """Close what is held from the next minute on, and enter nothing; or end that."""
        self._flattening = on

    @property
    def open_symbols(self) -> set[str]:
        """The symbols of what is held or works at any of the brokers."""
        return set().union(*(post.open_symbols for post in self.broker_sessions))

    @property
    def positions(self) -> list[str]:
        """The symbols that are held, at whichever broker."""
        return sorted({symbol for post in self.broker_sessions for symbol in post.decision_engine.portfolio.positions})

    @property
    def flattening(self) -> bool:
        """Whether flattening was asked for."""
        return self._flattening

    async def resolve_confirmations(self) -> None:
        """Decide the entries that a person has confirmed or rejected, and those that nobody did in time.

        After a restart they wait until a minute has been traded: the bars before it have no price of now.
        """
        if self.has_traded_minute:
            await self._carry_out(self.confirmations.decide_answered(self._renewed))

    async def skip_minute(self, minute: int, *, late: bool = True) -> None:
        """Write down the signals of a minute that closed while nobody watched, or all is kept, which is not `late`.

        Nothing is done on its bars.
        """
        await self._carry_out(self.decision_engine.decide(self._proposals(self.tape.bars, minute, late=late)))

    def candidates(self, strategy: str) -> int:
        """How many symbols a strategy may enter today."""
        return int((self._screened[strategy].reasons == Reason.ALLOWED).sum())

    def set_vix(self, strategy: str, vix: float) -> None:
        """Let a strategy see this VIX from now on, NaN where it is unknown; what it may enter is screened by it."""
        self._seen_by[strategy] = attrs.evolve(self.day, vix=np.full(self.day.vix.shape, vix))
        for entrant in self.entrants:
            if entrant.name == strategy and strategy in self._screened:
                self._screened[strategy] = self._screen(entrant)

    def _screen(self, entrant: ActiveStrategy) -> Verdicts:
        facts = self._facts(entrant)
        return screen(entrant, self._trading.rules, facts, self.source.symbols, self.session.minutes)

    def _facts(self, entrant: ActiveStrategy) -> DayFacts:
        # What a strategy knows from before the bell, and of the VIX.
        return self._seen_by.get(entrant.name, self.day)

    def _renewed(self, proposal: Proposal) -> Proposal | None:
        # A confirmed proposal at the price of now; None where its strategy is known no more.
        entrant = next((one for one in self.entrants if one.name == proposal.signal.strategy), None)
        if entrant is None:
            return None
        quotes = None if self.outlook is None else self.outlook.quotes
        market = MarketView(bars=self.tape.bars, day=self._facts(entrant), quotes=quotes)
        renewed = renew(entrant, self._trading.rules, proposal, market)
        return None if renewed is None else self._seen(renewed, entrant.window)

    def _proposals(self, bars: Bars, minute: int, *, late: bool) -> list[Proposal]:
        late = late or minute in self.late_minutes
        found: list[Proposal] = []
        for entrant in self.entrants:
            window = entrant.window
            screened = self._screened[entrant.name]
            if window.entry <= minute < window.entry_end and (screened.reasons == Reason.ALLOWED).any():
                signals = entrant.strategy.scan(bars, self._facts(entrant), minute)
                scan = ScanResult(signals=signals, screened=screened, dates=(self.session.date,))
                proposals = propose(entrant, self._trading.rules, scan, self._market(entrant, bars))[0]
                proposals = [self._seen(one, window) for one in proposals if one.signal.text not in self.decided]
                self.triggers[entrant.name] += len(proposals)
                found += [_too_late(one) for one in proposals] if late else proposals
        return found

    def _market(self, entrant: ActiveStrategy, bars: Bars) -> MarketView:
        self.quoted = None if self.outlook is None else self.outlook.quotes
        return MarketView(bars=bars, day=self._facts(entrant), quotes=self.quoted)

    def _seen(self, proposal: Proposal, window: Window) -> Proposal:
        return proposal if self.outlook is None else self.outlook.judge(proposal, window)

    async def open_session(self, said: Container[str] = ()) -> None:
        """Screen the symbols and write down that the session has opened, but for the kinds that were `said` before."""
        trading, session, portfolio = self._trading, self.session, self.decision_engine.portfolio
        venue = trading.venue.broker
        if isinstance(venue, SimulatedVenue):
            venue.open_session(session, self.source.symbols, dollars_of(portfolio.cash_atoms))
        await run_concurrently([post.execution.read_account for post in self.broker_sessions])
        opening = session_events.session_opened_payload(self.source, self.entrants, self.broker_sessions)
        entries = [self.execution.recorder.entry(records.SESSION_OPENED, opening)]
        self._opened = entries
        for entrant in self.entrants:
            judged = self._screen(entrant)
            self._screened[entrant.name] = judged
            payload = {
                "strategy": entrant.name,
                "candidates": self.candidates(entrant.name),
                "reasons": session_events.denial_counts(judged),
            }
            entries.append(self.execution.recorder.entry(records.SCREENED, payload))
        self._opened = None
        self.execution.recorder.write(*(one for one in entries if one.kind not in said))

    def _lost(self, lost: FailedCall) -> None:
        # A call into a plugin failed; what fails before the bell is written down behind it.
        if lost.off:
            lose_plugin(self.decision_engine.exposure, lost.plugin)
        entry = self.execution.recorder.entry(records.PLUGIN_FAILED, attrs.asdict(lost))
        if self._opened is None:
            self.execution.recorder.write(entry)
        else:
            self._opened.append(entry)

    def _close_window(self, entrant: ActiveStrategy, bars: Bars) -> None:
        if entrant.window.outside(self.session.minutes, self._trading.rules.exits.flatten_before_close):
            return
        allowed = self._screened[entrant.name].reasons == Reason.ALLOWED
        near = [attrs.asdict(one) for one in find_near_misses(entrant, bars, self._facts(entrant), allowed)]
        counts = {"candidates": int(allowed.sum()), "triggers": self.triggers[entrant.name]}
        bad = bars.bad_print.tolist() if entrant.window.start == 0 else []
        skipped = [symbol for symbol, is_bad in zip(bars.symbols, bad, strict=False) if is_bad]
        payload = records.window_payload(entrant.name, counts, near, skipped)
        self.execution.recorder.write(self.execution.recorder.entry(records.WINDOW_CLOSED, payload))

    async def close_session(self, stuck: Callable[[], Sequence[NewEvent]] = tuple) -> None:
        """Wait for the close, book the last broker events, record the end; `stuck` names what could not be closed."""
        trading = self._trading
        await trading.wait(self.session.close)
        venue = trading.venue.broker
        if isinstance(venue, SimulatedVenue):
            venue.close_session()
        await run_concurrently([post.execution.process_broker_events for post in self.broker_sessions])
        await self._carry_out(self.confirmations.expire_all())
        told = stuck()
        unclosed = (*self.positions, *(one.payload["symbol"] for one in told))
        payload = session_events.session_closed_payload(self.source, self.broker_sessions, unclosed)
        self.execution.recorder.write(*told, self.execution.recorder.entry(records.SESSION_CLOSED, payload))


def _too_late(proposal: Proposal) -> Proposal:
    allowed = proposal.reason is Reason.ALLOWED
    return attrs.evolve(proposal, reason=Reason.SIGNAL_TOO_LATE) if allowed else proposal
