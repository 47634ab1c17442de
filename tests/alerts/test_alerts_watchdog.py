"""The watchdog: what stands still or dies is written down by a process that does neither."""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.alerts import watchdog
from tbot_core.alerts.store import ENDED, FILE_NAME, AlertStore, Notice, StoredAlert, open_store
from tbot_core.contracts import Urgency
from tbot_core.errors import AccessError, DataError
from tbot_core.instance import Instance
from tbot_core.model.clock import ManualClock, SystemClock
from tbot_core.plugins import hung_plugins
from tbot_core.plugins.hung_plugins import HungCall
from tbot_core.system import environ, log, processes
from tbot_core.system.stalls import CurrentActivity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    Spoken: TypeAlias = Callable[[bytes | None], None]

NOW = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AlertStore]:
    """The alerts of an instance."""
    made = open_store(tmp_path / FILE_NAME)
    yield made
    made.close()


def alerts_after(store: AlertStore, *said: bytes | None) -> list[StoredAlert]:
    """What is stored after these messages; None is ten seconds of silence."""
    clock, words = ManualClock(NOW), iter(said)

    def listen(seconds: float) -> bytes | None:
        word = next(words)
        clock.advance(seconds if word is None else 1.0)
        return word

    watchdog.watch_heartbeat(listen, store, clock)
    return store.rows(10)


def test_f89_a_loop_that_stands_still_for_ten_seconds_is_an_incident(store: AlertStore) -> None:
    """F89: once, critical, with the place where the stacks lie; it is over when the heart beats again."""
    (row,) = alerts_after(store, b".", b"..", None, None, b".", b"!", b"")
    assert row.what == "The run has been unresponsive for 10 s; stacks: logs/stalled.txt."
    assert (row.urgency.value, row.times, row.open) == ("critical", 1, False)


def test_f89_a_loop_that_never_moves_again_stays_an_incident(store: AlertStore) -> None:
    """F89: as long as nothing is received it holds, and when the process then dies too there is still one."""
    (row,) = alerts_after(store, b".", None, None, b"")
    assert row.open


def test_a_process_that_dies_without_a_word_is_an_incident(store: AlertStore) -> None:
    """A killed run is reported by the process that outlived it, with the command that takes over."""
    (row,) = alerts_after(store, b".", b"")
    assert (row.what, row.command) == ("The run died unexpectedly; open positions are not managed.", "tbot run")


def test_a_run_that_has_said_itself_why_it_ended_is_reported_once(store: AlertStore) -> None:
    """An incident with the true reason stands already: an unforeseen end adds no second page."""
    store.open_incident(Notice(key=ENDED, urgency=Urgency.CRITICAL, what="The run has ended: why."), NOW)
    assert [row.what for row in alerts_after(store, b".", b"")] == ["The run has ended: why."]
    store.clear_incident(ENDED, NOW)
    assert [row.what for row in alerts_after(store, b".", b"") if row.open] == [
        "The run died unexpectedly; open positions are not managed."
    ]


def test_a_run_that_ends_in_order_is_none(store: AlertStore) -> None:
    """The last word is that of an end."""
    assert alerts_after(store, b"...", b".!", b"") == []


def test_what_cannot_be_written_down_ends_no_watch(tmp_path: Path) -> None:
    """A watchdog whose file is locked goes on listening, and writes the next incident."""
    store, blocker = open_store(tmp_path / FILE_NAME), open_store(tmp_path / FILE_NAME)
    words = iter([None, b".", None, b"!", b""])
    with blocker.transaction():
        watchdog.watch_heartbeat(lambda _: b"", store, ManualClock(NOW))
    watchdog.watch_heartbeat(lambda _: next(words), store, ManualClock(NOW))
    assert [row.what for row in store.rows(10)] == ["The run has been unresponsive for 10 s; stacks: logs/stalled.txt."]
    store.close()
    blocker.close()


