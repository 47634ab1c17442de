"""The status of an instance, from its journals, its lock, its settings and the calendar."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import attrs

from tbot_core.alerts.unseen import unseen_incidents
from tbot_core.contracts.settings.calendar import calendar_of
from tbot_core.engine.control import ControlFolderState
from tbot_core.instance import Instance, Settings
from tbot_core.journal import records
from tbot_core.journal.gauges import Gauges
from tbot_core.journal.projections import carryover
from tbot_core.journal.projections.arming import next_sessions, recall_arming
from tbot_core.journal.projections.book import SessionBook
from tbot_core.journal.projections.confirmations import recall_confirmations as waiting
from tbot_core.model.formatting import format_quantity
from tbot_core.model.types import dollars_of, price_of, quantity_of
from tbot_core.model.window_placement import anchor_named, named_window, place_window
from tbot_core.status import feed, live_figures
from tbot_core.status.last_settings import settings_or_last_run
from tbot_core.status.risk_state import RiskStatus, folder_warnings, risk_status
from tbot_core.status.runs import PAPER, RunFile, open_run_file, run_files
from tbot_core.system import filesystem
from tbot_core.trading.risk.gate import Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.journal.store import Event
    from tbot_core.model.calendar import Session

LOW_DISK_BYTES = 500_000_000
_GRAVE = frozenset({"exit-only", "halted"})


@attrs.frozen(kw_only=True)
class NextEvent:
    """The next event by the calendar and the windows, and the current phase."""

    phase: str
    event: str
    time: dt.datetime


@attrs.frozen(kw_only=True)
class InstanceStatus:
    """Everything that `tbot status` shows; `book` is None where nothing has run yet.

    `upcoming` is None for a simulation, which has a time of its own.
    """

    home: Path
    holder: int | None
    file: RunFile | None
    book: SessionBook | None
    limits: Limits | None
    sent: dict[str, int]
    state: str
    causes: tuple[str, ...]
    seen: ControlFolderState
    most_trades: int
    strategies: tuple[str, ...]
    upcoming: NextEvent | None
    free_bytes: int
    attention: tuple[str, ...]
    latched: bool = False
    live: bool = False
    armed_until: dt.date | None = None
    unarmed: str = ""
    confirmations: int = 0
    feed: Mapping[str, Any] | None = None
    gauges: Gauges | None = None
    further: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def closed(self) -> bool:
        """Whether live trading is blocked until it is armed, or until a latch ends."""
        return self.live and (bool(self.unarmed) or self.latched)


def instance_status(home: Path | None, now: dt.datetime) -> InstanceStatus:
    """Read everything and change nothing; raises SettingsError where the folder holds neither settings nor a run.

    Invalid settings need attention: a run continues with its previous ones, and these are shown.
    """
    instance = Instance.at(home)
    files = [file for file in run_files(instance) if not file.dry]
    settings, fault = settings_or_last_run(home, mode="demo" if files else "replay")
    holder = filesystem.lock_holder(instance.lock)
    subject, events = _subject(files)
    book, sent = (None, dict[str, int]()) if subject is None else _told(events)
    gauges = None if subject is None else live_figures.revalued_gauges(instance.data, subject.path.name, book)
    stand = risk_status(instance.control, events, book or SessionBook(), running=holder is not None)
    limits = None
    if book is not None:
        limits = Limits.of(settings.risk, book.portfolio.opening_atoms, defense=stand.state != "normal")
    free = filesystem.free_bytes(instance.home)
    attention = _attention(fault, files, holder, book, free)
    return InstanceStatus(
        home=instance.home,
        holder=holder,
        file=subject,
        book=book,
        limits=limits,
        sent=sent,
        state=stand.state,
        causes=stand.causes,
        latched=stand.latched,
        seen=stand.seen,
        most_trades=settings.risk.max_trades,
        strategies=settings.strategies,
        upcoming=next_event(settings, now) if subject is None or subject.name == PAPER else None,
        free_bytes=free,
        attention=(*attention, *_left_behind(events, book), *_asked(stand, running=holder is not None)),
        **_armed(settings, events, now),
        confirmations=len(waiting(events).open_entries(now)),
        feed=feed.document(instance.data, events, now),
        gauges=gauges,
        further=live_figures.document(events, gauges),
    )


def _subject(files: Sequence[RunFile]) -> tuple[RunFile | None, list[Event]]:
    # The journal that is shown, with its events: paper and live trading's, else the newest run's.
    #
    # One that holds nothing yet, as `tbot init` makes it, has nothing to tell where another does.
    found: RunFile | None = None
    for file in sorted(files, key=lambda one: one.name != PAPER):
        with open_run_file(file) as journal:
            events = list(journal.events())
        if events:
            return file, events
        found = found or file
    return found, []


def next_event(settings: Settings, now: dt.datetime) -> NextEvent:
    """The next bell, window or flattening after `now`, and the current phase."""
    from tbot_core.model.clock import exchange_time

    calendar = calendar_of(settings.trading)
    today = exchange_time(now).date()
    session = calendar.session(today)
    if session is None or now >= session.close:
        session = calendar.next(today)
    moments = _moments(session, settings)
    coming = min((one for one in moments if one[0] > now), key=lambda one: one[0])
    if now < session.open:
        return NextEvent(phase="closed", event=coming[1], time=coming[0])
    past = sorted((one for one in moments if one[0] <= now), key=lambda one: one[0])
    return NextEvent(phase=past[-1][1], event=coming[1], time=coming[0])


def document(found: InstanceStatus) -> dict[str, Any]:
    """The status as a JSON document; money as strings, at the running bot's marks, else at the last fill prices."""
    book, limits, event = found.book, found.limits, found.upcoming
    run = {} if book is None else book.run
    figures: dict[str, Any] = dict.fromkeys(live_figures.FIGURES) | {"most_trades": found.most_trades}
    if book is not None and limits is not None and book.session:
        figures = live_figures.account_figures(book, limits, found.gauges)
    return {
        **figures,
        **found.further,
        "home": str(found.home),
        "running": found.holder is not None,
        "process": found.holder,
        "run": None if found.file is None else found.file.name,
        "mode": run.get("mode"),
        "source": run.get("source"),
        "simulated": run.get("simulated"),
        "state": found.state,
        "causes": list(found.causes),
        **_awaited(found),
        "requests": _requests(found.seen),
        "session": None if book is None or not book.session else book.session["date"],
        "in_session": book is not None and book.in_session,
        "last_event": None if book is None or book.time is None else book.time.isoformat(),
        "brokers": [] if book is None else list(records.brokers_of(book.session)),
        "positions": [] if book is None else _positions(book),
        "orders": [] if book is None else _orders(book),
        "trades": {name: found.sent.get(name, 0) for name in found.strategies},
        "ran_until": None if found.file is None else dt.datetime.fromtimestamp(found.file.changed, dt.UTC).isoformat(),
        "phase": None if event is None else event.phase,
        "next_event": None if event is None else {"event": event.event, "time": event.time.isoformat()},
        "disk_free_bytes": found.free_bytes,
        "attention": [*found.attention, *unseen_incidents(found.home)],
    }


