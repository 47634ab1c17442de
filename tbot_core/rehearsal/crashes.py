"""Where a simulated process may crash: its journal and its account, at a planned operation."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Protocol, cast

from tbot_core.journal import records
from tbot_core.journal.store import NewEvent, open_journal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tbot_core.contracts import Broker, BrokerCapabilities, FeedSession, LiveSession
    from tbot_core.journal.store import Journal
    from tbot_core.model.clock import Clock
    from tbot_core.trading.universe import Universe


class SimulatedCrash(BaseException):
    """The process has crashed; no code of the bot catches it."""


class AcknowledgedJournal(Protocol):
    """A journal; `acknowledged` has its head after each append that returned."""

    acknowledged: list[tuple[int, str]]

    @property
    def head(self) -> tuple[int, str]:
        """Sequence number and hash of the last event."""

    def close(self) -> None:
        """Close the file."""


class BotEnvironment(Protocol):
    """The environment of a bot: a clock, a feed, and venues by name."""

    @property
    def clock(self) -> Clock:
        """The clock."""

    def client(self, name: str) -> Broker:
        """A new client of a venue."""

    def session_feed(self) -> FeedSession | LiveSession:
        """The session's feed."""

    def universe(self) -> Universe:
        """The feed's symbols, with the facts known before the open."""


class BotConnections(Protocol):
    """A process's connections to what outlives it, its journal and its account; they decide where it may crash."""

    def journal(self, path: Path) -> AcknowledgedJournal:
        """The journal at a path."""

    def broker(self, world: BotEnvironment, name: str) -> Broker:
        """A client of a venue."""


class PlannedCrash:
    """Crashes a process at the given disk or network operation, before or after it takes effect.

    `sends` counts only the operations that send orders, the mark in the journal and the submit, and crashes the process
    at that one if it comes first; 0: never.
    """

    def __init__(self, operations: int, *, after: bool, sends: int = 0) -> None:
        self._left = operations
        self._after = after
        self.sends = sends
        self.dead = False

    def pass_by(self, *, sends: bool = False) -> bool:
        """Begin an operation; returns whether the process crashes after it. Raises SimulatedCrash if before it."""
        if self.dead:
            raise SimulatedCrash
        self._left -= 1
        aimed = sends and self.sends > 0
        self.sends -= aimed
        if self._left and not (aimed and not self.sends):
            return False
        self.dead = True
        if not self._after:
            raise SimulatedCrash
        return True

    def end(self, *, dying: bool) -> None:
        """End an operation; raises SimulatedCrash if `dying`."""
        if dying:
            raise SimulatedCrash

    def journal(self, path: Path) -> AcknowledgedJournal:
        """The journal at a path, which may crash the process at an append."""
        return CrashingJournal(open_journal(path), self)

    def broker(self, world: BotEnvironment, name: str) -> Broker:
        """A client of a venue, which may crash the process at a call."""
        return cast("Broker", CrashingBroker(world.client(name), self))


class CrashingJournal:
    """A journal that may crash the process at an append; `acknowledged` has the head after each one that returned."""

    def __init__(self, journal: Journal, crash: PlannedCrash) -> None:
        self._journal = journal
        self._crash = crash
        self.acknowledged: list[tuple[int, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def append(self, entries: Sequence[NewEvent]) -> None:
        """Append, unless the process crashes before it."""
        dying = self._crash.pass_by(sends=any(entry.kind == records.SENDING for entry in entries))
        self._journal.append(entries)
        self._crash.end(dying=dying)
        self.acknowledged.append(self._journal.head)


class CrashingBroker:
    """A client that may crash the process at a call, before the request or after the answer."""

    def __init__(self, broker: Broker, crash: PlannedCrash) -> None:
        self._broker = broker
        self._crash = crash

    @property
    def capabilities(self) -> BrokerCapabilities:
        """The venue's capabilities."""
        return self._broker.capabilities

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._broker, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*args: object) -> Any:
            dying = self._crash.pass_by(sends=name == "submit")
            answer = await found(*args)
            if self._crash.dead and not dying:
                raise SimulatedCrash
            self._crash.end(dying=dying)
            return answer

        setattr(self, name, call)  # cached: the inspection is slow
        return call
