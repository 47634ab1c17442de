"""Compares a session that was traded at a venue with its replay: decisions, orders, fills and trades.

Each difference has a cause, or none: then one of the two is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import BrokerEventKind
from tbot_core.journal import records
from tbot_core.journal.store import Event
from tbot_core.model.reasons import Reason
from tbot_core.model.types import Leg, Trade

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from decimal import Decimal

    from tbot_core.model.calendar import Session
    from tbot_core.model.types import SignalId


class Cause(StrEnum):
    """Why a decision, order, fill or trade at the venue differs from the replay's; `NONE`: not known."""

    SPREAD = "the entry is priced at the far side of the quote, the replay's at the last close"
    REFUSED = "the venue refused an order that a simulator takes"
    SIGNAL = "an order, fill or trade of a signal that differs above"
    HOLDINGS = "a limit counts what is held, which differs above"
    NONE = "no cause is known"


class Kind(IntEnum):
    """What is compared; of one minute in this order."""

    DECISION = 0
    ORDER = 1
    FILL = 2
    TRADE = 3


@attrs.frozen(order=True)
class Place:
    """Where a row stands: the signal's minute, what it is, and which; the second stop of a signal has the number 2."""

    minute: int
    kind: Kind
    strategy: str
    symbol: str
    leg: str = ""
    number: int = 0

    @property
    def text(self) -> str:
        """The place as text."""
        leg = f" {self.leg}" if self.leg else ""
        return f"{self.kind.name.lower()} [{self.strategy.upper()}] {self.symbol} at minute {self.minute}{leg}"


Row = dict[str, str]


@attrs.frozen(kw_only=True)
class Difference:
    """A row that differs: its fields at the venue and in the replay, None where it is absent there."""

    place: Place
    live: Row | None
    replay: Row | None
    cause: Cause

    @property
    def minute(self) -> int:
        """The minute in which it begins: that of the first fill, else that of the signal."""
        filled = [int(row["minute"]) for row in (self.live, self.replay) if row is not None and "minute" in row]
        return min(filled, default=self.place.minute)

    @property
    def changes_holdings(self) -> bool:
        """Whether limits count it: an entry is reserved from its decision on."""
        return self.place.kind in {Kind.DECISION, Kind.FILL} or self.place.leg == Leg.ENTRY.value

    @property
    def sentence(self) -> str:
        """The difference in a line."""
        names = sorted({*(self.live or ()), *(self.replay or ())})
        both = [(name, (self.live or {}).get(name), (self.replay or {}).get(name)) for name in names]
        if self.live is None or self.replay is None:
            there, row = ("at the venue", self.live) if self.replay is None else ("in the replay", self.replay)
            words = f"only {there}: {_text(row or {})}"
        else:
            words = ", ".join(f"{name} {one}, in the replay {other}" for name, one, other in both if one != other)
        return f"{self.place.text}: {words} ({self.cause.value})"


@attrs.frozen(kw_only=True)
class SessionRecord:
    """A traded session: its events and trades. Fees are left out, as a venue books them a day later."""

    events: Sequence[Event]
    trades: Sequence[Trade]

    def rows(self, session: Session) -> dict[Place, Row]:
        """All rows that are compared."""
        found: dict[Place, Row] = {}
        places: dict[str, Place] = {}
        count: Counter[tuple[SignalId, Leg]] = Counter()
        for event in self.events:
            if event.kind == records.INTENDED and event.cid is not None:
                order = records.order_of(event.cid, event.payload)
                count[order.signal, order.leg] += 1
                number = count[order.signal, order.leg]
                places[event.cid] = place = _place(order.signal, Kind.ORDER, order.leg.value, number)
                found[place] = {
                    "side": "buy" if order.buy else "sell",
                    "quantity": _plain(order.quantity),
                    "type": order.type.value,
                    "limit": _plain(order.limit_price),
                    "stop": _plain(order.stop_price),
                    "reason": str(order.reason or ""),
                }
            elif event.kind in {records.DECISION, records.TOP_UP}:
                signal = records.signal_of(event.payload["signal"])
                found[_place(signal, Kind.DECISION, "" if event.kind == records.DECISION else event.kind)] = {
                    name: str(event.payload[name]) for name in ("side", "reason", "price", "stop", "target")
                }
            elif (fill := records.fill_of(event.cid or "", event.payload)) is not None and event.cid in places:
                at = attrs.evolve(places[event.cid], kind=Kind.FILL)
                row = found.setdefault(at, {"minute": str(session.minute(fill.time)), "fills": ""})
                row["fills"] = f"{row['fills']} {_plain(fill.quantity)} @ {_plain(fill.price)}".strip()
        return found | self._trade_rows(session)

    def _trade_rows(self, session: Session) -> dict[Place, Row]:
        return {
            Place(session.minute(one.entry_time), Kind.TRADE, one.strategy, one.symbol): {
                "side": one.side.word,
                "quantity": _plain(one.quantity),
                "entry": _plain(one.entry_price),
                "exit": _plain(one.exit_price),
                "left": str(session.minute(one.exit_time)),
                "reason": one.exit_reason.value,
                "gain": _plain(one.pnl + one.fees),
            }
            for one in self.trades
        }

    @property
    def refused(self) -> frozenset[str]:
        """The symbols of orders that the venue refused to accept, or to change."""
        kinds = {BrokerEventKind.REJECTED, BrokerEventKind.CANCEL_REFUSED}
        refused = {event.cid for event in self.events if event.kind in kinds}
        orders = (event for event in self.events if event.kind == records.INTENDED and event.cid in refused)
        return frozenset(event.payload["signal"]["symbol"] for event in orders)


