"""Events: the feed and its data."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Self

from tbot_core.journal.codec import EMPTY, EventFacts, fact

if TYPE_CHECKING:
    from tbot_core.trading.universe import Universe


class UniverseCut(EventFacts):
    """A universe was cut: `kept` symbols remain, `by` which limit; `cut` are not subscribed.

    `denied`: those that a filter denies before the bell, by reason.
    """

    kind = "universe"

    kept: int
    limit: int
    by: str
    cut: tuple[str, ...]
    denied: Mapping[str, tuple[str, ...]] = EMPTY

    @property
    def denials(self) -> int:
        """The number of symbols that filters deny before the bell."""
        return sum(map(len, self.denied.values()))

    @property
    def whole(self) -> int:
        """The number of symbols before the cut."""
        return self.kept + len(self.cut) + self.denials

    @classmethod
    def of(cls, universe: Universe) -> Self:
        """The event of a universe."""
        denied = {reason: tuple(symbols) for reason, symbols in universe.denied.items()}
        kept, cut = len(universe.symbols), tuple(universe.cut)
        return cls(kept=kept, limit=universe.limit, by=universe.limited_by, cut=cut, denied=denied)


class FeedGap(EventFacts):
    """Minutes whose bars may be missing, both included."""

    kind = "feed_gap"

    first: int
    last: int
    words: str


class FeedFilled(EventFacts):
    """Missing minutes were filled later; so many are still missing."""

    kind = "feed_filled"

    minutes: tuple[int, ...]
    open: int


class FeedsApart(EventFacts):
    """The prices of the feed and of a broker differ too much, or no longer do (`there` false)."""

    kind = "feeds_apart"

    symbol: str
    feed: Decimal
    theirs: Decimal
    there: bool


class HaltReported(EventFacts):
    """A symbol is halted, or no longer; an empty `symbol` is the whole market, with the level of its halt."""

    kind = "halt"

    symbol: str
    halted: bool
    level: int
    words: str


class VixRead(EventFacts):
    """The VIX at a window's first entry; None where it is not known. `candidates`: the symbols that may enter."""

    kind = "vix"

    session: dt.date
    strategy: str
    value: float | None
    time: dt.datetime | None
    candidates: int = fact(default=0, always=True)


class FactsFetched(EventFacts):
    """What a filter's vendor answered of symbols."""

    kind = "facts"

    session: dt.date
    filter: str
    facts: Mapping[str, Mapping[str, float]]
