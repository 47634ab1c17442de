"""The VIX close of the previous session: from the data source, an enabled broker, a filter, an extension, or the store.

With VIX_SOURCE=live a strategy sees the value at the minute in which its entries begin.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.contracts import InstrumentKind, SupportsDailyVix
from tbot_core.contracts.abilities import DAILY_VIX, INSTRUMENTS, LIVE_VIX
from tbot_core.contracts.series import VIX
from tbot_core.errors import BrokerError, DataError, PluginError, SettingsError
from tbot_core.execution.instrument_requests import PORTION
from tbot_core.journal.events.feeds import VixRead
from tbot_core.journal.projections.vix import recorded_vix
from tbot_core.marketdata.store.daily_facts import look_back_sessions
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.reasons import Reason
from tbot_core.system import log
from tbot_core.trading.proposals import screen
from tbot_core.trading.universe import VixClose

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tbot_core.contracts import IndexQuote, SupportsInstruments, SupportsLiveVix
    from tbot_core.engine.session.session import TradingSession
    from tbot_core.instance import Settings
    from tbot_core.journal.projection import JournalEvent
    from tbot_core.model.bars import Array
    from tbot_core.model.calendar import Session
    from tbot_core.model.day_facts import DayFacts
    from tbot_core.model.steady_clock import SteadyClock
    from tbot_core.trading.proposals import ActiveStrategy, TradingRules
    from tbot_core.trading.universe import Universe

ASK_S: Final = 10.0
"""How often the live VIX is requested, and how long a source of the daily one may take, in seconds."""

FRESH_S: Final = 60.0
"""The maximum age in seconds of a live value when a window's entries begin."""

STORED: Final = "stored"
"""The source of a stored close that was not downloaded from an extension, such as an imported one."""

_AHEAD: Final = 2
_log = log.logger(__name__)


@attrs.frozen(kw_only=True, eq=False)
class VixSources:
    """The sources of the VIX: the data source and the enabled brokers, then `others`, then the bar store's folder.

    `others` are filters and extensions.
    """

    calendar: ExchangeCalendar
    brokers: tuple[object, ...]
    bars: Path
    others: tuple[SupportsDailyVix, ...] = ()
    _found: dict[dt.date, str] = attrs.field(factory=dict, init=False)

    async def add_vix(self, day: DayFacts, session: Session) -> DayFacts:
        """A session's facts with the VIX close of the previous exchange day, if they lack it and a source has it."""
        if not np.isnan(day.vix).all():
            return day
        before = self._day_before(session)
        found = await self._from_plugins(before) or self._from_store(before)
        if found is None or not (0 < found[0] < math.inf):
            return day
        value, self._found[before] = found
        return attrs.evolve(day, vix=np.full(day.vix.shape, value))

    def close_of(self, day: DayFacts, session: Session, own_source: str) -> VixClose | None:
        """The VIX of a session's facts with its day and source, None if unknown; `own_source` is that of the facts."""
        if (value := known_vix(day)) is None:
            return None
        before = self._day_before(session)
        return VixClose(value=value, day=before, source=self._found.get(before, own_source))

    def _day_before(self, session: Session) -> dt.date:
        return look_back_sessions(self.calendar, session.date)[-1].date

    async def add_kinds(self, day: DayFacts, symbols: Sequence[str]) -> DayFacts:
        """The facts with the kind of each symbol, stock or fund, of the first broker that reports instruments."""
        fund = await funds(self.brokers, symbols) if day.fund is None else None
        return day if fund is None else attrs.evolve(day, fund=fund)

    async def _from_plugins(self, before: dt.date) -> tuple[float, str] | None:
        # The close of the first that knows it, and its name.
        for source in (*filter(None, map(DAILY_VIX.of, self.brokers)), *self.others):
            try:
                async with asyncio.timeout(ASK_S):
                    value = await source.vix_close(before)
            except TimeoutError:
                _log.warning("vix.not_available", reason=f"no answer within {ASK_S:g} s")
            except (BrokerError, PluginError) as fault:
                _log.warning("vix.not_available", reason=fault.message)
            else:
                if value is not None:
                    return value, _name(source)
        return None

    def _from_store(self, before: dt.date) -> tuple[float, str] | None:
        from tbot_core.marketdata.store import reference, series

        try:
            value = reference.reference_facts(self.bars).vix.get(before)
            return None if value is None else (value, series.source_of(self.bars, VIX, before, value) or STORED)
        except DataError as fault:
            _log.warning("vix.not_read", reason=fault.message)
            return None


def _name(source: object) -> str:
    # The name of a guarded plugin.
    return str(getattr(getattr(source, "entry", None), "name", "") or type(source).__name__)


