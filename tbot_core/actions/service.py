"""Starts, stops and shows the service: `tbot run` under a systemd user unit where there is one, else under our own."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.actions.control_requests import request_result
from tbot_core.actions.supervisor import CONDITION
from tbot_core.engine.control import ControlVerb
from tbot_core.errors import AccessError, SettingsError, UsageError, VaultError
from tbot_core.instance.control_folder import with_control_folder
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.instance.sources import find_instance
from tbot_core.journal.events.sessions import RunStopped
from tbot_core.model.clock import SystemClock
from tbot_core.status import Document, service
from tbot_core.status.event_lines import stopped_sentence
from tbot_core.status.service import ServiceState, service_document, service_sentence
from tbot_core.system import environ, filesystem, log, processes
from tbot_core.vault import key_providers
from tbot_core.vault.audit_log import log_path
from tbot_core.vault.categories import CONTROL
from tbot_core.vault.vault import SecretAccess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tbot_core.instance import Instance

PROGRAM: Final = (sys.executable, "-P", "-m", "tbot_core")
LINGER: Final = Path("/var/lib/systemd/linger")
"""Has a file for each user whose units run without a login."""

_START_S: Final = 20.0
STOP_S: Final = 180.0
"""How long a start and a stop are waited for."""

_STEADY_S: Final = 5.0
"""A bot that lives for so long has started; its settings are read by then."""

_POLL_S: Final = 0.05
_ASK_S: Final = 20.0
_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class ServiceChange:
    """What a start or stop did: the sentences for the person, and the service as it is now.

    `changed` is False where it was so before, `code` is the exit code. `open` and `unconfirmed`, of a stop: what the
    bot left open, and why the account could not be read then.
    """

    changed: bool
    code: int
    sentences: tuple[str, ...]
    service: Document | None
    open: tuple[str, ...] = ()
    unconfirmed: str = ""

    def document(self) -> Document:
        """The result as a JSON document."""
        return attrs.asdict(self)


@attrs.frozen(kw_only=True)
class ServiceHost:
    """The programs of the service: tbot's command line, systemd's, and how long a bot lives that has started."""

    program: Sequence[str] = PROGRAM
    systemctl: str = "systemctl"
    journalctl: str = "journalctl"
    steady_s: float = _STEADY_S

    def ask(self, *words: str) -> str | None:
        """What systemd's user manager answers to a command; None where it refuses, or there is none."""
        return self._output(self.systemctl, "--user", *words)

    def lines(self, unit: str) -> list[str]:
        """The last lines that a unit has printed."""
        asked = ("--user", f"--unit={unit}", f"--lines={service.SHOWN_LINES}", "--output=cat", "--no-pager")
        return [service.shown_line(line) for line in (self._output(self.journalctl, *asked) or "").splitlines()]

    def _output(self, *command: str) -> str | None:
        if environ.program(command[0]) is None:
            return None
        found = processes.run_program(command, timeout_s=_ASK_S, environment=environ.manager_environment())
        return found.output if found.code == 0 else None


HOST: Final = ServiceHost()


def start_service(
    home: Path | None,
    options: Sequence[str] = (),
    actor: str = "",
    host: ServiceHost = HOST,
    notice: Callable[[str], None] = lambda _words: None,
) -> ServiceChange:
    """Keep `tbot run` going, with these options of its command line; one that is kept going already stays as it is.

    Returns once the bot has lived for a moment, or why it does not; `notice` is called with what is waited for. Raises
    SettingsError where there is no instance, or its keys come from a passphrase.
    """
    instance = find_instance(home)
    _assert_unattended()
    state, bot = service.read_state(instance), instance.lock_holder
    found = service_status(instance.home, host)
    if found is not None and found["running"]:
        return ServiceChange(
            changed=False, code=0, sentences=(f"It runs already: {service_sentence(found)}.",), service=found
        )
    if bot is not None and bot != service.left_bot(instance, state):
        words = f"Process {bot} runs here already, and the service did not start it; nothing was changed."
        return ServiceChange(changed=False, code=1, sentences=(words, "Stop it first: `tbot stop`."), service=found)
    notice(f"Starting the bot; waiting until it has run for {host.steady_s:g} s, at most {_START_S:g} s.")
    filesystem.make_folder(instance.logs)
    filesystem.make_folder(instance.data / service.FOLDER)
    command = (*host.program, "run", f"--home={instance.home}", *options)
    fresh = ServiceState(wanted=True, actor=actor or environ.user_name(), since=SystemClock().now().isoformat())
    use_systemd = bot is None and _has_manager(host)  # a bot that runs on stays with a supervisor that can wait for it
    notes = _enable(instance, host, command, fresh) if use_systemd else _start_own(instance, command, fresh)
    if notes is None:
        return start_service(home, options, actor, host, notice)
    notes += _record(instance, actor, "started the service")
    shown = _settled(instance, host)
    failed = shown is None or not shown["running"]
    first = "The bot does not run." if failed else "Started."
    said = () if shown is None else (service_sentence(shown),)
    return ServiceChange(changed=True, code=int(failed), sentences=(first, *said, *notes), service=shown)


