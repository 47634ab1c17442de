"""The events of a run as lines of text."""

from __future__ import annotations

from copy import deepcopy
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from tbot_core.engine.session.requests import WITHDRAWN
from tbot_core.execution import instrument_rules, orphan_orders
from tbot_core.execution.trading_state import OVER, note_event
from tbot_core.journal import records
from tbot_core.journal.projections import failover_text
from tbot_core.journal.projections.book import SessionBook
from tbot_core.journal.projections.ready_remarks import ready_remarks
from tbot_core.journal.projections.restarts import Restart, restart_text
from tbot_core.journal.projections.trade_text import (
    PlannedStops,
    contradiction_text,
    entry_text,
    exit_text,
    unprotected_text,
)
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
from tbot_core.model.types import BrokerEventKind, Leg
from tbot_core.plugins.call_guard import failure_text
from tbot_core.reports.drift import drift_lines
from tbot_core.trading.risk.states import KINDS, CauseEnd, StateCause, TradingState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tbot_core.journal.projection import JournalEvent
    from tbot_core.model.types import Trade

Weight = Literal["session", "entry", "exit", "risk", "denial", "window"]
LOUD: Final = frozenset({"session", "entry", "exit", "risk"})
"""The weights shown as plain lines; the live view shows the others too."""

_MISSED: Final = Reason.ENTRY_NOT_FILLED.name
_USUAL: Final = frozenset({StateCause.UNRECONCILED.name})
"""What comes and goes with every start: NOT READY names it where it lasts."""

DATA_KINDS: Final = frozenset(
    {records.UNIVERSE, records.FEED_GAP, records.FEED_FILLED, records.HALT, records.FEEDS_APART}
)


@attrs.frozen(kw_only=True)
class EventLine:
    """One event: its time (UTC), its text and its weight; `gain` is the profit of an exit, `symbol` "" without one.

    A fill has its own time, as in every table: the start of the bar that filled it. Other events have the time of the
    decision or report; None if the text belongs to no moment of the run.
    """

    time: datetime | None
    text: str
    weight: Weight
    gain: Decimal | None = None
    symbol: str = ""


