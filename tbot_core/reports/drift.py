"""The drift of a traded session: its real trades beside those of a shadow run, with the cause of each difference.

The shadow run decides on the bars and quotes that the session received, and fills by simulation. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

from tbot_core.contracts import BrokerEventKind
from tbot_core.journal import records
from tbot_core.journal.events.orders import OrderReported, SignalDecided
from tbot_core.journal.events.sessions import SessionOpened
from tbot_core.journal.projection import JournalEvent
from tbot_core.journal.projections.book import SessionBook, fold_events
from tbot_core.model.formatting import format_money, format_quantity, money_text, plural
from tbot_core.model.reasons import Reason
from tbot_core.model.types import ExitReason, OrderState, dollars_of, quantity_of
from tbot_core.trading.commands import Decision
from tbot_core.trading.portfolio import Position

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from tbot_core.journal.store import Event

Document = dict[str, Any]
_Key = tuple[str, str]
_BPS: Final = 10_000
_MONEY: Final = ("pnl", "expected_pnl")
_NO_SIGNAL: Final = "no signal in the {}"


@attrs.frozen(kw_only=True, eq=False)
class ShadowTrades:
    """What a shadow run gives: positions and decisions, and how many minutes it had of the session's.

    `remarks` are those on the recorded bars, by symbol, "" for all symbols: a minute, and what happened to its bar.
    """

    positions: Sequence[Position]
    decisions: Sequence[Decision]
    minutes: int
    remarks: Mapping[str, Sequence[tuple[int, str]]] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class DriftFill:
    """A trade as it was made, or as the shadow run made it; prices are averages, None while it is open."""

    quantity: str
    entry_price: str
    exit_price: str | None
    exit_reason: str | None
    pnl: str

    @classmethod
    def of(cls, position: Position) -> Self:
        """The position's trade; an open one is valued at its last mark."""
        closed = not position.units
        left = position.to_trade() if closed else None
        return cls(
            quantity=format_quantity(quantity_of(position.entry_units)),
            entry_price=str(position.entry_price),
            exit_price=None if left is None else str(left.exit_price),
            exit_reason=None if left is None else left.exit_reason.value,
            pnl=money_text(dollars_of(position.pnl_atoms)),
        )


@attrs.frozen(kw_only=True)
class DriftTrade:
    """A trade of the shadow run, of the session, or of both: `expected` and `real`, None where there is none.

    `words` say why one is missing, or what differs besides the prices. The distances are in basis points of the
    expected price; above 0 the real fill was worse.
    """

    strategy: str
    symbol: str
    side: str
    minute: int
    expected: DriftFill | None
    real: DriftFill | None
    entry_bps: float | None
    exit_bps: float | None
    words: str


def drift_document(events: Sequence[JournalEvent], shadow: ShadowTrades, note: str = "") -> Document:
    """The drift of a session; `events` are the journal's from its opening to its close."""
    book, opened = fold_events(events), events[0].facts(SessionOpened)
    decided = {_key(event): event for event in events if event.kind == records.DECISION}
    rejections = {
        event.cid: event.facts(OrderReported).words for event in events if event.kind == BrokerEventKind.REJECTED
    }
    day = opened.date.isoformat()
    real = {_of(position): position for position in _positions(book) if position.signal.session.isoformat() == day}
    expected = {_of(position): position for position in shadow.positions}
    judged = {
        (decision.proposal.signal.strategy, decision.proposal.signal.symbol): decision for decision in shadow.decisions
    }
    causes = _Causes(book, decided, judged, rejections, shadow.remarks)
    keys = sorted({*expected, *real}, key=lambda key: ((expected.get(key) or real[key]).signal.minute, key))
    trades = [_trade(key, (expected.get(key), real.get(key)), causes) for key in keys]
    return {
        "date": day,
        "account": opened.account if opened.states("account") else "",
        "minutes": shadow.minutes,
        "of_minutes": opened.minutes,
        "note": note,
        "trades": [attrs.asdict(trade) for trade in trades],
        **_totals(trades),
    }


