"""The shipped table of index funds, and the operator's own."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tbot_core.engine.assembly import index_funds

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("symbol", "leverage"), [("URTY", 3), ("SRTY", -3), ("TNA", 3), ("TZA", -3), ("IWM", 1)])
def test_leveraged_funds_count_towards_their_index(symbol: str, leverage: int) -> None:
    """The funds on the Russell 2000 share one limit, each with its signed leverage."""
    assert index_funds()["Russell 2000"][symbol] == Decimal(leverage)


def test_the_operators_table_replaces_the_shipped_one(tmp_path: Path) -> None:
    """As a whole, so that a fund can be left out; without a file the shipped one is used."""
    path = tmp_path / "index_funds.csv"
    assert index_funds(path) == index_funds()
    path.write_text("index,symbol,leverage\nS&P 500,SH,-1\n")
    path.chmod(0o600)
    assert index_funds(path) == {"S&P 500": {"SH": Decimal(-1)}}
