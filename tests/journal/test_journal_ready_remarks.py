"""The remarks of READY: signals that a session will not trade, and what changes it."""

from __future__ import annotations

from typing import Any

import pytest

from tbot_core.journal import codec
from tbot_core.journal.events.sessions import Ready
from tbot_core.journal.projections.ready_remarks import ready_remarks

VIX = {"vix_unknown": {"day": "2026-11-27", "strategies": ["close"]}}
UNKNOWN = (
    "VIX close of 2026-11-27 unknown: no entries by close. `tbot data download vix` and a new start supply it, or "
    "DATA_SOURCE with the VIX"
)


def denied(sessions: int, *strategies: tuple[str, str, int]) -> dict[str, Any]:
    """Denied short signals by strategy and value of SHORT_TYPE."""
    named = [{"strategy": name, "short_type": word, "denied": count} for name, word, count in strategies]
    return {"shorts_denied": {"sessions": sessions, "strategies": named}}


@pytest.mark.parametrize(
    ("payload", "remarks"),
    [
        ({}, []),
        (VIX, [f"{UNKNOWN}."]),
        (VIX | {"mode": "live"}, [f"{UNKNOWN}, or VIX_SOURCE=live."]),
        (VIX | {"series": ["Series vix: cboe: no answer."]}, [f"{UNKNOWN}.", "Series vix: cboe: no answer."]),
        (denied(5, ("open", "InverseETF", 4), ("mid", "InverseETF", 7)),
         [("Short signals denied in the last 5 sessions: open 4, mid 7 (InverseETF is not available); see "
          "SHORT_TYPE_OPEN, SHORT_TYPE_MID.")]),
        (denied(1, ("open", "LongPut", 0), ("mid", "InverseETF", 2)),
         [("Short signals denied in the last 1 session: mid 2 (InverseETF is not available), open 0 (LongPut is not "
          "available); see SHORT_TYPE_OPEN, SHORT_TYPE_MID.")]),
        (denied(0, ("open", "InverseETF", 0)),
         ["Short signals are denied: open (InverseETF is not available); see SHORT_TYPE_OPEN."]),
        ({"not_shortable": {"NOT_SHORTABLE": ["KO"]}}, ["NOT_SHORTABLE: no short sales of 1 symbol: KO."]),
        ({"not_shortable": {"SHORTING_NOT_ALLOWED": [f"S{number}" for number in range(10)]}},
         ["SHORTING_NOT_ALLOWED: no short sales of 10 symbols: S0, S1, S2, S3, S4, S5, S6, S7 and 2 more."]),
    ],
)  # fmt: skip
def test_what_will_not_be_traded_is_said_with_what_changes_it(payload: dict[str, Any], remarks: list[str]) -> None:
    """An unknown VIX, short types that are not available, and symbols that cannot be sold short."""
    assert ready_remarks(codec.view(Ready, payload)) == remarks
