"""Invariants of limits, money and requests, recomputed from the journal's events without the bot's own code.

Top-ups are bound by the same limits, and by the risk states that follow from their causes. Protective requests wait
only for each other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import BrokerEventKind
from tbot_core.journal import records
from tbot_core.journal.ledger import ADJUSTMENTS, ledger_of
from tbot_core.journal.store import Event
from tbot_core.model.types import ExitReason, Leg, OrderType, RiskState, Side, atoms_of, dollars_of, ticks_of, units_of
from tbot_core.plugins.network.request_limits import RequestPriority
from tbot_core.rehearsal.venue_matching import fill_effect

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from tbot_core.contracts.settings import RiskSettings
    from tbot_core.rehearsal.history import RehearsalHistory

_ENDED: Final = frozenset(
    {records.DROPPED, BrokerEventKind.REJECTED, BrokerEventKind.CANCELLED, BrokerEventKind.EXPIRED}
)

_EXECUTED: Final = frozenset({BrokerEventKind.FILL, BrokerEventKind.BUSTED, BrokerEventKind.CORRECTED})

_OVERFILLS: Final = frozenset({"F28", "F38"})

_DAILY: Final = "daily loss latch"

_SHARE: Final = 0.7

_TOLERANCE_S: Final = 0.1

# The states and their causes, and what ends them: the contract, section 8, "States".
_HALTS: Final = frozenset({"KILL_FILE", "KILL_COMMAND", "KILL_SIGNAL"})

_DEFENDS: Final = frozenset(
    {"PRIMARY_DOWN", "UNIVERSE_STALE", "HALF_LOSS", "DEVIATIONS", "DEFENSE_COMMAND", "DEFENSE_SETTING"}
)

_ENDS_AT_ONCE: Final = _HALTS | {
    "STOP_FILE",
    "STOP_COMMAND",
    "STOP_SIGNAL",
    "DEFENSE_COMMAND",
    "DEFENSE_SETTING",
    "CONTROL_LOST",
    "LEFT_BEHIND",
    "NOT_ARMED",
    "UNRECONCILED",
}
"""The causes that end when they are withdrawn; all others last until the journal reports them as over."""

_OF_ONE_ACCOUNT: Final = frozenset(
    {
        "BROKER_PLUGIN",
        "EVENTS_MISSED",
        "LOGIN",
        "MAINTENANCE",
        "MISMATCH",
        "REJECTS",
        "RESTRICTED",
        "SURPLUS",
        "UNKNOWN",
        "UNREACHABLE",
        "UNRECONCILED",
    }
)
"""The causes of the primary that do not concern entries elsewhere while these go to another broker."""

_OVER: Final = "over"

_ENTRIES_ELSEWHERE: Final = "entries go on"


@attrs.define(kw_only=True)
class _Part:
    # An entry or top-up order by its intent: units, and the worst price in ticks.
    units: int
    worst: int
    ended: bool = False
    bought: int = 0
    paid: int = 0

    @property
    def rest(self) -> int:
        """The units that may still be filled."""
        return 0 if self.ended else max(self.units - self.bought, 0)


@attrs.define(kw_only=True)
class SignalExposure:
    """The exposure of a signal: its entry and its top-ups; `side` is 1 long and -1 short."""

    symbol: str
    strategy: str
    side: int
    parts: list[_Part]
    sold: int = 0

    @property
    def bought(self) -> int:
        """The filled units of the entry and its top-ups."""
        return sum(part.bought for part in self.parts)

    @property
    def paid(self) -> int:
        """Their cost, in atoms."""
        return sum(part.paid for part in self.parts)

    @property
    def target(self) -> int:
        """The cost of the entry alone, in atoms."""
        return self.parts[0].paid

    @property
    def cost(self) -> int:
        """The cost of the open units, in atoms."""
        return self.paid * max(self.bought - self.sold, 0) // self.bought if self.bought else 0

    @property
    def exposure(self) -> int:
        """The cost of the open units, and the worst-case cost of unfilled ones, in atoms."""
        return self.cost + sum(part.rest * part.worst for part in self.parts)

    @property
    def alive(self) -> bool:
        """Whether units are open or may still be filled."""
        return self.bought > self.sold or any(part.rest for part in self.parts)

    @property
    def net(self) -> int:
        """The signed units of its orders, of the other side if more was sold than bought."""
        return self.side * (self.bought - self.sold)


class ExposureReckoner:
    """Recomputes the exposure of each signal from the events.

    An exit in the direction of its signal's entry reverses an overfill: it counts for the symbol.
    """

    def __init__(self, band: Decimal) -> None:
        self._band = band
        self.entries: dict[str, SignalExposure] = {}
        self._parts: dict[str, tuple[str, _Part | None]] = {}
        self._references: dict[str, float] = {}
        self._executions: dict[tuple[str, str], tuple[int, int]] = {}
        self._reversals: dict[str, int] = {}
        self._reversed: Counter[str] = Counter()

    def apply(self, event: Event) -> SignalExposure | None:
        """Apply an event; returns the signal's exposure if the event is the intent of an entry or top-up."""
        payload, cid = event.payload, event.cid
        if event.kind in {records.DECISION, records.TOP_UP} and cid is not None:
            self._references[cid] = payload.get("reference") or payload["price"]
        elif event.kind == records.INTENDED and cid is not None:
            return self._intended(cid, payload)
        elif event.kind == records.ADJUSTMENT:
            self._adjusted(payload)
        elif event.kind == records.CORPORATE_ACTION:
            self._split(payload["symbol"], payload["after"], payload["before"])
        elif cid in self._parts:
            signal, part = self._parts[cid]
            if part is not None:
                part.ended |= event.kind in _ENDED
            if event.kind in _EXECUTED and "execution_id" in payload:
                self._executed(self.entries[signal], part, cid, event)
        return None

    def closable(self, payload: Mapping[str, Any]) -> int | None:
        """The largest quantity of a closing order, in units; None if its signal is unknown.

        It is the open quantity of its signal, or for the reversal of an overfill the net quantity of the symbol.
        """
        signal, direction = records.signal_of(payload["signal"]), 1 if payload["buy"] else -1
        if payload["reason"] == ExitReason.EXCESS.value:
            entered = sum(exposure.net for exposure in self.entries.values() if exposure.symbol == signal.symbol)
            return max(-direction * (entered + self._reversed[signal.symbol]), 0)
        entry = self.entries.get(signal.text)
        # A quantity of the other side is no position of the signal: only a reversal may close it.
        return None if entry is None else max(entry.bought - entry.sold, 0) if direction != entry.side else 0

    def surplus(self, symbol: str) -> int:
        """The signed units of a symbol that its closing orders traded beyond what their signals held."""
        beyond = sum(
            min(entry.net * entry.side, 0) * entry.side for entry in self.entries.values() if entry.symbol == symbol
        )
        return beyond + self._reversed[symbol]

    def _intended(self, cid: str, payload: Mapping[str, Any]) -> SignalExposure | None:
        signal = records.signal_of(payload["signal"])
        self._parts[cid] = signal.text, None
        direction, exposure = 1 if payload["buy"] else -1, self.entries.get(signal.text)
        if Leg(payload["leg"]) is not Leg.ENTRY:
            if exposure is not None and direction == exposure.side:
                self._reversals[cid] = direction
            return None
        market = payload["type"] == OrderType.MARKET.value
        reference = self._references.get(cid, 0.0)
        worst = reference * float(1 + self._band) if market else max(float(payload["limit_price"]), reference)
        part = _Part(units=units_of(Decimal(payload["quantity"])), worst=ticks_of(worst) - market)
        self._parts[cid] = signal.text, part
        fresh = SignalExposure(symbol=signal.symbol, strategy=signal.strategy, side=direction, parts=[])
        entry = self.entries.setdefault(signal.text, fresh)
        entry.parts.append(part)
        return entry

    def _executed(self, entry: SignalExposure, part: _Part | None, cid: str, event: Event) -> None:
        # Book an execution, a bust or a correction; a void one stays void.
        key = cid, event.payload["execution_id"]
        if key in self._executions and event.kind == BrokerEventKind.FILL:
            return
        was_units, was_paid = self._executions.get(key, (0, 0))
        if event.kind == BrokerEventKind.BUSTED or (
            event.kind == BrokerEventKind.CORRECTED and key in self._executions and not was_units
        ):
            units = paid = 0
        else:
            units = units_of(Decimal(event.payload["quantity"]))
            paid = units * ticks_of(float(event.payload["price"]))
        self._executions[key] = units, paid
        if part is not None:
            part.bought += units - was_units
            part.ended |= part.bought >= part.units  # a later bust is not filled again
            part.paid += paid - was_paid
        elif cid in self._reversals:
            self._reversed[entry.symbol] += self._reversals[cid] * (units - was_units)
        else:
            entry.sold += units - was_units

    def _split(self, symbol: str, after: int, before: int) -> None:
        # A split: the total cost stays.
        self._reversed[symbol] = int(Fraction(self._reversed[symbol] * after, before))
        for entry in self.entries.values():
            if entry.symbol == symbol:
                entry.sold = entry.sold * after // before
                for part in entry.parts:
                    part.bought, part.units = (units * after // before for units in (part.bought, part.units))

    def _adjusted(self, payload: Mapping[str, Any]) -> None:
        held = [
            exposure
            for exposure in self.entries.values()
            if exposure.symbol == payload["symbol"] and exposure.bought > exposure.sold
        ]
        for entry in held:
            entry.sold += units_of(Decimal(payload["quantity"]))


def symbol_limit(risk: RiskSettings) -> Decimal:
    """The smaller limit of what one symbol may hold: MAX_RISK_PER_TRADE also limits the trade itself."""
    given = risk.max_symbol_exposure
    return risk.max_risk_per_trade if given is None else min(given, risk.max_risk_per_trade)


def i3_top_ups(history: RehearsalHistory) -> Iterator[str]:
    """No top-up raises a position above the cost of its entry, or adds to a losing one."""
    ledger, decisions = ExposureReckoner(history.rules.risk.price_band_pct), dict[str, Event]()
    for event in history.events:
        if event.kind == records.TOP_UP and event.cid is not None:
            decisions[event.cid] = event
        entry = ledger.apply(event)
        if entry is None or event.cid not in decisions:
            continue
        decided = decisions[event.cid].payload
        price, side = ticks_of(decided["price"]), Side[decided["side"].upper()]
        units, part = entry.bought - entry.sold, entry.parts[-1]
        worth = units * price + part.units * max(part.worst if side is Side.LONG else price, price)
        if worth > entry.target:
            yield f"{event.cid} takes {entry.symbol} to {worth} atoms, {entry.target} were entered"
        if side * (price * entry.bought - entry.paid) < 0:
            yield f"{event.cid} adds to {entry.symbol} at {price}, which cost {entry.paid} for {entry.bought}"


def i8_top_ups(history: RehearsalHistory) -> Iterator[str]:
    """No top-up is sent in defense, or while an exit of the position is working."""
    closing: dict[str, set[str]] = defaultdict(set)
    signals: dict[str, str] = {}
    adds, left, states = set[str](), dict[str, int](), RiskStates()
    for event in history.events:
        cid = event.cid or ""
        states.apply(event)
        state = states.state(event.payload.get("broker", ""))
        if event.kind == records.INTENDED:
            signals[cid] = records.signal_of(event.payload["signal"]).text
            left[cid] = units_of(Decimal(event.payload["quantity"]))
            trims = event.payload["reason"] == ExitReason.REBALANCE.value
            if event.payload["leg"] == Leg.EXIT.value and not trims:
                closing[signals[cid]].add(cid)
            elif event.payload["leg"] == Leg.ENTRY.value and trims:
                adds.add(cid)
        elif event.kind == records.SENDING and cid in adds:
            if state >= RiskState.DEFENSE:
                yield f"{cid} adds to a position while {state.word}"
            yield from (f"{cid} was sent while {one} closes its position" for one in sorted(closing[signals[cid]]))
        elif cid in signals:
            left[cid] -= units_of(Decimal(event.payload["quantity"])) if event.kind == BrokerEventKind.FILL else 0
            if event.kind in _ENDED or left[cid] <= 0:
                closing[signals[cid]].discard(cid)


def i18_starved(history: RehearsalHistory) -> Iterator[str]:
    """No cancel, exit or stop waits longer than those before it need at the venue's rate."""
    urgent = [turn for turn in history.turns if turn.urgency is RequestPriority.PROTECTION]
    for turn in urgent:
        ahead = sum(other.paced is turn.paced and turn.began < other.ended <= turn.ended for other in urgent) or 1
        most = ahead * 60 / (turn.per_minute * _SHARE) if turn.per_minute else 0.0
        if turn.ended - turn.began > most + _TOLERANCE_S:
            waited = turn.ended - turn.began
            yield f"a cancel or an exit waited {waited:.1f} s from {turn.began:.0f} s on, at most it is {most:.1f} s"


class RiskStates:
    """The risk state at each broker after the events that were applied; "" is the primary."""

    def __init__(self) -> None:
        self._causes: defaultdict[str, set[str]] = defaultdict(set)
        self._elsewhere = False

    def apply(self, event: Event) -> None:
        """Apply the next event."""
        payload = event.payload
        if event.kind == records.STATE:
            cause, active = payload["cause"], self._causes[payload.get("broker", "")]
            if payload["there"]:
                active.add(cause)
            elif cause in _ENDS_AT_ONCE or payload["words"] == _OVER:
                active.discard(cause)
        elif event.kind == records.FAILOVER:
            self._elsewhere = payload["phase"] == _ENTRIES_ELSEWHERE
        elif event.kind == records.SESSION_CLOSED:
            self._elsewhere = False

    def state(self, broker: str) -> RiskState:
        """The most severe state of the causes that concern an entry there."""
        shared = self._causes[""]
        if broker and self._elsewhere:
            shared = shared - _OF_ONE_ACCOUNT
        return max(map(_state_of, shared | self._causes[broker]), default=RiskState.NORMAL)


def _i3(history: RehearsalHistory) -> Iterator[str]:
    # At each entry intent the worst-case exposure is within the limits.
    risk, ledger, equity = history.rules.risk, ExposureReckoner(history.rules.risk.price_band_pct), 0
    for event in history.events:
        if event.kind == records.SESSION_OPENED:
            equity = atoms_of(Decimal(event.payload["equity"]))
        entry = ledger.apply(event)
        if entry is None:
            continue
        entries = ledger.entries.values()
        sent = sum(1 for exposure in entries if exposure.strategy == entry.strategy)
        of_symbol = sum(exposure.exposure for exposure in entries if exposure.symbol == entry.symbol)
        figures = (
            ("gross exposure", sum(exposure.exposure for exposure in entries), int(equity * risk.max_gross_exposure)),
            (f"exposure in {entry.symbol}", of_symbol, int(equity * symbol_limit(risk))),
            ("leveraged exposure", sum(exposure.exposure for exposure in entries), int(equity * risk.max_leverage)),
            *_index_figures(history, entries, entry, equity),
            ("positions and entries", sum(1 for exposure in entries if exposure.alive), risk.max_open_positions),
            (f"entries of {entry.strategy}", sent, risk.max_trades),
        )
        yield from (f"{event.cid}: {what} {much}, {most} allowed" for what, much, most in figures if much > most)


def _index_figures(
    history: RehearsalHistory, entries: Collection[SignalExposure], entry: SignalExposure, equity: int
) -> Iterator[tuple[str, int, int]]:
    # The net exposure of each index of the symbol on the entry's side; what works on the other side may not fill.
    limit = int(equity * history.rules.risk.max_index_exposure)
    for name, members in history.rules.indices.items():
        if entry.symbol not in members:
            continue
        side = 1 if entry.side * members[entry.symbol] > 0 else -1
        held = sum(
            int(exposure.side * members[exposure.symbol] * exposure.cost)
            for exposure in entries
            if exposure.symbol in members
        )
        working = (
            int(exposure.side * members[exposure.symbol] * (exposure.exposure - exposure.cost))
            for exposure in entries
            if exposure.symbol in members
        )
        yield f"exposure in {name}", side * held + sum(max(0, side * it) for it in working), limit


def _i12_capped(history: RehearsalHistory) -> Iterator[str]:
    # No exit or separate stop is for more than its signal holds when it is intended, or sent again.
    ledger, brackets = ExposureReckoner(history.rules.risk.price_band_pct), set[str]()
    closing: dict[str, Mapping[str, Any]] = {}
    for event in history.events:
        cid = event.cid or ""
        if event.kind == records.INTENDED:
            brackets.update(event.payload["protection"])
            if Leg(event.payload["leg"]) is not Leg.ENTRY and cid not in brackets:
                closing[cid] = event.payload
        if event.kind in {records.INTENDED, records.SENT_AGAIN} and cid in closing:
            held, units = ledger.closable(closing[cid]), units_of(Decimal(closing[cid]["quantity"]))
            if held is not None and units > held:
                yield f"{cid} is for {units} units, and {held} were held"
        ledger.apply(event)


def _i12_trimmed(history: RehearsalHistory) -> Iterator[str]:
    # A trim and the stop beside it are together for no more than their signal holds (the contract, REBALANCE).
    ledger, ends = ExposureReckoner(history.rules.risk.price_band_pct), _ENDED | {records.LOST}
    working: defaultdict[str, dict[str, tuple[str, int]]] = defaultdict(dict)
    for event in history.events:
        cid, payload = event.cid or "", event.payload
        if event.kind == records.INTENDED:
            signal, stop = records.signal_of(payload["signal"]).text, payload["leg"] == Leg.STOP.value
            kind = "stop" if stop else "trim" if payload["reason"] == ExitReason.REBALANCE.value else ""
            if kind and payload["leg"] != Leg.ENTRY.value:
                mine, held = working[signal], ledger.closable(payload)
                mine[cid] = kind, units_of(Decimal(payload["quantity"]))
                total = sum(units for _, units in mine.values())
                if {one for one, _ in mine.values()} == {"stop", "trim"} and held is not None and total > held:
                    yield f"{cid} makes it {total} units of stop and trim, and {held} were held"
        ledger.apply(event)
        for mine in working.values() if event.kind in ends or event.kind == BrokerEventKind.FILL else ():
            if cid in mine:
                kind, units = mine.pop(cid)
                left = units - (units_of(Decimal(payload["quantity"])) if event.kind not in ends else units)
                if left > 0:
                    mine[cid] = kind, left


def _i5(history: RehearsalHistory) -> Iterator[str]:
    # The cost of each order's executions in the journal and at the venue is the same.
    if history.held is None:
        return
    there, ours = Counter[str](), history.intents()
    for fact in history.facts:
        if fact.fill is not None and fact.client_order_id in ours:
            there[fact.client_order_id] += fact.atoms
    here: Counter[str] = Counter()
    booked: dict[tuple[str, str], int] = {}
    for event in history.events:
        if event.kind not in _EXECUTED or event.cid not in ours:
            continue
        fill = records.fill_of(event.cid, event.payload)
        if fill is None:
            continue
        key = event.cid, fill.execution_id
        if event.kind == BrokerEventKind.FILL and key in booked:  # its bust or correction was reported first
            continue
        atoms = 0 if event.kind == BrokerEventKind.BUSTED else fill_effect(fill)[1]
        here[event.cid] += atoms - booked.get(key, 0)
        booked[key] = atoms
    lost = {cid for cid, record in history.orders.items() if not record.terminal} | history.untold
    for cid in sorted({*there, *here} - lost):
        if there[cid] != here[cid]:
            yield f"{cid} moved {here[cid]} atoms in the journal, {there[cid]} at the venue"


def _statement(history: RehearsalHistory) -> Iterator[str]:
    # I5: the ledger's cash equals the account's, without unexplained amounts.
    if history.held is None or any(not record.terminal for record in history.orders.values()):
        return
    ledger, books = ledger_of(history.events), history.way.exchange.matching.books
    if ledger.cash != dollars_of(books.cash):
        yield f"the ledger has {ledger.cash} USD, the account {dollars_of(books.cash)}"
    named = not history.untold
    if history.way.exchange.matching.character.rules.lists_closed and named:
        over = ledger.balances.get(ADJUSTMENTS)
        yield from (f"{amount} USD are unexplained" for amount in (over,) if amount)


def _statement_made(history: RehearsalHistory) -> Iterator[str]:
    # A session that ended normally has a statement after its last execution.
    #
    # A clock one hour ahead ends a session early, while third parties trade on: then only our executions count.
    kinds = [event.kind for event in history.events]
    if records.SESSION_CLOSED not in kinds or any(not record.terminal for record in history.orders.values()):
        return
    counted = history.intents() if "F68" in history.struck else {event.cid for event in history.events}
    executed = (at for at, one in enumerate(history.events) if one.kind in _EXECUTED and one.cid in counted)
    if records.STATEMENT not in kinds[max(executed, default=-1) + 1 :]:
        yield "the day ended without a statement of the account's cash"


def _i18(history: RehearsalHistory) -> Iterator[str]:
    # No request exceeds the venue's limit per minute.
    turned = [request for request in history.way.requests if request.outcome == "429"]
    for request in turned:
        yield f"{request.kind} {request.client_order_id} at {request.at:.3f} s exceeded the limit per minute"


def _latch(history: RehearsalHistory) -> Iterator[str]:
    # Nothing is entered after the daily loss latch, also after a restart; no latch is set twice.
    latched = set[str]()
    for event in history.events:
        if event.kind == records.RISK and "latch" in event.payload["what"]:
            what = event.payload["what"]
            if what in latched:
                yield f"the {what} was set a second time at {event.applied:%H:%M:%S}"
            latched.add(what)
        elif event.kind == records.INTENDED and event.payload["leg"] == Leg.ENTRY.value and _DAILY in latched:
            yield f"{event.cid} was entered after the {_DAILY}"


def _cash(history: RehearsalHistory) -> Iterator[str]:
    # In a cash account nothing is sold short, and entries cost at most the cash settled at the open.
    matching, spent = history.way.exchange.matching, 0
    if matching.character.margin or history.struck & _OVERFILLS:
        return
    entries = {cid for cid, (_, leg, _) in history.intents().items() if leg is Leg.ENTRY}
    for event in history.events:
        if event.kind == records.INTENDED and event.cid in entries and not event.payload["buy"]:
            yield f"{event.cid} sells short in a cash account"
    for fact in history.facts:
        if fact.fill is not None and fact.kind == "execution" and fact.client_order_id in entries:
            spent += units_of(fact.fill.quantity) * ticks_of(float(fact.fill.price))
    settled = atoms_of(matching.character.cash)
    if spent > settled:
        yield f"entries cost {dollars_of(spent)}, settled were {dollars_of(settled)}"


def _state_of(cause: str) -> RiskState:
    if cause in _HALTS:
        return RiskState.HALTED
    return RiskState.DEFENSE if cause in _DEFENDS else RiskState.EXIT_ONLY


LIMIT_INVARIANTS: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (
    _i3, _i5, _i12_capped, _i12_trimmed, _statement, _statement_made, _i18, _latch, _cash,
)  # fmt: skip

LIMIT_INVARIANTS_OF_ALL: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (_i3, _latch)
"""Those that are checked on all venues together."""
