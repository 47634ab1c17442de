"""Downloads the minute bars of past sessions from a feed into the bar store, month by month: only what is missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import BarHistory, FeedCoverage, SupportsSplits
from tbot_core.errors import Unavailable
from tbot_core.marketdata.store.downloads import DownloadStore
from tbot_core.marketdata.store.manifest import month_of
from tbot_core.model.clock import Clock
from tbot_core.system import log

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Sequence

    from tbot_core.contracts import Bar, FeedQuality, Split
    from tbot_core.marketdata.store.downloads import Requested
    from tbot_core.model.calendar import Session

MOST_BARS: Final = 500_000
"""One request to a feed covers at most so many minutes, over all its symbols."""

PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""The pauses after failed requests; the last one repeats."""

STORED_BARS: Final = 50_000
"""So many minutes are stored before other tasks run again."""

_log = log.logger(__name__)


async def reported_splits(source: BarHistory, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[Split]:
    """The splits of these symbols and days, both included, that a source reports; none of one that does not know any.

    Raises the BrokerErrors of the source.
    """
    if not isinstance(source, SupportsSplits):
        return ()
    found, known = await source.splits(symbols, first, last), {*symbols}
    return [one for one in found if one.symbol in known and first <= one.date <= last and one.before != one.after]


@attrs.frozen(kw_only=True)
class DownloadProgress:
    """A download: the sessions over all symbols that are done, of how many, and the bars stored until now.

    `skipped` sessions were there before. `invalid` bars were left out; `refused` says which bars could not be stored.
    """

    done: int = 0
    total: int = 0
    skipped: int = 0
    bars: int = 0
    invalid: int = 0
    refused: tuple[str, ...] = ()


@attrs.frozen(kw_only=True, eq=False)
class Downloader:
    """Downloads from a feed. A failed request is repeated after a pause, or that of the vendor, up to `attempts` times.

    `on_progress` is called after each part; what is stored by then stays, in whole sessions.
    """

    source: BarHistory
    store: DownloadStore
    clock: Clock
    attempts: int = 1
    on_progress: Callable[[DownloadProgress], None] = lambda _progress: None

    async def download(self, sessions: Sequence[Session], symbols: Sequence[str]) -> DownloadProgress:
        """Download the missing sessions, which must be over, of these symbols.

        Raises `Unavailable` if the feed does not give them, AccessError and DataError for a fault of the store.
        """
        lacking = self.store.missing(sessions, symbols)
        total = sum(map(len, lacking.values()))
        progress = DownloadProgress(total=total, skipped=len(sessions) * len(symbols) - total)
        self.on_progress(progress)
        for symbols_of_call, part in _requests(lacking):
            bars: defaultdict[str, list[Bar]] = defaultdict(list)
            for bar in await self._request(symbols_of_call, part):
                bars[bar.symbol].append(bar)
            for few in _slices(symbols_of_call, _fitting(part, STORED_BARS)):
                own = [bar for symbol in few for bar in bars[symbol]]
                stored = self.store.store(dict.fromkeys(few, part), own)
                progress = attrs.evolve(
                    progress,
                    done=progress.done + len(few) * len(part),
                    bars=progress.bars + stored.bars,
                    invalid=progress.invalid + stored.invalid,
                    refused=(*progress.refused, *stored.refused),
                )
                self.on_progress(progress)
                await self.clock.sleep(0.0)  # other tasks run between two parts
        return progress

    async def _request(self, symbols: Sequence[str], sessions: Sequence[Session]) -> Sequence[Bar]:
        failed = 0
        while True:
            try:
                return await self.source.history(symbols, sessions[0].open, sessions[-1].close)
            except Unavailable as fault:
                failed += 1
                if failed >= self.attempts:
                    raise
                pause = max(PAUSES_S[min(failed, len(PAUSES_S)) - 1], fault.retry_after_s or 0.0)
                _log.warning("history.not_available", reason=fault.message, again_s=pause)
                await self.clock.sleep(pause)


def volume_kind(quality: FeedQuality | None) -> str:
    """The kind of volume of a feed's minute bars in the store."""
    partial = quality is not None and quality.coverage is FeedCoverage.SINGLE_VENUE
    return "partial" if partial else "consolidated"


def _requests(lacking: Requested) -> Iterator[tuple[tuple[str, ...], tuple[Session, ...]]]:
    # The requests: month by month, the symbols that lack the same sessions together.
    months = sorted({month_of(one.date) for sessions in lacking.values() for one in sessions})
    for month in months:
        groups: defaultdict[tuple[Session, ...], list[str]] = defaultdict(list)
        for symbol, sessions in lacking.items():
            if part := tuple(one for one in sessions if month_of(one.date) == month):
                groups[part].append(symbol)
        for part, symbols in groups.items():
            yield from ((few, part) for few in _slices(symbols, _fitting(part, MOST_BARS)))


def _fitting(sessions: Sequence[Session], bars: int) -> int:
    # How many symbols have at most so many minutes in these sessions; at least one.
    return max(bars // sum(one.minutes for one in sessions), 1)


def _slices(symbols: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    return (tuple(symbols[start : start + size]) for start in range(0, len(symbols), size))
