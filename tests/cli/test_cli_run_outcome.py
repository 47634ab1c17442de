"""What `tbot run --json` tells of a run."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from tbot_core.cli.commands.run import outcome_document
from tbot_core.cli.run_options import RunOptions
from tbot_core.engine.run_plan import RunOutcome
from tbot_core.reports.summary import RunSummary


@pytest.mark.parametrize("mode", ["paper", "demo"])
def test_what_a_stop_left_open_is_told_of_trading_at_a_broker(mode: str) -> None:
    """Open, without a stop and stuck, each by its symbols; the document of a simulation keeps to its agreed keys."""
    summary = RunSummary(
        mode=mode,
        sessions=1,
        symbols=2,
        equity_start=Decimal(1),
        equity_end=Decimal(1),
        trades=(),
        denials={},
        settings_hash="",
        data_hash="",
    )
    outcome = RunOutcome(
        summary=summary, journal=Path("j"), stopped=True, open=("A", "B"), unprotected=("B",), stuck=("A",)
    )
    found = outcome_document(RunOptions(mode=mode, home=Path("home")), outcome)  # type: ignore[arg-type]  # a mode as text
    if mode == "paper":
        assert (found["open"], found["unprotected"], found["stuck"]) == (["A", "B"], ["B"], ["A"])
    else:
        assert "open" not in found
