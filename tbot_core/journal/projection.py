"""What a projection of the journal is, and how events are applied to several of them in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tbot_core.errors import JournalError
from tbot_core.journal import codec
from tbot_core.journal.codec import EventFacts
from tbot_core.journal.events import class_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime


F = TypeVar("F", bound=EventFacts)


class JournalEvent(Protocol):
    """An event of a journal, or one that is about to be written."""

    @property
    def kind(self) -> str:
        """Its kind: one of `tbot_core.journal.records`, or a broker's event kind."""

    @property
    def cid(self) -> str | None:
        """The client order id it belongs to."""

    @property
    def payload(self) -> Mapping[str, Any]:
        """Its content."""

    @property
    def applied(self) -> datetime:
        """When it was applied."""

    @property
    def broker(self) -> str:
        """The broker whose account it belongs to, empty for the primary."""

    def facts(self, of: type[F]) -> F:
        """What the payload says, as the class of the event's kind; `of`: that class, or a base of it."""


class TypedEvent:
    """The base of events: a fact is read at most once, however many follow the journal."""

    __slots__ = ("_facts",)

    @property
    def broker(self: JournalEvent) -> str:
        """The broker whose account it belongs to, empty for the primary."""
        return self.payload.get("broker", "")  # type: ignore[no-any-return]  # a text

    def facts(self: JournalEvent, of: type[F]) -> F:
        """What the payload says, as the class of the event's kind; `of`: that class, or a base of it.

        A fact is read at its first use, which raises JournalError where it cannot be read.
        """
        facts: EventFacts | None = getattr(self, "_facts", None)
        if facts is None:
            facts = codec.view(class_of(self.kind), self.payload)
            object.__setattr__(self, "_facts", facts)  # events are frozen
        if not isinstance(facts, of):
            raise TypeError(f"an event of kind {self.kind} is no {of.__name__}")
        return facts


class Projection(Protocol):
    """A state that is computed from events alone: the same events in the same order give the same state."""

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event; kinds that do not matter here change nothing."""


P = TypeVar("P", bound=Projection)


def project(events: Iterable[JournalEvent], *projections: Projection) -> None:
    """Apply the events, in order, to every projection.

    Raises JournalError for one with a figure that cannot be computed with.
    """
    at: JournalEvent | None = None
    try:
        for at in events:
            for projection in projections:
                projection.apply(at)
    except ArithmeticError as fault:
        raise _uncomputable(at, fault) from fault


def _uncomputable(event: JournalEvent | None, fault: ArithmeticError) -> JournalError:
    # The error for an event with a figure that cannot be computed with, as an older version may have booked it.
    place = "" if event is None else f" {getattr(event, 'seq', '')} ({event.kind})"
    return JournalError(
        f"The journal's event{place} has a figure that cannot be computed with: {type(fault).__name__}.",
        "Restore a backup from before that event. Orders that only the newer journal knows then count as external.",
    )


def fold(events: Iterable[JournalEvent], projection: P) -> P:
    """Apply the events to one projection, and return it."""
    project(events, projection)
    return projection
