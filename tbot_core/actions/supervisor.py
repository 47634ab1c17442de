"""tbot's own supervisor: a process that keeps a bot going where no systemd user manager does.

Run as `python -m tbot_core.actions.supervisor HOME COMMAND...`, with the lock of the service held. SIGTERM stops the
bot in order, and then ends it. With `--may-start HOME` it says by its exit code whether systemd may start the bot.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import attrs

from tbot_core.errors import AccessError
from tbot_core.instance import Instance
from tbot_core.instance.folder import SIMULATION
from tbot_core.model.clock import Clock, SystemClock
from tbot_core.status import service
from tbot_core.system import environ, filesystem, processes, signals

_PAUSES_S: Final = (1.0, 3.0, 10.0, 30.0)
"""Before the first restart in ten minutes, the second, and so on."""

_MOST_FAILURES: Final = 5
_WINDOW_S: Final = 600.0
_NOT_AGAIN: Final = {2: "wrong usage", 3: "settings or secrets", 5: "refused by risk, or not armed"}
"""Exit codes after which a restart changes nothing."""

CONDITION: Final = "--may-start"
_OUTPUT_BYTES: Final = 1_000_000
_POLL_S: Final = 1.0
_ADOPTED_POLL_S: Final = 0.2


@attrs.define(eq=False, kw_only=True)
class Supervisor:
    """Keeps the bot of one instance going. `wait` waits so many seconds; it returns whether SIGTERM came meanwhile."""

    instance: Instance
    command: Sequence[str]
    wait: Callable[[float], bool]
    clock: Clock
    pauses: Sequence[float] = _PAUSES_S
    _failures: list[float] = attrs.field(factory=list, init=False)
    _stopping: bool = attrs.field(default=False, init=False)

    def run(self) -> None:
        """Start the bot, and again after each crash, until it ended in order, a person stopped it or it failed."""
        self._note(supervisor=processes.process_id())
        try:
            self._keep()
        except AccessError as fault:
            self._note(down=fault.message)
            raise

    def _keep(self) -> None:
        while True:
            head = service.journal_head(self.instance)
            ended = self._adopted() if self.instance.lock_holder is not None else self._started()
            why, wanted = self._verdict(ended, head)
            self._note(bot=None, exit=ended, down=why, wanted=wanted)
            if why:
                return
            if self._rest(self.pauses[min(len(self._failures), len(self.pauses)) - 1]):
                self._note(wanted=False)
                return
            self._note(restarts=self._state.restarts + 1)

    def _started(self) -> dict[str, Any]:
        # Run a bot to its end.
        output, asked = service.output_path(self.instance), False
        child = processes.start_child(self.command, environment=environ.own_environment(), output=output)
        self._note(bot=child.pid)
        while child.poll() is None:
            if self._stopping and not asked:
                child.terminate()
                asked = True
            self._pause(_POLL_S)
            with suppress(AccessError):
                filesystem.keep_end(output, _OUTPUT_BYTES)
        return self._exit(child.returncode)

    def _adopted(self) -> dict[str, Any]:
        # Wait for the end of a bot that another process started; a simulation is not stopped.
        bot, asked = self.instance.lock_holder, False
        self._note(bot=bot)
        simulates = filesystem.lock_purpose(self.instance.lock) == SIMULATION
        while bot is not None and self.instance.lock_holder == bot:
            if self._stopping and not asked:
                if simulates or filesystem.locker(self.instance.home) != bot:
                    break
                processes.end_program(bot)
                asked = True
            self._pause(_ADOPTED_POLL_S)
        return self._exit(None)

    def _exit(self, code: int | None) -> dict[str, Any]:
        name = processes.signal_name(-code) if code is not None and code < 0 else ""
        return {"code": None if name else code, "signal": name, "time": self.clock.now().isoformat()}

    def _verdict(self, ended: dict[str, Any], head: int) -> tuple[str, bool]:
        # Why no bot is started again, "" where one is, and whether the service is still wanted.
        code = ended["code"]
        stopped = service.stop_after(self.instance, head)
        if self._stopping or code == 0 or stopped is not None:
            left = ", ".join(stopped.open) if stopped else ""
            return f"The bot was stopped{f' and left open: {left}' if left else ''}.", False
        said = self._said()
        if code in _NOT_AGAIN:
            return f"The bot ended with {code} ({_NOT_AGAIN[code]}), which a restart does not change: {said}", True
        now = self.clock.monotonic()
        self._failures = [failure for failure in self._failures if now - failure < _WINDOW_S] + [now]
        if len(self._failures) < _MOST_FAILURES:
            return "", True
        how = service.exit_words(ended)
        return (
            f"{_MOST_FAILURES} starts failed within {_WINDOW_S / 60:g} minutes; the last exit was {how}: {said}",
            True,
        )

    def _said(self) -> str:
        # The sentence with which the bot has ended, else its last line.
        lines = service.last_lines(service.output_path(self.instance))
        return next(
            (line for line in reversed(lines) if line.startswith("tbot: ")), lines[-1] if lines else "no output"
        )

    def _rest(self, seconds: float) -> bool:
        # Wait the whole time, or until the bot is to be stopped; returns that.
        until = self.clock.monotonic() + seconds
        while not self._stopping and (left := until - self.clock.monotonic()) > 0:
            self._pause(left)
        return self._stopping

    def _pause(self, seconds: float) -> bool:
        # Wait until something happened; whether the bot is to be stopped.
        self._stopping = self.wait(seconds) or self._stopping
        return self._stopping

    @property
    def _state(self) -> service.ServiceState:
        found = service.read_state(self.instance)
        return found or service.ServiceState(wanted=True, actor="", since=self.clock.now().isoformat())

    def _note(self, **changed: Any) -> None:
        # A full disk must not end the bot.
        with suppress(AccessError):
            service.write_state(self.instance, attrs.evolve(self._state, **changed))


def main(arguments: Sequence[str]) -> None:
    """Supervise the bot of an instance; with CONDITION and HOME exit with 1 if systemd is to start it no more."""
    home, *command = arguments
    if home == CONDITION:
        state = service.current_state(Instance.at(command[0]))
        sys.exit(int(state is None or not state.wanted))
    with signals.received_signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD) as received:

        def wait(seconds: float) -> bool:
            return not received(seconds).isdisjoint({signal.SIGTERM, signal.SIGINT})

        Supervisor(instance=Instance.at(home), command=command, wait=wait, clock=SystemClock()).run()


if __name__ == "__main__":
    main(sys.argv[1:])
