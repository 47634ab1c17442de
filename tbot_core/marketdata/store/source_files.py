"""Reads source files of bars and facts, recognises them by their columns, and converts columns and units.

A fault states what is wrong, how often, and where first; a refused file lists all its faults.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import attrs
import polars as pl

from tbot_core.errors import DataError, UsageError
from tbot_core.marketdata.store import parquet, reference
from tbot_core.model.types import SYMBOL, SYMBOL_LENGTH, is_symbol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SUFFIXES: Final = (".parquet", ".csv")
TIME_COLUMNS: Final = ("ts", "timestamp", "datetime", "date", "time")
SYMBOL_COLUMNS: Final = ("symbol", "ticker")
ROW: Final = "row"
_MOST_ROWS: Final = 10
_MOMENTS: Final = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M")
_DAYS: Final = ("%Y-%m-%d", "%m/%d/%Y", "%Y%m%d")
_DAY_DIGITS: Final = 8
_CLOSE_OF_VIX: Final = "vixcls"
_OFFSET: Final = r"\s*(Z|[+-]\d{2}:?(?:\d{2})?)$"


class SourceKind(StrEnum):
    """What a file holds."""

    BARS = "bars"
    VIX = "VIX"
    FUNDAMENTALS = "fundamentals"


@attrs.frozen(kw_only=True)
class ImportOptions:
    """What the file itself does not state.

    `adjustment` and `volume`: kind of its prices and volumes. `zone`: of times without an offset. `as_of`: the date of
    undated fundamentals. `replace`: overwrite differing stored rows. `today`: later days of the VIX are refused; None
    if they are not. Raises UsageError for an unknown zone.
    """

    adjustment: str = attrs.field(default="raw", validator=attrs.validators.in_(parquet.ADJUSTMENTS))
    volume: str = attrs.field(default="consolidated", validator=attrs.validators.in_(parquet.VOLUMES))
    zone: str | None = attrs.field(default=None)
    as_of: dt.date | None = None
    replace: bool = False
    today: dt.date | None = None

    @zone.validator
    def _known(self, _attribute: attrs.Attribute[str | None], zone: str | None) -> None:
        try:
            _ = zone is None or ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError) as fault:
            raise UsageError(
                f"--zone {zone!r} is not a time zone.", "Give a name such as America/New_York or UTC."
            ) from fault


@attrs.frozen(kw_only=True, eq=False)
class SourceTable:
    """A file's table with our column names and a column `row`: the line of a CSV file, else the row from 1."""

    name: str
    kind: SourceKind
    frame: pl.DataFrame
    first_row: int

    def refuse(self, faults: Iterable[str]) -> DataError:
        """Return the error that refuses the file."""
        return DataError(f"{self.name}: {'; '.join(faults)}.")

    def where(self, row: int) -> str:
        """The location of a row, for messages."""
        return f"line {row}" if self.first_row > 1 else f"row {row}"

    def count(self, what: str, bad: pl.DataFrame, column: str = "") -> str:
        """Describe a fault: what, in how many rows, and the first of them, with the value of one column."""
        first = bad.row(0, named=True)
        moment = first.get("ts")
        when = f", {moment:%Y-%m-%d %H:%M:%S} UTC" if isinstance(moment, dt.datetime) else ""
        symbol = f", {first['symbol']}" if first.get("symbol") else ""
        value = f", {column} {self._written(first[ROW], column)}" if column else ""
        return f"{what} ({len(bad)}, first: {self.where(first[ROW])}{when}{symbol}{value})"

    def name_rows(self, what: str, bad: pl.DataFrame) -> str:
        """Describe a fault: what, and the rows with their days."""
        rows = [f"{self.where(row)} of {day}" for row, day in bad.select(ROW, "date").head(_MOST_ROWS).iter_rows()]
        more = f" and {len(bad) - len(rows)} more" if len(bad) > len(rows) else ""
        return f"{what} ({', '.join(rows)}{more})"

    def _written(self, row: int, column: str) -> str:
        # The value as written in the file.
        return str(self.frame.filter(pl.col(ROW) == row)[column].item()).strip()


