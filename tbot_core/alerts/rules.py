"""The notices for the journal's events: single events, and open incidents.

Pure: events and times are passed in.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.alerts import broker_and_feed_rules
from tbot_core.alerts.broker_and_feed_rules import FeedAlertRules
from tbot_core.alerts.next_commands import NEXT_COMMANDS
from tbot_core.alerts.store import QUESTION, STATUS_COMMAND, Notice
from tbot_core.contracts import BrokerEventKind, Urgency
from tbot_core.execution.trading_state import note_event
from tbot_core.journal import records
from tbot_core.journal.projections.book import SessionBook
from tbot_core.journal.projections.ready_remarks import ready_remarks, vix_text
from tbot_core.journal.projections.trade_text import (
    PlannedStops,
    contradiction_text,
    entry_text,
    exit_text,
    unprotected_text,
)
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
from tbot_core.model.types import Leg, OrderState, RiskState, Side, quantity_of
from tbot_core.plugins.call_guard import failure_text
from tbot_core.trading.orders import IN_DOUBT
from tbot_core.trading.risk.states import KINDS, StateCause, TradingState
from tbot_core.trading.universe import UniverseCounts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tbot_core.journal.store import Event
    from tbot_core.model.types import Trade
    from tbot_core.trading.orders import OrderRecord

UNKNOWN_AFTER: Final = timedelta(seconds=60)
"""How long an order's outcome may be unknown, or an account unread at a start, before an alert."""

