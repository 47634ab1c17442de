"""A run: sessions one after the other, in a journal of its own, resumed where it was interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import attrs

from tbot_core import records
from tbot_core.assembly import Assembly, feed_source
from tbot_core.clock import Clock, ManualClock
from tbot_core.contracts import Broker, Feed, FeedRequest, RunInfo
from tbot_core.errors import JournalError
from tbot_core.execution import Venue
from tbot_core.journal import Entry, Journal, open_journal
from tbot_core.model import atoms_of, dollars_of
from tbot_core.orders import Naming
from tbot_core.plugins.observers import Observers
from tbot_core.projection import Book, fold
from tbot_core.runner.session import SessionRun, Trading
from tbot_core.seams import chance, disk, log
from tbot_core.summary import Summary

if TYPE_CHECKING:
    from datetime import date, datetime
    from decimal import Decimal
    from pathlib import Path

_log = log.logger(__name__)


@attrs.frozen(kw_only=True, eq=False)
class Watcher:
    """Whoever looks on: `started` before the first session, `minute` after each, `wrote` after each append."""

    started: Callable[[Feed, Book], None] = lambda _feed, _book: None
    minute: Callable[[SessionRun, int], None] = lambda _session, _minute: None
    wrote: Callable[[Sequence[Entry]], None] = lambda _entries: None


@attrs.frozen(kw_only=True, eq=False)
class Plan:
    """What is to be run: the assembly, the feed that is wanted, and the pace.

    `pace`: exchange seconds a wall-clock second; None: as fast as it goes. `wall` waits for it.
    """

    assembly: Assembly
    request: FeedRequest
    wall: Clock
    pace: float | None = None


async def run(plan: Plan, watcher: Watcher) -> tuple[Summary, Path]:
    """Run simulated sessions or a replay to their end; returns the summary and the journal's path.

    A run of the same id that was interrupted is resumed from its last closed session: the interrupted one is repeated
    and must say again what it said. Raises AccessError when another process holds the instance.
    """
    settings = plan.assembly.settings
    with disk.hold(settings.instance.lock):
        broker = plan.assembly.broker()
        feed = feed_source(broker, "paper").feed(plan.request)
        identity = run_id(plan, feed)
        disk.make_folder(settings.instance.runs)
        journal, book = resume(settings.instance.runs / f"{identity}.sqlite")
        try:
            final = await _Run(plan, watcher, (broker, feed), journal, identity).go(book)
        finally:
            journal.close()
            await broker.close()
    return summarise(final, feed, plan.assembly), journal.path


class _Run:
    """The run while it lasts."""

    def __init__(
        self, plan: Plan, watcher: Watcher, market: tuple[Broker, Feed], journal: Journal, identity: str
    ) -> None:
        self._plan = plan
        self._watcher = watcher
        self._broker, self._feed = market
        self._journal = journal
        self._identity = identity
        self._clock = ManualClock(plan.wall.now())
        self._last: datetime | None = None
        assembly = plan.assembly
        self._observers = Observers(
            assembly.loader, assembly.loaded, clock=plan.wall, report=lambda failure: _log.error(failure.sentence)
        )

    async def go(self, book: Book) -> Book:
        """Trade the sessions that the journal does not hold yet."""
        settings = self._plan.assembly.settings
        account = await self._broker.connect()
        done = {day for day, _ in book.equity_curve}
        equity = book.equity_curve[-1][1] if book.equity_curve else account.equity
        self._watcher.started(self._feed, book)
        naming = Naming(install_id=install_id(settings.instance.data), identity="", account_id=account.account_id)
        trading = self._trading(Venue(broker=self._broker, name="paper", account_id=account.account_id), naming)
        info = RunInfo(run_id=self._identity, mode=settings.mode, label=self._feed.label)
        self._observers.started(info)
        async for source in self._feed.sessions():
            if source.session.date.isoformat() in done:
                continue
            if self._last is None:
                self._start(source.session.open)
                if not book.run:
                    trading.journal.append([self._entry(records.RUN_STARTED, self._opening(equity))])
            entrants = self._plan.assembly.entrants(source.session)
            session = SessionRun(trading, source, entrants, atoms_of(equity))
            await session.trade()
            equity = dollars_of(session.desk.portfolio.equity_atoms)
        trading.journal.append([self._entry(records.RUN_FINISHED, {"equity": str(equity)})])
        final = fold(self._journal.events())
        if final.equity != equity:
            raise JournalError(
                f"The journal {self._journal.path} adds up to {final.equity}, the desk to {equity}.",
                "Keep the file and report it: one of them has lost a fill.",
            )
        self._observers.stopped(info)
        return final

    def _trading(self, venue: Venue, naming: Naming) -> Trading:
        assembly = self._plan.assembly
        return Trading(
            rules=assembly.rules(self._broker.rules),
            venue=venue,
            journal=self._journal,
            clock=self._clock,
            naming=naming,
            wait=self._wait,
            tell=self._tell,
            watch=self._watcher.minute,
            checks=assembly.checks,
        )

    def _tell(self, entries: Sequence[Entry]) -> None:
        self._watcher.wrote(entries)
        for entry in entries:
            self._observers.event({"kind": entry.kind, "cid": entry.cid, "payload": entry.payload})

    def _start(self, moment: datetime) -> None:
        """Set the run's clock to its first bell: whatever is written says exchange time, not wall time."""
        self._clock = ManualClock(moment)
        self._last = moment

    async def _wait(self, moment: datetime) -> None:
        if self._plan.pace is not None and self._last is not None and moment.date() == self._last.date():
            await self._plan.wall.sleep((moment - self._last).total_seconds() / self._plan.pace)
        else:
            await asyncio.sleep(0)  # gives an interrupt its turn
        self._clock.advance_to(moment)
        self._last = moment

    def _entry(self, kind: str, payload: dict[str, Any]) -> Entry:
        return Entry(kind=kind, payload=payload, time=self._clock.now())

    def _opening(self, equity: Decimal) -> dict[str, Any]:
        settings, label = self._plan.assembly.settings, self._feed.label
        return {
            "run_id": self._identity,
            "mode": settings.mode,
            "equity": str(equity),
            "settings_hash": settings.fingerprint,
            "data_hash": label.data_hash,
            "source": label.name,
            "simulated": label.simulated,
            "notes": [*label.notes, *self._plan.assembly.notes],
            "request": request_document(self._plan.request),
        }


