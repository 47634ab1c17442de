"""The set-up of a run: the account, the bars, and the journal with its progress."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import Broker, Feed, FeedRequest, RunInfo
from tbot_core.engine import feed_quality, resume
from tbot_core.engine.assembly import SIMULATOR, Assembly, feed_source, shortable_notes, trial_notes
from tbot_core.engine.missing_facts import missing_fact_notes
from tbot_core.engine.plugin_context import install_id
from tbot_core.engine.run_plan import RunOutcome, RunPlan, RunWatcher
from tbot_core.engine.session.broker_login import BrokerLogin, SupportsClose
from tbot_core.engine.session.broker_session import StandbyBroker
from tbot_core.engine.session.open_positions import open_at_end
from tbot_core.engine.session.session import SessionContext, Wait
from tbot_core.engine.session.universe_selection import watched_request
from tbot_core.engine.trade_charts import BarSource, draw_trades
from tbot_core.errors import JournalError, SettingsError
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.broker_port import BrokerPort
from tbot_core.execution.reconciliation import outside_fill
from tbot_core.execution.sole_install import SoleInstallCheck
from tbot_core.instance import folder as places
from tbot_core.instance.findings import SIMULATED_MODES
from tbot_core.instance.journal_chain import open_instance_journal
from tbot_core.journal import codec, gauges, records
from tbot_core.journal.events.accounts import Adjustment
from tbot_core.journal.events.sessions import RunStarted, RunStopped, SessionClosed
from tbot_core.journal.projections import carryover
from tbot_core.journal.projections.book import SessionBook, fold_events, session_book
from tbot_core.journal.store import Journal, NewEvent, open_journal
from tbot_core.marketdata import received_files
from tbot_core.marketdata.store.store import BarStore
from tbot_core.model.types import Account, atoms_of, dollars_of, quantity_of
from tbot_core.plugins.hook_calls import LIMITS_S, PluginObservers
from tbot_core.plugins.network.request_limits import RetryPolicy
from tbot_core.reports import html
from tbot_core.reports.summary import RunSummary
from tbot_core.reports.timeline import RunTimeline, with_gaps
from tbot_core.system import filesystem, log, random
from tbot_core.trading.orders import ClientOrderIds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import date, datetime
    from decimal import Decimal

    from tbot_core.contracts import SimulatedVenue
    from tbot_core.journal.codec import EventFacts
    from tbot_core.model.clock import Clock

PAPER: Final = "paper"
LIVE: Final = "live"

_BOOKS: Final = "books"
"""The key of the file's name in RUN_STARTED; runs of older versions kept no books."""

FILLS_NOTE: Final = "Fills are simulated from the closed minutes of a live feed."
APPROVED_NOTE: Final = "Entries that need a confirmation (`tbot confirm`) count as confirmed at once."
_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class RunFiles:
    """The files of a run in real time, besides its journal.

    `control`: the folder of requests. `received`: that of the received bars. `books`: the file for the books of a venue
    that fills from bars. `data`: the instance's data folder, None for a run that leaves it alone.
    """

    control: Path
    received: Path
    books: Path
    data: Path | None


@attrs.frozen(kw_only=True, eq=False)
class RunSetup:
    """A run's account, bars and journal.

    `name` is the broker's. `book`: the result of closed sessions; in real time of the last one. `source`: the broker
    that supplies the bars, or the part of another one. `files`: those of a run in real time.
    """

    broker: BrokerPort
    feed: Feed
    journal: Journal
    book: SessionBook
    identity: str
    name: str = SIMULATOR
    source: SupportsClose | None = None
    files: RunFiles | None = None


def simulation_setup(assembly: Assembly, request: FeedRequest) -> RunSetup:
    """The set-up of a demo or a replay, with its own journal, which commits once a session."""
    broker = assembly.broker()
    feed = feed_source(broker, SIMULATOR).feed(request)
    feed = feed_quality.label_feed(feed, None, *_missing(assembly, request), *trial_notes(assembly.settings))
    identity = run_id(assembly, request, feed)
    runs = assembly.settings.instance.runs
    filesystem.make_folder(runs)
    journal, book = resume.resume_run(runs / f"{identity}.sqlite", assembly.identity)
    journal.commit_on = frozenset({records.SESSION_CLOSED, records.RUN_FINISHED})
    return RunSetup(broker=broker, feed=feed, journal=journal, book=book, identity=identity)


def _missing(assembly: Assembly, request: FeedRequest) -> tuple[str, ...]:
    # What filters and strategies lack in the stored sessions of a replay; simulated sessions have all facts.
    if request.first is None or request.last is None:
        return ()
    store = BarStore(folder=assembly.settings.instance.bars, calendar=assembly.calendar)
    stored = store.symbols(request.first, request.last)
    symbols = [one for one in stored if not request.symbols or one in request.symbols]
    return missing_fact_notes(assembly, store, (request.first, request.last), symbols)


