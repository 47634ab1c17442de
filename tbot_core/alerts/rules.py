"""The notices for the journal's events: single events, and open incidents. Pure: events and times are passed in."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.alerts.store import (
    FAILOVER_CONFIRM_COMMAND,
    FAILOVER_DRILL_COMMAND,
    FAILOVER_STATUS_COMMAND,
    NEXT_COMMANDS,
    QUESTION,
    STATUS_COMMAND,
    Notice,
)
from tbot_core.contracts import BrokerEventKind, Urgency
from tbot_core.execution import instrument_rules, orphan_orders
from tbot_core.execution.trading_state import note_event
from tbot_core.journal import codec, records
from tbot_core.journal.events.accounts import (
    CashShareLeft,
    ForeignHolding,
    ForeignOrder,
    InstrumentRulesReported,
    PositionDisputed,
)
from tbot_core.journal.events.failover import CircuitChanged, FailoverChanged
from tbot_core.journal.events.feeds import UniverseCut, VixRead
from tbot_core.journal.events.orders import ConfirmationAsked, OrderReported, OrderTermsDiffer
from tbot_core.journal.events.risk import ClosingLate, PositionStuck, RequestRefused, RiskChanged, StateChanged
from tbot_core.journal.events.sessions import (
    DriftMeasured,
    HolidayReported,
    HoursShortened,
    NotReady,
    PluginFailed,
    Ready,
    RunStopped,
    SessionClosed,
    SettingsEdited,
    WindowClosed,
)
from tbot_core.journal.projections import failover
from tbot_core.journal.projections.book import SessionBook
from tbot_core.journal.projections.event_text import (
    PlannedStops,
    asked_text,
    contradiction_text,
    entry_text,
    exit_text,
    position_text,
    ready_remarks,
    settings_text,
    unprotected_text,
    vix_text,
)
from tbot_core.journal.projections.failover import FailoverBlocker
from tbot_core.journal.projections.feed_health import DataHealth
from tbot_core.model.clock import both_times
from tbot_core.model.formatting import (
    DENIALS_COUNT,
    figure_text,
    first_names,
    format_money,
    format_percent,
    format_price,
    format_quantity,
    plural,
    printable_name,
    trades_text,
)
from tbot_core.model.types import Leg, OrderState, RiskState, Side, Trade, quantity_of
from tbot_core.plugins.call_guard import failure_text
from tbot_core.reports.drift import drift_sentence
from tbot_core.trading.orders import IN_DOUBT, OrderRecord
from tbot_core.trading.risk.states import KINDS, FailoverPhase, StateCause, TradingState
from tbot_core.trading.universe import UniverseCounts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tbot_core.journal.events.feeds import FeedsApart
    from tbot_core.journal.projection import JournalEvent
    from tbot_core.journal.store import Event
    from tbot_core.trading.portfolio import Position

UNKNOWN_AFTER: Final = timedelta(seconds=60)
"""How long an order's outcome may be unknown, or an account unread at a start, before an alert."""

# How long a position may be without a stop at the broker before an alert.
_UNPROTECTED_AFTER: Final = timedelta(seconds=10)

_REQUESTED: Final = frozenset(
    {
        StateCause.STOP_FILE,
        StateCause.STOP_COMMAND,
        StateCause.STOP_SIGNAL,
        StateCause.NOT_ARMED,
        StateCause.MAINTENANCE,
    }
)
_UNSURE: Final = frozenset({OrderState.SENDING, OrderState.UNKNOWN})
_RESTING: Final = frozenset({OrderState.NEW, OrderState.PARTIALLY_FILLED})
_LATCH: Final = "daily loss latch"
_JUMP: Final = "equity jump"
_INCIDENTS: Final = frozenset({_LATCH, RiskState.EXIT_ONLY.word})
"""The changes of risk that last until the end of the session."""

_STATE: Final = "state "
MISSING: Final = ", not backfilled yet; symbols without these bars are not entered"
"""What the incident of lost minutes says as long as it is open."""


