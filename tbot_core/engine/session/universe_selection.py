"""Chooses the symbols of a session before its open, and computes their facts from the history of its feed.

Daily bars only cut the universe. The facts of the chosen symbols come from minute bars, by the function that replay
and backtest use: the minutes of past sessions are downloaded into the bar store, and the store computes the facts.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.contracts import (
    BrokerCapabilities,
    FeedCoverage,
    FeedQuality,
    FeedRequest,
    FeedSession,
    LiveSession,
    ReportsLeftOut,
    SupportsDailyVix,
)
from tbot_core.contracts.abilities import MARKET_CAPS
from tbot_core.contracts.feed import NO_EXTRA_FACTS, ExtraFacts
from tbot_core.engine.daily_series import SeriesRefresher
from tbot_core.engine.missing_facts import session_lacks
from tbot_core.engine.session.fact_refresh import FactRefresher, RecordFacts, fact_sources
from tbot_core.engine.session.vix import VixSources, strategies_without_vix
from tbot_core.errors import AccessError, BrokerError, DataError, Unavailable
from tbot_core.journal.projections import carryover
from tbot_core.journal.projections.book import fold_events
from tbot_core.marketdata.feed_health import LEADERS
from tbot_core.marketdata.history import (
    Downloader,
    DownloadProgress,
    DownloadSource,
    DownloadStore,
    add_reference_facts,
    reported_splits,
    volume_kind,
)
from tbot_core.marketdata.store import reference
from tbot_core.marketdata.store.daily_facts import (
    LOOK_BACK,
    ReferenceFacts,
    facts_from_daily_bars,
    last_daily_bars,
    look_back_sessions,
)
from tbot_core.marketdata.store.recorded_facts import RecordedFacts, with_recorded
from tbot_core.marketdata.store.store import BarStore
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.clock import Clock
from tbot_core.model.day_facts import DailyBars, DayFacts
from tbot_core.model.reasons import REASON_BY_CODE, Reason
from tbot_core.model.types import is_symbol
from tbot_core.plugins.guarded import GuardedVix
from tbot_core.system import log
from tbot_core.trading.proposals import ActiveStrategy, TradingRules, cut_reasons
from tbot_core.trading.universe import (
    FactCoverage,
    Universe,
    UniverseLimit,
    dollar_volume,
    limit_universe,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from tbot_core.engine.assembly import Assembly
    from tbot_core.journal.events.feeds import FactsFetched
    from tbot_core.journal.store import Event, Journal

_UNKNOWN: Final = "unknown to the feed"
_NO_SYMBOL: Final = "not the symbol of a share"

_ATTEMPTS: Final = 4
_NAMED_AT_MOST: Final = 5
_log = log.logger(__name__)


@attrs.frozen(kw_only=True, eq=False)
class UniverseSelector:
    """Selects the universe of each session of a run.

    `bars` is the folder of the bar store, `source` the name under which downloaded bars are noted in it; `server` is
    the plugin that supplies them. `symbols` are those to trade, empty for all of the feed. `extra`: the facts
    beyond the standard ones. `series` downloads daily series before the bell. `on_download` receives the progress of a
    download.
    """

    calendar: ExchangeCalendar
    clock: Clock
    bars: Path
    source: str
    server: object
    vix: VixSources
    rules: TradingRules
    entrants: Callable[[Session], tuple[ActiveStrategy, ...]]
    symbols: tuple[str, ...] = ()
    extra: ExtraFacts = NO_EXTRA_FACTS
    facts: FactRefresher
    series: SeriesRefresher | None = None
    on_download: Callable[[DownloadProgress], None] = lambda _progress: None
    _with_splits: dict[dt.date, frozenset[str]] = attrs.field(factory=dict, init=False)

    async def select(
        self,
        source: FeedSession | LiveSession,
        past: Sequence[Event],
        on_wait: Callable[[str], None] = lambda _reason: None,
    ) -> Universe:
        """The universe of a session; `past` are the journal's events, `on_wait` is that of `FactRefresher.refresh`.

        Of a feed that computes its facts itself, such as a simulator, all symbols are taken. Raises `Unavailable` if
        the history cannot be had or stored now.
        """
        if isinstance(source, LiveSession):
            try:
                universe = await self._select(source, past, on_wait)
            except (DataError, AccessError) as fault:
                raise Unavailable(fault.message, fault.remedy) from fault
        else:
            day = await self.vix.add_vix(source.day.dated(source.session.date), source.session)
            universe = Universe(symbols=source.symbols, day=await self.vix.add_kinds(day, source.symbols))
        session = source.session
        lacking = session_lacks(self.entrants(session), self.rules, universe, session)
        universe = attrs.evolve(universe, lacking=lacking)
        silent = strategies_without_vix(self.entrants(session), self.rules, universe, session.minutes)
        known = self.vix.close_of(universe.day, session, self.source)
        return attrs.evolve(universe, vix=known, without_vix=silent)

    async def _select(self, source: LiveSession, past: Sequence[Event], on_wait: Callable[[str], None]) -> Universe:
        held, watched = symbols_in_use(past), LEADERS | self.rules.watch_only
        traded = frozenset(self.symbols or source.symbols) - self.rules.watch_only
        offered = tuple(filter(is_symbol, source.symbols))
        symbols = tuple(symbol for symbol in offered if symbol in traded or symbol in watched | held)
        if absent := sorted({*self.symbols} - {*offered}):
            _log.warning("universe.unknown_symbols", symbols=absent)
        series: tuple[str, ...] = ()
        quality, is_early = source.quality, not held or self.clock.now() < source.session.open
        if is_early and self.series is not None:  # a restart does not wait
            series = await self.series.refresh(source.session)
        is_cut = UniverseLimit.of(self.rules.universe_max, quality).is_exceeded(symbols)
        is_partial = quality.coverage is FeedCoverage.SINGLE_VENUE
        await self._store_splits(source, symbols)
        facts = await self._other_facts(symbols)
        if is_cut or is_partial or not quality.minute_history or self.facts.sources:
            day = await self._daily_facts(source, symbols, facts)
        else:
            day = DayFacts.unknown(len(symbols))
        coverage: tuple[FactCoverage, ...] = ()
        if is_early:
            candidates = partial(self._candidates, source, symbols, day, held | watched)
            facts.recorded, coverage = await self.facts.refresh(source.session, candidates, on_wait)
            day = facts.add_recorded(day, source.session, symbols)
        universe = limited_universe(
            source, symbols, day, self.rules, self.entrants(source.session), required=held | watched
        )
        others, watched_only = not_offered(source, self.symbols), frozenset(universe.symbols) - traded
        universe = attrs.evolve(universe, watch_only=watched_only, not_offered=others, facts=coverage)
        universe = attrs.evolve(universe, series=series)
        day = universe.day
        if quality.minute_history:
            day = await facts.add(await self._minute_facts(source, universe.symbols), source.session, universe.symbols)
            if is_partial:  # volumes of one venue are not those that MIN_VOLUME_THRESHOLD means
                day = attrs.evolve(day, average_volume=universe.day.average_volume)
        if self.extra.daily_bars:
            day = attrs.evolve(day, daily=await self._daily_bars(source, universe.symbols))
        return attrs.evolve(universe, day=day)

    async def daily_facts(self, source: LiveSession, symbols: tuple[str, ...]) -> DayFacts:
        """The facts of these symbols from daily bars, with VIX and capitalisations. Raises `Unavailable`."""
        facts = await self._other_facts(symbols)
        try:
            await self._store_splits(source, symbols)
            return await self._daily_facts(source, symbols, facts)
        except (DataError, AccessError) as fault:
            raise Unavailable(fault.message, fault.remedy) from fault

    async def _store_splits(self, source: LiveSession, symbols: tuple[str, ...]) -> None:
        # Store the splits of the look-back that the source reports, once a session. Without them a split is a crash.
        before = look_back_sessions(self.calendar, source.session.date, max(LOOK_BACK, self.extra.daily_bars))
        first, last = before[0].date, source.session.date
        if self._with_splits.get(last, frozenset()).issuperset(symbols):
            return
        try:
            found = await reported_splits(source, symbols, first, last)
        except BrokerError as fault:
            if self.extra.daily_bars:
                raise
            effect = "the stored splits count; any other looks like a fall or a rise of the price"
            _log.warning("splits.not_available", reason=fault.message, effect=effect)
            return
        if found:
            add_reference_facts(self.bars, {}, {}, found)
        self._with_splits.clear()
        self._with_splits[last] = frozenset(symbols)

    async def _daily_facts(self, source: LiveSession, symbols: tuple[str, ...], facts: _OtherFacts) -> DayFacts:
        sessions = (*look_back_sessions(self.calendar, source.session.date), source.session)
        bars = await source.daily(symbols, sessions[0].date, sessions[-2].date)
        splits = reference.reference_facts(self.bars).splits
        day = facts_from_daily_bars(bars, sessions, symbols, ReferenceFacts(vix={}, splits=splits))
        return await facts.add(day, source.session, symbols)

    async def _daily_bars(self, source: LiveSession, symbols: tuple[str, ...]) -> DailyBars:
        before = look_back_sessions(self.calendar, source.session.date, self.extra.daily_bars)
        bars = await source.daily(symbols, before[0].date, before[-1].date)
        return last_daily_bars(bars, (*before, source.session), symbols, reference.reference_facts(self.bars))

    def _candidates(
        self,
        source: LiveSession,
        symbols: tuple[str, ...],
        day: DayFacts,
        required: frozenset[str],
        recorded: RecordedFacts,
    ) -> Sequence[str]:
        # The symbols that a session would subscribe and may enter, if all that is unknown passed; by dollar volume.
        rules, entrants = attrs.evolve(self.rules, missing_rejects=False), self.entrants(source.session)
        known = with_recorded(day, recorded, source.session.date, symbols)
        universe = limited_universe(source, symbols, known, rules, entrants, required=required)
        reasons = cut_reasons(entrants, rules, universe.day, universe.symbols, source.session.minutes)
        dollars = dollar_volume(universe.day)
        open_rows = np.flatnonzero(reasons == Reason.ALLOWED)
        return [universe.symbols[row] for row in open_rows[np.argsort(-dollars[open_rows], kind="stable")]]

    async def _other_facts(self, symbols: Sequence[str]) -> _OtherFacts:
        source = MARKET_CAPS.of(self.server)
        caps = {} if source is None else await source.market_caps(symbols)
        return _OtherFacts(self.vix, reference.reference_facts(self.bars).recorded, caps)

    async def _minute_facts(self, source: LiveSession, symbols: tuple[str, ...]) -> DayFacts:
        # The facts of these symbols by the store, after the minutes that it lacks were downloaded.
        before = look_back_sessions(self.calendar, source.session.date)
        kind = DownloadSource(name=self.source, volume=volume_kind(source.quality))
        store = DownloadStore(self.bars, self.calendar, kind)
        downloader = Downloader(
            source=source, store=store, clock=self.clock, attempts=_ATTEMPTS, on_progress=self._progress
        )
        done = await downloader.download(before, symbols)
        if done.refused:
            more = len(done.refused) - _NAMED_AT_MOST
            _log.warning("history.not_stored", reasons=done.refused[:_NAMED_AT_MOST], more=max(more, 0))
        bars = BarStore(folder=self.bars, calendar=self.calendar)
        facts = bars.facts([source.session], symbols, extra=self.extra).session(0)
        # A live feed's prices are raw, whatever is stored of its month; the stored VIX counts after all other sources.
        return attrs.evolve(facts, adjusted=None, vix=np.full(facts.vix.shape, np.nan))

    def _progress(self, progress: DownloadProgress) -> None:
        if progress.total:
            _log.info("history.downloaded", sessions=progress.done, of=progress.total, bars=progress.bars)
            self.on_download(progress)


@attrs.define(eq=False)
class _OtherFacts:
    # The facts that do not come from bars: the VIX, capitalisations of the feed, and what is recorded.
    vix: VixSources
    recorded: RecordedFacts
    caps: Mapping[str, float]

    async def add(self, day: DayFacts, session: Session, symbols: tuple[str, ...]) -> DayFacts:
        day = await self.vix.add_vix(self.add_recorded(day, session, symbols), session)
        return await self.vix.add_kinds(day, symbols)

    def add_recorded(self, day: DayFacts, session: Session, symbols: tuple[str, ...]) -> DayFacts:
        caps = np.array([self.caps.get(symbol, np.nan) for symbol in symbols])
        day = with_recorded(day, self.recorded, session.date, symbols)
        return attrs.evolve(day, market_cap=np.where(np.isnan(caps), day.market_cap, caps))


def limited_universe(  # noqa: PLR0913  -- what decides who is subscribed
    source: LiveSession,
    symbols: tuple[str, ...],
    day: DayFacts,
    rules: TradingRules,
    entrants: Sequence[ActiveStrategy],
    *,
    required: Collection[str] = LEADERS,
) -> Universe:
    """The symbols within the feed's limit: the required ones, then what a strategy may enter, by dollar volume."""
    limit = UniverseLimit.of(rules.universe_max, source.quality)
    if not limit.is_exceeded(symbols):
        return limit_universe(symbols, day, limit)
    codes = cut_reasons(entrants, rules, day, symbols, source.session.minutes).tolist()
    reasons = ["" if code == Reason.ALLOWED else REASON_BY_CODE[code].name for code in codes]
    return limit_universe(symbols, day, limit, required, reasons)


