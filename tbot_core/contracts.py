"""What plugins provide and what they are given: the protocols between the core and everything else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import attrs

from tbot_core.bars import Array
from tbot_core.calendar import ExchangeCalendar
from tbot_core.clock import Clock
from tbot_core.model import Fill
from tbot_core.needs import PluginNeeds
from tbot_core.reasons import Reason

if TYPE_CHECKING:
    from tbot_core.bars import Bars, Day, Market, Minute
    from tbot_core.calendar import Session
    from tbot_core.model import Account, Order
    from tbot_core.policy import Frame
    from tbot_core.signals import Signals, Trigger
    from tbot_core.window import Window


class Log(Protocol):
    """A structured logger: an event's name, then fields."""

    def debug(self, event: str, **fields: object) -> None:
        """For whoever looks for a fault."""

    def info(self, event: str, **fields: object) -> None:
        """For whoever wants to know today."""

    def warning(self, event: str, **fields: object) -> None:
        """Something to look at; work goes on."""

    def error(self, event: str, **fields: object) -> None:
        """Something failed."""


class SecretValue(Protocol):
    """A secret that shows itself nowhere, unless it is told to."""

    def reveal(self) -> str:
        """The value as text, for a library that wants text."""

    def wipe(self) -> None:
        """Overwrite the value, once it is no longer needed."""


@attrs.frozen(kw_only=True)
class Context:
    """What a plugin is built with: the clock, a logger of its own, and a folder of its own inside the instance.

    `secrets` holds, by category, the plugin's own fields of the categories that its `needs` name, and nothing else.
    """

    clock: Clock
    log: Log
    data_dir: Path
    secrets: Mapping[str, Mapping[str, SecretValue]] = attrs.field(factory=dict, repr=False)


@attrs.frozen(kw_only=True)
class Plugin:
    """A plugin's one offer.

    `name` equals the entry point's; `config` is a frozen attrs class whose fields are made by
    `tbot_core.declaration.setting`; `create(config, context)` returns the finished object of its kind and may import
    heavy libraries; `capabilities` are words of the kind (`feed`: a broker that also serves bars); `needs` is what it
    reaches for beyond computing, which whoever approves it is shown.
    """

    name: str
    summary: str
    config: type[Any]
    create: Callable[[Any, Context], object]
    capabilities: frozenset[str] = frozenset()
    needs: PluginNeeds = attrs.field(factory=PluginNeeds)


@runtime_checkable
class KeyProvider(Protocol):
    """Where the keys of the encrypted files come from.

    A key is 32 bytes; `category` is a category of secrets, or `audit`; `slot` is `cur`, and around a rotation `next`
    and `prev`. A failure is raised as VaultError or OSError, never answered with None.
    """

    @property
    def capabilities(self) -> frozenset[str]:
        """`put`: keys can be written, so that they can be made and rotated."""

    def get_key(self, category: str, slot: str) -> bytes | bytearray | memoryview | None:
        """The key, None where there is none; a bytearray is overwritten by the caller."""

    def put_key(self, category: str, slot: str, key: memoryview | None) -> None:
        """Keep the key durably, in place of the one before; with None take it away."""


@runtime_checkable
class Strategy(Protocol):
    """A pure, causal, vectorised function over bars; config and strategy may be the same frozen class."""

    @property
    def window(self) -> Window:
        """The strategy's part of a session; a scan is asked for in its entry phase only."""

    def scan(self, bars: Bars, day: Day, since: int = 0) -> Signals:
        """The first signal of each row whose minute is at least `since`, equal to those of a scan of the whole session.

        A signal of minute t depends on bars up to and including t; rows are never mixed.
        """


@runtime_checkable
class Explains(Protocol):
    """A strategy that can also say what it compares; `tbot why` and the near-miss line ask for it."""

    def triggers(self, bars: Bars, day: Day) -> Sequence[Trigger]:
        """The conditions of the entry phase's minutes so far."""


@runtime_checkable
class Screens(Protocol):
    """A strategy with conditions of its own that are known before the bell."""

    def screen(self, day: Day) -> Sequence[Check]:
        """Comparisons of the day's facts, one value a row."""


@attrs.frozen(kw_only=True, eq=False)
class Check:
    """One comparison, for every row: `low` <= `value` <= `high`; a bound of None does not bind.

    An unknown value (NaN) denies with `unknown` if `required`, else as FILTER_MISSING_DATA says. `words` is a
    plugin's own sentence for codes that quote one.
    """

    name: str
    value: Array
    low: Array | float | None = None
    high: Array | float | None = None
    below: Reason
    above: Reason
    unknown: Reason
    required: bool = False
    words: str = ""


@runtime_checkable
class Filter(Protocol):
    """Pure judgement in two steps; what it needs from outside is fetched by `refresh` of filters that have one."""

    def screen(self, day: Day, symbols: tuple[str, ...], frame: Frame) -> Sequence[Check]:
        """What is known before the bell: comparisons with one value a (..., symbols) row."""

    def judge(self, signals: Signals, market: Market, frame: Frame) -> Sequence[Check]:
        """What is known at the signal: comparisons with one value a signal."""


