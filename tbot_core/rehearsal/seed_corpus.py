"""Seeds that found a fault once; they are rehearsed before all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

FAILED: Final[Mapping[int, str]] = {
    12: "a position that was closed externally, taken for an unprotected one",
    25: "an overfilled share that was not reported any more",
    130: "executions of two venues with one id, taken for one",
    170: "a stop that rested until the next minute after all shares were sold externally",
    172: "a bust of an id of two executions, booked for the wrong one",
    277: "an entry whose only fill was not reported, at a venue that lists nothing",
    319: "a stop that had ended while an oversold quantity was still being bought back",
    423: "a connection that broke before the open, forgotten at the open by readers of the journal",
    535: "the second execution of one id, reported before the first and booked twice",
    712: "an exit whose last fill was not reported, and shares taken for external",
    881: "an entry without a fill in a cash account, marked as lost",
    968: "a rejected order that works at the broker, no longer reserved",
    1573: "a split that rounded each lot, so that the ledger lacked a millionth of a share",
    2947: "two executions of one id and price, the second reported first and booked for both",
    4600: "a split at one broker that doubled the journal's holding at another",
    4611: "a journaled disarming that was forgotten by a crash before it took effect",
    4883: "a lost cancel of an oversized stop that was not requested again",
    5987: "an execution that was void before it was reported, and booked by the ledger",
    6095: "a void sale that was bought back and taken for an exit of nothing",
    7553: "a stop rejected before the fill of its entry was reported, taken for resting",
    7737: "an entry's fill reported after its stop had sold it, and sold again",
    9164: "an unreported oversold quantity of a stop, taken for external",
    11075: "an overfill under the id of the order's other execution, taken for external",
    11416: "a stop whose replace was refused while no minute closed, taken for forgotten by its invariant",
    20099: "a busted fill of a working entry, filled again and counted twice by its invariant",
    51062: "a stop whose predecessor had filled, not enlarged for what the entry filled afterwards",
}
"""The fault that each seed found."""

FAILED_UNDER: Final[Mapping[int, tuple[str, ...]]] = {
    120: ("F29", "F32"),  # a stop filled for more than a bust had left, and the rest was sold minute by minute
    131: ("F28", "F29"),  # a reversal that was too large: one of its fills was void, and it overfilled by a share
    950: ("F10", "F28", "F29", "F30"),  # a correction of one of two executions of one id, booked for neither
}
"""Seeds that found a fault only with exactly these faults on."""
