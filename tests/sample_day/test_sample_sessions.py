"""The two sample files, to the byte, are backtested and replayed on data that commands downloaded and imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sample_files
import sample_sessions

if TYPE_CHECKING:
    from pathlib import Path

    from sample_sessions import SampleSessions

FEW = {"sessions": 5, "before": 5}
"""Five sessions with five before have trades of all three strategies."""

STRATEGIES = {"open", "mid", "close"}
REASONS = {"MARKET_CAP_HIGH", "MARKET_CAP_UNKNOWN", "PRICE_HIGH", "SCREEN_DENIED", "VIX_LOW", "VOLUME_LOW"}


@pytest.fixture(params=[FEW, pytest.param({}, marks=pytest.mark.full)], ids=["five sessions", "sixty"])
def found(request: pytest.FixtureRequest, tmp_path: Path, shared: Path, loopback: None) -> SampleSessions:  # noqa: ARG001  -- a fixture wanted for its effect
    """The sessions, traded."""
    return sample_sessions.trade(tmp_path / "bot", shared / "reference", **request.param)


@pytest.mark.first(0)  # over two seconds
@pytest.mark.timeout(300)
def test_all_three_strategies_trade_the_sessions_as_in_their_replay(found: SampleSessions) -> None:
    """With each denial of the files' limits; facts are of several ages, and one symbol's are unknown at first."""
    assert {*found.trades_by_strategy} == STRATEGIES
    assert {*found.backtest["denials"]} >= REASONS
    assert found.difference == ""
    for use in found.backtest["reliability"]["facts"].values():
        assert len([count for age, count in use["ages"].items() if age != "unknown" and count]) >= 2
        assert use["ages"]["unknown"] > 0
    the_settings_are_those_of_the_files(found)
    assert "Replay: the same trades, denials and equity" in list(sample_sessions.lines(found))


def the_settings_are_those_of_the_files(found: SampleSessions) -> None:
    """The addresses of the servers change none that counts, and what was stored is without fault."""
    before, after = found.hashes
    assert after == before
    code, out = sample_files.command(found.home, "data", "verify")
    assert (code, [line for line in out.splitlines() if line.startswith("fault")]) == (0, [])


def test_the_first_difference_is_named() -> None:
    """A trade that only one run has, else the first figure that differs."""
    figures = dict.fromkeys(("equity_start", "equity_end", "settings_hash", "data_hash"), "0")
    run = {"trades": [{"symbol": "AMBLO"}], "denials": {}, "sessions": 6, "symbols": 20, "notes": [], **figures}
    assert sample_sessions.first_difference(run, run) == ""
    assert "trade 1: " in sample_sessions.first_difference(run, {**run, "trades": []})
    assert sample_sessions.first_difference(run, {**run, "denials": {"VIX_LOW": 1}}).startswith("denials: {}")