def read_source(path: Path, data: bytes) -> SourceTable:
    """Read and recognise a file; raises DataError for one that is unreadable or of unknown kind."""
    table, first_row = (_csv(path, data), 2) if path.suffix.lower() == ".csv" else (_parquet(path, data), 1)
    names = {name: _column(name) for name in table.columns}
    given = _header(data) if first_row > 1 else table.columns
    if len(set(names.values())) < len(names) or len({_column(name) for name in given}) < len(given):
        raise DataError(f"{path.name}: two columns have the same name: {', '.join(given)}.", "Keep one of them.")
    table = _with_prices(table.rename(names)).drop(ROW, strict=False).with_row_index(ROW, offset=first_row)
    return SourceTable(name=path.name, kind=_recognise(path, table), frame=table, first_row=first_row)


def _column(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def _with_prices(table: pl.DataFrame) -> pl.DataFrame:
    # A file that has only the close of the VIX: each of its prices is the close.
    if _CLOSE_OF_VIX not in table.columns:
        return table
    prices = (pl.col(_CLOSE_OF_VIX).alias(name) for name in parquet.PRICES)
    return table.rename({"observation_date": "date"}, strict=False).with_columns(prices)


def bars_of(source: SourceTable, path: Path, options: ImportOptions) -> pl.DataFrame:
    """The file's bars with columns row, symbol, ts and those of a stored bar; raises DataError for missing ones."""
    frame = source.frame.with_columns(_symbols(source, path), _moments(source, options))
    faults = [
        source.count(what, bad)
        for what, wrong in (
            ("time that cannot be read, or that its zone's clock change makes ambiguous", pl.col("ts").is_null()),
            ("invalid symbol", ~_is_symbol(pl.col("symbol"))),
        )
        if len(bad := frame.filter(wrong))
    ]
    if faults:
        raise source.refuse(faults)
    own = _number("vwap") if "vwap" in frame.columns else pl.lit(None, dtype=pl.Float64)
    return frame.select(
        ROW,
        "symbol",
        "ts",
        *(pl.col(name).cast(pl.Float64, strict=False) for name in (*parquet.PRICES, "volume")),
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
        raise source.refuse([source.count("date that cannot be read", bad)])
    return frame


def vix_of(source: SourceTable) -> tuple[pl.DataFrame, int]:
    """The file's days with their prices as numbers, and how many more are holidays: each price is empty or a dot.

    A price beside the close that is empty or a dot is the close. Raises DataError for an invalid date.
    """
    frame = days_of(source, "date")
    empty = {
        name: pl.col(name).cast(pl.String).str.strip_chars().fill_null("").is_in(["", "."]) for name in parquet.PRICES
    }
    traded = frame.filter(~pl.all_horizontal(empty.values()))
    numbers = {name: pl.col(name).cast(pl.Float64, strict=False) for name in parquet.PRICES}
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
    for name, dtype in reference.SCHEMAS[reference.FUNDAMENTALS].items():
        if name not in frame.columns:
            known[name] = pl.lit(None, dtype=dtype)
        elif name not in known:
            known[name] = _number(name) if dtype == pl.Float64 else pl.col(name).cast(dtype)
    return frame.with_columns(**known)


def _number(name: str) -> pl.Expr:
    # A column as numbers; invalid ones become null.
    value = pl.col(name).cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value)


def _is_symbol(column: pl.Expr) -> pl.Expr:
    matches = column.str.contains(f"^{SYMBOL.pattern}$") & (column.str.len_chars() <= SYMBOL_LENGTH)
    return matches.fill_null(value=False)


def _csv(path: Path, data: bytes) -> pl.DataFrame:
    try:
        return pl.read_csv(io.BytesIO(data), infer_schema=False)
    except pl.exceptions.PolarsError as fault:
        raise DataError(f"{path.name}: no CSV table can be read from it ({_sentence(fault)}).") from fault


def _header(data: bytes) -> list[str]:
    # The header as written: the CSV reader renames a duplicate column.
    first = data.decode("utf-8-sig", errors="replace").splitlines()[:1]
    return next(csv.reader(first), [])


def _parquet(path: Path, data: bytes) -> pl.DataFrame:
    try:
        return pl.read_parquet(io.BytesIO(data))
    except pl.exceptions.PolarsError as fault:
        raise DataError(f"{path.name}: not a Parquet file, or a damaged one ({_sentence(fault)}).") from fault


def _sentence(fault: Exception) -> str:
    return str(fault).strip().splitlines()[0].rstrip(".") if str(fault).strip() else type(fault).__name__


def _recognise(path: Path, table: pl.DataFrame) -> SourceKind:
    columns = set(table.columns)
    priced = columns.issuperset(parquet.PRICES)
    if priced and "volume" in columns and columns.intersection(TIME_COLUMNS):
        return SourceKind.BARS
    if priced and "date" in columns and "volume" not in columns:
        return SourceKind.VIX
    if columns.issuperset(("symbol", "market_cap")):
        return SourceKind.FUNDAMENTALS
    held = ", ".join(name for name in table.columns if name != ROW)
    raise DataError(
        f"{path.name}: its columns match no known kind of data: {held}.",
        "Bars have ts, open, high, low, close, volume; the daily VIX date, open, high, low, close, or"
        " date, VIXCLS; fundamentals symbol, as_of, market_cap. A table of a plugin is imported by its name, as in"
        f" `tbot data import rates {path.name}`.",
    )


def _symbols(source: SourceTable, path: Path) -> pl.Expr:
    column = next((name for name in SYMBOL_COLUMNS if name in source.frame.columns), None)
    if column is not None:
        return pl.col(column).cast(pl.String).str.strip_chars().alias("symbol")
    own = path.stem.upper()
    if not is_symbol(own):
        raise source.refuse([f"it has no symbol column, and its name {path.stem!r} is not a symbol"])
    return pl.lit(own).alias("symbol")


def _moments(source: SourceTable, options: ImportOptions) -> pl.Expr:
    column = next(name for name in TIME_COLUMNS if name in source.frame.columns)
    dtype = source.frame.schema[column]
    moment = pl.col(column)
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return moment.dt.convert_time_zone("UTC").dt.cast_time_unit("us").alias("ts")
    if isinstance(dtype, pl.Datetime):
        return _in_zone(source, moment.dt.cast_time_unit("us"), options).alias("ts")
    if dtype != pl.String:
        raise source.refuse([f"column {column} must hold times of minutes, but holds {dtype}"])
    return _parsed(source, column, options).alias("ts")


def _parsed(source: SourceTable, column: str, options: ImportOptions) -> pl.Expr:
    text = pl.col(column).str.strip_chars().str.replace("T", " ", literal=True)
    dated = source.frame.filter(text.str.contains(r"^[\d/-]{8,10}$"))
    if len(dated):
        raise source.refuse([_no_minutes(source, column, dated)])
    offset = text.str.extract(_OFFSET)
    wall = text.str.replace(_OFFSET, "")
    local = pl.coalesce(wall.str.to_datetime(form, time_unit="us", strict=False) for form in _MOMENTS)
    exact = (local - _offset_time(offset)).dt.replace_time_zone("UTC")
    if not source.frame.select((local.is_not_null() & offset.is_null()).any()).item():
        return exact
    return pl.when(offset.is_not_null()).then(exact).otherwise(_in_zone(source, local, options))


def _no_minutes(source: SourceTable, column: str, dated: pl.DataFrame) -> str:
    # Why a column of dates cannot be used as times of minutes, and how to fix it.
    where = source.count("not the time of a minute", dated, column)
    other = next((name for name in TIME_COLUMNS if name != column and name in source.frame.columns), None)
    if other is not None:
        return f"{where}: date and time must be in one column, but are in {column} and {other}"
    if str(dated[column][0]).strip().isdecimal() and len(str(dated[column][0]).strip()) > _DAY_DIGITS:
        return f"{where}: write times as 2018-02-20T14:30:00Z, not as seconds"
    return (
        f"{where}: it has one row per day, but one-minute bars are required; write their times as 2018-02-20T14:30:00Z"
    )


def _offset_time(offset: pl.Expr) -> pl.Expr:
    # The offset from UTC, from Z, +05:30, -0500 or -05.
    hours = offset.str.slice(1, 2).cast(pl.Int64, strict=False)
    rest = offset.str.extract(r"^.\d{2}:?(\d{2})$").cast(pl.Int64, strict=False).fill_null(0)
    ahead = pl.duration(hours=hours, minutes=rest)
    zero = pl.duration(hours=0)
    return pl.when(offset == "Z").then(zero).when(offset.str.starts_with("-")).then(-ahead).otherwise(ahead)


def _in_zone(source: SourceTable, local: pl.Expr, options: ImportOptions) -> pl.Expr:
    if options.zone is None:
        raise source.refuse(["its times have no offset: give their time zone with --zone, as in --zone UTC"])
    zoned = local.dt.replace_time_zone(options.zone, ambiguous="null", non_existent="null")
    return zoned.dt.convert_time_zone("UTC")
