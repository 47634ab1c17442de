"""Source files of bars and facts as rows with our column names: recognised by their columns, converted, and checked.

Times are read with or without an offset, in one column or two, as text or as numbers.
"""

from __future__ import annotations

import datetime as dt
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import attrs
import polars as pl

from tbot_core.errors import DataError, UsageError
from tbot_core.marketdata.store import manifest, reference, source_readers
from tbot_core.marketdata.store.source_readers import PLAIN, UNITS, RawTable, SourceFormat, column_key, zone_fault
from tbot_core.model.formatting import plural
from tbot_core.model.types import is_symbol

if TYPE_CHECKING:
    from pathlib import Path

_SYMBOL_COLUMNS: Final = ("symbol", "ticker")

_DAYS: Final = ("%Y-%m-%d", "%m/%d/%Y", "%Y%m%d")

_LONGEST: Final = 40

_CLOSE_OF_VIX: Final = "vixcls"

ROW: Final = "row"

_MOST_ROWS: Final = 10

_COMMA: Final = r"^\s*[+-]?[\d.]*\d,\d[\d,.]*\s*$"

_PLAIN: Final = re.compile(r"[\w.:/+-]+")

_COLUMNS: Final = ("ts", "timestamp", "datetime", "date", "time")

_MOMENTS: Final = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%Y%m%d %H:%M:%S",
    "%Y%m%d %H:%M",
)

_DAY_DIGITS: Final = 8

_OFFSET: Final = r"\s*(Z|[+-]\d{2}:?(?:\d{2})?)$"

# The forms in which large files are written, and how they are parsed in one step; those without an offset need a zone.
_USUAL: Final = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "%Y-%m-%dT%H:%M:%SZ"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d"), "%Y-%m-%d %H:%M:%S%:z"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d"), "%Y-%m-%dT%H:%M:%S%:z"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "%Y-%m-%d %H:%M:%S"),
    (re.compile(r"\d\d/\d\d/\d{4} \d\d:\d\d"), "%m/%d/%Y %H:%M"),
)


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


class SourceKind(StrEnum):
    """What a file holds."""

    BARS = "bars"
    VIX = "VIX"
    FUNDAMENTALS = "fundamentals"
    SPLITS = "splits"


@attrs.frozen(kw_only=True, eq=False)
class SourceTable:
    """Rows of a file with our column names and a column `row`: the line of a CSV file, else the row from 1.

    `lines`: whether rows are lines. `done` is the share of the file that has been read, 0 to 1.
    """

    name: str
    kind: SourceKind
    frame: pl.DataFrame
    lines: bool = False
    format: SourceFormat = PLAIN
    done: float = 1.0

    def refuse(self, faults: Iterable[str], remedy: str = "") -> DataError:
        """Return the error that refuses the file."""
        return DataError(f"{self.name}: {'; '.join(faults)}.", remedy)

    def where(self, row: int) -> str:
        """The location of a row, for messages."""
        return f"line {row}" if self.lines else f"row {row}"

    def count(self, what: str, bad: pl.DataFrame, *columns: str) -> str:
        """Describe a fault: what, in how many rows, and the first of them, with the values of some columns."""
        return f"{what} ({len(bad)}, {self.first(bad, *columns)})"

    def first(self, bad: pl.DataFrame, *columns: str) -> str:
        """The place of the first of some rows, with the values of some columns as written."""
        first = bad.row(0, named=True)
        moment = first.get("ts")
        when = f", {moment:%Y-%m-%d %H:%M:%S} UTC" if isinstance(moment, dt.datetime) else ""
        symbol = f", {first['symbol']}" if first.get("symbol") and "symbol" not in columns else ""
        values = (f", {column} {self._written(first[ROW], column)}" for column in columns)
        return f"first: {self.where(first[ROW])}{when}{symbol}{''.join(values)}"

    def name_rows(self, what: str, bad: pl.DataFrame) -> str:
        """Describe a fault: what, and the rows with their days."""
        rows = [f"{self.where(row)} of {day}" for row, day in bad.select(ROW, "date").head(_MOST_ROWS).iter_rows()]
        more = f" and {len(bad) - len(rows)} more" if len(bad) > len(rows) else ""
        return f"{what} ({', '.join(rows)}{more})"

    def comma_rows(self, bad: pl.DataFrame, columns: Iterable[str]) -> pl.DataFrame:
        """Those of some rows in which one of the columns has a number that is written with a comma."""
        texts = [name for name in columns if self.frame.schema.get(name) == pl.String]
        written = self.frame.filter(
            pl.any_horizontal(pl.col(texts).str.contains(_COMMA)) if texts else pl.lit(value=False)
        )
        return bad.filter(pl.col(ROW).is_in(written[ROW].implode()))

    def _written(self, row: int, column: str) -> str:
        # The value as written in the file.
        value = self.frame.filter(pl.col(ROW) == row)[column].item()
        text = "" if value is None else str(value).strip()[:_LONGEST]
        if _PLAIN.fullmatch(text):
            return text
        return repr(text) if text else "missing"


