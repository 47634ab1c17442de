"""The contract of feeds holds for a sound live feed, and each of its cases notices a feed that breaks it."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from contextlib import nullcontext
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import (
    Bar,
    DailyBar,
    FeedCoverage,
    FeedLabel,
    FeedMessage,
    FeedQuality,
    FeedRequest,
    HaltStatus,
    Heartbeat,
    Quote,
    Split,
)
from tbot_core.errors import Unavailable
from tbot_core.rehearsal.virtual_loop import VirtualLoop, run_virtual
from tbot_core.testing import feed as kit
from tbot_core.testing.contract import run_cases
from tbot_core.testing.feed import MANY, UNKNOWN, FeedContract
from tbot_core.testing.store import exchange_sessions, rising_bars

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence


*PAST, TODAY = exchange_sessions("2019-12-02", "2019-12-05")
SYMBOLS = ("AAA", "BBB")
NAMES = "start", "open", "high", "low", "close", "volume"
MINUTES = [
    Bar(symbol=symbol, **dict(zip(NAMES, row, strict=True)))
    for symbol in SYMBOLS
    for row in rising_bars(symbol, PAST).select("ts", *NAMES[1:]).iter_rows()
]


def day_of(symbol: str, day: dt.date) -> DailyBar:
    """The daily bar of a symbol's minutes."""
    own = [bar for bar in MINUTES if (bar.symbol, bar.start.date()) == (symbol, day)]
    return DailyBar(
        symbol=symbol,
        date=day,
        open=own[0].open,
        high=max(bar.high for bar in own),
        low=min(bar.low for bar in own),
        close=own[-1].close,
        volume=sum(bar.volume for bar in own),
    )


DAYS = [day_of(symbol, session.date) for symbol in SYMBOLS for session in PAST]