@runtime_checkable
class Needs(Protocol):
    """A filter that looks at a fact of the day which costs a source a look back."""

    @property
    def needs(self) -> frozenset[str]:
        """The optional fields of `Day` that it looks at: `typical_volume`."""


RiskCheck: TypeAlias = "Callable[[Order], str | None]"
"""A plugin's further limit: None lets the order pass, a sentence denies it. It can never allow what the core denies."""


@attrs.frozen(kw_only=True)
class VenueRules:
    """What a broker can do; the core never guesses it.

    `simulated`: the core shows it every closed minute before deciding on it. `brackets`: an entry's stop and target
    rest there from its fill on. `quantity_step`: the smallest quantity in shares, for types in `fractional_types`.
    """

    simulated: bool = False
    brackets: bool = False
    amend_atomic: bool = False
    dedupes_cid: bool = False
    query_by_cid: bool = False
    cancel_by_cid: bool = False
    lists_closed: bool = False
    exec_ids_unique: bool = False
    reduce_only: bool = False
    cancel_all: bool = False
    dead_man_switch: bool = False
    quantity_step: Decimal = Decimal(1)
    fractional_types: frozenset[str] = frozenset()
    cid_length: int = 48


@attrs.frozen(kw_only=True)
class BrokerEvent:
    """Something a broker says of an order.

    `kind`: acknowledged, rejected, fill, cancelled, expired, replaced, cancel_refused, not_found. `event_id` is unique
    within broker and account, so that the same event is booked once. `words` quotes the broker.
    """

    kind: str
    event_id: str
    client_order_id: str
    fill: Fill | None = None
    words: str = ""


@runtime_checkable
class Broker(Protocol):
    """An account at a venue.

    Every call may raise `BrokerError`; a submit that may have arrived raises `OutcomeUnknown`.
    """

    @property
    def rules(self) -> VenueRules:
        """What the venue can do."""

    async def connect(self) -> Account:
        """Log in and say whose account it is."""

    async def account(self) -> Account:
        """Cash, equity and buying power now."""

    async def submit(self, order: Order) -> None:
        """Hand an order over; what becomes of it comes as events."""

    async def cancel(self, client_order_id: str) -> None:
        """Ask for a cancel; its outcome comes as an event."""

    async def replace(self, client_order_id: str, stop_price: Decimal) -> None:
        """Move a resting stop."""

    async def poll(self) -> Sequence[BrokerEvent]:
        """Everything that happened since the last call, oldest first; does not wait."""

    async def close(self) -> None:
        """Log out; resting orders stay."""


@runtime_checkable
class SimulatedVenue(Protocol):
    """A broker without a market of its own: it fills from the bars that it is shown."""

    def open_session(self, session: Session, symbols: tuple[str, ...], cash: Decimal) -> None:
        """A new session's bell: nothing rests any more; `cash` is what the journal knows of the account."""

    def observe(self, minute: Minute) -> None:
        """A minute has closed: match what rests, before anyone decides on it."""

    def close_session(self) -> None:
        """The session is over: what is still open is closed at its last price."""


@attrs.frozen(kw_only=True)
class FeedRequest:
    """Which bars are wanted: a stored range, simulated sessions, or those of the running market.

    `symbols` empty: what the source would choose. `first` and `last` bound a replay, both inclusive; `sessions` counts
    those of a demo. `bars` is the folder of the instance's bar store; `calendar` the owner's, None the exchange's own.
    `typical_volume` asks for that fact of the day, which costs a source of stored bars a look back.
    """

    kind: Literal["replay", "demo", "live"]
    first: date | None = None
    last: date | None = None
    symbols: tuple[str, ...] = ()
    sessions: int = 1
    seed: int = 0
    bars: Path | None = None
    calendar: ExchangeCalendar | None = None
    typical_volume: bool = False


@attrs.frozen(kw_only=True)
class FeedLabel:
    """What a person must know of a source: its name, whether its prices are simulated, notes on what it lacks."""

    name: str
    simulated: bool
    quotes: bool
    notes: tuple[str, ...] = ()
    data_hash: str = ""


@runtime_checkable
class FeedSession(Protocol):
    """One session of a feed: its facts first, then its minutes as they close."""

    @property
    def session(self) -> Session:
        """The exchange day."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """The session's symbols, sorted."""

    @property
    def day(self) -> Day:
        """What is known before the bell."""

    def minutes(self) -> AsyncIterator[Minute]:
        """Every minute of the session in order, also those without a bar."""


@runtime_checkable
class Feed(Protocol):
    """A source of sessions."""

    @property
    def label(self) -> FeedLabel:
        """What a person must know of it."""

    def sessions(self) -> AsyncIterator[FeedSession]:
        """The wanted sessions in order."""


@runtime_checkable
class FeedSource(Protocol):
    """A broker with capability `feed`: it also serves bars."""

    def feed(self, request: FeedRequest) -> Feed:
        """The feed that fits the request; raises `DataError` when there is nothing to serve."""


@attrs.frozen(kw_only=True)
class RunInfo:
    """What observers are told of a run; `report` is set when it has stopped."""

    run_id: str
    mode: str
    label: FeedLabel | None = None
    summary: Mapping[str, object] = attrs.field(factory=dict)
