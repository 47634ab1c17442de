"""The bot in a simulated world: the real session, journal and execution engine in a process that may crash.

Only its strategy is simulated: it signals where the seed says so. A crash happens in its journal or its account, at a
planned operation.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import attrs
import numpy as np

from tbot_core.contracts import Broker, BrokerCapabilities, FeedSession, LiveSession, SupportsLiveVix
from tbot_core.contracts.settings import StrategySettings
from tbot_core.engine.live.market_session import LiveTradingSession
from tbot_core.engine.session.arming import LiveContext
from tbot_core.engine.session.broker_login import log_in
from tbot_core.engine.session.broker_session import StandbyBroker
from tbot_core.engine.session.config import LiveConfig, ProcessSignals
from tbot_core.engine.session.feed_session import SessionFeed
from tbot_core.engine.session.session import SessionContext
from tbot_core.errors import BrokerError
from tbot_core.journal import records
from tbot_core.journal.store import Event, Journal, NewEvent, open_journal
from tbot_core.model.signals import ExitRules, Signals
from tbot_core.model.types import Account, atoms_of
from tbot_core.model.window import Window
from tbot_core.rehearsal.random_streams import RandomStream
from tbot_core.testing.trades import rules
from tbot_core.trading.orders import ClientOrderIds
from tbot_core.trading.proposals import ActiveStrategy, TradingRules

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.execution.broker_account import BrokerAccount
    from tbot_core.model.bars import Bars
    from tbot_core.model.clock import Clock
    from tbot_core.model.day_facts import DayFacts
    from tbot_core.rehearsal.world import World
    from tbot_core.trading.universe import Universe

POLL_S: Final = 1.0

WATCH_S: Final = 1.0

TTL_S: Final = 20.0

_BINDS: Final = 0.2

_BINDS_ALONE: Final = 0.1

TAG: Final = "FAILOVER_ACTIVE"

_CONNECT_S: Final = 1.0

_MANY: Final = 30

_LEAST_MINUTES: Final = 12

_FAILS_OVER: Final = 0.7

_AIMS: Final = 0.4

TOPPING_UP: Final[Mapping[str, Any]] = {
    "rebalance_top_up": True,
    "rebalance_threshold": Decimal(0),
    "rebalance_check_interval": 60.0,
    "total_allocation": Decimal("0.6"),
    "max_risk_per_trade": Decimal("0.2"),
    "max_gross_exposure": Decimal("0.9"),
}
"""Settings of a bot with top-ups: a check each minute, and large positions, so that a gap is a whole share."""


@attrs.frozen(kw_only=True, eq=False)
class ScriptedStrategy:
    """A strategy with planned signals: `calls` are (minute, row, side), each minute and row once.

    Stop and target are `distance` and `gain` away from the price, as fractions of it; a `gain` of NaN is no target.
    """

    window: Window
    calls: tuple[tuple[int, int, int], ...]
    exits: ExitRules
    distance: float
    gain: float = math.nan

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:  # noqa: ARG002  it looks at prices alone
        """The planned signals of closed minutes that have a price."""
        close = bars.field("close")
        count = close.shape[0]
        known = [call for call in self.calls if since <= call[0] < count and not np.isnan(close[call[0], call[1]])]
        minute, row, side = (
            (np.array(column, dtype=np.int64) for column in zip(*known, strict=True))
            if known
            else (np.zeros(0, dtype=np.int64) for _ in range(3))
        )
        price = close[minute, row]
        return Signals(
            cells=(row,),
            minute=minute,
            side=side,
            price=price,
            strength=np.full(len(minute), 0.01),
            stop=np.round(price * (1 - side.astype(np.float64) * self.distance), 2),
            target=np.round(price * (1 + side.astype(np.float64) * self.gain), 2),
            rule=np.zeros(len(minute), dtype=np.int64),
            rules=("drawn",),
            exits=self.exits,
        )


@attrs.frozen(kw_only=True, eq=False)
class BotConfig:
    """The configuration of a seed's bot: strategies, settings, poll intervals.

    `failover`: whether entries may go to the world's other venues; `is_drilled`: whether a failover drill was passed.
    `on_events` receives journaled events; `live` returns the live context of an account, None on paper; `signals` are
    the process's signals; `vix` are the sources of the live VIX, None without any.
    """

    entrants: tuple[ActiveStrategy, ...]
    rules: Callable[[Any], TradingRules]
    stream: RandomStream
    poll_s: float = POLL_S
    watch_s: float = WATCH_S
    failover: bool = False
    is_drilled: bool = True
    on_events: Callable[[Sequence[NewEvent]], None] = lambda _entries: None
    live: Callable[[str], LiveContext | None] = lambda _account_id: None
    signals: ProcessSignals = attrs.field(factory=ProcessSignals)
    vix: tuple[SupportsLiveVix, ...] | None = None

    @property
    def on_close(self) -> frozenset[str]:
        """The strategies whose plan has its stop on closed bars, so that none rests at a broker."""
        strategies = ((entrant.name, entrant.strategy) for entrant in self.entrants)
        return frozenset(
            name for name, it in strategies if isinstance(it, ScriptedStrategy) and it.exits.trigger == "close"
        )


@attrs.frozen(kw_only=True)
class BotProcessResult:
    """A process that has ended: the acknowledged heads of its journal, and the number of its last event.

    `written`: its events, each with the second of the world.
    """

    acknowledged: list[tuple[int, str]]
    last: int
    written: list[tuple[float, NewEvent]] = attrs.field(factory=list)


class SimulatedCrash(BaseException):
    """The process has crashed; no code of the bot catches it."""


class AcknowledgedJournal(Protocol):
    """A journal; `acknowledged` has its head after each append that returned."""

    acknowledged: list[tuple[int, str]]

    @property
    def head(self) -> tuple[int, str]:
        """Sequence number and hash of the last event."""

    def close(self) -> None:
        """Close the file."""


class BotEnvironment(Protocol):
    """The environment of a bot: a clock, a feed, and venues by name."""

    @property
    def clock(self) -> Clock:
        """The clock."""

    def client(self, name: str) -> Broker:
        """A new client of a venue."""

    def session_feed(self) -> FeedSession | LiveSession:
        """The session's feed."""

    def universe(self) -> Universe:
        """The feed's symbols, with the facts known before the open."""