def stop_service(
    home: Path | None, actor: str = "", notice: Callable[[str], None] = lambda _words: None, host: ServiceHost = HOST
) -> ServiceChange:
    """Stop the bot by STOP_POLICY, as SIGTERM does, then its supervisor, which does not come back.

    `notice` is called with what is waited for, about every second. Raises SettingsError where there is no instance.
    """
    instance = find_instance(home)
    found, head, bot = service_status(instance.home, host), service.journal_head(instance), instance.lock_holder
    state = service.read_state(instance)
    left, unit = service.left_bot(instance, state), "" if state is None else state.unit
    if found is None or not (found["running"] or left or (unit and found["wanted"])):
        notes = _note_stopped(instance, actor) if found is not None and found["wanted"] else ()
        rest = "" if bot is None else f" Process {bot} runs here, started by hand: `tbot stop` stops it."
        return ServiceChange(
            changed=False, code=int(bot is not None), sentences=(f"No service runs.{rest}", *notes), service=found
        )
    if not (_disable(instance, unit, host, notice) if unit else _end_own(instance, left, notice)):
        words = f"It has not ended within {STOP_S:g} s, and is still being stopped; `tbot service status` shows it."
        return ServiceChange(changed=True, code=1, sentences=(words,), service=service_status(instance.home, host))
    notes = (*_note_stopped(instance, actor), *_record(instance, actor, "stopped the service"))
    return _stopped(instance, head, bot, notes, host)


def _note_stopped(instance: Instance, actor: str) -> tuple[str, ...]:
    # Record that no service is wanted; a full disk does not hide what a stop has left open.
    state = service.read_state(instance)
    if state is None:
        return ()
    try:
        stopped = attrs.evolve(state, wanted=False, down="", bot=None, actor=actor or environ.user_name())
        service.write_state(instance, stopped)
    except AccessError as fault:
        return (f"The state of the service could not be written: {fault.message}",)
    return ()


def _stopped(
    instance: Instance, head: int, bot: int | None, notes: tuple[str, ...], host: ServiceHost
) -> ServiceChange:
    # What the stop has left open; where the bot recorded no stop, what the journal shows as open.
    ended, sentence = service.stop_after(instance, head), ""
    if ended is None:
        books = request_result(with_control_folder(instance), ControlVerb.STOP_KEEP, "none", None)
        unknown = books.unread or ("" if books.between else "a session is under way, and no stop of it is recorded.")
        ended = RunStopped(open=tuple(books.open), unconfirmed=unknown)
        parts = ["The bot ended without a record of its stop." if bot else "No bot was trading."]
        parts += [f"Open and not managed by any bot: {', '.join(books.open)}."] if books.open else []
        sentence = " ".join((*parts, *([f"More may be open: {unknown}"] if unknown else ())))
    left, unconfirmed = ended.open, ended.unconfirmed
    return ServiceChange(
        changed=True,
        code=int(bool(left or unconfirmed)),
        sentences=(sentence or stopped_sentence(left, unconfirmed), *notes),
        service=service_status(instance.home, host),
        open=left,
        unconfirmed=unconfirmed,
    )


def service_status(home: Path | None, host: ServiceHost = HOST) -> Document | None:
    """The service as it is now, with the last lines of output; None where none was ever started.

    Raises SettingsError where there is no instance.
    """
    instance = find_instance(home)
    found, state = service_document(instance), service.current_state(instance)
    if found is None:
        return None
    if state is None or not state.unit:
        return found | {"output": service.last_lines(service.output_path(instance))}
    return found | _unit_fields(state.unit, host, wanted=state.wanted)


def status_lines(found: Document | None) -> list[str]:
    """The service as text."""
    if found is None:
        return ["No service was ever started here; `tbot service start` starts it."]
    bot = "no bot runs now" if found["process"] is None else f"bot: process {found['process']}"
    lines = [service_sentence(found), f"{bot}; started or stopped last by {found['actor']}"]
    if found["exit"] and not found["running"]:
        lines.append(f"last exit: {service.exit_words(found['exit'])}")
    return [*lines, *(f"  {line}" for line in found["output"])]


