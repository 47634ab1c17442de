"""The operator's table of index funds."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tbot_core.errors import AccessError, DataError
from tbot_core.instance.index_funds import NAME, read_fund_table

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "index,symbol,leverage\n"


def written(folder: Path, text: str | bytes, mode: int = 0o600) -> Path:
    """The operator's file with this content."""
    path = folder / NAME
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def test_a_table_keeps_its_order_and_signs(tmp_path: Path) -> None:
    """An index may come in several places; empty lines and remarks are left out."""
    text = f"{HEAD}S&P 500, SPY ,1\n\n# inverse\nS&P 500,SH,-1\nTSLA,TSLQ,-2\nS&P 500,SPXS,-3\n"
    table = read_fund_table(written(tmp_path, text))
    assert table == {"S&P 500": {"SPY": 1, "SH": -1, "SPXS": -3}, "TSLA": {"TSLQ": Decimal(-2)}}
    assert table is not None
    assert [*table] == ["S&P 500", "TSLA"]


def test_without_a_file_there_is_no_table(tmp_path: Path) -> None:
    """The shipped one is used then."""
    assert read_fund_table(tmp_path / NAME) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "its first line is not index,symbol,leverage"),
        ("symbol,leverage\n", "its first line is not index,symbol,leverage"),
        (f"{HEAD}S&P 500,SH\n", "line 2: 2 fields"),
        (f"{HEAD},SH,-1\n", "line 2: no index is named"),
        (f"{HEAD}S&P 500,sh,-1\n", "line 2: 'sh' is not a symbol"),
        (f"{HEAD}S&P 500,SH,0\n", "line 2: '0' is not a leverage from -5 to 5, without 0"),
        (f"{HEAD}S&P 500,SH,-6\n", "line 2: '-6' is not a leverage"),
        (f"{HEAD}S&P 500,SH,NaN\n", "line 2: 'NaN' is not a leverage"),
        (f"{HEAD}S&P 500,SH,short\n", "line 2: 'short' is not a leverage"),
        (f"{HEAD}S&P 500,SH,-1\nS&P 500,SH,-2\n", "line 3: SH is in S&P 500 twice"),
        (b"\xff\xfe\x00", "is not a text file"),
    ],
)
def test_a_faulty_table_is_refused_as_a_whole(tmp_path: Path, text: str | bytes, words: str) -> None:
    """The error names the line, the value and the form of a line."""
    path = written(tmp_path, text)
    with pytest.raises(DataError) as raised:
        read_fund_table(path)
    assert str(path) in raised.value.message
    assert words in raised.value.message
    assert "such as S&P 500,SH,-1" in raised.value.remedy


def test_a_table_that_others_can_write_is_not_read(tmp_path: Path) -> None:
    """It decides what is bought."""
    with pytest.raises(AccessError):
        read_fund_table(written(tmp_path, f"{HEAD}S&P 500,SH,-1\n", 0o666))
