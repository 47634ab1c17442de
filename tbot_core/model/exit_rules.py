"""When the positions of a strategy are closed, besides their stop and target."""

from __future__ import annotations

from typing import Literal

import attrs


@attrs.frozen(kw_only=True)
class ExitRules:
    """How the positions of a strategy end, besides their stop and target.

    `trigger`: the stop acts within a bar, or on its close. `trailing`: the stop trails at its initial distance.
    `leave`: the minute after the open at which the exit order is sent. `hold`: the number of minutes after the fill
    bar. With both, the earlier applies.
    """

    trigger: Literal["intrabar", "close"] = "intrabar"
    trailing: bool = False
    leave: int | None = None
    hold: int | None = None

    def time_exit(self, entered: int) -> int | None:
        """The minute after the open at which the exit order is sent, for a fill in minute `entered`; None without."""
        due = [*([] if self.leave is None else [self.leave]), *([] if self.hold is None else [entered + self.hold])]
        return min(due, default=None)
