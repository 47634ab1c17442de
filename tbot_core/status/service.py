"""The service of an instance, which keeps `tbot run` going: its recorded state, and that as a document and text."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.errors import AccessError, JournalError
from tbot_core.journal import records
from tbot_core.journal.events.risk import StateChanged
from tbot_core.journal.events.sessions import RunStopped
from tbot_core.model import json_document
from tbot_core.model.formatting import one_line, plural
from tbot_core.status.runs import current_run, open_run_file
from tbot_core.system import filesystem, large_files
from tbot_core.system.redaction import redact
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tbot_core.instance import Instance
    from tbot_core.journal.store import Journal
    from tbot_core.status import Document

FOLDER: Final = "service"
_OUTPUT: Final = "service.out"
"""What a bot under tbot's own supervisor prints, in the folder of the logs."""

_OWN: Final = "tbot itself"
SHOWN_LINES: Final = 10
_LONGEST_LINE: Final = 400
_REQUESTED: Final = frozenset({StateCause.STOP_COMMAND, StateCause.STOP_FILE})


@attrs.frozen(kw_only=True)
class ServiceState:
    """What is recorded of the service. `wanted`: from its start until a person has stopped it, or its bot in order.

    `actor` started or stopped it, at the time `since` (ISO 8601, UTC). `unit` is the systemd user unit, "" for tbot's
    own supervisor; `supervisor` and `bot` are process ids. `exit` is the last one: `code` or `signal`, and `time`.
    `down` is why no bot is started any more.
    """

    wanted: bool
    actor: str
    since: str
    unit: str = ""
    supervisor: int | None = None
    bot: int | None = None
    restarts: int = 0
    exit: Mapping[str, Any] | None = None
    down: str = ""


def lock_path(instance: Instance) -> Path:
    """The lock that tbot's own supervisor holds while it lives."""
    return instance.data / FOLDER / "lock"


def output_path(instance: Instance) -> Path:
    """The file of what the bot prints under tbot's own supervisor."""
    return instance.logs / _OUTPUT


def read_state(instance: Instance) -> ServiceState | None:
    """The recorded state; None where no service was ever started, or the file is damaged."""
    path = instance.data / FOLDER / "state.json"
    with suppress(AccessError, json_document.InvalidJson, TypeError):
        if filesystem.exists(path):
            return ServiceState(**json_document.parse_json(filesystem.read_text(path)))
    return None


def current_state(instance: Instance) -> ServiceState | None:
    """The recorded state; one under systemd whose bot a person has stopped is not wanted any more."""
    state = read_state(instance)
    if state is None or not (state.wanted and state.unit) or instance.lock_holder or not _was_stopped(instance, state):
        return state
    return attrs.evolve(state, wanted=False, down="The bot was stopped.")


def write_state(instance: Instance, state: ServiceState) -> None:
    """Record the state atomically. Raises AccessError."""
    filesystem.make_folder(instance.data / FOLDER)
    content = json.dumps(attrs.asdict(state), sort_keys=True).encode()
    filesystem.write_atomic(instance.data / FOLDER / "state.json", content)


def runs_own(instance: Instance) -> bool:
    """Whether tbot's own supervisor lives; known by its lock, not by a process id."""
    if not filesystem.exists(lock_path(instance)):
        return False
    from tbot_core.system import processes  # `tbot status` starts no program

    return processes.runs_exclusively(lock_path(instance))


def left_bot(instance: Instance, state: ServiceState | None) -> int | None:
    """The process of a bot that a supervisor started and did not outlive; None where there is none.

    The kernel's table of locks says that this process trades here, not a file that a dead one has left.
    """
    bot = instance.lock_holder
    known = state is not None and state.wanted and not state.unit and state.bot == bot
    return bot if bot is not None and known and filesystem.locker(instance.home) == bot else None


def service_document(instance: Instance) -> Document | None:
    """The service as recorded, without asking systemd; None where none was ever started."""
    state = current_state(instance) or (ServiceState(wanted=True, actor="", since="") if runs_own(instance) else None)
    if state is None:
        return None
    bot = instance.lock_holder if state.unit else state.bot
    running = bot is not None and state.wanted if state.unit else runs_own(instance)
    down = state.down or (_lost(instance, state) if state.wanted and not running else "")
    return {
        "running": running,
        "wanted": state.wanted,
        "failed": state.wanted and not running,
        "since": state.since,
        "actor": state.actor,
        "supervisor": f"systemd user unit {state.unit}" if state.unit else _OWN,
        "supervisor_process": state.supervisor if running else None,
        "process": bot if running else left_bot(instance, state),
        "restarts": state.restarts,
        "exit": None if state.exit is None else dict(state.exit),
        "down": "" if running else down,
    }


