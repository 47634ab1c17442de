"""A request names who made it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tbot_core import cli
from tbot_core.actions.control_requests import send_request
from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.model.clock import ManualClock, SystemClock
from tbot_core.system import environ

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("actor", ["ann", ""])
def test_a_request_names_its_actor(actor: str, tmp_path: Path) -> None:
    """The one that the caller gives; without one the user of the account."""
    assert cli.invoke(["init", "--paper", "--home", str(tmp_path)]) == 0
    answer = asyncio.run(send_request(tmp_path, ControlVerb.KILL, SystemClock(), actor=actor))
    assert (answer.process, answer.taken) == (None, False)
    (request,) = control.read_folder(tmp_path / "control").requests
    assert request.actor == (actor or environ.user_name())


def test_equal_requests_that_wait_are_one(tmp_path: Path) -> None:
    """The last of each kind, in their order; with other arguments a request is another one."""
    assert cli.invoke(["init", "--paper", "--home", str(tmp_path)]) == 0
    clock = ManualClock(datetime(2026, 11, 24, 15, 0, tzinfo=UTC))
    for verb, arguments in (
        (ControlVerb.KILL, {}),
        (ControlVerb.KILL_CLEAR, {}),
        (ControlVerb.ARM, {"sessions": "2"}),
        (ControlVerb.KILL, {}),
        (ControlVerb.ARM, {"sessions": "5"}),
        (ControlVerb.KILL, {}),
    ):
        clock.advance(1)
        asyncio.run(send_request(tmp_path, verb, clock, arguments))
    waiting = [(one.verb, dict(one.arguments)) for one in control.read_folder(tmp_path / "control").requests]
    assert waiting == [
        (ControlVerb.KILL_CLEAR, {}),
        (ControlVerb.ARM, {"sessions": "2"}),
        (ControlVerb.ARM, {"sessions": "5"}),
        (ControlVerb.KILL, {}),
    ]