def strategies_without_vix(
    entrants: Iterable[ActiveStrategy], rules: TradingRules, universe: Universe, minutes: int
) -> tuple[str, ...]:
    """The strategies that will not enter because the VIX is unknown; `minutes` is the session's length."""
    if known_vix(universe.day) is not None:
        return ()
    return tuple(
        one.name
        for one in entrants
        if (screen(one, rules, universe.day, universe.symbols, minutes).reasons == Reason.VIX_UNKNOWN).any()
    )


def known_vix(day: DayFacts) -> float | None:
    """The VIX of a session's facts; None if unknown."""
    value = float(day.vix.ravel()[0]) if day.vix.size else math.nan
    return None if math.isnan(value) else value


class WindowVix:
    """The live VIX when each strategy's entries begin, from the first of `brokers` that has it.

    It is requested from two minutes before. A value at most a minute old is recorded and applies to the whole window,
    also after a restart; otherwise the VIX is unknown.
    """

    def __init__(
        self, brokers: Sequence[SupportsLiveVix], run: TradingSession, clock: SteadyClock, past: Iterable[JournalEvent]
    ) -> None:
        self._brokers = brokers
        self._run = run
        self._clock = clock
        self._latest: IndexQuote | None = None
        self._pending = {entrant.name: entrant.window for entrant in run.entrants if entrant.window.start >= 0}
        recorded = {name: value for (_, name), value in recorded_vix(past).items()}
        for strategy in [name for name in self._pending if name in recorded]:
            run.set_vix(strategy, recorded[strategy])
            del self._pending[strategy]

    async def refresh(self) -> None:
        """Request the VIX if a window's entries begin soon; called about every ten seconds."""
        minute = self._run.session.minute(self._clock.now())
        if any(window.entry - _AHEAD <= minute for window in self._pending.values()):
            self._latest = await self._request() or self._latest

    def apply_due(self, minute: int) -> None:
        """Set the VIX of the windows whose entries have begun; called before a closed minute's signals."""
        due = [name for name, window in self._pending.items() if window.entry <= minute]
        for strategy in due:
            del self._pending[strategy]
            latest = self._latest
            if latest is not None and not self._fresh(latest):
                latest = None
            self._run.set_vix(strategy, math.nan if latest is None else latest.value)
            self._run.execution.recorder.record(
                VixRead(
                    session=self._run.session.date,
                    strategy=strategy,
                    value=None if latest is None else latest.value,
                    time=None if latest is None else latest.time,
                    candidates=self._run.candidates[strategy],
                )
            )

    async def _request(self) -> IndexQuote | None:
        for broker in self._brokers:
            try:
                quote = await broker.vix_now()
            except BrokerError as fault:
                _log.warning("vix.not_available", reason=fault.message)
                continue
            if quote is not None and 0 < quote.value < math.inf and self._fresh(quote):
                return quote
        return None

    def _fresh(self, quote: IndexQuote) -> bool:
        return abs((self._clock.now() - quote.time).total_seconds()) <= FRESH_S


def live_vix_brokers(settings: Settings, brokers: Sequence[object]) -> tuple[SupportsLiveVix, ...] | None:
    """The brokers that report the live VIX, in order; None unless VIX_SOURCE=live applies.

    Raises SettingsError if it applies and no broker reports it.
    """
    if settings.mode != "live" or settings.trading.vix_source != "live":
        return None
    found = tuple(filter(None, map(LIVE_VIX.of, brokers)))
    if not found:
        raise SettingsError(
            "VIX_SOURCE=live: neither DATA_SOURCE nor an enabled broker supplies the live VIX.",
            "Set VIX_SOURCE=previous_close, or set DATA_SOURCE to a plugin that has the index.",
        )
    return found


async def funds(brokers: Iterable[object], symbols: Sequence[str]) -> Array | None:
    """1 for a fund, 0 for a stock, NaN for a symbol of unknown kind; None if no broker reports instruments."""
    for broker in filter(None, map(INSTRUMENTS.of, brokers)):
        try:
            kinds = await _kinds(broker, symbols)
        except BrokerError as fault:
            _log.warning("instruments.not_read", symbols=len(symbols), reason=fault.message)
            continue
        return np.array([_value(kinds.get(symbol)) for symbol in symbols])
    return None


async def _kinds(broker: SupportsInstruments, symbols: Sequence[str]) -> dict[str, InstrumentKind | None]:
    kinds: dict[str, InstrumentKind | None] = {}
    for first in range(0, len(symbols), PORTION):
        kinds |= {one.symbol: one.kind for one in await broker.instruments(symbols[first : first + PORTION])}
    return kinds


def _value(kind: InstrumentKind | None) -> float:
    return np.nan if kind is None else float(kind is InstrumentKind.FUND)
