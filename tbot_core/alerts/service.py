"""Alerts of a run: the configured channels, and the dispatcher that runs beside the work."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from tbot_core.alerts import watchdog
from tbot_core.alerts.delivery import AlertDelivery, MessageWriter
from tbot_core.alerts.dispatcher import EVERY_S, AlertDispatcher, AlertOptions
from tbot_core.alerts.rules import RoutineEvents
from tbot_core.alerts.store import STATUS_COMMAND
from tbot_core.contracts import Urgency
from tbot_core.engine.assembly import DRY_RUN
from tbot_core.errors import TbotError
from tbot_core.instance.findings import SIMULATED_MODES
from tbot_core.instance.folder import REHEARSING
from tbot_core.model.clock import exchange_time
from tbot_core.plugins import hung_plugins
from tbot_core.system import filesystem, log, sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from tbot_core.contracts.settings import NotificationSettings
    from tbot_core.engine.assembly import Assembly
    from tbot_core.model.clock import Clock
    from tbot_core.plugins.failure import PluginFailure

T = TypeVar("T")
_log = log.logger(__name__)


class WorkWrapper(Protocol):
    """Wraps the work of a run with concurrent tasks."""

    def __call__(self, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """Return the wrapped work, to be awaited instead of the plain one."""


def channel_names(named: NotificationSettings) -> dict[Urgency, tuple[str, ...]]:
    """The channels of CRITICAL_ALERT_CHANNEL and ROUTINE_ALERT_CHANNEL."""
    return {
        Urgency.CRITICAL: tuple(dict.fromkeys(named.critical_alert_channel)),
        Urgency.ROUTINE: tuple(dict.fromkeys(named.routine_alert_channel)),
    }


def alert_delivery(
    assembly: Assembly, own: Mapping[Urgency, Sequence[str]] | None = None, *, logs_failures: bool = True
) -> AlertDelivery:
    """The delivery by the channels of the settings, or by `own` alone; raises PluginError for a missing channel."""
    own = channel_names(assembly.settings.notifications) if own is None else own
    names = dict.fromkeys(name for names in own.values() for name in names)
    channels = {name: assembly.channel(name) for name in names}
    return AlertDelivery(
        channels, own, lambda name: assembly.call_guard.border(f"alert/{name}"), logs_failures=logs_failures
    )


def message_writer(assembly: Assembly) -> MessageWriter:
    """The writer of the messages."""
    mode = REHEARSING if assembly.settings.instance.rehearsal else assembly.settings.mode
    return MessageWriter(mode=mode, identity=assembly.identity)


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
    """Yield a wrapper that adds alerts and a watchdog to paper and live trading; other work is unchanged.

    `again`: the command with which the watchdog restarts a run that it had to stop. A rehearsal has no watchdog, and
    without a channel at its servers no alerts.
    """
    settings = assembly.settings
    if settings.mode in {*SIMULATED_MODES, DRY_RUN} or not any(channel_names(settings.notifications).values()):
        yield _unchanged
        return
    data, instance = settings.instance.data, settings.instance
    filesystem.make_folder(data)
    with (
        hung_plugins.marked_calls(data),
        nullcontext(lambda: True) if instance.rehearsal else watchdog.running_watchdog(instance, again) as beat,
    ):
        assembly.call_guard.where = hung_plugins.inside
        assembly.call_guard.note_hung(hung_plugins.failures_of_day(data, now := clock.now(), exchange_time(now).date()))
        alerts = alert_dispatcher(assembly, clock)
        assembly.call_guard.on_observer_off = partial(_report_observer, alerts)
        assembly.call_guard.on_extension_failing = lambda words: alerts.notify(words, STATUS_COMMAND)

        def with_alerts(work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
            return run_with_alerts(work, alerts, beat)

        yield with_alerts


def _report_observer(alerts: AlertDispatcher, failure: PluginFailure) -> None:
    words = f"{failure.sentence}. It is switched off as an observer for the rest of the run."
    alerts.notify(words, "tbot plugins list")


def _unchanged(work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
    return work


async def run_with_alerts(work: Coroutine[Any, Any, T], alerts: AlertDispatcher, beat: Callable[[], bool]) -> T:
    """Await the work with its alerts; `beat` is called every second, as long as the event loop runs.

    A service manager is notified: ready, alive, ended. `beat` returns whether the watchdog receives it.
    The concurrent tasks must not end before the work: if one does, the work is ended too. An exception of the work is
    sent at once, and stored as an incident until the next run starts.
    """
    working = asyncio.ensure_future(work)
    beside = [
        asyncio.ensure_future(one)
        for one in (_run_alerts(alerts), _send_heartbeats(beat, alerts), _report_lost_log_lines(alerts))
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
        await _cancel_all(beside)
        sockets.notify(sockets.STOPPING)
        await alerts.finish()


async def _cancel_all(tasks: Sequence[asyncio.Task[None]]) -> None:
    # A task group may swallow a cancellation while it fails, so cancel until every task has ended.
    while left := [task for task in tasks if not task.done()]:
        await asyncio.wait(left, timeout=EVERY_S)
        for task in left:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _run_alerts(alerts: AlertDispatcher) -> None:
    # A failure of alerts ends neither them nor the run.
    while True:
        try:
            await alerts.run()
        except Exception:  # noqa: BLE001  -- the border of alerts: trading goes on
            _log.exception("alerts.failed")
        await asyncio.sleep(EVERY_S)


def _assert_none(ended: Iterable[asyncio.Future[Any]]) -> None:
    # Raise what ended a permanent task, or that it ended.
    for task in ended:
        if not task.cancelled():
            task.result()
    raise TbotError("A task of the run ended unexpectedly.", "`tbot run` resumes and manages the open positions.")


async def _report_lost_log_lines(alerts: AlertDispatcher) -> None:
    # Lost log lines end nothing; report them once.
    before, reported = log.lost(), False
    while True:
        await asyncio.sleep(EVERY_S)
        if not reported and log.lost() > before:
            reported = True
            await alerts.send_now("The log can no longer be written; trading continues.", "tbot check")


async def _send_heartbeats(beat: Callable[[], bool], alerts: AlertDispatcher) -> None:
    received = True
    sockets.notify(sockets.READY)
    while True:
        sockets.notify(sockets.ALIVE)
        before, received = received, beat()
        if before and not received:
            await alerts.send_now("The watchdog process died; a new one is started.", STATUS_COMMAND)
        await asyncio.sleep(EVERY_S)
