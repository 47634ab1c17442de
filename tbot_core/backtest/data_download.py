"""Downloads past bars of a source into the instance's bar store, with the facts of a day that it knows besides bars."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import attrs
import numpy as np

from tbot_core.contracts import BarHistory, Broker, Feed, FeedQuality, FeedRequest, FeedSession, LiveSession
from tbot_core.contracts.abilities import DAILY_VIX
from tbot_core.engine.assembly import Assembly, feed_source
from tbot_core.engine.screening import screened_session
from tbot_core.engine.session.broker_login import SupportsClose, log_out
from tbot_core.errors import BrokerError, DataError, PluginError, SettingsError
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
from tbot_core.marketdata.store.daily_facts import look_back_sessions
from tbot_core.model.calendar import Session
from tbot_core.model.types import is_symbol
from tbot_core.system import log
from tbot_core.trading.universe import UniverseLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_ATTEMPTS: Final = 8
"""How often a request is sent before the download fails: for about two minutes."""

_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class DownloadRequest:
    """Past sessions of a source: those from `days[0]` to `days[1]`; None: those that the facts of today depend on.

    `symbols` empty: UNIVERSE, else all of the source; more than can be subscribed are cut as before a session.
    """

    source: str
    days: tuple[dt.date, dt.date] | None = None
    symbols: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class DownloadResult:
    """What was downloaded: the sessions of the range that are over, the symbols, and the number of facts besides bars.

    `unknown` are requested symbols that the source does not have; `folder` is the store that has the bars.
    """

    folder: Path
    sessions: tuple[Session, ...]
    symbols: tuple[str, ...]
    unknown: tuple[str, ...]
    progress: DownloadProgress
    facts: int


async def download(
    assembly: Assembly, request: DownloadRequest, own_source: str, on_progress: Callable[[DownloadProgress], None]
) -> DownloadResult:
    """Download what the store lacks of a range; `own_source` is the data source of the instance.

    Raises DataError if no session of the range is over or the source has the minutes of none, SettingsError for
    simulated bars in an instance with another source, PluginError for a source without past bars, and BrokerError if
    the source does not answer. What was stored by then stays.
    """
    quality = assembly.quality(request.source)
    if quality is not None and not quality.minute_history:
        words = f"{request.source} has no minute bars of earlier sessions, as its quality declares."
        raise DataError(words, "Use another --source, or `tbot data import`.")
    broker = assembly.broker(request.source)
    work = _Download(assembly, request, broker, quality)
    try:
        return await work.run(own_source, on_progress)
    finally:
        await log_out({request.source: cast("SupportsClose", broker)}, assembly.settings.trading.api_timeout)


@attrs.frozen
class _Download:
    assembly: Assembly
    request: DownloadRequest
    broker: object
    quality: FeedQuality | None

    async def run(self, own_source: str, on_progress: Callable[[DownloadProgress], None]) -> DownloadResult:
        sessions = self._sessions()
        feed = self._feed(sessions)
        if feed.label.simulated and own_source != self.request.source:
            raise SettingsError(
                f"The bars of {self.request.source} are simulated, but this instance uses those of {own_source}.",
                f"Use another --home, with BROKER_NAME={self.request.source.upper()} and an empty DATA_SOURCE.",
            )
        source = await _first(feed)
        if not isinstance(source, BarHistory):
            raise PluginError(f"The broker {self.request.source} has no past bars.", "Use another --source.")
        symbols, unknown = await self._symbols(source)
        store = DownloadStore(
            self._folder,
            self.assembly.calendar,
            DownloadSource(name=self.request.source, volume=volume_kind(self.quality), simulated=feed.label.simulated),
        )
        downloader = Downloader(
            source=source, store=store, clock=self.assembly.clock, attempts=_ATTEMPTS, on_progress=on_progress
        )
        progress = await downloader.download(sessions, symbols)
        return DownloadResult(
            folder=self._folder,
            sessions=sessions,
            symbols=symbols,
            unknown=unknown,
            progress=progress,
            facts=await self._store_facts(feed, sessions) + await self._store_splits(source, sessions, symbols),
        )

    @property
    def _folder(self) -> Path:
        return self.assembly.settings.instance.bars

    def _sessions(self) -> tuple[Session, ...]:
        # The sessions of the range that are over, and of which the source has all bars.
        delay = dt.timedelta(seconds=0.0 if self.quality is None else self.quality.history_delay_s)
        until = self.assembly.clock.now() - delay
        calendar, days = self.assembly.calendar, self.request.days
        if days is None:
            return look_back_sessions(calendar, calendar.current(until).date)
        sessions = tuple(session for session in calendar.sessions(*days) if session.close <= until)
        if not sessions:
            words = f"No session from {days[0]} to {days[1]} is over."
            raise DataError(words, "Give days with a session that has ended; `tbot calendar` lists sessions.")
        return sessions

    def _feed(self, sessions: Sequence[Session]) -> Feed:
        settings = self.assembly.settings
        request = FeedRequest(
            kind="demo" if self.quality is None else "live",
            first=sessions[0].date if self.quality is None else None,
            symbols=self.request.symbols or settings.trading.universe,
            sessions=len(sessions),
            seed=settings.simulation.seed,
            bars=self._folder,
            calendar=self.assembly.calendar,
        )
        return feed_source(self.broker, self.request.source).feed(request)

    async def _symbols(self, source: BarHistory) -> tuple[tuple[str, ...], tuple[str, ...]]:
        # The symbols to download, and those that the source does not know.
        trading = self.assembly.settings.trading
        named, known = set(self.request.symbols or trading.universe), set(filter(is_symbol, source.symbols))
        cut = isinstance(source, LiveSession) and UniverseLimit.of(trading.universe_max, source.quality)
        if not named and isinstance(source, LiveSession) and cut and cut.is_exceeded(known):
            broker = cast("Broker", self.broker)
            screened = await screened_session(self.assembly, self.request.source, broker, source)
            return screened.universe.symbols, ()
        found, unknown = tuple(sorted(named & known or known)), tuple(sorted(named - known))
        if unknown and not named & known:
            raise DataError(f"{self.request.source} does not know {', '.join(unknown)}.", "Check the symbols.")
        return found, unknown

    async def _store_facts(self, feed: Feed, sessions: Sequence[Session]) -> int:
        # The VIX before each session, and capitalisations: of a simulator those of its days.
        vix: dict[dt.date, float] = {}
        caps: dict[tuple[str, dt.date], float] = {}
        if self.quality is not None:
            return add_reference_facts(self._folder, await self._vix(sessions), caps)
        async for session in feed.sessions():
            if isinstance(session, FeedSession) and session.session in sessions:
                day = self._day_before(session.session)
                vix[day] = float(session.day.vix[0])
                known = zip(session.symbols, session.day.market_cap.tolist(), strict=True)
                caps |= {(symbol, day): value for symbol, value in known if not np.isnan(value)}
        return add_reference_facts(self._folder, vix, caps)

    async def _store_splits(self, source: BarHistory, sessions: Sequence[Session], symbols: tuple[str, ...]) -> int:
        try:
            splits = await reported_splits(source, symbols, sessions[0].date, sessions[-1].date)
        except BrokerError as fault:
            _log.warning("splits.not_available", reason=fault.message)
            return 0
        return add_reference_facts(self._folder, {}, {}, splits)

    async def _vix(self, sessions: Sequence[Session]) -> dict[dt.date, float]:
        source = DAILY_VIX.of(self.broker)
        if source is None:
            return {}
        stored, found = reference.reference_facts(self._folder).vix, dict[dt.date, float]()
        for day in map(self._day_before, sessions):
            try:
                value = None if day in stored else await source.vix_close(day)
            except BrokerError as fault:
                _log.warning("vix.not_available", reason=fault.message)
                return found
            if value is not None:
                found[day] = value
        return found

    def _day_before(self, session: Session) -> dt.date:
        return look_back_sessions(self.assembly.calendar, session.date)[-1].date


async def _first(feed: Feed) -> FeedSession | LiveSession | None:
    async for source in feed.sessions():
        return source
    return None
