"""The watchdog: a separate process that receives the run's heartbeat, and stores an alert when it stops.

Run as `python -m tbot_core.alerts.watchdog HOME PROCESS [COMMAND...]`. It opens no secrets, so it sends nothing
itself: `tbot status` shows the alert at once, and the run or its successor sends it. A run that stays in one plugin
call is killed, and COMMAND restarts it without that plugin.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.alerts.store import ENDED, FILE_NAME, PROCESS, Notice, open_store
from tbot_core.contracts import Urgency
from tbot_core.errors import AccessError, TbotError
from tbot_core.instance import Instance
from tbot_core.model.clock import SystemClock
from tbot_core.plugins import hung_plugins
from tbot_core.plugins.hung_plugins import HungCall
from tbot_core.system import environ, filesystem, log, processes, stalls
from tbot_core.system.stalls import CurrentActivity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tbot_core.alerts.store import AlertStore
    from tbot_core.model.clock import Clock

_STALL_S: Final = 10.0
"""A run whose loop was blocked for this long has hung."""

_GRACE_S: Final = 6.0
"""A hung run still in the same call after this time is in native code, since every call has a shorter limit."""

_AGAIN: Final = 60
"""A watchdog that died is replaced at once; one that cannot be started, again after this many heartbeats."""

BEAT: Final = b"."
_END: Final = b"!"
_STACKS: Final = "stalled.txt"
_OUTPUT: Final = "restarted.txt"
_log = log.logger(__name__)


@attrs.frozen(kw_only=True, eq=False)
class RescueActions:
    """How to handle a hung run: `locate` returns its activity, `end` stops it and returns the result as text."""

    locate: Callable[[], CurrentActivity | None] = lambda: None
    end: Callable[[HungCall], str] = lambda _stuck: ""


@contextmanager
def running_watchdog(instance: Instance, again: Sequence[str] = ()) -> Iterator[Callable[[], bool]]:
    """Run a watchdog over the context, and yield a function to be called every second.

    The function returns whether the watchdog received the heartbeat; a watchdog that died is replaced. Stacks of a
    stalled event loop go to logs/stalled.txt. `again` is the command that restarts the run. A normal end, a TbotError
    and Ctrl-C send an end mark, because they are reported elsewhere.
    """
    command = (sys.executable, "-m", __name__, str(instance.home), str(processes.process_id()), *again)
    filesystem.make_folder(instance.logs)
    with stalls.dump_stacks_if_stalled(instance.logs / _STACKS, _STALL_S) as rearm, ExitStack() as stack:

        def start() -> Callable[[bytes], bool]:
            return stack.enter_context(processes.listening_process(command, environment=environ.own_environment()))

        send, missed = start(), 0

        def beat() -> bool:
            nonlocal send, missed
            rearm()
            if send(BEAT):
                missed = 0
                return True
            if missed % _AGAIN == 0:
                _log.error("watchdog.lost")
                send = start()
            missed += 1
            return False

        try:
            yield beat
        except (TbotError, KeyboardInterrupt):
            send(_END)
            raise
        send(_END)


def watch_heartbeat(
    read: Callable[[float], bytes | None], store: AlertStore, clock: Clock, rescue: RescueActions | None = None
) -> None:
    """Watch until the run ends. `read` waits so many seconds: None on timeout, empty at the end of input."""
    rescue = rescue or RescueActions()
    stalled, last, place = False, b"", None
    while (data := read(_GRACE_S if place else _STALL_S)) != b"":
        if data is None:
            activity = rescue.locate()
            if not stalled:
                stalled = True
                _open_incident(
                    store,
                    clock,
                    f"The run has been unresponsive for {_STALL_S:g} s{_in(activity)}; stacks: logs/{_STACKS}.",
                )
            elif activity is not None and activity == place and _ended(store, clock, rescue, activity):
                return
            place = activity
        else:
            last, place = data[-1:], None
            if stalled:
                stalled = False
                store.clear_incident(PROCESS, clock.now())
    if last != _END and not _end_is_reported(store):
        where = _in(rescue.locate())
        _open_incident(store, clock, f"The run died unexpectedly{where}; open positions are not managed.", "tbot run")


def main(arguments: Sequence[str]) -> None:
    """Watch the run of an instance."""
    home, process, *again = arguments
    instance, clock = Instance.at(home), SystemClock()
    store = open_store(instance.data / FILE_NAME)
    rescue = RescueActions(
        locate=lambda: stalls.read_activity(instance.data / hung_plugins.WHERE),
        end=lambda stuck: restart_without_plugin(instance, stuck, int(process), again),
    )
    try:
        watch_heartbeat(processes.read_stdin, store, clock, rescue)
    finally:
        store.close()


def restart_without_plugin(instance: Instance, stuck: HungCall, process: int, again: Sequence[str]) -> str:
    """Stop the hung process, and restart the run without the plugin; returns the result as text."""
    may_start = hung_plugins.note_hung_call(instance.data, stuck)
    if not processes.end_parent(process):
        return "could not be stopped"
    if not again:
        return "was stopped"
    if stuck.call == hung_plugins.LAST:
        return "was stopped at its end"
    if not may_start:
        return "was stopped for the third time in ten minutes, and not restarted"
    try:
        processes.start_detached(again, environment=environ.own_environment(), output=instance.logs / _OUTPUT)
    except AccessError as fault:
        return f"was stopped, and could not be restarted: {fault.message}"
    how = " without it" if stuck.off else ""
    return f"was stopped and restarted{how}; its output: logs/{_OUTPUT}"


def _ended(store: AlertStore, clock: Clock, rescue: RescueActions, place: CurrentActivity) -> bool:
    try:
        stuck = HungCall.of(place.words, clock.now())
        outcome = rescue.end(stuck)
    except (AccessError, ValueError) as fault:
        _log.exception("watchdog.cannot_end", reason=str(fault))
        return False
    what = f"The run hung in {stuck.call} of {stuck.plugin}; it {outcome}."
    _store_or_log(partial(store.add_notices, [_notice(f"{PROCESS} ended {stuck.noticed}", what)], clock.now()), what)
    return True


def _end_is_reported(store: AlertStore) -> bool:
    # Whether the run has reported why it ended.
    try:
        return ENDED in store.open_incidents()
    except AccessError:
        return False


def _in(place: CurrentActivity | None) -> str:
    return "" if place is None else f" in {' '.join(place.words.split(' ')[:2])}"


def _open_incident(store: AlertStore, clock: Clock, what: str, command: str = "tbot status") -> None:
    _store_or_log(partial(store.open_incident, _notice(PROCESS, what, command), clock.now()), what)


def _notice(key: str, what: str, command: str = "tbot status") -> Notice:
    return Notice(key=key, urgency=Urgency.CRITICAL, what=what, command=command)


def _store_or_log(write: Callable[[], None], what: str) -> None:
    try:
        write()
    except AccessError as fault:
        _log.error("alert.lost", what=what, reason=fault.message)


if __name__ == "__main__":
    main(sys.argv[1:])