class EventNarrator:
    """Follows the events that a run writes; `book` is their projection."""

    def __init__(self) -> None:
        self.book = SessionBook()
        self._states: dict[str, TradingState] = {"": TradingState()}
        self._planned = PlannedStops()
        self._restart = Restart()
        self._remarks: tuple[str, list[str]] = ("", [])

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
            self._states_of(entry.payload)
            for broker, states in self._states.items():
                note_event(states, entry, broker)
            symbol = _symbol(entry.payload)
            lines += [attrs.evolve(one, symbol=symbol) for one in self._lines_of(entry, self.book.trades[before:])]
            if self.book.denials[_MISSED] > missed:
                lines.append(self._missed(entry))
            if entry.kind == records.DRIFT:
                found = (one.strip() for one in drift_lines(entry.payload))
                lines += [EventLine(time=entry.applied, text=f"Drift: {one}", weight="session") for one in found]
        return lines

    def _states_of(self, payload: Mapping[str, Any]) -> TradingState:
        # The causes of the account that an event names; those of before the first event are not known.
        return self._states.setdefault(payload.get("broker", ""), TradingState())

    def _lines_of(self, entry: JournalEvent, closed: Sequence[Trade]) -> list[EventLine]:
        weight: Weight | None = None
        payload, text = entry.payload, ""
        match entry.kind:
            case records.SESSION_OPENED | records.SESSION_CLOSED | records.HOLIDAY | records.SETTINGS:
                weight, text = "session", _day(entry.kind, payload)
                text += unprotected_text(self.book.unprotected_s) if entry.kind == records.SESSION_CLOSED else ""
            case records.RISK:
                weight, text = "risk", _risk(payload)
            case records.STATE | records.REQUEST | records.REQUEST_REFUSED:
                weight, text = self._state(entry.kind, payload)
            case kind if kind in _RISK_TEXTS:
                weight, text = "risk", _RISK_TEXTS[kind](payload)
            case kind if kind in DATA_KINDS:
                weight, text = _data_weight(kind, payload), data_words(kind, payload)
            case records.DECISION | records.TOP_UP if payload["reason"] != "ALLOWED":
                weight, text = "denial", _denied(payload, "TOP-UP " if entry.kind == records.TOP_UP else "")
            case records.READY:
                found = self._new_remarks(payload)
                return [EventLine(time=entry.applied, text=one.removesuffix("."), weight="session") for one in found]
            case records.WINDOW_CLOSED | records.VIX:
                weight, text = "window", (_vix if entry.kind == records.VIX else _window)(payload)
            case BrokerEventKind.FILL if entry.cid is not None:
                return [self._filled(entry, closed)]
        return [] if weight is None else [EventLine(time=entry.applied, text=text, weight=weight)]

    def _state(self, kind: str, payload: Mapping[str, Any]) -> tuple[Weight, str]:
        # A change of the state or a request; what comes and goes with every start tells of a restart.
        usual = payload.get("cause") in _USUAL
        if usual and self._restart.at is not None:
            return "session", restart_text(self._restart)
        return "window" if usual else "risk", _state_text(kind, payload, self._states_of(payload))

    def _new_remarks(self, payload: Mapping[str, Any]) -> list[str]:
        # Those of a session once: each start has a READY.
        session, said = self._remarks
        found = ready_remarks(payload)
        new = found if payload.get("session") != session else [one for one in found if one not in said]
        self._remarks = (payload.get("session", ""), found)
        return new

    def _missed(self, entry: JournalEvent) -> EventLine:
        record = self.book.orders[entry.cid or ""]
        text = f"{entry_text(record.order, record.order.quantity, None, None)} not filled: {record.state.value}"
        return EventLine(time=entry.applied, text=text, weight="denial", symbol=record.order.symbol)

    def _filled(self, entry: JournalEvent, closed: Sequence[Trade]) -> EventLine:
        if closed:
            trade = closed[-1]
            return EventLine(time=trade.exit_time, text=exit_text(trade), weight="exit", gain=trade.pnl)
        fill, record = entry.payload, self.book.orders.get(entry.cid or "")
        shares, at = (Decimal(fill[name]) for name in ("quantity", "price"))
        how_much, time = f"{format_quantity(shares)} {fill['symbol']} @ {format_price(at)}", _time(fill)
        if record is None:  # an order of an earlier session
            what = f"FILL of an earlier session's order: {'BUY' if fill['buy'] else 'SELL'} {how_much}"
            return EventLine(time=time, text=what, weight="exit")
        order = record.order
        if order.leg is not Leg.ENTRY:
            return EventLine(time=time, text=f"[{order.signal.strategy.upper()}] REDUCE {how_much}", weight="entry")
        stop = self._planned.of(order, self.book.orders.values())
        return EventLine(time=time, text=entry_text(order, shares, at, stop), weight="entry")


def _data_weight(kind: str, payload: Mapping[str, Any]) -> Weight:
    # An event of the market data is a warning, unless it says that something is as usual again.
    usual = {records.FEED_FILLED: "open", records.HALT: "halted", records.FEEDS_APART: "there"}
    return "session" if kind in usual and not payload[usual[kind]] else "risk"


def _symbol(payload: Mapping[str, Any]) -> str:
    found = payload.get("signal", payload).get("symbol", "")
    return found if isinstance(found, str) else ""


