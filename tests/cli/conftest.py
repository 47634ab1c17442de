"""An instance in which the demo has traded."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tbot_core import cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a demo that has run to its end; tests only read it."""
    home = tmp_path_factory.mktemp("demo") / "instance"
    assert cli.invoke(["run", "--demo", "--sessions", "2", "--home", str(home), "--json"]) == 0
    return home


@pytest.fixture
def stops_heard() -> Iterator[None]:
    """Ctrl-C and a hang-up are heard as in a terminal, also where the tests run in the background or under nohup."""
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGHUP, hang_up)
