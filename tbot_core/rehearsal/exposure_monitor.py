"""Checks every few seconds that no more can be closed than is held, that stops follow their plan, and what is reserved.

How long positions are bare is measured from the venue's side (`rehearsal.invariants.protection`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from tbot_core.contracts import AccountActivityKind, BrokerEventKind
from tbot_core.model.types import Leg, OrderState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
    from tbot_core.rehearsal.bot import BotProcess
    from tbot_core.rehearsal.network import NetworkPath
    from tbot_core.rehearsal.world import World
    from tbot_core.trading.portfolio import Portfolio

EVERY_S: Final = 5.0
_ALARM_S: Final = 60.0
_MOVED_S: Final = 180.0
_CHANGES: Final = frozenset({"cancel", "replace"})
_OPEN: Final = frozenset(
    {OrderState.SENDING, OrderState.NEW, OrderState.PARTIALLY_FILLED, OrderState.UNKNOWN, OrderState.LOST}
)
_UNCLEAR: Final = frozenset({OrderState.SENDING, OrderState.UNKNOWN, OrderState.LOST})
_BY_OPERATOR: Final = frozenset({"KILL_FILE", "KILL_COMMAND", "STOP_COMMAND", "DEFENSE_COMMAND"})
"""Causes raised by the operator: they explain no order."""
_CLOSING: Final = frozenset({Leg.STOP, Leg.TARGET, Leg.EXIT})


class ExposureMonitor:
    """Finds closing orders for more than is held, stops behind their plan, and entries without reservation (`found`).

    `births`: when it first saw the session of each process, in seconds of the world.
    """

    def __init__(self, world: World) -> None:
        self._loop = world.loop
        self._closes = world.ways[0].exchange.matching.closes
        self._venues = {name: _VenueMonitor(way) for name, way in zip(world.names, world.ways, strict=True)}
        self._life: BotProcess | None = None
        self._last_seen: BotProcess | None = None
        self.births: list[float] = []
        self.found: dict[tuple[str, str], str] = {}

    def begin(self) -> None:
        """Check now and every few seconds until the close."""
        now = self._loop.time()
        session = None if self._life is None else self._life.session
        if session is not None and self._life is not self._last_seen:
            self._last_seen = self._life
            self.births.append(now)
        for supervisor in () if session is None else session.supervisors:
            name = supervisor.broker_session.name
            for symbol, words in self._venues[name].check(supervisor, now):
                self.found.setdefault((name, symbol), f"{symbol}: {words}, at {name} at {now:.0f} s")
        if now < self._closes:
            self._loop.call_later(EVERY_S, self.begin)

    def watch(self, life: BotProcess | None) -> None:
        """Set the current process; None if it has ended."""
        self._life = life
        for venue in self._venues.values():
            venue.loose.clear()
            venue.behind.clear()


class _VenueMonitor:
    # One venue, and the units that our orders have traded there.
    def __init__(self, way: NetworkPath) -> None:
        self._way, self._matching = way, way.exchange.matching
        self._facts_read = 0
        self._units: defaultdict[str, int] = defaultdict(int)
        self.loose: dict[str, float] = {}
        self.behind: dict[str, float] = {}

    def check(self, supervisor: BrokerSupervisor, now: float) -> Iterator[tuple[str, str]]:
        """The symbols that were over-protected or had a lagging stop for too long, or an entry without reservation."""
        books = self._matching.books
        for fact in books.facts[self._facts_read :]:
            if fact.ours and fact.fill is not None:
                self._units[fact.symbol] += fact.units
            elif fact.kind == AccountActivityKind.SPLIT:
                self._units[fact.symbol] *= 2  # a split doubles every holding
        self._facts_read = len(books.facts)
        for symbol, units in self._units.items():
            present = books.units.get(symbol, 0)
            held = min(units, max(present, 0)) if units > 0 else max(units, min(present, 0))
            close = self._closing(symbol, held)
            loose = _together(close) > abs(held)
            explained = loose and (_is_unclear(supervisor, symbol) or self._lost_request(symbol, now))
            yield from _unreserved(supervisor, symbol)
            if _persists(self.loose, symbol, now, present=loose and not explained):
                yield symbol, f"more than the {held} units held could be closed for {_ALARM_S:.0f} s"
            behind = self._stop_lags(supervisor, symbol) and not (
                _is_unclear(supervisor, symbol) or self._lost_request(symbol, now) or self._refused_change(symbol, now)
            )
            if _persists(self.behind, symbol, now, present=behind, alarm_s=_MOVED_S):
                yield symbol, f"a stop rested behind the level of its plan for {_MOVED_S:.0f} s"

    def _stop_lags(self, supervisor: BrokerSupervisor, symbol: str) -> bool:
        # Whether the stop of a position without blocked exits rests a trailing step or more behind its plan.
        decision_engine = supervisor.broker_session.decision_engine
        manager = decision_engine.position_manager
        if manager.exits.exits_blocked(symbol):
            return False
        lots = [held for held in manager.held.values() if held.position.symbol == symbol and held.exit_reason is None]
        plans = {held.stop.cid: held.plan for held in lots if held.stop is not None}
        stops = [order for order in self._matching.open if order.ours and order.cid in plans and not order.triggered]
        return any(plans[order.cid].is_ahead_of(order.level) for order in stops)

    def _lost_request(self, symbol: str, now: float) -> bool:
        # Whether a cancel or replace of a resting order of the symbol got lost recently.
        rests = {order.cid for order in self._matching.open if order.ours and order.order.symbol == symbol}
        recent = takewhile(lambda one: now - one.at <= _ALARM_S, reversed(self._way.requests))
        return any(
            request.kind in _CHANGES and request.client_order_id in rests and not request.reached for request in recent
        )

    def _refused_change(self, symbol: str, now: float) -> bool:
        # Whether a change of a resting order was refused recently: it is requested again when a minute closes.
        rests = {order.cid for order in self._matching.open if order.ours and order.order.symbol == symbol}
        recent = takewhile(lambda timed: now - timed[0] <= _MOVED_S, reversed(self._matching.timed_events))
        return any(one.kind == BrokerEventKind.CANCEL_REFUSED and one.client_order_id in rests for _, one in recent)

    def _closing(self, symbol: str, units: int) -> Counter[Leg]:
        # The units that our working orders would close, by leg; all of their units if nothing is held.
        close = Counter[Leg]()
        for order in self._matching.open:
            if order.ours and order.order.symbol == symbol and order.order.leg in _CLOSING:
                close[order.order.leg] += order.remaining_units if not units or order.order.buy is (units < 0) else 0
        return +close


def _together(close: Counter[Leg]) -> int:
    # The units that all closing orders may close: of a stop and a target, which end each other, one.
    return close[Leg.EXIT] + max(close[Leg.STOP], close[Leg.TARGET])


def _unreserved(supervisor: BrokerSupervisor, symbol: str) -> Iterator[tuple[str, str]]:
    # Entries that may still fill, and that no limit counts.
    exposure = supervisor.broker_session.decision_engine.exposure
    for cid, ticket in supervisor.broker_session.decision_engine.book.tickets.items():
        record = ticket.record
        is_entry = record.order.leg is Leg.ENTRY and record.order.symbol == symbol
        if is_entry and record.state in _OPEN and record.open_quantity and cid not in exposure.working:
            yield symbol, f"the entry {cid} is {record.state.value}, and is not reserved"
    reserved = sum(
        _cost(broker.portfolio) + sum(it.worst_atoms for it in broker.working.values())
        for broker in exposure.all_brokers
    )
    if exposure.gross() < reserved:
        yield symbol, f"the gross exposure counts {exposure.gross()} of {reserved} atoms held and reserved"
    for book in (broker.portfolio for broker in exposure.all_brokers):
        gained = sum(position.pnl_atoms for position in (*book.closed, *book.positions.values()))
        gained += sum(one.pnl_atoms for one in book.surplus)
        if book.pnl_atoms != gained:
            yield symbol, f"the profit of the session counts {book.pnl_atoms} atoms, its trades gained {gained}"


def _cost(book: Portfolio) -> int:
    # The cost of what is open, summed anew: a correction may have changed it.
    surplus = sum(abs(one.units) * one.price for one in book.surplus)
    return surplus + sum(position.cost_atoms for position in book.positions.values())


def _persists(since: dict[str, float], symbol: str, now: float, *, present: bool, alarm_s: float = _ALARM_S) -> bool:
    # Whether a condition has lasted for too long.
    if not present:
        since.pop(symbol, None)
        return False
    return now - since.setdefault(symbol, now) > alarm_s


def _is_unclear(supervisor: BrokerSupervisor, symbol: str) -> bool:
    # Whether the bot knows that something is wrong, or is still looking it up.
    decision_engine = supervisor.broker_session.decision_engine
    if (
        not _BY_OPERATOR.issuperset(cause.name for cause in supervisor.trading_state.causes)
        or symbol in supervisor.reconciler.external
        or symbol in decision_engine.portfolio.unassigned_units
    ):
        return True
    tickets = [ticket for ticket in decision_engine.book.tickets.values() if ticket.order.symbol == symbol]
    return any(ticket.state in _UNCLEAR or ticket.must_look_up for ticket in tickets)
