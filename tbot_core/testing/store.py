"""A bar store in a temporary folder, and bars to fill it with."""

from __future__ import annotations

import datetime as dt
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import polars as pl

from tbot_core.marketdata.store import parquet
from tbot_core.marketdata.store.importer import ImportedFile, RefusedFile, import_files
from tbot_core.marketdata.store.source_files import ImportOptions
from tbot_core.marketdata.store.store import BarStore
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tbot_core.marketdata.store.importer import ImportEvent
    from tbot_core.marketdata.store.store import BarBlock
    from tbot_core.model.calendar import Session


def exchange_sessions(first: str, last: str) -> tuple[Session, ...]:
    """The exchange's sessions from one ISO date to another, both inclusive."""
    return ExchangeCalendar().sessions(dt.date.fromisoformat(first), dt.date.fromisoformat(last))


def rising_bars(
    symbol: str, sessions: Iterable[Session], *, price: float = 100.0, minutes: int | None = None
) -> pl.DataFrame:
    """Bars of whole sessions (or of their first `minutes`) that start at `price` each day and rise one cent per minute.

    Columns as an import reads them; high and low are 5 cents away, the close one cent above the open, and the volume is
    100 plus the minute's number.
    """
    rows = [
        (session.moment(minute), symbol, round(price + minute / 100, 4), 100 + minute)
        for session in sessions
        for minute in range(session.minutes if minutes is None else minutes)
    ]
    schema = [
        ("ts", pl.Datetime("us", "UTC")),
        ("symbol", pl.String()),
        ("open", pl.Float64()),
        ("volume", pl.Int64()),
    ]
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.select(
        "ts",
        "symbol",
        "open",
        high=pl.col("open") + 0.05,
        low=pl.col("open") - 0.05,
        close=pl.col("open") + 0.01,
        volume="volume",
    ).with_columns(pl.col("high", "low", "close").round(4))


@attrs.frozen(kw_only=True)
class StoreFixture:
    """A store under `folder`/bars on the exchange's whole calendar, filled by the same imports as a user's."""

    folder: Path
    calendar: ExchangeCalendar = attrs.field(factory=ExchangeCalendar)

    @property
    def bars(self) -> Path:
        """The store's folder."""
        return self.folder / "bars"

    @property
    def store(self) -> BarStore:
        """The store."""
        return BarStore(folder=self.bars, calendar=self.calendar)

    def put(self, *frames: pl.DataFrame, **options: Any) -> list[ImportedFile | RefusedFile]:
        """Import frames, each as a Parquet file; `options` are those of `ImportOptions`."""
        files = []
        for number, frame in enumerate(frames):
            files.append(self.folder / f"source-{number}.parquet")
            filesystem.write_atomic(files[-1], parquet.parquet_bytes(frame))
        return self.import_files(*files, **options)

    def put_text(self, text: str, *, name: str = "AAPL.csv", **options: Any) -> ImportedFile | RefusedFile:
        """Import a CSV file of this text and name."""
        file = self.folder / name
        filesystem.write_atomic(file, text.encode())
        (outcome,) = self.import_files(file, **options)
        return outcome

    def import_files(self, *files: Path, **options: Any) -> list[ImportedFile | RefusedFile]:
        """Import files together."""
        outcomes: list[ImportedFile | RefusedFile] = []

        def collect(event: ImportEvent) -> None:
            if isinstance(event, ImportedFile | RefusedFile):
                outcomes.append(event)

        import_files(self.bars, self.calendar, files, ImportOptions(**options), collect)
        return outcomes


def walk_sessions(blocks: Iterable[BarBlock]) -> Iterator[tuple[BarBlock, int]]:
    """Iterate over sessions in order of date, as block and index; holds one month at a time."""
    for _, month in itertools.groupby(blocks, key=lambda block: block.month):
        pairs = [(block, index) for block in month for index in range(len(block.sessions))]
        yield from sorted(pairs, key=lambda pair: pair[0].sessions[pair[1]].date)
