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
    "second-barrier-left-out": Caught(6, "I2"),
    "sent-before-it-is-written": Caught(6, "KeyError"),
    "appended-before-it-is-durable": Caught(5, "JournalError"),
    "kill-never-seen": Caught(58, "I7"),
    "exit-only-never-imposed": Caught(19, "I8"),
    "time-out-read-as-refused": Caught(8, "I12"),
    "time-out-read-as-never-sent": Caught(6, "ValueError"),
    "sent-again-under-the-same-id": Caught(16, "I1"),
    "sent-again-under-a-new-id": Caught(0, "KeyError"),
    "silent-cancel-read-as-done": Caught(60, "I12"),
    "refused-cancel-read-as-done": Caught(8, "I9"),
    "not-found-read-as-rejected": Caught(111, "I12"),
    "doubt-ended-by-the-clock": Caught(330, "I12"),
    "keys-written-as-they-are-quoted": Caught(16, "I17"),
    "fills-known-by-their-event": Caught(6, "BOOKED"),
    "events-taken-twice": Caught(6, "JournalError"),
    "attempt-left-out-of-the-id": Caught(8, "JournalError"),
    "doubt-frees-what-it-reserved": Caught(19, "I9"),
    "symbol-entered-again-while-one-is-out": Caught(14, "I9"),
    "frozen-instruments-traded-all-the-same": Caught(1, "I8"),
    "payments-booked-each-time": Caught(6, "STATEMENT"),
    "ended-stop-forgotten": Caught(0, "I6"),
    "exit-beside-what-rests": Caught(8, "I12"),
    "foreign-holding-forgotten": Caught(5, "I4"),
    "absent-order-read-as-cancelled": Caught(1, "I9"),
    "smaller-order-waited-for": Caught(12, "SETTLED"),
    "doubt-cleared-without-a-reconcile": Caught(5, "I8"),
    "sending-orders-dropped-on-restart": Caught(2, "I9"),
    "confirmation-skipped": Caught(9, "I8"),
    "confirmation-expiry-ignored": Caught(70, "I8"),
    "rejection-read-as-confirmation": Caught(17, "I8"),
    "arming-not-asked-for": Caught(7, "I8"),
    "arming-survives-every-restart": Caught(30, "I8"),
    "disarming-forgotten": Caught(68, "I8"),
    "clock-jump-ignored": Caught(66, "I8"),
    "listed-executions-ignored": Caught(277, "BOOKED"),
    "absent-order-not-asked-for": Caught(10, "SETTLED"),
    "foreign-orders-cancelled": Caught(6, "I2"),
}
"""The seeds are a corpus that the bot as it is must pass."""