def _time(fill: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(fill["time"])


def window_words(strategy: str, candidates: int, triggers: int, near_misses: Sequence[Mapping[str, Any]]) -> str:
    """The end of a window: candidates, triggers, and the nearest misses."""
    near = [f"{one['symbol']} {format_percent(one['distance'])}" for one in near_misses]
    closest = f"; near: {', '.join(near)}" if near else ""
    return f"[{strategy.upper()}] window: {plural(candidates, 'candidate')}, {plural(triggers, 'trigger')}{closest}"


def _window(payload: Mapping[str, Any]) -> str:
    words = window_words(*(payload[name] for name in ("strategy", "candidates", "triggers", "near_misses")))
    left_out = ", ".join(payload.get("bad_prints", ()))
    return f"{words}; BAD_PRINT, first bar ignored: {left_out}" if left_out else words


def _day(kind: str, payload: Mapping[str, Any]) -> str:
    # A session's open or close, a holiday, or changed settings.
    if kind == records.SETTINGS:
        return settings_words(payload)
    if kind == records.HOLIDAY:
        return f"Closed, {payload['name']}; next session {payload['next']}"
    return _opened(payload) if kind == records.SESSION_OPENED else _closed(payload)


def settings_words(payload: Mapping[str, Any]) -> str:
    """Which settings of a running bot were changed, and when they take effect."""
    if payload["fault"]:
        return f"The changed settings are invalid, so the run keeps its previous ones: {payload['fault']}"
    changes = ", ".join(
        f"{name} {old or 'unset'} -> {new or 'unset'}" for name, (old, new) in payload["changes"].items()
    )
    if not changes:
        return "The settings files have changed, but no value differs."
    return f"The settings have changed, effective from the next session: {changes}"


def _opened(payload: Mapping[str, Any]) -> str:
    symbols, equity = plural(payload["symbols"], "symbol"), format_money(Decimal(payload["equity"]))
    return f"Session {payload['date']}: {symbols}, equity {equity}"


def _vix(payload: Mapping[str, Any]) -> str:
    value = "unknown" if payload["value"] is None else f"{payload['value']:.2f}"
    return f"[{payload['strategy'].upper()}] window: VIX {value}, {plural(payload['candidates'], 'candidate')}"


def _risk(payload: Mapping[str, Any]) -> str:
    value, limit = figure_text(payload["value"]), figure_text(payload["limit"])
    return f"Risk: {payload['what']}, {payload['cause']} ({value} against {limit})"


_ENDS: Final = {
    CauseEnd.RECONCILE: "the account has agreed with the journal for 60 s",
    CauseEnd.QUIET: "15 minutes have passed without it",
    CauseEnd.SESSION: "the end of the session",
}
"""When the effect of a cause ends that is over."""


def _state_text(kind: str, payload: Mapping[str, Any], states: TradingState) -> str:
    # A request, its refusal, or a change of the state.
    if kind == records.REQUEST:
        flaw = payload.get("flaw", "")
        more = f" (invalid file content: {flaw})" if flaw else ""
        more += ", withdrawn before it took effect" if WITHDRAWN in payload else ""
        entry = payload.get("arguments", {}).get("id", "")  # of a confirmation
        return f"{payload['verb']}{entry and f' {entry}'} requested by {payload['actor']}{more}"
    if kind == records.REQUEST_REFUSED:
        return f"control/{printable_name(payload['name'])} was refused: {payload['words']}"
    cause, at = StateCause[payload["cause"]], f" at {payload['broker']}" if "broker" in payload else ""
    if payload["there"]:
        return _raised(cause, payload["state"], at, states)
    state = f"state {payload['state']}{at}{_reason(cause, payload['state'], states)}"
    if payload["words"] == OVER:
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


def _confirmation_text(payload: Mapping[str, Any]) -> str:
    signal, at = payload["signal"], format_price(Decimal(str(payload["price"])))
    what = f"{_action(payload)} {format_quantity(Decimal(payload['quantity']))} {signal['symbol']}"
    return f"Needs a confirmation, `tbot confirm {payload['id']}`: {what} @ about {at}"


def _problem_text(kind: str, payload: Mapping[str, Any]) -> str:
    # A failed plugin, a split, a frozen symbol, or a position that is not closed yet or STUCK.
    if kind == records.PLUGIN_FAILED:
        return failure_text(payload["plugin"], payload["error"], off=payload["off"])
    if kind == records.CORPORATE_ACTION:
        return f"{payload['before']} {payload['symbol']} became {payload['after']}: {payload['words']}"
    if kind == records.FROZEN:
        return f"{payload['symbol']} is {'frozen' if payload['there'] else 'free again'}: {payload['words']}"
    what = f"{payload['side']} {payload['symbol']} {format_quantity(Decimal(payload['quantity']))}"
    return f"{'STUCK' if kind == records.STUCK else 'Not closed yet'}: {what}, {payload['words']}"


def _closed(payload: Mapping[str, Any]) -> str:
    pnl, equity = (Decimal(payload[name]) for name in ("pnl", "equity"))
    trades = trades_text(payload["trades"], len(payload.get("open", ())))
    made = f"P&L {format_money(pnl, signed=True)}, equity {format_money(equity)}"
    return f"Session {payload['date']} closed: {trades}, {made}"


def _denied(payload: Mapping[str, Any], what: str = "") -> str:
    signal = payload["signal"]
    value, limit = figure_text(payload["value"]), figure_text(payload["limit"])
    figures = "" if payload["value"] is None else f" ({value} of {limit})"
    return f"{_action(payload, what)} {signal['symbol']} denied: {payload['reason']}{figures}"


def _action(payload: Mapping[str, Any], what: str = "") -> str:
    return f"[{payload['signal']['strategy'].upper()}] {what}{'BUY' if payload['side'] == 'long' else 'SELL SHORT'}"


def _not_ready(payload: Mapping[str, Any]) -> str:
    reasons = "; ".join(reason.rstrip(".") for reason in payload["reasons"])
    return f"NOT READY for the session of {payload['session']}: {reasons}"


_RISK_TEXTS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    records.NOT_READY: _not_ready,
    records.PLUGIN_FAILED: partial(_problem_text, records.PLUGIN_FAILED),
    records.CLOSING_LATE: partial(_problem_text, records.CLOSING_LATE),
    records.STUCK: partial(_problem_text, records.STUCK),
    records.FROZEN: partial(_problem_text, records.FROZEN),
    records.DISPUTED: contradiction_text,
    records.CORPORATE_ACTION: partial(_problem_text, records.CORPORATE_ACTION),
    records.INSTRUMENT: instrument_rules.instrument_rules_text,
    records.TAKEN_OTHERWISE: orphan_orders.misread_order_text,
    records.CONFIRMATION_ASKED: _confirmation_text,
    **{kind: partial(failover_text.failover_event_text, kind) for kind in failover_text.KINDS},
}


