"""The events of a run as lines of text."""

from __future__ import annotations

from copy import deepcopy
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from tbot_core.execution import instrument_rules, orphan_orders
from tbot_core.execution.trading_state import OVER, note_event
from tbot_core.journal import records
from tbot_core.journal.codec import EventFacts
from tbot_core.journal.events.feeds import FeedFilled, FeedGap, FeedsApart, HaltReported, UniverseCut, VixRead
from tbot_core.journal.events.orders import (
    ConfirmationAsked,
    OrderReported,
    OrderTermsDiffer,
    SignalJudged,
    TopUpDecided,
)
from tbot_core.journal.events.risk import (
    PositionLeft,
    PositionStuck,
    RequestExecuted,
    RequestRefused,
    RiskChanged,
    StateChanged,
)
from tbot_core.journal.events.sessions import (
    HolidayReported,
    NotReady,
    PluginFailed,
    Ready,
    SessionClosed,
    SessionOpened,
    SettingsEdited,
    WindowClosed,
)
from tbot_core.journal.projections import failover
from tbot_core.journal.projections.book import SessionBook
from tbot_core.journal.projections.event_text import (
    PlannedStops,
    action_text,
    asked_text,
    contradiction_text,
    entry_text,
    exit_text,
    ready_remarks,
    settings_text,
    unprotected_text,
)
from tbot_core.journal.projections.restarts import Restart, restart_text
from tbot_core.model.calendar import ENDS_THE_DAY
from tbot_core.model.formatting import (
    figure_text,
    format_money,
    format_percent,
    format_price,
    format_quantity,
    plural,
    printable_name,
    trades_text,
)
from tbot_core.model.reasons import Reason
from tbot_core.model.types import BrokerEventKind, Fill, Leg, Trade
from tbot_core.plugins.call_guard import failure_text
from tbot_core.reports.drift import drift_lines
from tbot_core.trading.risk.states import KINDS, CauseEnd, StateCause, TradingState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tbot_core.journal.events.accounts import SplitBooked, SymbolFrozen
    from tbot_core.journal.projection import JournalEvent

_Weight = Literal["session", "entry", "exit", "risk", "denial", "window"]
LOUD: Final = frozenset({"session", "entry", "exit", "risk"})
"""The weights shown as plain lines; the live view shows the others too."""

_MISSED: Final = Reason.ENTRY_NOT_FILLED.name
_USUAL: Final = StateCause.UNRECONCILED
"""What comes and goes with every start: NOT READY names it where it lasts."""

_DATA_KINDS: Final = frozenset(
    {records.UNIVERSE, records.FEED_GAP, records.FEED_FILLED, records.HALT, records.FEEDS_APART}
)
_ENDS: Final = {
    CauseEnd.RECONCILE: "the account has agreed with the journal for 60 s",
    CauseEnd.QUIET: "15 minutes have passed without it",
    CauseEnd.SESSION: "the end of the session",
}
"""When the effect of a cause ends that is over."""

_WEIGHTS: Final[Mapping[str, _Weight]] = {
    records.SESSION_OPENED: "session",
    records.HOLIDAY: "session",
    records.SETTINGS: "session",
    records.DECISION: "denial",
    records.TOP_UP: "denial",
    records.WINDOW_CLOSED: "window",
    records.VIX: "window",
}
"""The weights of events that are no risk."""


@attrs.frozen(kw_only=True)
class EventLine:
    """One event: its time (UTC), its text and its weight; `gain` is the profit of an exit, `symbol` "" without one.

    A fill has its own time, as in every table: the start of the bar that filled it. Other events have the time of the
    decision or report; None if the text belongs to no moment of the run.
    """

    time: datetime | None
    text: str
    weight: _Weight
    gain: Decimal | None = None
    symbol: str = ""


