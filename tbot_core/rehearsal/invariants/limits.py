"""Invariants of limits, money and requests: added up anew from the journal's events, by none of the bot's own code."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import BrokerEventKind
from tbot_core.journal import records
from tbot_core.journal.ledger.accounts import ADJUSTMENTS
from tbot_core.journal.ledger.booking import ledger_of
from tbot_core.model.types import ExitReason, Leg, OrderType, atoms_of, dollars_of, ticks_of, units_of
from tbot_core.rehearsal.venue_facts import fill_effect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from tbot_core.journal.store import Event
    from tbot_core.rehearsal.history import RehearsalHistory

_ENDED: Final = frozenset(
    {records.DROPPED, BrokerEventKind.REJECTED, BrokerEventKind.CANCELLED, BrokerEventKind.EXPIRED}
)
_EXECUTED: Final = frozenset({BrokerEventKind.FILL, BrokerEventKind.BUSTED, BrokerEventKind.CORRECTED})
_OVERFILLS: Final = frozenset({"F28", "F38"})
_DAILY: Final = "daily loss latch"


@attrs.define(kw_only=True)
class _Part:
    # An order that enters something, as its intent has it: units, and the worst price in ticks.
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
    """What a signal has entered: its entry, and the orders that have added to it; `side` is 1 long and -1 short."""

    symbol: str
    strategy: str
    side: int
    parts: list[_Part]
    sold: int = 0

    @property
    def bought(self) -> int:
        """The units filled, of the entry and of what was added."""
        return sum(one.bought for one in self.parts)

    @property
    def paid(self) -> int:
        """What they have cost, in atoms."""
        return sum(one.paid for one in self.parts)

    @property
    def target(self) -> int:
        """What the entry alone has cost."""
        return self.parts[0].paid

    @property
    def cost(self) -> int:
        """What is left of it, at what it cost, in atoms."""
        return self.paid * max(self.bought - self.sold, 0) // self.bought if self.bought else 0

    @property
    def exposure(self) -> int:
        """What is held of it, and what may still be filled, at the worst."""
        return self.cost + sum(one.rest * one.worst for one in self.parts)

    @property
    def alive(self) -> bool:
        """Whether it takes a place: something is held, or may still be filled."""
        return self.bought > self.sold or any(one.rest for one in self.parts)

    @property
    def net(self) -> int:
        """What its orders have made of it, in signed units: of the other side where more was sold than bought."""
        return self.side * (self.bought - self.sold)


class ExposureReckoner:
    """Entries by their signal, as the events tell of them one after the other.

    What goes the way of an entry and is none has taken back what was filled too much: it counts for the symbol.
    """

    def __init__(self, band: Decimal) -> None:
        self._band = band
        self.entries: dict[str, SignalExposure] = {}
        self._of: dict[str, tuple[str, _Part | None]] = {}
        self._prices: dict[str, float] = {}
        self._executions: dict[tuple[str, str], tuple[int, int]] = {}
        self._takes_back: dict[str, int] = {}
        self._taken_back: Counter[str] = Counter()

    def apply(self, event: Event) -> SignalExposure | None:
        """Take an event in; the entry, where it intends one, or adds to one."""
        payload, cid = event.payload, event.cid
        if event.kind in {records.DECISION, records.TOP_UP} and cid is not None:
            self._prices[cid] = payload["price"]
        elif event.kind == records.INTENDED and cid is not None:
            return self._intended(cid, payload)
        elif event.kind == records.ADJUSTMENT:
            self._adjusted(payload)
        elif event.kind == records.CORPORATE_ACTION:
            self._split(payload["symbol"], payload["after"], payload["before"])
        elif cid in self._of:
            signal, part = self._of[cid]
            if part is not None:
                part.ended |= event.kind in _ENDED
            if event.kind in _EXECUTED and "execution_id" in payload:
                self._executed(self.entries[signal], part, cid, event)
        return None

    def closable(self, payload: Mapping[str, Any]) -> int | None:
        """What an order that closes may be for at most, in units; None where nothing is known of its signal.

        It is what is held of its signal and it would make less of. One that takes back what was filled too much may be
        for what all orders of its symbol have come to.
        """
        signal, way = records.signal_of(payload["signal"]), 1 if payload["buy"] else -1
        if payload["reason"] == ExitReason.EXCESS.value:
            entered = sum(one.net for one in self.entries.values() if one.symbol == signal.symbol)
            return max(-way * (entered + self._taken_back[signal.symbol]), 0)
        entry = self.entries.get(signal.text)
        # What is beyond an entry's side is no position of its signal: only an order that says so may take it back.
        return None if entry is None else max(entry.bought - entry.sold, 0) if way != entry.side else 0

    def _intended(self, cid: str, payload: Mapping[str, Any]) -> SignalExposure | None:
        signal = records.signal_of(payload["signal"])
        self._of[cid] = signal.text, None
        way, known = 1 if payload["buy"] else -1, self.entries.get(signal.text)
        if Leg(payload["leg"]) is not Leg.ENTRY:
            if known is not None and way == known.side:
                self._takes_back[cid] = way
            return None
        market = payload["type"] == OrderType.MARKET.value
        worst = self._prices[cid] * float(1 + self._band) if market else float(payload["limit_price"])
        part = _Part(units=units_of(Decimal(payload["quantity"])), worst=ticks_of(worst) - market)
        self._of[cid] = signal.text, part
        fresh = SignalExposure(symbol=signal.symbol, strategy=signal.strategy, side=way, parts=[])
        entry = self.entries.setdefault(signal.text, fresh)
        entry.parts.append(part)
        return entry

    def _executed(self, entry: SignalExposure, part: _Part | None, cid: str, event: Event) -> None:
        # An execution, or in its place what it is since it was taken back or corrected; a void one stays void.
        mark = cid, event.payload["execution_id"]
        if mark in self._executions and event.kind == BrokerEventKind.FILL:
            return
        was_units, was_paid = self._executions.get(mark, (0, 0))
        if event.kind == BrokerEventKind.BUSTED or (
            event.kind == BrokerEventKind.CORRECTED and mark in self._executions and not was_units
        ):
            units = paid = 0
        else:
            units = units_of(Decimal(event.payload["quantity"]))
            paid = units * ticks_of(float(event.payload["price"]))
        self._executions[mark] = units, paid
        if part is not None:
            part.bought += units - was_units
            part.ended |= part.bought >= part.units  # what is taken back of it then is not filled again
            part.paid += paid - was_paid
        elif cid in self._takes_back:
            self._taken_back[entry.symbol] += self._takes_back[cid] * (units - was_units)
        else:
            entry.sold += units - was_units

    def _split(self, symbol: str, after: int, before: int) -> None:
        # Every share of a symbol became so many at the same cost in all.
        self._taken_back[symbol] = int(Fraction(self._taken_back[symbol] * after, before))
        for entry in self.entries.values():
            if entry.symbol == symbol:
                entry.sold = entry.sold * after // before
                for part in entry.parts:
                    part.bought, part.units = (units * after // before for units in (part.bought, part.units))

    def _adjusted(self, payload: Mapping[str, Any]) -> None:
        held = [one for one in self.entries.values() if one.symbol == payload["symbol"] and one.bought > one.sold]
        for entry in held:
            entry.sold += units_of(Decimal(payload["quantity"]))


def _i3(story: RehearsalHistory) -> Iterator[str]:
    # With each entry that is written down, the worst case of all that is held and worked lies within the limits.
    risk, ledger, equity = story.rules.risk, ExposureReckoner(story.rules.risk.price_band_pct), 0
    for event in story.events:
        if event.kind == records.SESSION_OPENED:
            equity = atoms_of(Decimal(event.payload["equity"]))
        entry = ledger.apply(event)
        if entry is None:
            continue
        entries = ledger.entries.values()
        sent = sum(1 for one in entries if one.strategy == entry.strategy)
        of_symbol = sum(one.exposure for one in entries if one.symbol == entry.symbol)
        figures = (
            ("gross exposure", sum(one.exposure for one in entries), int(equity * risk.max_gross_exposure)),
            (f"exposure in {entry.symbol}", of_symbol, int(equity * risk.max_risk_per_trade)),
            ("positions and entries", sum(1 for one in entries if one.alive), risk.max_open_positions),
            (f"entries of {entry.strategy}", sent, risk.max_trades),
        )
        yield from (f"{event.cid}: {what} {much}, {most} allowed" for what, much, most in figures if much > most)


def _i12_capped(story: RehearsalHistory) -> Iterator[str]:
    # No exit, and no stop of its own, is written down for more than what is held of its signal then.
    ledger, brackets = ExposureReckoner(story.rules.risk.price_band_pct), set[str]()
    for event in story.events:
        if event.kind == records.INTENDED and event.cid is not None:
            payload = event.payload
            brackets.update(payload["protection"])
            if Leg(payload["leg"]) is not Leg.ENTRY and event.cid not in brackets:
                held, units = ledger.closable(payload), units_of(Decimal(payload["quantity"]))
                if held is not None and units > held:
                    yield f"{event.cid} is for {units} units, and {held} were held"
        ledger.apply(event)


def _i5(story: RehearsalHistory) -> Iterator[str]:
    # Each order's executions have cost, in the journal and at the venue, the same to the atom.
    if story.held is None:
        return
    there, ours = Counter[str](), story.intents()
    for fact in story.facts:
        if fact.fill is not None and fact.client_order_id in ours:
            there[fact.client_order_id] += fact.atoms
    here: Counter[str] = Counter()
    told: dict[tuple[str, str], int] = {}
    for event in story.events:
        if event.kind not in _EXECUTED or event.cid not in ours:
            continue
        fill = records.fill_of(event.cid, event.payload)
        if fill is None:
            continue
        mark = event.cid, fill.execution_id
        if event.kind == BrokerEventKind.FILL and mark in told:  # it was taken back or corrected before it was told
            continue
        atoms = 0 if event.kind == BrokerEventKind.BUSTED else fill_effect(fill)[1]
        here[event.cid] += atoms - told.get(mark, 0)
        told[mark] = atoms
    lost = {cid for cid, record in story.orders.items() if not record.terminal} | story.untold
    for cid in sorted({*there, *here} - lost):
        if there[cid] != here[cid]:
            yield f"{cid} moved {here[cid]} atoms in the journal, {there[cid]} at the venue"


def _statement(story: RehearsalHistory) -> Iterator[str]:
    # I5: the cash of the ledger is the account's to the last unit, and nothing of it went unexplained.
    if story.held is None or any(not record.terminal for record in story.orders.values()):
        return
    ledger, books = ledger_of(story.events), story.way.exchange.floor.books
    if ledger.cash != dollars_of(books.cash):
        yield f"the ledger has {ledger.cash} USD, the account {dollars_of(books.cash)}"
    named = not story.untold
    if story.way.exchange.floor.character.rules.lists_closed and named:
        over = ledger.balances.get(ADJUSTMENTS)
        yield from (f"{amount} USD came out of nowhere" for amount in (over,) if amount)


def _statement_made(story: RehearsalHistory) -> Iterator[str]:
    # A day that ended in order has been stated: after the last execution the cash was held against the ledger's.
    #
    # A clock that is an hour ahead ends a day early, and others trade on: of such a day only our own count.
    kinds = [event.kind for event in story.events]
    if records.SESSION_CLOSED not in kinds or any(not record.terminal for record in story.orders.values()):
        return
    counted = story.intents() if "F68" in story.struck else {event.cid for event in story.events}
    executed = (at for at, one in enumerate(story.events) if one.kind in _EXECUTED and one.cid in counted)
    if records.STATEMENT not in kinds[max(executed, default=-1) + 1 :]:
        yield "the day ended, and nobody held the account's cash against the ledger's"


def _i18(story: RehearsalHistory) -> Iterator[str]:
    # No request is one too many for the limit that the venue names.
    turned = [request for request in story.way.requests if request.outcome == "429"]
    for request in turned:
        yield f"{request.kind} {request.client_order_id} at {request.at:.3f} s was one too many in a minute"


def _latch(story: RehearsalHistory) -> Iterator[str]:
    # After the daily loss latch nothing is entered, in this life or another; no latch is forgotten and set anew.
    latched = set[str]()
    for event in story.events:
        if event.kind == records.RISK and "latch" in event.payload["what"]:
            what = event.payload["what"]
            if what in latched:
                yield f"the {what} was set a second time at {event.applied:%H:%M:%S}: it had been forgotten"
            latched.add(what)
        elif event.kind == records.INTENDED and event.payload["leg"] == Leg.ENTRY.value and _DAILY in latched:
            yield f"{event.cid} was entered after the {_DAILY}"


def _cash(story: RehearsalHistory) -> Iterator[str]:
    # In a cash account nothing is sold short, and entries cost no more than the cash that had settled at the bell.
    floor, spent = story.way.exchange.floor, 0
    if floor.character.margin or story.struck & _OVERFILLS:
        return
    entries = {cid for cid, (_, leg, _) in story.intents().items() if leg is Leg.ENTRY}
    for event in story.events:
        if event.kind == records.INTENDED and event.cid in entries and not event.payload["buy"]:
            yield f"{event.cid} sells short in a cash account"
    for fact in story.facts:
        if fact.fill is not None and fact.kind == "execution" and fact.client_order_id in entries:
            spent += units_of(fact.fill.quantity) * ticks_of(float(fact.fill.price))
    settled = atoms_of(floor.character.cash)
    if spent > settled:
        yield f"entries cost {dollars_of(spent)}, settled were {dollars_of(settled)}"


LIMIT_INVARIANTS: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (
    _i3, _i5, _i12_capped, _statement, _statement_made, _i18, _latch, _cash,
)  # fmt: skip
LIMIT_INVARIANTS_OF_ALL: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (_i3, _latch)
"""Those of them that are asked of the story of all venues together."""