def differences(live: SessionRecord, replay: SessionRecord, session: Session, half_spread: Decimal) -> list[Difference]:
    """The rows that differ, in their order in the session, each with its cause."""
    theirs, ours = live.rows(session), replay.rows(session)
    found: list[Difference] = []
    for place in sorted({*theirs, *ours}):
        one, other = theirs.get(place), ours.get(place)
        if one != other:
            cause = _cause(place, (one, other), found, (half_spread, live.refused))
            found.append(Difference(place=place, live=one, replay=other, cause=cause))
    return found


def by_cause(found: Iterable[Difference]) -> dict[Cause, int]:
    """How many differences each cause has."""
    return dict(Counter(one.cause for one in found))


def _cause(
    place: Place,
    rows: tuple[Row | None, Row | None],
    found: Sequence[Difference],
    venue: tuple[Decimal, frozenset[str]],
) -> Cause:
    # The cause of a difference; those found before it count, and what the venue quoted and refused.
    half_spread, refused = venue
    known = [one for one in found if one.cause is not Cause.NONE]
    own = any(one.place.symbol == place.symbol and _same_signal(one.place, place) for one in known)
    changes = place.kind is Kind.DECISION or place.leg == Leg.ENTRY.value
    if half_spread and changes and not own and _is_priced(place, *rows):
        return Cause.SPREAD
    if own:
        return Cause.SIGNAL
    if place.symbol in refused and place.kind is not Kind.DECISION:
        return Cause.REFUSED
    held = any(one.changes_holdings and one.minute <= place.minute for one in known)
    return Cause.HOLDINGS if held and _counts_holdings(place, *rows) else Cause.NONE


def _same_signal(earlier: Place, place: Place) -> bool:
    return earlier.strategy == place.strategy and (earlier.minute == place.minute or place.kind is Kind.TRADE)


def _is_priced(place: Place, live: Row | None, replay: Row | None) -> bool:
    # Whether a decision or an entry follows from the price at which it is sized.
    if place.kind is Kind.DECISION:
        return any(_reason(row) in _SIZED for row in (live, replay))
    return live is not None and replay is not None and live | _PRICED == replay | _PRICED


def _counts_holdings(place: Place, live: Row | None, replay: Row | None) -> bool:
    if place.kind is not Kind.DECISION:
        return True
    return any((reason := _reason(row)) is not None and reason in _COUNTED for row in (live, replay))


def _reason(row: Row | None) -> Reason | None:
    return None if row is None else Reason[row["reason"]]


_PRICED: Final = {"limit": "", "quantity": ""}
_SIZED: Final = frozenset({Reason.SPREAD_WIDE, *(one for one in Reason if 60 <= one < 70)})
_COUNTED: Final = frozenset(one for one in Reason if 60 <= one < 100)


def _place(signal: SignalId, kind: Kind, leg: str = "", number: int = 0) -> Place:
    return Place(signal.minute, kind, signal.strategy, signal.symbol, leg, number)


def _plain(number: Decimal | None) -> str:
    return "" if number is None else f"{number.normalize():f}"


def _text(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in row.items() if value)