UNPROTECTED_AFTER: Final = timedelta(seconds=10)
"""How long a position may be without a stop at the broker before an alert."""

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
_STATE: Final = "state "


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
        before = self._book.orders.get(cid)
        self._book.apply(event)
        self._planned.apply(event)
        self._states.setdefault(event.payload.get("broker", ""), TradingState())
        for broker, states in self._states.items():
            note_event(states, event, broker)
        self._remember(event)
        found = [_closed(trade) for trade in self._book.trades[trades:]] if self._wanted.exits else []
        if before is not None and not before.terminal and self._book.orders[cid].terminal:
            found += self._ended(self._book.orders[cid], event.payload)
        found += self._event_notices(event.kind, event.payload)
        found += self._feed.apply(event)
        return [attrs.evolve(one, key=f"{one.key}event {event.seq}.{number}") for number, one in enumerate(found)]

    def open_incidents(self, now: datetime) -> dict[str, Notice]:
        """The open incidents by key."""
        found = [*self._of_causes(now), *self._of_orders(now), *self._of_positions(now), *self._of_the_session()]
        found += self._feed.open_incidents(self._book.portfolio.positions)
        self._since, self._lasting = self._lasting, {}
        return {one.key: one for one in found}

    def _remember(self, event: Event) -> None:
        if event.kind == records.NOT_READY:
            why = "; ".join(map(_clause, event.payload["reasons"]))
            what = f"NOT READY for the session of {event.payload['session']}: {why}."
            self._not_ready = Notice(key="not ready", urgency=Urgency.CRITICAL, what=what, command="tbot check")
        elif event.kind in {records.READY, records.SESSION_CLOSED, records.STOPPED}:
            self._not_ready = None
            if event.kind == records.READY:
                self._vix = vix_text(event.payload) if "vix" in event.payload else ""
        elif event.kind == records.STATE:
            whose = event.payload.get("broker", ""), StateCause[event.payload["cause"]]
            self._words[whose] = event.payload["words"]

    def _ended(self, record: OrderRecord, payload: Mapping[str, Any]) -> Iterator[Notice]:
        order = record.order
        if record.state is OrderState.REJECTED and self._wanted.failures:
            what = f"REJECTED {order.leg.value} of {format_quantity(order.quantity)} {order.symbol} by the broker: "
            what = f"[{order.signal.strategy.upper()}] {what}{payload['words'] or 'it gave no reason'}"
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
        position = self._book.portfolio.positions.get(record.order.symbol)
        return None if position is None else position.entry_price

    def _event_notices(self, kind: str, payload: Mapping[str, Any]) -> Iterator[Notice]:
        # Notices that follow from the event alone.
        match kind:
            case records.WINDOW_CLOSED:
                seen = plural(payload["candidates"], "candidate"), plural(payload["triggers"], "signal")
                yield _routine(f"[{payload['strategy'].upper()}] Entries ended: {seen[0]}, {seen[1]}.")
            case records.SESSION_CLOSED:
                yield _routine(self._summary(payload))
            case records.STOPPED:
                yield _stopped(payload)
            case records.CASH_SHARE:
                shares = (f"{Decimal(payload[name]) * 100:.1f} %" for name in ("share", "target"))
                yield _routine("Cash is {} of equity, its target is {}.".format(*shares))
            case records.RISK if payload["what"] not in {_LATCH, RiskState.EXIT_ONLY.word}:
                notice = _critical if payload["what"] == _JUMP else _routine
                yield notice(f"{_capital(payload['what'])}: {_compared(payload)}.")
            case records.CONFIRMATION_ASKED:
                yield _question(payload)
            case records.FOREIGN_HOLDING:
                yield _routine(_foreign(payload))
            case records.FOREIGN_ORDER:
                action = "buy" if payload["buy"] else "sell"
                which = f"{action} {payload['quantity']} {payload['symbol']}, {payload['said']}"
                yield _routine(f"An order at the broker was not placed by tbot: {which}.")
            case _:
                yield from self._other_notices(kind, payload)

    def _other_notices(self, kind: str, payload: Mapping[str, Any]) -> Iterator[Notice]:
        match kind:
            case records.PLUGIN_FAILED if payload["off"] or self._wanted.failures:
                yield _plugin(payload)
            case records.CLOSING_LATE:
                what = f"The session ends in two minutes and {_named(payload)} is still open: {payload['words']}."
                yield _critical(what)
            case records.READY:
                yield _routine(_ready(payload))
            case records.SETTINGS:
                yield _settings(payload)
            case records.HOLIDAY:
                yield _routine(f"Closed today, {payload['date']}: {payload['name']}. Next session: {payload['next']}.")
            case records.CALENDAR:
                yield _routine(
                    f"{payload['date']}: the broker's calendar reports {payload['words']}; it takes precedence."
                )
            case records.REQUEST_REFUSED if self._wanted.failures:
                yield _routine(f"The request {printable_name(payload['name'])} was refused: {payload['words']}")
            case BrokerEventKind.BUSTED | BrokerEventKind.CORRECTED if self._wanted.failures:
                yield _routine(f"The broker reported an execution as {kind}: {payload['words']}")
            case _:
                yield from broker_and_feed_rules.notices_of_event(kind, payload)

    def _summary(self, payload: Mapping[str, Any]) -> str:
        pnl, equity = format_money(Decimal(payload["pnl"]), signed=True), format_money(Decimal(payload["equity"]))
        trades = trades_text(payload["trades"], len(payload.get("open", ())))
        denials = f"{self._book.denials.total():,} ({DENIALS_COUNT})"
        bare, vix = unprotected_text(self._book.unprotected_s), f", {self._vix}" if self._vix else ""
        return f"Session {payload['date']} ended: P&L {pnl}, {trades}, denials: {denials}, equity {equity}{vix}{bare}."

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
            if cause is StateCause.FEEDS_STALE and (held := self._book.portfolio.positions):
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
        for symbol, position in self._book.portfolio.positions.items():
            key, held, covered = f"unprotected {symbol}", quantity_of(position.units), self._covered(symbol)
            open_to_loss = self._book.in_session and covered is not None and held - covered >= 1
            if covered is not None and open_to_loss and self._lasts(key, now, UNPROTECTED_AFTER):
                what = f"{position.side.word} {format_quantity(held)} {symbol}, stops cover {format_quantity(covered)}"
                yield Notice(key=key, urgency=Urgency.CRITICAL, what=f"UNPROTECTED: {what}.")
        for symbol, units in self._book.portfolio.unassigned_units.items() if self._book.in_session else ():
            side, much = (Side.LONG if units > 0 else Side.SHORT).word, format_quantity(quantity_of(abs(units)))
            what = f"{side} {much} {symbol} beyond all positions, without a stop"
            yield Notice(key=f"surplus {symbol}", urgency=Urgency.CRITICAL, what=f"UNPROTECTED: {what}.")

    def _covered(self, symbol: str) -> Decimal | None:
        # The quantity that resting stops cover, None while an exit is in progress; one of unknown outcome is no cover.
        # Less than one share cannot rest as a stop; tbot watches it instead.
        mine = [record for record in self._book.orders.values() if record.order.symbol == symbol]
        exits = (one for one in mine if one.order.leg is Leg.EXIT and not one.terminal)
        if any(one.state not in IN_DOUBT for one in exits):
            return None
        stops = (one for one in mine if one.order.leg is Leg.STOP and one.state in _RESTING)
        return sum((one.open_quantity for one in stops), Decimal(0))

    def _of_the_session(self) -> Iterator[Notice]:
        if self._not_ready is not None:
            yield self._not_ready
        for symbol, payload in self._book.stuck.items():
            what = (
                f"STUCK: {_named(payload)} could not be closed, {payload['words']}; it will be closed at the next open."
            )
            yield Notice(key=f"stuck {symbol}", urgency=Urgency.CRITICAL, what=what, command=f"tbot why {symbol}")
        for symbol, words in self._book.frozen.items():
            what = f"FROZEN: no entries and no exits in {symbol}, {_clause(words)}."
            yield Notice(key=f"frozen {symbol}", urgency=Urgency.CRITICAL, what=what, command=f"tbot why {symbol}")
        for symbol, payload in self._book.disputed.items():
            what = f"CONTRADICTED: {contradiction_text(payload)}; nothing is sent in {symbol} until that is clear."
            yield Notice(key=f"disputed {symbol}", urgency=Urgency.CRITICAL, what=what, command=f"tbot why {symbol}")
        for change in self._book.risk if self._book.in_session else ():
            if change["what"] in {_LATCH, RiskState.EXIT_ONLY.word}:
                what = f"{_capital(change['what'])} until the end of the session: {_compared(change)}."
                yield Notice(key=f"risk {change['what']}", urgency=Urgency.CRITICAL, what=what)

    def _lasts(self, key: str, now: datetime, span: timedelta) -> bool:
        # Whether the condition has lasted longer than this.
        since = self._lasting[key] = self._since.get(key, now)
        return now - since > span


