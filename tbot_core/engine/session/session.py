"""One session, minute by minute: broker events, marks, exits, signals, decisions, orders."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Container, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

import attrs
import numpy as np

from tbot_core.contracts import FeedSession, RiskCheck
from tbot_core.engine.session import session_events
from tbot_core.engine.session.broker_session import BrokerSession, EntryRouter, SessionBooks, StandbyBroker
from tbot_core.engine.session.confirmations import ConfirmationQueue
from tbot_core.engine.session.feed_session import partial_volume_of
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.execution.intents import MinuteCommands
from tbot_core.execution.requests import run_concurrently
from tbot_core.journal.events.sessions import NearMiss, PluginFailed, WindowClosed
from tbot_core.journal.store import Journal, JournalRecorder, NewEvent
from tbot_core.model.bars import Bars, Flags, MinuteSlice, Quotes, Tape
from tbot_core.model.clock import Clock
from tbot_core.model.day_facts import DayFacts, MarketView
from tbot_core.model.reasons import Reason
from tbot_core.model.types import dollars_of
from tbot_core.plugins.call_guard import CallGuard, FailedCall, GuardSession
from tbot_core.plugins.guarded_broker import FEED_CALLS
from tbot_core.system.garbage import gc_paused
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.near_misses import find_near_misses
from tbot_core.trading.orders import ClientOrderIds
from tbot_core.trading.proposals import (
    ActiveStrategy,
    Proposal,
    ScanResult,
    TradingRules,
    propose,
    renew,
    screen,
    universe_cut,
)
from tbot_core.trading.risk.exposure import block_entries, lose_plugin
from tbot_core.trading.risk.states import StateCause
from tbot_core.trading.verdicts import ALLOWED_CODE, Verdicts

if TYPE_CHECKING:
    from datetime import datetime

    from tbot_core.model.calendar import Session
    from tbot_core.model.window import Window
    from tbot_core.trading.commands import Decision, TradingCommand
    from tbot_core.trading.risk.exposure import ReservedEntry

Wait = Callable[["datetime"], Awaitable[None]]
"""Waits for a moment of the session; a replay at full speed only moves the clock."""


@attrs.frozen(kw_only=True, eq=False)
class SessionContext:
    """What every session needs: `wait` paces it, `on_events` receives written events, `on_minute` traded minutes."""

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

    def watching(self, symbols: Collection[str]) -> SessionContext:
        """The context of a session that watches further symbols without trading them."""
        return attrs.evolve(self, rules=self.rules.watching(symbols)) if symbols else self

    @property
    def recorder(self) -> JournalRecorder:
        """A recorder for the session's journal events."""
        return JournalRecorder(journal=self.journal, clock=self.clock, on_events=self.on_events)


class FeedView(Protocol):
    """The data of a live feed besides its bars."""

    @property
    def quotes(self) -> Quotes | None:
        """The latest quotes; None where the feed has none."""

    @property
    def description(self) -> str:
        """The state of the feed now, as short text."""

    def judge(self, proposal: Proposal, window: Window) -> Proposal:
        """The proposal with its data checks applied, and the price used for sizing."""


class StopRequests(Protocol):
    """What people request for the end of a session."""

    @property
    def flattening(self) -> bool:
        """Whether all positions are to be closed; no entry is made then."""

    @property
    def keeps_positions(self) -> bool:
        """Whether a stop keeps positions open: no order is sent for them any more."""


@attrs.frozen(kw_only=True, eq=False)
class SessionServices:
    """What a live session has besides its books; a simulated one has none of it.

    `outlook` checks the data of a live feed, `routing` selects the broker of an entry, `stops` knows what people
    request.
    """

    outlook: FeedView | None = None
    routing: EntryRouter | None = None
    stops: StopRequests | None = None


