"""The minute bars of past sessions that a feed gives: downloaded month by month, only what is missing, and stored.

Beside a month's manifest, `downloads.json` lists by feed and session the symbols that were requested, so that one
without a trade is not requested again. It is written after the bars: a crash between the two repeats a request only.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import numpy as np
import polars as pl

from tbot_core.contracts import Bar, BarHistory, FeedCoverage, FeedQuality, Split, SupportsSplits
from tbot_core.errors import DataError, Unavailable
from tbot_core.marketdata.store import bar_checks, manifest, parquet, reference
from tbot_core.marketdata.store.manifest import month_of
from tbot_core.marketdata.store.session_grid import SessionGrid
from tbot_core.marketdata.store.writer import MonthPart, StoreChanges
from tbot_core.model import json_document
from tbot_core.model.clock import Clock
from tbot_core.system import filesystem, log

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    from tbot_core.model.calendar import ExchangeCalendar, Session

MOST_BARS: Final = 500_000
"""One request to a feed covers at most so many minutes, over all its symbols."""

_PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""The pauses after failed requests; the last one repeats."""

_STORED_BARS: Final = 50_000
"""So many minutes are stored before other tasks run again."""

_log = log.logger(__name__)

FILE: Final = "downloads.json"

_ADJUSTMENT: Final = "raw"

_FORMAT: Final = 1

_MONTH: Final = len("2026-01")

_SECOND_US: Final = 1_000_000

_SCHEMA: Final = pl.Schema(
    [("symbol", pl.String()), *((name, pl.Float64()) for name in (*manifest.PRICES, "volume", "vwap"))]
)

_Requested: TypeAlias = Mapping[str, Sequence["Session"]]
"""The sessions of each symbol."""


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
            for few in _slices(symbols_of_call, _fitting(part, _STORED_BARS)):
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
                pause = max(_PAUSES_S[min(failed, len(_PAUSES_S)) - 1], fault.retry_after_s or 0.0)
                _log.warning("history.not_available", reason=fault.message, again_s=pause)
                await self.clock.sleep(pause)


@attrs.frozen(kw_only=True)
class DownloadSource:
    """The feed that gives the bars: its name, consolidated or partial volumes, and whether it simulates its bars."""

    name: str
    volume: str
    simulated: bool = False

    @property
    def words(self) -> str:
        """The source as a manifest lists it."""
        return f"{manifest.SIMULATED if self.simulated else ''}feed {self.name}"


@attrs.frozen(kw_only=True)
class StoredDownload:
    """The result of storing bars: how many are new, how many were invalid and left out.

    `refused` are symbols and months whose stored bars have other prices or volumes than the feed's, with the reason.
    """

    bars: int = 0
    invalid: int = 0
    refused: tuple[str, ...] = ()