@attrs.frozen(kw_only=True)
class RoutineEvents:
    """Which routine events are reported: NOTIFY_ON_FILL, NOTIFY_ON_EXIT and NOTIFY_ON_FAILURE."""

    fills: bool = True
    exits: bool = True
    failures: bool = True


class AlertRules:
    """Follows the journal's events; `control_dir` is CONTROL_DIR."""

    def __init__(self, wanted: RoutineEvents, control_dir: str = "control") -> None:
        self._wanted = wanted
        self._control_dir = control_dir
        self._book = SessionBook()
        self._planned = PlannedStops()
        self._states = {"": TradingState()}
        self._words: dict[tuple[str, StateCause], str] = {}
        self._since: dict[str, datetime] = {}
        self._lasting: dict[str, datetime] = {}
        self._feed = FeedAlertRules()
        self._not_ready: Notice | None = None
        self._vix = ""

    def apply(self, event: Event) -> list[Notice]:
        """Apply the next event; returns its notices."""
        cid, trades = event.cid or "", len(self._book.trades)
        before = self._book.order(cid)
        self._book.apply(event)
        self._planned.apply(event)
        self._states.setdefault(event.broker, TradingState())
        for broker, states in self._states.items():
            note_event(states, event, broker)
        self._remember(event)
        notices = [_closed(trade) for trade in self._book.trades[trades:]] if self._wanted.exits else []
        after = self._book.order(cid)
        if before is not None and not before.terminal and after is not None and after.terminal:
            notices += self._ended(after, event)
        notices += self._event_notices(event)
        notices += self._feed.apply(event)
        return [
            attrs.evolve(notice, key=f"{notice.key}event {event.seq}.{number}") for number, notice in enumerate(notices)
        ]

    def open_incidents(self, now: datetime) -> dict[str, Notice]:
        """The open incidents by key."""
        notices = [*self._of_causes(now), *self._of_orders(now), *self._of_positions(now), *self._of_the_session()]
        notices += self._feed.open_incidents(self._book.portfolio.symbols)
        self._since, self._lasting = self._lasting, {}
        return {notice.key: notice for notice in notices}

    def _remember(self, event: Event) -> None:
        if event.kind == records.NOT_READY:
            not_ready = event.facts(NotReady)
            why = "; ".join(map(_clause, not_ready.reasons))
            what = f"NOT READY for the session of {not_ready.session}: {why}."
            self._not_ready = Notice(key="not ready", urgency=Urgency.CRITICAL, what=what, command="tbot check")
        elif event.kind in {records.READY, records.SESSION_CLOSED, records.STOPPED}:
            self._not_ready = None
            if event.kind == records.READY:
                self._vix = vix_text(event.facts(Ready))
        elif event.kind == records.STATE:
            change = event.facts(StateChanged)
            self._words[change.broker, change.cause] = change.words

    def _ended(self, record: OrderRecord, event: Event) -> Iterator[Notice]:
        order = record.order
        if record.state is OrderState.REJECTED and self._wanted.failures:
            what = f"REJECTED {order.leg.value} of {format_quantity(order.quantity)} {order.symbol} by the broker: "
            words = event.facts(OrderReported).words
            what = f"[{order.signal.strategy.upper()}] {what}{words or 'it gave no reason'}"
            yield _routine(what, f"tbot why {order.symbol}")
        elif order.leg is Leg.ENTRY and record.filled and self._wanted.fills:
            stop = self._planned.of(order, self._book.orders.values())
            what = entry_text(order, record.filled, self._price(record), stop)
            yield _routine(what, f"tbot why {order.symbol}")

    def _price(self, record: OrderRecord) -> Decimal | None:
        # The average price of an entry's executions, else that of its position.
        fills = [fill for fill in record.executions.values() if fill.quantity]
        if fills:
            paid = sum((fill.quantity * fill.price for fill in fills), Decimal(0))
            return paid / sum((fill.quantity for fill in fills), Decimal(0))
        position = self._book.portfolio.positions.get(record.order.signal)
        return None if position is None else position.entry_price

    def _event_notices(self, event: Event) -> Iterator[Notice]:
        # Notices that follow from the event alone.
        match event.kind:
            case records.WINDOW_CLOSED:
                window = event.facts(WindowClosed)
                counts = f"{plural(window.candidates, 'candidate')}, {plural(window.triggers, 'signal')}"
                yield _routine(f"[{window.strategy.upper()}] Entries ended: {counts}.")
            case records.SESSION_CLOSED:
                yield _routine(self._summary(event.facts(SessionClosed)))
            case records.STOPPED:
                yield _stopped(event.facts(RunStopped))
            case records.CASH_SHARE:
                cash = event.facts(CashShareLeft)
                yield _routine(f"Cash is {cash.share * 100:.1f} % of equity, its target is {cash.target * 100:.1f} %.")
            case records.RISK:
                yield from _risk(event.facts(RiskChanged))
            case records.CONFIRMATION_ASKED:
                yield _question(event.facts(ConfirmationAsked))
            case records.FOREIGN_HOLDING:
                yield _routine(_foreign(event.facts(ForeignHolding)))
            case records.FOREIGN_ORDER:
                order = event.facts(ForeignOrder)
                which = f"{'buy' if order.buy else 'sell'} {order.quantity} {order.symbol}, {order.said}"
                yield _routine(f"An order at the broker was not placed by tbot: {which}.")
            case _:
                yield from self._other_notices(event)

    def _other_notices(self, event: Event) -> Iterator[Notice]:
        match event.kind:
            case records.PLUGIN_FAILED:
                failed = event.facts(PluginFailed)
                if failed.off or self._wanted.failures:
                    yield _plugin(failed)
            case records.CLOSING_LATE:
                late = event.facts(ClosingLate)
                yield _critical(
                    f"The session ends in two minutes and {position_text(late)} is still open: {late.words}."
                )
            case records.READY:
                yield _routine(_ready(event.facts(Ready)))
            case records.SETTINGS:
                yield _settings(event.facts(SettingsEdited))
            case records.HOLIDAY:
                holiday = event.facts(HolidayReported)
                yield _routine(f"Closed today, {holiday.date}: {holiday.name}. Next session: {holiday.next}.")
            case records.CALENDAR:
                hours = event.facts(HoursShortened)
                yield _routine(f"{hours.date}: the broker's calendar reports {hours.words}; it takes precedence.")
            case records.REQUEST_REFUSED if self._wanted.failures:
                refused = event.facts(RequestRefused)
                yield _routine(f"The request {printable_name(refused.name)} was refused: {refused.words}")
            case BrokerEventKind.BUSTED | BrokerEventKind.CORRECTED if self._wanted.failures:
                words = event.facts(OrderReported).words
                yield _routine(f"The broker reported an execution as {event.kind}: {words}")
            case _:
                yield from notices_of_event(event)

    def _summary(self, closed: SessionClosed) -> str:
        pnl, equity = format_money(closed.pnl, signed=True), format_money(closed.equity)
        trades = trades_text(closed.trades, len(closed.open))
        denials = f"{self._book.denials.total():,} ({DENIALS_COUNT})"
        bare, vix = unprotected_text(self._book.unprotected_s), f", {self._vix}" if self._vix else ""
        return f"Session {closed.date} ended: P&L {pnl}, {trades}, denials: {denials}, equity {equity}{vix}{bare}."

    def _of_causes(self, now: datetime) -> Iterator[Notice]:
        active = [(broker, cause) for broker, states in self._states.items() for cause in states.active]
        for broker, cause in active:
            key = f"{_STATE}{cause.name}" + (f" at {broker}" if broker else "")
            if cause is StateCause.UNRECONCILED and not self._lasts(key, now, UNKNOWN_AFTER):
                continue
            state, words = KINDS[cause].state, self._words.get((broker, cause))
            critical = state >= RiskState.EXIT_ONLY and cause not in _REQUESTED
            at = f" at {broker}" if broker else ""
            what = f"{_capital(state.word)}{at}: {cause.value}" + (f", {_clause(words)}" if words else "")
            if cause is StateCause.FEEDS_STALE and (held := self._book.portfolio.symbols):
                what += f", with {plural(len(held), 'open position')}: {first_names(held)}"
            elif cause is StateCause.FEEDS_STALE:
                critical, key = False, f"{key} without positions"
            command = NEXT_COMMANDS.get(cause, STATUS_COMMAND).format(control_dir=self._control_dir)
            yield Notice(key=key, urgency=_urgency(critical), what=f"{what}.", command=command)

    def _of_orders(self, now: datetime) -> Iterator[Notice]:
        for cid, record in self._book.orders.items():
            key, order = f"order {cid}", record.order
            which = f"{order.leg.value} of {format_quantity(order.quantity)} {order.symbol}"
            command = f"tbot why {order.symbol}"
            if record.state is OrderState.LOST:
                rest = "its exposure stays reserved" if order.leg is Leg.ENTRY else "another one takes its place"
                what = f"LOST: {which} is not at the broker; {rest}. Order {cid}."
                yield Notice(key=f"lost {cid}", urgency=Urgency.CRITICAL, what=what, command=command)
            elif record.state in _UNSURE and self._lasts(key, now, UNKNOWN_AFTER):
                what = f"UNKNOWN for {UNKNOWN_AFTER.seconds} s: {which} may be filled or not. Order {cid}."
                yield Notice(key=key, urgency=Urgency.CRITICAL, what=what, command=command)

    def _of_positions(self, now: datetime) -> Iterator[Notice]:
        for position in self._book.portfolio.positions.values():
            symbol, held, covered = position.symbol, quantity_of(position.units), self._covered(position)
            lot = f" {position.signal.text}" if position.instrument.is_shared else ""
            key = f"unprotected {symbol}{lot}"
            open_to_loss = self._book.in_session and covered is not None and held - covered >= 1
            if covered is not None and open_to_loss and self._lasts(key, now, _UNPROTECTED_AFTER):
                what = f"{position.side.word} {format_quantity(held)} {symbol}, stops cover {format_quantity(covered)}"
                yield Notice(key=key, urgency=Urgency.CRITICAL, what=f"UNPROTECTED: {what}.")
        for symbol, units in self._book.portfolio.unassigned_units.items() if self._book.in_session else ():
            side, much = (Side.LONG if units > 0 else Side.SHORT).word, format_quantity(quantity_of(abs(units)))
            what = f"{side} {much} {symbol} beyond all positions, without a stop"
            yield Notice(key=f"surplus {symbol}", urgency=Urgency.CRITICAL, what=f"UNPROTECTED: {what}.")

    def _covered(self, position: Position) -> Decimal | None:
        # The quantity that resting stops cover, None while an exit is in progress; one of unknown outcome is no cover.
        # Less than one share cannot rest as a stop; tbot watches it instead.
        of = position.symbol, position.signal
        mine = [record for record in self._book.orders.values() if (record.order.symbol, record.order.signal) == of]
        exits = (record for record in mine if record.order.leg is Leg.EXIT and not record.terminal)
        if any(exit_.state not in IN_DOUBT for exit_ in exits):
            return None
        stops = (record for record in mine if record.order.leg is Leg.STOP and record.state in _RESTING)
        return sum((stop.open_quantity for stop in stops), Decimal(0))

    def _of_the_session(self) -> Iterator[Notice]:
        if self._not_ready is not None:
            yield self._not_ready
        for payload in self._book.stuck:
            stuck = codec.read(PositionStuck, payload)
            symbol = stuck.symbol
            what = (
                f"STUCK: {position_text(stuck)} could not be closed, {stuck.words}; it will be closed at the next open."
            )
            yield Notice(key=f"stuck {symbol}", urgency=Urgency.CRITICAL, what=what, command=f"tbot why {symbol}")
        for symbol, words in self._book.frozen.items():
            what = f"FROZEN: no entries and no exits in {symbol}, {_clause(words)}."
            yield Notice(key=f"frozen {symbol}", urgency=Urgency.CRITICAL, what=what, command=f"tbot why {symbol}")
        for symbol, payload in self._book.disputed.items():
            disputed = contradiction_text(codec.read(PositionDisputed, payload))
            what = f"CONTRADICTED: {disputed}; nothing is sent in {symbol} until that is clear."
            yield Notice(key=f"disputed {symbol}", urgency=Urgency.CRITICAL, what=what, command=f"tbot why {symbol}")
        for payload in self._book.risk if self._book.in_session else ():
            change = codec.read(RiskChanged, payload)
            if change.what in _INCIDENTS:
                what = f"{_capital(change.what)} until the end of the session: {_compared(change)}."
                yield Notice(key=f"risk {change.what}", urgency=Urgency.CRITICAL, what=what)

    def _lasts(self, key: str, now: datetime, span: timedelta) -> bool:
        # Whether the condition has lasted longer than this.
        since = self._lasting[key] = self._since.get(key, now)
        return now - since > span