class EventNarrator:
    """Follows the events that a run writes; `book` is their projection."""

    def __init__(self) -> None:
        self.book = SessionBook()
        self._states: dict[str, TradingState] = {"": TradingState()}
        self._planned = PlannedStops()
        self._restart = Restart()
        self._remarks: tuple[date | None, list[str]] = (None, [])

    def continue_from(self, book: SessionBook) -> None:
        """Continue from a journal that was begun before, whose projection is `book`; the book itself stays as it is."""
        self.book = deepcopy(book)

    def lines_for(self, entries: Iterable[JournalEvent]) -> list[EventLine]:
        """The lines for these events."""
        lines: list[EventLine] = []
        for entry in entries:
            before, missed = len(self.book.trades), self.book.denials[_MISSED]
            self.book.apply(entry)
            self._planned.apply(entry)
            self._restart.apply(entry)
            self._states_of(entry)
            for broker, states in self._states.items():
                note_event(states, entry, broker)
            new = self._lines_of(entry, self.book.trades[before:])
            lines += [attrs.evolve(line, symbol=_symbol(entry)) for line in new]
            if self.book.denials[_MISSED] > missed:
                lines.append(self._missed(entry))
            if entry.kind == records.DRIFT:
                texts = (f"Drift: {text.strip()}" for text in drift_lines(entry.payload))
                lines += [EventLine(time=entry.applied, text=text, weight="session") for text in texts]
        return lines

    def _states_of(self, entry: JournalEvent) -> TradingState:
        # The causes of the account that an event names; those of before the first event are not known.
        return self._states.setdefault(entry.broker, TradingState())

    def _lines_of(self, entry: JournalEvent, closed: Sequence[Trade]) -> list[EventLine]:
        weight: _Weight | None = None
        text = ""
        match entry.kind:
            case records.SESSION_CLOSED:
                weight, text = "session", event_words(entry) + unprotected_text(self.book.unprotected_s)
            case records.STATE:
                weight, text = self._state(entry)
            case records.READY:
                remarks = self._new_remarks(entry.facts(Ready))
                return [EventLine(time=entry.applied, text=text, weight="session") for text in remarks]
            case kind if kind in _DATA_KINDS:
                weight, text = _data_weight(entry), event_words(entry)
            case records.DECISION | records.TOP_UP if entry.facts(SignalJudged).reason == Reason.ALLOWED.name:
                pass
            case kind if kind in _TEXTS or kind in failover.KINDS:
                weight, text = _WEIGHTS.get(kind, "risk"), event_words(entry)
            case BrokerEventKind.FILL if entry.cid is not None:
                fill = entry.facts(OrderReported).fill(entry.cid)
                return [] if fill is None else [self._filled(fill, closed)]
        return [] if weight is None else [EventLine(time=entry.applied, text=text, weight=weight)]

    def _state(self, entry: JournalEvent) -> tuple[_Weight, str]:
        # A change of the state; what comes and goes with every start tells of a restart.
        change = entry.facts(StateChanged)
        usual = change.cause is _USUAL
        if usual and self._restart.at is not None:
            return "session", restart_text(self._restart)
        return "window" if usual else "risk", _state_text(change, self._states_of(entry))

    def _new_remarks(self, ready: Ready) -> list[str]:
        # Those of a session once: each start has a READY.
        session, said = self._remarks
        remarks = [remark.removesuffix(".") for remark in ready_remarks(ready)]
        self._remarks = (ready.session, remarks)
        return remarks if ready.session != session else [remark for remark in remarks if remark not in said]

    def _missed(self, entry: JournalEvent) -> EventLine:
        record = self.book.orders[entry.cid or ""]
        text = f"{entry_text(record.order, record.order.quantity, None, None)} not filled: {record.state.value}"
        return EventLine(time=entry.applied, text=text, weight="denial", symbol=record.order.symbol)

    def _filled(self, fill: Fill, closed: Sequence[Trade]) -> EventLine:
        if closed:
            trade = closed[-1]
            return EventLine(time=trade.exit_time, text=exit_text(trade), weight="exit", gain=trade.pnl)
        how_much = f"{format_quantity(fill.quantity)} {fill.symbol} @ {format_price(fill.price)}"
        record = self.book.order(fill.client_order_id)
        if record is None:  # an order of an earlier session
            what = f"FILL of an earlier session's order: {'BUY' if fill.buy else 'SELL'} {how_much}"
            return EventLine(time=fill.time, text=what, weight="exit")
        order = record.order
        if order.leg is not Leg.ENTRY:
            text = f"[{order.signal.strategy.upper()}] REDUCE {how_much}"
            return EventLine(time=fill.time, text=text, weight="entry")
        stop = self._planned.of(order, self.book.orders.values())
        return EventLine(time=fill.time, text=entry_text(order, fill.quantity, fill.price, stop), weight="entry")


def window_words(strategy: str, candidates: int, triggers: int, near_misses: Sequence[tuple[str, float]]) -> str:
    """The end of a window: candidates, triggers, and the nearest misses, each with its relative distance."""
    near = [f"{symbol} {format_percent(distance)}" for symbol, distance in near_misses]
    closest = f"; near: {', '.join(near)}" if near else ""
    return f"[{strategy.upper()}] window: {plural(candidates, 'candidate')}, {plural(triggers, 'trigger')}{closest}"


def event_words(event: JournalEvent) -> str:
    """An event as one line, without what follows from others; "" for a kind without words."""
    describe = _TEXTS.get(event.kind)
    if describe is not None:
        return describe(event.facts(EventFacts))
    return failover.failover_event_text(event) if event.kind in failover.KINDS else ""