def market_setup(assembly: Assembly, request: FeedRequest) -> RunSetup:
    """The set-up of paper or live trading, in the instance's journal."""
    settings, instance = assembly.settings, assembly.settings.instance
    name, is_live = settings.trading.broker_name, settings.mode == LIVE
    broker = assembly.broker(name)
    if is_live and broker.capabilities.simulated:
        raise SettingsError(
            f"The broker {name} is a simulator, but its section says live.",
            "Set mode=paper with `tbot secrets edit broker`.",
        )
    files = RunFiles(
        control=instance.control,
        received=instance.data / received_files.FOLDER,
        books=instance.data / f"{name}.sqlite",
        data=instance.data,
    )
    open_it = partial(open_instance_journal, instance, live=is_live)
    return real_time_setup(assembly, request, (name, broker), (settings.mode, open_it, files))


def dry_run_setup(assembly: Assembly, request: FeedRequest) -> RunSetup:
    """The set-up of a dry run: the instance's settings and bars, a simulated venue, and its own journal and books.

    Runs with the same settings, source, symbols and seed continue in the same journal.
    """
    settings, instance = assembly.settings, assembly.settings.instance
    name = settings.trading.broker_name
    source = settings.trading.data_source or name
    parts = (settings.mode, settings.fingerprint, source, repr(request_document(request)))
    identity = places.DRY_RUN + sha256("\n".join(parts).encode()).hexdigest()[:16]
    journal = instance.runs / f"{identity}.sqlite"
    filesystem.make_folder(journal.parent)
    files = RunFiles(
        control=journal.with_suffix(".control"),
        received=received_files.received_folder(journal),
        books=journal.with_suffix(".books"),
        data=None,
    )
    sent = "no order is sent" if name == SIMULATOR else f"no order is sent to {name}"
    note = f"A dry run: {sent}; entries and exits are filled by the simulator, with its own cash."
    notes = (note, *((APPROVED_NOTE,) if settings.entries.trade_confirmation_required else ()))
    named = SIMULATOR, assembly.broker()
    return real_time_setup(assembly, request, named, (identity, partial(open_journal, journal), files), notes)


def real_time_setup(
    assembly: Assembly,
    request: FeedRequest,
    named: tuple[str, BrokerPort],
    target: tuple[str, Callable[[], Journal], RunFiles],
    notes: tuple[str, ...] = (),
) -> RunSetup:
    """The set-up of a run in real time: the broker by its name, the run's id, journal and files, and further notes."""
    settings, (name, broker), (identity, open_it, files) = assembly.settings, named, target
    source = settings.trading.data_source or settings.trading.broker_name
    quality = assembly.quality(source)
    if quality is not None:
        feed_quality.check_feed_fit(quality, settings)
    server = broker if source == name else feed_quality.BarsOnlyBroker(assembly.broker(source), source)
    simulated = broker.capabilities.simulated
    fills = (FILLS_NOTE,) if simulated and quality is not None else ()
    journal = open_it()
    try:
        journal.check()
        feed = feed_source(server, source).feed(watched_request(request, assembly, quality, journal))
        feed = feed_quality.label_feed(feed, quality, *fills, *notes, *(shortable_notes(settings) if simulated else ()))
        if simulated:
            _keep_books(broker, name, files.books, journal, assembly.clock.now())
        book = last_session_book(journal)
    except BaseException:
        journal.close()
        raise
    return RunSetup(
        broker=broker,
        feed=feed,
        journal=journal,
        book=book,
        identity=identity,
        name=name,
        source=server,
        files=files,
    )


def last_session_book(journal: Journal) -> SessionBook:
    """The book of the last session, with the number of closed sessions; older events of a long journal are not read."""
    opened = journal.last_event(records.SESSION_OPENED)
    book = fold_events(journal.events(0 if opened is None else opened.seq - 1))
    book.sessions = sum(1 for _ in journal.events(kind=records.SESSION_CLOSED))
    return book


def run_id(assembly: Assembly, request: FeedRequest, feed: Feed) -> str:
    """The hash of mode, settings, data, range, symbols and seed: 16 hex digits."""
    settings = assembly.settings
    parts = (settings.mode, settings.fingerprint, feed.label.data_hash, repr(request_document(request)))
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def request_document(request: FeedRequest) -> dict[str, Any]:
    """The feed request as a document for the journal."""

    def text(day: date | None) -> str | None:
        return None if day is None else day.isoformat()

    return {
        "kind": request.kind,
        "first": text(request.first),
        "last": text(request.last),
        "symbols": list(request.symbols),
        "sessions": request.sessions,
        "seed": request.seed,
        **attrs.asdict(request.extra_facts),
    }


