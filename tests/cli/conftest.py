"""An instance in which the demo has traded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tbot_core import cli

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a demo that has run to its end; tests only read it."""
    home = tmp_path_factory.mktemp("demo") / "instance"
    assert cli.invoke(["run", "--demo", "--sessions", "2", "--home", str(home), "--json"]) == 0
    return home
