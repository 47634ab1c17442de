"""Feeds: the bars of stored, simulated or running sessions, and what a running market says as it says it."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias, runtime_checkable

import attrs

from tbot_core.model.calendar import ExchangeCalendar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from tbot_core.model.bars import DayFacts, MinuteSlice
    from tbot_core.model.calendar import Session


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
    def day(self) -> DayFacts:
        """What is known before the bell."""

    def minutes(self) -> AsyncIterator[MinuteSlice]:
        """Every minute of the session in order, also those without a bar."""


@attrs.frozen(kw_only=True)
class Bar:
    """A one-minute bar of one symbol as it came: `start` is its minute; `vwap` is None where the feed has none."""

    symbol: str
    start: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float | None = None


@attrs.frozen(kw_only=True)
class Quote:
    """The best bid and ask of a symbol, in dollars; `time` is when they became so, as the feed says."""

    symbol: str
    bid: float
    ask: float
    time: datetime


@attrs.frozen(kw_only=True)
class HaltStatus:
    """Whether a symbol is halted; an empty `symbol` is the whole market, with the level of its halt, 1 to 3."""

    symbol: str
    halted: bool
    level: int = 0
    words: str = ""


@attrs.frozen
class Heartbeat:
    """Any other message: the connection is alive."""


FeedMessage: TypeAlias = Bar | Quote | HaltStatus | Heartbeat
"""What a live feed may say."""


DELAYED: Final = "delayed"


@attrs.frozen(kw_only=True)
class FeedQuality:
    """What a live feed declares of itself.

    `coverage`: every venue's trades at once, those of one venue, or everything but too late to trade live on.
    `subscriptions`: how many symbols may be subscribed, 0 = no limit. `history_delay_s`: how old a bar must be before
    `history` has it. `halts`: whether it tells them; where it does not, silence of a symbol is taken for one.
    """

    coverage: Literal["consolidated", "single_venue", "delayed"]
    subscriptions: int = 0
    history_delay_s: float = 0.0
    quotes: bool = False
    halts: bool = False

    @property
    def notes(self) -> Iterator[str]:
        """What a person must know of it."""
        match self.coverage:
            case "delayed":
                yield "The feed is DELAYED: prices come too late, and nothing is traded live on them."
            case "single_venue":
                yield "The feed hears one venue: its volumes are a part of the tape, so VOLUME_LIMIT is off."
        if not self.quotes:
            yield "The feed has no quotes: NO_QUOTE, SPREAD_WIDE and quote age do not apply."

    @property
    def words(self) -> str:
        """It in a few words."""
        most = f"{self.subscriptions} symbols at most" if self.subscriptions else "any number of symbols"
        delay = f"history {self.history_delay_s:.0f} s late" if self.history_delay_s else "history at once"
        quotes, halts = ("quotes" if self.quotes else "no quotes"), ("halts" if self.halts else "no halts")
        return f"{self.coverage.replace('_', ' ')}, {most}, {delay}, {quotes}, {halts} told"


@runtime_checkable
class LiveSession(Protocol):
    """One session of a running market, for the core to make minutes of.

    It keeps no clock, no order and no memory: what comes late, twice, revised or not at all is the core's to notice.
    Which symbols are heard is the core's choice, too: as many as `quality` and UNIVERSE_MAX allow.
    """

    @property
    def session(self) -> Session:
        """The exchange day."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that may be subscribed, sorted."""

    @property
    def day(self) -> DayFacts:
        """What is known before the bell, of each symbol.

        `average_volume` is consolidated whatever the feed's coverage; `typical_volume` has the coverage of its bars.
        """

    @property
    def quality(self) -> FeedQuality:
        """What it declares of itself."""

    def news(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        """Connect, and say of these symbols whatever comes as it comes; at least a heartbeat every five seconds.

        Nothing is said before all of these symbols are heard: of what was due until the first word history is asked.
        What is halted is said first. A halt whose end was missed is over when the symbol trades again.
        Ends, or raises `BrokerError`, when the connection is lost: the core asks for another, never for two at once.
        """

    async def history(self, symbols: Sequence[str], first: datetime, last: datetime) -> Sequence[Bar]:
        """The bars of these symbols that start in [first, last); raises `Unavailable` when they are not to be had."""


@runtime_checkable
class SupportsDailyVix(Protocol):
    """A broker that has the index, for feeds that have not."""

    async def vix_close(self, day: date) -> float | None:
        """The VIX's close of an exchange day, in points; None where it does not know it yet, or not any more."""


@attrs.frozen(kw_only=True)
class IndexQuote:
    """What an index stands at, in points, and when it did, as its source says."""

    value: float
    time: datetime


@runtime_checkable
class SupportsLiveVix(Protocol):
    """A broker that says the index while it moves, for VIX_SOURCE=live."""

    async def vix_now(self) -> IndexQuote | None:
        """The latest value of the VIX; None where none is known today."""


@runtime_checkable
class Feed(Protocol):
    """A source of sessions."""

    @property
    def label(self) -> FeedLabel:
        """What a person must know of it."""

    def sessions(self) -> AsyncIterator[FeedSession | LiveSession]:
        """The wanted sessions in order; at the running market live ones, where the core is to make their minutes."""


@runtime_checkable
class FeedSource(Protocol):
    """A broker with capability `feed`: it also serves bars."""

    def feed(self, request: FeedRequest) -> Feed:
        """The feed that fits the request; raises `DataError` when there is nothing to serve."""
