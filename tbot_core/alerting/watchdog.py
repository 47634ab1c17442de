"""The watchdog: a process of its own that hears the run's heartbeat, and writes an alert down when it stops.

Run as `python -m tbot_core.alerting.watchdog HOME`. It opens no secret, so it sends nothing itself: `tbot status` shows
at once what it wrote, and the run sends it when it moves again, or the next one when it begins.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tbot_core.alerting.notices import Notice
from tbot_core.alerting.store import FILE_NAME, PROCESS, open_store
from tbot_core.clock import SystemClock
from tbot_core.contracts import Urgency
from tbot_core.errors import AccessError
from tbot_core.seams import disk, environ, log, spawn, stacks
from tbot_core.settings import Instance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tbot_core.alerting.store import Store
    from tbot_core.clock import Clock

STALL_S: Final = 10.0
"""A run whose loop has not turned for so long stands still."""

BEAT: Final = b"."
END: Final = b"!"
STACKS: Final = "stalled.txt"
_log = log.logger(__name__)


@contextmanager
def guarded(instance: Instance) -> Iterator[Callable[[], None]]:
    """A watchdog over what runs inside; what this yields is to be called each second.

    Stacks of a loop that stands still go to logs/stalled.txt. A watchdog that dies is missed aloud, and nothing else.
    """
    command = (sys.executable, "-m", __name__, str(instance.home))
    disk.make_folder(instance.logs)
    with (
        stacks.dumped(instance.logs / STACKS, STALL_S) as rearm,
        spawn.listening(command, environment=environ.minimal()) as tell,
    ):
        warned = False

        def beat() -> None:
            nonlocal warned
            rearm()
            if not tell(BEAT) and not warned:
                warned = True
                _log.error("watchdog.lost")

        yield beat
        tell(END)


def watch(hear: Callable[[float], bytes | None], store: Store, clock: Clock) -> None:
    """Listen until the run ends. `hear` waits so many seconds: None for silence, empty once nobody can speak."""
    stalled, last = False, b""
    while (said := hear(STALL_S)) != b"":
        if said is None:
            if not stalled:
                stalled = True
                _begin(store, clock, f"The run has stood still for {STALL_S:g} s; where: logs/{STACKS}.")
        else:
            last = said[-1:]
            if stalled:
                stalled = False
                store.clear(PROCESS, clock.now())
    if last != END:
        _begin(store, clock, "The run died without a word; nobody manages what is held.", "tbot run")


def main(arguments: Sequence[str]) -> None:
    """Watch over the run of an instance."""
    store = open_store(Instance.at(arguments[0]).data / FILE_NAME)
    try:
        watch(spawn.heard, store, SystemClock())
    finally:
        store.close()


def _begin(store: Store, clock: Clock, what: str, command: str = "tbot status") -> None:
    try:
        store.begin(Notice(key=PROCESS, urgency=Urgency.CRITICAL, what=what, command=command), clock.now())
    except AccessError as fault:
        _log.error("alert.lost", what=what, reason=fault.message)


if __name__ == "__main__":
    main(sys.argv[1:])
