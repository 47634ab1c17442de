"""Settings files as text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.errors import UsageError
from tbot_core.instance.dotenv import ParsedDotenv, parse_dotenv, replace_values


def values(parsed: ParsedDotenv) -> dict[str, str]:
    """The values by key."""
    return {entry.key: entry.value for entry in parsed.entries}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"),
        ("A= InverseETF               ", "InverseETF"),
        ('A="ALPACA"  ', "ALPACA"),
        ("A='x # y'", "x # y"),
        ("A=5   # five", "5"),
        ("A=", ""),
        ("export A=1", "1"),
        ("A=${HOME}", "${HOME}"),
        ("  A = 1", "1"),
    ],
)
def test_a_line_reads_as_a_shell_would_without_expansion(line: str, value: str) -> None:
    """Quotes, blanks, comments and export are understood; nothing is interpolated."""
    parsed = parse_dotenv(".env_bot", line.encode())
    assert values(parsed) == {"A": value}
    assert parsed.findings == ()


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_entry_knows_its_line(newline: str) -> None:
    """Line numbers count blank and comment lines, whatever ends a line, and a byte order mark is no text."""
    content = "\ufeff# first" + newline + newline + "  " + newline + "A=1" + newline + " # more" + newline + "B=2"
    parsed = parse_dotenv(".env_bot", content.encode())
    assert [(entry.key, entry.where) for entry in parsed.entries] == [("A", ".env_bot:4"), ("B", ".env_bot:6")]


def test_the_last_of_a_repeated_key_counts_and_is_reported() -> None:
    """A repeated key is named with both lines; it warns where the value changes."""
    parsed = parse_dotenv("f", b"A=1\nB=2\nA=3\nB=2\n")
    assert values(parsed) == {"A": "3", "B": "2"}
    assert [str(finding) for finding in parsed.findings] == [
        "f:3: A is also on line 1; this line counts.",
        "f:4: B is also on line 2 with the same value.",
    ]
    assert [finding.level for finding in parsed.findings] == ["warn", "ok"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"A=1\n=x y\n", "f:2: The line is not KEY=value."),
        (
            b"\n\nA\n",
            "f:3: The line is not KEY=value: add the `=`, or remove it. It is not shown, since it may be a secret.",
        ),
        (b'A="1\nB=2\nC=3"\n', "f:1: A has a value that spans lines: a closing quote is missing."),
        (b"A=1\nB=\xff\n", "f:2: Byte 0xff is not UTF-8 text: save the file as UTF-8."),
    ],
)
def test_what_cannot_be_read_fails_with_its_line(content: bytes, sentence: str) -> None:
    """No line is dropped silently: each that cannot be read is named with its number."""
    found = parse_dotenv("f", content).findings
    assert str(found[0]) == sentence
    assert found[0].level == "fail"


def test_a_long_or_unprintable_line_is_cut_and_escaped() -> None:
    """A message never carries control characters to a terminal, nor a page of text."""
    finding = parse_dotenv("f", b"\x1b[31m" + b"x" * 500).findings[0]
    assert "\x1b" not in str(finding)
    assert "add the `=`" in str(finding)
    assert len(str(finding)) < 250


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        (b"u3ep2BjC9Ir7UWZ4y0qvO_dwoBPY77ADYPB0zPbWb-U=", "u3ep2"),
        (b"  u3ep2BjC9Ir7UWZ4y0qvO_dwoBPY77ADYPB0zPbWbYU=\r\n", "u3ep2"),
        (b"API_SECRET hunter2", "hunter2"),
        (b"export API_SECRET: hunter2", "hunter2"),
        (b"PKTEST4711ABCDEF", "PKTEST"),
        (b"  hunter2  ", "hunter2"),
    ],
)
def test_a_line_that_may_hold_a_secret_is_named_by_its_number_alone(line: bytes, secret: str) -> None:
    """A key file that is read as settings, or a value behind a blank, never shows on a screen."""
    finding = parse_dotenv("f", b"A=1\n" + line).findings[0]
    assert finding.level == "fail"
    assert str(finding).startswith("f:2: The line is ")
    assert secret not in json.dumps(finding.document)


def test_a_long_name_in_capitals_is_no_key() -> None:
    """A setting may be as long as a key and have no value."""
    parsed = parse_dotenv("f", b"STRAT_" + b"X" * 37 + b"=\n")
    assert not parsed.findings
    assert values(parsed) == {"STRAT_" + "X" * 37: ""}


@given(st.binary(max_size=400) | st.text(alphabet="AB=\"'#\\\n\r \t\ufeff$", max_size=60).map(str.encode))
def test_any_bytes_give_entries_or_findings(data: bytes) -> None:
    """Whatever a file holds, reading it raises nothing, and no value spans lines."""
    parsed = parse_dotenv("f", data)
    assert all("\n" not in entry.value for entry in parsed.entries)
    assert len({entry.key for entry in parsed.entries}) == len(parsed.entries)


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        ("# c\nA=1 # one\nB=2\n", {"A": "3"}, "# c\nA=3 # one\nB=2\n"),
        ("export A = '1'  # one\r\nB=2", {"A": "x y", "C": "3"}, "export A = x y  # one\r\nB=2\r\nC=3\r\n"),
        ("A=1\nA=2\n", {"A": "3"}, "A=1\nA=3\n"),
        ("A=1\n", {"A": "a # b"}, "A='a # b'\n"),
        ("\ufeffA=1\n", {"A": "2"}, "\ufeffA=2\n"),
        ("A\nnot a line\n", {"A": "2"}, "A=2\nnot a line\n"),
        ("", {"A": "it's # \\"}, "A='it\\'s # \\\\'\n"),
    ],
)
def test_new_values_change_only_their_lines(before: str, changes: dict[str, str], after: str) -> None:
    """Comments, order, spelling and line ends stay, and the file is read back with the new values."""
    data = replace_values(before, changes)
    assert data.decode() == after
    found = {entry.key: entry.value for entry in parse_dotenv("f", data).entries}
    assert {key: found[key] for key in changes} == changes


def test_a_value_of_two_lines_is_refused() -> None:
    """Each setting is one line."""
    with pytest.raises(UsageError, match="line break"):
        replace_values("", {"A": "1\nB=2"})
