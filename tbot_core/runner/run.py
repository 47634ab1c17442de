"""A run: sessions one after the other, in a journal, resumed where it was interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core import records, report
from tbot_core.assembly import SIMULATOR, Assembly, feed_source
from tbot_core.clock import Clock, ManualClock
from tbot_core.contracts import Broker, Feed, FeedRequest, RunInfo
from tbot_core.errors import JournalError, PluginError
from tbot_core.execution import Venue
from tbot_core.journal import Entry, Journal, open_journal
from tbot_core.model import atoms_of, dollars_of
from tbot_core.orders import Naming
from tbot_core.patience import Patience
from tbot_core.plugins.observers import Observers
from tbot_core.projection import Book, fold
from tbot_core.runner import resuming
from tbot_core.runner.pacing import AsTheClockGoes, AtOnce, Pace, Scaled, Stopped
from tbot_core.runner.session import NO_INTERRUPTIONS, Interruptions, SessionRun, Trading
from tbot_core.seams import chance, disk, log
from tbot_core.summary import Summary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import date
    from decimal import Decimal

    from tbot_core.calendar import Session
    from tbot_core.contracts import FeedSession
    from tbot_core.model import Account

MANY_SESSIONS: Final = 10_000
PAPER: Final = "paper"
_log = log.logger(__name__)


@attrs.frozen(kw_only=True, eq=False)
class Watcher:
    """Whoever looks on.

    `started` before the first session, `minute` after each, `wrote` after each append, `idle` each second of a wait
    for the market, with the moment that is waited for.
    """

    started: Callable[[Feed, Book], None] = lambda _feed, _book: None
    minute: Callable[[SessionRun, int], None] = lambda _session, _minute: None
    wrote: Callable[[Sequence[Entry]], None] = lambda _entries: None
    idle: Callable[[datetime], None] = lambda _moment: None


@attrs.frozen(kw_only=True, eq=False)
class Plan:
    """What is to be run: the assembly, the feed that is wanted, and the pace.

    `pace`: exchange seconds a wall-clock second; None: as fast as it goes. `wall` waits for it; paper trading goes by
    `wall` itself. `once` ends paper trading with the session. Set `stop` to end the run after the minute at hand.
    """

    assembly: Assembly
    request: FeedRequest
    wall: Clock
    pace: float | None = None
    once: bool = False
    stop: asyncio.Event = attrs.field(factory=asyncio.Event)


@attrs.frozen(kw_only=True)
class Outcome:
    """How a run ended: its summary, its journal, and what is still open when it was `stopped`."""

    summary: Summary
    journal: Path
    stopped: bool = False
    open: tuple[str, ...] = ()


async def run(plan: Plan, watcher: Watcher) -> Outcome:
    """Run simulated sessions, a replay, or paper trading day after day, to the end or until it is stopped.

    A run that was interrupted is resumed from its last closed session: the interrupted one is repeated and must say
    again what it said. The caller holds the instance's lock.
    """
    plan.assembly.record()
    paper = plan.assembly.settings.mode == PAPER
    course = _paper(plan, watcher) if paper else _simulation(plan)
    try:
        return await _Run(plan, watcher, course).go()
    finally:
        course.journal.close()
        await course.broker.close()


@attrs.frozen(kw_only=True, eq=False)
class _Course:
    """What a run goes through: the account, the bars, the journal with the book of what is done, and the pace."""

    broker: Broker
    feed: Feed
    journal: Journal
    book: Book
    identity: str
    pace: Pace
    pending: resuming.Pending | None = None


def _simulation(plan: Plan) -> _Course:
    broker = plan.assembly.broker()
    feed = feed_source(broker, SIMULATOR).feed(plan.request)
    identity = run_id(plan, feed)
    runs = plan.assembly.settings.instance.runs
    disk.make_folder(runs)
    journal, book = resuming.resume(runs / f"{identity}.sqlite", plan.assembly.identity)
    pace: Pace = AtOnce(stop=plan.stop)
    if plan.pace is not None:
        pace = Scaled(stop=plan.stop, wall=plan.wall, rate=plan.pace)
    return _Course(broker=broker, feed=feed, journal=journal, book=book, identity=identity, pace=pace)


def _paper(plan: Plan, watcher: Watcher) -> _Course:
    settings = plan.assembly.settings
    name = settings.trading.broker_name
    broker: Broker = plan.assembly.broker(name)
    if not broker.rules.simulated:
        message = f"The broker {name} fills at a market of its own, which this version does not trade at."
        raise PluginError(message, "Set BROKER_NAME=PAPER.")
    source = settings.trading.data_source or name
    disk.make_folder(settings.instance.data)
    journal = open_journal(settings.instance.journal)
    try:
        journal.check()
        found = resuming.pending(journal)
        request = attrs.evolve(
            plan.request, sessions=MANY_SESSIONS, first=None if found is None else found.session.date
        )
        server = broker if source == name else plan.assembly.broker(source)
        feed = feed_source(server, source).feed(request)
        if found is not None:
            resuming.same(found, settings.fingerprint, plan.assembly.identity)
            resuming.repeat(journal, found, plan.wall.now())
    except BaseException:
        journal.close()
        raise
    after = resuming.closed_at(journal)
    book = fold(event for event in journal.events() if event.seq <= after)
    pace = AsTheClockGoes(stop=plan.stop, wall=plan.wall, idle=watcher.idle)
    return _Course(broker=broker, feed=feed, journal=journal, book=book, identity=PAPER, pace=pace, pending=found)


class _Run:
    """The run while it lasts."""

    def __init__(self, plan: Plan, watcher: Watcher, course: _Course) -> None:
        self._plan = plan
        self._watcher = watcher
        self._course = course
        self._journal = course.journal
        self._since = plan.wall.now()
        self._clock = ManualClock(self._since)
        self._session: SessionRun | None = None
        self._began = 0 if course.pending is None else course.pending.started - 1
        assembly = plan.assembly
        self._observers = Observers(
            assembly.loader, assembly.loaded, clock=plan.wall, report=lambda failure: _log.error(failure.sentence)
        )

    async def go(self) -> Outcome:
        """Trade the sessions that the journal does not hold yet."""
        course, mode = self._course, self._plan.assembly.settings.mode
        account = await course.broker.connect()
        self._watcher.started(course.feed, course.book)
        info = RunInfo(run_id=course.identity, mode=mode, label=course.feed.label)
        self._observers.started(info)
        stopped = False
        try:
            equity = await self._trade(account)
        except Stopped:
            stopped = True
            if not self._journal.repeating:  # else the stop lies before what the journal says already
                self._journal.append([self._entry(records.STOPPED, {"open": list(self._open())})])
        else:
            self._finish(equity)
        outcome = self._outcome(stopped=stopped)
        self._observers.stopped(attrs.evolve(info, summary=outcome.summary.document()))
        return outcome

    async def _trade(self, account: Account) -> Decimal:
        """Trade session after session and return the equity after the last one."""
        course = self._course
        equity = course.book.equity_curve[-1][1] if course.book.equity_curve else account.equity
        trading: Trading | None = None
        async for source in self._sessions():
            if trading is None:
                # Whatever is written says exchange time, not wall time.
                self._clock = ManualClock(source.session.open)
                trading = self._trading(account)
                self._begin(equity)
            interruptions = self._interruptions(source.session)
            entrants = self._plan.assembly.entrants(source.session)
            for sentence in self._plan.assembly.missed_bells(source.session):
                _log.warning("window.missed_bell", session=source.session.date, sentence=sentence)
            self._session = SessionRun(trading, source, entrants, atoms_of(equity), interruptions)
            await self._session.trade()
            equity = dollars_of(self._session.desk.portfolio.equity_atoms)
            if self._plan.once and source.session.close > self._since:
                break
        return equity

    async def _sessions(self) -> AsyncIterator[FeedSession]:
        """The feed's sessions that are to be traded; on paper those that closed while nobody ran are passed over."""
        course = self._course
        done = {day for day, _ in course.book.equity_curve}
        async for source in course.feed.sessions():
            session = source.session
            resumed = course.pending is not None and session.date == course.pending.session.date
            missed = self._paper and session.close <= self._plan.wall.now() and not resumed
            if not missed and session.date.isoformat() not in done:
                yield source

    def _begin(self, equity: Decimal) -> None:
        """Write down that the run starts, unless it is resumed."""
        course = self._course
        if course.pending is None and (self._paper or not course.book.run):
            self._began = 0 if self._journal.repeating else self._journal.head[0]
            self._journal.append([self._entry(records.RUN_STARTED, self._opening(equity))])

    def _interruptions(self, session: Session) -> Interruptions:
        if not self._paper:
            return NO_INTERRUPTIONS
        pending = self._course.pending
        if pending is None or pending.session.date != session.date:
            resuming.unwatched(self._journal, session, 0, self._plan.wall.now())
        return resuming.interruptions(self._journal, session)

    @property
    def _paper(self) -> bool:
        return self._plan.assembly.settings.mode == PAPER

    def _trading(self, account: Account) -> Trading:
        course, assembly = self._course, self._plan.assembly
        install = install_id(assembly.settings.instance.data)
        return Trading(
            rules=assembly.rules(course.broker.rules),
            venue=Venue(
                broker=course.broker,
                name=SIMULATOR,
                account_id=account.account_id,
                patience=Patience(
                    retries=assembly.settings.trading.api_retry_limit,
                    pause=self._plan.wall.sleep,
                    dice=chance.generator(int.from_bytes(install.encode())).random,
                ),
            ),
            journal=self._journal,
            clock=self._clock,
            naming=Naming(
                install_id=install,
                identity=assembly.identity,
                account_id=account.account_id,
                length=course.broker.rules.cid_length,
            ),
            wait=self._wait,
            tell=self._tell,
            watch=self._watcher.minute,
            checks=assembly.checks,
        )

    async def _wait(self, moment: datetime) -> None:
        if self._session is not None and self._session.flat:
            raise Stopped
        try:
            await self._course.pace.until(moment)
        except Stopped:
            # What is held now is known once all has been repeated; those minutes have passed, so none is waited for.
            if not (self._flattens and self._journal.repeating):
                if not self._flatten(moment):
                    raise
                await self._course.pace.until(moment)
        self._clock.advance_to(moment)

    def _flatten(self, moment: datetime) -> bool:
        """Begin to close what is held, if the settings say that a stop does so and there is something to close."""
        session = self._session
        if session is None or session.desk.idle or session.desk.stopping or not self._flattens:
            return False
        self._plan.stop.clear()
        session.flatten()
        minute = session.session.minute(moment) - 1
        payload = {"session": session.session.date.isoformat(), "from": minute}
        self._journal.append([self._entry(records.FLATTEN, payload)])
        return True

    @property
    def _flattens(self) -> bool:
        return self._paper and self._plan.assembly.settings.exits.stop_policy == "flatten"

    def _tell(self, entries: Sequence[Entry]) -> None:
        self._watcher.wrote(entries)
        for entry in entries:
            self._observers.event({"kind": entry.kind, "cid": entry.cid, "payload": entry.payload})

    def _finish(self, equity: Decimal) -> None:
        """Write down that the run is finished, and hold the journal against the desk."""
        self._journal.append([self._entry(records.RUN_FINISHED, {"equity": str(equity)})])
        told = fold(self._journal.events()).equity
        if told != equity:
            raise JournalError(
                f"The journal {self._journal.path} adds up to {told}, the desk to {equity}.",
                "Keep the file and report it: one of them has lost a fill.",
            )

    def _outcome(self, *, stopped: bool) -> Outcome:
        events = list(self._journal.events(self._began))
        book = fold(events)
        summary = summarise(book, self._course.feed, self._plan.assembly)
        if not stopped:
            place = self._plan.assembly.settings.instance.reports
            summary = attrs.evolve(summary, report=str(report.write(place, self._course.identity, summary, events)))
        return Outcome(
            summary=summary, journal=self._journal.path, stopped=stopped, open=tuple(sorted(book.portfolio.positions))
        )

    def _open(self) -> tuple[str, ...]:
        return () if self._session is None else tuple(sorted(self._session.desk.portfolio.positions))

    def _entry(self, kind: str, payload: dict[str, Any]) -> Entry:
        return Entry(kind=kind, payload=payload, time=self._clock.now())

    def _opening(self, equity: Decimal) -> dict[str, Any]:
        settings, label = self._plan.assembly.settings, self._course.feed.label
        return {
            "run_id": self._course.identity,
            "mode": settings.mode,
            "equity": str(equity),
            "settings_hash": settings.fingerprint,
            "settings": {name: one.text for name, one in settings.values.items()},
            "data_hash": label.data_hash,
            "source": label.name,
            "simulated": label.simulated,
            "identity": self._plan.assembly.identity,
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
        "typical_volume": request.typical_volume,
    }


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