def run_id(plan: Plan, feed: Feed) -> str:
    """The hash of mode, settings, data, range, symbols and seed: 16 hex digits."""
    settings = plan.assembly.settings
    parts = (settings.mode, settings.fingerprint, feed.label.data_hash, repr(request_document(plan.request)))
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def request_document(request: FeedRequest) -> dict[str, Any]:
    """What was asked of the feed, for the journal."""

    def text(day: date | None) -> str | None:
        return None if day is None else day.isoformat()

    return {
        "kind": request.kind,
        "first": text(request.first),
        "last": text(request.last),
        "symbols": list(request.symbols),
        "sessions": request.sessions,
        "seed": request.seed,
    }


def resume(path: Path) -> tuple[Journal, Book]:
    """The run's journal, and the book of its closed sessions; a finished run's file is begun anew."""
    if disk.exists(path):
        journal = open_journal(path)
        if journal.last(records.RUN_FINISHED) is None:
            closed = journal.last(records.SESSION_CLOSED)
            after = closed.seq if closed is not None else 0
            book = fold(event for event in journal.events() if event.seq <= after)
            journal.expect(after)
            return journal, book
        journal.close()
        for leftover in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            if disk.exists(leftover):
                disk.remove(leftover)
    return open_journal(path), Book()


def install_id(data: Path) -> str:
    """The name of this install, made once and kept: it marks our orders at a broker."""
    path = data / "install.id"
    if not disk.exists(path):
        disk.make_folder(data)
        disk.write_atomic(path, f"{chance.token(16)}\n".encode())
    return disk.read_text(path).strip()


def summarise(book: Book, feed: Feed, assembly: Assembly) -> Summary:
    """The run's result from its journal."""
    return Summary(
        mode=assembly.settings.mode,
        sessions=book.sessions,
        symbols=book.symbols,
        equity_start=book.equity_start,
        equity_end=book.equity,
        trades=tuple(book.trades),
        denials=book.denials,
        settings_hash=assembly.settings.fingerprint,
        data_hash=feed.label.data_hash,
        notes=(*feed.label.notes, *assembly.notes),
    )
