"""Extensions beside a run: every event once confirmed never again, started again after failures, never in the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import JournalEntry
from tbot_core.extensions import runner as module
from tbot_core.extensions.journal_cursor import BATCH, FollowedJournal
from tbot_core.extensions.progress import ProgressFile, failing_extensions, forget_failures, progress_folder
from tbot_core.extensions.runner import ExtensionRunner, FollowTerms
from tbot_core.journal import records
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.plugins.call_guard import PluginBorder
from tbot_core.system.secret import Secret
from tbot_core.system.threads import DaemonThreads

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.contracts import JournalCursor


@attrs.define
class Follower:
    """Keeps what it is given and confirms it, unless `wrong` raises for it first."""

    got: list[JournalEntry] = attrs.field(factory=list)
    wrong: Callable[[JournalEntry], None] = lambda _entry: None
    confirms: bool = True
    confirms_from: int = 0
    starts: int = 0
    stops: int = 0

    async def start(self, journal: JournalCursor) -> None:
        """Follow to the end."""
        self.starts += 1
        async for entry in journal:
            self.wrong(entry)
            self.got.append(entry)
            if self.confirms and entry.seq >= self.confirms_from:
                await journal.confirm(entry)

    async def stop(self) -> None:
        """Count it."""
        self.stops += 1

    @property
    def kinds(self) -> list[str]:
        """The kinds that it was given."""
        return [entry.kind for entry in self.got]


@attrs.define
class Stage:
    """What stands around extensions."""

    trader: Any
    notices: list[str] = attrs.field(factory=list)
    border: PluginBorder = attrs.field(factory=PluginBorder)

    @property
    def file(self) -> Path:
        """The file of the extension's progress."""
        return progress_folder(self.trader.path) / "extension-metrics.json"

    def runner(self, subject: Any) -> ExtensionRunner:
        """A runner of this process."""
        clock, soon_s = ManualClock(self.trader.time), 0.001
        terms = FollowTerms(journal=self.trader.path, clock=clock, every_s=soon_s, pause_s=soon_s, off_s=soon_s)
        progress = ProgressFile(self.file, "extension metrics")
        return ExtensionRunner(subject, progress, terms, lambda _fault, words: self.notices.append(words), self.border)

    def follow(self, subject: Any, until: Callable[[], bool] = lambda: True) -> None:
        """Let it run beside a run that ends when `until` holds."""

        async def work() -> None:
            one = self.runner(subject)
            one.begin()
            while not until():  # noqa: ASYNC110  -- it holds by what an extension does
                await asyncio.sleep(0.001)
            await one.finish()

        asyncio.run(asyncio.wait_for(work(), 20))


@pytest.fixture
def stage(trader: Any) -> Stage:
    """A stage with an open session."""
    trader.time = trader.journal.last_event(records.SESSION_OPENED).applied
    return Stage(trader)


def test_what_is_recorded_is_given_in_order_to_the_last_event_of_the_run(stage: Stage) -> None:
    """With the trades that an event closed; at the end of the run it gets what is left, and is stopped."""
    stage.trader.trade()
    follower = Follower()
    stage.follow(follower)
    assert follower.kinds == [event.kind for event in stage.trader.journal.events()]
    (trade,) = (trade for entry in follower.got for trade in entry.trades)
    assert (trade.trade.symbol, trade.mode, trade.account, follower.stops) == ("AAA", "paper", "PA1", 1)


def test_what_is_confirmed_is_never_given_again(stage: Stage) -> None:
    """Across restarts: what came meanwhile follows, with its trades, though they began before."""
    first, second = Follower(), Follower()
    stage.follow(first)
    stage.trader.trade()
    stage.follow(second)
    assert [entry.seq for entry in second.got] == list(range(3, 9))
    assert [len(entry.trades) for entry in second.got][-1] == 1
    stage.trader.trade("BBB")
    third = Follower()
    stage.follow(third)
    assert [trade.trade.symbol for entry in third.got for trade in entry.trades] == ["BBB"]


def test_what_was_given_and_not_confirmed_comes_again(stage: Stage) -> None:
    """As after a kill between its work and the confirmation."""
    stage.follow(Follower(confirms=False))
    again = Follower()
    stage.follow(again)
    assert len(again.got) == 2


def test_only_what_was_given_can_be_confirmed(stage: Stage) -> None:
    """A position never goes back, and never beyond."""
    progress = ProgressFile(stage.file, "extension metrics")

    async def follow() -> None:
        journal = FollowedJournal(stage.trader.path, progress, on_caught_up=lambda: None)
        journal.end()
        entries = [entry async for entry in journal]
        await journal.confirm(entries[1])
        await journal.confirm(entries[0])
        with pytest.raises(ValueError, match="event 99 was not given to the extension metrics"):
            await journal.confirm(attrs.evolve(entries[0], seq=99))
        journal.close()

    asyncio.run(follow())
    assert ProgressFile(stage.file, "").state.seq == 2


