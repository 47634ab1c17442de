"""The set-up of a run: the account, the bars, and the journal with its progress."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import Broker, Feed, FeedRequest, RunInfo
from tbot_core.engine import feed_quality, resume
from tbot_core.engine.bootstrap import DRY_RUN, SIMULATOR, Assembly, feed_source, shortable_notes
from tbot_core.engine.run_plan import RunOutcome
from tbot_core.engine.session.broker_session import StandbyBroker
from tbot_core.engine.session.open_positions import open_at_end
from tbot_core.engine.session.session import SessionContext
from tbot_core.engine.session.universe_selection import watched_request
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.instance import folder as places
from tbot_core.instance.findings import SIMULATED_MODES
from tbot_core.instance.journal_key import open_instance_journal
from tbot_core.journal import records
from tbot_core.journal.projections.book import SessionBook, fold_events
from tbot_core.journal.store import Journal, open_journal
from tbot_core.marketdata import received_bars
from tbot_core.model.types import atoms_of
from tbot_core.plugins.network.request_limits import RetryPolicy
from tbot_core.plugins.observers import LIMITS_S, PluginObservers
from tbot_core.reports import html
from tbot_core.reports.summary import RunSummary
from tbot_core.system import filesystem, log, random
from tbot_core.trading.orders import ClientOrderIds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date, datetime
    from decimal import Decimal

    from tbot_core.engine.run_plan import RunPlan, RunWatcher
    from tbot_core.engine.session.broker_login import BrokerLogin
    from tbot_core.engine.session.session import Wait
    from tbot_core.journal.store import NewEvent
    from tbot_core.model.clock import Clock
    from tbot_core.model.types import Account

MANY_SESSIONS: Final = 10_000
PAPER: Final = "paper"
LIVE: Final = "live"
REAL_TIME_MODES: Final = frozenset({PAPER, DRY_RUN})
"""The modes with simulated fills in the live market."""

APPROVED_NOTE: Final = "Entries that need a confirmation (`tbot confirm`) count as confirmed at once."
_log = log.logger(__name__)


@attrs.frozen(kw_only=True, eq=False)
class RunSetup:
    """A run's account, bars and journal.

    `book`: the result of closed sessions. `pending`: the session to repeat. `server`: supplies the bars of a market, if
    not the broker. `live`: simulated fills on a live feed, whose minutes are recorded in the folder `received`.
    """

    broker: Broker
    feed: Feed
    journal: Journal
    book: SessionBook
    identity: str
    pending: resume.InterruptedSession | None = None
    server: object = None
    live: bool = False
    received: Path | None = None


def simulation_setup(assembly: Assembly, request: FeedRequest) -> RunSetup:
    """The set-up of a demo or a replay, with its own journal."""
    broker = assembly.broker()
    feed = feed_source(broker, SIMULATOR).feed(request)
    identity = run_id(assembly, request, feed)
    runs = assembly.settings.instance.runs
    filesystem.make_folder(runs)
    journal, book = resume.resume_run(runs / f"{identity}.sqlite", assembly.identity)
    return RunSetup(broker=broker, feed=feed, journal=journal, book=book, identity=identity)


@attrs.frozen(kw_only=True, eq=False)
class _SimulatedTarget:
    # The broker, bars and files of simulated fills in the live market.
    broker: Broker
    server: object
    source: str
    identity: str
    journal: Path
    received: Path
    notes: tuple[str, ...] = ()


def paper_setup(assembly: Assembly, request: FeedRequest, broker: Broker, now: datetime) -> RunSetup:
    """The set-up of paper trading in the instance's journal; an interrupted session is prepared for repetition."""
    settings = assembly.settings
    source = settings.trading.data_source or settings.trading.broker_name
    is_own_source = source == settings.trading.broker_name
    target = _SimulatedTarget(
        broker=broker,
        server=broker if is_own_source else feed_quality.BarsOnlyBroker(assembly.broker(source), source),
        source=source,
        identity=PAPER,
        journal=settings.instance.journal,
        received=settings.instance.data / received_bars.FOLDER,
    )
    return _real_time_setup(assembly, request, target, now)