def _assert_unattended() -> None:
    # A passphrase is asked for at each start, and a service has no terminal to ask at.
    if environ.variable(key_providers.VARIABLE) == "passphrase":
        raise SettingsError(
            "The keys come from a passphrase, which is asked for at each start: the bot cannot start unattended.",
            "Run `tbot run` in a terminal, or use a provider that asks for nothing (docs/secrets.md, key providers).",
        )


def _record(instance: Instance, actor: str, words: str) -> tuple[str, ...]:
    # A line of the audit log, where the instance has one. What was done stays, also where it cannot be written.
    from tbot_core.contracts.settings import DeploymentSettings

    if not filesystem.is_present(log_path(instance)):
        return ()
    try:
        opened = open_instance_vault(instance, DeploymentSettings(), actor=actor, ready=False)
        opened.audit.record(SecretAccess(action="write", category=CONTROL, outcome=words))
    except (AccessError, VaultError) as fault:
        _log.warning("audit.service_not_written", action=words, reason=fault.message)
        return (f"The audit log does not have it: {fault.message}",)
    return ()


# tbot's own supervisor.


def _start_own(instance: Instance, command: Sequence[str], fresh: ServiceState) -> tuple[str, ...] | None:
    # None where another caller was first.
    errors = instance.logs / "supervisor.out"
    process = processes.start_exclusive(
        (sys.executable, "-P", "-m", "tbot_core.actions.supervisor", str(instance.home), *command),
        environment=environ.own_environment(),
        lock=service.lock_path(instance),
        streams=(errors, errors),
        prepare=lambda: service.write_state(instance, fresh),
    )
    if process is None:
        _sleep(_POLL_S)
        return None
    return ("There is no systemd user manager here: after a reboot, start it again.",)


def _settled(instance: Instance, host: ServiceHost) -> Document | None:
    # The service once its bot has lived for a moment, or is not started again.
    clock = SystemClock()
    until, process, since = clock.monotonic() + _START_S, None, clock.monotonic()
    while (found := service_status(instance.home, host)) is not None and clock.monotonic() < until:
        if found["process"] != process:
            process, since = found["process"], clock.monotonic()
        lives = process is not None and clock.monotonic() - since >= host.steady_s
        if lives or not found["running"]:
            break
        _sleep(_POLL_S)
    return found


def _end_own(instance: Instance, left: int | None, notice: Callable[[str], None]) -> bool:
    # Stop the supervisor, or the bot that one has left.
    if left is not None and not service.runs_own(instance):
        processes.end_program(left)
        return _gone(lambda: instance.lock_holder != left, notice)
    asked = False

    def ended() -> bool:
        nonlocal asked
        state = service.read_state(instance)
        if not service.runs_own(instance):
            return True
        if not asked and state is not None and state.supervisor is not None:
            processes.end_program(state.supervisor)
            asked = True
        return False

    return _gone(ended, notice)


def _gone(ended: Callable[[], bool], notice: Callable[[str], None]) -> bool:
    clock = SystemClock()
    began = said = clock.monotonic()
    while not ended():
        now = clock.monotonic()
        if now - began > STOP_S:
            return False
        if now - said >= 1:
            said = now
            notice(f"The bot is being stopped by STOP_POLICY, for {now - began:.0f} s now.")
        _sleep(_POLL_S)
    return True


def _sleep(seconds: float) -> None:
    asyncio.run(SystemClock().sleep(seconds))


# A systemd user unit.


def unit_name(instance: Instance) -> str:
    """The name of the instance's unit; two instances have two."""
    word = re.sub(r"[^A-Za-z0-9_-]", "-", instance.home.name)[:40]
    return f"tbot-{word}-{hashlib.sha256(str(instance.home).encode()).hexdigest()[:8]}.service"


def unit_text(instance: Instance, command: Sequence[str], environment: Mapping[str, str]) -> str:
    """The unit; it restarts the bot as `deploy/tbot@.service` does. Raises UsageError for control characters."""
    home = instance.home
    if not all(word.isprintable() for word in (str(home), *command, *environment.values())):
        raise UsageError(f"{str(home)!r} or an option has control characters, which no unit can have.", "Rename it.")
    variables = " ".join(_quoted(f"{name}={value}", "%") for name, value in sorted(environment.items()))
    return _UNIT.format(
        name=str(home).replace("%", "%%"),
        home=str(home).replace("%", "%%"),
        environment=variables,
        command=_command_text(command),
        condition=_command_text((sys.executable, "-P", "-m", "tbot_core.actions.supervisor", CONDITION, str(home))),
    )


