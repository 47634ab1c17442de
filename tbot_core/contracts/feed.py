"""Feeds: the bars of stored, simulated or live sessions, and the messages of a live market."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias, runtime_checkable

import attrs

from tbot_core.model.calendar import ExchangeCalendar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from tbot_core.model.bars import MinuteSlice
    from tbot_core.model.calendar import Session
    from tbot_core.model.day_facts import DayFacts


@attrs.frozen(kw_only=True)
class ExtraFacts:
    """The facts of a day that a run needs beyond those that every run has.

    `typical_volume`: the mean volume of the same minutes of previous sessions. `daily_bars`: of how many exchange
    sessions before the day `DayFacts.daily` has the bars, 0 to 400; 0 for none.
    """

    typical_volume: bool = False
    daily_bars: int = 0


NO_EXTRA_FACTS: Final = ExtraFacts()
"""No facts but those that every run has."""


@attrs.frozen(kw_only=True)
class FeedRequest:
    """The requested bars: a stored range, simulated sessions, or the live market.

    `symbols` empty: the choice of the source. `first` and `last` bound a replay, both inclusive; `sessions` is the
    number of demo sessions. `bars` is the folder of the instance's bar store; `calendar` is the owner's, None for the
    exchange's own. `extra_facts` are computed by sources of stored bars and simulated sessions.
    """

    kind: Literal["replay", "demo", "live"]
    first: date | None = None
    last: date | None = None
    symbols: tuple[str, ...] = ()
    sessions: int = 1
    seed: int = 0
    bars: Path | None = None
    calendar: ExchangeCalendar | None = None
    extra_facts: ExtraFacts = NO_EXTRA_FACTS


@attrs.frozen(kw_only=True)
class FeedLabel:
    """What a user must know about a source: its name, whether its prices are simulated, and notes on missing data."""

    name: str
    simulated: bool
    quotes: bool
    notes: tuple[str, ...] = ()
    data_hash: str = ""


@runtime_checkable
class FeedSession(Protocol):
    """One session of a feed: first its facts, then its minutes as they close."""

    @property
    def session(self) -> Session:
        """The exchange day."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """The session's symbols, sorted."""

    @property
    def day(self) -> DayFacts:
        """The facts known before the open."""

    def minutes(self) -> AsyncIterator[MinuteSlice]:
        """Every minute of the session in order, including those without a bar."""


@runtime_checkable
class SupportsPartialVolume(Protocol):
    """A session in which volumes of some symbols are a part of the tape."""

    @property
    def partial_volume(self) -> frozenset[str]:
        """These symbols; VOLUME_LIMIT does not apply to them."""


@attrs.frozen(kw_only=True)
class Bar:
    """A one-minute bar of one symbol as received: `start` is its minute; `vwap` is None if the feed has none."""

    symbol: str
    start: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float | None = None


@attrs.frozen(kw_only=True)
class DailyBar:
    """The bar of one exchange day of one symbol: prices as they were traded, and the consolidated volume."""

    symbol: str
    date: date
    open: float
    high: float
    low: float
    close: float
    volume: float


@attrs.frozen(kw_only=True)
class Split:
    """From the session of `date` on, `before` shares of a symbol are `after` shares; both are from 1 to 1000."""

    symbol: str
    date: date
    before: int
    after: int


@attrs.frozen(kw_only=True)
class Quote:
    """The best bid and ask of a symbol, in dollars; `time` is the time of the quote by the feed."""

    symbol: str
    bid: float
    ask: float
    time: datetime


@attrs.frozen(kw_only=True)
class HaltStatus:
    """Whether a symbol is halted; an empty `symbol` is the whole market, with the level of the halt, 1 to 3."""

    symbol: str
    halted: bool
    level: int = 0
    words: str = ""


@attrs.frozen
class Heartbeat:
    """Any other message: the connection is alive."""


FeedMessage: TypeAlias = Bar | Quote | HaltStatus | Heartbeat
"""The messages of a live feed."""


class FeedCoverage(StrEnum):
    """The trades that a live feed covers.

    `CONSOLIDATED`: those of all venues in real time. `SINGLE_VENUE`: those of one venue in real time, so that volumes
    are a part of the tape. `DELAYED`: too late for live trading.
    """

    CONSOLIDATED = "consolidated"
    SINGLE_VENUE = "single_venue"
    DELAYED = "delayed"


