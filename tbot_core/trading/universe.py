"""Which symbols a session may trade: as many as are allowed, those with the largest dollar volume first. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.model.bars import Day

if TYPE_CHECKING:
    from collections.abc import Collection

    from tbot_core.contracts import FeedQuality
    from tbot_core.model.bars import Array, Flags, Index

OWN: Final = "UNIVERSE_MAX"
FEEDS: Final = "the feed's limit of subscriptions"


@attrs.frozen(kw_only=True, eq=False)
class Universe:
    """The symbols that are kept, and those that are `cut` because of a limit; both sorted.

    `by` names the limit; `day` are the facts of those that are kept.
    """

    symbols: tuple[str, ...]
    day: Day
    cut: tuple[str, ...] = ()
    limit: int = 0
    by: str = ""


@attrs.frozen(kw_only=True)
class Limit:
    """How many symbols there may be, 0 = no limit, and who says so."""

    most: int
    by: str

    @classmethod
    def of(cls, universe_max: int, quality: FeedQuality) -> Limit:
        """The narrower of UNIVERSE_MAX and the feed's own."""
        if 0 < quality.subscriptions < (universe_max or quality.subscriptions + 1):
            return cls(most=quality.subscriptions, by=FEEDS)
        return cls(most=universe_max, by=OWN)


def beyond(day: Day, most: int) -> Flags:
    """Symbols beyond the `most` with the largest 20-day dollar volume; unknown volume comes last, ties by symbol."""
    return _beyond(_dollars(day), most)


def within(symbols: tuple[str, ...], day: Day, limit: Limit, worked: Collection[str] = ()) -> Universe:
    """The universe within a limit; symbols that are worked already are never cut, even if that exceeds it."""
    if not limit.most or len(symbols) <= limit.most:
        return Universe(symbols=symbols, day=day)
    first = np.array([symbol in worked for symbol in symbols])
    out = _beyond(np.where(first, np.inf, _dollars(day)), max(limit.most, int(first.sum())))
    rows = np.flatnonzero(~out)
    return Universe(
        symbols=tuple(symbols[row] for row in rows),
        day=_rows(day, rows),
        cut=tuple(symbol for symbol, gone in zip(symbols, out, strict=True) if gone),
        limit=limit.most,
        by=limit.by,
    )


def _dollars(day: Day) -> Array:
    dollars: Array = np.nan_to_num(day.average_volume * day.previous_close, nan=-1.0)
    return dollars


def _beyond(dollars: Array, most: int) -> Flags:
    order = np.argsort(-dollars, axis=-1, kind="stable")
    place = np.argsort(order, axis=-1, kind="stable")
    found: Flags = place >= most
    return found


def _rows(day: Day, rows: Index) -> Day:
    # The facts of some symbols; the VIX is everybody's.
    facts = {name: value for name, value in attrs.asdict(day, recurse=False).items() if value is not None}
    return Day(**{name: value if name == "vix" else value[rows] for name, value in facts.items()})