def not_offered(source: LiveSession, named: Collection[str]) -> Mapping[str, int]:
    """How many symbols cannot be subscribed, by reason: of the `named` ones, else of all of the vendor."""
    if named:
        return {_UNKNOWN: len({*named} - {*filter(is_symbol, source.symbols)})}
    found = Counter(source.left_out if isinstance(source, ReportsLeftOut) else {})
    found[_NO_SYMBOL] += sum(not is_symbol(symbol) for symbol in source.symbols)
    return found


def universe_selector(
    assembly: Assembly,
    request: FeedRequest,
    venue: BrokerCapabilities,
    brokers: Sequence[object],
    record: RecordFacts | None = None,
) -> UniverseSelector:
    """The selector of a run at a venue; the first of `brokers` is the data source, the others may know the VIX.

    `record` journals what filters fetch; without it they fetch nothing, and no series is refreshed.
    """
    settings, rules = assembly.settings, assembly.rules(venue)
    sources = {} if record is None else fact_sources(assembly.filters)
    series = None if record is None else SeriesRefresher(assembly)
    vix = VixSources(
        calendar=assembly.calendar,
        brokers=tuple(brokers),
        bars=settings.instance.bars,
        others=tuple(_vix_plugins(assembly, rules)),
    )
    return UniverseSelector(
        calendar=assembly.calendar,
        clock=assembly.clock,
        bars=settings.instance.bars,
        source=settings.trading.data_source or settings.trading.broker_name,
        server=brokers[0],
        vix=vix,
        rules=rules,
        entrants=assembly.entrants,
        symbols=request.symbols,
        extra=request.extra_facts,
        facts=FactRefresher(
            sources=sources, bars=settings.instance.bars, clock=assembly.clock, record=record or _not_recorded
        ),
        series=series,
    )