def cause_of(key: str) -> StateCause | None:
    """The cause of the state whose incident has this key; None for other incidents."""
    return StateCause.__members__.get(key.split()[1]) if key.startswith(_STATE) else None


def _named(payload: Mapping[str, Any]) -> str:
    return f"{payload['side']} {format_quantity(Decimal(payload['quantity']))} {payload['symbol']}"


def _ready(payload: Mapping[str, Any]) -> str:
    # The contents of a READY event; older journals lack some of them.
    equity, feed, armed = format_money(Decimal(payload["equity"])), payload.get("feed"), payload.get("armed")
    parts = [payload["mode"]] if "mode" in payload else []
    parts += [f"armed to {armed}"] if armed else []
    limits = [payload[name] for name in ("feed_quality", "request_limit") if payload.get(name)]
    feeds = [f"feed {feed}" + (f" ({'; '.join(limits)})" if limits else "")] if feed else []
    parts += [f"equity {equity}", *feeds, *(payload["windows"] or ["no strategy"])]
    worst = payload.get("worst_day")
    universe = payload.get("universe")
    parts += [UniverseCounts(**universe).text] if universe else []
    parts += payload.get("facts", [])
    parts += [f"planned worst day {format_percent(Decimal(worst))}"] if worst else []
    cap = payload.get("first_live_day_cap")
    parts += [f"first live day: entries of at most {format_money(Decimal(cap))}"] if cap else []
    parts += [vix_text(payload)] if "vix" in payload else []
    parts += ["live VIX at the start of each window's entries"] if payload.get("vix_live") else []
    parts += [f"holding {', '.join(payload['positions'])}"] if payload["positions"] else []
    parts += [f"STUCK from an earlier session: {', '.join(payload['stuck'])}"] if payload["stuck"] else []
    remarks = ready_remarks(payload)  # first: a short message is cut at its end
    details = f"{', '.join(parts)}."
    return " ".join(
        (f"READY for the session of {payload['session']}:", *remarks, _capital(details) if remarks else details)
    )


def _stopped(payload: Mapping[str, Any]) -> Notice:
    # An unconfirmed end is critical; older journals lack `unconfirmed`.
    left, unread = ", ".join(payload["open"]), payload.get("unconfirmed", "").removesuffix(".")
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


def _foreign(payload: Mapping[str, Any]) -> str:
    # External holdings count in the exposure limits, once their price is known.
    unpriced = Decimal(payload["quantity"]) and payload.get("price", "") is None
    suffix = "; they count in no limit until their price is known" if unpriced else ""
    return f"The account holds {payload['quantity']} {payload['symbol']} that tbot does not manage{suffix}."


def _question(payload: Mapping[str, Any]) -> Notice:
    signal, at = payload["signal"], format_price(Decimal(str(payload["price"])))
    shares = format_quantity(Decimal(payload["quantity"]))
    until = both_times(datetime.fromisoformat(payload["expires"]))
    action = "BUY" if payload["side"] == "long" else "SELL SHORT"
    what = f"Needs a confirmation until {until}: [{signal['strategy'].upper()}] {action} {shares} {signal['symbol']}"
    command = f"tbot confirm {payload['id']}"
    return Notice(key=QUESTION, urgency=Urgency.ROUTINE, what=f"{what} @ about {at}.", command=command)


def _plugin(payload: Mapping[str, Any]) -> Notice:
    what = failure_text(payload["plugin"], payload["error"], off=payload["off"])
    notice = _critical if payload["off"] else _routine
    return attrs.evolve(notice(what), command=f"tbot plugins info {payload['plugin']}")


def _urgency(critical: bool) -> Urgency:  # noqa: FBT001  -- a single flag
    return Urgency.CRITICAL if critical else Urgency.ROUTINE


def _settings(payload: Mapping[str, Any]) -> Notice:
    if payload["fault"]:
        what = f"The changed settings are invalid, so the run keeps its previous ones: {payload['fault']}"
        return attrs.evolve(_critical(what), command="tbot config check")
    texts = {name: f"{old or 'unset'} -> {new or 'unset'}" for name, (old, new) in payload["changes"].items()}
    changes = ", ".join(f"{name} {text}" for name, text in texts.items())
    what = f"settings have changed, effective from the next session: {changes}"
    what = what if changes else "settings files have changed, but no value differs"
    return _routine(f"The {what}.", "tbot config show")


def _closed(trade: Trade) -> Notice:
    return _routine(exit_text(trade), f"tbot why {trade.symbol}")


def _clause(words: str) -> str:
    # Words of a plugin or broker within a sentence of ours: one capital and one period are enough.
    begun = words[0].lower() + words[1:] if words.startswith(("The ", "A ", "An ")) else words
    return begun.rstrip(".")


def _compared(change: Mapping[str, Any]) -> str:
    return f"{change['cause']}, {figure_text(change['value'])}, limit {figure_text(change['limit'])}"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