class FeedAlertRules:
    """Follows the journal's events."""

    def __init__(self) -> None:
        self._health = DataHealth()

    def apply(self, event: Event) -> Iterator[Notice]:
        """Apply the next event; returns its notices."""
        if event.kind == records.WINDOW_CLOSED:
            strategy = event.facts(WindowClosed).strategy
            if left_out := self._health.incomplete.get(strategy):
                yield _incomplete(strategy, left_out)
        over = self._health.over
        self._health.apply(event)
        if event.kind == records.UNIVERSE:
            yield _cut(event.facts(UniverseCut))
        if self._health.over and not over:
            yield _incident("", "The whole market is halted to the close (level 3): the session has ended.")

    def open_incidents(self, held: Collection[str]) -> Iterator[Notice]:
        """The open incidents; `held` are the symbols of positions."""
        health = self._health
        if health.lost and health.opened:
            yield _gap(health.opened, health.lost)
        for symbol, words in sorted(health.halted.items()):
            if held and (symbol in held or not symbol):
                yield _halt(symbol, words, held, over=health.over)
        for _, apart in sorted(health.apart.items()):
            yield _apart(apart)


def cause_of(key: str) -> StateCause | None:
    """The cause of the state whose incident has this key; None for other incidents."""
    return StateCause.__members__.get(key.split()[1]) if key.startswith(_STATE) else None


