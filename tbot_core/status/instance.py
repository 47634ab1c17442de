"""The status of an instance, from its journals, its lock, its settings and the calendar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.alerts.store import alerts_file, unseen_incidents
from tbot_core.contracts.settings.trading import calendar_of
from tbot_core.engine.control import ControlVerb
from tbot_core.errors import DataError, TbotError
from tbot_core.extensions.progress import failing_extensions
from tbot_core.instance import Instance, Settings
from tbot_core.instance.folder import REHEARSAL_MODE, SIMULATION
from tbot_core.instance.journal_chain import OlderJournal, older_journal
from tbot_core.instance.sources import keep_opened_settings
from tbot_core.journal import codec, records
from tbot_core.journal.events.accounts import PositionDisputed
from tbot_core.journal.events.risk import LiveTerms
from tbot_core.journal.events.sessions import RunStarted
from tbot_core.journal.gauges import Gauges, revalued_gauges
from tbot_core.journal.projections import carryover, restarts
from tbot_core.journal.projections.approvals import next_sessions
from tbot_core.journal.projections.event_text import contradiction_text
from tbot_core.marketdata import received_files
from tbot_core.model.clock import exchange_time
from tbot_core.model.formatting import format_price, format_quantity
from tbot_core.model.types import RiskState
from tbot_core.status import Document, live_figures
from tbot_core.status.alert_channels import channel_documents
from tbot_core.status.live_figures import JournalReader, Projections
from tbot_core.status.phases import PREPARING, STOPPED, is_stopped, next_event, preparation, run_end
from tbot_core.status.risk_state import (
    Condition,
    RiskStatus,
    folder_warnings,
    next_start,
    not_ready_sentence,
    older_condition,
    present_conditions,
    risk_status,
)
from tbot_core.status.runs import (
    PAPER,
    RunFile,
    SettingsReader,
    is_rehearsing,
    received_of,
    run_document,
    run_files,
    run_time,
    shown_runs,
    unfinished_sentence,
    with_current_run,
)
from tbot_core.status.service import service_document
from tbot_core.system import filesystem
from tbot_core.system.filesystem import lock_purpose
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tbot_core.instance import Settings
    from tbot_core.instance.journal_chain import OlderJournal
    from tbot_core.journal.gauges import Gauges
    from tbot_core.journal.projections.approvals import ArmingState, ArmingTerms
    from tbot_core.journal.projections.book import SessionBook
    from tbot_core.journal.projections.feed_health import DataHealth
    from tbot_core.journal.store import Event
    from tbot_core.model.calendar import ExchangeCalendar
    from tbot_core.status import Document

_LOW_DISK_BYTES = 500_000_000
_GRAVE = frozenset({"exit-only", "halted"})
_NOTHING_RECEIVED: Final[Document] = {
    "source": None, "coverage": None, "minute": None, "age_s": None, "late_bars": 0, "revised_bars": 0,
}  # fmt: skip


class StatusReader:
    """Reads the status of one instance again and again: of journals and settings only what is new."""

    def __init__(self, home: Path | None) -> None:
        self._home = home
        self._settings = SettingsReader(home)
        self._journals: dict[Path, JournalReader] = {}

    def instance(self) -> Instance:
        """The instance with its control folder."""
        return self._settings.instance()

    def account_mode(self) -> str:
        """The mode of the account that `tbot run` would trade, by the settings read last: live or paper."""
        return self._settings.account_mode()

    def read(self, now: dt.datetime) -> Document:
        """The status as `status_document` returns it."""
        instance = self.instance()
        files, holder, rehearsed = run_files(instance), instance.lock_holder, is_rehearsing(instance)
        shown = shown_runs(instance, files)
        counted = [run_file for run_file in shown if rehearsed or not run_file.rehearsal]
        settings, fault = self._settings.read("demo" if shown else "replay")
        found = _Found(instance=instance, files=files, counted=counted, rehearsed=rehearsed, fault=fault, holder=holder)
        return _document(found, self._latest_run(found, shown), settings, now)

    def _latest_run(self, found: _Found, shown: Sequence[RunFile]) -> JournalReader | None:
        # The account's journal while something of it is under way or in force, else that of the newest run.
        #
        # An empty journal, as made by `tbot init`, is shown only if all others are empty too, or a bot trades with it.
        self._journals = {run_file.path: known for run_file in shown if (known := self._journals.get(run_file.path))}
        account = next((self._read(found.instance, run_file) for run_file in shown if run_file.name == PAPER), None)
        trades = bool(found.holder and not lock_purpose(found.instance.lock))
        if account is not None and (trades or _is_in_force(found.instance, account)):
            return account
        readers = (self._read(found.instance, run_file) for run_file in shown)
        first = account or (self._read(found.instance, shown[0]) if shown else None)
        return next((reader for reader in readers if reader.events), first)

    def _read(self, instance: Instance, file: RunFile) -> JournalReader:
        reader = self._journals.setdefault(file.path, JournalReader(file))
        reader.file = file
        reader.update(instance)
        return reader


@attrs.frozen(kw_only=True)
class _Found:
    # What an instance holds; `counted` are the journals of which one is shown, `fault` is that of the settings.
    instance: Instance
    files: list[RunFile]
    counted: list[RunFile]
    rehearsed: bool
    fault: str
    holder: int | None


def status_document(home: Path | None, now: dt.datetime) -> Document:
    """The status; money is valued at the running bot's marks, else at the last fill prices.

    Read-only. Invalid settings are `attention`; those of the last run are shown, SettingsError is raised without both.
    """
    with keep_opened_settings():
        return StatusReader(home).read(now)


def feed_document(received: Path, health: DataHealth, now: dt.datetime | None) -> Document | None:
    """The market data of the current session: source, age, gaps and halts; None outside a session.

    `received` is the folder of the bars that the run received. `minute` is the last one closed, `age_s` the age of the
    last bars received: a minute without a bar counts for nothing. Without `now`, after a run, it has no age.
    """
    if not health.opened:
        return None
    path = received_files.recorded_file(received, health.opened.date())
    universe = health.universe
    return {
        **(_NOTHING_RECEIVED if path is None else _received(path, now)),
        "halted": sorted(symbol or _market(health) for symbol in health.halted),
        "apart": sorted(f"{symbol} at {broker}" if broker else symbol for broker, symbol in health.apart),
        "lost_minutes": len(health.lost),
        "universe": None if universe is None else dict(sorted(codec.write(universe).items())),
    }


def _latest_mode(events: Sequence[Event]) -> str | None:
    # The mode of the last start, known before its first session too; None without one, or before a paper session.
    for event in reversed(events):
        if event.kind == records.RUN_STARTED:
            return event.facts(RunStarted).mode
        if event.kind == records.LIVE_TERMS:
            return event.facts(LiveTerms).mode
    return None


def _arming_document(state: ArmingState, settings: Settings, now: dt.datetime, risk: RiskStatus) -> Document:
    # Until when live trading is armed, or why it is not; other modes need no arming.
    # `arming_from` and `arming_waits`: the first and the last session of an arming that waits for the first one to
    # begin. It blocks nothing now.
    terms, calendar = state.terms, calendar_of(settings.trading)
    if terms is None or terms.mode != "live":
        return _arming_fields(None, (), "", blocked=False)
    reason = state.denial_reason(terms, next_sessions(calendar, now, 1)[0])
    waits = _waiting(terms, calendar, now, risk) if reason else ()
    armed = None if reason or state.armed is None else state.armed.sessions[-1]
    return _arming_fields(armed, waits, reason, blocked=(bool(reason) and not waits) or risk.latched)


def _is_in_force(instance: Instance, account: JournalReader) -> bool:
    # Whether the account's journal has what no other run may hide.
    read, events = account.read, account.events
    causes = risk_status(instance.control, events, read.book, running=False).causes
    live = read.arming.terms is not None and read.arming.terms.mode == "live"
    return bool(account.damage or read.book.in_session or live or causes or carryover.carried_positions(events))


def _document(found: _Found, reader: JournalReader | None, settings: Settings, now: dt.datetime) -> Document:
    instance, holder = found.instance, found.holder
    file, events = (None, []) if reader is None else (reader.file, reader.events)
    read, damage = (Projections(), None) if reader is None else (reader.read, reader.damage)
    now = run_time(own := with_current_run(instance), now)
    gauges = None if file is None else revalued_gauges(instance.data, file.path.name, read.book)
    running = holder is not None
    older = None if running or found.rehearsed else _older_journal(instance)
    risk = risk_status(instance.control, events, read.book, running=running, older=now if older else None)
    conditions = _conditions(events, read.book, risk, instance.control_dir, running=running)
    if older is not None:
        conditions = [condition for condition in conditions if condition.cause is not StateCause.JOURNAL_OLDER]
        conditions.append(older_condition(older, now, instance.control_dir))
    accepts = running and lock_purpose(instance.lock) != SIMULATION
    prepared = preparation(settings, events, read.book, now, rehearsed=found.rehearsed) if accepts else None
    phase = PREPARING if prepared else STOPPED if accepts and is_stopped(events, read.book) else ""
    return {
        **_account(settings, Projections() if prepared else read, risk, gauges),
        **live_figures.gauge_figures(gauges),
        **_run(file, read, settings, _latest_mode(events) or (REHEARSAL_MODE if found.rehearsed else None)),
        "of_account": file is None or file.name == PAPER or found.rehearsed,
        "confirmations": sum(entry["id"] not in risk.seen.answers for entry in read.pending.open_entries(now)),
        "preparing": prepared,
        **_arming_document(read.arming, settings, now, risk),
        "home": str(instance.home),
        "running": running,
        "process": holder,
        "service": service_document(instance),
        **_risk(risk, conditions, running=running),
        "ended": None if running else _ended(file, events, read.book),
        "feed": feed_document(received_of(instance, file), read.health, now if running else None),
        "failover": _failover(settings, events, now),
        "runs": [run_document(run_file) for run_file in found.files],
        **_upcoming(None if found.rehearsed else file, settings, now),
        **({"phase": phase} if phase else {}),
        "disk_free_bytes": (free := filesystem.free_bytes(instance.home)),
        "alert_channels": channel_documents(settings, alerts_file(own), read.book.run.get("silent_channels", ())),
        "attention": [
            *filter(None, (found.fault, damage and str(damage))),
            *_attention(found.counted, events, read.book, running=running, free=free),
            *_risk_warnings(risk, conditions, instance.control_dir, running=running),
            *unseen_incidents(own),
            *([] if file is None else failing_extensions(file.path)),
        ],
    }


def _failover(settings: Settings, events: Sequence[Event], now: dt.datetime) -> Document | None:
    if not settings.brokers[1:]:
        return None
    from tbot_core.status.failover import failover_document

    return failover_document(settings, events, now)


def _older_journal(instance: Instance) -> OlderJournal | None:
    # What the next start will find; a fault is that of the journal, and shown as its damage.
    try:
        return older_journal(instance)
    except TbotError:
        return None


def _account(settings: Settings, read: Projections, risk: RiskStatus, gauges: Gauges | None) -> Document:
    # The account of the session with its limits; empty before the first session.
    if not read.book.session:
        return dict.fromkeys(live_figures.FIGURES) | {"most_trades": settings.risk.max_trades}
    from tbot_core.trading.risk.limits import Limits

    opening = read.book.portfolio.opening_atoms
    limits = Limits.of(settings.risk, opening, defense=risk.state == RiskState.DEFENSE.word)
    return live_figures.account_figures(read.book, limits, gauges)


def _run(file: RunFile | None, read: Projections, settings: Settings, mode: str | None) -> Document:
    # The run that is shown, with the content of its session; its market is known from its first session on.
    book = read.book
    run = book.run if book.run.get("mode") == mode else {}
    return {
        "run": None if file is None else file.name,
        "ran_until": None if file is None else run_document(file)["changed"],
        "mode": mode,
        "source": run.get("source"),
        "simulated": run.get("simulated"),
        "finished": book.finished,
        "session": book.session["date"] if book.session else None,
        "in_session": book.in_session,
        "last_event": None if book.time is None else book.time.isoformat(),
        "brokers": list(records.brokers_of(book.session)),
        "positions": live_figures.position_documents(book),
        "orders": live_figures.order_documents(book),
        "trades": {name: read.activity.entries.get(name, 0) for name in settings.strategies},
        "candidates": read.activity.candidates,
        "vix_live": read.activity.vix,
        "vix_day": read.activity.vix_day,
        "vix_source": read.activity.vix_source,
        "remarks": read.activity.remarks,
        "foreign": read.holdings.document(),
        "restart": restarts.document(read.restart),
    }


def _ended(file: RunFile | None, events: Sequence[Event], book: SessionBook) -> Document | None:
    # How the run that is shown has ended; None where nothing is known of one.
    return run_end(events, book, simulated=file.simulated) if file is not None and events else None


def _upcoming(file: RunFile | None, settings: Settings, now: dt.datetime) -> Document:
    # The time and the next event; none for a simulation, which has its own time.
    if file is not None and file.name != PAPER:
        return {"now": now.isoformat(), "phase": None, "next_event": None}
    found = next_event(settings, now)
    event = {"event": found.event, "time": found.time.isoformat()}
    return {"now": now.isoformat(), "phase": found.phase, "next_event": event}


def _conditions(
    events: Sequence[Event], book: SessionBook, risk: RiskStatus, folder: str, *, running: bool
) -> list[Condition]:
    # The conditions of the state, without those that waiting requests withdraw.
    found = present_conditions(events, book, folder, running=running)
    return [one for one in found if one.cause.value in risk.causes]


def _risk(risk: RiskStatus, conditions: Sequence[Condition], *, running: bool) -> Document:
    # The state and that of the next start, its causes, and the requests in the control folder.
    seen = risk.seen
    return {
        "state": risk.state,
        "at_next_start": "" if running else next_start(risk).state,
        "causes": list(risk.causes),
        "conditions": [condition.document for condition in conditions],
        "requests": {
            "kill": seen.kill,
            "stop": seen.stop,
            "waiting": [request.verb.value for request in seen.requests],
            "refused": [attrs.asdict(one) for one in seen.refused],
        },
    }


def _risk_warnings(risk: RiskStatus, conditions: Sequence[Condition], folder: str, *, running: bool) -> list[str]:
    # What blocks trading, and warnings about the control folder.
    found = [risk.exposed] if risk.exposed else []
    found += folder_warnings(risk.seen, running=running, folder=folder)
    if risk.state in _GRAVE:
        found += [condition.sentence for condition in conditions if condition.state.word in _GRAVE]
        named = {condition.cause.value for condition in conditions}
        others = [cause for cause in risk.causes if cause not in named]
        found += [f"The state is {risk.state}: {', '.join(others)}."] if others else []
    return found


def _attention(
    files: Sequence[RunFile], events: Sequence[Event], book: SessionBook, *, running: bool, free: int
) -> Iterator[str]:
    # What needs a person's attention, one sentence each.
    if not running:
        yield from _unmanaged(files, book)
    elif not_ready := not_ready_sentence(events):
        yield not_ready
    yield from _blocked(book)
    if free < _LOW_DISK_BYTES:
        yield f"Only {free // 1000000} MB are free on the disk."
    yield from _left_behind(events, book)


def _unmanaged(files: Sequence[RunFile], book: SessionBook) -> list[str]:
    # Unfinished runs and unmanaged positions; of simulations only the newest.
    simulated = [file for file in files if file.name != PAPER]
    found = [unfinished_sentence(file) for file in (*(file for file in files if file.name == PAPER), *simulated[:1])]
    if book.in_session and book.portfolio.positions:
        held = [f"{one.symbol}{_at(book, book.broker(one.signal))}" for one in book.portfolio.by_symbol]
        names = ", ".join(dict.fromkeys(held))
        found.append(f"Positions are open and not managed by any bot: {names}.{_last_stops(book)}")
    return list(filter(None, found))


def _last_stops(book: SessionBook) -> str:
    # What was known of the positions' stops when the bot ended, as a sentence.
    if book.time is None:
        return ""
    levels = {symbol: book.resting(symbol) for symbol in book.portfolio.symbols}
    stops = ", ".join(f"{symbol} {'none' if one is None else format_price(one)}" for symbol, one in levels.items())
    return f" Their stops at the broker, as of {exchange_time(book.time):%H:%M:%S} New York: {stops}."


def _blocked(book: SessionBook) -> list[str]:
    # STUCK positions and frozen instruments.
    found = []
    for stuck in book.stuck:
        at = _at(book, stuck.get("broker") or book.session.get("primary", ""))
        found.append(f"STUCK: {stuck['side']} {stuck['symbol']}{at} could not be closed, {stuck['words']}.")
    for symbol, words in book.frozen.items():
        found.append(f"FROZEN: no entries and no exits in {symbol}, {words}.")
    disputed = [codec.read(PositionDisputed, payload) for payload in book.disputed.values()]
    found += [f"CONTRADICTED: {contradiction_text(symbol)}." for symbol in disputed]
    return found


def _left_behind(events: Sequence[Event], book: SessionBook) -> list[str]:
    # Positions at accounts that the last session did not trade.
    accounts = records.accounts_of(book.session)
    return [
        f"LEFT BEHIND: {format_quantity(position.fill.quantity)} {position.fill.symbol} at {position.broker},"
        f" account {position.account}: not managed until {position.broker} is named in BROKER_NAME or FAILOVER_BROKERS."
        for position in carryover.carried_positions(events)
        if position.account not in accounts.values()
    ]


def _at(book: SessionBook, broker: str) -> str:
    # The broker of a position as text, in a session of several brokers.
    return f" at {broker}" if len(records.brokers_of(book.session)) > 1 else ""


def _received(path: Path, now: dt.datetime | None) -> Document:
    # The feed by what was received of it. Only here arrays are read, so that the status needs no numpy elsewhere.
    from tbot_core.marketdata.bar_aggregator import BarArrival
    from tbot_core.marketdata.received_bars import read_ends

    try:
        found = read_ends(path)
    except TbotError:
        return _NOTHING_RECEIVED
    header, end, data = found.header, found.last, found.with_bars
    return {
        "source": header.source,
        "coverage": header.coverage,
        "minute": None if end is None else end.minute.index,
        "age_s": None if data is None or now is None else max(0.0, round((now - data.at).total_seconds(), 1)),
        "late_bars": 0 if end is None else end.counts.get(BarArrival.LATE.value, 0),
        "revised_bars": 0 if end is None else end.counts.get(BarArrival.REVISED.value, 0),
    }


def _market(health: DataHealth) -> str:
    return "the whole market, to the close" if health.over else "the whole market"


def _arming_fields(armed: dt.date | None, waits: Sequence[dt.date], reason: str, *, blocked: bool) -> Document:
    return {
        "armed_until": None if armed is None else armed.isoformat(),
        "arming_from": waits[0].isoformat() if waits else None,
        "arming_waits": waits[-1].isoformat() if waits else None,
        "not_armed": reason,
        "entries_blocked": blocked,
    }


def _waiting(terms: ArmingTerms, calendar: ExchangeCalendar, now: dt.datetime, risk: RiskStatus) -> Sequence[dt.date]:
    # The sessions of a requested arming, from the next session on, which will apply it; none if it would be refused.
    found: Sequence[dt.date] = ()
    for request in risk.seen.requests:
        if request.verb is ControlVerb.DISARM:
            found = ()
        elif request.verb is ControlVerb.ARM and not terms.requested(request.arguments).changed(terms):
            try:
                days = next_sessions(calendar, request.made, int(request.arguments.get("sessions", "1")))
            except (DataError, OverflowError, ValueError):
                continue
            first = next_sessions(calendar, now, 1)[0]
            found = days[days.index(first) :] if first in days else ()
    return found