def open_books(
    context: SessionContext, session: Session, symbols: tuple[str, ...], day: DayFacts, equity_atoms: int
) -> SessionBooks:
    """The books of a new session, with the equity of the primary account in atoms; `day` are the facts of `symbols`."""
    decision_engine = DecisionEngine(
        context.rules, session, equity_atoms, context.naming.client_order_id, context.checks
    )
    execution = ExecutionEngine(context.recorder, context.venue, decision_engine, symbols)
    broker_sessions = [BrokerSession(name=context.venue.name, decision_engine=decision_engine, execution=execution)]
    for standby in context.standbys:
        other = DecisionEngine(
            standby.rules, session, standby.equity_atoms, standby.naming.client_order_id, context.checks
        )
        other.share_limits_with(decision_engine)
        recorder = attrs.evolve(context.recorder, broker=standby.venue.name, tag=standby.tag)
        execution = ExecutionEngine(recorder, standby.venue, other, symbols)
        broker_sessions.append(BrokerSession(name=standby.venue.name, decision_engine=other, execution=execution))
    return SessionBooks(
        session=session,
        symbols=symbols,
        day=day,
        tape=Tape(symbols, session.minutes),
        broker_sessions=tuple(broker_sessions),
    )


class TradingSession:
    """A session being traded. Create it with its books, then `await trade()`.

    `quoted` are the quotes of the last decision, None without quotes. `has_traded_minute`: a minute was traded since
    the start; before that, after a restart, the bars are old.
    """

    def __init__(
        self,
        context: SessionContext,
        books: SessionBooks,
        entrants: tuple[ActiveStrategy, ...],
        services: SessionServices | None = None,
    ) -> None:
        services = services or SessionServices()
        self.outlook, self.routing, self._stops = services.outlook, services.routing, services.stops
        self.books = books
        self.session, self.day, self.tape = books.session, books.day, books.tape
        self.broker_sessions = books.broker_sessions
        self.decision_engine, self.execution = books.decision_engine, books.execution
        self.entrants = entrants
        self.confirmations = ConfirmationQueue(context.rules.entries, self, self.execution.recorder)
        self.triggers: dict[str, int] = {entrant.name: 0 for entrant in entrants}
        self._entry_minutes = {minute for one in entrants for minute in range(one.window.entry, one.window.entry_end)}
        self._context = context
        self._venue = context.venue.broker if context.venue.broker.capabilities.simulated else None
        self.has_traded_minute = False
        for broker in self.broker_sessions:
            broker.decision_engine.position_manager.exits.keep_positions_while(self.keeps_positions)
        self._cash_share = session_events.CashShareNotice(context.rules, len(entrants), self.decision_engine.portfolio)
        self.decided: set[str] = set()
        self.quoted: Quotes | None = None
        self._screened: dict[str, Verdicts] = {}
        self._screened_at_open: Mapping[str, Verdicts] = {}
        self._cut: Flags | None = None
        self._facts_by_strategy: dict[str, DayFacts] = {}
        self._plugin_failures = PluginFailures(self.broker_sessions)
        context.call_guard.open_session(self._plugin_failures.guard_session)

    async def trade(self, source: FeedSession) -> None:
        """Trade the whole session in simulated time, with the minutes of a feed, to its recorded close."""
        context = self._context
        await context.wait(self.session.open)
        await self.open_session(partial_volume_of(source))
        async for minute in source.minutes():
            await context.wait(self.session.moment(minute.index + 1))
            self.append_minute(minute)
            if not self._is_quiet(minute.index):
                await self.step(minute.index)
            context.on_minute(self, minute.index)
        await self.close_session()

    def append_minute(self, minute: MinuteSlice) -> None:
        """Add a closed minute to the tape, and show it to a venue that fills from bars; every minute once, in order."""
        self.tape.append(minute)
        if self._venue is not None:
            self._venue.observe(minute)

    async def step(self, minute: int, *, late: bool = False) -> None:
        """Process a closed minute; if it is `late`, no entry is made on it."""
        with gc_paused():
            bars, self.quoted, self.has_traded_minute = self.tape.bars, None, True
            for broker in self.broker_sessions:
                broker.decision_engine.position_manager.exits.flatten(on=self.flattening)
            answering = filter(self._is_responsive, self.broker_sessions)
            await run_concurrently([broker.execution.process_broker_events for broker in answering])
            await self.resolve_confirmations()
            commands = {broker.name: self._minute_commands(broker, bars, minute) for broker in self.broker_sessions}
            to_confirm, proposals = self.confirmations.hold_for_confirmation(self._proposals(bars, minute, late=late))
            decisions = self.decide(proposals)
            for broker in () if late else self.broker_sessions:
                if top_ups := self._top_ups(broker, bars, minute):
                    commands[broker.name] = attrs.evolve(commands[broker.name], top_ups=top_ups)
            await self._send(decisions, commands)
            self.confirmations.request_confirmation(to_confirm)
            self._cash_share.check(minute, self.execution.recorder)
            for entrant in (one for one in self.entrants if minute == one.window.entry_end - 1):
                self._close_window(entrant, bars)

    def _is_quiet(self, minute: int) -> bool:
        # Whether a minute at a venue that fills from bars brings nothing: no order, signal or notice. Most of them do.
        notices = self._context.rules.rebalance.enable_rebalance_notifier or self.confirmations.has_pending()
        if not self.fills_on_bars or notices or minute in self._entry_minutes:
            return False
        managers = [broker.decision_engine.position_manager for broker in self.broker_sessions]
        return all(one.is_idle and not one.orders_to_cancel for one in managers)

    def preview(self, proposal: Proposal, ahead: Sequence[ReservedEntry] = ()) -> Decision:
        """The decision that would be made now, as if the entries `ahead` were sent; limits do not count it."""
        return (self.routing or self.decision_engine).preview(proposal, ahead)

    def decide(self, proposals: Sequence[Proposal]) -> list[Decision]:
        """Decide signals in their order; each allowed one counts for those after it."""
        if self.routing is None:
            return self.decision_engine.decide(proposals)
        return [self.routing.decide(one) for one in sorted(proposals, key=lambda one: one.sort_key)]

    def _is_responsive(self, broker: BrokerSession) -> bool:
        return broker.is_awaited and (self.routing is None or self.routing.is_responsive(broker))

    def _minute_commands(self, broker: BrokerSession, bars: Bars, minute: int) -> MinuteCommands:
        # The orders for positions at a broker after a minute; losses are checked once, for all brokers together.
        #
        # Without a live feed, and at a venue that fills from bars, they are judged on closes.
        on_closes = self.outlook is None or self.fills_on_bars
        engine, judged = broker.decision_engine, on_closes and broker is self.broker_sessions[0]
        changes = engine.mark(bars, minute, judged=judged)
        actions = engine.position_manager.orders_after_minute(bars, minute) if broker.is_awaited else ()
        return MinuteCommands(changes=changes, actions=actions)

    def _top_ups(self, broker: BrokerSession, bars: Bars, minute: int) -> Sequence[Decision]:
        # Top-ups of positions at a broker that are below their share of equity.
        windows = {entrant.name: entrant.window for entrant in self.entrants}
        top_ups = broker.decision_engine.position_manager.top_ups
        proposals = top_ups.proposals(bars, minute) if self._is_responsive(broker) else ()
        known = [one for one in proposals if one.signal.strategy in windows]  # a restart may know fewer strategies
        return broker.decision_engine.top_up([self._judged(one, windows[one.signal.strategy]) for one in known])

    async def _send(self, decisions: Sequence[Decision], commands: Mapping[str, MinuteCommands] | None = None) -> None:
        # Send the orders of each broker concurrently.
        #
        # All intents are on disk before another task runs, so a concurrent cancel or close finds them.
        if not decisions and not commands:
            return
        sends = []
        for broker in self.broker_sessions:
            own = [one for one in decisions if (one.broker or self.broker_sessions[0].name) == broker.name]
            minute = (commands or {}).get(broker.name, MinuteCommands())
            minute = attrs.evolve(minute, decisions=own) if own else minute
            if not minute.is_empty:
                sends.append(partial(broker.execution.send, minute, broker.execution.persist_intents(minute)))
        await run_concurrently(sends)

    def orders_between_minutes(self, broker: BrokerSession) -> Sequence[TradingCommand]:
        """The orders for positions at a broker between two minutes, by the last closed one.

        None while a stop keeps positions, or while the bars are old.
        """
        if self.keeps_positions() or not self.has_traded_minute:
            return ()
        return broker.decision_engine.position_manager.orders_after_minute(self.tape.bars, self.tape.closed - 1)

    def keeps_positions(self) -> bool:
        """Whether a stop keeps positions open."""
        return self._stops is not None and self._stops.keeps_positions

    @property
    def fills_on_bars(self) -> bool:
        """Whether the primary broker is a venue that fills from closed bars."""
        return self._venue is not None

    @property
    def flattening(self) -> bool:
        """Whether all positions are to be closed; no entry is made then."""
        return self._stops is not None and self._stops.flattening

    async def resolve_confirmations(self) -> None:
        """Decide the entries that were confirmed, rejected, or have expired.

        After a restart they wait for the first traded minute: older bars have no current price.
        """
        if self.has_traded_minute:
            await self._send(self.confirmations.decide_answered(self._renew, whole_minutes=self.fills_on_bars))

    async def skip_minute(self, minute: int, *, late: bool = True) -> None:
        """Record a minute's signals without trading it: it is `late`, or a stop keeps positions."""
        await self._send(self.decision_engine.decide(self._proposals(self.tape.bars, minute, late=late)))

    @property
    def candidates(self) -> dict[str, int]:
        """How many symbols each strategy may enter today."""
        return {name: int((one.reasons == Reason.ALLOWED).sum()) for name, one in self._screened.items()}

    def set_vix(self, strategy: str, vix: float) -> None:
        """Set the VIX that a strategy sees from now on, NaN if unknown, and screen its symbols again."""
        self._facts_by_strategy[strategy] = attrs.evolve(self.day, vix=np.full(self.day.vix.shape, vix))
        for entrant in self.entrants:
            if entrant.name == strategy and strategy in self._screened:
                self._screened[strategy] = self._screen(entrant)

    def _screen(self, entrant: ActiveStrategy) -> Verdicts:
        facts = self._facts(entrant)
        return screen(entrant, self._context.rules, facts, self.books.symbols, self.session.minutes, cut=self._cut)

    def _facts(self, entrant: ActiveStrategy) -> DayFacts:
        # The facts of the day as the strategy sees them, with its VIX.
        return self._facts_by_strategy.get(entrant.name, self.day)

    def _renew(self, proposal: Proposal) -> Proposal | None:
        # A confirmed proposal at the current price; None if its strategy no longer exists.
        entrant = next((one for one in self.entrants if one.name == proposal.signal.strategy), None)
        if entrant is None:
            return None
        quotes = None if self.outlook is None else self.outlook.quotes
        market = MarketView(bars=self.tape.bars, day=self._facts(entrant), quotes=quotes)
        renewed = renew(entrant, self._context.rules, proposal, market)
        return None if renewed is None else self._judged(renewed, entrant.window)

    def _proposals(self, bars: Bars, minute: int, *, late: bool) -> list[Proposal]:
        found: list[Proposal] = []
        for entrant in self.entrants:
            window = entrant.window
            screened = self._screened[entrant.name]
            if window.entry <= minute < window.entry_end and (screened.reasons == ALLOWED_CODE).any():
                signals = entrant.strategy.scan(bars, self._facts(entrant), minute)
                scan = ScanResult(signals=signals, screened=screened, dates=(self.session.date,))
                proposals = propose(entrant, self._context.rules, scan, self._market(entrant, bars))
                proposals = [self._judged(one, window) for one in proposals if one.signal.text not in self.decided]
                self.triggers[entrant.name] += len(proposals)
                found += [_too_late(one) for one in proposals] if late else proposals
        return found

    def _market(self, entrant: ActiveStrategy, bars: Bars) -> MarketView:
        self.quoted = None if self.outlook is None else self.outlook.quotes
        return MarketView(bars=bars, day=self._facts(entrant), quotes=self.quoted)

    def _judged(self, proposal: Proposal, window: Window) -> Proposal:
        return proposal if self.outlook is None else self.outlook.judge(proposal, window)

    async def open_session(self, partial_volume: frozenset[str] = frozenset(), recorded: Container[str] = ()) -> None:
        """Screen the symbols and record the open, except the event kinds in `recorded`.

        `partial_volume`: the symbols whose volumes are a part of the tape.
        """
        session, symbols, portfolio = self.session, self.books.symbols, self.decision_engine.portfolio
        if self._venue is not None:
            self._venue.open_session(session, symbols, dollars_of(portfolio.cash_atoms), partial_volume)
        await run_concurrently([broker.execution.read_account for broker in self.broker_sessions])
        opened = session_events.session_opened(self.books, self.entrants)
        entries = [self.execution.recorder.entry(opened)]
        self._plugin_failures.opening = entries
        self._cut = universe_cut(self.entrants, self._context.rules, self.day, symbols, session.minutes)
        for entrant in self.entrants:
            self._screened[entrant.name] = judged = self._screen(entrant)
            entries.append(self.execution.recorder.entry(session_events.screened(entrant.name, judged)))
        self._plugin_failures.opening, self._screened_at_open = None, dict(self._screened)
        self.execution.recorder.write(*(one for one in entries if one.kind not in recorded))

    def _close_window(self, entrant: ActiveStrategy, bars: Bars) -> None:
        if entrant.window.outside(self.session.minutes, self._context.rules.exits.flatten_before_close):
            return
        allowed = self._screened[entrant.name].reasons == Reason.ALLOWED
        near = find_near_misses(entrant, bars, self._facts(entrant), allowed)
        bad = bars.bad_print.tolist() if entrant.window.start == 0 else []
        skipped = [symbol for symbol, is_bad in zip(bars.symbols, bad, strict=False) if is_bad]
        self.execution.recorder.record(
            WindowClosed(
                strategy=entrant.name,
                candidates=int(allowed.sum()),
                triggers=self.triggers[entrant.name],
                near_misses=tuple(NearMiss(**attrs.asdict(miss)) for miss in near),
                bad_prints=tuple(skipped),
            )
        )

    async def close_session(self, stuck: Callable[[], Sequence[NewEvent]] = tuple) -> None:
        """Wait for the close, book the last broker events and record the end; `stuck` returns the STUCK events."""
        context = self._context
        await context.wait(self.session.close)
        if self._venue is not None:
            self._venue.close_session()
        awaited = (broker for broker in self.broker_sessions if broker.is_awaited)
        await run_concurrently([broker.execution.process_broker_events for broker in awaited])
        await self._send(self.confirmations.expire_all())
        stuck_events = stuck()
        unclosed = (*self.books.positions, *(one.payload["symbol"] for one in stuck_events))
        without_bars = session_events.denials_without_bars(self._screened_at_open.values(), self.tape.bars)
        closed = session_events.session_closed(self.books, unclosed, without_bars)
        self.execution.recorder.write(*stuck_events, self.execution.recorder.entry(closed))