def summarise(book: SessionBook, feed: Feed, assembly: Assembly) -> RunSummary:
    """The run's result from its journal."""
    return RunSummary(
        mode=assembly.settings.mode,
        sessions=book.sessions,
        symbols=book.symbols,
        equity_start=book.equity_start,
        equity_end=book.equity,
        trades=tuple(book.trades),
        brokers=tuple(book.brokers),
        strategies=tuple(assembly.settings.strategies),
        variables=frozenset(assembly.settings.values),
        without_candidates=book.without_candidates,
        denials=book.denials,
        settings_hash=assembly.settings.fingerprint,
        data_hash=feed.label.data_hash,
        simulated=feed.label.simulated,
        notes=(*feed.label.notes, *assembly.notes),
    )


def run_started(plan: RunPlan, setup: RunSetup, equity: Decimal) -> RunStarted:
    """The event that starts a run."""
    settings, label = plan.assembly.settings, setup.feed.label
    return RunStarted(
        run_id=setup.identity,
        mode=plan.shown_mode,
        equity=equity,
        settings_hash=settings.fingerprint,
        settings={name: one.text for name, one in settings.values.items()},
        tables=dict(settings.tables),
        data_hash=label.data_hash,
        source=label.name,
        simulated=label.simulated,
        identity=plan.assembly.identity,
        notes=(*label.notes, *plan.assembly.notes),
        request=request_document(plan.request),
        silent_channels=tuple(plan.assembly.silent_channels),
        books=setup.files.books.name if setup.files and setup.broker.capabilities.simulated else None,
    )


async def run_outcome(
    plan: RunPlan, setup: RunSetup, story: RunTimeline, *, stopped: bool, reported: Iterable[str] = ()
) -> RunOutcome:
    """The outcome of a run from its journal, read as `story`; it writes the report unless `stopped`.

    Positions of an interrupted session count at their last marks. Those that are open may be older than the run. The
    symbols in `reported` count as open too.
    """
    book = story.book
    marked = gauges.revalued_gauges(plan.assembly.settings.instance.data, setup.journal.path.name, book)
    summary = summarise(book, setup.feed, plan.assembly)
    if book.in_session:
        summary = attrs.evolve(summary, held=len(book.portfolio.positions), valued="marks" if marked else "fills")
    if not stopped:
        summary = await _with_report(plan, setup, summary, story)
    remaining = open_at_end(setup.journal, reported)
    return RunOutcome(
        summary=summary,
        journal=setup.journal.path,
        stopped=stopped,
        open=remaining.open,
        unprotected=remaining.unprotected,
        cancelling=remaining.cancelling,
        stuck=remaining.stuck,
    )


async def _with_report(plan: RunPlan, setup: RunSetup, summary: RunSummary, story: RunTimeline) -> RunSummary:
    received = None if setup.files is None else setup.files.received
    source = BarSource(request=plan.request, feed=setup.feed, received=received)
    charts = await draw_trades(plan.assembly, source, summary.trades, story.levels)
    folder = plan.assembly.settings.instance.reports
    return html.with_report(folder, setup.identity, summary, with_gaps(story, plan.assembly.calendar), charts)


