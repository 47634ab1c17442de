"""Requests to a running bot: send one, wait until the bot has recorded it, and report the result."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.session.requests import FUTURE_SESSION_VERBS
from tbot_core.errors import AccessError, JournalError, SettingsError
from tbot_core.instance import Instance, has_settings
from tbot_core.instance.control_folder import known_control_folder, with_control_folder
from tbot_core.instance.folder import SIMULATION
from tbot_core.journal import records
from tbot_core.journal.events.risk import RequestExecuted, RequestRefused
from tbot_core.journal.events.sessions import RunStopped
from tbot_core.journal.projections.book import SessionBook
from tbot_core.model.clock import SystemClock
from tbot_core.status.event_lines import stopped_sentence, unprotected_sentences
from tbot_core.status.risk_state import next_start, read_control_folder, risk_status, withdraws_something
from tbot_core.status.runs import current_run, open_run_file, with_current_run
from tbot_core.system import environ, filesystem
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tbot_core.engine.control import ControlRequest
    from tbot_core.journal.store import Event
    from tbot_core.model.clock import Clock

PICKUP_TIMEOUT_S: Final = 5.0
"""Time limits for a running bot to record a request, and to carry out a stop."""

_POLL_S: Final = 0.05
_RECORDED: Final = frozenset({records.REQUEST, records.REQUEST_REFUSED})


@attrs.frozen(kw_only=True)
class RequestResult:
    """The result of a request.

    `process` runs the bot, None if none runs. `taken`: whether it recorded the request; `refused`: why it refused it.
    `ended`: whether the run has stopped since; `open`: the open positions, for a stop also working orders, positions of
    earlier sessions, and what was open when the run ended. Of these are `unprotected` those without a stop order, and
    `cancelling` those whose stop has an unconfirmed cancel. `unconfirmed`: why the account could not be read then.
    `state` and `causes` are the current ones of the journal, without a bot those with which the next start begins;
    `unread`: why it cannot be read. `folder` is the control
    folder as CONTROL_DIR names it. `between`: no session is under way. `needless`: it withdraws what was not there.
    """

    verb: ControlVerb
    process: int | None
    taken: bool = False
    refused: str = ""
    ended: bool = False
    open: tuple[str, ...] = ()
    unprotected: tuple[str, ...] = ()
    cancelling: tuple[str, ...] = ()
    unconfirmed: str = ""
    state: str = "normal"
    causes: tuple[str, ...] = ()
    unread: str = ""
    folder: str = "control"
    between: bool = False
    needless: bool = False

    def document(self) -> dict[str, Any]:
        """The result as a JSON document."""
        return attrs.asdict(self) | {"verb": self.verb.value, "waits": self.waits}

    @property
    def waits(self) -> bool:
        """Whether it waits in the control folder: for the next start, or for the next session where it is for that."""
        later = self.process is None or (self.between and self.verb in FUTURE_SESSION_VERBS)
        return later and not (self.taken or self.refused)

    @property
    def lost(self) -> str:
        """Why the request has no effect yet; "" if it was recorded, or waits for its session."""
        if self.refused:
            return f"The bot refused the request: {self.refused}"
        if self.taken or self.waits:
            return ""
        waited = f"{PICKUP_TIMEOUT_S:g} s"
        stays = f"it stays in {self.folder}/ until one does"
        return f"Process {self.process} has not recorded the request within {waited}; {stays}."


async def send_request(
    home: Path | None,
    verb: ControlVerb,
    clock: Clock,
    arguments: Mapping[str, str] | None = None,
    actor: str = "",
) -> RequestResult:
    """Send a request, and wait until a running bot has recorded it, and for a stop until it has ended.

    `actor` is who requests it, the account's user name by default, and `arguments` are those of the request.
    Without a running bot the request takes effect at the next start, in place of an equal one that waits. Raises
    SettingsError where there is no instance, AccessError where a simulation runs in it.
    """
    instance = Instance.at(home)
    if not has_settings(instance):
        raise SettingsError(f"{instance.home} is not an instance.", "Give its folder with --home.")
    instance = with_control_folder(instance)
    process = instance.lock_holder
    if process is not None and filesystem.lock_purpose(instance.lock) == SIMULATION:
        message = f"Process {process} runs a simulation here, which accepts no requests; no request was sent."
        raise AccessError(message, "Stop it with Ctrl-C in its terminal, or try again after it has ended.")
    needless = _is_needless(instance, verb)
    try:
        name = control.write_request(
            instance.control,
            verb,
            actor=actor or environ.user_name(),
            now=clock.now(),
            order=_next_order(instance),
            arguments=arguments,
        )
    except AccessError as fault:
        raise AccessError(
            fault.message, f"{fault.remedy} {without_request(instance, verb, process)}".rstrip()
        ) from fault
    if process is None:
        _drop_equal(instance.control, name)
    ends, until = verb in _ENDS, clock.monotonic() + PICKUP_TIMEOUT_S
    result = request_result(instance, verb, name, process)
    while process is not None and _pending(result, instance, ends=ends) and clock.monotonic() < until:
        instance = with_current_run(instance)  # a rehearsal's journal counts also after it has ended
        await clock.sleep(_POLL_S)
        gone = instance.lock_holder is None  # asked before the events are read: after its end a bot records nothing
        result = request_result(instance, verb, name, process)
        if gone:
            process = process if result.taken or result.refused else None
            return attrs.evolve(result, process=process, needless=needless)
    return attrs.evolve(result, needless=needless)


def _next_order(instance: Instance) -> int:
    # The order of a request that is made now. What leaves the folder meanwhile is in the journal, which is read later.
    # After a request of the largest order, which anybody may have written, the moments of the requests decide.
    waiting = [one.order for one in read_control_folder(instance.control).requests]
    return min(control.LARGEST_ORDER, 1 + max([*waiting, _last_order(instance)]))


def _last_order(instance: Instance) -> int:
    # The number of the last event, or the order of the last request if that is more; 0 where no journal can be read.
    try:
        if (file := current_run(instance)) is None:
            return 0
        with open_run_file(file) as journal:
            last = journal.last_event(records.REQUEST)
            return max(journal.head[0], 0 if last is None else last.facts(RequestExecuted).order)
    except JournalError:
        return 0


def _drop_equal(folder: Path, name: str) -> None:
    # The last of equal requests says what the next start does: however often one is sent, one waits.
    with suppress(AccessError):
        waiting = control.read_folder(folder).requests
        last = next((one for one in waiting if one.name == name), None)
        for one in waiting:
            if last is not None and one.name != name and (one.verb, one.arguments) == (last.verb, last.arguments):
                control.remove_request(folder, one.name)


def refuse_waiting(
    home: Path | None, judge: Callable[[ControlRequest], str], record: Callable[[ControlRequest, str], None]
) -> None:
    """Remove the waiting requests against which `judge` gives a reason, each after `record` of it and of the reason.

    Raises AccessError if the control folder cannot be read or written.
    """
    folder = known_control_folder(Instance.at(home)).control
    for one in control.read_folder(folder).requests:
        if why := judge(one):
            record(one, why)
            control.remove_request(folder, one.name)


def waiting_of(home: Path | None, actor: str) -> tuple[str, ...]:
    """What the requests of an actor that wait ask for, in their order; empty if the folder cannot be read."""
    waiting = read_control_folder(known_control_folder(Instance.at(home)).control).requests
    return tuple(one.verb.value for one in waiting if one.actor == actor)


def _is_needless(instance: Instance, verb: ControlVerb) -> bool:
    # Whether the request withdraws a kill or stop that is not there; before it is written, and no if that is unknown.
    if verb not in {ControlVerb.KILL_CLEAR, ControlVerb.STOP_CANCEL}:
        return False
    try:
        return not withdraws_something(verb, _events(instance), read_control_folder(instance.control))
    except JournalError:
        return False


def request(verb: str, home: Path | None, arguments: Mapping[str, str] | None = None, actor: str = "") -> RequestResult:
    """Send a request as `send_request` does, and block until its result is known."""
    return asyncio.run(send_request(home, ControlVerb(verb), SystemClock(), arguments, actor))


def result_notes(answer: RequestResult) -> list[str]:
    """Warnings about a result: without its journal the positions of the bot are unknown."""
    return [f"The journal cannot be read, so the positions are unknown: {answer.unread}"] if answer.unread else []


def without_request(instance: Instance, verb: ControlVerb, process: int | None) -> str:
    """How to stop the bot where no request can be written: an empty file needs no space, a signal no file."""
    name = control.KILL if verb in _KILLS else control.STOP if verb in _ENDS else ""
    if not name:
        return ""
    if filesystem.is_writable_folder(instance.control):
        return f"`touch {instance.control / name}` needs no space and blocks entries in any case."
    file = f"{instance.control} cannot be written to, so the file {instance.control_dir}/{name} cannot be made either"
    if process is None:
        return f"{file}. No bot is running."
    signal = "USR2" if name == control.KILL else "TERM"
    return f"{file}: `kill -{signal} {process}` has the same effect as `tbot {name}`."


_KILLS: Final = frozenset({ControlVerb.KILL, ControlVerb.KILL_FLATTEN})
_ENDS: Final = frozenset({ControlVerb.STOP, ControlVerb.STOP_FLATTEN, ControlVerb.STOP_KEEP})


def _pending(answer: RequestResult, instance: Instance, *, ends: bool) -> bool:
    # A bot that is to end has ended once its process no longer holds the lock of the instance.
    over = answer.ended and instance.lock_holder != answer.process if ends else answer.taken
    return not (answer.refused or over)


def request_result(instance: Instance, verb: ControlVerb, name: str, process: int | None) -> RequestResult:
    """The current state of the request in the file `name`, from the journal of the account that the bot trades."""
    has_file = filesystem.is_present(
        instance.control / name
    )  # read before the events: a request whose file is gone is in the journal by then
    result = RequestResult(verb=verb, process=process, folder=instance.control_dir)
    try:
        events = _events(instance)
    except JournalError as fault:  # the bot removes the file only after it has recorded the request
        return attrs.evolve(result, taken=process is not None and not has_file, unread=str(fault))
    book = SessionBook()
    for event in events:
        book.apply(event)
        result = _after_event(result, event, name)
    now = risk_status(instance.control, events, book, running=process is not None)
    if result.taken and has_file:
        result = attrs.evolve(result, taken=False)
    result = _with_left_open(result, events) if verb in _ENDS else _with_positions(result, book)
    now = next_start(now) if process is None else now
    return attrs.evolve(result, state=now.state, causes=now.causes, between=not book.in_session)


def _events(instance: Instance) -> list[Event]:
    # The events of the account that the bot trades; none before the first start.
    if (file := current_run(instance)) is None:
        return []
    with open_run_file(file) as journal:
        return list(journal.events())


def _with_positions(found: RequestResult, book: SessionBook) -> RequestResult:
    # The positions of the current session.
    from tbot_core.engine.session.open_positions import is_protected

    held = tuple(book.portfolio.symbols) if book.in_session else ()
    return attrs.evolve(
        found,
        open=held,
        unprotected=tuple(symbol for symbol in held if not is_protected(book, symbol)),
        cancelling=tuple(symbol for symbol in held if book.is_stop_cancelling(symbol)),
    )


def _with_left_open(found: RequestResult, events: Sequence[Event]) -> RequestResult:
    # The positions and orders that a stop leaves open, also those that earlier sessions could not close.
    from tbot_core.engine.session.open_positions import remaining_positions

    opened = next((place for place in reversed(range(len(events))) if events[place].kind == records.SESSION_OPENED), 0)
    left = remaining_positions(events, events[opened:], found.open)
    return attrs.evolve(found, open=left.open, unprotected=left.unprotected, cancelling=left.cancelling)


def _after_event(found: RequestResult, event: Event, name: str) -> RequestResult:
    if event.kind == records.REQUEST and event.facts(RequestExecuted).name == name:
        return attrs.evolve(found, taken=True, refused="")
    if event.kind == records.REQUEST_REFUSED and event.facts(RequestRefused).name == name:
        return attrs.evolve(found, taken=False, refused=event.facts(RequestRefused).words)
    if found.taken and event.kind == records.STOPPED:
        stopped = event.facts(RunStopped)
        return attrs.evolve(found, ended=True, open=stopped.open, unconfirmed=stopped.unconfirmed)
    return found


def stop_sentence(answer: RequestResult) -> str:
    """The result of the stop as a sentence."""
    if answer.lost:
        return answer.lost
    if answer.verb is ControlVerb.STOP_CANCEL:
        return _undone(answer)
    working = answer.process is not None and not answer.ended and answer.verb is not ControlVerb.STOP_KEEP
    unprotected = answer.cancelling if working else answer.unprotected  # what is being closed loses its stop first
    return " ".join((_stop_progress(answer), *unprotected_sentences(unprotected, answer.cancelling)))


def _stop_progress(answer: RequestResult) -> str:
    # What is open, or what the bot does until it ends, and why that takes long.
    positions = ", ".join(answer.open)
    if answer.process is None:
        rest = f" Open and not managed by any bot: {positions}." if positions else ""
        return f"No bot is running; the stop takes effect at the next start, and `tbot stop --cancel` undoes it.{rest}"
    if answer.ended:
        return stopped_sentence(answer.open, answer.unconfirmed)
    what = positions or "all positions"
    exits, stops = ("its exit", "its stop") if len(answer.open) == 1 else ("their exits", "their stops")
    doing, until = {
        ControlVerb.STOP_FLATTEN: (f"closes {what}", "the broker has confirmed it"),
        ControlVerb.STOP_KEEP: (
            f"keeps {what}{_with_stops(answer, stops)}",
            "no order is in transit, after API_TIMEOUT at the latest",
        ),
    }.get(answer.verb, (f"manages {what} to {exits}", "nothing is held"))
    silent = ", ".join(cause for cause in answer.causes if cause in SILENT)
    why = f" But {silent}; `tbot status` shows what is known." if silent else ""
    return f"The bot blocks entries, {doing}, then ends as soon as {until}.{why}"


def _with_stops(answer: RequestResult, stops: str) -> str:
    # Stops are promised only where each open symbol has one, and no cancel of it was requested.
    return "" if answer.unprotected else f" with {stops}"


SILENT: Final = tuple(
    cause.value
    for cause in (
        StateCause.UNREACHABLE,
        StateCause.UNKNOWN,
        StateCause.UNRECONCILED,
        StateCause.LOGIN,
        StateCause.BROKER_PLUGIN,
        StateCause.MAINTENANCE,
        StateCause.BROKERS_DOWN,
    )
)
"""While one of these causes is active, the account may have positions and orders that the journal does not know."""


def _undone(answer: RequestResult) -> str:
    if answer.needless:
        return f"There was no stop to undo; the state is {answer.state}."
    if answer.process is None:
        waits = f"No bot is running, so the request waits in {answer.folder}/"
        return f"{waits}; the stop is undone: the next start begins without it."
    return f"The bot has accepted the request: the stop is undone; the state is {answer.state}."


def left_open(answer: RequestResult) -> bool:
    """Whether a stop that is over leaves positions or orders open, or may do so."""
    over = answer.verb is not ControlVerb.STOP_CANCEL and (answer.ended or answer.process is None)
    return over and bool(answer.open or answer.unread or answer.unconfirmed)


def kill_sentence(answer: RequestResult) -> str:
    """The result of the kill as a sentence."""
    if answer.lost and answer.verb is not ControlVerb.KILL_CLEAR and not answer.taken:
        return f"{answer.lost} `touch {answer.folder}/kill` in the instance's folder blocks entries in any case."
    if answer.lost:
        return answer.lost
    if answer.verb is ControlVerb.KILL_CLEAR:
        return _cleared(answer)
    if answer.process is None:
        return "No bot is running; the kill takes effect from the next start, and `tbot kill --clear` undoes it."
    positions = ", ".join(answer.open)
    keeps = answer.verb is not ControlVerb.KILL_FLATTEN
    doing = f"kept{_with_stops(answer, 'their stops')}" if keeps else "being closed"
    killed = ["Killed: entries are blocked until `tbot kill --clear`."]
    killed += [f"Positions are {doing}: {positions}."] if positions else []
    return " ".join((*killed, *unprotected_sentences(answer.unprotected if keeps else (), answer.cancelling)))


def _cleared(answer: RequestResult) -> str:
    # The command clears its own kill and that of a signal; the file is removed by the person who created it.
    rest = f": {', '.join(answer.causes)}" if answer.causes else ""
    if answer.needless and not stays_killed(answer):
        return f"There was no kill to clear; the state is {answer.state}{rest}."
    if answer.process is None:
        file = f"{answer.folder}/kill"
        stays = f" But the file {file} exists and keeps the bot halted: `rm {file}` ends it."
        gone = f"No bot is running, so the request waits in {answer.folder}/; the kill is cleared"
        return f"{gone}.{stays}" if stays_killed(answer) else f"{gone}: the next start begins without it."
    if stays_killed(answer):
        accepted = "The bot has accepted the request: `tbot kill` is cleared"
        return f"{accepted}, but the state stays {answer.state}{rest}. `rm {answer.folder}/kill` ends it."
    return f"The bot has accepted the request: the kill is cleared; the state is {answer.state}{rest}."


def stays_killed(answer: RequestResult) -> bool:
    """Whether the file control/kill keeps the bot halted although the kill of the command is cleared."""
    return answer.verb is ControlVerb.KILL_CLEAR and StateCause.KILL_FILE.value in answer.causes
