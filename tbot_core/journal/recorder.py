"""Writes events to the journal, then notifies the listener."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from tbot_core.journal import codec
from tbot_core.journal.store import Journal, NewEvent
from tbot_core.model.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.journal.codec import EventFacts


def _ignore(entries: Sequence[NewEvent]) -> None:
    # No listener.
    pass


@attrs.define(eq=False)
class _Batch:
    # Entries of the open transaction; None outside one.
    entries: list[NewEvent] | None = None


@attrs.frozen(kw_only=True, eq=False)
class JournalRecorder:
    """A journal and the clock that stamps its events; `on_events` is called with everything that was written.

    `broker`: the broker that the events belong to, empty for the primary. `tag`: marks the orders sent to it.
    """

    journal: Journal
    clock: Clock
    on_events: Callable[[Sequence[NewEvent]], None] = _ignore
    broker: str = ""
    tag: str = ""
    batch: _Batch = attrs.field(factory=_Batch, repr=False)
    """Shared by all recorders derived from this one."""

    def write(self, *entries: NewEvent) -> None:
        """Write events, then call `on_events`. Inside `transaction` both happen at its end."""
        if self.batch.entries is not None:
            self.batch.entries += entries
            return
        self.journal.append(entries)
        self.on_events(entries)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all events of the block in one transaction, and notify after it is durable."""
        entries: list[NewEvent] = []
        self.batch.entries = entries
        try:
            yield
        finally:
            self.batch.entries = None
        self.write(*entries)

    def entry(self, facts: EventFacts, cid: str | None = None) -> NewEvent:
        """Return a new event, stamped with the current time."""
        source = {"broker": self.broker} if self.broker else {}
        return NewEvent(kind=facts.kind, payload=codec.write(facts) | source, time=self.clock.now(), cid=cid)

    def record(self, facts: EventFacts) -> None:
        """Write one event."""
        self.write(self.entry(facts))
