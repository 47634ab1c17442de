"""The set-up of a rehearsal at a server on this machine: the instance's settings, and files of its own."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.contracts import FeedRequest
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.rehearsal_run import rehearsal_setup
from tbot_core.model.clock import ManualClock

if TYPE_CHECKING:
    from pathlib import Path

NOON = dt.datetime(2026, 11, 24, 17, 0, tzinfo=dt.UTC)


@pytest.mark.slow
def test_a_rehearsal_has_a_journal_of_its_own(tmp_path: Path) -> None:
    """Named by its run id, in the folder of runs; the instance's journal is not made."""
    create_demo_instance(tmp_path)
    assembly = assemble(tmp_path, "paper", ManualClock(NOON))
    setup = rehearsal_setup("rehearsal-20261124T170000", assembly, FeedRequest(kind="live"))
    try:
        assert setup.journal.path.parent == tmp_path / "data" / "runs"
        assert setup.journal.path.stem == "rehearsal-20261124T170000"
        assert not (tmp_path / "data" / "tbot.sqlite").exists()
    finally:
        setup.journal.close()