@attrs.frozen(kw_only=True)
class FeedQuality:
    """The declared quality of a live feed.

    `subscriptions`: the largest number of symbols, 0 = no limit. `history_delay_s`: the age of a bar from which
    `history` returns it. `minute_history`: whether `history` has the bars of earlier sessions; if not, the facts of a
    day come from daily bars. `halts`: whether it reports them; if not, silence of a symbol counts as a halt.
    `initial_halts`: whether a new subscription reports which symbols are halted already; if not, silence of a symbol
    counts as a halt until its first bar. Raises ValueError for a coverage that is no `FeedCoverage`.
    """

    coverage: FeedCoverage = attrs.field(converter=FeedCoverage)
    subscriptions: int = 0
    history_delay_s: float = 0.0
    minute_history: bool = True
    quotes: bool = False
    halts: bool = False
    initial_halts: bool = True

    @property
    def notes(self) -> Iterator[str]:
        """What a user must know about it."""
        match self.coverage:
            case FeedCoverage.DELAYED:
                yield "The feed is DELAYED: live trading never uses its prices."
            case FeedCoverage.SINGLE_VENUE:
                yield "The feed covers one venue: its volumes are a part of the tape, so VOLUME_LIMIT is off."
        if not self.quotes:
            yield "The feed has no quotes: NO_QUOTE, SPREAD_WIDE and quote age do not apply."
        if not self.minute_history:
            yield "The feed has no minute bars of earlier sessions: the facts of a day come from its daily bars."
        if self.halts and not self.initial_halts:
            yield "The feed reports halts from its connection on: before its first bar a symbol may be halted."

    @property
    def words(self) -> str:
        """A short description."""
        most = f"at most {self.subscriptions} symbols" if self.subscriptions else "any number of symbols"
        delay = f"history {self.history_delay_s:.0f} s late" if self.history_delay_s else "history without delay"
        delay = delay if self.minute_history else f"{delay} and of the session only"
        quotes, halts = ("quotes" if self.quotes else "no quotes"), ("halts" if self.halts else "no halts")
        since = " from the connection on" if self.halts and not self.initial_halts else ""
        return f"{self.coverage.replace('_', ' ')}, {most}, {delay}, {quotes}, {halts} reported{since}"


@runtime_checkable
class BarHistory(Protocol):
    """Past bars of a source: a live session has them, and another feed session may.

    Each call has all symbols at once: the source batches its requests, and follows their pages. Symbols that it does
    not know are left out. An empty answer means that there are no bars; `Unavailable` that they cannot be had now.
    """

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that it has, sorted: those of the request that it knows, or all of them."""

    async def daily(self, symbols: Sequence[str], first: date, last: date) -> Sequence[DailyBar]:
        """The daily bars of the exchange days from `first` to `last`, both included, by date within each symbol."""

    async def history(self, symbols: Sequence[str], first: datetime, last: datetime) -> Sequence[Bar]:
        """The minute bars that start in [first, last), which may span many sessions, by time within each symbol.

        A minute without a trade has no bar. Bars outside regular hours are ignored.
        """


@runtime_checkable
class LiveSession(BarHistory, Protocol):
    """One session of a live market, from which the core aggregates minutes, and the history before it.

    It keeps no clock, no order and no memory: the core detects messages that are late, repeated, revised or missing. It
    computes nothing: the core computes the facts of the day from `daily` and `history`, chooses the subscribed symbols,
    as many as `quality` and UNIVERSE_MAX allow, and requests missed bars from `history`.
    """

    @property
    def session(self) -> Session:
        """The exchange day: today's, or the next one if today has none or its close has passed."""

    @property
    def quality(self) -> FeedQuality:
        """The declared quality."""

    def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        """Connect, and yield all messages of these symbols as they arrive; at least a heartbeat every five seconds.

        Nothing is yielded before all of these symbols are subscribed: bars from before the first message are requested
        from history. Halted symbols are reported first, unless `quality.initial_halts` is false. A halt whose end was
        missed has ended when the symbol trades again. The iterator ends, or raises `BrokerError`, when the connection
        is lost: the core then opens another, never two at once.
        """


@runtime_checkable
class SupportsSplits(Protocol):
    """Past bars of a source that also reports splits, by which the core puts the bars before them into new shares."""

    async def splits(self, symbols: Sequence[str], first: date, last: date) -> Sequence[Split]:
        """The splits of these symbols whose first session in the new shares is from `first` to `last`, both included.

        Each is reported once. A symbol without a split is left out, as is one that the source does not know. An empty
        answer means that there are none; `Unavailable` that they cannot be had now.
        """


@runtime_checkable
class ReportsLeftOut(Protocol):
    """A live session that knows which symbols of its vendor it does not offer."""

    @property
    def left_out(self) -> Mapping[str, int]:
        """How many there are, by a reason of a few words such as "not tradable"."""


@runtime_checkable
class SupportsDailyVix(Protocol):
    """A broker, filter or extension that supplies the VIX, for feeds without it; a broker declares `daily_vix`.

    Brokers are asked first, then filters, then extensions, then the stored VIX counts. An extension is asked before
    each session, whether it was started or not.
    """

    async def vix_close(self, day: date) -> float | None:
        """The VIX close of an exchange day, in points; None if it is not available."""


@attrs.frozen(kw_only=True)
class IndexQuote:
    """The value of an index, in points, and its time, as the source reports them."""

    value: float
    time: datetime


@runtime_checkable
class SupportsLiveVix(Protocol):
    """A broker that supplies the live VIX, for VIX_SOURCE=live."""

    async def vix_now(self) -> IndexQuote | None:
        """The latest value of the VIX; None if there is none today."""


@runtime_checkable
class SupportsMarketCaps(Protocol):
    """A broker that supplies capitalisations; without it they come from stored fundamentals."""

    async def market_caps(self, symbols: Sequence[str]) -> Mapping[str, float]:
        """The capitalisation in USD of each symbol that has one, as of the latest close."""


@runtime_checkable
class Feed(Protocol):
    """A source of sessions."""

    @property
    def label(self) -> FeedLabel:
        """What a user must know about it."""

    def sessions(self) -> AsyncIterator[FeedSession | LiveSession]:
        """The requested sessions in order; for the live market live ones, from which the core aggregates minutes."""


@runtime_checkable
class FeedSource(Protocol):
    """A broker with capability `feed`: it also supplies bars."""

    def feed(self, request: FeedRequest) -> Feed:
        """The feed for the request; raises `DataError` if there is no data."""
