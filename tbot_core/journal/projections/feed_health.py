"""Data quality of the current session: gaps, halts, feed disagreements, and excluded symbols."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import attrs

from tbot_core.journal import records
from tbot_core.journal.events.feeds import FeedFilled, FeedGap, FeedsApart, HaltReported, UniverseCut
from tbot_core.journal.events.orders import SignalDecided
from tbot_core.journal.events.sessions import SessionOpened
from tbot_core.model.calendar import ENDS_THE_DAY
from tbot_core.model.reasons import Reason

if TYPE_CHECKING:
    from tbot_core.journal.projection import JournalEvent

K = TypeVar("K")
T = TypeVar("T")


@attrs.define(kw_only=True)
class DataHealth:
    """A projection of data events.

    `lost`: minutes missing after back-fill. `halted` and `apart`: by symbol, "" for the whole market; `apart` is also
    by broker ("" for the primary) and holds what was compared. `over`: the market is halted until the close.
    `incomplete`: by strategy, symbols whose analysis lacked a minute.
    """

    opened: datetime | None = None
    universe: UniverseCut | None = None
    lost: set[int] = attrs.field(factory=set)
    halted: dict[str, str] = attrs.field(factory=dict)
    apart: dict[tuple[str, str], FeedsApart] = attrs.field(factory=dict)
    over: bool = False
    incomplete: dict[str, list[str]] = attrs.field(factory=dict)

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event."""
        match event.kind:
            case records.SESSION_OPENED:
                self._begin(event.facts(SessionOpened).open)
            case records.SESSION_CLOSED:
                self._begin(None)
            case records.UNIVERSE:
                self.universe = event.facts(UniverseCut)
            case records.FEED_GAP:
                gap = event.facts(FeedGap)
                self.lost.update(range(gap.first, gap.last + 1))
            case records.FEED_FILLED:
                self.lost.difference_update(event.facts(FeedFilled).minutes)
            case records.HALT:
                halt = event.facts(HaltReported)
                _update(self.halted, halt.symbol, halt.words, there=halt.halted)
                self.over |= not halt.symbol and halt.level >= ENDS_THE_DAY
            case records.FEEDS_APART:
                apart = event.facts(FeedsApart)
                _update(self.apart, (apart.broker, apart.symbol), apart, there=apart.there)
            case records.DECISION:
                decided = event.facts(SignalDecided)
                if decided.reason == Reason.ANALYSIS_INCOMPLETE.name:
                    self.incomplete.setdefault(decided.signal.strategy, []).append(decided.signal.symbol)

    def _begin(self, opened: datetime | None) -> None:
        self.opened = opened
        self.universe, self.over = None, False
        for kept in (self.halted, self.apart, self.incomplete):
            kept.clear()
        self.lost.clear()


def _update(known: dict[K, T], key: K, value: T, *, there: bool) -> None:
    if there:
        known[key] = value
    else:
        known.pop(key, None)