@attrs.frozen(kw_only=True, eq=False)
class RowFault:
    """What can be wrong with a row: in words, the condition by column, and the remedy.

    `shown`: the columns whose values describe it, where they are not those that the condition holds for.
    """

    what: str
    wrong: Mapping[str, pl.Expr] = attrs.field(factory=dict)
    shown: tuple[str, ...] = ()
    remedy: str = "Correct these rows, or remove them, and import the file again."

    @property
    def rows(self) -> pl.Expr:
        """Whether a row has the fault."""
        return pl.any_horizontal(self.wrong.values())

    def columns(self, bad: pl.DataFrame) -> tuple[str, ...]:
        """The columns that describe the fault of the first of some rows; its time is named anyway."""
        if self.shown or not self.wrong:
            return self.shown
        found = bad.head(1).select(**self.wrong).row(0, named=True)
        return tuple(name for name, is_wrong in found.items() if is_wrong and name != "ts")


@attrs.define(kw_only=True, eq=False)
class Faults:
    """What is wrong in a file: of each fault the number of rows, the place of the first, and the remedy."""

    _found: dict[str, tuple[int, str, str]] = attrs.field(factory=dict, init=False)

    def add(self, source: SourceTable, fault: RowFault, bad: pl.DataFrame, detail: str = "") -> None:
        """Count rows; none are no fault. `detail` is added to the place of the first."""
        if not len(bad):
            return
        count, first, _ = self._found.get(fault.what) or (0, source.first(bad, *fault.columns(bad)) + detail, "")
        self._found[fault.what] = count + len(bad), first, fault.remedy

    def add_rows(self, source: SourceTable, fault: RowFault, frame: pl.DataFrame) -> None:
        """Count the rows that have a fault; a number with a comma is one of its own, not a missing number."""
        bad = frame.filter(fault.rows)
        commas = source.comma_rows(bad, fault.wrong)
        if len(commas):
            texts = (name for name in fault.wrong if len(source.comma_rows(commas.head(1), (name,))))
            self.add(source, attrs.evolve(_WITH_COMMA, shown=tuple(texts)), commas)
        self.add(source, fault, bad.join(commas, on=ROW, how="anti", maintain_order="left"))

    def add_contradictions(
        self, source: SourceTable, frame: pl.DataFrame, keys: Sequence[str], values: Sequence[str]
    ) -> None:
        """Count the rows that repeat a key with different values, from the second row on."""
        once = frame.unique([*keys, *values], keep="first", maintain_order=True)
        bad = once.filter(~pl.struct(keys).is_first_distinct())
        if len(bad):
            later = bad.row(0, named=True)
            same = pl.all_horizontal(pl.col(key).eq_missing(pl.lit(later[key])) for key in keys)
            earlier = frame.filter(same).row(0, named=True)
            name = next(name for name in values if later[name] != earlier[name])
            detail = f", {name} {shown(later[name])}, {source.where(earlier[ROW])} has {shown(earlier[name])}"
            self.add(source, _CONTRADICTS, bad, detail)

    def refuse(self, source: SourceTable) -> None:
        """Raise DataError with all faults, if there are any."""
        if self._found:
            texts = [f"{what} ({count}, {first})" for what, (count, first, _) in self._found.items()]
            raise source.refuse(texts, " ".join(dict.fromkeys(remedy for *_, remedy in self._found.values())))

    def __bool__(self) -> bool:
        """Whether anything is wrong."""
        return bool(self._found)


