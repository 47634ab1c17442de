"""Where each mutant was noticed; written by `python tools/mutants.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Caught(NamedTuple):
    """The seed at which a mutant was noticed, and by which invariant; ALIVE: only by an error that the bot died of."""

    seed: int
    by: str


CAUGHT: Final[Mapping[str, Caught]] = {
    "second-barrier-left-out": Caught(6, "I2"),
    "sent-before-it-is-written": Caught(6, "I4"),
    "appended-before-it-is-durable": Caught(5, "I14"),
    "kill-never-seen": Caught(58, "I7"),
    "exit-only-never-imposed": Caught(19, "I8"),
    "time-out-read-as-refused": Caught(1, "I9"),
    "time-out-read-as-never-sent": Caught(6, "I16"),
    "sent-again-under-the-same-id": Caught(36, "I1"),
    "sent-again-under-a-new-id": Caught(0, "I12"),
    "silent-cancel-read-as-done": Caught(60, "I9"),
    "refused-cancel-read-as-done": Caught(19, "I9"),
    "not-found-read-as-rejected": Caught(1, "I9"),
    "doubt-never-looked-up": Caught(28, "I6"),
    "doubt-ended-by-the-clock": Caught(330, "I12"),
    "keys-written-as-they-are-quoted": Caught(30, "I17"),
    "fills-known-by-their-event": Caught(6, "BOOKED"),
    "events-taken-twice": Caught(6, "ALIVE"),
    "late-fill-dropped": Caught(343, "I4"),
    "attempt-left-out-of-the-id": Caught(1, "ALIVE"),
    "refusal-of-a-working-order-believed": Caught(3, "I11"),
    "doubt-frees-what-it-reserved": Caught(19, "I6"),
    "lost-entry-frees-what-it-reserved": Caught(26, "I6"),
    "working-entries-not-counted": Caught(1, "I6"),
    "symbol-entered-again-while-one-is-out": Caught(14, "I9"),
    "frozen-instruments-traded-all-the-same": Caught(1, "I8"),
    "busts-not-taken-in": Caught(405, "I4"),
    "payments-booked-each-time": Caught(6, "STATEMENT"),
    "loss-latch-in-memory-only": Caught(191, "LATCH"),
    "loss-latch-not-obeyed": Caught(8, "I8"),
    "named-execution-counts-in-full": Caught(62, "I4"),
    "one-reading-believed": Caught(28, "I6"),
    "foreign-holding-forgotten": Caught(5, "I4"),
    "absent-order-read-as-cancelled": Caught(1, "I9"),
    "smaller-order-waited-for": Caught(12, "SETTLED"),
    "doubt-cleared-without-a-reconcile": Caught(5, "I8"),
    "states-not-recalled": Caught(1, "I8"),
    "sending-orders-dropped-on-restart": Caught(8, "I9"),
    "sending-orders-sent-again-on-restart": Caught(74, "I1"),
    "fills-not-recalled": Caught(436, "I4"),
    "exit-for-all-that-was-entered": Caught(1, "I12"),
    "stop-for-all-that-was-entered": Caught(15, "I12"),
    "ended-stop-forgotten": Caught(0, "I6"),
    "orphan-protection-left": Caught(12, "I6"),
    "exit-beside-what-rests": Caught(0, "I6"),
    "exit-each-minute-anew": Caught(23, "I12"),
    "waiting-exit-keeps-the-stop-away": Caught(1233, "I6"),
    "exit-beside-a-target": Caught(6, "I6"),
    "lease-not-looked-at": Caught(38, "I13"),
    "lease-not-written-down": Caught(423, "I13"),
    "entries-move-though-orders-are-out": Caught(38, "I13"),
    "confirmation-skipped": Caught(9, "I8"),
    "confirmation-expiry-ignored": Caught(70, "I8"),
    "rejection-read-as-confirmation": Caught(17, "I8"),
    "arming-not-asked-for": Caught(7, "I8"),
    "arming-survives-every-restart": Caught(30, "I8"),
    "disarming-forgotten": Caught(68, "I8"),
    "clock-jump-ignored": Caught(66, "I8"),
    "statement-not-compared": Caught(0, "STATEMENT"),
    "absent-order-not-asked-for": Caught(10, "SETTLED"),
    "foreign-orders-cancelled": Caught(6, "I2"),
    "cancels-wait-with-the-readings": Caught(26, "I18"),
    "old-entries-in-doubt-kept": Caught(1, "SETTLED"),
    "old-entries-kept": Caught(1, "SETTLED"),
    "daily-loss-never-latched": Caught(15, "LATCHED"),
    "window-loss-never-latched": Caught(59, "LOSING"),
    "losses-in-a-row-not-counted": Caught(23, "LOSING"),
    "exposure-in-a-symbol-ignored": Caught(2, "I3"),
    "exposure-in-an-index-ignored": Caught(23, "I3"),
}
"""The seeds are a corpus that the bot as it is must pass."""