def _lost(instance: Instance, state: ServiceState) -> str:
    # Why a wanted service does not run, of which no end is recorded.
    if state.unit:
        return f"No bot runs; `systemctl --user status {state.unit}` says why."
    bot = left_bot(instance, state)
    rest = f"process {bot} trades on without one" if bot else "no bot runs"
    process = "The supervisor" if state.supervisor is None else f"The supervisor, process {state.supervisor},"
    return f"{process} was killed, or the machine restarted; {rest}. `tbot service start` starts it again."


def service_sentence(document: Mapping[str, Any], when: Callable[[str], str] | None = None) -> str:
    """The service in one line; `when` writes its times, by default in UTC."""
    if not document["running"]:
        return document["down"] or f"stopped by {document['actor']}"
    parts = [f"running since {(when or moment)(document['since'])}"]
    if document["process"] is not None:
        parts.append(f"process {document['process']}")
    own = document["supervisor_process"]
    parts.append(f"supervised by {document['supervisor']}{'' if own is None else f' (process {own})'}")
    parts += [plural(document["restarts"], "restart")] if document["restarts"] else []
    parts += [f"last exit {exit_words(document['exit'], when)}"] if document["exit"] else []
    return ", ".join(parts)


def exit_words(ended: Mapping[str, Any], when: Callable[[str], str] | None = None) -> str:
    """An exit as text: code or signal, and time, as `when` writes it, by default in UTC."""
    how = f"by {ended['signal']}" if ended["signal"] else "unseen" if ended["code"] is None else f"{ended['code']}"
    return f"{how} at {(when or moment)(ended['time'])}"


def moment(text: str) -> str:
    """A recorded time as text, in UTC."""
    return f"{dt.datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S} UTC" if text else "an unknown time"


def last_lines(path: Path, most: int = SHOWN_LINES) -> list[str]:
    """The last lines of an output, redacted and without control characters."""
    found: list[str] = []
    with suppress(AccessError):
        for _, line in large_files.lines_back(path) if filesystem.exists(path) else ():
            found.append(shown_line(line.decode("utf-8", "replace")))
            if len(found) == most:
                break
    return [line for line in reversed(found) if line]


def shown_line(text: str) -> str:
    """A printed line, redacted, bounded and without control characters."""
    return redact(one_line(text))[:_LONGEST_LINE]


def journal_head(instance: Instance) -> int:
    """The number of the last event of the account's journal; 0 where it cannot be read."""
    with _journal(instance) as journal:
        return 0 if journal is None else journal.head[0]


def _was_stopped(instance: Instance, state: ServiceState) -> bool:
    # Whether a person has stopped the bot since the service was started, by a request or the stop file.
    # A signal does not count: the machine sends one before it restarts.
    since = dt.datetime.fromisoformat(state.since)
    with _journal(instance) as journal:
        ended = None if journal is None else journal.last_event(records.STOPPED)
        if journal is None or ended is None or ended.applied < since:
            return False
        changes = [(event, event.facts(StateChanged)) for event in journal.events(kind=records.STATE)]
        requests = [(event.applied, change.there) for event, change in changes if change.cause in _REQUESTED]
        return bool(requests) and requests[-1][1] and requests[-1][0] >= since


def stop_after(instance: Instance, head: int) -> RunStopped | None:
    """What a bot recorded of its stop after an event; None where it recorded none."""
    with _journal(instance) as journal:
        stop = None if journal is None else journal.last_event(records.STOPPED)
        return None if stop is None or stop.seq <= head else stop.facts(RunStopped)


@contextmanager
def _journal(instance: Instance) -> Iterator[Journal | None]:
    # The journal of the account, or of the rehearsal in which the bot trades; None where it cannot be read.
    with ExitStack() as opened:
        journal = None
        with suppress(JournalError):
            if (file := current_run(instance)) is not None:
                journal = opened.enter_context(open_run_file(file))
        yield journal