async def reported_splits(source: BarHistory, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[Split]:
    """The splits of these symbols and days, both included, that a source reports; none of one that does not know any.

    Raises the BrokerErrors of the source.
    """
    if not isinstance(source, SupportsSplits):
        return ()
    splits, known = await source.splits(symbols, first, last), {*symbols}
    return [
        split
        for split in splits
        if split.symbol in known and first <= split.date <= last and split.before != split.after
    ]


def volume_kind(quality: FeedQuality | None) -> str:
    """The kind of volume of a feed's minute bars in the store."""
    partial = quality is not None and quality.coverage is FeedCoverage.SINGLE_VENUE
    return "partial" if partial else "consolidated"


class DownloadStore:
    """The bar store under a folder, as far as one feed fills it."""

    def __init__(self, folder: Path, calendar: ExchangeCalendar, source: DownloadSource) -> None:
        """Open the store; nothing is read or written yet."""
        self._folder = folder
        self._calendar = calendar
        self._source = source

    def missing(self, sessions: Sequence[Session], symbols: Iterable[str]) -> _Requested:
        """The sessions of each symbol that are neither stored nor known to be without a bar; only symbols with any.

        Raises DataError for a damaged file.
        """
        known = self._known(sessions)
        found = {
            symbol: tuple(session for session in sessions if (_day(session), symbol) not in known) for symbol in symbols
        }
        return {symbol: lacking for symbol, lacking in found.items() if lacking}

    def store(self, requested: _Requested, bars: Sequence[Bar]) -> StoredDownload:
        """Store the bars of the requested sessions that are still missing, and note that these were requested.

        Bars of other symbols and times are ignored. Raises AccessError when the folder cannot be written or another
        process writes to it, DataError for a damaged file.
        """
        filesystem.make_folder(self._folder)
        with filesystem.hold_lock(self._folder / manifest.LOCK):
            sessions = sorted({session for found in requested.values() for session in found}, key=lambda one: one.date)
            wanted = {(_day(session), symbol) for symbol, found in requested.items() for session in found}
            rows = _rows(bars, sessions, wanted := wanted - self._known(sessions))
            valid = _valid(rows)
            changes, stored, refused = StoreChanges(self._folder, self._calendar), 0, {}
            for (symbol, month), part in valid.group_by("symbol", "month", maintain_order=True):
                if words := self._put(changes, str(symbol), str(month), part.select(parquet.BAR_SCHEMA.names())):
                    refused[str(symbol), str(month)] = words
                else:
                    stored += len(part)
            changes.accept()
            changes.commit()
            self._note({pair for pair in sorted(wanted) if (pair[1], pair[0][:_MONTH]) not in refused})
        return StoredDownload(bars=stored, invalid=len(rows) - len(valid), refused=tuple(refused.values()))

    def _put(self, changes: StoreChanges, symbol: str, month: str, rows: pl.DataFrame) -> str:
        # Stage a symbol's new bars of a month; returns why not: two kinds in one month would be compared.
        entry, kind = changes.stored(month, symbol), (_ADJUSTMENT, self._source.volume)
        sources = {self._source.words}
        if entry is not None:
            entry_kind = entry.adjustment, entry.volume
            if entry_kind != kind:
                stored = f"{entry.adjustment} prices and {entry.volume} volume"
                return (
                    f"{symbol} in {month}: {stored} are stored, but the feed has {kind[0]} prices and {kind[1]} volume"
                )
            rows, sources = pl.concat([changes.bars(month, symbol), rows]).sort("ts"), sources | {*entry.sources}
        changes.put(
            MonthPart(
                month=month,
                symbol=symbol,
                bars=rows,
                adjustment=kind[0],
                volume=kind[1],
                sources=tuple(sorted(sources)),
            )
        )
        return ""

    def _known(self, sessions: Sequence[Session]) -> set[tuple[str, str]]:
        # The days and symbols of the sessions' months that are stored, or that the feed was asked for.
        known: set[tuple[str, str]] = set()
        for name in sorted({manifest.month_of(session.date) for session in sessions}):
            month = manifest.read_month(self._folder, name)
            rows = () if month is None else parquet.read_daily(self._folder, month).select("date", "symbol").iter_rows()
            known.update((day.isoformat(), symbol) for day, symbol in rows)
            noted = self._noted(name).get(self._source.name, {})
            known.update((day, symbol) for day, symbols in noted.items() for symbol in symbols)
        return known

    def _note(self, requested: Iterable[tuple[str, str]]) -> None:
        # Note the requested symbols of each day in the file of its month.
        for month, in_month in itertools.groupby(sorted(requested), key=lambda pair: pair[0][:_MONTH]):
            noted = self._noted(month)
            days = noted.setdefault(self._source.name, {})
            for day, of_day in itertools.groupby(in_month, key=lambda pair: pair[0]):
                days[day] = sorted({*days.get(day, ()), *(symbol for _, symbol in of_day)})
            filesystem.make_folder(self._folder / month)
            text = json.dumps({"format": _FORMAT, "feeds": noted}, sort_keys=True)
            filesystem.write_atomic(self._folder / month / FILE, f"{text}\n".encode())

    def _noted(self, month: str) -> dict[str, dict[str, list[str]]]:
        path = self._folder / month / FILE
        if not filesystem.exists(path):
            return {}
        try:
            return _feeds_of_json(json_document.parse_json(filesystem.read_bytes(path)))
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            message = f"{path} is damaged or of a newer tbot: {type(fault).__name__} ({fault})."
            raise DataError(message, "Remove it: the sessions without a trade are then requested again.") from fault


def add_reference_facts(
    folder: Path,
    vix: Mapping[dt.date, float],
    market_caps: Mapping[tuple[str, dt.date], float],
    splits: Sequence[Split] = (),
) -> int:
    """Store closes of the VIX by day, capitalisations by symbol and day, and splits, that are not there yet.

    Returns how many were stored. A split with another ratio than the stored one of its symbol and day changes nothing,
    and is logged. Raises AccessError when the folder cannot be written or another process writes to it.
    """
    prices = {day: dict.fromkeys(manifest.PRICES, value) for day, value in vix.items()}
    given = {
        manifest.VIX: [{"date": day, **values} for day, values in prices.items()],
        manifest.FUNDAMENTALS: [
            {"symbol": symbol, "as_of": day, "market_cap": value} for (symbol, day), value in market_caps.items()
        ],
        manifest.SPLITS: [
            {"symbol": split.symbol, "date": split.date, "before": split.before, "after": split.after}
            for split in splits
        ],
    }
    added = 0
    if any(len(_not_stored(folder, *one)) for one in given.items()):  # else another process may write meanwhile
        filesystem.make_folder(folder)
        with filesystem.hold_lock(folder / manifest.LOCK):
            for table, rows in given.items():
                new = _not_stored(folder, table, rows)
                if len(new):
                    whole = pl.concat([reference.read_table(folder, table), new]).sort(reference.KEYS[table])
                    reference.write_table(folder, table, whole)
                    added += len(new)
    _log_other_ratios(folder, splits)
    return added


def _requests(lacking: _Requested) -> Iterator[tuple[tuple[str, ...], tuple[Session, ...]]]:
    # The requests: month by month, the symbols that lack the same sessions together.
    months = sorted({month_of(session.date) for sessions in lacking.values() for session in sessions})
    for month in months:
        groups: defaultdict[tuple[Session, ...], list[str]] = defaultdict(list)
        for symbol, sessions in lacking.items():
            if part := tuple(session for session in sessions if month_of(session.date) == month):
                groups[part].append(symbol)
        for part, symbols in groups.items():
            yield from ((few, part) for few in _slices(symbols, _fitting(part, MOST_BARS)))


def _fitting(sessions: Sequence[Session], bars: int) -> int:
    # How many symbols have at most so many minutes in these sessions; at least one.
    return max(bars // sum(session.minutes for session in sessions), 1)


def _slices(symbols: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    return (tuple(symbols[start : start + size]) for start in range(0, len(symbols), size))


def _feeds_of_json(content: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    if content["format"] != _FORMAT:
        raise ValueError(f"format {content['format']!r}, but {_FORMAT} is supported")
    return {
        str(name): {str(day): [*map(str, symbols)] for day, symbols in days.items()}
        for name, days in content["feeds"].items()
    }


def _day(session: Session) -> str:
    return session.date.isoformat()


def _rows(bars: Sequence[Bar], sessions: Sequence[Session], wanted: set[tuple[str, str]]) -> pl.DataFrame:
    # The bars of the wanted days and symbols in regular hours, each with its month; prices on the grid.
    names = ("symbol", *manifest.PRICES, "volume", "vwap")
    columns: dict[str, list[Any]] = {name: [getattr(bar, name) for bar in bars] for name in names}
    frame = pl.DataFrame(columns, schema=_SCHEMA, strict=False)
    starts = np.array([round(bar.start.timestamp() * _SECOND_US) for bar in bars], dtype=np.int64)
    grid = SessionGrid(sessions)
    rows, _, inside = grid.place(starts)
    days = pl.Series("day", [_day(sessions[row]) for row in rows], dtype=pl.String)
    frame = frame.with_columns(pl.Series("ts", starts).cast(pl.Datetime("us", "UTC")), days)
    is_wanted = [pair in wanted for pair in zip(frame["day"], frame["symbol"], strict=True)]
    kept = frame.filter(pl.Series(inside) & pl.Series(is_wanted, dtype=pl.Boolean))
    return kept.with_columns(pl.col("day").str.head(_MONTH).alias("month"), pl.col("volume").round())


def _valid(rows: pl.DataFrame) -> pl.DataFrame:
    # The rows without a fault, once, by symbol and time; a vwap that is no average of its bar is left out.
    far = bar_checks.VWAP_FAR.rows
    rows, _ = bar_checks.rounded_to_grid(rows)
    rows = rows.with_columns(pl.when(far.fill_null(value=True)).then(None).otherwise(pl.col("vwap")).alias("vwap"))
    faulty = pl.any_horizontal(fault.rows.fill_null(value=False) for fault in bar_checks.BAR_FAULTS)
    once = rows.filter(~faulty).unique(("symbol", "ts"), keep="first", maintain_order=True).sort("symbol", "ts")
    return once.cast({"volume": pl.Int64})


def _not_stored(folder: Path, table: str, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    # The rows, by their keys, that a table of facts lacks.
    keys = list(reference.KEYS[table])
    once = pl.DataFrame(rows, schema=reference.SCHEMAS[table]).unique(keys, keep="first", maintain_order=True)
    return once.join(reference.read_table(folder, table), on=keys, how="anti")


def _log_other_ratios(folder: Path, splits: Sequence[Split]) -> None:
    # Warn of each split that was not stored since another ratio of its symbol and day is.
    rows = reference.read_table(folder, manifest.SPLITS).iter_rows() if splits else ()
    stored = {(symbol, day): (before, after) for symbol, day, before, after in rows}
    for split in splits:
        before, after = stored[split.symbol, split.date]
        if before * split.after != after * split.before:
            ratios = {"stored": f"{before} to {after}", "reported": f"{split.before} to {split.after}"}
            _log.warning("splits.differ", symbol=split.symbol, date=split.date.isoformat(), **ratios)
