"""The seeds that once found something, kept for ever: they are lived through before any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

FAILED: Final[Mapping[int, str]] = {
    12: "a position that somebody else closed, held for one without a way out",
    25: "a share filled beyond its order, of which nobody spoke any more",
    130: "executions of two venues under one id, held for one",
    170: "a stop that went on resting until the next minute where somebody had sold all shares",
    172: "a bust of an id that two executions bore, counted against the wrong one",
    277: "an entry whose only fill nobody told, at a venue that lists nothing",
    319: "a stop that was over while shares that had been sold too much were still being bought back",
    423: "a way that broke before the bell, forgotten at the bell by whoever read the journal",
    535: "the second execution under one id, told before the first and booked twice",
    712: "an exit whose last fill nobody told, and shares that were called foreign",
    881: "an entry without a fill in a cash account, given up as lost",
    1573: "a split that rounded each lot, and left the ledger a millionth of a share short",
    2947: "two executions at one price under one id, the second told first and booked in place of both",
    4600: "a split at one broker, which doubled what the journal adds up to at another",
    4611: "a disarming that was written down, and forgotten by a crash before it was obeyed",
    4883: "a cancel of a stop for too much that got lost, and was not asked for again",
    5987: "an execution that was void before it was told, and booked by the ledger",
    6095: "a sale of what was void, bought back and held for an exit of nothing",
    7553: "a stop that was refused before the fill of its entry was told, and thought to rest",
    7737: "the fill of an entry, told after its stop had sold it, and sold once more",
    9164: "what a stop had sold too much and nobody told, called somebody else's",
    20099: "a fill that was taken back of an entry at work and made anew, counted twice by its judge",
}
"""What each of them found."""

FAILED_UNDER: Final[Mapping[int, tuple[str, ...]]] = {
    120: ("F29", "F32"),  # a stop that filled for more than a bust had left, and what was left sold minute by minute
    131: ("F28", "F29"),  # what took back too much: a fill of it that was void, and a share beyond it
    950: ("F10", "F28", "F29", "F30"),  # a correction of one of two executions under one id, booked on neither
}
"""Those that found something with these faults alone."""
