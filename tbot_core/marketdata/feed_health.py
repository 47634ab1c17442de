"""The health of a session's data: staleness, halts and price disagreements, and which entries they forbid.

Pure: times are passed in, in seconds of a steady clock.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.contracts import HaltStatus
from tbot_core.model.bars import Quotes
from tbot_core.model.calendar import ENDS_THE_DAY
from tbot_core.model.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tbot_core.contracts import Bar, FeedQuality, Quote

MINUTE_S: Final = 60.0
SILENT_S: Final = 10.0
"""A feed without any message for this long is stale."""

LEADERS: Final = frozenset({"SPY", "QQQ", "IWM"})
_LEADERS_S: Final = 2 * MINUTE_S
"""The feed is stale when all subscribed leaders are silent for this long."""

_SYMBOL_S: Final = 3 * MINUTE_S
_MOST_STALE: Final = 0.2
_MARK_S: Final = 2 * MINUTE_S
_FULL_BARS: Final = 2
_REOPENED_S: Final = 300.0
_NONE: Final[frozenset[str]] = frozenset()
_TRADED: Final = "it has traded"


_APART: Final = 0.01
"""Maximum relative distance between a quote's midpoint and the broker's price at the same time."""

_APART_A_MINUTE: Final = 0.02
"""The same for the close of a minute that ended less than a minute ago."""


@attrs.frozen(kw_only=True)
class PriceDisagreement:
    """The feed's and a broker's price of a symbol, and whether they are too far apart."""

    symbol: str
    feed: float
    theirs: float
    is_apart: bool


@attrs.frozen(kw_only=True)
class FeedAssessment:
    """The state of a feed: `silence` is why it is stale ("" if not), then the stale and the halted symbols.

    `crowd`: more than MOST_STALE of the symbols are stale.
    """

    silence: str
    stale: frozenset[str]
    halted: frozenset[str]
    crowd: bool


@attrs.define
class _Halt:
    # A halt of a symbol or the whole market: first minute, and the second and minute of its end. A halt inferred from
    # silence has only an end.
    since: int
    ended: float | None = None
    minute: int = 0
    level: int = 0


class FeedHealth:
    """Tracks one session's feed; silence counts from the second `started`."""

    def __init__(self, symbols: tuple[str, ...], quality: FeedQuality, started: float) -> None:
        self.symbols = symbols
        self.quality = quality
        self._message_at = started
        self._gaps: list[tuple[float, float]] = []
        self._latest: tuple[int, float] | None = None
        self._bars = dict.fromkeys(symbols, started)
        self._quoted = dict.fromkeys(symbols, started)
        self._quotes: dict[str, tuple[float, float, float]] = {}
        self._halts: dict[str, _Halt] = {}
        self._closes: dict[str, tuple[float, float]] = {}
        self._apart: dict[str, set[str]] = {}
        self._compared: dict[tuple[str, str], float] = {}
        self._untraded: set[str] = set()

    @property
    def is_market_halted(self) -> bool:
        """Whether the whole market is halted."""
        return self._is_active("")

    @property
    def halted_to_close(self) -> bool:
        """Whether the whole market is halted until the session's end."""
        market = self._halts.get("")
        return market is not None and market.level >= ENDS_THE_DAY

    @property
    def last_message_at(self) -> float:
        """When the last message was received."""
        return self._message_at

    @property
    def bar_times(self) -> Mapping[str, float]:
        """When the last bar of each symbol was received; without those that had none since the start."""
        return {symbol: at for symbol, (_, at) in self._closes.items()}

    def start(self, now: float) -> None:
        """The session has opened: silence counts from now on."""
        for seen in (self._bars, self._quoted):
            seen.update(dict.fromkeys(self.symbols, now))

    def on_message(self, now: float, *, is_first: bool = False) -> None:
        """Record that a message was received; the first of a connection may not tell which symbols are halted."""
        if is_first and not self.quality.initial_halts:
            self._untraded.update(self.symbols)
        if now - self._message_at > SILENT_S:
            self._gaps.append((self._message_at, now))
        self._message_at = now

    def on_bar(self, bar: Bar, now: float, minute: int) -> list[HaltStatus]:
        """Record a bar of a minute of the session; returns the halts that this trade ended."""
        if bar.symbol not in self._bars:
            return []
        began = bar.start.timestamp()
        self._latest = max(self._latest or (minute, began), (minute, began))
        self._resume(bar.symbol, began, now)
        self._untraded.discard(bar.symbol)
        self._bars[bar.symbol] = now
        self._closes[bar.symbol] = bar.close, now
        over = [
            HaltStatus(symbol=one, halted=False, words=_TRADED)
            for one in ("", bar.symbol)
            if self._is_halted_before(one, minute)
        ]
        return [halt for halt in over if self.on_status(halt, now, minute)]

    def on_quote(self, quote: Quote, now: float) -> bool:
        """Record a quote; False for one that is crossed, one-sided, not a number, or older than the known one."""
        if quote.symbol not in self._quoted:
            return False
        quoted_at = quote.time.timestamp()
        known = self._quotes.get(quote.symbol)
        if known is not None and quoted_at < known[2]:
            return False
        if not (0 < quote.bid <= quote.ask < math.inf):
            self._quotes.pop(quote.symbol, None)
            return False
        self._resume(quote.symbol, quoted_at, now)
        self._quoted[quote.symbol] = now
        self._quotes[quote.symbol] = quote.bid, quote.ask, quoted_at
        return True

    def on_status(self, status: HaltStatus, now: float, minute: int) -> bool:
        """Record that a halt began or ended, in a minute of the session; returns whether the state changed."""
        halt = self._halts.get(status.symbol)
        active = halt is not None and halt.ended is None
        if status.halted:
            if halt is not None and active:
                news, halt.level = status.level > halt.level, max(halt.level, status.level)
                return news
            self._halts[status.symbol] = _Halt(since=minute, level=status.level)
            return True
        if halt is None or not active or halt.level >= ENDS_THE_DAY:
            return False
        halt.ended, halt.minute = now, minute
        return True

    def assess(self, now: float) -> FeedAssessment:
        """The state of the feed now."""
        halted = frozenset(symbol for symbol in self.symbols if self._halted(symbol)) if self._halts else _NONE
        stale = frozenset(
            symbol for symbol in self.symbols if symbol not in halted and now - self._silent_since(symbol) > _SYMBOL_S
        )
        counted = len(self.symbols) - len(halted)
        return FeedAssessment(
            silence=self._silence(now, halted),
            stale=stale,
            halted=halted,
            crowd=counted > 0 and len(stale) > _MOST_STALE * counted,
        )

    def quotes(self, now: float) -> Quotes | None:
        """The latest good quote of each symbol; None when the feed has no quotes."""
        if not self.quality.quotes:
            return None
        rows = [self._quote(symbol, now) for symbol in self.symbols]
        bid, ask, age = np.array(rows, dtype=np.float64).T if rows else np.empty((3, 0))
        return Quotes(bid=bid, ask=ask, age_s=age)

    def mid(self, symbol: str, now: float, *, widest: float) -> float | None:
        """The midpoint of a fresh quote whose relative spread is at most `widest`; None without one."""
        bid, ask, age = self._quote(symbol, now)
        middle = (bid + ask) / 2
        return middle if age <= MINUTE_S and ask - bid <= widest * middle else None

    def price(self, symbol: str, now: float, *, widest: float) -> float | None:
        """The midpoint of a fresh quote whose relative spread is at most `widest`, else a fresh close; None without."""
        bid, ask, age = self._quote(symbol, now)
        if age <= SILENT_S and ask - bid <= widest * (bid + ask) / 2:
            return (bid + ask) / 2
        close, at = self._closes.get(symbol, (math.nan, -math.inf))
        return close if now - at <= SILENT_S else None

    def compare_prices(self, theirs: Mapping[str, float], now: float, broker: str = "") -> list[PriceDisagreement]:
        """Compare the feed's latest prices with a broker's; returns disagreements that began or ended.

        A symbol without a recent price on either side keeps its state.
        """
        changed, apart = [], self._apart.setdefault(broker, set())
        for symbol in sorted(theirs):
            pairs = [(ours, bound) for ours, bound in self._prices(symbol, now) if 0 < theirs[symbol] < math.inf]
            if not pairs:
                continue
            self._compared[broker, symbol] = now
            wide = [ours for ours, bound in pairs if abs(ours / theirs[symbol] - 1) > bound]
            if bool(wide) is not (symbol in apart):
                ours = wide[0] if wide else pairs[0][0]
                changed.append(PriceDisagreement(symbol=symbol, feed=ours, theirs=theirs[symbol], is_apart=bool(wide)))
            (apart.add if wide else apart.discard)(symbol)
        return changed

    def stale_marks(self, held: Iterable[str], now: float) -> list[str]:
        """The held symbols whose mark is older than MARK_S."""
        seen = ((symbol, max(self._bars.get(symbol, -math.inf), self._quoted_at(symbol))) for symbol in held)
        return sorted(symbol for symbol, at in seen if now - at > _MARK_S)

    def is_price_unconfirmed(self, symbol: str, now: float, broker: str) -> bool:
        """Whether the broker has reported no recent price that the feed was compared with."""
        return now - self._compared.get((broker, symbol), -math.inf) > MINUTE_S

    def denial_reason(self, symbol: str, minute: int, now: float, broker: str = "") -> Reason | None:
        """Why a symbol may not be entered on the bar of a minute; None when the data do not forbid it.

        `broker` is where it would be entered; the feed must agree with that broker's prices.
        """
        market = self._halts.get("")
        if market is not None and (market.ended is None or now - market.ended < _REOPENED_S):
            return Reason.MARKET_HALTED
        halt = self._halts.get(symbol)
        if halt is not None and (halt.ended is None or minute < halt.minute + _FULL_BARS):
            return Reason.SYMBOL_HALTED
        if symbol in self._apart.get(broker, ()):
            return Reason.FEEDS_APART
        if self._stale(symbol, now):
            return Reason.SYMBOL_HALTED if self._silence_is_halt(symbol) else Reason.DATA_STALE
        return None

    def _quote(self, symbol: str, now: float) -> tuple[float, float, float]:
        if symbol not in self._quotes:
            return math.nan, math.nan, math.nan
        bid, ask, _ = self._quotes[symbol]
        return bid, ask, now - self._quoted[symbol]

    def _prices(self, symbol: str, now: float) -> list[tuple[float, float]]:
        # The feed's latest prices of a symbol, each with the allowed relative distance.
        found = []
        bid, ask, age = self._quote(symbol, now)
        if age <= SILENT_S:
            found.append(((bid + ask) / 2, _APART))
        close, at = self._closes.get(symbol, (math.nan, -math.inf))
        if now - at <= MINUTE_S:
            found.append((close, _APART_A_MINUTE))
        return found

    def _quoted_at(self, symbol: str) -> float:
        return self._quoted.get(symbol, -math.inf) if symbol in self._quotes else -math.inf

    def _silence(self, now: float, halted: frozenset[str]) -> str:
        if now - self._message_at > SILENT_S:
            return f"no message for {SILENT_S:.0f} s"
        leaders = sorted(LEADERS.intersection(self.symbols))
        watched = [symbol for symbol in leaders or self.symbols if symbol not in halted]
        if watched and all(now - self._silent_since(symbol) > _LEADERS_S for symbol in watched):
            who = ", ".join(watched) if leaders else f"{len(watched)} symbols"
            return f"none of {who} for {_LEADERS_S:.0f} s"
        return ""

    def _seen(self, symbol: str) -> float:
        return max(self._bars.get(symbol, -math.inf), self._quoted.get(symbol, -math.inf))

    def _silent_since(self, symbol: str) -> float:
        # The symbol's last message, or the end of a halt.
        if not self._halts:
            return self._seen(symbol)
        halts = (self._halts.get(""), self._halts.get(symbol))
        ends = [halt.ended for halt in halts if halt is not None and halt.ended is not None]
        return max([self._seen(symbol), *ends])

    def _stale(self, symbol: str, now: float) -> bool:
        # No bar or quote for SYMBOL_S while the feed is alive, and no halt that explains it.
        return not self._halted(symbol) and now - self._silent_since(symbol) > _SYMBOL_S

    def _resume(self, symbol: str, sent: float, now: float) -> None:
        # The first message of a symbol after a silence that was taken for a halt ends that halt. `sent` is the
        # message's own time, in epoch seconds. Time in which the whole feed was silent does not count.
        since = self._silent_since(symbol)
        if self._latest is None or now - since <= _SYMBOL_S or self._halted(symbol):
            return
        if not self._silence_is_halt(symbol):
            return
        deaf = sum(until - max(gap, since) for gap, until in self._gaps if until > since)
        if now - since - deaf <= _SYMBOL_S:
            return
        minute, began = self._latest
        minute += max(0, math.floor((sent - began) / MINUTE_S))
        self._halts[symbol] = _Halt(since=minute, ended=now, minute=minute)

    def _silence_is_halt(self, symbol: str) -> bool:
        # Whether the feed would not have reported that the symbol is halted.
        return not self.quality.halts or symbol in self._untraded

    def _is_halted_before(self, symbol: str, minute: int) -> bool:
        # Whether a halt began before this minute and has no known end.
        halt = self._halts.get(symbol)
        return halt is not None and halt.ended is None and minute > halt.since

    def _halted(self, symbol: str) -> bool:
        return self.is_market_halted or self._is_active(symbol)

    def _is_active(self, symbol: str) -> bool:
        halt = self._halts.get(symbol)
        return halt is not None and halt.ended is None
