"""Reads source files of bars and facts, recognises them by their columns, and converts columns and units."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import TYPE_CHECKING, Final

import attrs
import polars as pl

from tbot_core.errors import DataError, UsageError
from tbot_core.marketdata.store import manifest, reference, source_readers, source_times
from tbot_core.marketdata.store.source_formats import SourceFormat, column_key, zone_fault
from tbot_core.marketdata.store.source_table import ROW, Faults, RowFault, SourceKind, SourceTable
from tbot_core.model.formatting import plural
from tbot_core.model.types import is_symbol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tbot_core.marketdata.store.source_readers import RawTable

SYMBOL_COLUMNS: Final = ("symbol", "ticker")
_DAYS: Final = ("%Y-%m-%d", "%m/%d/%Y", "%Y%m%d")
_LONGEST: Final = 40
_CLOSE_OF_VIX: Final = "vixcls"
_NO_TIME: Final = RowFault(
    what="time that cannot be read, or that its zone's clock change makes ambiguous",
    remedy="Write times as 2018-02-20T14:30:00Z, or say how they are written with --mapping.",
)
_NO_SYMBOL: Final = RowFault(what="invalid symbol", remedy="Write symbols as the exchange does, as in BRK.B.")


@attrs.frozen(kw_only=True)
class ImportOptions:
    """What the file itself does not state.

    `adjustment` and `volume`: kind of its prices and volumes. `zone`: of times without an offset. `as_of`: the date of
    undated fundamentals. `symbol`: of bars without a symbol column; None for the file's name. `replace`: overwrite
    differing stored rows. `today`: later days of bars and of the VIX are refused; None if they are not. `mapping`: how
    bars are written, where the file is not recognised. Raises UsageError for an unknown zone and an invalid symbol.
    """

    adjustment: str = attrs.field(default="raw", validator=attrs.validators.in_(manifest.ADJUSTMENTS))
    volume: str = attrs.field(default="consolidated", validator=attrs.validators.in_(manifest.VOLUMES))
    zone: str | None = attrs.field(default=None)
    as_of: dt.date | None = None
    symbol: str | None = attrs.field(default=None)
    replace: bool = False
    today: dt.date | None = None
    mapping: SourceFormat | None = None

    @zone.validator
    def _known(self, _attribute: attrs.Attribute[str | None], zone: str | None) -> None:
        if zone is not None and (fault := zone_fault(zone)):
            raise UsageError(f"--zone {fault}.", "Give a name such as America/New_York or UTC.")

    @symbol.validator
    def _spelled(self, _attribute: attrs.Attribute[str | None], symbol: str | None) -> None:
        if symbol is not None and not is_symbol(symbol):
            raise UsageError(
                f"--symbol {symbol[:_LONGEST]!r} is not a symbol.", "Write it as the exchange does: BRK.B."
            )


def read_source(path: Path, options: ImportOptions) -> tuple[SourceKind, Iterator[SourceTable]]:
    """Recognise a file and read it, some rows at a time.

    Raises DataError for one that is unreadable or of unknown kind, while it is read as well.
    """
    tables = source_readers.read_tables(path, options.mapping)
    first = _source_table(path, next(tables), None)
    return first.kind, itertools.chain([first], (_source_table(path, table, first.kind) for table in tables))


def whole_table(tables: Iterable[SourceTable]) -> SourceTable:
    """All rows of a file that is small."""
    parts = list(tables)
    return attrs.evolve(parts[0], frame=pl.concat([part.frame for part in parts]))


def _source_table(path: Path, raw: RawTable, kind: SourceKind | None) -> SourceTable:
    table, given = raw.frame, raw.given
    own = {column_key(name) for name in given}
    if absent := [f'{ours} = "{it}"' for ours, it in raw.format.needed.items() if column_key(it) not in own]:
        raise DataError(
            f"{path.name}: the mapping names {plural(len(absent), 'column')} that it lacks: {', '.join(absent)}."
            f" It has {', '.join(given)}.",
            "Name the columns as the file does, or leave out an optional one.",
        )
    names = {name: raw.format.columns.get(column_key(name), column_key(name)) for name in table.columns}
    if len(set(names.values())) < len(names) or len(own) < len(given):
        raise DataError(f"{path.name}: two columns have the same name: {', '.join(given)}.", "Keep one of them.")
    table = _with_prices(table.rename(names)).drop(ROW, strict=False).with_row_index(ROW, offset=raw.first_row)
    lines = source_readers.suffix_of(path).startswith((".csv", ".txt"))
    known = kind or _recognise(path, table)
    return SourceTable(name=path.name, kind=known, frame=table, lines=lines, format=raw.format, done=raw.done)


def _with_prices(table: pl.DataFrame) -> pl.DataFrame:
    # A file that has only the close of the VIX: each of its prices is the close.
    if _CLOSE_OF_VIX not in table.columns:
        return table
    prices = (pl.col(_CLOSE_OF_VIX).alias(name) for name in manifest.PRICES)
    return table.rename({"observation_date": "date"}, strict=False).with_columns(prices)


def bars_of(source: SourceTable, path: Path, options: ImportOptions, faults: Faults) -> pl.DataFrame:
    """The rows as bars: columns row, symbol, ts and those of a stored bar, with prices and volume as written.

    Rows without a time or with an invalid symbol are added to `faults` and left out. Raises DataError where columns
    do not hold what they must.
    """
    frame = source.frame.with_columns(
        _symbols(source, path, options.symbol), source_times.moments(source, options.zone)
    )
    if frame["ts"].null_count():
        unread = attrs.evolve(_NO_TIME, shown=source_times.columns_of(source))
        faults.add(source, unread, frame.filter(pl.col("ts").is_null()))
        frame = frame.filter(pl.col("ts").is_not_null())
    wrong = [name for name in frame["symbol"].unique() if name is None or not is_symbol(name)]
    if wrong:
        bad = pl.col("symbol").is_in(pl.Series(wrong, dtype=pl.String), nulls_equal=True)
        column = next(name for name in (*SYMBOL_COLUMNS, "") if name in source.frame.columns)
        faults.add(source, attrs.evolve(_NO_SYMBOL, shown=(column,)), frame.filter(bad))
        frame = frame.filter(~bad)
    own = _number("vwap") if "vwap" in frame.columns else pl.lit(None, dtype=pl.Float64)
    return frame.select(
        ROW,
        "symbol",
        "ts",
        *(pl.col(name).cast(pl.Float64, strict=False) for name in (*manifest.PRICES, "volume")),
        # Feeds write 0 for an unknown VWAP.
        pl.when(own > 0).then(own).alias("vwap"),
    )


def days_of(source: SourceTable, column: str) -> pl.DataFrame:
    """Parse a column of dates; raises DataError for an invalid date."""
    dtype = source.frame.schema[column]
    if dtype == pl.String:
        day = pl.coalesce(pl.col(column).str.strip_chars().str.to_date(form, strict=False) for form in _DAYS)
    elif dtype == pl.Date or isinstance(dtype, pl.Datetime):
        day = pl.col(column).cast(pl.Date)
    else:
        raise source.refuse([f"column {column} must hold dates, but holds {dtype}"])
    frame = source.frame.with_columns(day)
    bad = frame.filter(pl.col(column).is_null())
    if len(bad):
        raise source.refuse([source.count("date that cannot be read", bad, column)], "Write dates as 2018-02-20.")
    return frame


def vix_of(source: SourceTable) -> tuple[pl.DataFrame, int]:
    """The file's days with their prices as numbers, and how many more are holidays: each price is empty or a dot.

    A price beside the close that is empty or a dot is the close. Raises DataError for an invalid date.
    """
    frame = days_of(source, "date")
    empty = {
        name: pl.col(name).cast(pl.String).str.strip_chars().fill_null("").is_in(["", "."]) for name in manifest.PRICES
    }
    traded = frame.filter(~pl.all_horizontal(empty.values()))
    numbers = {name: pl.col(name).cast(pl.Float64, strict=False) for name in manifest.PRICES}
    filled = {name: pl.when(empty[name]).then(numbers["close"]).otherwise(number) for name, number in numbers.items()}
    return traded.with_columns(**filled), len(frame) - len(traded)


def fundamentals_of(source: SourceTable, options: ImportOptions) -> pl.DataFrame:
    """The file's fundamentals in our columns and units; raises DataError without dates."""
    if "as_of" in source.frame.columns:
        frame = days_of(source, "as_of")
    elif options.as_of is not None:
        frame = source.frame.with_columns(as_of=pl.lit(options.as_of))
    else:
        raise source.refuse(["its figures have no date (column as_of): give the date with --as-of DATE"])
    if "debt_to_equity_pct" in frame.columns:
        frame = frame.with_columns(debt_to_equity=_number("debt_to_equity_pct") / 100)
    known = {"symbol": pl.col("symbol").cast(pl.String).str.strip_chars(), "as_of": pl.col("as_of")}
    for name, dtype in reference.SCHEMAS[manifest.FUNDAMENTALS].items():
        if name not in frame.columns:
            known[name] = pl.lit(None, dtype=dtype)
        elif name not in known:
            known[name] = _number(name) if dtype == pl.Float64 else pl.col(name).cast(dtype)
    return frame.with_columns(**known)