def drift_together(sessions: Sequence[Document]) -> Document:
    """Several sessions in their order, and their sums; one with a `fault` counts in none of them."""
    compared = [session for session in sessions if "fault" not in session]
    both = [trade for one in compared for trade in one["trades"] if trade["expected"] and trade["real"]]
    return {
        "sessions": list(sessions),
        **{name: sum(one[name] for one in compared) for name in ("both", "missing", "extra")},
        **{name: _mean(trade[name] for trade in both) for name in ("entry_bps", "exit_bps")},
        **{name: money_text(sum((Decimal(one[name]) for one in compared), Decimal(0))) for name in _MONEY},
    }


def drift_lines(document: Mapping[str, Any]) -> list[str]:
    """The drift as text: the result in one line, then a line for each trade, or for those of each of its sessions."""
    if "sessions" in document:
        sessions = document["sessions"]
        days = f"{plural(len(sessions), 'session')}, {sessions[0]['date']} to {sessions[-1]['date']}"
        return [f"{days}: {drift_sentence(document)}", *(line for session in sessions for line in drift_lines(session))]
    if "fault" in document:
        return [f"Session {document['date']}: not compared. {document['fault']}"]
    found = [f"Session {document['date']}: {drift_sentence(document)}"]
    found += [f"Note: {document['note']}"] if document["note"] else []
    return [*found, *map(_line, document["trades"])]


def drift_sentence(document: Mapping[str, Any]) -> str:
    """The result in one line."""
    both, missing, extra = (document[name] for name in ("both", "missing", "extra"))
    counts = f"{both} of {both + missing} expected trades made, {missing} missing, {extra} not expected"
    parts = [counts]
    if both:
        parts.append(f"entries {_distance(document['entry_bps'])}, exits {_distance(document['exit_bps'])}")
    pnl, planned = (format_money(Decimal(document[name]), signed=True) for name in ("pnl", "expected_pnl"))
    parts.append(f"P&L {pnl}, expected {planned}")
    return f"{'; '.join(parts)}."


def events_of_session(events: Iterable[Event], day: date) -> list[Event]:
    """The events of the session of a day, from its opening to its close; empty without such a session."""
    found: list[Event] = []
    for event in events:
        if event.kind == records.SESSION_OPENED:
            found = [event] if event.facts(SessionOpened).date == day else []
        elif found:
            found.append(event)
            if event.kind == records.SESSION_CLOSED:
                break
    return found


@attrs.frozen
class _Causes:
    # What both sides decided, to explain why one of them has no trade.
    book: SessionBook
    decided: Mapping[_Key, JournalEvent]
    judged: Mapping[_Key, Decision]
    rejections: Mapping[str | None, str]
    remarks: Mapping[str, Sequence[tuple[int, str]]]

    def shift(self, key: _Key) -> str:
        """Why the session and the shadow run have their signal in different minutes; "" if both have the same."""
        decision, judged = self.decided.get(key), self.judged.get(key)
        if decision is None or judged is None:
            return ""
        real, planned = decision.facts(SignalDecided).signal.minute, judged.proposal.signal.minute
        cause = self._remark(key[1], max(real, planned)) or "the session decided on other bars than those recorded"
        return "" if real == planned else f"signal at minute {planned} expected, {real}: {cause}"

    def _remark(self, symbol: str, last: int) -> str:
        # What happened to the latest bar of the symbol up to a minute that has a remark; "" without one.
        found = [one for name in ("", symbol) for one in self.remarks.get(name, ()) if one[0] <= last]
        return "its bar of minute {} {}".format(*max(found)) if found else ""

    def missing(self, key: _Key) -> str:
        """Why the session did not make an expected trade."""
        decision = self.decided.get(key)
        if decision is None:
            return _NO_SIGNAL.format("session")
        reason = Reason[decision.facts(SignalDecided).reason]
        if reason is not Reason.ALLOWED or decision.cid is None:
            return _reason_words(reason, key)
        state = self.book.orders[decision.cid].state
        if state is OrderState.REJECTED:
            return f"the broker rejected the entry: {self.rejections[decision.cid]}"
        return f"{Reason.ENTRY_NOT_FILLED.name}: the entry is {state.value.replace('_', ' ')}"

    def unexpected(self, key: _Key) -> str:
        """Why the shadow run did not make a trade of the session."""
        decision = self.judged.get(key)
        if decision is None:
            return _NO_SIGNAL.format("shadow run")
        if decision.reason is not Reason.ALLOWED:
            return f"in the shadow run {_reason_words(decision.reason, key)}"
        return f"{Reason.ENTRY_NOT_FILLED.name} in the shadow run: no bar traded through the limit"