def _too_late(proposal: Proposal) -> Proposal:
    passed = {Reason.ALLOWED, Reason.NO_QUOTE, Reason.SPREAD_WIDE}  # quotes of now say nothing about the signal
    return attrs.evolve(proposal, reason=Reason.SIGNAL_TOO_LATE) if proposal.reason in passed else proposal


class PluginFailures:
    """The failed calls of one session; `opening` holds the events of its opening while they are being made."""

    def __init__(self, broker_sessions: Sequence[BrokerSession]) -> None:
        self._broker_sessions = broker_sessions
        self.opening: list[NewEvent] | None = None

    @property
    def guard_session(self) -> GuardSession:
        """This session for the guard of its plugins' calls."""
        execution = self._broker_sessions[0].execution
        return GuardSession(
            clock=execution.recorder.clock, on_failure=self._on_failure, on_broker_failure=self._on_broker_failure
        )

    def _on_failure(self, failure: FailedCall) -> None:
        self._record(failure, lost=failure.off)

    def _on_broker_failure(self, failure: FailedCall) -> None:
        # A call about an account concerns that account, a call for data all of them.
        account_calls = failure.call not in FEED_CALLS
        found = [one for one in self._broker_sessions if account_calls and failure.plugin == f"broker/{one.name}"]
        for broker in found if failure.off else ():
            block_entries(broker.decision_engine.exposure, StateCause.BROKER_PLUGIN, failure.error)
        self._record(failure, lost=failure.off and not found)

    def _record(self, failure: FailedCall, *, lost: bool) -> None:
        # A failure during the opening is recorded after SESSION_OPENED.
        primary = self._broker_sessions[0]
        if lost:
            lose_plugin(primary.decision_engine.exposure, failure.plugin)
        entry = primary.execution.recorder.entry(PluginFailed(**attrs.asdict(failure)))
        if self.opening is None:
            primary.execution.recorder.write(entry)
        else:
            self.opening.append(entry)
