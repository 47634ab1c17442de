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
def hang_ups() -> Iterator[None]:
    """A hang-up is heard as in a terminal, also where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