def notices_of_event(event: JournalEvent) -> Iterator[Notice]:
    """The notice for an event alone."""
    match event.kind:
        case records.INSTRUMENT:
            rules = event.facts(InstrumentRulesReported)
            if not rules.waiting:
                yield _incident("", f"{instrument_rules.instrument_rules_text(rules)}.", f"tbot why {rules.symbol}")
        case records.OTHER_TERMS:
            symbol = event.facts(OrderTermsDiffer).ordered.symbol
            what, command = f"{orphan_orders.misread_order_text(event.facts(OrderTermsDiffer))}.", f"tbot why {symbol}"
            yield Notice(key="", urgency=Urgency.CRITICAL, what=what, command=command)
        case records.VIX:
            yield from _unknown_vix(event.facts(VixRead))
        case records.DRIFT:
            day = event.facts(DriftMeasured).date
            what = f"The session of {day} beside its shadow run: {drift_sentence(event.payload)}"
            yield _incident("", what, f"tbot drift {day}")
        case kind if kind in failover.KINDS and kind != records.DRILL:  # a drill's operator sees its result
            what = f"{failover.failover_event_text(event)}."
            yield Notice(key="", urgency=_urgency_of(event), what=what, command=_command(event))


def _ready(ready: Ready) -> str:
    # The contents of a READY event; older journals lack some of them.
    parts = [ready.mode] if ready.mode else []
    parts += [f"armed to {ready.armed}"] if ready.armed else []
    limits = [limit for limit in (ready.feed_quality, ready.request_limit) if limit]
    feeds = [f"feed {ready.feed}" + (f" ({'; '.join(limits)})" if limits else "")] if ready.feed else []
    parts += [f"equity {format_money(ready.equity)}", *feeds, *(ready.windows or ["no strategy"])]
    parts += [UniverseCounts(**ready.universe.values).text] if ready.universe else []
    parts += ready.facts
    parts += [f"planned worst day {format_percent(ready.worst_day)}"] if ready.worst_day is not None else []
    cap = ready.first_live_day_cap
    parts += [f"first live day: entries of at most {format_money(cap)}"] if cap is not None else []
    parts += filter(None, [vix_text(ready)])
    parts += ["live VIX at the start of each window's entries"] if ready.vix_live else []
    parts += [f"holding {', '.join(ready.positions)}"] if ready.positions else []
    parts += [f"STUCK from an earlier session: {', '.join(ready.stuck)}"] if ready.stuck else []
    remarks = ready_remarks(ready)  # first: a short message is cut at its end
    details = f"{', '.join(parts)}."
    return " ".join((f"READY for the session of {ready.session}:", *remarks, _capital(details) if remarks else details))