class _Armed(TypedDict):
    live: bool
    armed_until: dt.date | None
    unarmed: str


def _armed(settings: Settings, events: Sequence[Event], now: dt.datetime) -> _Armed:
    # Whether the journal is a live one, until when it is armed, and else why it is not.
    arming = recall_arming(events)
    if arming.terms is None or arming.terms.mode != "live":
        return _Armed(live=False, armed_until=None, unarmed="")
    calendar = calendar_of(settings.trading)
    words = arming.denial_reason(arming.terms, next_sessions(calendar, now, 1)[0])
    until = None if words or arming.armed is None else arming.armed.sessions[-1]
    return _Armed(live=True, armed_until=until, unarmed=words)


def _awaited(found: InstanceStatus) -> dict[str, Any]:
    # What waits for a person: entries to be confirmed, and live trading to be armed.
    return {
        "confirmations": found.confirmations,
        "armed_until": None if found.armed_until is None else found.armed_until.isoformat(),
        "not_armed": found.unarmed,
        "feed": found.feed,
    }


def _told(events: Sequence[Event]) -> tuple[SessionBook, dict[str, int]]:
    # What the journal adds up to, and the entries sent in its last session by strategy.
    book, sent = SessionBook(), dict[str, int]()
    for event in events:
        book.apply(event)
        if event.kind == records.SESSION_OPENED:
            sent = {}
        elif event.kind == records.INTENDED and event.payload["leg"] == "entry":
            strategy = event.payload["signal"]["strategy"]
            sent[strategy] = sent.get(strategy, 0) + 1
    return book, sent


def _requests(seen: ControlFolderState) -> dict[str, Any]:
    # What lies in the folder of requests.
    return {
        "kill": seen.kill,
        "stop": seen.stop,
        "waiting": [one.verb.value for one in seen.requests],
        "refused": [attrs.asdict(one) for one in seen.refused],
    }


def _asked(stand: RiskStatus, *, running: bool) -> list[str]:
    # What keeps the bot from trading, and what lies in its folder of requests.
    found = [stand.exposed] if stand.exposed else []
    found += folder_warnings(stand.seen, running=running)
    if stand.state in _GRAVE:
        found.append(f"The state is {stand.state}: {', '.join(stand.causes)}.")
    return found