def test_another_journal_is_followed_from_its_start(stage: Stage) -> None:
    """One that was restored or begun anew: the confirmed event is not in it."""
    stage.trader.trade()
    stage.follow(Follower())
    stage.trader.journal.close()
    for path in stage.trader.path.parent.glob("tbot.sqlite*"):
        path.unlink()
    stage.trader.journal = open_journal(stage.trader.path)
    stage.trader.start("live")
    again = Follower()
    stage.follow(again)
    assert again.kinds == [records.RUN_STARTED]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"seq": 1}', '{"failing_since": 7}'])
def test_a_damaged_position_counts_as_none(stage: Stage, content: str) -> None:
    """Every event is given again: ids show the trades that are known."""
    stage.follow(Follower())
    stage.file.write_text(content)
    again = Follower()
    stage.follow(again)
    assert len(again.got) == 2


def test_a_long_journal_does_not_hold_the_loop(stage: Stage) -> None:
    """Between two events others are served, also while the past is read."""
    stage.trader.journal.append([NewEvent(kind="note", payload={}, time=stage.trader.time)] * (3 * BATCH))
    follower = Follower(confirms=False)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def work() -> None:
        beside = asyncio.create_task(others())
        one = stage.runner(follower)
        one.begin()
        while len(follower.got) < 3 * BATCH + 2:  # noqa: ASYNC110  -- it is the turns that count
            await asyncio.sleep(0)
        await one.finish()
        beside.cancel()

    asyncio.run(work())
    assert turns > 3 * BATCH
    stage.follow(Follower(confirms_from=3 * BATCH + 2))
    stage.follow(late := Follower())
    assert late.got == []


def test_a_journal_that_is_not_there_yet_is_awaited(stage: Stage) -> None:
    """The first run of an instance begins without one."""
    missing = attrs.evolve(stage, trader=type("Nowhere", (), {"path": stage.trader.path.with_name("no.sqlite")})())
    missing.trader.time = stage.trader.time
    follower = Follower()
    missing.follow(follower)
    assert (follower.starts, follower.stops, follower.got) == (1, 1, [])


@pytest.mark.parametrize(
    "fault",
    [
        ValueError("no route"),
        SystemExit(3),
        asyncio.CancelledError("mine"),
        type("Panic", (BaseException,), {})("rust"),
    ],
)
def test_a_failing_extension_is_recorded_and_started_again(stage: Stage, fault: BaseException) -> None:
    """Whatever it raises: one report, the failure in the status until it works again, and no event is lost."""
    stage.trader.trade()
    failures = 3

    def wrong(entry: JournalEntry) -> None:
        nonlocal failures
        if entry.seq == 4 and failures:
            assert [bool(found) for found in failing_extensions(stage.trader.path)] in ([failures < 3], [])
            failures -= 1
            raise fault

    follower = Follower(wrong=wrong)
    stage.follow(follower, lambda: len(follower.got) == 8)
    assert [entry.seq for entry in follower.got] == list(range(1, 9))
    assert (follower.starts, follower.stops) == (4, 4)
    (words,) = stage.notices
    assert words.startswith("The extension metrics fails since 2026-01-05 15:00 UTC: ")
    assert failing_extensions(stage.trader.path) == []


def test_what_still_fails_at_the_end_stays_in_the_status(stage: Stage) -> None:
    """Until it works, or is no longer enabled; a secret is not shown, and a long text is cut."""
    key = Secret("key-0123456789").reveal()

    def wrong(_entry: JournalEntry) -> None:
        raise ValueError(f"login with {key} refused " + "x" * 600)

    follower = Follower(wrong=wrong)
    stage.follow(follower, lambda: follower.starts > 2)
    (words,) = failing_extensions(stage.trader.path)
    assert "login with [redacted] refused" in words
    assert len(words) < 600
    forget_failures(stage.trader.path, {"extension-metrics"})
    assert failing_extensions(stage.trader.path) == [words]
    forget_failures(stage.trader.path, set())
    assert failing_extensions(stage.trader.path) == []