def _stopped(stopped: RunStopped) -> Notice:
    # An unconfirmed end is critical.
    left, unread = ", ".join(stopped.open), stopped.unconfirmed.removesuffix(".")
    if left:
        more = f" The account could not be read: {unread}." if unread else ""
        return _critical(f"The run was stopped and left open: {left}.{more}")
    if unread:
        what = f"the books show nothing open, but the account could not be read: {unread}"
        return _critical(f"The run was stopped; {what}.")
    return _routine("The run was stopped; nothing is open.")


def _routine(what: str, command: str = STATUS_COMMAND) -> Notice:
    return Notice(key="", urgency=Urgency.ROUTINE, what=what, command=command)


def _critical(what: str) -> Notice:
    return Notice(key="", urgency=Urgency.CRITICAL, what=what)


def _risk(change: RiskChanged) -> Iterator[Notice]:
    if change.what not in _INCIDENTS:
        notice = _critical if change.what == _JUMP else _routine
        yield notice(f"{_capital(change.what)}: {_compared(change)}.")


def _foreign(holding: ForeignHolding) -> str:
    # External holdings count in the exposure limits, once their price is known.
    unpriced = holding.quantity and holding.states("price") and holding.price is None
    suffix = "; they count in no limit until their price is known" if unpriced else ""
    return f"The account holds {holding.quantity} {holding.symbol} that tbot does not manage{suffix}."


