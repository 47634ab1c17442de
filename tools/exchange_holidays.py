"""Writes tbot_core/model/exchange_holidays.py: closed and half days of the exchange, from the package `holidays`.

To import that package takes longer than many a command, since it imports the holidays of every country. A test compares
the table with it. After an update of the package:

    .venv/bin/python tools/exchange_holidays.py
"""

from __future__ import annotations

import textwrap
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from holidays import financial_holidays
from holidays.constants import HALF_DAY, PUBLIC

from tbot_core.model.calendar import EXCHANGE, FIRST_DAY, LAST_DAY

if TYPE_CHECKING:
    import datetime as dt

FILE: Final = Path(__file__).parents[1] / "tbot_core" / "model" / "exchange_holidays.py"
HEAD: Final = '''\
"""Closed and half days of the New York Stock Exchange. `tools/exchange_holidays.py` writes this module: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

'''
NAMES: Final = {"HOLIDAYS": PUBLIC, "HALF_DAYS": HALF_DAY}
MEANINGS: Final = {"HOLIDAYS": "The dates of each closed weekday by its name.", "HALF_DAYS": "Those of each half day."}


def main() -> None:
    """Write the module."""
    FILE.write_text(HEAD + "\n\n".join(table(name, category) for name, category in NAMES.items()), encoding="utf-8")


def table(name: str, category: str) -> str:
    """The source text of a table: the dates of each holiday, as words."""
    dates: defaultdict[str, list[dt.date]] = defaultdict(list)
    for day, holiday in sorted(listed(category).items()):
        dates[holiday].append(day)
    entries = [f'    "{holiday}": (\n{_words(days)}    ),\n' for holiday, days in sorted(dates.items())]
    return f'{name}: Final[Mapping[str, str]] = {{\n{"".join(entries)}}}\n"""{MEANINGS[name]}"""\n'


def listed(category: str) -> dict[dt.date, str]:
    """The days of a category in all years of the calendar, with their names."""
    years = range(FIRST_DAY.year, LAST_DAY.year + 1)
    return dict(financial_holidays(EXCHANGE, years=years, expand=False, language="en_US", categories=(category,)))


def _words(days: list[dt.date]) -> str:
    lines = textwrap.wrap(" ".join(day.isoformat() for day in days), 100, break_on_hyphens=False)
    return "".join(f'        "{line}{" " if line is not lines[-1] else ""}"\n' for line in lines)


if __name__ == "__main__":
    main()
