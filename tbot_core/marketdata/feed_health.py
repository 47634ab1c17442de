"""The health of a session's data: what a feed has said and when, and what may not be entered because of it.

Pure: moments are passed in, in seconds of a steady clock.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.contracts import HaltStatus
from tbot_core.model.bars import Quotes
from tbot_core.model.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tbot_core.contracts import Bar, FeedQuality, Quote

MINUTE_S: Final = 60.0
SILENT_S: Final = 10.0
"""A feed that says nothing at all for so long is stale."""

LEADERS: Final = frozenset({"SPY", "QQQ", "IWM"})
LEADERS_S: Final = 2 * MINUTE_S
"""So long none of the leaders may be silent, of those that are subscribed."""

SYMBOL_S: Final = 3 * MINUTE_S
MOST_STALE: Final = 0.2
MARK_S: Final = 2 * MINUTE_S
FULL_BARS: Final = 2
REOPENED_S: Final = 300.0
_NOBODY: Final[frozenset[str]] = frozenset()
ENDS_THE_DAY: Final = 3
"""A market-wide halt of this level ends the session."""

_TRADED: Final = "it has traded"


APART: Final = 0.01
"""So far may a quote's middle lie from the broker's price at the same time, as a share of it."""

APART_A_MINUTE: Final = 0.02
"""So far the close of a minute that has ended less than a minute ago."""


@attrs.frozen(kw_only=True)
class PriceDisagreement:
    """What the feed and a broker say of a symbol, and whether that is too far apart."""

    symbol: str
    feed: float
    theirs: float
    is_apart: bool


@attrs.frozen(kw_only=True)
class FeedAssessment:
    """How a feed is: `silence` says why it is stale, "" where it is not; the symbols that are; halted as told."""

    silence: str
    stale: frozenset[str]
    halted: frozenset[str]
    crowd: bool


@attrs.define
class _Halt:
    # A halt, of a symbol or the whole market: since which minute, and since which second and minute no more.
    #
    # One that nobody told is known by its end alone.
    since: int
    ended: float | None = None
    minute: int = 0
    level: int = 0


class FeedHealth:
    """What was heard of one session's feed; `begun` is the second from which silence counts."""

    def __init__(self, symbols: tuple[str, ...], quality: FeedQuality, begun: float) -> None:
        self.symbols = symbols
        self.quality = quality
        self._heard = begun
        self._gaps: list[tuple[float, float]] = []
        self._latest: tuple[int, float] | None = None
        self._bars = dict.fromkeys(symbols, begun)
        self._quoted = dict.fromkeys(symbols, begun)
        self._quotes: dict[str, tuple[float, float, float]] = {}
        self._halts: dict[str, _Halt] = {}
        self._closes: dict[str, tuple[float, float]] = {}
        self._apart: dict[str, set[str]] = {}
        self._compared: dict[tuple[str, str], float] = {}

    @property
    def is_market_halted(self) -> bool:
        """Whether the whole market is halted."""
        return self._under_way("")

    @property
    def halted_to_close(self) -> bool:
        """Whether the whole market is halted to the session's end."""
        market = self._halts.get("")
        return market is not None and market.level >= ENDS_THE_DAY

    @property
    def last_message_at(self) -> float:
        """When the feed said anything, last."""
        return self._heard

    def start(self, now: float) -> None:
        """The bell has rung: from now on silence counts."""
        for seen in (self._bars, self._quoted):
            seen.update(dict.fromkeys(self.symbols, now))

    def on_message(self, now: float) -> None:
        """The feed said something."""
        if now - self._heard > SILENT_S:
            self._gaps.append((self._heard, now))
        self._heard = now

    def on_bar(self, bar: Bar, now: float, minute: int) -> list[HaltStatus]:
        """A bar came of a symbol, of a minute of the session; which halts are over, because something was traded."""
        if bar.symbol not in self._bars:
            return []
        began = bar.start.timestamp()
        self._latest = max(self._latest or (minute, began), (minute, began))
        self._resume(bar.symbol, began, now)
        self._bars[bar.symbol] = now
        self._closes[bar.symbol] = bar.close, now
        over = [
            HaltStatus(symbol=one, halted=False, words=_TRADED) for one in ("", bar.symbol) if self._past(one, minute)
        ]
        return [one for one in over if self.on_status(one, now, minute)]

    def on_quote(self, quote: Quote, now: float) -> bool:
        """A quote came; False for one that is crossed, one-sided, no number, or older than what is known."""
        if quote.symbol not in self._quoted:
            return False
        said = quote.time.timestamp()
        known = self._quotes.get(quote.symbol)
        if known is not None and said < known[2]:
            return False
        if not (0 < quote.bid <= quote.ask < math.inf):
            self._quotes.pop(quote.symbol, None)
            return False
        self._resume(quote.symbol, said, now)
        self._quoted[quote.symbol] = now
        self._quotes[quote.symbol] = quote.bid, quote.ask, said
        return True

    def on_status(self, status: HaltStatus, now: float, minute: int) -> bool:
        """A halt began or ended, in a minute of the session; whether that is news."""
        halt = self._halts.get(status.symbol)
        under_way = halt is not None and halt.ended is None
        if status.halted:
            if halt is not None and under_way:
                news, halt.level = status.level > halt.level, max(halt.level, status.level)
                return news
            self._halts[status.symbol] = _Halt(since=minute, level=status.level)
            return True
        if halt is None or not under_way or halt.level >= ENDS_THE_DAY:
            return False
        halt.ended, halt.minute = now, minute
        return True

    def assess(self, now: float) -> FeedAssessment:
        """How the feed is now."""
        halted = frozenset(symbol for symbol in self.symbols if self._halted(symbol)) if self._halts else _NOBODY
        stale = frozenset(one for one in self.symbols if one not in halted and now - self._awaited(one) > SYMBOL_S)
        counted = len(self.symbols) - len(halted)
        return FeedAssessment(
            silence=self._silence(now, halted),
            stale=stale,
            halted=halted,
            crowd=counted > 0 and len(stale) > MOST_STALE * counted,
        )

    def quotes(self, now: float) -> Quotes | None:
        """The latest good quote of each symbol; None where the feed has none at all."""
        if not self.quality.quotes:
            return None
        rows = [self._quote(symbol, now) for symbol in self.symbols]
        bid, ask, age = np.array(rows, dtype=np.float64).T if rows else np.empty((3, 0))
        return Quotes(bid=bid, ask=ask, age_s=age)

    def mid(self, symbol: str, now: float, *, widest: float) -> float | None:
        """The middle of a fresh quote whose spread is at most this share of it; None where there is none."""
        bid, ask, age = self._quote(symbol, now)
        middle = (bid + ask) / 2
        return middle if age <= MINUTE_S and ask - bid <= widest * middle else None

    def compare_prices(self, theirs: Mapping[str, float], now: float, broker: str = "") -> list[PriceDisagreement]:
        """Hold the feed's latest prices against a broker's; what has come or gone of disagreements since the last.

        A symbol of which the broker or the feed has said nothing lately stays as it was.
        """
        changed, apart = [], self._apart.setdefault(broker, set())
        for symbol in sorted(theirs):
            pairs = [(ours, bound) for ours, bound in self._said(symbol, now) if 0 < theirs[symbol] < math.inf]
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
        """Of what is held, the symbols whose mark is older than two intervals."""
        seen = ((symbol, max(self._bars.get(symbol, -math.inf), self._quoted_at(symbol))) for symbol in held)
        return sorted(symbol for symbol, at in seen if now - at > MARK_S)

    def is_price_unconfirmed(self, symbol: str, now: float, broker: str) -> bool:
        """Whether that broker has not said lately what a symbol trades at, so that the feed was held against it."""
        return now - self._compared.get((broker, symbol), -math.inf) > MINUTE_S

    def denial_reason(self, symbol: str, minute: int, now: float, broker: str = "") -> Reason | None:
        """Why a symbol may not be entered on the bar of a minute; None where the data are no reason against it.

        `broker` is where it would be entered: the one whose prices the feed has to agree with.
        """
        market = self._halts.get("")
        if market is not None and (market.ended is None or now - market.ended < REOPENED_S):
            return Reason.MARKET_HALTED
        halt = self._halts.get(symbol)
        if halt is not None and (halt.ended is None or minute < halt.minute + FULL_BARS):
            return Reason.SYMBOL_HALTED
        if symbol in self._apart.get(broker, ()):
            return Reason.FEEDS_APART
        if self._stale(symbol, now):
            return Reason.DATA_STALE if self.quality.halts else Reason.SYMBOL_HALTED
        return None

    def _quote(self, symbol: str, now: float) -> tuple[float, float, float]:
        if symbol not in self._quotes:
            return math.nan, math.nan, math.nan
        bid, ask, _ = self._quotes[symbol]
        return bid, ask, now - self._quoted[symbol]

    def _said(self, symbol: str, now: float) -> list[tuple[float, float]]:
        # The feed's latest prices of a symbol, each with how far it may lie from what another says now.
        found = []
        bid, ask, age = self._quote(symbol, now)
        if age <= SILENT_S:
            found.append(((bid + ask) / 2, APART))
        close, at = self._closes.get(symbol, (math.nan, -math.inf))
        if now - at <= MINUTE_S:
            found.append((close, APART_A_MINUTE))
        return found

    def _quoted_at(self, symbol: str) -> float:
        return self._quoted.get(symbol, -math.inf) if symbol in self._quotes else -math.inf

    def _silence(self, now: float, halted: frozenset[str]) -> str:
        if now - self._heard > SILENT_S:
            return f"no message for {SILENT_S:.0f} s"
        leaders = sorted(LEADERS.intersection(self.symbols))
        watched = [symbol for symbol in leaders or self.symbols if symbol not in halted]
        if watched and all(now - self._awaited(symbol) > LEADERS_S for symbol in watched):
            who = ", ".join(watched) if leaders else f"{len(watched)} symbols"
            return f"none of {who} for {LEADERS_S:.0f} s"
        return ""

    def _seen(self, symbol: str) -> float:
        return max(self._bars.get(symbol, -math.inf), self._quoted.get(symbol, -math.inf))

    def _awaited(self, symbol: str) -> float:
        # Since when a word of a symbol is waited for: its last one, or the end of a halt.
        if not self._halts:
            return self._seen(symbol)
        halts = (self._halts.get(""), self._halts.get(symbol))
        ends = [halt.ended for halt in halts if halt is not None and halt.ended is not None]
        return max([self._seen(symbol), *ends])

    def _stale(self, symbol: str, now: float) -> bool:
        # Neither bar nor quote for three minutes while the feed lives, and no halt that would explain it.
        return not self._halted(symbol) and now - self._awaited(symbol) > SYMBOL_S

    def _resume(self, symbol: str, said: float, now: float) -> None:
        # The first word of a symbol after a silence that was taken for a halt ends that halt.
        #
        # `said` is the word's own time, in seconds as of bars. While the feed itself was silent nobody can know what
        # trades: that does not count.
        since = self._awaited(symbol)
        if self.quality.halts or self._latest is None or now - since <= SYMBOL_S or self._halted(symbol):
            return
        deaf = sum(until - max(gap, since) for gap, until in self._gaps if until > since)
        if now - since - deaf <= SYMBOL_S:
            return
        minute, began = self._latest
        minute += max(0, math.floor((said - began) / MINUTE_S))
        self._halts[symbol] = _Halt(since=minute, ended=now, minute=minute)

    def _past(self, symbol: str, minute: int) -> bool:
        # Whether a halt began before this minute did, and is not known to have ended.
        halt = self._halts.get(symbol)
        return halt is not None and halt.ended is None and minute > halt.since

    def _halted(self, symbol: str) -> bool:
        return self.is_market_halted or self._under_way(symbol)

    def _under_way(self, symbol: str) -> bool:
        halt = self._halts.get(symbol)
        return halt is not None and halt.ended is None
