"""The universe of a session: the symbols with the largest dollar volume, up to a limit. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.model.bars import DayFacts

if TYPE_CHECKING:
    from collections.abc import Collection

    from tbot_core.contracts import FeedQuality
    from tbot_core.model.bars import Array, Flags, Index

OWN_LIMIT: Final = "UNIVERSE_MAX"
FEED_LIMIT: Final = "the feed's limit of subscriptions"


@attrs.frozen(kw_only=True, eq=False)
class Universe:
    """The symbols of a session, and those `cut` by a limit; both in the order of the input.

    `limited_by` names the limit; `day` has the facts of the kept symbols.
    """

    symbols: tuple[str, ...]
    day: DayFacts
    cut: tuple[str, ...] = ()
    limit: int = 0
    limited_by: str = ""


@attrs.frozen(kw_only=True)
class UniverseLimit:
    """The largest number of symbols, 0 = no limit, and the name of the limit."""

    max_symbols: int
    limited_by: str

    @classmethod
    def of(cls, universe_max: int, quality: FeedQuality) -> UniverseLimit:
        """The narrower of UNIVERSE_MAX and the feed's subscription limit."""
        if 0 < quality.subscriptions < (universe_max or quality.subscriptions + 1):
            return cls(max_symbols=quality.subscriptions, limited_by=FEED_LIMIT)
        return cls(max_symbols=universe_max, limited_by=OWN_LIMIT)


def truncated_symbols(day: DayFacts, max_symbols: int) -> Flags:
    """Flags the symbols beyond the `max_symbols` with the largest 20-day dollar volume; unknown volume ranks last."""
    return _rank_beyond(_dollars(day), max_symbols)


def limit_universe(
    symbols: tuple[str, ...], day: DayFacts, limit: UniverseLimit, in_use: Collection[str] = ()
) -> Universe:
    """The universe within a limit; symbols `in_use` are never cut, even if they exceed the limit."""
    if not limit.max_symbols or len(symbols) <= limit.max_symbols:
        return Universe(symbols=symbols, day=day)
    first = np.array([symbol in in_use for symbol in symbols])
    excluded = _rank_beyond(np.where(first, np.inf, _dollars(day)), max(limit.max_symbols, int(first.sum())))
    rows = np.flatnonzero(~excluded)
    return Universe(
        symbols=tuple(symbols[row] for row in rows),
        day=_rows(day, rows),
        cut=tuple(symbol for symbol, gone in zip(symbols, excluded, strict=True) if gone),
        limit=limit.max_symbols,
        limited_by=limit.limited_by,
    )


def _dollars(day: DayFacts) -> Array:
    dollars: Array = np.nan_to_num(day.average_volume * day.previous_close, nan=-1.0)
    return dollars


def _rank_beyond(dollars: Array, max_symbols: int) -> Flags:
    order = np.argsort(-dollars, axis=-1, kind="stable")
    place = np.argsort(order, axis=-1, kind="stable")
    found: Flags = place >= max_symbols
    return found


def _rows(day: DayFacts, rows: Index) -> DayFacts:
    # The facts of some symbols; the VIX has no symbol axis.
    facts = {name: value for name, value in attrs.asdict(day, recurse=False).items() if value is not None}
    return DayFacts(**{name: value if name == "vix" else value[rows] for name, value in facts.items()})