def dry_run_setup(assembly: Assembly, request: FeedRequest, now: datetime) -> RunSetup:
    """The set-up of a dry run: the instance's settings and bars, simulated fills, and its own journal and cash.

    Runs with the same settings, source, symbols and seed continue in the same journal.
    """
    settings = assembly.settings
    name = settings.trading.broker_name
    source = settings.trading.data_source or name
    broker = assembly.broker()
    parts = (settings.mode, settings.fingerprint, source, repr(request_document(request)))
    identity = places.DRY_RUN + sha256("\n".join(parts).encode()).hexdigest()[:16]
    journal = settings.instance.runs / f"{identity}.sqlite"
    sent = "no order is sent" if name == SIMULATOR else f"no order is sent to {name}"
    note = f"A dry run: {sent}; entries and exits are filled by the simulator, with its own cash."
    target = _SimulatedTarget(
        broker=broker,
        server=broker if source == SIMULATOR else feed_quality.BarsOnlyBroker(assembly.broker(source), source),
        source=source,
        identity=identity,
        journal=journal,
        received=received_bars.received_folder(journal),
        notes=(note, *((APPROVED_NOTE,) if settings.entries.trade_confirmation_required else ())),
    )
    return _real_time_setup(assembly, request, target, now)


def _real_time_setup(assembly: Assembly, request: FeedRequest, target: _SimulatedTarget, now: datetime) -> RunSetup:
    settings = assembly.settings
    if target.journal == settings.instance.journal:
        journal = open_instance_journal(settings.instance)
    else:
        filesystem.make_folder(target.journal.parent)
        journal = open_journal(target.journal)
    try:
        journal.check()
        found = resume.interrupted_session(journal)
        quality, notes = assembly.quality(target.source), (*target.notes, *shortable_notes(settings))
        first = None if found is None or quality is not None else found.session.date
        request = attrs.evolve(request, sessions=MANY_SESSIONS, first=first)
        feed = feed_source(target.server, target.source).feed(watched_request(request, assembly, quality))
        if quality is None:
            feed = feed_quality.label_feed(feed, None, *notes)
        else:
            quality = attrs.evolve(quality, quotes=True)  # PAPER_FEED_NOTE covers quotes
            feed = feed_quality.label_feed(feed, quality, PAPER_FEED_NOTE, *notes)
        if found is not None:
            resume.check_same_settings(found, settings, assembly.identity)
            resume.prepare_repeat(journal, found, now)
    except BaseException:
        journal.close()
        raise
    after = resume.last_close_event(journal)
    book = fold_events(event for event in journal.events() if event.seq <= after)
    return RunSetup(
        broker=target.broker,
        feed=feed,
        journal=journal,
        book=book,
        identity=target.identity,
        pending=found,
        server=target.server,
        live=quality is not None,
        received=target.received,
    )


def market_setup(assembly: Assembly, request: FeedRequest, broker: Broker) -> RunSetup:
    """The set-up of trading at a live market, in the instance's journal."""
    settings, name = assembly.settings, assembly.settings.trading.broker_name
    source = settings.trading.data_source or name
    quality = assembly.quality(source)
    if quality is not None:
        feed_quality.check_feed_fit(quality, settings)
    server = broker if source == name else assembly.broker(source)
    journal = open_instance_journal(settings.instance, live=settings.mode == LIVE)
    try:
        journal.check()
        request = watched_request(request, assembly, quality, journal)
        feed = feed_quality.label_feed(feed_source(server, source).feed(request), quality)
        book = last_session_book(journal)
        return RunSetup(broker=broker, feed=feed, journal=journal, book=book, identity=settings.mode, server=server)
    except BaseException:
        journal.close()
        raise


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
        "typical_volume": request.typical_volume,
    }