class BotConnections(Protocol):
    """A process's connections to what outlives it, its journal and its account; they decide where it may crash."""

    def journal(self, path: Path) -> AcknowledgedJournal:
        """The journal at a path."""

    def broker(self, world: BotEnvironment, name: str) -> Broker:
        """A client of a venue."""


def bot_config(world: World, further: Mapping[str, Any] | None = None) -> BotConfig:
    """The bot of a world: one to five strategies, limits that sometimes bind, and `further` settings."""
    stream = world.chances.stream("bot")
    entrants = tuple(_entrant(world, stream, rank) for rank in range(stream.whole(1, 5)))
    settings: dict[str, Any] = {
        "max_gross_exposure": Decimal(str(round(stream.between(0.1, 0.9), 2))),
        "total_allocation": Decimal("0.2"),
        "max_risk_per_trade": Decimal(str(round(stream.between(0.01, 0.1), 3))),
        "max_trades": stream.whole(1, 6),
        "weights": tuple(Decimal("0.16") for _ in range(6)),
        "max_open_positions": stream.whole(1, 8),
        "daily_loss_limit": Decimal(str(round(stream.between(0.002, 0.05), 4))),
        "one_trade_per_symbol_per_day": stream.happens(0.3),
        "flatten_before_close": stream.whole(2, 6),
        "max_rejects_in_row": 5,
    }
    if world.falls:  # it reaches the daily loss limit, with signals after it
        settings |= {"daily_loss_limit": Decimal("0.001"), "max_trades": _MANY}
    settings |= _further_limits(world)
    settings |= _rebalance_settings(world.chances.stream("rebalance")) | dict(further or {})
    failover = len(world.names) > 1 and world.chances.stream("failover").happens(_FAILS_OVER)
    return BotConfig(
        entrants=entrants, rules=lambda venue: rules(venue=venue, **settings), stream=stream, failover=failover
    )


