"""Writes events of ours down, then tells whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from tbot_core.journal.store import Journal, NewEvent
from tbot_core.model.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.journal.records import Payload


def _nobody(entries: Sequence[NewEvent]) -> None:
    # Nobody listens.
    pass


@attrs.define(eq=False)
class _Batch:
    # What waits to be written in one transaction; None where nothing does.
    entries: list[NewEvent] | None = None


@attrs.frozen(kw_only=True, eq=False)
class JournalRecorder:
    """A journal and the clock that stamps what enters it; `tell` is called with everything that was written.

    `broker`: whose events these are, where they are not the primary's; `tag` marks the orders that go there.
    """

    journal: Journal
    clock: Clock
    on_events: Callable[[Sequence[NewEvent]], None] = _nobody
    broker: str = ""
    tag: str = ""
    batch: _Batch = attrs.field(factory=_Batch, repr=False)
    """One for all recorders that were made of this one."""

    def write(self, *entries: NewEvent) -> None:
        """Write events down, then tell of them."""
        if self.batch.entries is not None:
            self.batch.entries += entries
            return
        self.journal.append(entries)
        self.on_events(entries)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is written meanwhile is one transaction, and told of when it is durable: all of it, or nothing."""
        entries: list[NewEvent] = []
        self.batch.entries = entries
        try:
            yield
        finally:
            self.batch.entries = None
        self.write(*entries)

    def entry(self, kind: str, payload: Payload, cid: str | None = None) -> NewEvent:
        """An event of ours, stamped now."""
        whose = {"broker": self.broker} if self.broker else {}
        return NewEvent(kind=kind, payload=payload | whose, time=self.clock.now(), cid=cid)

    def record(self, kind: str, payload: Payload) -> None:
        """Write one event down."""
        self.write(self.entry(kind, payload))
