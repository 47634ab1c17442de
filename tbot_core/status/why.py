"""Everything about a symbol in one session of a run: from its journal, and from recorded bars."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from tbot_core.backtest.explanations import (
    MinuteExplanation,
    ScreeningExplanation,
    SessionExplanation,
    explain_received,
    explain_session,
    request_of,
)
from tbot_core.engine.bootstrap import assemble
from tbot_core.errors import DataError, TbotError, UsageError
from tbot_core.instance import Instance, Mode, read_settings_files
from tbot_core.journal import codec, records
from tbot_core.journal.events.orders import SignalJudged
from tbot_core.journal.events.risk import PositionStuck
from tbot_core.journal.events.sessions import RunStarted, SessionOpened
from tbot_core.journal.projections.book import SessionBook
from tbot_core.journal.projections.vix import recorded_vix_in
from tbot_core.marketdata import received_bars, received_files
from tbot_core.model import dates
from tbot_core.model.clock import SystemClock, exchange_moment, exchange_time, exchange_zone
from tbot_core.model.formatting import money_text, plural
from tbot_core.model.reasons import Reason
from tbot_core.model.types import dollars_of, quantity_of
from tbot_core.reports.summary import trade_document
from tbot_core.status import Document, runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tbot_core.engine.assembly import Assembly
    from tbot_core.journal.store import Event, Journal
    from tbot_core.status.runs import RunFile
    from tbot_core.trading.orders import OrderRecord

_MINUTE: Final = dt.timedelta(minutes=1)
_CHANGED: Final = "Settings or tables of the run can no longer be used: the limits are the current ones, not its own."


class _OutsideSession(UsageError):
    # A time outside of the session, whatever the symbol.
    pass


def why_document(
    symbol: str, home: Path | None, *, at: str | None = None, date: str | None = None, run: str | None = None
) -> Document:
    """The record of a symbol in one session of a run, from the journal and the recorded bars.

    Without `run` it is the newest one that has the symbol, session and time; dry runs come last.

    `asked` is the end of the requested minute, else None. If bars or plugins are missing, `screening` and `minutes` are
    empty and `note` gives the reason. Positions and orders are those after the requested minute, else at the end.
    Raises UsageError for a symbol, session or time that no run has, JournalError if no run is recorded, and DataError
    if none has a session.
    """
    instance, requested = Instance.at(home), _parse_request(at, date)
    newest = runs.run_file(instance, run)
    if run is not None:
        return _document(symbol, instance, newest, requested)
    faults: list[UsageError] = []
    unsure: Document | None = None
    for file in _distinct(newest, runs.run_files(instance)):
        try:
            found = _document(symbol, instance, file, requested)
        except UsageError as fault:
            faults.append(fault)
            continue
        if found["screening"] or found["decisions"]:
            return found
        unsure = unsure or found  # its bars or plugins are missing, and no decision shows that it had the symbol
    if unsure is not None:
        return unsure
    if not faults:
        return _document(symbol, instance, newest, requested)
    if (outside := next((one for one in faults if isinstance(one, _OutsideSession)), None)) is not None:
        raise outside  # that run may have the symbol: only the time is wrong
    others = f" The other {plural(len(faults) - 1, 'run')} did not have it either." if faults[1:] else ""
    raise UsageError(f"{faults[0].message}{others}", faults[0].remedy)


def _distinct(newest: RunFile, files: Sequence[RunFile]) -> Iterator[RunFile]:
    # The runs with a session, the newest first; of simulations of the same sessions and data only one.
    seen = set()
    for file in (newest, *sorted((run_file for run_file in files if run_file != newest), key=lambda one: one.dry)):
        with runs.open_run_file(file) as journal:
            started, opened = (journal.last_event(kind) for kind in (records.RUN_STARTED, records.SESSION_OPENED))
        if started is None or opened is None:
            continue
        run = started.facts(RunStarted)
        same = repr((run.request, run.data_hash, opened.facts(SessionOpened).date))
        if run.request["kind"] == "live" or same not in seen:
            yield file
        seen.add(same)


def _document(
    symbol: str, instance: Instance, file: RunFile, requested: tuple[dt.date | None, dt.time | dt.datetime | None]
) -> Document:
    with runs.open_run_file(file) as journal:
        opened = runs.opened_sessions(journal)
        decisions = _of_symbol(journal, records.DECISION, symbol)
        session = _session(opened, decisions, requested[0])
        own_decisions, topped_up = (
            [event for event in events if event.facts(SignalJudged).signal.session == session.date]
            for events in (decisions, _of_symbol(journal, records.TOP_UP, symbol))
        )
        minute = None if requested[1] is None else _minute(session, requested[1])
        decided = [event.facts(SignalJudged).signal.minute for event in own_decisions]
        minutes = decided if minute is None else [minute]
        run_started = _run_started(journal, session.date)
        explained, note = _explained(instance.home, file, run_started, session, (symbol, minutes))
        book = _book(journal, session, minute)
    return {
        "symbol": symbol,
        "run": file.name,
        **{name: getattr(run_started, name) for name in ("mode", "source", "simulated")},
        "session": session.date.isoformat(),
        "sessions_with_decisions": sorted(
            {event.facts(SignalJudged).signal.session.isoformat() for event in decisions}
        ),
        "asked": None if minute is None else _closed(session, minute),
        "note": note,
        "subscribed": explained is None or explained.subscribed,
        "screening": []
        if explained is None
        else [_screening(session, screening) for screening in explained.screenings],
        "minutes": [] if explained is None else [_moment(session, moment) for moment in explained.moments],
        "decisions": [{"time": event.applied.isoformat(), **event.payload} for event in own_decisions],
        "top_ups": [{"time": event.applied.isoformat(), **event.payload} for event in topped_up],
        **_outcome(book, symbol, session.open),
    }


def _of_symbol(journal: Journal, kind: str, symbol: str) -> list[Event]:
    return [event for event in journal.events(kind=kind) if event.facts(SignalJudged).signal.symbol == symbol]


def _run_started(journal: Journal, date: dt.date) -> RunStarted:
    # The start that opened a session; a later one has continued it, or traded other sessions.
    openings = journal.events(kind=records.SESSION_OPENED)
    opened = max(event.seq for event in openings if event.facts(SessionOpened).date == date)
    starts = list(journal.events(kind=records.RUN_STARTED))
    started = next((event for event in reversed(starts) if event.seq < opened), next(iter(starts), None))
    if started is None:
        message = f"The journal {journal.path} does not record how its run began."
        raise DataError(message, "Choose another with --run.")
    return started.facts(RunStarted)


def _session(opened: Mapping[str, SessionOpened], decisions: Sequence[Event], date: dt.date | None) -> SessionOpened:
    if date is None:
        last = decisions[-1].facts(SignalJudged).signal.session.isoformat() if decisions else max(opened)
        return opened[last]
    if date.isoformat() not in opened:
        raise UsageError(f"The run has no session on {date}.", runs.recorded_sessions_text(sorted(opened), date))
    return opened[date.isoformat()]


def _parse_request(at: str | None, date: str | None) -> tuple[dt.date | None, dt.time | dt.datetime | None]:
    # The requested date of the session, and the requested time.
    day = None if date is None else dates.parse_day(date)
    if at is None:
        return day, None
    try:
        if len(at) <= 5:
            return day, dt.time.fromisoformat(at.zfill(5))
        moment = dt.datetime.fromisoformat(at)
    except ValueError as error:
        raise UsageError(f"Invalid time {at!r}.", "Write 10:56 (New York) or 2026-11-27T15:56+00:00.") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=exchange_zone())
    return day or exchange_time(moment).date(), moment


def _minute(session: SessionOpened, at: dt.time | dt.datetime) -> int:
    # The minute that had just closed; raises UsageError for a time before the first or after the last.
    moment = at if isinstance(at, dt.datetime) else exchange_moment(session.date, at)
    minute = (moment - session.open) // _MINUTE - 1
    if not 0 <= minute < session.minutes:
        first, last = (f"{exchange_time(end):%H:%M}" for end in (session.open + _MINUTE, session.close))
        raise _OutsideSession(
            f"{exchange_time(moment):%H:%M} New York is outside of the session of {session.date}.",
            f"Its first minute ended at {first}, its last at {last}.",
        )
    return minute


def assembly_of_run(home: Path, file: RunFile, run: RunStarted) -> Assembly:
    """The parts of a recorded run with its settings and seed.

    With the present settings where those of the run can no longer be used. Raises what `assemble` raises.
    """
    mode = "paper" if file.rehearsal else cast("Mode", run.mode)
    seed, clock = {"SEED": str(run.request["seed"])}, SystemClock()
    present = read_settings_files(Instance.at(home), live=mode == "live")
    try:
        return assemble(home, mode, clock, seed, runs.with_former(present, runs.settings_of_run(run, "the run")))
    except TbotError:
        return assemble(home, mode, clock, seed, present)


def _explained(
    home: Path, file: RunFile, run: RunStarted, session: SessionOpened, what: tuple[str, Sequence[int]]
) -> tuple[SessionExplanation | None, str]:
    # The recomputed session; None and the reason if that is no longer possible.
    try:
        assembly = assembly_of_run(home, file, run)
        day = session.date
        recording = received_files.recorded_file(runs.received_of(assembly.settings.instance, file), day)
        if recording is None or run.request["kind"] != "live":
            explained = asyncio.run(explain_session(assembly, request_of(run.request, day, assembly), day, *what))
        else:
            vix = {} if file.apart else recorded_vix_in(assembly.settings.instance.journal)
            explained = asyncio.run(explain_received(assembly, received_bars.read_recording(recording), *what, vix))
    except UsageError:
        raise
    except TbotError as fault:
        return None, f"{fault} Only the journal is shown."
    changed = assembly.settings.fingerprint != run.settings_hash
    return explained, " ".join(filter(None, (explained.note, _CHANGED if changed else "")))


def _book(journal: Journal, session: SessionOpened, minute: int | None) -> SessionBook:
    # The book of the journal after the requested minute.
    book, until = SessionBook(), None
    if minute is not None:
        until = session.open + (minute + 1) * _MINUTE
    inside = False
    for event in journal.events():
        if event.kind == records.SESSION_OPENED:
            if inside:
                break
            inside = event.facts(SessionOpened).date == session.date
        if inside and until is not None and event.applied > until:
            break
        book.apply(event)
    return book


def _outcome(book: SessionBook, symbol: str, opened: dt.datetime) -> Document:
    # The position, orders and trades that the decisions on a symbol led to, whatever they trade.
    trades = (one for one in book.trades if one.instrument.underlying == symbol and one.entry_time >= opened)
    return {
        "in_session": book.in_session,
        "position": _position(book, symbol),
        "stuck": next(
            (str(one["words"]) for one in book.stuck if codec.read(PositionStuck, one).signal.symbol == symbol), ""
        ),
        "frozen": book.frozen.get(symbol, ""),
        "orders": [_order(order) for order in book.orders.values() if order.order.signal.symbol == symbol],
        "trades": [trade_document(trade) for trade in trades],
    }


def _closed(session: SessionOpened, minute: int) -> str:
    # The end of a minute.
    return (session.open + (minute + 1) * _MINUTE).isoformat()


def _screening(session: SessionOpened, one: ScreeningExplanation) -> Document:
    near = one.near
    return {
        "strategy": one.strategy,
        "reason": one.reason.name,
        "findings": [_plain(attrs.asdict(finding)) for finding in one.findings],
        "window": attrs.asdict(one.window),
        "entries": [_closed(session, minute - 1) for minute in (one.window.entry, one.window.entry_end)],
        "nearest": None if near is None else _plain(attrs.asdict(near)) | {"time": _closed(session, near.minute)},
    }


def _moment(session: SessionOpened, one: MinuteExplanation) -> Document:
    return {
        "minute": one.minute,
        "time": _closed(session, one.minute),
        "bar": one.bar,
        "quote": None if one.quote is None else attrs.asdict(one.quote),
        "strategies": [
            {
                "strategy": part.strategy,
                "comparisons": [_plain(attrs.asdict(compared)) for compared in part.comparisons],
                "findings": [_plain(attrs.asdict(finding)) for finding in part.findings],
                "filters": None if part.verdict is None else part.verdict.name,
            }
            for part in one.parts
        ],
    }


def _plain(value: Any) -> Any:
    # JSON has no NaN: unknown values are null; a reason is its name.
    match value:
        case Reason():
            return value.name
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _plain(part) for key, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
        case _:
            return value


def _position(book: SessionBook, symbol: str) -> Document | None:
    held = book.portfolio.positions.values()
    position = next((position for position in held if position.signal.symbol == symbol), None)
    if position is None:
        return None
    stop = book.stops.get(position.signal)
    return {
        "strategy": position.signal.strategy,
        "side": position.side.word,
        "quantity": f"{quantity_of(position.units):f}",
        "entry_price": f"{position.entry_price:f}",
        "stop": "" if stop is None else str(stop),
        "pnl_at_last_fill": money_text(dollars_of(position.pnl_atoms)),
    }


def _order(record: OrderRecord) -> Document:
    order = record.order
    return {
        "client_order_id": order.client_order_id,
        "leg": order.leg.value,
        "top_up": order.tops_up,
        "buy": order.buy,
        "type": order.type.value,
        "quantity": f"{order.quantity:f}",
        "limit_price": None if order.limit_price is None else str(order.limit_price),
        "stop_price": None if order.stop_price is None else str(order.stop_price),
        "state": record.state.value,
        "filled": f"{record.filled:f}",
    }