def test_the_process_follows_a_run_to_its_end(tmp_path: Path) -> None:
    """In processes of their own: a run that ends in order leaves nothing, one that breaks off is written down."""
    instance = Instance.at(tmp_path)
    instance.data.mkdir()
    with watchdog.running_watchdog(instance) as beat:
        beat()
    store = open_store(instance.data / FILE_NAME)
    assert store.rows(10) == []
    command = (sys.executable, "-m", "tbot_core.alerts.watchdog", str(tmp_path), "0")
    with processes.listening_process(command, environment=environ.minimal_environment()) as send_line:
        assert send_line(watchdog.BEAT)
    assert [row.command for row in store.rows(10)] == ["tbot run"]
    store.close()


def test_a_run_that_breaks_off_is_written_down_where_its_instance_is(tmp_path: Path, spoken: Spoken) -> None:
    """The watchdog of an instance reads its standard input, and writes into that instance's alerts."""
    instance = Instance.at(tmp_path)
    instance.data.mkdir()
    spoken(watchdog.BEAT)
    spoken(None)
    watchdog.main([str(tmp_path), "0"])
    store = open_store(instance.data / FILE_NAME)
    assert [(row.what, row.open) for row in store.rows(10)] == [
        ("The run died unexpectedly; open positions are not managed.", True)
    ]
    store.close()


@pytest.mark.parametrize(
    ("fault", "paged"),
    [
        (DataError("The market does not list ZZZ.", "List others."), 0),
        (KeyboardInterrupt(), 0),
        (ZeroDivisionError("nobody foresaw it"), 1),
        (SystemExit(1), 1),
    ],
    ids=["refused", "Ctrl-C", "unforeseen", "exit"],
)
def test_a_run_that_ends_with_a_word_takes_leave(tmp_path: Path, fault: BaseException, paged: int) -> None:
    """In processes of their own: after a sentence and after Ctrl-C no alert says that the run died."""
    instance = Instance.at(tmp_path)
    instance.data.mkdir()

    def run() -> None:
        with watchdog.running_watchdog(instance) as beat:
            beat()
            raise fault

    with pytest.raises(type(fault)):
        run()
    store = open_store(instance.data / FILE_NAME)
    assert len(store.rows(10)) == paged
    store.close()


def children() -> set[int]:
    """The processes that this one has begun and not taken leave of."""
    return {int(one) for task in Path("/proc/self/task").iterdir() for one in (task / "children").read_text().split()}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc to look into")
def test_f90_a_watchdog_that_died_is_replaced(tmp_path: Path) -> None:
    """F90: the call after its death says that it was not received, and begins another, which receives the end."""
    instance = Instance.at(tmp_path)
    instance.data.mkdir()
    before = children()
    with watchdog.running_watchdog(instance) as beat:
        assert beat()
        (first,) = children() - before
        os.kill(first, signal.SIGKILL)
        while beat():
            pass
        while not beat():
            pass
        assert children() - before - {first}
    store = open_store(instance.data / FILE_NAME)
    assert store.rows(10) == []
    store.close()


def test_a_watchdog_that_is_gone_is_missed_once(tmp_path: Path) -> None:
    """One that cannot begin, as its folder is missing, is reported in the log, and the run goes on."""
    instance = Instance.at(tmp_path)
    log.configure("info", "json", instance.logs)
    try:
        with watchdog.running_watchdog(instance) as beat:
            while "watchdog.lost" not in (instance.logs / "tbot.log").read_text():
                beat()
            beat()
        assert (instance.logs / "tbot.log").read_text().count("watchdog.lost") == 1
    finally:
        log.close()


CALL = f"strategy/theirs scan 0 {NOW.isoformat()}"
STUCK = HungCall(plugin="strategy/theirs", call="scan", turn=0, moment=NOW, noticed=NOW)


def rescued(
    store: AlertStore, places: list[CurrentActivity | None], *said: bytes | None, fault: Exception | None = None
) -> list[HungCall]:
    """The calls in which a run is ended by a watchdog that sees it there, silence by silence."""
    clock, words, looks, ended = ManualClock(NOW), iter(said), iter(places), []

    def end(stuck: HungCall) -> str:
        if fault is not None:
            raise fault
        ended.append(stuck)
        return "was stopped"

    rescue = watchdog.RescueActions(locate=lambda: next(looks), end=end)
    watchdog.watch_heartbeat(lambda _: next(words), store, clock, rescue)
    return ended