def _key(event: JournalEvent) -> _Key:
    signal = event.facts(SignalDecided).signal
    return signal.strategy, signal.symbol


def _of(position: Position) -> _Key:
    return position.signal.strategy, position.signal.symbol


def _positions(book: SessionBook) -> list[Position]:
    return [*book.portfolio.closed, *book.portfolio.positions.values()]


def _reason_words(reason: Reason, key: _Key) -> str:
    return f"{reason.name}: {reason.sentence_for([key[0]])}"


def _trade(key: _Key, found: tuple[Position | None, Position | None], causes: _Causes) -> DriftTrade:
    # The row of an expected and a real position, of which one may be absent.
    known = next(filter(None, found))
    planned, made = (None if position is None else DriftFill.of(position) for position in found)
    both = [planned, made] if planned is not None and made is not None else []
    words = _difference(*both) if both else causes.missing(key) if made is None else causes.unexpected(key)
    words = ", ".join(filter(None, (words, causes.shift(key))))
    return DriftTrade(
        strategy=key[0],
        symbol=key[1],
        side=known.side.word,
        minute=known.signal.minute,
        expected=planned,
        real=made,
        entry_bps=_worse_bps(known.side, [fill.entry_price for fill in both]),
        exit_bps=_worse_bps(-known.side, [fill.exit_price for fill in both]),
        words=words,
    )


def _difference(expected: DriftFill, real: DriftFill) -> str:
    # What differs besides the prices.
    pairs = (("quantity", expected.quantity, real.quantity), ("exit", expected.exit_reason, real.exit_reason))
    return ", ".join(f"{name} {one or 'none'} expected, {two or 'none'}" for name, one, two in pairs if one != two)


def _worse_bps(direction: int, prices: Sequence[str | None]) -> float | None:
    # How much worse the second price is than the first, for a buyer (1) or a seller (-1); None without one of them.
    known = [Decimal(price) for price in prices if price is not None]
    if len(known) < 2:
        return None
    expected, real = known
    return float(round(direction * (real - expected) / expected * _BPS, 1))


def _totals(trades: Sequence[DriftTrade]) -> Document:
    both = [trade for trade in trades if trade.expected is not None and trade.real is not None]
    return {
        "both": len(both),
        "missing": sum(trade.real is None for trade in trades),
        "extra": sum(trade.expected is None for trade in trades),
        "entry_bps": _mean(trade.entry_bps for trade in both),
        "exit_bps": _mean(trade.exit_bps for trade in both),
        "pnl": _sum(trade.real for trade in trades),
        "expected_pnl": _sum(trade.expected for trade in trades),
    }


def _mean(found: Iterable[float | None]) -> float | None:
    known = [one for one in found if one is not None]
    return round(sum(known) / len(known), 1) if known else None


def _sum(found: Iterable[DriftFill | None]) -> str:
    return money_text(sum((Decimal(fill.pnl) for fill in found if fill is not None), Decimal(0)))


def _distance(bps: float | None) -> str:
    if bps is None:
        return "not known"
    return f"{abs(bps):.1f} bps {'worse' if bps > 0 else 'better'}" if bps else "as expected"


def _line(one: Mapping[str, Any]) -> str:
    sides = "; ".join(f"{name} {_fill(one[name])}" for name in ("expected", "real"))
    known = {name: one[f"{name}_bps"] for name in ("entry", "exit") if one[f"{name}_bps"] is not None}
    away = ", ".join(f"{name} {_distance(bps)}" for name, bps in known.items())
    return "; ".join(
        filter(None, (f"  [{one['strategy'].upper()}] {one['side']} {one['symbol']}: {sides}", away, one["words"]))
    )


def _fill(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return "none"
    out = "open" if one["exit_price"] is None else f"{one['exit_price']} {ExitReason(one['exit_reason']).word}"
    return f"{one['quantity']} at {one['entry_price']} to {out}"