def _question(asked: ConfirmationAsked) -> Notice:
    until = both_times(asked.expires)
    what = f"Needs a confirmation until {until}: {asked_text(asked)}."
    return Notice(key=QUESTION, urgency=Urgency.ROUTINE, what=what, command=f"tbot confirm {asked.id}")


def _plugin(failed: PluginFailed) -> Notice:
    notice = _critical if failed.off else _routine
    what = failure_text(failed.plugin, failed.error, off=failed.off)
    return attrs.evolve(notice(what), command=f"tbot plugins info {failed.plugin}")


def _urgency(critical: bool) -> Urgency:  # noqa: FBT001  -- a single flag
    return Urgency.CRITICAL if critical else Urgency.ROUTINE


def _settings(edited: SettingsEdited) -> Notice:
    what = settings_text(edited)
    if edited.fault:
        return attrs.evolve(_critical(what), command="tbot config check")
    return _routine(f"{what}.", "tbot config show")


def _closed(trade: Trade) -> Notice:
    return _routine(exit_text(trade), f"tbot why {trade.symbol}")


def _clause(words: str) -> str:
    # Words of a plugin or broker within a sentence of ours: one capital and one period are enough.
    begun = words[0].lower() + words[1:] if words.startswith(("The ", "A ", "An ")) else words
    return begun.rstrip(".")


