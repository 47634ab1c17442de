"""The times of a source file's bars: with or without an offset, in one column or two, as text or as numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import polars as pl

from tbot_core.marketdata.store.source_formats import UNITS

if TYPE_CHECKING:
    from tbot_core.marketdata.store.source_table import SourceTable

COLUMNS: Final = ("ts", "timestamp", "datetime", "date", "time")

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


def moments(source: SourceTable, zone: str | None) -> pl.Series:
    """The times in UTC as a column `ts`; null where one cannot be read, or is ambiguous in its zone.

    `zone`: of times without an offset, else the format's own. Raises DataError for a column that holds no times of
    minutes, and for times without an offset or a zone.
    """
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


def columns_of(source: SourceTable) -> tuple[str, ...]:
    """The file's columns of times: one, or a date and a time that are one."""
    columns = source.frame.schema
    first = next(name for name in COLUMNS if name in columns)
    if first == "date" and {columns["date"], columns.get("time")} == {pl.String}:
        return "date", "time"
    return (first,)


def _column(source: SourceTable) -> tuple[pl.Series, str]:
    # The times, and the name of their first column.
    first, *second = columns_of(source)
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
    other = next((name for name in COLUMNS if name != column and name in source.frame.columns), None)
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