class BotProcess:
    """One process of the bot, from its start to its crash or the session's end."""

    def __init__(
        self, world: BotEnvironment, names: tuple[str, ...], home: Path, bot: BotConfig, ways: BotConnections
    ) -> None:
        """`names`: the primary venue, then the standby venues."""
        self._world = world
        self._bot = bot
        self._home = home
        self.journal = ways.journal(home / "tbot.sqlite")
        self._brokers = {name: ways.broker(world, name) for name in names}
        self.session: LiveTradingSession | None = None
        self._written: list[tuple[float, NewEvent]] = []

    async def live(self) -> None:
        """Connect, restore from the journal, and trade; raises SimulatedCrash when the process crashes.

        A session that is closed in the journal is not traded again.
        """
        journal = cast("Journal", self.journal)
        if journal.last_event(records.SESSION_CLOSED) is not None:
            return
        past, opened = list(journal.events()), journal.last_event(records.SESSION_OPENED)
        (name, broker), *others = self._brokers.items()
        found = None
        while found is None:
            try:
                found = await log_in(broker, name, opened)
            except BrokerError:
                await self._world.clock.sleep(_CONNECT_S)
        standbys = [one for other in others if (one := await self._standby(*other, opened)) is not None]
        account = found.account
        equity = account.equity if opened is None else Decimal(opened.payload["equity"])
        config = LiveConfig(
            folder=self._home / "control",
            poll_s=self._bot.poll_s,
            ttl_s=TTL_S,
            watch_s=self._bot.watch_s,
            drilled=self._bot.is_drilled,
            live=self._bot.live(account.account_id),
            signals=self._bot.signals,
            vix=self._bot.vix,
        )
        source, universe = self._world.session_feed(), self._world.universe()
        feed = SessionFeed(session=source.session, universe=universe, source=source)
        trading = self._trading(found.venue(broker, name), account, standbys)
        self.session = LiveTradingSession(trading, config, feed, self._bot.entrants, atoms_of(equity), past)
        await self.session.trade()

    def _trading(self, venue: BrokerAccount, account: Account, standbys: Sequence[StandbyBroker]) -> SessionContext:
        clock = self._world.clock
        return SessionContext(
            rules=self._bot.rules(venue.broker.capabilities),
            venue=venue,
            journal=cast("Journal", self.journal),
            clock=clock,
            naming=_naming(venue.broker, account),
            wait=clock.sleep_until,
            on_events=self._on_events,
            on_minute=lambda _run, _minute: None,
            standbys=tuple(standbys),
        )

    def _on_events(self, entries: Sequence[NewEvent]) -> None:
        now = self._world.clock.monotonic()
        self._written += [(now, entry) for entry in entries]
        self._bot.on_events(entries)

    async def _standby(self, name: str, broker: Broker, opened: Event | None) -> StandbyBroker | None:
        # A standby venue; one that cannot be reached before the session is left out.
        if opened is not None and name not in opened.payload.get("accounts", {}):
            return None
        try:
            found = await log_in(broker, name, opened)
        except BrokerError:
            return None
        account = found.account
        venue = found.venue(broker, name)
        return StandbyBroker(
            rules=self._bot.rules(broker.capabilities),
            venue=venue,
            naming=_naming(broker, account),
            equity_atoms=atoms_of(account.equity),
            tag=TAG,
        )

    @property
    def lived(self) -> BotProcessResult:
        """The result of this process."""
        journal = self.journal
        return BotProcessResult(acknowledged=journal.acknowledged, last=journal.head[0], written=self._written)

    def close(self) -> None:
        """Close the journal's file, without ending the session."""
        self.journal.close()


class PlannedCrash:
    """Crashes a process at the given disk or network operation, before or after it takes effect.

    `sends` counts only the operations that send orders, the mark in the journal and the submit, and crashes the process
    at that one if it comes first; 0: never.
    """

    def __init__(self, operations: int, *, after: bool, sends: int = 0) -> None:
        self._left = operations
        self._after = after
        self.sends = sends
        self.dead = False

    def pass_by(self, *, sends: bool = False) -> bool:
        """Begin an operation; returns whether the process crashes after it. Raises SimulatedCrash if before it."""
        if self.dead:
            raise SimulatedCrash
        self._left -= 1
        aimed = sends and self.sends > 0
        self.sends -= aimed
        if self._left and not (aimed and not self.sends):
            return False
        self.dead = True
        if not self._after:
            raise SimulatedCrash
        return True

    def end(self, *, dying: bool) -> None:
        """End an operation; raises SimulatedCrash if `dying`."""
        if dying:
            raise SimulatedCrash

    def journal(self, path: Path) -> AcknowledgedJournal:
        """The journal at a path, which may crash the process at an append."""
        return CrashingJournal(open_journal(path), self)

    def broker(self, world: BotEnvironment, name: str) -> Broker:
        """A client of a venue, which may crash the process at a call."""
        return cast("Broker", CrashingBroker(world.client(name), self))


