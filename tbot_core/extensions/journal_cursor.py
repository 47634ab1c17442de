"""A journal as one extension follows it: read-only, in order, from the position that it confirmed.

Its closed trades follow the changes that brokers make to them later.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from datetime import date
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import ClosedTrade, JournalEntry
from tbot_core.journal import records
from tbot_core.journal.projections.book import SessionBook
from tbot_core.journal.store import Event, Journal, read_journal
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tbot_core.extensions.progress import ProgressFile
    from tbot_core.journal.projection import JournalEvent

EVERY_S: Final = 1.0
"""How often the journal is read for new events."""

BATCH: Final = 100
"""The number of events that are read at once, so that a long journal does not block the loop."""


@attrs.define(kw_only=True)
class ClosedTrades:
    """The closed trades of the current session; `changed`: those that the last event closed, corrected or cancelled."""

    changed: tuple[ClosedTrade, ...] = ()
    _book: SessionBook = attrs.field(factory=SessionBook)
    _known: dict[str, ClosedTrade] = attrs.field(factory=dict)

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event."""
        self._book.apply(event)
        self.changed = ()
        if event.kind in {records.RUN_STARTED, records.SESSION_OPENED}:
            self._known = {}
        elif "execution_id" in event.payload:  # a fill, its correction, or an adjustment
            self.changed = self._compare()

    def _compare(self) -> tuple[ClosedTrade, ...]:
        before, self._known = self._known, self._closed()
        gone = [attrs.evolve(one, cancelled=True) for key, one in before.items() if key not in self._known]
        return (*gone, *(one for key, one in self._known.items() if before.get(key) != one))

    def _closed(self) -> dict[str, ClosedTrade]:
        # The closed positions of the session as trades, by id; several of one signal are numbered.
        found: dict[str, ClosedTrade] = {}
        book, times, accounts = self._book, Counter[str](), records.accounts_of(self._book.session)
        for position in book.portfolio.closed:
            signal, broker = position.signal, book.broker(position.signal)
            times[signal.text] += 1
            key = signal.text if times[signal.text] == 1 else f"{signal.text}/{times[signal.text]}"
            found[key] = ClosedTrade(
                id=key,
                trade=position.to_trade(broker),
                session=date.fromisoformat(book.session["date"]),
                mode=str(book.run.get("mode", "")).lower(),
                identity=str(book.run.get("identity", "")),
                account=accounts.get(broker) or accounts.get("", ""),
            )
        return found


class FollowedJournal:
    """The `JournalCursor` of one call of `start`; `on_caught_up` is called when every event was given."""

    def __init__(
        self, path: Path, progress: ProgressFile, *, every_s: float = EVERY_S, on_caught_up: Callable[[], None]
    ) -> None:
        self._path = path
        self._progress = progress
        self._every_s = every_s
        self._on_caught_up = on_caught_up
        self._journal: Journal | None = None
        self._trades = ClosedTrades()
        self._waiting = deque["Event"]()
        self._read = 0
        self._given = 0
        self._ended = asyncio.Event()
        self._confirming = asyncio.Lock()
        self.used = False

    @property
    def at_end(self) -> bool:
        """Whether the journal holds no event after the one that was given last."""
        return not self._waiting

    def __aiter__(self) -> AsyncIterator[JournalEntry]:
        """Iterate over the events."""
        self.used = True
        return self

    async def __anext__(self) -> JournalEntry:
        """Wait for the next event."""
        await asyncio.sleep(0)  # an extension that waits for nothing must not hold the loop
        while not self._waiting:
            ending = self._ended.is_set()
            await self._fill()
            if self._waiting:
                break
            self._on_caught_up()
            if ending:
                raise StopAsyncIteration
            await self.wait_for_end(self._every_s)
        event = self._waiting.popleft()
        if not self._waiting:
            await self._fill()
        self._trades.apply(event)
        self._given = event.seq
        return JournalEntry(
            seq=event.seq,
            kind=event.kind,
            time=event.applied,
            payload=MappingProxyType(dict(event.payload)),
            cid=event.cid,
            trades=self._trades.changed,
        )

    async def confirm(self, entry: JournalEntry) -> None:
        """Store the position durably."""
        async with self._confirming:
            if entry.seq <= self._progress.state.seq:
                return
            if self._journal is None or entry.seq > self._given:
                message = f"event {entry.seq} was not given to the {self._progress.state.title}"
                raise ValueError(message)
            event = next(self._journal.events(entry.seq - 1))
            state = attrs.evolve(self._progress.state, seq=event.seq, hash=event.hash)
            await asyncio.to_thread(self._progress.write, state)  # seam: a slow disk must not delay an order

    def end(self) -> None:
        """End the iteration after the events that are recorded by now."""
        self._ended.set()

    async def wait_for_end(self, seconds: float) -> bool:
        """Wait so long, but not beyond the end; whether it has come."""
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()

    async def _fill(self) -> None:
        # Read the next events, if there are any; the first time also those before them that their trades depend on.
        if self._journal is None:
            if not filesystem.exists(self._path):
                return
            self._journal = read_journal(self._path)
            self._read = self._progress.state.begins_after(self._journal)
            for number, event in enumerate(_session_up_to(self._journal, self._read), 1):
                self._trades.apply(event)
                if not number % BATCH:
                    await asyncio.sleep(0)
        self._waiting.extend(islice(self._journal.events(self._read), BATCH))
        if self._waiting:
            self._read = self._waiting[-1].seq


def _session_up_to(journal: Journal, place: int) -> Iterator[Event]:
    # The start of the last run and the events of the last session, up to a place in the journal.
    started, opened = (
        next((one for one in reversed(list(journal.events(kind=kind))) if one.seq <= place), None)
        for kind in (records.RUN_STARTED, records.SESSION_OPENED)
    )
    if started is not None and (opened is None or started.seq < opened.seq):
        yield started
    for event in journal.events(place if opened is None else opened.seq - 1):
        if event.seq > place:
            return
        yield event
