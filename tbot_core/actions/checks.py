"""Checks of an instance before it trades."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.model.formatting import plural

if TYPE_CHECKING:
    from collections.abc import Sequence


def check_outcome(levels: Sequence[str]) -> str:
    """The result of `tbot check` in one sentence, from the levels of its rows."""
    counts = f"{levels.count('ok')} ok, {plural(levels.count('warn'), 'warning')}"
    failed = levels.count("fail")
    return (
        f"`tbot check` failed: {plural(failed, 'failure')}, {counts}." if failed else f"`tbot check` passed: {counts}."
    )