def _attention(fault: str, files: list[RunFile], holder: int | None, book: SessionBook | None, free: int) -> list[str]:
    # What a person should look at, one sentence each.
    found = [f"The settings are invalid: {fault}"] if fault else []
    if holder is None:
        # Of simulations the newest alone: an older one was left behind for good.
        simulated = [file for file in files if file.name != PAPER]
        for file in (*(file for file in files if file.name == PAPER), *simulated[:1]):
            found += _unfinished(file)
        if book is not None and book.in_session and book.portfolio.positions:
            held = sorted(book.portfolio.positions.items())
            names = ", ".join(f"{symbol}{_at(book, book.broker(one.signal))}" for symbol, one in held)
            found.append(f"Positions are open and not managed by any bot: {names}.")
    for symbol, said in ({} if book is None else book.stuck).items():
        at = "" if book is None else _at(book, said.get("broker") or book.session.get("primary", ""))
        found.append(f"STUCK: {said['side']} {symbol}{at} could not be closed, {said['words']}.")
    for symbol, words in ({} if book is None else book.frozen).items():
        found.append(f"FROZEN: no entries and no exits in {symbol}, {words}.")
    if free < LOW_DISK_BYTES:
        found.append(f"Only {free // 1000000} MB are free on the disk.")
    return found


def _left_behind(events: Sequence[Event], book: SessionBook | None) -> list[str]:
    # What is held at accounts that the last session did not trade.
    here = {} if book is None else records.accounts_of(book.session)
    return [
        f"LEFT BEHIND: {format_quantity(one.fill.quantity)} {one.fill.symbol} at {one.broker}, account {one.account}:"
        f" not managed until {one.broker} is named in BROKER_NAME or FAILOVER_BROKERS."
        for one in carryover.carried_positions(events)
        if one.account not in here.values()
    ]


def _at(book: SessionBook, broker: str) -> str:
    # Where something is held, in words, in a session of several brokers.
    return f" at {broker}" if len(records.brokers_of(book.session)) > 1 else ""


def _unfinished(file: RunFile) -> list[str]:
    with open_run_file(file) as journal:
        opened, closed = (journal.last_event(kind) for kind in (records.SESSION_OPENED, records.SESSION_CLOSED))
        started, ended = (journal.last_event(kind) for kind in (records.RUN_STARTED, records.RUN_FINISHED))
    if file.name == PAPER:
        if opened is not None and (closed is None or closed.seq < opened.seq):
            day = opened.payload["date"]
            return [f"Paper trading was interrupted in the session of {day}; `tbot run` resumes it."]
        return []
    if started is not None and ended is None:
        mode = started.payload["mode"]
        return [f"The {mode} run {file.name} was interrupted; the same command resumes it."]
    return []


def _moments(session: Session, settings: Settings) -> list[tuple[dt.datetime, str]]:
    anchor = anchor_named(settings.trading.time_anchor)
    flatten = settings.exits.flatten_before_close
    found = [
        (session.open, "opening bell"),
        (session.moment(session.minutes - flatten), "flattening"),
        (session.close, "closing bell"),
    ]
    for name in settings.strategies:
        window = place_window(named_window(name, settings.frames[name]), session, anchor)
        if window is not None and not window.outside(session.minutes, flatten):
            found += [
                (session.moment(window.start), f"{name}: analysis"),
                (session.moment(window.entry), f"{name}: entries"),
                (session.moment(window.entry_end), f"{name}: positions are managed"),
                (session.moment(min(window.leave, session.minutes - flatten)), f"{name}: over"),
            ]
    return found


def _positions(book: SessionBook) -> list[dict[str, str]]:
    return [
        {
            "strategy": position.signal.strategy,
            "broker": book.broker(position.signal),
            "symbol": symbol,
            "side": position.side.word,
            "quantity": f"{quantity_of(position.units):f}",
            "entry_price": str(price_of(round(position.entry_atoms / position.entry_units))),
            "stop": str(book.resting(symbol) or ""),
            "covered": f"{book.covered(symbol):f}",
            "protection": live_figures.protection(book, symbol),
            "pnl": str(dollars_of(position.pnl_atoms)),
        }
        for symbol, position in sorted(book.portfolio.positions.items())
    ]


def _orders(book: SessionBook) -> list[dict[str, str]]:
    return [
        {
            "client_order_id": cid,
            "broker": book.broker(record.order.signal),
            "symbol": record.order.symbol,
            "leg": record.order.leg.value,
            "type": record.order.type.value,
            "quantity": f"{record.open_quantity:f}",
            "state": record.state.value,
        }
        for cid, record in book.orders.items()
        if not record.terminal and book.in_session
    ]
