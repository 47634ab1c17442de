"""The two sample files, to the byte, trade a day: Alpaca's wire, Finnhub's facts, mails, a page, an exported ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sample_day
import sample_files

from tbot_core.contracts import BrokerEventKind
from tbot_core.journal import records

if TYPE_CHECKING:
    from pathlib import Path

    from sample_day import SampleDay


BOTH = 125
"""So many minutes after the open two of the strategies have entered and closed."""


@pytest.fixture(params=[BOTH, pytest.param(None, marks=pytest.mark.full)], ids=["two strategies", "whole"])
def day(request: pytest.FixtureRequest, tmp_path: Path, shared: Path, loopback: None) -> SampleDay:  # noqa: ARG001  -- a fixture wanted for its effect
    """The day, traded."""
    return sample_day.trade(tmp_path / "bot", shared / "reference", minutes=request.param)


@pytest.mark.first(0)  # over two seconds
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")
def test_the_sample_files_trade_a_day(day: SampleDay) -> None:
    """READY, trades of two strategies, a mail for each fill, an incident that is resolved, and each trade exported."""
    (ready,) = day.of(records.READY)
    assert (ready["vix"], ready["vix_day"], ready["vix_source"]) == (18.4, "2026-03-02", "cboe")
    assert "series" not in ready
    assert ready["facts"]
    trades = day.outcome.summary.trades
    assert len({trade.strategy for trade in trades}) >= 2
    assert day.outcome.open == ()
    a_mail_for_each_fill(day)
    an_incident_is_triggered_and_resolved(day)
    each_trade_is_exported_once(day)
    the_check_has_no_fail(day)


def a_mail_for_each_fill(day: SampleDay) -> None:
    """Each order that filled is in the subject of a mail, entries and exits."""
    subjects = "\n".join(str(mail["subject"]) for mail in day.mails)
    filled = {one.cid for one in day.events if one.kind == BrokerEventKind.FILL}
    assert filled
    for trade in day.outcome.summary.trades:
        assert f"BUY {trade.quantity} {trade.symbol} @" in subjects
        assert f"EXIT {trade.symbol} " in subjects


def an_incident_is_triggered_and_resolved(day: SampleDay) -> None:
    """The lost stream of bars, while a position is held; with one key, and nothing stays open."""
    (triggered,) = {one["dedup_key"] for one in day.incidents if one["event_action"] == "trigger"}
    (resolved,) = {one["dedup_key"] for one in day.incidents if one["event_action"] == "resolve"}
    assert triggered == resolved


def each_trade_is_exported_once(day: SampleDay) -> None:
    """By symbol and money, in a file that bears the identity."""
    (file,) = (day.home / "reports" / "ledger").glob("*.csv")
    assert "US_US_ALPACA_001" in file.name
    exported = sorted((row["symbol"], row["pnl"]) for row in day.exported)
    assert exported == sorted((trade.symbol, str(trade.pnl)) for trade in day.outcome.summary.trades)


def the_check_has_no_fail(day: SampleDay) -> None:
    """`tbot check` of the adopted instance."""
    code, out = sample_files.command(day.home, "check")
    assert (code, [line for line in out.splitlines() if line.startswith("fail")]) == (0, [])