def test_f92_a_run_that_stays_in_one_call_of_a_plugin_is_ended(store: AlertStore) -> None:
    """F92: where it is in the same stay twice, the call is in native code, and the incident names it."""
    place = CurrentActivity(entered=7, words=CALL)
    assert rescued(store, [place, place], b".", None, None) == [STUCK]
    (row,) = [row for row in store.rows(10) if "stopped" in row.what]
    assert row.what == "The run hung in scan of strategy/theirs; it was stopped."


@pytest.mark.parametrize(
    "places",
    [
        [None, None],
        [CurrentActivity(entered=7, words=CALL), None],
        [CurrentActivity(entered=7, words=CALL), CurrentActivity(entered=8, words=CALL)],
        [CurrentActivity(entered=7, words="something else"), CurrentActivity(entered=7, words="something else")],
    ],
)
def test_f89_a_run_that_stands_still_elsewhere_is_not_ended(
    store: AlertStore, places: list[CurrentActivity | None]
) -> None:
    """F89: outside of plugins, or from one call to the next, it is an incident and nothing more."""
    assert rescued(store, places, b".", None, None, b".", b"!", b"") == []
    (row,) = store.rows(10)
    assert row.what.startswith("The run has been unresponsive for 10 s")
    assert not row.open


def test_f92_a_run_that_cannot_be_ended_is_watched_on(store: AlertStore) -> None:
    """F92: a note that cannot be written ends no watch; the next silence tries again."""
    place = CurrentActivity(entered=7, words=CALL)
    said = (b".", None, None, None, b"!", b"")
    assert rescued(store, [place] * 3, *said, fault=AccessError("The disk is full.")) == []


NATIVE = """
import asyncio, ctypes, os, sys
from tbot_core.plugins import hung_plugins
from tbot_core.system import environ, stalls, processes
from tbot_core.instance import Instance
instance = Instance.at(sys.argv[1])
watch = "from tbot_core.alerts import watchdog as w; import sys; w.STALL_S = w.GRACE_S = 0.2; w.main(sys.argv[1:])"
again = sys.argv[2:]
command = (sys.executable, "-c", watch, sys.argv[1], str(os.getpid()), *again)
told = stalls.activity_marker(instance.data / hung_plugins.WHERE)
with told as inside, processes.listening_process(command, environment=environ.own_environment()) as tell:
    tell(b".")
    from tbot_core.plugins.call_guard import CallGuard
    guard = CallGuard(strict=False)
    guard.where = inside
    def hang():  # a lock that is held for ever, which no signal interrupts
        lock, mutex = ctypes.PyDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
        lock(mutex)
        lock(mutex)
    {call}
"""
SCAN = 'with inside("strategy/theirs scan 0 2026-11-24T15:00:00+00:00"): hang()'
OBSERVER = """
    from tbot_core.contracts.hooks import hookimpl
    from tbot_core.model.clock import SystemClock
    from tbot_core.plugins.discovery import EntryPointInfo
    from tbot_core.plugins.loader import LoadedPlugin, PluginLoader
    from tbot_core.plugins.hook_calls import LIMITS_S, PluginObservers
    class Theirs:
        @hookimpl
        def tbot_event(self, event):
            hang()
    loader, subject = PluginLoader(), Theirs()
    loader.manager.register(subject, "extension/theirs")
    entry = EntryPointInfo(kind="extension", name="theirs", dist="theirs", version="1", target="theirs")
    loaded = LoadedPlugin(entry=entry, plugin=None, subject=subject)
    PluginObservers(loader, [loaded], clock=SystemClock(), guard=guard, limits_s=LIMITS_S).event({"kind": "fill"})
"""
EXTENSION = """
    from pathlib import Path
    from tbot_core.extensions.progress import ProgressFile
    from tbot_core.extensions.runner import ExtensionRunner, FollowTerms
    from tbot_core.model.clock import SystemClock
    class Theirs:
        async def start(self, journal):
            await asyncio.sleep(0)
            hang()
    async def run():
        terms = FollowTerms(journal=instance.journal, clock=SystemClock())
        file = ProgressFile(Path(sys.argv[1]) / "progress.json", "extension theirs")
        ExtensionRunner(Theirs(), file, terms, print, guard.border("extension/theirs")).begin()
        await asyncio.sleep(60)
    asyncio.run(run())
"""


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_f92_native_code_that_never_returns_costs_the_run_its_plugin_and_no_more(tmp_path: Path) -> None:
    """F92: the process is killed, the call is noted, and the command is run again; at the third time it is not."""
    instance = Instance.at(tmp_path)
    instance.data.mkdir()
    instance.logs.mkdir()
    again = (sys.executable, "-c", "import sys; from pathlib import Path; Path(sys.argv[1]).touch()")
    for time in range(3):
        started = tmp_path / f"started {time}"
        command = (sys.executable, "-c", NATIVE.replace("{call}", SCAN), str(tmp_path), *again, str(started))
        finished = processes.run_program(command, timeout_s=60.0, environment=environ.minimal_environment())
        assert finished.code == -9, finished.errors
        store = open_store(instance.data / FILE_NAME)
        while sum("it was stopped" in row.what for row in store.rows(10)) <= time:
            pass
        row = max((row for row in store.rows(10) if "it was stopped" in row.what), key=lambda row: row.id)
        if time < 2:
            assert row.what.endswith("it was stopped and restarted without it; its output: logs/restarted.txt.")
            while not started.exists():
                pass
        else:
            assert row.what.endswith("was stopped for the third time in ten minutes, and not restarted.")
            assert not started.exists()
        store.close()
    assert [one.plugin for one in hung_plugins.noted_hung_calls(instance.data, SystemClock().now())] == [
        "strategy/theirs"
    ] * 3