def data_words(kind: str, payload: Mapping[str, Any]) -> str:
    """An event of the market data, as one line."""
    match kind:
        case records.UNIVERSE:
            return f"UNIVERSE_TRUNCATED: {universe_text(payload)}"
        case records.FEED_GAP:
            return f"Feed: {payload['words']}, {plural(payload['last'] - payload['first'] + 1, 'minute')} to backfill"
        case records.FEED_FILLED:
            return f"Feed: {plural(len(payload['minutes']), 'minute')} backfilled, {payload['open']} still missing"
        case records.HALT:
            return _halt(payload)
        case _:
            word = "differ" if payload["there"] else "agree again"
            at = " and ".join(format_price(Decimal(payload[name])) for name in ("feed", "theirs"))
            return f"{payload['symbol']}: feed and {payload.get('broker', 'broker')} {word}, {at}"


def _halt(payload: Mapping[str, Any]) -> str:
    level = f"level {payload['level']}" if payload["level"] else ""
    words = ", ".join(filter(None, (level, payload["words"])))
    why = f" ({words})" if words else ""
    until = " to the close" if payload["level"] >= ENDS_THE_DAY else ""
    what = f"halted{until}" if payload["halted"] else "trading again"
    return f"{payload['symbol'] or 'The whole market'} is {what}{why}"


def universe_text(payload: Mapping[str, Any]) -> str:
    """How many symbols of the universe are kept, and by which limit."""
    kept, denied = payload["kept"], sum(map(len, payload.get("denied", {}).values()))
    found = f"{kept} of {kept + len(payload['cut']) + denied} symbols, by {payload['by']} of {payload['limit']}"
    return f"{found}; filters deny {denied} of the others" if denied else found


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