def _vix_plugins(assembly: Assembly, rules: TradingRules) -> Iterator[SupportsDailyVix]:
    # The filters, then the extensions, that supply the VIX.
    yield from (one for one in rules.filters.values() if isinstance(one, SupportsDailyVix))
    for loaded, made in assembly.extensions:
        if isinstance(made, SupportsDailyVix):
            yield GuardedVix(entry=loaded.entry, inner=made, guard=assembly.call_guard)


def _not_recorded(_fetched: FactsFetched) -> None:
    # Where nothing is fetched, nothing is recorded.
    pass


def watched_request(
    request: FeedRequest, assembly: Assembly, quality: FeedQuality | None, journal: Journal | None = None
) -> FeedRequest:
    """The request to a live feed: named symbols to trade, and with them those that are watched or in use.

    `quality` is that of the feed, None for a source without live messages.
    """
    if quality is None or not request.symbols:
        return request
    used = () if journal is None else symbols_in_use(carryover.events_for_session(journal))
    watched = LEADERS.union(assembly.settings.trading.watch_only, used)
    return attrs.evolve(request, symbols=tuple(sorted(watched.union(request.symbols))))


def symbols_in_use(past: Sequence[Event]) -> frozenset[str]:
    """The symbols with a position or a working order; they are subscribed regardless of the limit."""
    book = fold_events(carryover.events_since_close(past))
    working = (record.order.symbol for record in book.orders.values() if not record.terminal)
    held = (one.fill.symbol for one in carryover.carried_positions(past))
    return frozenset({*book.portfolio.symbols, *working, *held})