def test_one_that_holds_the_loop_is_interrupted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that does not wait delays an order no longer than the limit, and counts as a failure."""
    monkeypatch.setattr(module, "STEP_S", 0.05)
    follower = Follower(wrong=lambda _entry: endless() if follower.starts == 1 else None)

    def endless() -> None:
        while True:
            pass

    stage.follow(follower, lambda: follower.starts == 2)
    assert "interrupted" in stage.notices[0]


@attrs.define
class Stubborn:
    """Ends by no cancellation while `hangs`; `stop` hangs where asked."""

    hangs: bool = True
    stop_hangs: bool = False

    async def start(self, _journal: JournalCursor) -> None:
        """Wait, whatever comes."""
        while self.hangs:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Perhaps never."""
        while self.stop_hangs:  # noqa: ASYNC110  -- a plugin's fault
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("stop_hangs", [True, False])
def test_one_that_does_not_end_is_left_behind(stage: Stage, monkeypatch: pytest.MonkeyPatch, stop_hangs: bool) -> None:
    """The process ends within the limits, and so does one whose `stop` hangs."""
    monkeypatch.setattr(module, "STOP_S", 0.05)
    subject, left = Stubborn(hangs=not stop_hangs, stop_hangs=stop_hangs), list[Any]()

    async def work() -> float:
        one = stage.runner(subject)
        one.begin()
        await asyncio.sleep(0.02)
        began = asyncio.get_running_loop().time()
        monkeypatch.setattr(asyncio, "wait", _short(asyncio.wait))
        await one.finish()
        left.append(one)
        known = asyncio.all_tasks()
        subject.hangs = False
        await asyncio.sleep(0.05)
        assert len(known) == 1
        return asyncio.get_running_loop().time() - began

    assert asyncio.run(work()) < 5


def _short(wait: Any) -> Any:
    # Waits a tenth of the time.
    return lambda tasks, timeout: wait(tasks, timeout=timeout / 10)


@attrs.define
class Server:
    """An extension that follows nothing and ends when it is cancelled; its `stop` fails."""

    fails: bool = True
    starts: int = 0

    async def start(self, _journal: JournalCursor) -> None:
        """Serve, after a failure."""
        self.starts += 1
        if self.fails:
            self.fails = False
            raise OSError("the port is in use")
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Fail."""
        raise RuntimeError("nothing is open")


def test_one_that_follows_nothing_works_again_after_a_minute(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cancelled at once at the end, and a failure of its `stop` is logged only."""
    monkeypatch.setattr(module, "HEALTHY_S", 0.01)
    server, began = Server(), time.monotonic()
    stage.follow(server, lambda: server.starts == 2 and not failing_extensions(stage.trader.path))
    assert time.monotonic() - began < module.DRAIN_S
    assert len(stage.notices) == 1


def test_a_progress_that_cannot_be_stored_ends_nothing(stage: Stage) -> None:
    """A full disk or a file in the way: the extension is tried again, and the run goes on."""
    progress_folder(stage.trader.path).write_text("in the way")
    follower = Follower()
    stage.follow(follower, lambda: follower.starts == 3)
    assert "Cannot make the folder" in stage.notices[0]


def test_a_call_that_hangs_in_a_thread_does_not_hold_the_process() -> None:
    """Neither the end of the loop nor that of the process waits for it; results and errors arrive."""
    done = False

    def slow() -> None:
        while not done:
            time.sleep(0.001)

    async def work() -> tuple[str, str]:
        asyncio.get_running_loop().set_default_executor(DaemonThreads())
        hanging = asyncio.ensure_future(asyncio.to_thread(slow))
        with pytest.raises(KeyError):
            await asyncio.to_thread(dict[str, int]().__getitem__, "x")
        hanging.cancel()
        return await asyncio.to_thread(str, 12), "ended"

    assert asyncio.run(work()) == ("12", "ended")
    done = True


def test_f92_an_extension_that_hung_is_started_when_its_session_is_over(stage: Stage) -> None:
    """While it is off it is neither started nor stopped; later its calls are marked for the watchdog."""
    asked, marked, follower = iter([True, True, False]), list[str](), Follower()

    def mark(call: str) -> nullcontext[None]:
        marked.append(call)
        return nullcontext()

    def is_off() -> bool:
        assert (follower.starts, follower.stops) == (0, 0)
        return next(asked)

    stage.border = PluginBorder(mark=mark, is_off=is_off)
    stage.follow(follower, lambda: bool(follower.got))
    assert (follower.starts, follower.stops, {*marked}) == (1, 1, {"start", "stop"})


def test_f92_a_run_ends_beside_an_extension_that_is_off(stage: Stage) -> None:
    """It is never started, and the end does not wait for it."""
    follower = Follower()
    stage.border = PluginBorder(is_off=lambda: True)
    stage.follow(follower)
    assert (follower.starts, follower.stops) == (0, 0)
