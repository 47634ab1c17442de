"""Looks every few seconds at what is held at the venues, and whether something there or the bot would close it."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from tbot_core.contracts import AccountActivityKind
from tbot_core.model.types import Leg, OrderState
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
    from tbot_core.rehearsal.bot import BotProcess
    from tbot_core.rehearsal.network import NetworkPath
    from tbot_core.rehearsal.world import World

EVERY_S: Final = 5.0
_ALARM_S: Final = 60.0
_MOVED_S: Final = 180.0
_ASKING: Final = frozenset({"cancel", "replace"})
_UNSURE: Final = frozenset({OrderState.SENDING, OrderState.UNKNOWN, OrderState.LOST})
_ASKED: Final = frozenset(
    {StateCause.KILL_FILE, StateCause.KILL_COMMAND, StateCause.STOP_COMMAND, StateCause.DEFENSE_COMMAND}
)
"""What people ask for makes nothing unsure: whatever they ask, what is held has a way out."""
_CLOSING: Final = frozenset({Leg.STOP, Leg.TARGET, Leg.EXIT})


class ExposureMonitor:
    """Since when each position of our orders has had no way out, and nobody who says so; `found` are the worst.

    `births`: when it met the session of each life first, in seconds of the world.
    """

    def __init__(self, world: World) -> None:
        self._loop = world.loop
        self._closes = world.ways[0].exchange.floor.closes
        self._beats = {name: _Beat(way) for name, way in zip(world.names, world.ways, strict=True)}
        self._life: BotProcess | None = None
        self._met: BotProcess | None = None
        self.births: list[float] = []
        self.found: dict[tuple[str, str], str] = {}

    def begin(self) -> None:
        """Look from now on, for as long as the exchange trades."""
        now = self._loop.time()
        session = None if self._life is None else self._life.session
        if session is not None and self._life is not self._met:
            self._met = self._life
            self.births.append(now)
        for keeper in () if session is None else session.supervisors:
            name = keeper.broker_session.name
            for symbol, words in self._beats[name].look(keeper, now):
                self.found.setdefault((name, symbol), f"{symbol}: {words}, at {name} at {now:.0f} s")
        if now < self._closes:
            self._loop.call_later(EVERY_S, self.begin)

    def watch(self, life: BotProcess | None) -> None:
        """Another life begins, or one is over."""
        self._life = life
        for beat in self._beats.values():
            beat.bare.clear()
            beat.loose.clear()
            beat.behind.clear()


class _Beat:
    # One venue: what our orders have made of it so far.
    def __init__(self, way: NetworkPath) -> None:
        self._way, self._floor = way, way.exchange.floor
        self._taken = 0
        self._units: defaultdict[str, int] = defaultdict(int)
        self.bare: dict[str, float] = {}
        self.loose: dict[str, float] = {}
        self.behind: dict[str, float] = {}

    def look(self, keeper: BrokerSupervisor, now: float) -> Iterator[tuple[str, str]]:
        """The symbols that too long had no way out, or too large a one, or a stop behind the level of its plan."""
        books = self._floor.books
        for fact in books.facts[self._taken :]:
            if fact.ours and fact.fill is not None:
                self._units[fact.symbol] += fact.units
            elif fact.kind == AccountActivityKind.SPLIT:
                self._units[fact.symbol] *= 2  # as of all that is held there
        self._taken = len(books.facts)
        for symbol, units in self._units.items():
            there = books.units.get(symbol, 0)
            held = min(units, max(there, 0)) if units > 0 else max(units, min(there, 0))
            close = self._closing(symbol, held)
            bare, loose = bool(held) and not close, any(left > abs(held) for left in close.values())
            known = (bare or loose) and (_says(keeper, symbol) if bare else _unsure(keeper, symbol))
            known = known or (loose and self._asks_in_vain(symbol, now))
            if _lasts(self.bare, symbol, now, there=bare and not known):
                yield symbol, f"{held} units were held for {_ALARM_S:.0f} s with no way out, and nothing said so"
            if _lasts(self.loose, symbol, now, there=loose and not known):
                yield symbol, f"more than the {held} units held could be closed for {_ALARM_S:.0f} s"
            behind = self._behind(keeper, symbol) and not (_unsure(keeper, symbol) or self._asks_in_vain(symbol, now))
            if _lasts(self.behind, symbol, now, there=behind, alarm_s=_MOVED_S):
                yield symbol, f"a stop rested behind the level of its plan for {_MOVED_S:.0f} s"

    def _behind(self, keeper: BrokerSupervisor, symbol: str) -> bool:
        # Whether a stop of a position that nobody has to leave alone rests a trail's step behind its plan.
        desk = keeper.broker_session.decision_engine
        held = desk.position_manager.held.get(symbol)
        if held is None or held.exit_reason is not None or desk.position_manager.exits.exits_blocked(symbol):
            return False
        stops = [one for one in self._floor.open if one.ours and one.cid == held.resting.get(Leg.STOP)]
        return any(not one.triggered and held.plan.is_ahead_of(one.level) for one in stops)

    def _asks_in_vain(self, symbol: str, now: float) -> bool:
        # Whether the bot has asked to take back or move what rests for the symbol, and that got lost on its way.
        rests = {one.cid for one in self._floor.open if one.ours and one.order.symbol == symbol}
        recent = takewhile(lambda one: now - one.at <= _ALARM_S, reversed(self._way.requests))
        return any(one.kind in _ASKING and one.client_order_id in rests and not one.reached for one in recent)

    def _closing(self, symbol: str, units: int) -> Counter[Leg]:
        # How much of it the orders of ours at work would close, by their leg; of nothing held, all of them would.
        close = Counter[Leg]()
        for one in self._floor.open:
            if one.ours and one.order.symbol == symbol and one.order.leg in _CLOSING:
                close[one.order.leg] += one.remaining_units if not units or one.order.buy is (units < 0) else 0
        return +close


def _lasts(since: dict[str, float], symbol: str, now: float, *, there: bool, alarm_s: float = _ALARM_S) -> bool:
    # Whether something has been so for too long.
    if not there:
        since.pop(symbol, None)
        return False
    return now - since.setdefault(symbol, now) > alarm_s


def _says(keeper: BrokerSupervisor, symbol: str) -> bool:
    # Whether the bot would close it itself, or knows that something is wrong and says so.
    if _unsure(keeper, symbol):
        return True
    custody = keeper.broker_session.decision_engine.position_manager
    held = custody.held.get(symbol)
    if held is None:
        return False
    # Where no stop is thought to rest it acts on closes, or an alert says that the position is bare.
    waits = held.exit_reason is not None and custody.exits.must_wait(held.exit_reason)
    return held.plan.on_close or not (waits or Leg.STOP in held.resting)


def _unsure(keeper: BrokerSupervisor, symbol: str) -> bool:
    # Whether the bot knows that something is wrong, or is still asking.
    desk, execution = keeper.broker_session.decision_engine, keeper.broker_session.execution
    if (
        not _ASKED.issuperset(keeper.trading_state.causes)
        or symbol in keeper.reconciler.external
        or symbol in desk.portfolio.unassigned_units
    ):
        return True
    orders = [record for record in execution.orders.values() if record.order.symbol == symbol]
    return any(one.state in _UNSURE or one.order.client_order_id in execution.lookups for one in orders)