def universe_text(universe: UniverseCut) -> str:
    """How many symbols of the universe are kept, and by which limit."""
    denied = universe.denials
    kept = f"{universe.kept} of {universe.whole} symbols, by {universe.by} of {universe.limit}"
    return f"{kept}; filters deny {denied} of the others" if denied else kept


def unprotected_sentences(unprotected: Sequence[str], cancelling: Sequence[str]) -> Iterator[str]:
    """What is open without a stop order, apart from what may still have one: its cancel is not confirmed."""
    without = [symbol for symbol in unprotected if symbol not in cancelling]
    if without:
        yield f"Without a stop order: {', '.join(without)}."
    if cancelling:
        names = ", ".join(cancelling)
        yield f"The cancel of the stop order was requested and not confirmed, so it may still rest: {names}."


def stopped_sentence(positions: Sequence[str], unconfirmed: str) -> str:
    """The result of a stopped run and what it left open; `unconfirmed` is why the account could not be read then."""
    unread = unconfirmed.removesuffix(".")
    if positions:
        more = f" The account could not be read: {unread}." if unread else ""
        return f"Stopped and left open: {', '.join(positions)}.{more}"
    if unread:
        return f"Stopped; the books show nothing open, but the account could not be read: {unread}."
    return "Stopped; nothing is open."


def _data_weight(entry: JournalEvent) -> _Weight:
    # An event of the market data is a warning, unless it says that something is as usual again.
    match entry.kind:
        case records.FEED_FILLED:
            warns = entry.facts(FeedFilled).open > 0
        case records.HALT:
            warns = entry.facts(HaltReported).halted
        case records.FEEDS_APART:
            warns = entry.facts(FeedsApart).there
        case _:
            warns = True
    return "risk" if warns else "session"


def _symbol(entry: JournalEvent) -> str:
    # The symbol that an event is about, "" without one.
    facts = entry.facts(EventFacts)
    symbol = getattr(getattr(facts, "signal", facts), "symbol", None)
    return symbol or ""


def _window(window: WindowClosed) -> str:
    near = [(miss.symbol, miss.distance) for miss in window.near_misses]
    words = window_words(window.strategy, window.candidates, window.triggers, near)
    left_out = ", ".join(window.bad_prints)
    return f"{words}; BAD_PRINT, first bar ignored: {left_out}" if left_out else words


def _holiday(holiday: HolidayReported) -> str:
    return f"Closed, {holiday.name}; next session {holiday.next}"


def _settings(edited: SettingsEdited) -> str:
    text = settings_text(edited)
    return text if edited.fault or edited.changes else f"{text}."


def _opened(opened: SessionOpened) -> str:
    symbols, equity = plural(opened.symbols, "symbol"), format_money(opened.equity)
    return f"Session {opened.date}: {symbols}, equity {equity}"


def _vix(read: VixRead) -> str:
    value = "unknown" if read.value is None else f"{read.value:.2f}"
    return f"[{read.strategy.upper()}] window: VIX {value}, {plural(read.candidates, 'candidate')}"


def _risk(change: RiskChanged) -> str:
    value, limit = figure_text(change.value), figure_text(change.limit)
    return f"Risk: {change.what}, {change.cause} ({value} against {limit})"


def _request(request: RequestExecuted) -> str:
    more = f" (invalid file content: {request.flaw})" if request.flaw else ""
    more += ", withdrawn before it took effect" if request.withdrawn else ""
    entry = request.arguments.get("id", "")  # of a confirmation
    return f"{request.verb}{entry and f' {entry}'} requested by {request.actor}{more}"


def _refused(refused: RequestRefused) -> str:
    return f"control/{printable_name(refused.name)} was refused: {refused.words}"


def _state_text(change: StateChanged, states: TradingState) -> str:
    cause, at = change.cause, f" at {change.broker}" if change.broker else ""
    if change.there:
        return _raised(cause, change.state, at, states)
    state = f"state {change.state}{at}{_reason(cause, change.state, states)}"
    if change.words == OVER:
        return f"No longer in effect: {cause.value}; {state}"
    if cause is StateCause.UNRECONCILED:
        return f"The account has been read; {state}"
    return f"{cause.value} cleared; {state}" if _is_withdrawn(cause) else f"Over: {cause.value}; {state}"


def _raised(cause: StateCause, state: str, at: str, states: TradingState) -> str:
    # A new cause; the state that applies may be another one than it requires, by other causes or the session's losses.
    required = KINDS[cause].state.word
    if required == state:
        return f"State {state}{at}: {cause.value}"
    return f"State {state}{at}{_reason(cause, state, states)}; {required}: {cause.value}"


