"""The operator's list of splits, for brokers that do not list them.

The file is `data/splits.csv`; only its owner may write it. Its first line is `date,symbol,before,after`, then one split
per line, such as `2026-03-02,ACME,1,2` if each share became two. `date` is the first session with the new shares.
Lines that begin with # and a byte order mark are ignored. An invalid file is not used at all.
"""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import DataError
from tbot_core.model.types import MOST_SPLIT_SHARES
from tbot_core.system import filesystem, secure_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME: Final = "splits.csv"
HEADER: Final = "date,symbol,before,after"
_LARGEST: Final = 65_536
_DIGITS: Final = 18
_QUOTED: Final = 30
_SYMBOL: Final = re.compile(r"[A-Z][A-Z0-9./-]{0,11}")


@attrs.frozen(kw_only=True)
class OperatorSplit:
    """From session `day` on, `before` shares of a symbol are `after` shares; `line` is the line in the file."""

    day: date
    symbol: str
    before: int
    after: int
    line: int


def read_splits(path: Path) -> tuple[OperatorSplit, ...]:
    """Read the operator's splits; empty without a file.

    Raises AccessError if another user can write the file, DataError with all its faults.
    """
    if not filesystem.is_present(path):
        return ()
    content = secure_files.inspect(path, limit=_LARGEST)
    if content.flaws:
        raise secure_files.PrivateFileError(path, content.flaws[0])
    try:
        lines = bytes(content.data.view).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as fault:
        raise DataError(f"{path} is not a text file.", _remedy()) from fault
    found: list[OperatorSplit] = []
    wrong = [f"its first line is not {HEADER}"] if not lines or lines[0].strip() != HEADER else []
    for number, text in enumerate(lines[1:], 2):
        if text.strip() and not text.startswith("#"):
            split, words = _read(text, number)
            wrong += [f"line {number}: {one}" for one in words]
            found += [] if split is None else [split]
    wrong += _repeated(found)
    if wrong:
        raise DataError(f"{path}: {'; '.join(wrong)}.", _remedy())
    return tuple(found)


def _remedy() -> str:
    return f"Write {HEADER} on the first line, then one split per line, such as 2026-03-02,ACME,1,2."


def _read(text: str, number: int) -> tuple[OperatorSplit | None, list[str]]:
    # The split of a line, or its faults.
    fields = [field.strip() for field in text.split(",")]
    if len(fields) != HEADER.count(",") + 1:
        return None, [f"{len(fields)} fields"]
    day, symbol, *counts = fields
    wrong = [] if _SYMBOL.fullmatch(symbol) else [f"{_quoted(symbol)} is not a symbol"]
    wrong += [
        f"{_quoted(count)} is not a number from 1 to {MOST_SPLIT_SHARES}" for count in counts if not _counts(count)
    ]
    if not wrong and counts[0] == counts[1]:
        wrong.append("the ratio is 1 to 1")
    try:
        since = date.fromisoformat(day)
    except ValueError:
        return None, [f"{_quoted(day)} is not a date", *wrong]
    if wrong:
        return None, wrong
    return OperatorSplit(day=since, symbol=symbol, before=int(counts[0]), after=int(counts[1]), line=number), []


def _counts(text: str) -> bool:
    # int() raises ValueError for numbers of some thousand digits.
    return len(text) <= _DIGITS and text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_SPLIT_SHARES


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…")


def _repeated(found: list[OperatorSplit]) -> Iterator[str]:
    seen: dict[tuple[date, str], int] = {}
    for one in found:
        first = seen.setdefault((one.day, one.symbol), one.line)
        if first != one.line:
            yield f"line {one.line}: {one.symbol} on {one.day} repeats line {first}"