class RunServices:
    """A run's plan and set-up, with its watcher and the observer plugins."""

    def __init__(
        self, plan: RunPlan, watcher: RunWatcher, setup: RunSetup, limits_s: Mapping[str, float] = LIMITS_S
    ) -> None:
        self._plan = plan
        self._setup = setup
        self._watcher = watcher
        self._sole_install = SoleInstallCheck(install_id=install_id(plan.assembly.settings.instance.data))
        assembly, label = plan.assembly, setup.feed.label
        self._info = RunInfo(run_id=setup.identity, mode=assembly.settings.mode, label=label)
        self._observers = PluginObservers(
            assembly.loader,
            assembly.loaded,
            clock=plan.wall,
            guard=assembly.call_guard,
            limits_s=limits_s,
        )

    def announce_start(self) -> None:
        """Report the start of the run."""
        if (day := resume.interrupted_date(self._setup.journal)) is not None:
            self._watcher.on_resumed(self._setup.identity, day)
        self._watcher.on_started(self._setup.feed, self._setup.book)
        self._observers.started(self._info)

    def on_events(self, entries: Sequence[NewEvent]) -> None:
        """Report recorded events."""
        self._plan.journal_guard.on_events(entries)
        self._watcher.on_events(entries)
        for entry in entries:
            self._observers.event({"kind": entry.kind, "cid": entry.cid, "time": entry.time, "payload": entry.payload})

    async def announce_end(
        self, story: RunTimeline, *, stopped: bool, reported: Iterable[str] = (), unconfirmed: str = ""
    ) -> RunOutcome:
        """Report the end of the run; the symbols in `reported` count as open too.

        `unconfirmed`: why the account could not be read.
        """
        outcome = await run_outcome(self._plan, self._setup, story, stopped=stopped, reported=reported)
        outcome = attrs.evolve(outcome, unconfirmed=unconfirmed)
        self._observers.stopped(attrs.evolve(self._info, summary=outcome.summary.document()))
        return outcome

    def standby(self, broker: Broker, name: str, found: BrokerLogin) -> StandbyBroker:
        """The standby broker for the account that it reported."""
        venue = self._venue(broker, name, found.account)
        tag = self._plan.assembly.settings.failover.failover_log_tag
        return StandbyBroker(
            rules=self._plan.assembly.rules(broker.capabilities),
            venue=attrs.evolve(venue, not_logged_in=bool(found.login_fault)),
            naming=self._naming(broker, found.account),
            equity_atoms=atoms_of(found.account.equity),
            tag=tag,
        )

    def _venue(self, broker: Broker, name: str, account: Account) -> BrokerAccount:
        assembly = self._plan.assembly
        seed = int.from_bytes(self._sole_install.install_id.encode())
        retry_policy = RetryPolicy(
            retries=assembly.settings.trading.api_retry_limit,
            sleep=self._plan.wall.sleep,
            jitter=random.generator(seed).random,
        )
        return BrokerAccount(
            broker=broker,
            name=name,
            account_id=account.account_id,
            retry_policy=retry_policy,
            sole_install=None if broker.capabilities.simulated else self._sole_install,
        )

    def _naming(self, broker: Broker, account: Account) -> ClientOrderIds:
        assembly = self._plan.assembly
        if assembly.settings.mode in SIMULATED_MODES:
            return assembly.simulated_ids()
        return ClientOrderIds(
            install_id=self._sole_install.install_id,
            identity=assembly.identity,
            account_id=account.account_id,
            length=broker.capabilities.cid_length,
        )

    def trading(self, account: Account, name: str, clock: Clock, wait: Wait) -> SessionContext:
        """The context of a session at the account that the broker of that name reported."""
        setup, assembly = self._setup, self._plan.assembly
        return SessionContext(
            rules=assembly.rules(setup.broker.capabilities),
            venue=self._venue(setup.broker, name, account),
            journal=setup.journal,
            clock=clock,
            naming=self._naming(setup.broker, account),
            wait=wait,
            on_events=self.on_events,
            on_minute=self._watcher.on_minute,
            checks=assembly.checks,
            call_guard=assembly.call_guard,
        )


def _keep_books(broker: SimulatedVenue, name: str, path: Path, journal: Journal, now: datetime) -> None:
    # Let the venue keep its books in a file; a new account begins with the equity of the journal.
    #
    # A session that an older version left open, without books, ends as STOPPED. Raises JournalError if the file is
    # missing beside a journal with open positions.
    if not filesystem.exists(path):
        started = journal.last_event(records.RUN_STARTED)
        if started is not None and _BOOKS not in started.payload:
            _end_session_without_books(journal, now)
        elif held := open_at_end(journal).open:
            raise JournalError(
                f"The books of the broker {name}, {path}, are missing, and the journal has positions in "
                f"{', '.join(held)}.",
                "Put the file back from a backup, or trade in another --home.",
            )
    closed = journal.last_event(records.SESSION_CLOSED)
    broker.keep_books(path, None if closed is None else closed.facts(SessionClosed).equity)


def _end_session_without_books(journal: Journal, now: datetime) -> None:
    # Nothing holds its simulated positions: they end at their last known price, as closed outside of tbot.
    found = resume.interrupted_session(journal)
    if found is None:
        return

    def write(facts: EventFacts) -> None:
        journal.append([NewEvent(kind=facts.kind, payload=codec.write(facts), time=now)])

    since = carryover.events_since_close(list(journal.events()))
    portfolio = session_book(since).portfolio
    write(RunStopped(open=tuple(portfolio.symbols), unconfirmed=""))
    for number, position in enumerate(portfolio.positions.values()):
        shares = quantity_of(position.units) * -position.side
        write(Adjustment.of(outside_fill(position, shares, number, now)))
    book = session_book(carryover.events_since_close(list(journal.events())))
    write(
        SessionClosed(
            date=found.session.date,
            equity=book.equity,
            cash=dollars_of(book.portfolio.cash_atoms),
            pnl=dollars_of(book.portfolio.pnl_atoms),
            trades=len(book.trades),
            open=(),
            account=book.session.get("account", ""),
        )
    )
