"""Splits: announced by the broker or stated by the operator, and found in what the account holds."""

from __future__ import annotations

import re
from datetime import date, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import AccountActivity, AccountActivityKind
from tbot_core.errors import AccessError, DataError
from tbot_core.journal.events.accounts import SplitBooked
from tbot_core.model.types import MOST_SPLIT_SHARES
from tbot_core.system import filesystem, log, secure_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tbot_core.execution.engine import ExecutionEngine
    from tbot_core.execution.reconciliation import PositionDifference
    from tbot_core.trading.decision_engine import DecisionEngine

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
    lines = secure_files.read_operators_text(path, limit=_LARGEST, remedy=_remedy()).splitlines()
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


LATEST: Final = timedelta(days=5)
"""How long before a session a split of the operator's list may be, such as over a long weekend."""

_log = log.logger(__name__)


class SplitMatcher:
    """Compares differences of an account with the broker's splits, then with those of the operator's `file`."""

    def __init__(self, execution: ExecutionEngine, decision_engine: DecisionEngine, file: Path | None) -> None:
        self._execution = execution
        self._decision_engine = decision_engine
        self._file = file
        self._listed: dict[str, AccountActivity] = {}

    def add_activities(self, activities: Sequence[AccountActivity]) -> None:
        """Add the splits among the broker's account activities."""
        self._listed |= {one.activity_id: one for one in activities if one.kind == AccountActivityKind.SPLIT}

    def explain(self, difference: PositionDifference) -> bool:
        """Book the split that explains a difference, once; returns whether there is one. External shares count too."""
        for one in self._listed.values():
            fits = one.symbol == difference.symbol and difference.theirs - difference.ours == one.quantity
            if fits and difference.ours and self._is_new(one):
                self._book(one, Fraction(difference.theirs) / Fraction(difference.ours))
                return True
        return any(self._applies(one, difference) for one in self._operator_splits(difference.symbol))

    def _operator_splits(self, symbol: str) -> list[OperatorSplit]:
        # The operator's splits of a symbol in these days; an invalid file is logged and counts as empty.
        try:
            found = () if self._file is None else read_splits(self._file)
        except (AccessError, DataError) as fault:
            _log.error("splits.unreadable", reason=fault.message)
            return []
        today = self._decision_engine.position_manager.session.date
        return [one for one in found if one.symbol == symbol and today - LATEST < one.day <= today]

    def _applies(self, one: OperatorSplit, difference: PositionDifference) -> bool:
        activity = AccountActivity(
            activity_id=f"{NAME} {one.day} {one.symbol} {one.after} for {one.before}",
            kind=AccountActivityKind.SPLIT,
            time=self._execution.recorder.clock.now(),
            symbol=one.symbol,
            quantity=difference.theirs - difference.ours,
            words=f"from the operator's {NAME}, line {one.line}",
        )
        fits = difference.ours and difference.theirs * one.before == difference.ours * one.after
        if not (fits and self._is_new(activity)):
            return False
        self._book(activity, Fraction(one.after, one.before))
        return True

    def _is_new(self, activity: AccountActivity) -> bool:
        return not self._execution.recorder.journal.contains(self._source(activity))

    def _source(self, activity: AccountActivity) -> tuple[str, str, str]:
        venue = self._execution.venue
        return venue.name, venue.account_id, f"split {activity.activity_id}"

    def _book(self, activity: AccountActivity, ratio: Fraction) -> None:
        symbol, recorder = activity.symbol, self._execution.recorder
        entry = recorder.entry(SplitBooked.of(activity, ratio))
        recorder.write(attrs.evolve(entry, source=self._source(activity)))
        self._execution.frozen_instruments.freeze(symbol, f"{ratio.denominator} shares became {ratio.numerator}")
        apply_split(self._decision_engine, symbol, ratio)


def apply_split(decision_engine: DecisionEngine, symbol: str, ratio: Fraction) -> None:
    """Apply a split to the position of a symbol and to its external holding."""
    decision_engine.position_manager.apply_split(symbol, ratio)
    decision_engine.exposure.external.apply_split(symbol, ratio)
