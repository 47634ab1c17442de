"""Splits: a holding that changed without a fill is explained by a split that the broker or the operator lists.

Lots, positions and levels are adjusted, the symbol is frozen until a reading agrees, and its stop is placed again.
"""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import AccountActivity, AccountActivityKind
from tbot_core.errors import AccessError, DataError
from tbot_core.execution.operator_splits import NAME, OperatorSplit, read_splits
from tbot_core.journal.events.accounts import SplitBooked
from tbot_core.system import log

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tbot_core.execution.engine import ExecutionEngine
    from tbot_core.execution.reconciliation import PositionDifference
    from tbot_core.trading.decision_engine import DecisionEngine

LATEST: Final = timedelta(days=5)
"""How long before a session a split of the operator's list may be, such as over a long weekend."""

_log = log.logger(__name__)


class SplitMatcher:
    """Compares differences of an account with the broker's splits, then with those of the operator's `file`."""

    def __init__(self, execution: ExecutionEngine, decision_engine: DecisionEngine) -> None:
        self._execution = execution
        self._decision_engine = decision_engine
        self._listed: dict[str, AccountActivity] = {}
        self.file: Path | None = None

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
            found = () if self.file is None else read_splits(self.file)
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
