"""The results of checks over many rows: the first reason that denies each row, and all comparisons of one. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import numpy as np

from tbot_core.model.bars import Index
from tbot_core.model.reasons import REASON_BY_CODE, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.contracts import Check
    from tbot_core.model.bars import Array, Flags

FilterCheck: TypeAlias = "tuple[str, Check]"
"""A check with the name of the plugin that compares: a filter, or the strategy itself."""

ALLOWED_CODE: Final = int(Reason.ALLOWED)
"""The number of ALLOWED as a plain one, with which numpy compares four times faster."""

_QUOTED: Final = frozenset({Reason.SCREEN_DENIED, Reason.SCREEN_UNKNOWN, Reason.FILTER_DENIED, Reason.FILTER_UNKNOWN})


@attrs.frozen(kw_only=True)
class CheckResult:
    """The comparison of one check for one row; `reason` is ALLOWED if it passed.

    `plugin` and `words` say which plugin denied and why, for the reasons that leave that to a plugin; else "".
    `applies` is false for a fund that passes because the comparison does not apply to funds.
    """

    check: str
    value: float
    low: float | None
    high: float | None
    reason: Reason
    plugin: str = ""
    words: str = ""
    applies: bool = True


@attrs.frozen(kw_only=True, eq=False)
class Verdicts:
    """The outcome of checks over many rows: the first denying reason of each row, and the checks."""

    reasons: Index
    checks: tuple[FilterCheck, ...]
    missing_rejects: bool

    def findings(self, row: int) -> list[CheckResult]:
        """All comparisons of one row, in order; `row` is a flat index."""
        shape = self.reasons.shape
        return [_finding(one, row, shape, missing_rejects=self.missing_rejects) for one in self.checks]


def denial_counts(reasons: Index) -> dict[str, int]:
    """How many of these results of checks each reason denied, by its name."""
    counts = Counter(reasons.ravel().tolist())
    return {REASON_BY_CODE[code].name: count for code, count in counts.items() if code}


def unknown_flags(check: Check) -> Flags:
    """The values that are unknown to a check, of rows to which it applies; they broadcast to the rows."""
    unknown: Flags = np.isnan(check.value)
    return unknown if check.funds is None else unknown & ~check.funds


def passed_unknown(verdicts: Verdicts) -> dict[str, Flags]:
    """The allowed rows whose value was unknown to a check, by its reason; none where that is denied."""
    found: dict[str, Flags] = {}
    allowed = verdicts.reasons == ALLOWED_CODE
    for _, check in verdicts.checks:
        unknown = allowed & unknown_flags(check)
        if unknown.any():  # what a check requires, or FILTER_MISSING_DATA rejects, is not allowed
            found[check.unknown.name] = found.get(check.unknown.name, False) | unknown
    return found


def apply_checks(reasons: Index, checks: Sequence[FilterCheck], *, missing_rejects: bool) -> Verdicts:
    """Give the rows that a check denies its reason, in place; a row keeps the first one."""
    for _, check in checks:
        unknown, below, above = _outcome(check, missing_rejects=missing_rejects)
        deny(reasons, unknown, check.unknown)
        deny(reasons, below, check.below)
        deny(reasons, above, check.above)
    return Verdicts(reasons=reasons, checks=tuple(checks), missing_rejects=missing_rejects)


def _outcome(check: Check, *, missing_rejects: bool) -> tuple[Flags, Flags, Flags]:
    nothing = np.zeros(check.value.shape, dtype=np.bool_)
    unknown = np.isnan(check.value) if check.required or missing_rejects else nothing
    below = nothing if check.low is None else check.value < check.low
    above = nothing if check.high is None else check.value > check.high
    if check.funds is not None:
        unknown, below, above = (flags & ~check.funds for flags in (unknown, below, above))
    return unknown, below, above


def deny(reasons: Index, denied: Flags, reason: Reason) -> None:
    """Give a reason to the rows that have none, in place; `denied` broadcasts to `reasons`."""
    if denied.any():
        reasons[denied & (reasons == ALLOWED_CODE)] = reason


def _finding(owned: FilterCheck, row: int, shape: tuple[int, ...], *, missing_rejects: bool) -> CheckResult:
    name, check = owned

    def cell(values: Array | float | None) -> float | None:
        return None if values is None else float(np.broadcast_to(np.asarray(values, dtype=float), shape).flat[row])

    reason = Reason.ALLOWED
    for flags, flag_reason in zip(
        _outcome(check, missing_rejects=missing_rejects), (check.unknown, check.below, check.above), strict=True
    ):
        if reason is Reason.ALLOWED and bool(np.broadcast_to(flags, shape).flat[row]):
            reason = flag_reason
    value = cell(check.value)
    return CheckResult(
        check=check.name,
        value=np.nan if value is None else value,
        low=cell(check.low),
        high=cell(check.high),
        reason=reason,
        plugin=name if reason in _QUOTED else "",
        words=check.words if reason in _QUOTED else "",
        applies=check.funds is None or not np.broadcast_to(check.funds, shape).flat[row],
    )
