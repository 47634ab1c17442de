"""A request names who made it."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.actions.control_requests import send_request, stop_sentence
from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.session.requests import RequestHandler
from tbot_core.execution.trading_state import TradingStateController, recall_states
from tbot_core.instance import Instance
from tbot_core.journal import records
from tbot_core.journal.store import JournalRecorder, NewEvent, open_journal
from tbot_core.model.clock import ManualClock, SystemClock
from tbot_core.system import environ, filesystem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("actor", ["ann", ""])
def test_a_request_names_its_actor(actor: str, tmp_path: Path, paper_instance: Callable[[Path], Path]) -> None:
    """The one that the caller gives; without one the user of the account."""
    paper_instance(tmp_path)
    answer = asyncio.run(send_request(tmp_path, ControlVerb.KILL, SystemClock(), actor=actor))
    assert (answer.process, answer.taken) == (None, False)
    (request,) = control.read_folder(tmp_path / "control").requests
    assert request.actor == (actor or environ.user_name())


def test_equal_requests_that_wait_are_one(tmp_path: Path, paper_instance: Callable[[Path], Path]) -> None:
    """The last of each kind, in their order, however the clock is set; with other arguments a request is another."""
    paper_instance(tmp_path)
    clock = ManualClock(datetime(2026, 11, 24, 15, 0, tzinfo=UTC))
    for verb, arguments in (
        (ControlVerb.KILL, {}),
        (ControlVerb.KILL_CLEAR, {}),
        (ControlVerb.ARM, {"sessions": "2"}),
        (ControlVerb.KILL, {}),
        (ControlVerb.ARM, {"sessions": "5"}),
        (ControlVerb.KILL, {}),
    ):
        clock = ManualClock(clock.now() - timedelta(days=1))
        asyncio.run(send_request(tmp_path, verb, clock, arguments))
    waiting = [(one.verb, dict(one.arguments)) for one in control.read_folder(tmp_path / "control").requests]
    assert waiting == [
        (ControlVerb.KILL_CLEAR, {}),
        (ControlVerb.ARM, {"sessions": "2"}),
        (ControlVerb.ARM, {"sessions": "5"}),
        (ControlVerb.KILL, {}),
    ]


@pytest.mark.parametrize("days", [1, -1])
@pytest.mark.parametrize(
    ("done", "undone"),
    [
        (ControlVerb.KILL_FLATTEN, ControlVerb.KILL_CLEAR),
        (ControlVerb.STOP, ControlVerb.STOP_CANCEL),
        (ControlVerb.DEFENSE_ON, ControlVerb.DEFENSE_OFF),
    ],
)
def test_what_was_asked_for_by_a_wrong_clock_can_be_withdrawn(
    tmp_path: Path, done: ControlVerb, undone: ControlVerb, days: int, paper_instance: Callable[[Path], Path]
) -> None:
    """A kill, stop or defense that a bot recorded a day ahead ends with the next withdrawal, also a repeated one."""
    paper_instance(tmp_path)
    now, folder = datetime(2026, 11, 24, 15, 0, tzinfo=UTC), tmp_path / "control"
    with closing(open_journal(tmp_path / "data" / "tbot.sqlite")) as journal:
        recorder = JournalRecorder(journal=journal, clock=ManualClock(now))
        states = TradingStateController(recorder, lambda _state: None, recall_states(()))
        bot = RequestHandler(recorder, states)
        for verb, ahead in ((done, days), (done, 0), (undone, 0), (done, days), (undone, -days)):
            asyncio.run(send_request(tmp_path, verb, ManualClock(now + timedelta(days=ahead))))
            bot.poll(folder)
            assert bool(states.causes) is (verb is done)
    assert control.read_folder(folder) == control.EMPTY_FOLDER


@pytest.mark.parametrize("taken", [True, False])
def test_a_request_of_the_largest_order_keeps_no_later_one_back(
    tmp_path: Path, paper_instance: Callable[[Path], Path], *, taken: bool
) -> None:
    """Neither a clear nor a kill, whether a bot has recorded the first one or it still waits."""
    paper_instance(tmp_path)
    clock, folder = ManualClock(datetime(2026, 11, 24, 15, 0, tzinfo=UTC)), tmp_path / "control"
    control.write_request(folder, ControlVerb.KILL, actor="eve", now=clock.now(), order=control.LARGEST_ORDER)
    with closing(open_journal(tmp_path / "data" / "tbot.sqlite")) as journal:
        recorder = JournalRecorder(journal=journal, clock=clock)
        states = TradingStateController(recorder, lambda _state: None, recall_states(()))
        bot = RequestHandler(recorder, states)
        if taken:
            bot.poll(folder)
        for verb in (ControlVerb.KILL_CLEAR, ControlVerb.KILL, ControlVerb.KILL_CLEAR):
            clock.advance(1)
            asyncio.run(send_request(tmp_path, verb, clock))
            bot.poll(folder)
            assert bool(states.causes) is (verb is ControlVerb.KILL)
    assert control.read_folder(folder) == control.EMPTY_FOLDER


class ClockOfBot(ManualClock):
    """A clock at whose first wait the bot acts."""

    def __init__(self, start: datetime, act: Callable[[], None]) -> None:
        super().__init__(start)
        self._acts = [act]

    async def sleep(self, seconds: float) -> None:
        """Wait, after the bot has acted."""
        while self._acts:
            self._acts.pop()()
        await super().sleep(seconds)


@pytest.mark.parametrize("purpose", ["", "rehearsal-1"])
@pytest.mark.parametrize("takes", [True, False])
def test_a_stop_that_a_bot_took_and_ended_by_is_reported_as_done(
    tmp_path: Path, purpose: str, paper_instance: Callable[[Path], Path], *, takes: bool
) -> None:
    """Also if both happened between two looks, on paper and in a rehearsal; one that died first took nothing."""
    paper_instance(tmp_path)
    instance, now = Instance(tmp_path), datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
    filesystem.make_folder(instance.runs)
    path = attrs.evolve(instance, rehearsal=purpose).journal
    with closing(open_journal(path)) as journal, ExitStack() as held:
        recorder = JournalRecorder(journal=journal, clock=ManualClock(now))
        states = TradingStateController(recorder, lambda _state: None, recall_states(()))
        bot = RequestHandler(recorder, states)
        held.enter_context(filesystem.hold_lock(instance.lock, purpose, folder=tmp_path))

        def end() -> None:
            if takes:
                bot.poll(tmp_path / "control")
                recorder.write(
                    NewEvent(kind=records.STOPPED, payload={"open": [], "unconfirmed": ""}, time=recorder.clock.now())
                )
            held.close()

        answer = asyncio.run(send_request(tmp_path, ControlVerb.STOP, ClockOfBot(now, end)))
    assert (answer.taken, answer.ended, answer.process is None) == (takes, takes, not takes)
    assert ("No bot is running" in stop_sentence(answer)) is not takes


def test_a_request_is_written_where_the_journal_cannot_be_read(
    tmp_path: Path, paper_instance: Callable[[Path], Path]
) -> None:
    """A kill is written where the journal is damaged."""
    paper_instance(tmp_path)
    (tmp_path / "data" / "tbot.sqlite").write_bytes(b"no journal at all" * 100)
    asyncio.run(send_request(tmp_path, ControlVerb.KILL, SystemClock()))
    (request,) = control.read_folder(tmp_path / "control").requests
    assert (request.verb, request.order) == (ControlVerb.KILL, 1)
