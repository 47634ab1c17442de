"""Fetches before the bell what filters declare: for the symbols that may be entered, until enough is known.

What was fetched is journaled first, then stored beside the bars, where a replay finds it. A refresh that ends too early
goes on at the next session: what was fetched holds for days.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from tbot_core.contracts import Filter, SupportsRefresh
from tbot_core.engine.session.config import READY_AT
from tbot_core.errors import AccessError, BrokerError, DataError, TbotError, Unavailable
from tbot_core.journal.events.feeds import FactsFetched
from tbot_core.marketdata.store import reference
from tbot_core.marketdata.store.recorded_facts import RecordedFact, RecordedFacts
from tbot_core.model.clock import Clock, exchange_moment
from tbot_core.system import log
from tbot_core.trading.universe import FactCoverage

if TYPE_CHECKING:
    from tbot_core.model.calendar import Session

BATCH: Final = 10
"""The most symbols in one call of `refresh`."""

CALL_S: Final = 60.0
"""The time limit of one call."""

LEAST: Final = timedelta(seconds=60)
"""How long a refresh may last that begins after READY_AT."""

LATEST: Final = timedelta(minutes=5)
"""So long before the open it ends."""

PAUSES_S: Final = (1.0, 4.0, 16.0)
"""The pauses after calls that failed one after the other; after one more failure the refresh ends."""

AGAIN_S: Final = 60.0
"""The pause after a refresh that failed, while too little is known to be ready."""

_log = log.logger(__name__)

RecordFacts: TypeAlias = Callable[[FactsFetched], object]
"""Writes an event."""

Candidates: TypeAlias = Callable[[RecordedFacts], Sequence[str]]
"""The symbols that may be entered, the most wanted first, by what is known of them."""


def fact_sources(filters: Mapping[str, Filter]) -> dict[str, SupportsRefresh]:
    """The filters that fetch facts, by name."""
    return {name: one for name, one in filters.items() if isinstance(one, SupportsRefresh) and one.facts}


@attrs.frozen(kw_only=True, eq=False)
class FactRefresher:
    """Refreshes the facts of these filters; `record` writes an event, `bars` is the folder of the bar store."""

    sources: Mapping[str, SupportsRefresh]
    bars: Path
    clock: Clock
    record: RecordFacts = lambda _fetched: None

    async def refresh(
        self, session: Session, candidates: Candidates, on_wait: Callable[[str], None]
    ) -> tuple[RecordedFacts, tuple[FactCoverage, ...]]:
        """Fetch what the candidates of a session lack; returns all recorded facts, and the coverage of each filter.

        It ends at 09:00 New York, or a minute after its start; while too little is known, five minutes before the open,
        and `on_wait` is called from that moment on with the coverage as text. Raises DataError for stored facts that
        cannot be read.
        """
        recorded = reference.reference_facts(self.bars).recorded
        found = [await _Refresh(self, name, session, recorded).run(candidates, on_wait) for name in self.sources]
        return recorded, tuple(found)


class _Refresh:
    # The refresh of one filter's facts before a session.
    def __init__(self, refresher: FactRefresher, name: str, session: Session, recorded: RecordedFacts) -> None:
        self._own, self._name, self._session, self._recorded = refresher, name, session, recorded
        self._source = refresher.sources[name]
        self._began = refresher.clock.now()
        self._fetched = 0
        self._failures = 0
        self._fault = ""

    async def run(self, candidates: Candidates, on_wait: Callable[[str], None]) -> FactCoverage:
        while True:
            symbols = candidates(self._recorded)
            lacking = [symbol for symbol in symbols if not self._knows(symbol)]
            coverage = self._coverage(len(symbols), len(lacking))
            is_ready = coverage.is_enough or self._own.clock.now() < self._ready_at
            if not lacking or not self._has_time(coverage) or (self._fault and is_ready):
                return coverage
            if not is_ready and (self._fault or self._own.clock.now() >= self._began + LEAST):
                on_wait(coverage.text)
            if self._fault:
                await self._own.clock.sleep(AGAIN_S)
                self._fault, self._failures = "", 0
            await self._fetch(lacking[:BATCH])

    @property
    def _ready_at(self) -> datetime:
        return exchange_moment(self._session.date, READY_AT)

    def _has_time(self, coverage: FactCoverage) -> bool:
        # What is refreshed after the session's start, or after a restart, must not delay it.
        now = self._own.clock.now()
        latest = self._ready_at if coverage.is_enough else self._session.open - LATEST
        return now < max(latest, self._began + LEAST)

    def _knows(self, symbol: str) -> bool:
        day = self._session.date
        return all(self._recorded.latest(name, symbol, day) is not None for name in self._source.facts)

    def _coverage(self, symbols: int, lacking: int) -> FactCoverage:
        took_s = (self._own.clock.now() - self._began).total_seconds()
        return FactCoverage(
            filter=self._name,
            known=symbols - lacking,
            of=symbols,
            fault=self._fault,
            symbol_s=took_s / self._fetched if self._fetched else 0.0,
        )

    async def _fetch(self, symbols: Sequence[str]) -> None:
        day = self._session.date
        try:
            found = await asyncio.wait_for(self._source.refresh(day, symbols), CALL_S)
        except (Unavailable, TimeoutError) as fault:
            await self._pause(fault)
        except TbotError as fault:
            self._fault = fault.message
        else:
            self._failures = 0
            self._fetched += len(symbols)
            self._keep(symbols, found)

    async def _pause(self, fault: Unavailable | TimeoutError) -> None:
        # Wait before the next attempt; after the last one the fault ends the refresh.
        words = fault.message if isinstance(fault, BrokerError) else f"no answer within {CALL_S:g} s"
        _log.warning("facts.not_available", filter=self._name, reason=words)
        if self._failures == len(PAUSES_S):
            self._fault = words
            return
        asked_s = fault.retry_after_s if isinstance(fault, BrokerError) else None
        await self._own.clock.sleep(max(PAUSES_S[self._failures], asked_s or 0.0))
        self._failures += 1

    def _keep(self, symbols: Sequence[str], found: Mapping[str, Mapping[str, float]]) -> None:
        # Journal, then store. What the vendor does not have is known to be unknown.
        day = self._session.date
        answered = {symbol: dict(found.get(symbol, {})) for symbol in symbols}
        self._own.record(FactsFetched(session=day, filter=self._name, facts=answered))
        facts = [
            RecordedFact(
                name=name,
                symbol=symbol,
                first=day,
                last=day + timedelta(days=days - 1),
                value=found.get(symbol, {}).get(name, math.nan),
            )
            for symbol in symbols
            for name, days in self._source.facts.items()
        ]
        self._recorded.add(facts)
        try:
            reference.add_fetched(self._own.bars, facts)
        except (AccessError, DataError) as fault:
            _log.warning("facts.not_stored", filter=self._name, reason=fault.message)
