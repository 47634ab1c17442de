"""Rows of a source file with our column names, and the words for what is wrong with them.

A fault states what is wrong, how often, and where first; a refused file lists all its faults.
"""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import attrs
import polars as pl

from tbot_core.errors import DataError
from tbot_core.marketdata.store.source_formats import PLAIN, SourceFormat

if TYPE_CHECKING:
    from collections.abc import Iterable

ROW: Final = "row"
_MOST_ROWS: Final = 10


class SourceKind(StrEnum):
    """What a file holds."""

    BARS = "bars"
    VIX = "VIX"
    FUNDAMENTALS = "fundamentals"


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

    def refuse(self, faults: Iterable[str]) -> DataError:
        """Return the error that refuses the file."""
        return DataError(f"{self.name}: {'; '.join(faults)}.")

    def where(self, row: int) -> str:
        """The location of a row, for messages."""
        return f"line {row}" if self.lines else f"row {row}"

    def count(self, what: str, bad: pl.DataFrame, column: str = "") -> str:
        """Describe a fault: what, in how many rows, and the first of them, with the value of one column."""
        return f"{what} ({len(bad)}, {self.first(bad, column)})"

    def first(self, bad: pl.DataFrame, column: str = "") -> str:
        """The place of the first of some rows, with the value of one column."""
        first = bad.row(0, named=True)
        moment = first.get("ts")
        when = f", {moment:%Y-%m-%d %H:%M:%S} UTC" if isinstance(moment, dt.datetime) else ""
        symbol = f", {first['symbol']}" if first.get("symbol") else ""
        value = f", {column} {self._written(first[ROW], column)}" if column else ""
        return f"first: {self.where(first[ROW])}{when}{symbol}{value}"

    def name_rows(self, what: str, bad: pl.DataFrame) -> str:
        """Describe a fault: what, and the rows with their days."""
        rows = [f"{self.where(row)} of {day}" for row, day in bad.select(ROW, "date").head(_MOST_ROWS).iter_rows()]
        more = f" and {len(bad) - len(rows)} more" if len(bad) > len(rows) else ""
        return f"{what} ({', '.join(rows)}{more})"

    def _written(self, row: int, column: str) -> str:
        # The value as written in the file.
        return str(self.frame.filter(pl.col(ROW) == row)[column].item()).strip()


@attrs.define(kw_only=True, eq=False)
class Faults:
    """What is wrong in a file: of each fault the number of rows, and the place of the first."""

    _found: dict[str, tuple[int, str]] = attrs.field(factory=dict, init=False)

    def add(self, source: SourceTable, what: str, bad: pl.DataFrame, column: str = "") -> None:
        """Count rows; none are no fault."""
        if len(bad):
            count, first = self._found.get(what) or (0, source.first(bad, column))
            self._found[what] = count + len(bad), first

    @property
    def texts(self) -> list[str]:
        """Each fault in words."""
        return [f"{what} ({count}, {first})" for what, (count, first) in self._found.items()]
