"""Feeds: the bars of stored, simulated or running sessions."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import attrs

from tbot_core.calendar import ExchangeCalendar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tbot_core.bars import Day, Minute
    from tbot_core.calendar import Session


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
