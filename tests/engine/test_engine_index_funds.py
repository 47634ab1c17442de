"""The shipped table of index funds."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tbot_core.engine.assembly import index_funds


@pytest.mark.parametrize(("symbol", "leverage"), [("URTY", 3), ("SRTY", -3), ("TNA", 3), ("TZA", -3), ("IWM", 1)])
def test_leveraged_funds_count_towards_their_index(symbol: str, leverage: int) -> None:
    """The funds on the Russell 2000 share one limit, each with its signed leverage."""
    assert index_funds()["Russell 2000"][symbol] == Decimal(leverage)
