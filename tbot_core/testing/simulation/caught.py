"""Where each mutant was noticed; written by `python tools/mutants.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Caught(NamedTuple):
    """The seed at which a mutant was noticed, and by what: an invariant, or the name of an exception."""

    seed: int
    by: str


CAUGHT: Final[Mapping[str, Caught]] = {
    "second-barrier-left-out": Caught(5, "I2"),
    "sent-before-it-is-written": Caught(7, "KeyError"),
    "appended-before-it-is-durable": Caught(5, "JournalError"),
    "kill-never-seen": Caught(58, "I7"),
    "exit-only-never-imposed": Caught(19, "I8"),
    "time-out-read-as-refused": Caught(8, "I12"),
    "time-out-read-as-never-sent": Caught(6, "ValueError"),
    "sent-again-under-a-new-id": Caught(0, "I1"),
    "silent-cancel-read-as-done": Caught(60, "I12"),
    "not-found-read-as-rejected": Caught(111, "I12"),
    "doubt-never-looked-up": Caught(0, "SETTLED"),
    "doubt-ended-by-the-clock": Caught(330, "I12"),
    "keys-written-as-they-are-quoted": Caught(16, "I17"),
    "fills-known-by-their-event": Caught(5, "BOOKED"),
    "executions-thought-unique": Caught(13, "I4"),
    "events-taken-twice": Caught(5, "JournalError"),
    "supposed-fill-kept-beside-named-ones": Caught(37, "I4"),
    "cumulative-quantity-ignored": Caught(37, "SETTLED"),
    "attempt-left-out-of-the-id": Caught(5, "JournalError"),
    "doubt-frees-what-it-reserved": Caught(19, "I9"),
    "lost-entry-frees-what-it-reserved": Caught(143, "I9"),
    "symbol-entered-again-while-one-is-out": Caught(14, "I9"),
    "busts-not-taken-in": Caught(39, "I4"),
    "payments-booked-each-time": Caught(4, "I20"),
    "exit-beside-what-rests": Caught(8, "I12"),
    "named-execution-counts-in-full": Caught(37, "I4"),
    "foreign-holding-forgotten": Caught(5, "I4"),
    "smaller-order-waited-for": Caught(12, "I20"),
    "doubt-cleared-without-a-reconcile": Caught(5, "I8"),
    "states-not-recalled": Caught(172, "I8"),
    "attempts-not-recalled": Caught(161, "JournalError"),
    "fills-not-recalled": Caught(13, "KeyError"),
}
"""The seeds are a corpus that the bot as it is must pass."""
