"""What `tbot run --json` prints of a run."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import attrs
import click
import pytest

from tbot_core.cli.commands.run import outcome_document
from tbot_core.cli.run_options import RunOptions
from tbot_core.cli.run_text import _split, stopped_lines
from tbot_core.engine.run_plan import RunOutcome
from tbot_core.reports.summary import RunSummary

SUMMARY = RunSummary(
    mode="paper",
    sessions=1,
    symbols=2,
    equity_start=Decimal(100),
    equity_end=Decimal(101),
    trades=(),
    denials={},
    settings_hash="",
    data_hash="",
)


@pytest.mark.parametrize(
    ("sessions", "held", "valued", "line"),
    [
        (1, 0, "", "1 session, 0 trades, equity 100.00 to 101.00"),
        (0, 3, "marks", "1 stopped session, 0 trades closed, 3 open positions, {}, at the last marks"),
        (2, 1, "fills", "2 sessions and a stopped one, 0 trades closed, 1 open position, {}, positions at {}"),
        (0, 0, "marks", "1 stopped session, 0 trades closed, equity 100.00 to 101.00, at the last marks"),
    ],
)
def test_the_last_line_says_at_which_prices_positions_count(sessions: int, held: int, valued: str, line: str) -> None:
    """What a stop left open counts, with what it holds, valued as the displays value it or at the last fill prices."""
    summary = attrs.evolve(SUMMARY, sessions=sessions, held=held, valued=valued)
    outcome = RunOutcome(summary=summary, journal=Path("j"), stopped=True)
    lines = list(stopped_lines(outcome, RunOptions(mode="paper", home=Path("home"))))
    assert line.format("equity 100.00 to 101.00", "their last fill prices") in "".join(map(click.unstyle, lines))


def test_a_stopped_run_without_a_trade_names_what_denied_most() -> None:
    """After a closed session without trades, with the settings that change it and the instance's folder."""
    summary = attrs.evolve(SUMMARY, denials={"PRICE_LOW": 3})
    outcome = RunOutcome(summary=summary, journal=Path("j"), stopped=True)
    lines = list(stopped_lines(outcome, RunOptions(mode="paper", home=Path("home"))))
    assert "No trade. Denied most by PRICE_LOW, 3 times (MIN_PRICE)." in lines
    assert any("`tbot config edit --home home`" in line for line in lines)


@pytest.mark.parametrize("mode", ["paper", "demo"])
def test_what_a_stop_left_open_is_shown_of_trading_at_a_broker(mode: str) -> None:
    """Open, without a stop and stuck, each by its symbols; the document of a simulation keeps to its agreed keys."""
    summary = attrs.evolve(SUMMARY, mode=mode)
    outcome = RunOutcome(
        summary=summary, journal=Path("j"), stopped=True, open=("A", "B"), unprotected=("B",), stuck=("A",)
    )
    found = outcome_document(RunOptions(mode=mode, home=Path("home")), outcome)  # type: ignore[arg-type]  # a mode as text
    if mode == "paper":
        assert (found["open"], found["unprotected"], found["stuck"]) == (["A", "B"], ["B"], ["A"])
    else:
        assert "open" not in found


def test_a_stop_whose_cancel_is_not_confirmed_is_not_called_absent() -> None:
    """The end says what is known of each position: without a stop order, or with one that may still rest."""
    outcome = RunOutcome(
        summary=SUMMARY, journal=Path("j"), stopped=True, open=("A", "B"), unprotected=("A", "B"), cancelling=("B",)
    )
    said = list(stopped_lines(outcome, RunOptions(mode="paper", home=Path("home"))))
    assert "Without a stop order: A." in said
    assert "The cancel of the stop order was requested and not confirmed, so it may still rest: B." in said


def test_what_is_still_open_has_a_row_so_that_the_parts_sum_to_the_whole() -> None:
    """The P&L of a run includes its open positions, those of the strategies only what was closed."""
    parts = {"open": (1, 0, Decimal("-15.21"))}
    *_, rest, last = _split("strategy", parts, Decimal("-2.82"))
    assert [click.unstyle(line).split()[:3] for line in (rest, last)] == [
        ["still", "open", "+12.39"],
        ["all", "1", "0"],
    ]
    assert "still open" not in "".join(_split("strategy", parts, Decimal("-15.21")))