class CrashingJournal:
    """A journal that may crash the process at an append; `acknowledged` has the head after each one that returned."""

    def __init__(self, journal: Journal, crash: PlannedCrash) -> None:
        self._journal = journal
        self._crash = crash
        self.acknowledged: list[tuple[int, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def append(self, entries: Sequence[NewEvent]) -> None:
        """Append, unless the process crashes before it."""
        dying = self._crash.pass_by(sends=any(entry.kind == records.SENDING for entry in entries))
        self._journal.append(entries)
        self._crash.end(dying=dying)
        self.acknowledged.append(self._journal.head)


class CrashingBroker:
    """A client that may crash the process at a call, before the request or after the answer."""

    def __init__(self, broker: Broker, crash: PlannedCrash) -> None:
        self._broker = broker
        self._crash = crash

    @property
    def capabilities(self) -> BrokerCapabilities:
        """The venue's capabilities."""
        return self._broker.capabilities

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._broker, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*args: object) -> Any:
            dying = self._crash.pass_by(sends=name == "submit")
            answer = await found(*args)
            if self._crash.dead and not dying:
                raise SimulatedCrash
            self._crash.end(dying=dying)
            return answer

        setattr(self, name, call)  # cached: the inspection is slow
        return call


def _rebalance_settings(stream: RandomStream) -> dict[str, Any]:
    # Random settings: one bot in four rebalances every few minutes; half of the bots have the top-up settings.
    settings: dict[str, Any] = {
        "rebalance_enabled": stream.happens(0.25),
        "rebalance_threshold": stream.one((Decimal(0), Decimal("0.001"), Decimal("0.01"))),
        "rebalance_check_interval": stream.one((60.0, 120.0, 300.0)),
    }
    return settings | (dict(TOPPING_UP) if stream.happens(0.5) else {})


def _further_limits(world: World) -> dict[str, Any]:
    # In some seeds the limits that are wide by default bind too: leverage, symbol, index, window and losses in a row.
    #
    # In others leverage binds alone: beside the narrow limits of a symbol it is hardly ever reached.
    stream, symbols = world.chances.stream("limits"), world.market.symbols
    if not stream.happens(_BINDS):
        alone = world.chances.stream("leverage")
        lowest = Decimal(str(round(alone.between(0.02, 0.1), 3)))
        return {"max_leverage": lowest} if alone.happens(_BINDS_ALONE) else {}
    factors = {symbol: Decimal(stream.one(("1", "-1", "2"))) for symbol in symbols}
    return {
        "max_leverage": Decimal(str(round(stream.between(0.05, 0.9), 2))),
        "max_symbol_exposure": Decimal(str(round(stream.between(0.01, 0.1), 3))),
        "max_index_exposure": Decimal(str(round(stream.between(0.02, 0.3), 3))),
        "indices": {"index": {symbol: factors[symbol] for symbol in symbols if stream.happens(0.6)}},
        "window_loss_limit": Decimal(str(round(stream.between(0.0005, 0.02), 4))),
        "max_consecutive_losses": stream.whole(1, 3),
    }


def _entrant(world: World, stream: RandomStream, rank: int) -> ActiveStrategy:
    minutes, aims = world.session.minutes, world.chances.stream("targets")
    start = stream.whole(0, max(1, minutes // 3))
    breakout = max(1, minutes - start - _LEAST_MINUTES)
    window = Window(start=start, analysis=0, breakout=breakout, monitoring=stream.whole(1, 10))
    calls: dict[tuple[int, int], int] = {}
    for _ in range(_MANY if world.falls else stream.whole(1, 8)):
        cell = (
            stream.whole(window.entry, max(window.entry, window.entry_end - 1)),
            stream.whole(0, len(world.market.symbols) - 1),
        )
        calls[cell] = 1 if stream.happens(0.7) else -1
    shape = ExitRules(
        trigger="close" if stream.happens(0.2) else "intrabar",
        trailing=stream.happens(0.3),
        leave=window.leave,
        hold=stream.whole(2, 10) if stream.happens(0.4) else None,
    )
    strategy = ScriptedStrategy(
        window=window,
        calls=tuple((minute, row, side) for (minute, row), side in sorted(calls.items())),
        exits=shape,
        distance=stream.between(0.003, 0.03),
        gain=aims.between(0.001, 0.01) if aims.happens(_AIMS) else math.nan,
    )
    return ActiveStrategy(name=f"drawn{rank}", rank=rank, strategy=strategy, frame=StrategySettings())


def _naming(broker: Broker, account: Account) -> ClientOrderIds:
    return ClientOrderIds(
        install_id="simulated", identity="", account_id=account.account_id, length=broker.capabilities.cid_length
    )
