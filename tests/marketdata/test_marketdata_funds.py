"""Which symbols are funds: what a source says, the shipped table, and the operator's own one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest

from tbot_core.errors import SettingsError
from tbot_core.marketdata import funds
from tbot_core.testing.sessions import day

if TYPE_CHECKING:
    from pathlib import Path


def test_the_shipped_table_counts_without_one_of_the_operator(tmp_path: Path) -> None:
    """The operator's own one replaces it whole."""
    assert funds.read_funds(tmp_path) >= {"SPY", "QQQ"}
    (tmp_path / funds.FUNDS).write_text("symbol,name\nZZZ,A fund\n")
    assert funds.read_funds(tmp_path) == {"ZZZ"}


def test_the_source_counts_before_the_table() -> None:
    """Of a kind that the source does not know, and without a source, the table decides."""
    facts = day(3)
    assert funds.flag_funds(facts, ("ABC", "IWM", "SPY"), {"IWM", "SPY"}).tolist() == [False, True, True]
    known = attrs.evolve(facts, fund=np.array([1.0, 0.0, np.nan]))
    assert funds.flag_funds(known, ("ABC", "IWM", "SPY"), {"IWM", "SPY"}).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", [":1: the header"]),
        ("ticker\nSPY\n", [":1: the header", ":2: 'SPY'"]),
        ("symbol,name\nspy,A fund\nSPY,A,B\nIWM,Fine\n", [":2: 'spy,A fund'", ":3: 'SPY,A,B'"]),
        ('symbol,name\nAMD,"Advanced\nGE,General\nSPY,"x\nQQQ,y\n', [":2: 'AMD,\"Advanced'", ":4: 'SPY,\"x'"]),
        ('symbol,name\nAMD,"A"b\nGE,"A ""fine"", one"\n', [":2: 'AMD,\"A\"b'"]),
    ],
)
def test_every_fault_of_a_table_is_named(text: str, faults: list[str]) -> None:
    """A wrong header and every wrong line are reported at once, with file and line."""
    with pytest.raises(SettingsError) as caught:
        funds.parse_funds(text, "funds.csv")
    lines = caught.value.message.splitlines()
    assert len(lines) == len(faults)
    assert all(line.startswith(f"funds.csv{fault}") for line, fault in zip(lines, faults, strict=True))
