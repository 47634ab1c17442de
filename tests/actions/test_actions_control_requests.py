"""A request names who made it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tbot_core import cli
from tbot_core.actions.control_requests import send_request
from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.model.clock import SystemClock
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