def _is_withdrawn(cause: StateCause) -> bool:
    return KINDS[cause].end is CauseEnd.WITHDRAWAL


def _reason(cause: StateCause, state: str, states: TradingState) -> str:
    # Why a state goes on after a cause is over: because of others, or until the effect of this one ends.
    causes = [one for one in states.causes if KINDS[one].state.word == state]
    others = ", ".join(one.value for one in causes if one is not cause)
    if others:
        return f" ({others})"
    return f" until {_ENDS[KINDS[cause].end]}" if causes else ""


def _confirmation(asked: ConfirmationAsked) -> str:
    return f"Needs a confirmation, `tbot confirm {asked.id}`: {asked_text(asked)}"


def _plugin(failed: PluginFailed) -> str:
    return failure_text(failed.plugin, failed.error, off=failed.off)


def _split(split: SplitBooked) -> str:
    return f"{split.before} {split.symbol} became {split.after}: {split.words}"


def _frozen(frozen: SymbolFrozen) -> str:
    return f"{frozen.symbol} is {'frozen' if frozen.there else 'free again'}: {frozen.words}"


def _left(position: PositionLeft) -> str:
    what = f"{position.side} {position.symbol} {format_quantity(position.quantity)}"
    return f"{'STUCK' if isinstance(position, PositionStuck) else 'Not closed yet'}: {what}, {position.words}"


def _closed(closed: SessionClosed) -> str:
    trades = trades_text(closed.trades, len(closed.open))
    result = f"P&L {format_money(closed.pnl, signed=True)}, equity {format_money(closed.equity)}"
    return f"Session {closed.date} closed: {trades}, {result}"


def _denied(judged: SignalJudged) -> str:
    action = action_text(judged, "TOP-UP " if isinstance(judged, TopUpDecided) else "")
    value, limit = figure_text(judged.value), figure_text(judged.limit)
    figures = "" if judged.value is None else f" ({value} of {limit})"
    return f"{action} {judged.signal.symbol} denied: {judged.reason}{figures}"


def _not_ready(not_ready: NotReady) -> str:
    reasons = "; ".join(reason.rstrip(".") for reason in not_ready.reasons)
    return f"NOT READY for the session of {not_ready.session}: {reasons}"


def _misread(differ: OrderTermsDiffer) -> str:
    return orphan_orders.misread_order_text(differ)


def _universe(universe: UniverseCut) -> str:
    return f"UNIVERSE_TRUNCATED: {universe_text(universe)}"


def _gap(gap: FeedGap) -> str:
    return f"Feed: {gap.words}, {plural(gap.last - gap.first + 1, 'minute')} to backfill"


def _filled(filled: FeedFilled) -> str:
    return f"Feed: {plural(len(filled.minutes), 'minute')} backfilled, {filled.open} still missing"


def _apart(apart: FeedsApart) -> str:
    word = "differ" if apart.there else "agree again"
    at = f"{format_price(apart.feed)} and {format_price(apart.theirs)}"
    return f"{apart.symbol}: feed and {apart.broker or 'broker'} {word}, {at}"


def _halt(halt: HaltReported) -> str:
    level = f"level {halt.level}" if halt.level else ""
    words = ", ".join(filter(None, (level, halt.words)))
    why = f" ({words})" if words else ""
    until = " to the close" if halt.level >= ENDS_THE_DAY else ""
    what = f"halted{until}" if halt.halted else "trading again"
    return f"{halt.symbol or 'The whole market'} is {what}{why}"


_TEXTS: Final[Mapping[str, Callable[[Any], str]]] = {
    records.SESSION_OPENED: _opened,
    records.SESSION_CLOSED: _closed,
    records.HOLIDAY: _holiday,
    records.SETTINGS: _settings,
    records.WINDOW_CLOSED: _window,
    records.VIX: _vix,
    records.DECISION: _denied,
    records.TOP_UP: _denied,
    records.RISK: _risk,
    records.REQUEST: _request,
    records.REQUEST_REFUSED: _refused,
    records.NOT_READY: _not_ready,
    records.PLUGIN_FAILED: _plugin,
    records.CLOSING_LATE: _left,
    records.STUCK: _left,
    records.FROZEN: _frozen,
    records.DISPUTED: contradiction_text,
    records.CORPORATE_ACTION: _split,
    records.INSTRUMENT: instrument_rules.instrument_rules_text,
    records.OTHER_TERMS: _misread,
    records.CONFIRMATION_ASKED: _confirmation,
    records.UNIVERSE: _universe,
    records.FEED_GAP: _gap,
    records.FEED_FILLED: _filled,
    records.HALT: _halt,
    records.FEEDS_APART: _apart,
}