class Vendor:
    """A broker, its live feed, its session and its venue in one; in virtual time."""

    label: Any = FeedLabel(name="acme", simulated=True, quotes=True)
    feed_symbols: tuple[str, ...] = SYMBOLS
    symbols: tuple[str, ...] = SYMBOLS
    session = TODAY
    quality = FeedQuality(coverage=FeedCoverage.CONSOLIDATED, quotes=True, halts=True)
    beat_s = 5.0

    def __init__(self) -> None:
        self.news: list[FeedMessage] = []
        self.halted: list[str] = []
        self.is_lost = False

    @property
    def broker(self) -> Any:
        """Itself."""
        return self

    def wait(self, call: Coroutine[Any, Any, Any]) -> Any:
        """The result, at once."""

        async def awaited() -> Any:
            return await call

        return run_virtual(awaited, VirtualLoop())

    def feed(self, _request: FeedRequest) -> Any:
        """Itself."""
        return self

    async def sessions(self) -> AsyncIterator[Any]:
        """Today's."""
        yield self

    async def daily(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[DailyBar]:
        """The days from first to last."""
        return [bar for bar in DAYS if bar.symbol in symbols and first <= bar.date <= last]

    async def history(self, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> Sequence[Bar]:
        """The minutes that start in [first, last)."""
        return [bar for bar in MINUTES if bar.symbol in symbols and first <= bar.start < last]

    async def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        """What is halted, then what trades, and a heartbeat where nothing does."""
        self.is_lost = False
        for symbol in self.halted:
            yield HaltStatus(symbol=symbol, halted=True)
        yield Heartbeat()
        while not self.is_lost:
            for _ in range(10):
                await asyncio.sleep(self.beat_s / 10)
                while self.news and self.allows(self.news[0], symbols):
                    yield self.news.pop(0)
            if not self.is_lost:
                yield Heartbeat()
        raise Unavailable("gone")

    def allows(self, message: FeedMessage, symbols: Sequence[str]) -> bool:
        """Whether a message is of a subscribed symbol."""
        return isinstance(message, Quote) and message.symbol in symbols

    def trade_on_feed(self, symbol: str) -> None:
        """A quote of the symbol."""
        self.news.append(Quote(symbol=symbol, bid=9.99, ask=10.01, time=TODAY.open))

    def halt_on_feed(self, symbol: str) -> None:
        """It is halted from now on."""
        self.halted.append(symbol)

    def lose_feed(self) -> None:
        """The connection breaks."""
        self.is_lost = True


class TestSound(FeedContract):
    """A sound feed keeps the whole contract."""

    @pytest.fixture
    def venue(self) -> Vendor:
        """A new one."""
        return Vendor()


def times_four(bars: Sequence[Any]) -> list[Any]:
    """The bars, those of AAA before its split at four times the price."""
    split = dict[int, bool]()
    for number, bar in enumerate(bars):
        before = bar.date < PAST[1].date if isinstance(bar, DailyBar) else bar.start < PAST[1].open
        split[number] = bar.symbol == "AAA" and before
    return [
        attrs.evolve(bar, **{name: 4 * getattr(bar, name) for name in NAMES[1:5]}) if split[number] else bar
        for number, bar in enumerate(bars)
    ]


class _AdjustsBoth(Vendor):
    # AAA was split, and its old prices are adjusted.
    split = Split(symbol="AAA", date=PAST[1].date, before=1, after=4)


class _AdjustsMinutes(_AdjustsBoth):
    async def daily(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[DailyBar]:
        return times_four(await super().daily(symbols, first, last))


class _AsTraded(_AdjustsMinutes):
    async def history(self, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> Sequence[Bar]:
        return times_four(await super().history(symbols, first, last))

    async def splits(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[Split]:
        return [self.split] if self.split.symbol in symbols and first <= self.split.date <= last else []


class TestSplit(FeedContract):
    """A sound feed of a venue at which a symbol was split."""

    @pytest.fixture
    def venue(self) -> Vendor:
        """A new one."""
        return _AsTraded()


@attrs.frozen
class _Reports:
    # Other splits than those that were asked for.
    change: Callable[[list[Split], dt.date, dt.date], list[Split]]

    def vendor(self) -> Vendor:
        change = self.change

        class Reports(_AsTraded):
            async def splits(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[Split]:
                return change(list(await super().splits(symbols, first, last)), first, last)

        return Reports()


def other_split(**values: Any) -> Callable[..., list[Split]]:
    """Each split with these values."""
    return lambda found, _first, _last: [attrs.evolve(one, **values) for one in found]


class _ReportsOutside(_AsTraded):
    # The split of AAA whenever it is asked for, whatever the days are.
    async def splits(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[Split]:
        assert first <= last
        return [self.split] if self.split.symbol in symbols else []


class _NoneBeforeSplit(_AdjustsBoth):
    async def daily(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[DailyBar]:
        return list(await super().daily(symbols, first, last))[:1]


class _OneRequest(Vendor):
    # The first page of the symbols only.
    async def daily(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[DailyBar]:
        return [] if len(symbols) > len(MANY) else await super().daily(symbols, first, last)


class _Unlabelled(Vendor):
    label = "acme"


class _Unsorted(Vendor):
    symbols: tuple[str, ...] = SYMBOLS[::-1]


class _Misspells(Vendor):
    symbols: tuple[str, ...] = (*SYMBOLS, "BRK/B")


class _Forgetful(Vendor):
    symbols: tuple[str, ...] = SYMBOLS[:1]


class _NoSession(Vendor):
    async def sessions(self) -> AsyncIterator[Any]:
        nothing: tuple[Any, ...] = ()
        for one in nothing:
            yield one


class _Nameless(Vendor):
    feed_symbols: tuple[str, ...] = ()


class _Inclusive(Vendor):
    async def history(self, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> Sequence[Bar]:
        return await super().history(symbols, first, last + dt.timedelta(minutes=1))


class _Empty(Vendor):
    async def history(self, *_range: object) -> Sequence[Bar]:
        return []


class _Paged(Vendor):
    # Forgets the pages after the first.
    async def history(self, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> Sequence[Bar]:
        return list(await super().history(symbols, first, last))[:1000]


@attrs.frozen
class _Changed:
    # A change of all minutes, or of all days.
    change: Callable[[list[Any]], list[Any]]
    days: bool = False

    def vendor(self) -> Vendor:
        changed = self

        class Changed(Vendor):
            async def history(self, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> Sequence[Bar]:
                found = list(await super().history(symbols, first, last))
                return found if changed.days else changed.change(found)

            async def daily(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[DailyBar]:
                found = list(await super().daily(symbols, first, last))
                return changed.change(found) if changed.days else found

        return Changed()


def each(**values: Any) -> Callable[[list[Any]], list[Any]]:
    """The bars with these values."""
    return lambda bars: [attrs.evolve(bar, **values) for bar in bars]


class _Refuses(Vendor):
    # An unknown symbol spoils the whole request.
    async def history(self, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> Sequence[Bar]:
        if {*UNKNOWN} & {*symbols}:
            return []
        return await super().history(symbols, first, last)


class _Invents(Vendor):
    async def history(self, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> Sequence[Bar]:
        return await super().history(SYMBOLS if {*UNKNOWN} & {*symbols} else symbols, first, last)


class _LosesDays(Vendor):
    async def daily(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[DailyBar]:
        return [] if {*UNKNOWN} & {*symbols} else await super().daily(symbols, first, last)


class _Exclusive(Vendor):
    async def daily(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[DailyBar]:
        return [bar for bar in await super().daily(symbols, first, last) if bar.date < last]


def exact(bars: list[Any]) -> list[Any]:
    """Bars whose prices are numbers of `.json()`."""
    return [attrs.evolve(bar, close=Decimal(str(bar.close))) for bar in bars]


class _ExactQuotes(Vendor):
    def trade_on_feed(self, symbol: str) -> None:
        bid: Any = Decimal("9.99")
        self.news.append(Quote(symbol=symbol, bid=bid, ask=10.01, time=TODAY.open))


class _Deaf(Vendor):
    def trade_on_feed(self, symbol: str) -> None:
        pass


class _Talkative(Vendor):
    def trade_on_feed(self, symbol: str) -> None:
        super().trade_on_feed("BBB")
        super().trade_on_feed(symbol)

    def allows(self, message: FeedMessage, symbols: Sequence[str]) -> bool:
        return isinstance(message, Quote) and bool(symbols)


class _Slow(Vendor):
    beat_s = 6.5


class _Mute(Vendor):
    async def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        assert symbols
        await asyncio.sleep(3600.0)
        yield Heartbeat()


class _Hides(Vendor):
    def halt_on_feed(self, symbol: str) -> None:
        self.trade_on_feed(symbol)


class _Stays(Vendor):
    def lose_feed(self) -> None:
        pass


def seconds_late(bars: list[Any]) -> list[Any]:
    """Bars that start off the minute."""
    return [attrs.evolve(bar, start=bar.start + dt.timedelta(seconds=5)) for bar in bars]


BROKEN: list[tuple[str, Callable[[], Vendor]]] = [
    ("f01", _Unlabelled),
    ("f01", _Unsorted),
    ("f01", _Misspells),
    ("f01", _Forgetful),
    ("f01", _NoSession),
    ("f01", _Nameless),
    ("f02", _Inclusive),
    ("f02", _Empty),
    ("f03", _Changed(lambda bars: bars[::-1]).vendor),
    ("f03", _Changed(lambda bars: [*bars, *bars[-1:]]).vendor),
    ("f03", _Changed(seconds_late).vendor),
    ("f03", _Changed(each(high=1.0)).vendor),
    ("f03", _Changed(each(volume=-1.0)).vendor),
    ("f04", _Refuses),
    ("f04", _Invents),
    ("f04", _LosesDays),
    ("f05", _Paged),
    ("f05", _Empty),
    ("f06", _Exclusive),
    ("f06", _Changed(lambda bars: bars[::-1], days=True).vendor),
    ("f06", _Changed(each(low=0.0), days=True).vendor),
    ("f07", _Changed(each(volume=1.0), days=True).vendor),
    ("f07", _Changed(each(high=101.0, close=100.5), days=True).vendor),
    ("f07", _Changed(each(low=102.0, open=102.0), days=True).vendor),
    ("f08", _Deaf),
    ("f08", _Talkative),
    ("f09", _Slow),
    ("f09", _Mute),
    ("f10", _Hides),
    ("f11", _Stays),
    ("f11", _Mute),
    ("f03", _Changed(exact).vendor),
    ("f06", _Changed(exact, days=True).vendor),
    ("f08", _ExactQuotes),
    ("f12", _AdjustsBoth),
    ("f12", _AdjustsMinutes),
    ("f12", _NoneBeforeSplit),
    ("f13", _OneRequest),
    ("f14", _ReportsOutside),
    ("f14", _Reports(lambda _found, _first, _last: []).vendor),
    ("f14", _Reports(lambda found, _first, _last: [*found, *found]).vendor),
    ("f14", _Reports(lambda _found, first, _last: [attrs.evolve(_AsTraded.split, date=first)]).vendor),
    ("f14", _Reports(other_split(after=2)).vendor),
    ("f14", _Reports(other_split(before=0)).vendor),
    ("f14", _Reports(other_split(symbol=UNKNOWN[0])).vendor),
    ("f14", _Reports(other_split(date=PAST[0].date - dt.timedelta(days=1))).vendor),
]


@pytest.mark.parametrize(("number", "broken"), BROKEN)
def test_a_broken_feed_fails_its_case(number: str, broken: Callable[[], Vendor]) -> None:
    """By the case of what it breaks, with a sentence that says what is demanded."""
    (case,) = (one for one in kit.CASES if one.__name__.startswith(number))
    (result,) = run_cases([case], lambda: nullcontext(broken()))
    assert result.outcome == "failed"
    assert "must" in result.words


class _LaterHaltsOnly(Vendor):
    quality = attrs.evolve(Vendor.quality, initial_halts=False)


class _SessionOnly(Vendor):
    quality = attrs.evolve(Vendor.quality, minute_history=False)


class _Whole:
    # Whole minutes without a history.
    session, symbols, day = TODAY, SYMBOLS, None

    async def minutes(self) -> Any:
        yield None


class _WholeMinutes(Vendor):
    async def sessions(self) -> AsyncIterator[Any]:
        yield _Whole()


@pytest.mark.parametrize(
    ("broken", "numbers"),
    [
        (_LaterHaltsOnly, ["f10", "f12", "f14"]),
        (_SessionOnly, ["f02", "f03", "f05", "f07", "f12", "f14"]),
        (_WholeMinutes, ["f02", "f03", "f04", "f05", "f06", "f07", "f08", "f09", "f10", "f11", "f12", "f13", "f14"]),
    ],
)
def test_what_is_not_declared_is_not_claimed(broken: Callable[[], Vendor], numbers: list[str]) -> None:
    """The other cases pass."""
    results = run_cases(kit.CASES, lambda: nullcontext(broken()))
    assert [one.number for one in results if one.outcome == "not claimed"] == numbers
    assert {one.outcome for one in results} <= {"passed", "not claimed"}


def test_a_venue_that_cannot_move_its_feed_is_not_judged_by_its_messages() -> None:
    """Past bars are."""

    class Still(Vendor):
        trade_on_feed = None  # type: ignore[assignment]

        def __getattribute__(self, name: str) -> Any:
            if name == "trade_on_feed":
                raise AttributeError(name)
            return super().__getattribute__(name)

    results = run_cases(kit.CASES, lambda: nullcontext(Still()))
    assert [one.number for one in results if one.outcome == "not claimed"] == ["f08", "f09", "f10", "f11", "f12", "f14"]