_NO_TIME: Final = RowFault(
    what="time that cannot be read, or that its zone's clock change makes ambiguous",
    remedy="Write times as 2018-02-20T14:30:00Z, or say how they are written with --mapping.",
)

_NO_SYMBOL: Final = RowFault(what="invalid symbol", remedy="Write symbols as the exchange does, as in BRK.B.")

_WITH_COMMA: Final = RowFault(
    what="number that is written with a comma",
    remedy="Write numbers as 1234.5: with a decimal point, and without a separator of thousands.",
)

_CONTRADICTS: Final = RowFault(what="row that contradicts an earlier one", remedy="Keep one of the two rows.")


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


def bars_of(source: SourceTable, path: Path, options: ImportOptions, faults: Faults) -> pl.DataFrame:
    """The rows as bars: columns row, symbol, ts and those of a stored bar, with prices and volume as written.

    Rows without a time or with an invalid symbol are added to `faults` and left out. Raises DataError where columns
    do not hold what they must.
    """
    frame = source.frame.with_columns(_symbols(source, path, options.symbol), _moments(source, options.zone))
    if frame["ts"].null_count():
        unread = attrs.evolve(_NO_TIME, shown=_columns_of(source))
        faults.add(source, unread, frame.filter(pl.col("ts").is_null()))
        frame = frame.filter(pl.col("ts").is_not_null())
    wrong = [name for name in frame["symbol"].unique() if name is None or not is_symbol(name)]
    if wrong:
        bad = pl.col("symbol").is_in(pl.Series(wrong, dtype=pl.String), nulls_equal=True)
        column = next(name for name in (*_SYMBOL_COLUMNS, "") if name in source.frame.columns)
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


def _days_of(source: SourceTable, column: str) -> pl.DataFrame:
    # Parse a column of dates; raises DataError for an invalid date.
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
    frame = _days_of(source, "date")
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
        frame = _days_of(source, "as_of")
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
    return _days_of(source, "date").with_columns(symbol=symbol, **whole)


def shown(value: object) -> str:
    """A value of a row for messages: a whole number without a point, "none" for a missing one, a long text cut."""
    if value is None:
        return "none"
    return f"{value:.15g}" if isinstance(value, float) else str(value)[:_LONGEST]


def _moments(source: SourceTable, zone: str | None) -> pl.Series:
    # The times in UTC as a column `ts`; null where one cannot be read, or is ambiguous in its zone.
    # `zone`: of times without an offset, else the format's own. Raises DataError for a column that holds no times of
    # minutes, and for times without an offset or a zone.
    zone = zone or source.format.zone
    times, column = _column(source)
    dtype = times.dtype
    if source.format.time in UNITS and (dtype == pl.String or dtype.is_integer()):
        return _counted(times, source.format.time)
    if isinstance(dtype, pl.Datetime):
        found = times.dt.cast_time_unit("us")
        aware = dtype.time_zone is not None
        return (found.dt.convert_time_zone("UTC") if aware else _in_zone(source, found, zone)).alias("ts")
    if dtype != pl.String:
        raise source.refuse([f"column {column} must hold times of minutes, but holds {dtype}"])
    if source.format.time:
        return _by_form(source, times, zone)
    at_once = _at_once(source, times, zone)
    return _parsed(source, times, column, zone) if at_once is None else at_once


def _columns_of(source: SourceTable) -> tuple[str, ...]:
    # The file's columns of times: one, or a date and a time that are one.
    columns = source.frame.schema
    first = next(name for name in _COLUMNS if name in columns)
    if first == "date" and {columns["date"], columns.get("time")} == {pl.String}:
        return "date", "time"
    return (first,)


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


def _number(name: str) -> pl.Expr:
    # A column as numbers; invalid ones become null.
    value = pl.col(name).cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value)


def _recognise(path: Path, table: pl.DataFrame) -> SourceKind:
    columns = set(table.columns)
    priced = columns.issuperset(manifest.PRICES)
    if priced and "volume" in columns and columns.intersection(_COLUMNS):
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
    column = next((name for name in _SYMBOL_COLUMNS if name in source.frame.columns), None)
    if column is not None:
        given = source.frame[column].cast(pl.String)
        padded = any(name != name.strip() for name in given.unique() if name is not None)
        return (given.str.strip_chars() if padded else given).alias("symbol")
    own = symbol or source.format.symbol or source_readers.stem_of(path).upper()
    if not is_symbol(own):
        lacking = f"it has no symbol column, and its name {source_readers.stem_of(path)!r} is not a symbol"
        raise source.refuse([lacking], "Give the symbol with --symbol.")
    return pl.repeat(own, len(source.frame), dtype=pl.String, eager=True).alias("symbol")


