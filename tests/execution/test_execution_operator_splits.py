"""The operator's list of splits: what it may say, and what is wrong with it in a sentence each."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from tbot_core import cli
from tbot_core.errors import AccessError, DataError
from tbot_core.execution import corporate_actions

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "date,symbol,before,after"


def written(folder: Path, text: bytes, mode: int = 0o600) -> Path:
    """A file with this content."""
    path = folder / corporate_actions.NAME
    path.write_bytes(text)
    path.chmod(mode)
    return path


def test_f43_a_sound_file_says_what_became_of_what_and_when(tmp_path: Path) -> None:
    """Remarks, empty lines, a byte order mark and blanks around a field say nothing; no file is an empty list."""
    assert corporate_actions.read_splits(tmp_path / corporate_actions.NAME) == ()
    text = f"{HEADER}\n# over Christmas\n\n2026-01-05, ACME ,1,2\n2026-02-02,BRK.B,10,1\n"
    first, second = corporate_actions.read_splits(written(tmp_path, text.encode()))
    assert first == corporate_actions.OperatorSplit(day=dt.date(2026, 1, 5), symbol="ACME", before=1, after=2, line=4)
    assert corporate_actions.read_splits(written(tmp_path, b"\xef\xbb\xbf" + text.encode())) == (first, second)
    assert (second.symbol, second.before, second.after, second.line) == ("BRK.B", 10, 1, 5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", f"its first line is not {HEADER}"),
        ("2026-01-05,ACME,1,2", f"its first line is not {HEADER}"),
        (f"{HEADER}\n2026-01-05,ACME,1", "line 2: 3 fields"),
        (f"{HEADER}\n5.1.2026,acme,1,2", "line 2: '5.1.2026' is not a date; line 2: 'acme' is not a symbol"),
        (
            f"{HEADER}\n2026-01-05,ACME,0,2001",
            "line 2: '0' is not a number from 1 to 1000; line 2: '2001' is not a number",
        ),
        (
            f"{HEADER}\n2026-01-05,ACME,1.5,-2",
            "line 2: '1.5' is not a number from 1 to 1000; line 2: '-2' is not a number",
        ),
        (f"{HEADER}\n2026-01-05,ACME,1,{'9' * 5000}", f"line 2: '{'9' * 30}…' is not a number from 1 to 1000"),
        (f"{HEADER}\n2026-01-05,ACME,2,2", "line 2: the ratio is 1 to 1"),
        (
            f"{HEADER}\n2026-01-05,ACME,1,2\n2026-01-05,ACME,1,3",
            "line 3: ACME on 2026-01-05 repeats line 2",
        ),
    ],
)
def test_f43_all_that_is_wrong_is_said_at_once(tmp_path: Path, text: str, words: str) -> None:
    """With its line and its value, and how it should be."""
    path = written(tmp_path, text.encode())
    with pytest.raises(DataError, match=r".") as caught:
        corporate_actions.read_splits(path)
    assert words in caught.value.message
    assert str(path) in caught.value.message
    assert HEADER in caught.value.remedy


def test_f43_a_file_that_is_not_the_operators_alone_is_refused(tmp_path: Path) -> None:
    """Others who may write it, a link, or bytes that are no text: it is no evidence."""
    text = f"{HEADER}\n2026-01-05,ACME,1,2\n".encode()
    with pytest.raises(AccessError):
        corporate_actions.read_splits(written(tmp_path, text, 0o622))
    with pytest.raises(DataError, match="not a text file"):
        corporate_actions.read_splits(written(tmp_path, b"\xff\xfe"))
    (tmp_path / "real.csv").write_bytes(text)
    (tmp_path / corporate_actions.NAME).unlink()
    (tmp_path / corporate_actions.NAME).symlink_to(tmp_path / "real.csv")
    with pytest.raises(AccessError):
        corporate_actions.read_splits(tmp_path / corporate_actions.NAME)


def test_f43_a_check_says_what_the_file_lists_and_fails_where_it_is_not_sound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One row each; what is not sound is exit 3."""
    (tmp_path / "data").mkdir()
    written(tmp_path / "data", f"{HEADER}\n2026-01-05,ACME,1,2\n".encode())
    cli.invoke(["check", "--home", str(tmp_path)])
    assert "the last of ACME on 2026-01-05" in capsys.readouterr().out
    written(tmp_path / "data", b"ACME doubled")
    assert cli.invoke(["check", "--home", str(tmp_path)]) == 3
    (row,) = (line for line in capsys.readouterr().out.splitlines() if " splits " in line)
    assert row.startswith("fail")
    assert "its first line is not" in row
