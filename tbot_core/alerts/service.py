"""Alerts of a run: the channels that the settings name, and a dispatcher that runs during the work."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from tbot_core.alerts import watchdog
from tbot_core.alerts.alert import STATUS_COMMAND
from tbot_core.alerts.delivery import AlertDelivery
from tbot_core.alerts.dispatcher import EVERY_S, AlertDispatcher, AlertOptions
from tbot_core.alerts.rules import RoutineEvents
from tbot_core.alerts.text import MessageWriter
from tbot_core.contracts import Urgency
from tbot_core.engine.bootstrap import DRY_RUN, SIMULATED_MODES
from tbot_core.errors import TbotError
from tbot_core.plugins.hung_plugins import WHERE
from tbot_core.system import filesystem, heartbeat_page, log

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
    from typing import Any

    from tbot_core.engine.bootstrap import Assembly
    from tbot_core.model.clock import Clock

T = TypeVar("T")
_log = log.logger(__name__)


class WorkWrapper(Protocol):
    """Wraps the work of a run with work beside it."""

    def __call__(self, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """The wrapped work, to be awaited instead of the plain one."""


def alert_delivery(assembly: Assembly) -> AlertDelivery:
    """The channels of CRITICAL_ALERT_CHANNEL and ROUTINE_ALERT_CHANNEL; raises PluginError for a missing one."""
    named = assembly.settings.notifications
    own = {Urgency.CRITICAL: named.critical_alert_channel, Urgency.ROUTINE: named.routine_alert_channel}
    return AlertDelivery({name: assembly.channel(name) for name in dict.fromkeys(own.values())}, own)


def message_writer(assembly: Assembly) -> MessageWriter:
    """The sender of the messages."""
    return MessageWriter(mode=assembly.settings.mode, identity=assembly.identity)


def alert_dispatcher(assembly: Assembly, clock: Clock) -> AlertDispatcher:
    """The dispatcher of a new run."""
    named = assembly.settings.notifications
    wanted = RoutineEvents(fills=named.notify_on_fill, exits=named.notify_on_exit, failures=named.notify_on_failure)
    terms = AlertOptions(wanted=wanted, quiet=named.alert_quiet_hours)
    made = AlertDispatcher(assembly.settings.instance, alert_delivery(assembly), message_writer(assembly), clock, terms)
    made.begin()
    return made


@contextmanager
def alerts_beside(assembly: Assembly, clock: Clock, again: Sequence[str] = ()) -> Iterator[WorkWrapper]:
    """Adds alerts and a watchdog to the work of paper and live trading; other work is unchanged.

    `again`: the command with which the watchdog restarts a run that it had to stop.
    """
    if assembly.settings.mode in {*SIMULATED_MODES, DRY_RUN}:
        yield _alone
        return
    data = assembly.settings.instance.data
    filesystem.make_folder(data)
    with (
        heartbeat_page.activity_marker(data / WHERE) as inside,
        watchdog.running_watchdog(assembly.settings.instance, again) as beat,
    ):
        assembly.call_guard.where = inside
        alerts = alert_dispatcher(assembly, clock)

        def with_alerts(work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
            return run_with_alerts(work, alerts, beat)

        yield with_alerts


def _alone(work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
    return work


async def run_with_alerts(work: Coroutine[Any, Any, T], alerts: AlertDispatcher, beat: Callable[[], bool]) -> T:
    """Await the work with its alerts beside it; `beat` is called each second, as long as the loop turns.

    It says whether the watchdog hears it. What runs beside must not end before the work: then the work is ended too.

    What the work raises is told as it passes, and kept as an incident until the next run begins: a journal or an audit
    log that cannot be written ends a run like this.
    """
    working = asyncio.ensure_future(work)
    beside = [
        asyncio.ensure_future(one) for one in (_kept_up(alerts), _beating(beat, alerts), _heeding_the_log(alerts))
    ]
    try:
        ended, _ = await asyncio.wait([working, *beside], return_when=asyncio.FIRST_COMPLETED)
        if working not in ended:
            _assert_none(ended)
        return await working
    except Exception as fault:
        await alerts.report_end(f"The run has ended: {fault}")
        raise
    finally:
        for task in (working, *beside):
            task.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await _over(beside)
        await alerts.finish()


async def _over(tasks: Sequence[asyncio.Task[None]]) -> None:
    # A group of tasks that fails as it is cancelled keeps that to itself: it is cancelled until it has ended.
    while left := [task for task in tasks if not task.done()]:
        await asyncio.wait(left, timeout=EVERY_S)
        for task in left:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _kept_up(alerts: AlertDispatcher) -> None:
    # What goes wrong with alerts, whatever it is, ends neither them nor the run.
    while True:
        try:
            await alerts.run()
        except Exception:  # noqa: BLE001  -- the border of alerts: trading goes on
            _log.exception("alerts.failed")
        await asyncio.sleep(EVERY_S)


def _assert_none(ended: Iterable[asyncio.Future[Any]]) -> None:
    # Raise what ended a part that goes on for ever, or else that it ended.
    for task in ended:
        if not task.cancelled():
            task.result()
    raise TbotError("A task of the run ended unexpectedly.", "`tbot run` resumes and manages the open positions.")


async def _heeding_the_log(alerts: AlertDispatcher) -> None:
    # Lines of the log that are lost end nothing; that they are is told once.
    before, told = log.lost(), False
    while True:
        await asyncio.sleep(EVERY_S)
        if not told and log.lost() > before:
            told = True
            await alerts.send_now("The log can no longer be written; trading continues.", "tbot check")


async def _beating(beat: Callable[[], bool], alerts: AlertDispatcher) -> None:
    heard = True
    while True:
        before, heard = heard, beat()
        if before and not heard:
            await alerts.send_now("The watchdog process died; a new one is started.", STATUS_COMMAND)
        await asyncio.sleep(EVERY_S)
