"""The universe of a session: the required symbols and those with the largest dollar volume, up to a limit. Pure."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.model.day_facts import DayFacts
from tbot_core.model.formatting import plural
from tbot_core.model.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tbot_core.contracts import FeedQuality
    from tbot_core.model.bars import Array, Flags

OWN_LIMIT: Final = "UNIVERSE_MAX"
FEED_LIMIT: Final = "the feed's limit of subscriptions"


ENOUGH: Final = 0.5
"""The share of the symbols whose facts must be known for READY."""


@attrs.frozen(kw_only=True)
class FactCoverage:
    """Of how many symbols that may be entered the facts of a filter are known; `fault` says why no more are.

    `symbol_s`: the seconds that one symbol took, 0 if none was fetched.
    """

    filter: str
    known: int
    of: int
    fault: str = ""
    symbol_s: float = 0.0

    @property
    def is_enough(self) -> bool:
        """Whether enough is known for READY."""
        return self.known >= self.of * ENOUGH

    @property
    def text(self) -> str:
        """The coverage as text, with the time that the rest takes."""
        words = (
            f"{self.filter}: the facts of {self.known:,} of {plural(self.of, 'symbol')} that may be entered are known"
        )
        rest_s = (self.of - self.known) * self.symbol_s
        if self.fault:
            return f"{words}; {self.fault}"
        return f"{words}; the rest takes about {plural(math.ceil(rest_s / 60), 'minute')}" if rest_s else words


@attrs.frozen(kw_only=True)
class VixClose:
    """A close of the VIX in points, its exchange day, and the source that supplied it."""

    value: float
    day: dt.date
    source: str


@attrs.frozen(kw_only=True, eq=False)
class Universe:
    """The subscribed symbols of a session and their facts, and those that a limit left out; in the order of the input.

    `cut` are left out although nothing denies them; `denied` those that a filter denies before the bell, by reason.
    `left_out_day` holds the facts of both, in the order of `left_out_symbols`; None if there are none.
    `limited_by` names the limit. `watch_only` are subscribed, but not traded. `not_offered`: how many more symbols the
    source does not offer, by reason; None where it was not asked. `facts`: what is known of those that filters fetch.
    `lacking`: sentences on the other facts that are compared before the bell, and are unknown of some symbols.
    `vix`: the close of the session before, None if unknown; `without_vix`: the strategies that will not enter then.
    `series`: what went wrong when daily series were refreshed, in sentences.
    """

    symbols: tuple[str, ...]
    day: DayFacts
    cut: tuple[str, ...] = ()
    denied: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    left_out_day: DayFacts | None = None
    limit: int = 0
    limited_by: str = ""
    watch_only: frozenset[str] = frozenset()
    not_offered: Mapping[str, int] | None = None
    facts: tuple[FactCoverage, ...] = ()
    vix: VixClose | None = None
    lacking: tuple[str, ...] = ()
    without_vix: tuple[str, ...] = ()
    series: tuple[str, ...] = ()

    @property
    def counts(self) -> UniverseCounts | None:
        """How many symbols the source has, are left out and are subscribed; None where that is not known."""
        if self.not_offered is None:
            return None
        left_out = Counter(self.not_offered)
        left_out.update({reason: len(found) for reason, found in self.denied.items()})
        left_out[Reason.UNIVERSE_TRUNCATED.name] += len(self.cut)
        subscribed = len(self.symbols)
        return UniverseCounts(
            listed=subscribed + left_out.total(),
            left_out=dict((+left_out).most_common()),
            subscribed=subscribed,
            limit=self.limit,
            limited_by=self.limited_by,
        )


@attrs.frozen(kw_only=True)
class UniverseCounts:
    """How many symbols a source has, how many are left out by which reason (the largest first), and how many remain.

    `limit` is the one that left symbols out, 0 for none; `limited_by` names it.
    """

    listed: int
    left_out: Mapping[str, int]
    subscribed: int
    limit: int = 0
    limited_by: str = ""

    @property
    def text(self) -> str:
        """The counts as text."""
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.left_out.items())
        parts = [f"{self.limited_by}, {self.limit:,}"] if self.limit else []
        parts += [f"symbols left out: {reasons}"] if reasons else []
        whole = f"{self.subscribed:,} of {plural(self.listed, 'symbol')} subscribed"
        return f"{whole} ({'; '.join(parts)})" if parts else whole


@attrs.frozen(kw_only=True)
class UniverseLimit:
    """The largest number of symbols, 0 = no limit, and the name of the limit."""

    max_symbols: int
    limited_by: str

    def is_exceeded(self, symbols: Collection[str]) -> bool:
        """Whether these symbols are too many."""
        return 0 < self.max_symbols < len(symbols)

    @classmethod
    def of(cls, universe_max: int, quality: FeedQuality) -> UniverseLimit:
        """The narrower of UNIVERSE_MAX and the feed's subscription limit."""
        if 0 < quality.subscriptions < (universe_max or quality.subscriptions + 1):
            return cls(max_symbols=quality.subscriptions, limited_by=FEED_LIMIT)
        return cls(max_symbols=universe_max, limited_by=OWN_LIMIT)


