"""Invariant I13 of failover, by the journal and the venues' facts."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from tbot_core.contracts import BrokerEventKind
from tbot_core.journal import records
from tbot_core.model.types import Leg, units_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.journal.store import Event
    from tbot_core.rehearsal.history import RehearsalHistory

_ENDED: Final = frozenset(
    {
        records.DROPPED,
        BrokerEventKind.REJECTED,
        BrokerEventKind.CANCELLED,
        BrokerEventKind.EXPIRED,
        BrokerEventKind.FILL,
    }
)
_MOST_MOVES: Final = 2
_HOUR: Final = timedelta(hours=1)


def i13(history: RehearsalHistory) -> Iterator[str]:
    """Only the owner of an instrument enters it; its lease moves rarely, and only from a broker without open orders."""
    owners = _Owners(history)
    for event in history.events:
        yield from owners.apply(event)
    yield from _signals_at_two(history)


class _Owners:
    def __init__(self, history: RehearsalHistory) -> None:
        self._primary = history.name
        self._intents = history.intents()
        self._owner: dict[str, str] = {}
        self._epoch: defaultdict[str, int] = defaultdict(int)
        self._out: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._moves: list[tuple[datetime, str]] = []
        self._confirmed: set[str] = set()

    def apply(self, event: Event) -> Iterator[str]:
        """Apply an event; yields its violations."""
        match event.kind:
            case records.LEASE:
                yield from self._moved(event)
            case records.FAILOVER_CONFIRMED:
                self._confirmed.add(event.payload["of"])
            case records.INTENDED if event.cid is not None:
                self._out[self._at(event)][event.cid] = self._intents[event.cid][2]
            case records.SENDING if event.cid is not None and self._intents[event.cid][1] is Leg.ENTRY:
                symbol, at = self._intents[event.cid][0].symbol, self._at(event)
                owner = self._owner.get(symbol, self._primary)
                if at != owner:
                    yield f"{event.cid} was sent to {at}, and {symbol} is {owner}'s"
            case _ if event.kind in _ENDED:
                self._ended(event)

    def _at(self, event: Event) -> str:
        return str(event.payload.get("broker") or self._primary)

    def _moved(self, event: Event) -> Iterator[str]:
        payload = event.payload
        symbol, before = payload["symbol"], self._owner.get(payload["symbol"], self._primary)
        self._epoch[symbol] += 1
        if (payload["from"], payload["epoch"]) != (before, self._epoch[symbol]):
            yield f"{symbol} moved from {payload['from']} in epoch {payload['epoch']}, and was {before}'s"
        if self._out[before] and before not in self._confirmed:
            yield f"{symbol} moved away from {before} while {sorted(self._out[before])} were open"
        self._owner[symbol] = payload["to"]
        self._moves.append((event.applied, payload["since"]))
        breaks = {since for moved, since in self._moves if event.applied - moved < _HOUR}
        if len(breaks) > _MOST_MOVES:
            yield f"{symbol} moved in the {len(breaks)}th break within an hour"

    def _ended(self, event: Event) -> None:
        for out in self._out.values():
            if event.cid in out:
                if event.kind == BrokerEventKind.FILL:
                    out[event.cid] -= units_of(Decimal(event.payload["quantity"]))
                if event.kind != BrokerEventKind.FILL or out[event.cid] <= 0:
                    del out[event.cid]


def _signals_at_two(history: RehearsalHistory) -> Iterator[str]:
    # No signal is entered at two venues, by their facts.
    intents, seen = history.intents(), dict[str, str]()
    for name in (history.name, *history.elsewhere):
        for fact in history.world.way(name).exchange.matching.books.facts:
            found = intents.get(fact.client_order_id)
            if fact.kind == "accepted" and found is not None and found[1] is Leg.ENTRY:
                other = seen.setdefault(found[0].text, name)
                if other != name:
                    yield f"{found[0].text} was entered at {other} and at {name}"
