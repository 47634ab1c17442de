"""Files that look like bars and are not: what is wrong is said with its place, and nothing of them is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tbot_core.barstore.importing import Imported, Refused
from tbot_core.testing.store import StoreBench

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "ts,open,high,low,close,volume,vwap\n"
ROW = "2019-12-02T14:{:02}:00Z,10,11,9,10,100,{}\n"


@pytest.fixture
def bench(tmp_path: Path) -> StoreBench:
    """An empty store."""
    return StoreBench(folder=tmp_path)


def refused(outcome: Imported | Refused) -> str:
    """The reason of an outcome, which must be a refusal."""
    assert isinstance(outcome, Refused), outcome
    return outcome.reason


@pytest.mark.parametrize("vwap", ["1200", "1e300", "11.5501", "8.5499", "0.0001"])
def test_a_vwap_that_cannot_be_the_bars_own_refuses_the_file(bench: StoreBench, vwap: str) -> None:
    """More than 5 % above the high or below the low: line and value are named."""
    reason = refused(bench.put_text(HEAD + ROW.format(30, 10) + ROW.format(31, vwap)))
    assert "vwap more than 5% outside the bar's low and high (1, first: line 3, " in reason
    assert f"vwap {vwap}" in reason


@pytest.mark.parametrize("vwap", ["11.55", "8.55", "0", "", "-1"])
def test_a_vwap_of_trades_that_make_no_high_or_low_is_taken(bench: StoreBench, vwap: str) -> None:
    """Odd lots count in it; what is no price at all is taken as none, as before."""
    assert isinstance(bench.put_text(HEAD + ROW.format(30, vwap)), Imported)
