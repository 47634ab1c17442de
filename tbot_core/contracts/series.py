"""Daily series, such as the closes of the VIX: what an extension publishes, and a strict reader of its CSV files.

An extension names its series in `Plugin.series`, and its object has `daily_series`::

    class ExampleIndex:
        def __init__(self, context: Context) -> None:
            self._http = context.connect.http("data")

        async def daily_series(self, name: str) -> Sequence[DailyValue]:
            rows = csv_rows((await self._http.get("/vix.csv")).text, ("DATE", "CLOSE"))
            return [DailyValue(day=csv_day(day, "YYYY-MM-DD"), value=csv_number(close)) for day, close in rows]
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import attrs

from tbot_core.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

VIX: Final = "vix"
"""The closes of the VIX, in points, of exchange days."""

RATES: Final = "rates"
"""Risk-free rates by jurisdiction, yearly, as fractions of 1; each `DailyValue.code` is that of a jurisdiction."""

SERIES: Final = (VIX, RATES)
"""Every series that the core uses."""

_NUMBER: Final = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,12})?")
_REMEDY: Final = "Is the address that of the service? If it is, the service has changed its files: update the plugin."
_QUOTED: Final = 60


@attrs.frozen(kw_only=True)
class DailyValue:
    """The value of one day; `code` is the jurisdiction of a rate, such as US, and "" for an index."""

    day: dt.date
    value: float
    code: str = ""


@runtime_checkable
class SupportsDailySeries(Protocol):
    """An extension that publishes daily series; it declares them in `Plugin.series`."""

    async def daily_series(self, name: str) -> Sequence[DailyValue]:
        """The whole series, of each code the oldest day first; days without a value are left out.

        The core stores the days that are over and not stored yet, if the whole series is plausible. It is asked by
        `tbot data download`, and before the bell, then for at most ten seconds. Raises BrokerError; Unavailable also
        for an answer that is not the series.
        """


def csv_rows(text: str, header: Sequence[str]) -> list[list[str]]:
    """The rows of a CSV file without its header.

    Raises Unavailable unless the first line is the header, each row has as many fields and the last line has an end:
    a page in HTML, another series or a part of the file is never taken for the whole.
    """
    if text.lstrip()[:1] == "<":
        raise Unavailable(f"The answer is a page in HTML instead of a CSV file: {_quoted(text.strip())}.", _REMEDY)
    lines = text.splitlines()
    if not lines or lines[0].split(",") != [*header]:
        found = _quoted(lines[0]) if lines else "nothing"
        raise Unavailable(f"The CSV file begins with {found} instead of {','.join(header)!r}.", _REMEDY)
    if not text.endswith("\n"):
        raise Unavailable(f"The CSV file ends within a line, {_quoted(lines[-1])}: a part is missing.", "Try again.")
    rows = [line.split(",") for line in lines[1:]]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise Unavailable(
                f"Line {number} of the CSV file, {_quoted(lines[number - 1])}, has {len(row)} fields instead of "
                f"{len(header)}.",
                "Try again.",
            )
    return rows


def csv_day(text: str, form: str) -> dt.date:
    """A date in this form, such as MM/DD/YYYY; raises Unavailable for anything else."""
    if match := _pattern(form).fullmatch(text):
        with suppress(ValueError):
            return dt.date(int(match["YYYY"]), int(match["MM"]), int(match["DD"]))
    raise Unavailable(f"{_quoted(text)} in the CSV file is not a date {form}.", _REMEDY)


def csv_number(text: str) -> float:
    """A number in plain digits; raises Unavailable for anything else."""
    if not _NUMBER.fullmatch(text):
        raise Unavailable(f"{_quoted(text)} in the CSV file is not a number.", _REMEDY)
    return float(text)


@functools.cache
def _pattern(form: str) -> re.Pattern[str]:
    # The pattern of a date in this form.
    return re.compile(re.sub("YYYY|MM|DD", lambda part: f"(?P<{part[0]}>[0-9]{{{len(part[0])}}})", re.escape(form)))


def _quoted(text: str) -> str:
    return repr(text[:_QUOTED])
