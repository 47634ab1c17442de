"""Rows of a source file with our column names, and the words for what is wrong with them.

A fault states what is wrong, how often, and where first; a refused file lists all its faults.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import attrs
import polars as pl

from tbot_core.errors import DataError
from tbot_core.marketdata.store.source_formats import PLAIN, SourceFormat

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROW: Final = "row"
_MOST_ROWS: Final = 10
_LONGEST: Final = 40
_COMMA: Final = r"^\s*[+-]?[\d.]*\d,\d[\d,.]*\s*$"
_PLAIN: Final = re.compile(r"[\w.:/+-]+")


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


_WITH_COMMA: Final = RowFault(
    what="number that is written with a comma",
    remedy="Write numbers as 1234.5: with a decimal point, and without a separator of thousands.",
)
_CONTRADICTS: Final = RowFault(what="row that contradicts an earlier one", remedy="Keep one of the two rows.")


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


def shown(value: object) -> str:
    """A value of a row for messages: a whole number without a point, "none" for a missing one, a long text cut."""
    if value is None:
        return "none"
    return f"{value:.15g}" if isinstance(value, float) else str(value)[:_LONGEST]