def _compared(change: RiskChanged) -> str:
    return f"{change.cause}, {figure_text(change.value)}, limit {figure_text(change.limit)}"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _unknown_vix(read: VixRead) -> Iterator[Notice]:
    if read.value is None and not read.candidates:
        what = f"[{read.strategy.upper()}] no entries: the live VIX is unknown. VIX_SOURCE=previous_close uses the"
        yield _incident("", f"{what} close of the session before instead.", "tbot config explain VIX_SOURCE")


def _urgency_of(event: JournalEvent) -> Urgency:
    match event.kind:
        case records.CIRCUIT:
            critical = event.facts(CircuitChanged).state == "open"
        case records.FAILOVER:
            critical = event.facts(FailoverChanged).phase is not FailoverPhase.OVER
        case kind:
            critical = kind == records.STANDBY_ABSENT
    return Urgency.CRITICAL if critical else Urgency.ROUTINE


def _command(event: JournalEvent) -> str:
    if event.kind == records.STANDBY_ABSENT:
        return "tbot check"
    if event.kind == records.FAILOVER:
        change = event.facts(FailoverChanged)
        if change.phase is FailoverPhase.REDUCE_ONLY:
            undrilled = change.why == FailoverBlocker.NO_DRILL.name
            return FAILOVER_DRILL_COMMAND if undrilled else FAILOVER_CONFIRM_COMMAND
    return FAILOVER_STATUS_COMMAND


def _incomplete(strategy: str, symbols: list[str]) -> Notice:
    what = f"ANALYSIS_INCOMPLETE: {plural(len(symbols), 'signal')} of {strategy} not entered, because the feed lost a "
    return _incident("", f"{what}minute of the analysis: {first_names(symbols)}.", f"tbot why {symbols[0]}")


def _cut(universe: UniverseCut) -> Notice:
    kept = f"{universe.kept} of {universe.whole} symbols are subscribed, by {universe.by} of {universe.limit}"
    what = f"UNIVERSE_TRUNCATED: {kept}; dropped: {first_names(universe.cut)}."
    return _incident("", what, "tbot config explain UNIVERSE_MAX")


def _gap(opened: datetime, lost: set[int]) -> Notice:
    first, end = (opened + timedelta(minutes=minute) for minute in (min(lost), max(lost) + 1))
    what = f"The feed lost {plural(len(lost), 'minute')} between {both_times(first)} and {both_times(end)}"
    return _incident("feed gap", f"{what}{MISSING}.")


def _halt(symbol: str, words: str, held: Collection[str], *, over: bool) -> Notice:
    why = f" ({words})" if words else ""
    if symbol:
        what = f"{symbol} is halted{why} with an open position: exits wait, the stop keeps working."
        return _incident(f"halt {symbol}", what, f"tbot why {symbol}")
    until = " to the close" if over else ""
    what = (
        f"The whole market is halted{until}{why}; open positions: {first_names(held)}: exits wait, stops keep working."
    )
    return _incident("halt", what)


def _apart(apart: FeedsApart) -> Notice:
    symbol, where = apart.symbol, f" at {apart.broker}" if apart.broker else ""
    at = f"{format_price(apart.feed)} at the feed, {format_price(apart.theirs)} at {apart.broker or 'the broker'}"
    return _incident(
        f"feeds apart {symbol}{where}", f"No entries in {symbol}{where}: its price is {at}.", f"tbot why {symbol}"
    )


def _incident(key: str, what: str, command: str = "tbot status") -> Notice:
    return Notice(key=key, urgency=Urgency.ROUTINE, what=what, command=command)