def install_id(data: Path) -> str:
    """The id of this installation, created once; it is part of the client order ids."""
    path = data / "install.id"
    if not filesystem.exists(path):
        filesystem.make_folder(data)
        filesystem.write_atomic(path, f"{random.token(16)}\n".encode())
    return filesystem.read_text(path).strip()


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
        denials=book.denials,
        settings_hash=assembly.settings.fingerprint,
        data_hash=feed.label.data_hash,
        notes=(*feed.label.notes, *assembly.notes),
    )


def run_started_payload(plan: RunPlan, setup: RunSetup, equity: Decimal) -> dict[str, Any]:
    """The payload of the event that starts a run."""
    settings, label = plan.assembly.settings, setup.feed.label
    return {
        "run_id": setup.identity,
        "mode": settings.mode,
        "equity": str(equity),
        "settings_hash": settings.fingerprint,
        "settings": {name: one.text for name, one in settings.values.items()},
        "tables": dict(settings.tables),
        "data_hash": label.data_hash,
        "source": label.name,
        "simulated": label.simulated,
        "identity": plan.assembly.identity,
        "notes": [*label.notes, *plan.assembly.notes],
        "request": request_document(plan.request),
    }


def run_outcome(
    plan: RunPlan, setup: RunSetup, began: int, *, stopped: bool, reported: Iterable[str] = ()
) -> RunOutcome:
    """The outcome of a run from its journal, after event `began`; it writes the report unless `stopped`.

    Open positions may be older than the run. The symbols in `reported` count as open too.
    """
    events = list(setup.journal.events(began))
    book = fold_events(events)
    summary = summarise(book, setup.feed, plan.assembly)
    if not stopped:
        target = plan.assembly.settings.instance.reports
        summary = attrs.evolve(summary, report=str(html.write_report(target, setup.identity, summary, events)))
    remaining = open_at_end(setup.journal, reported)
    return RunOutcome(
        summary=summary,
        journal=setup.journal.path,
        stopped=stopped,
        open=remaining.open,
        unprotected=remaining.unprotected,
        stuck=remaining.stuck,
    )


class RunServices:
    """A run's plan and set-up, with its watcher and the observer plugins."""

    def __init__(
        self, plan: RunPlan, watcher: RunWatcher, setup: RunSetup, limits_s: Mapping[str, float] = LIMITS_S
    ) -> None:
        self._plan = plan
        self._setup = setup
        self._watcher = watcher
        assembly, label = plan.assembly, setup.feed.label
        self._info = RunInfo(run_id=setup.identity, mode=assembly.settings.mode, label=label)
        self._observers = PluginObservers(
            assembly.loader,
            assembly.loaded,
            clock=plan.wall,
            report=lambda failure: _log.error(failure.sentence),
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
        self._watcher.on_events(entries)
        for entry in entries:
            self._observers.event({"kind": entry.kind, "cid": entry.cid, "time": entry.time, "payload": entry.payload})

    def announce_end(
        self, began: int, *, stopped: bool, reported: Iterable[str] = (), unconfirmed: str = ""
    ) -> RunOutcome:
        """Report the end of the run that began after event `began`; the symbols in `reported` count as open too.

        `unconfirmed`: why the account could not be read.
        """
        outcome = run_outcome(self._plan, self._setup, began, stopped=stopped, reported=reported)
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
        seed = int.from_bytes(install_id(assembly.settings.instance.data).encode())
        retry_policy = RetryPolicy(
            retries=assembly.settings.trading.api_retry_limit,
            sleep=self._plan.wall.sleep,
            jitter=random.generator(seed).random,
        )
        return BrokerAccount(broker=broker, name=name, account_id=account.account_id, retry_policy=retry_policy)

    def _naming(self, broker: Broker, account: Account) -> ClientOrderIds:
        assembly = self._plan.assembly
        if assembly.settings.mode in SIMULATED_MODES:
            return assembly.simulated_ids()
        return ClientOrderIds(
            install_id=install_id(assembly.settings.instance.data),
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


PAPER_FEED_NOTE: Final = (
    "Fills are simulated from whole minutes of a live feed; its quotes and halts are ignored: NO_QUOTE, "
    "SPREAD_WIDE and quote age do not apply."
)
