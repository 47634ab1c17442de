"""The VIX's close of the session before: the feed's own, else that of an enabled broker, else the stored one.

With VIX_SOURCE=live a strategy sees the value of the minute in which its entries begin.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.contracts import SupportsDailyVix, SupportsLiveVix
from tbot_core.errors import BrokerError, DataError, SettingsError
from tbot_core.journal import records
from tbot_core.journal.projections.vix import recorded_vix
from tbot_core.marketdata.store.daily_facts import look_back_sessions
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.system import log

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Sequence

    from tbot_core.contracts import FeedSession, IndexQuote, LiveSession
    from tbot_core.engine.session.session import TradingSession
    from tbot_core.instance import Settings
    from tbot_core.journal.projection import JournalEvent
    from tbot_core.model.bars import DayFacts
    from tbot_core.model.steady_clock import SteadyClock

ASK_S: Final = 10.0
FRESH_S: Final = 60.0
"""A live value may be so old when a window's entries begin."""

_AHEAD: Final = 2
_log = log.logger(__name__)


@attrs.frozen(kw_only=True, eq=False)
class VixSources:
    """Where the VIX may be known, besides the feed: the brokers that are enabled, and the folder of the bar store."""

    calendar: ExchangeCalendar
    brokers: tuple[object, ...]
    bars: Path

    async def facts(self, source: FeedSession | LiveSession) -> DayFacts:
        """A session's facts, with the VIX's close of the exchange day before it; unknown where nobody has just that."""
        if not np.isnan(source.day.vix).all():
            return source.day
        before = look_back_sessions(self.calendar, source.session.date)[-1].date
        value = await self._of_a_broker(before)
        value = self._stored(before) if value is None else value
        if value is None or not (0 < value < math.inf):
            return source.day
        return attrs.evolve(source.day, vix=np.full(source.day.vix.shape, value))

    async def _of_a_broker(self, before: dt.date) -> float | None:
        for broker in self.brokers:
            if not isinstance(broker, SupportsDailyVix):
                continue
            try:
                value = await broker.vix_close(before)
            except BrokerError as silence:
                _log.warning("vix.not_told", reason=silence.message)
                continue
            if value is not None:
                return value
        return None

    def _stored(self, before: dt.date) -> float | None:
        from tbot_core.marketdata.store import reference

        try:
            known = reference.reference_facts(self.bars).vix
        except DataError as fault:
            _log.warning("vix.not_read", reason=fault.message)
            return None
        return known.get(before)


def known_vix(day: DayFacts) -> float | None:
    """The VIX of a session's facts; None where it is unknown."""
    value = float(day.vix.ravel()[0]) if day.vix.size else math.nan
    return None if math.isnan(value) else value


class WindowVix:
    """The VIX as it is when each strategy's entries begin, asked of the first of `tellers` that knows it.

    It is asked for from two minutes before on. What is then at most a minute old is written down and counts for the
    whole window, after a restart too; else it is unknown.
    """

    def __init__(
        self, tellers: Sequence[SupportsLiveVix], run: TradingSession, clock: SteadyClock, past: Iterable[JournalEvent]
    ) -> None:
        self._tellers = tellers
        self._run = run
        self._clock = clock
        self._latest: IndexQuote | None = None
        self._left = {entrant.name: entrant.window for entrant in run.entrants}
        known = {name: value for (_, name), value in recorded_vix(past).items()}
        for strategy in [name for name in self._left if name in known]:
            run.set_vix(strategy, known[strategy])
            del self._left[strategy]

    async def refresh(self) -> None:
        """Called about every ten seconds; nobody is asked long before a window."""
        minute = self._run.session.minute(self._clock.now())
        if any(window.entry - _AHEAD <= minute for window in self._left.values()):
            self._latest = await self._ask() or self._latest

    def apply_due(self, minute: int) -> None:
        """Before the signals of a minute that has closed: the windows whose entries have begun get their value."""
        begun = [name for name, window in self._left.items() if window.entry <= minute]
        for strategy in begun:
            del self._left[strategy]
            latest = self._latest
            if latest is not None and not self._fresh(latest):
                latest = None
            self._run.set_vix(strategy, math.nan if latest is None else latest.value)
            self._run.execution.recorder.record(
                records.VIX,
                {
                    "session": self._run.session.date.isoformat(),
                    "strategy": strategy,
                    "value": None if latest is None else latest.value,
                    "time": None if latest is None else latest.time.isoformat(),
                    "candidates": self._run.candidates(strategy),
                },
            )

    async def _ask(self) -> IndexQuote | None:
        for teller in self._tellers:
            try:
                said = await teller.vix_now()
            except BrokerError as silence:
                _log.warning("vix.not_told", reason=silence.message)
                continue
            if said is not None and 0 < said.value < math.inf and self._fresh(said):
                return said
        return None

    def _fresh(self, said: IndexQuote) -> bool:
        return abs((self._clock.now() - said.time).total_seconds()) <= FRESH_S


def live_vix_brokers(settings: Settings, brokers: Sequence[object]) -> tuple[SupportsLiveVix, ...] | None:
    """Who says the VIX as it is, of brokers in their order; None where the close of the session before is wanted.

    Raises SettingsError where it is wanted and nobody says it.
    """
    if settings.mode != "live" or settings.trading.vix_source != "live":
        return None
    found = tuple(one for one in brokers if isinstance(one, SupportsLiveVix))
    if not found:
        raise SettingsError(
            "VIX_SOURCE=live: neither DATA_SOURCE nor an enabled broker supplies the live VIX.",
            "Set VIX_SOURCE=previous_close, or set DATA_SOURCE to a plugin that has the index.",
        )
    return found
