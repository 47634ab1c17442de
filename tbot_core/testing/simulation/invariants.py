"""What must hold in every world, by the numbers of the security rules; each violation is one sentence.

The venue's facts are the truth. The journal is held against them, and the bot's own state against the journal.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from tbot_core import records
from tbot_core.model import Leg, OrderState, units_of
from tbot_core.projection import fold
from tbot_core.testing.simulation.reckoning import MONEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tbot_core.testing.simulation.story import Story

_NO_ENTRY: Final = frozenset({"exit-only", "halted"})
_OVERFILLS: Final = frozenset({"F28", "F30", "F38"})
_REPLAYED: Final = frozenset({"F29", "F43", "F44"})
_OPEN: Final = frozenset({OrderState.INTENDED, OrderState.SENDING, OrderState.UNKNOWN})
_GROWTH: Final = 60


def violations(story: Story) -> Iterator[str]:
    """Every violated invariant, once for each offender."""
    for check in (*_CHECKS, *MONEY):
        yield from (f"{check.__name__[1:].upper()}: {words}" for words in check(story))


def _i1(story: Story) -> Iterator[str]:
    """No signal's leg is filled beyond its intent, unless the venue itself did so."""
    if story.struck & _OVERFILLS:
        return
    intents = story.intents()
    filled: Counter[tuple[str, Leg]] = Counter()
    for fact in story.facts:
        if fact.kind == "execution" and fact.client_order_id in intents:
            signal, leg, _ = intents[fact.client_order_id]
            filled[signal.text, leg] += abs(fact.units)
    wanted: dict[tuple[str, Leg], int] = {}
    for signal, leg, units in intents.values():
        wanted[signal.text, leg] = max(units, wanted.get((signal.text, leg), 0))
    for (text, leg), units in filled.items():
        if leg is Leg.ENTRY and units > wanted[text, leg]:
            yield f"{leg.value} of {text} bought {units} of {wanted[text, leg]} intended units"


def _i2(story: Story) -> Iterator[str]:
    """Every order of ours at the venue was written down."""
    intents = story.intents()
    for fact in story.facts:
        if fact.kind == "accepted" and fact.ours and fact.client_order_id not in intents:
            yield f"{fact.client_order_id} is at the venue and not in the journal"


def _i4(story: Story) -> Iterator[str]:
    """At the end the books hold what the account holds, ours and what is known to be foreign."""
    if story.held is None:
        return
    there = story.way.exchange.floor.books.units
    symbols = {*there, *story.held, *story.foreign}
    for symbol in sorted(symbols):
        foreign = story.foreign.get(symbol, Decimal(0))
        known = story.held.get(symbol, 0) + (units_of(foreign) if foreign >= 0 else -units_of(-foreign))
        if known != there.get(symbol, 0):
            yield f"{symbol}: the books hold {known}, the account {there.get(symbol, 0)}"


def _i7(story: Story) -> Iterator[str]:
    """While a kill stands no entry leaves."""
    intents = story.intents()
    for request in story.way.requests:
        entry = request.kind == "submit" and intents.get(request.client_order_id, (None, None))[1] is Leg.ENTRY
        for since, until in story.killed if entry and request.left else ():
            if since < request.at < until:
                yield f"{request.client_order_id} left {request.at - since:.3f} s after the kill"


def _i8(story: Story) -> Iterator[str]:
    """Nothing is entered while exits alone are allowed."""
    state = "normal"
    intents = story.intents()
    for event in story.events:
        if event.kind == records.STATE:
            state = event.payload["state"]
        elif event.kind == records.SENDING and state in _NO_ENTRY and intents[event.cid or ""][1] is Leg.ENTRY:
            yield f"{event.cid} was sent while {state}"


def _i10(story: Story) -> Iterator[str]:
    """No execution is in the journal twice."""
    seen: set[tuple[str, str]] = set()
    for event in story.events:
        if event.kind == "fill" and event.cid is not None:
            mark = event.cid, event.payload["execution_id"]
            if mark in seen and "F30" not in story.struck:
                yield f"execution {mark[1]} of {mark[0]} is in the journal twice"
            seen.add(mark)


def _i12(story: Story) -> Iterator[str]:
    """Closing a position never opens the opposite one."""
    if story.struck & (_OVERFILLS | _REPLAYED | {"F27", "F46", "F47"}):
        return
    intents = story.intents()
    net: defaultdict[str, int] = defaultdict(int)
    side: dict[str, int] = {}
    for fact in story.facts:
        if fact.kind != "execution" or fact.client_order_id not in intents:
            continue
        signal, leg, _ = intents[fact.client_order_id]
        if leg is Leg.ENTRY:
            side[signal.text] = 1 if fact.units > 0 else -1
        net[signal.text] += fact.units
        if net[signal.text] * side.get(signal.text, 0) < 0:
            yield f"{signal.text} crossed zero to {net[signal.text]} units"


def _i14(story: Story) -> Iterator[str]:
    """What an append returned from is in the journal after any crash."""
    hashes = {event.seq: event.hash for event in story.events}
    for number, life in enumerate(story.lives, 1):
        for seq, mark in life.journal.acknowledged:
            if hashes.get(seq) != mark:
                yield f"event {seq} of life {number} is gone"
                break


def _i16(story: Story) -> Iterator[str]:
    """The journal adds up to what the desk holds."""
    if story.held is None:
        return
    told = {symbol: units for symbol, units in fold(story.events).portfolio.holdings.items() if units}
    held = {symbol: units for symbol, units in story.held.items() if units}
    if told != held:
        yield f"the journal adds up to {told}, the desk to {held}"


def _i20(story: Story) -> Iterator[str]:
    """The journal grows with what is traded, not with time or trouble."""
    orders = len(story.intents())
    most = 200 + _GROWTH * (orders + 1) + 40 * len(story.lives)
    if len(story.events) > most:
        yield f"{len(story.events)} events of {orders} orders"


def _settled(story: Story) -> Iterator[str]:
    """Once faults have stopped, no order stays in doubt."""
    if story.held is None:
        return
    for cid, record in story.orders.items():
        if record.state in _OPEN:
            yield f"{cid} is still {record.state.value}"


_CHECKS: Final[tuple[Callable[[Story], Iterator[str]], ...]] = (
    _i1, _i2, _i4, _i7, _i8, _i10, _i12, _i14, _i16, _i20, _settled,
)  # fmt: skip