def _column(source: SourceTable) -> tuple[pl.Series, str]:
    # The times, and the name of their first column.
    first, *second = _columns_of(source)
    if not second:
        return source.frame[first], first
    both = source.frame.select(pl.concat_str(pl.col(first, *second).str.strip_chars(), separator=" ").alias("ts"))
    return both["ts"], first


def _counted(times: pl.Series, unit: str) -> pl.Series:
    count = times.cast(pl.Int64, strict=False)
    if unit == "s":
        count, unit = count * 1000, "ms"
    scaled = count.cast(pl.Datetime("ns" if unit == "ns" else "us" if unit == "us" else "ms"))
    return scaled.dt.cast_time_unit("us").dt.replace_time_zone("UTC").alias("ts")


def _by_form(source: SourceTable, times: pl.Series, zone: str | None) -> pl.Series:
    found = times.str.strip_chars().str.to_datetime(source.format.time, time_unit="us", strict=False)
    aware = isinstance(found.dtype, pl.Datetime) and found.dtype.time_zone is not None
    return (found.dt.convert_time_zone("UTC") if aware else _in_zone(source, found, zone)).alias("ts")


def _at_once(source: SourceTable, times: pl.Series, zone: str | None) -> pl.Series | None:
    # The times where all have the form of the first; None where they have not.
    first = times[0] if len(times) else None
    form = next((form for known, form in _USUAL if first is not None and known.fullmatch(first)), None)
    found = None if form is None else times.str.to_datetime(form, time_unit="us", strict=False)
    if form is None or found is None or found.null_count():
        return None
    if form.endswith("z"):
        return found.dt.convert_time_zone("UTC").alias("ts")
    return (found.dt.replace_time_zone("UTC") if form.endswith("Z") else _in_zone(source, found, zone)).alias("ts")


def _parsed(source: SourceTable, times: pl.Series, column: str, zone: str | None) -> pl.Series:
    frame = source.frame.with_columns(times.alias("ts"))
    text = pl.col("ts").str.strip_chars().str.replace("T", " ", literal=True)
    dated = frame.filter(text.str.contains(r"^[\d/-]{8,10}$"))
    if len(dated):
        raise source.refuse([_no_minutes(source, column, dated)])
    offset = text.str.extract(_OFFSET)
    wall = text.str.replace(_OFFSET, "")
    local = pl.coalesce(wall.str.to_datetime(form, time_unit="us", strict=False) for form in _MOMENTS)
    parts = frame.select(local=local, offset=offset)
    exact = (pl.col("local") - _offset_time(pl.col("offset"))).dt.replace_time_zone("UTC")
    if not parts.select((pl.col("local").is_not_null() & pl.col("offset").is_null()).any()).item():
        return parts.select(exact.alias("ts"))["ts"]
    zoned = parts.with_columns(zoned=_in_zone(source, parts["local"], zone))
    return zoned.select(pl.when(pl.col("offset").is_not_null()).then(exact).otherwise("zoned").alias("ts"))["ts"]


def _no_minutes(source: SourceTable, column: str, dated: pl.DataFrame) -> str:
    # Why a column of dates cannot be used as times of minutes, and how to fix it.
    where = source.count("not the time of a minute", dated, column)
    other = next((name for name in _COLUMNS if name != column and name in source.frame.columns), None)
    if other is not None:
        return f"{where}: date and time must be in one column, or in date and time, but are in {column} and {other}"
    if str(dated["ts"][0]).strip().isdecimal() and len(str(dated["ts"][0]).strip()) > _DAY_DIGITS:
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


def _in_zone(source: SourceTable, local: pl.Series, zone: str | None) -> pl.Series:
    if zone is None:
        raise source.refuse(["its times have no offset: give their time zone with --zone, as in --zone UTC"])
    zoned = local.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
    return zoned.dt.convert_time_zone("UTC")