@pytest.mark.parametrize(
    ("code", "call"), [(OBSERVER, "tbot_event"), (EXTENSION, "start")], ids=["observer", "extension"]
)
def test_f92_native_code_of_an_observer_or_extension_ends_no_run_for_good(tmp_path: Path, code: str, call: str) -> None:
    """The process is killed and started again, and the next run knows that the plugin is off for the session."""
    instance = Instance.at(tmp_path)
    instance.data.mkdir()
    instance.logs.mkdir()
    command = (sys.executable, "-c", NATIVE.replace("{call}", code.strip()), str(tmp_path), sys.executable, "-c", "")
    finished = processes.run_program(command, timeout_s=60.0, environment=environ.minimal_environment())
    assert finished.code == -9, finished.errors
    (hung,) = hung_plugins.noted_hung_calls(instance.data, SystemClock().now())
    assert (hung.plugin, hung.call, hung.off) == ("extension/theirs", call, True)


def test_what_cannot_be_started_again_is_said(tmp_path: Path) -> None:
    """A run without a command is ended, and one whose command is not there is named; somebody else is never killed."""
    instance = Instance.at(tmp_path)
    instance.data.mkdir()
    instance.logs.mkdir()
    free_process_id = 2**22 + 1
    assert watchdog.restart_without_plugin(instance, STUCK, free_process_id, ()) == "was stopped"
    words = watchdog.restart_without_plugin(instance, STUCK, free_process_id, ("/no/such",))
    assert words.startswith("was stopped, and could not be restarted: Cannot start /no/such")


def test_f92_what_is_not_switched_off_or_has_ended_its_run_is_said(tmp_path: Path) -> None:
    """A broker is restarted with the run; a run that hung in its last call is ended and not started again."""
    instance = Instance.at(tmp_path)
    instance.data.mkdir()
    instance.logs.mkdir()
    free_process_id, again = 2**22 + 1, (sys.executable, "-c", "")
    broker = attrs.evolve(STUCK, plugin="broker/theirs", call="submit")
    words = watchdog.restart_without_plugin(instance, broker, free_process_id, again)
    assert words == "was stopped and restarted; its output: logs/restarted.txt"
    last = attrs.evolve(STUCK, plugin="extension/theirs", call="tbot_stopped")
    assert watchdog.restart_without_plugin(instance, last, free_process_id, again) == "was stopped at its end"