def truncated_symbols(day: DayFacts, max_symbols: int, denied: Flags) -> Flags:
    """Flags the symbols beyond the `max_symbols` with the largest 20-day dollar volume, the denied ones first.

    Unknown volume ranks last of the others.
    """
    return _rank_beyond(np.where(denied, -np.inf, dollar_volume(day)), max_symbols)


def limit_universe(
    symbols: tuple[str, ...],
    day: DayFacts,
    limit: UniverseLimit,
    required: Collection[str] = (),
    reasons: Sequence[str] = (),
) -> Universe:
    """The universe within a limit: the required symbols, then those with the largest 20-day dollar volume.

    Required symbols are never cut, even if they exceed the limit. `reasons` say why each symbol is denied before the
    bell, "" for one that is not; denied symbols are cut before all others.
    """
    if not limit.is_exceeded(symbols):
        return Universe(symbols=symbols, day=day)
    first = np.array([symbol in required for symbol in symbols])
    last = np.array([bool(reason) for reason in reasons or [""] * len(symbols)])
    order = np.lexsort((-dollar_volume(day), last, ~first))  # stable: equal ones stay in the order of the input
    kept = max(limit.max_symbols, int(first.sum()))
    rows, out = np.sort(order[:kept]), np.sort(order[kept:]).tolist()
    denied: dict[str, list[str]] = {}
    for row in out:
        if last[row]:
            denied.setdefault(reasons[row], []).append(symbols[row])
    cut = tuple(symbols[row] for row in out if not last[row])
    named = left_out_symbols(cut, denied)
    row_of = {symbol: row for row, symbol in enumerate(symbols)}
    return Universe(
        symbols=tuple(symbols[row] for row in rows),
        day=day.symbols(rows),
        cut=cut,
        denied={reason: tuple(found) for reason, found in denied.items()},
        left_out_day=day.symbols([row_of[symbol] for symbol in named]) if named else None,
        limit=limit.max_symbols,
        limited_by=limit.limited_by,
    )


def left_out_symbols(cut: Sequence[str], denied: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The symbols that a limit left out: those that it cut, then those that are denied, by reason."""
    return (*cut, *chain.from_iterable(denied.values()))


def dollar_volume(day: DayFacts) -> Array:
    """The mean dollar volume of the look-back of each symbol; -1 where it is unknown."""
    dollars: Array = np.nan_to_num(day.average_volume * day.previous_close, nan=-1.0)
    return dollars


def _rank_beyond(dollars: Array, max_symbols: int) -> Flags:
    order = np.argsort(-dollars, axis=-1, kind="stable")
    place = np.argsort(order, axis=-1, kind="stable")
    found: Flags = place >= max_symbols
    return found