def _command_text(command: Sequence[str]) -> str:
    return " ".join(_quoted(word, "%$" if place else "%") for place, word in enumerate(command))


def _quoted(word: str, doubled: str) -> str:
    # A word of a unit: `doubled` are the characters that would begin a variable or specifier.
    word = word.replace("\\", "\\\\").replace('"', '\\"')
    for character in doubled:
        word = word.replace(character, character * 2)
    return f'"{word}"'


_UNIT: Final = """\
[Unit]
Description=tbot trading bot, instance {name}
StartLimitIntervalSec=10min
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
WatchdogSec=60
WorkingDirectory={home}
Environment={environment}
# Not after a stop by a person, though a bot that left positions open ends with 1.
ExecCondition={condition}
ExecStart={command}
TimeoutStartSec=300
# API_TIMEOUT and the closing of positions, where STOP_POLICY asks for it.
TimeoutStopSec=90
KillSignal=SIGTERM
KillMode=mixed
Restart=on-failure
RestartSec=5
# Wrong usage, settings or secrets, and refused by risk: a restart changes nothing.
RestartPreventExitStatus=2 3 5
LimitCORE=0
UMask=0077
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""


def _has_manager(host: ServiceHost) -> bool:
    return host.ask("show-environment") is not None


def _enable(instance: Instance, host: ServiceHost, command: Sequence[str], fresh: ServiceState) -> tuple[str, ...]:
    # Link the unit, and start it. systemd ends a user's units with the last login unless the user lingers.
    name = unit_name(instance)
    variables = environ.own_environment() | {"TBOT_HOME": str(instance.home), "PYTHONUNBUFFERED": "1"}
    path = instance.data / service.FOLDER / name
    filesystem.write_atomic(path, unit_text(instance, command, variables).encode())
    service.write_state(instance, attrs.evolve(fresh, unit=name))
    host.ask("reset-failed", name)
    if host.ask("--no-block", "enable", "--now", str(path)) is None:
        service.write_state(instance, attrs.evolve(fresh, wanted=False))
        raise AccessError(f"systemd's user manager does not start {path}.", f"See `systemctl --user status {name}`.")
    user = environ.user_name()
    if filesystem.exists(LINGER / user):
        return ()
    return (
        f"systemd ends it with your last login, and starts it at the next: `loginctl enable-linger {user}` keeps it.",
    )


def _disable(instance: Instance, unit: str, host: ServiceHost, notice: Callable[[str], None]) -> bool:
    # Unlink the unit first, so that it does not come back at a reboot, then wait for its end.
    host.ask("disable", unit)
    host.ask("--no-block", "stop", unit)
    return _gone(lambda: _unit_fields(unit, host)["process"] is None and instance.lock_holder is None, notice)


def _unit_fields(unit: str, host: ServiceHost, *, wanted: bool = True) -> Document:
    # What systemd knows of the unit, in the fields of the document.
    names = "ActiveState,MainPID,NRestarts,ExecMainCode,ExecMainStatus,ExecMainExitTimestamp,Result"
    said = host.ask("show", unit, "--timestamp=unix", f"--property={names}") or ""
    known = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    running = known.get("ActiveState") in {"active", "activating", "reloading", "deactivating"}
    why = f"{unit} is {known.get('ActiveState', 'unknown to systemd')}: {known.get('Result', 'no result')}."
    return {
        "running": running,
        "failed": wanted and not running,
        "process": int(known.get("MainPID", "0")) or None,
        "restarts": int(known.get("NRestarts", "0")),
        "exit": _unit_exit(known),
        **({"down": "" if running else why} if wanted else {}),
        "output": host.lines(unit),
    }


def _unit_exit(known: Mapping[str, str]) -> Document | None:
    # The last exit of the bot; systemd numbers its kinds as waitid(2) does: 1 is an exit code, 2 and 3 are signals.
    if not (at := known.get("ExecMainExitTimestamp", "").removeprefix("@")).isdecimal():
        return None
    number, signalled = int(known.get("ExecMainStatus", "0")), known.get("ExecMainCode") in {"2", "3"}
    when = dt.datetime.fromtimestamp(int(at), dt.UTC).isoformat()
    name = processes.signal_name(number) if signalled else ""
    return {"code": None if signalled else number, "signal": name, "time": when}