def splits_of(source: SourceTable) -> pl.DataFrame:
    """The file's splits in our columns; raises DataError for an invalid date."""
    counts = {name: pl.col(name).cast(pl.Float64, strict=False) for name in ("before", "after")}
    whole = {name: pl.when(count == count.floor()).then(count).cast(pl.Int64) for name, count in counts.items()}
    symbol = pl.col("symbol").cast(pl.String).str.strip_chars()
    return days_of(source, "date").with_columns(symbol=symbol, **whole)


def _number(name: str) -> pl.Expr:
    # A column as numbers; invalid ones become null.
    value = pl.col(name).cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value)


def _recognise(path: Path, table: pl.DataFrame) -> SourceKind:
    columns = set(table.columns)
    priced = columns.issuperset(manifest.PRICES)
    if priced and "volume" in columns and columns.intersection(source_times.COLUMNS):
        return SourceKind.BARS
    if priced and "date" in columns and "volume" not in columns:
        return SourceKind.VIX
    if columns.issuperset(("symbol", "market_cap")):
        return SourceKind.FUNDAMENTALS
    if columns.issuperset(reference.SCHEMAS[manifest.SPLITS].names()):
        return SourceKind.SPLITS
    held = ", ".join(name for name in table.columns if name != ROW)
    raise DataError(
        f"{path.name}: its columns match no known kind of data: {held}.",
        "Bars have ts, open, high, low, close, volume; the daily VIX date, open, high, low, close, or"
        " date, VIXCLS; fundamentals symbol, as_of, market_cap; splits date, symbol, before, after. A table of a"
        " plugin is imported by its name, as in"
        f" `tbot data import rates {path.name}`.",
    )


def _symbols(source: SourceTable, path: Path, symbol: str | None) -> pl.Series:
    column = next((name for name in SYMBOL_COLUMNS if name in source.frame.columns), None)
    if column is not None:
        given = source.frame[column].cast(pl.String)
        padded = any(name != name.strip() for name in given.unique() if name is not None)
        return (given.str.strip_chars() if padded else given).alias("symbol")
    own = symbol or source.format.symbol or source_readers.stem_of(path).upper()
    if not is_symbol(own):
        lacking = f"it has no symbol column, and its name {source_readers.stem_of(path)!r} is not a symbol"
        raise source.refuse([lacking], "Give the symbol with --symbol.")
    return pl.repeat(own, len(source.frame), dtype=pl.String, eager=True).alias("symbol")
