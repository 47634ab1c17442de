"""Data quality of the current session: gaps, halts, feed disagreements, and excluded symbols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from tbot_core.journal import records
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

    opened: str = ""
    universe: Mapping[str, Any] = attrs.field(factory=dict)
    lost: set[int] = attrs.field(factory=set)
    halted: dict[str, str] = attrs.field(factory=dict)
    apart: dict[tuple[str, str], Mapping[str, Any]] = attrs.field(factory=dict)
    over: bool = False
    incomplete: dict[str, list[str]] = attrs.field(factory=dict)

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event."""
        payload = event.payload
        match event.kind:
            case records.SESSION_OPENED:
                self._begin(payload["open"])
            case records.SESSION_CLOSED:
                self._begin("")
            case records.UNIVERSE:
                self.universe = payload
            case records.FEED_GAP:
                self.lost.update(range(payload["first"], payload["last"] + 1))
            case records.FEED_FILLED:
                self.lost.difference_update(payload["minutes"])
            case records.HALT:
                _update(self.halted, payload["symbol"], payload["words"], there=payload["halted"])
                self.over |= not payload["symbol"] and payload["level"] >= ENDS_THE_DAY
            case records.FEEDS_APART:
                _update(self.apart, (payload.get("broker", ""), payload["symbol"]), payload, there=payload["there"])
            case records.DECISION if payload["reason"] == Reason.ANALYSIS_INCOMPLETE.name:
                signal = payload["signal"]
                self.incomplete.setdefault(signal["strategy"], []).append(signal["symbol"])

    def _begin(self, opened: str) -> None:
        self.opened = opened
        self.universe, self.over = {}, False
        for kept in (self.halted, self.apart, self.incomplete):
            kept.clear()
        self.lost.clear()


def _update(known: dict[K, T], key: K, value: T, *, there: bool) -> None:
    if there:
        known[key] = value
    else:
        known.pop(key, None)
