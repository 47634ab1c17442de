"""Canaries: found in every encoding, planted in every test, and any test that lets one out fails."""

from __future__ import annotations

import base64
import json
import os
import shutil
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tbot_core.errors import AccessError
from tbot_core.system import filesystem
from tbot_core.testing.canaries import canary, leaks, shows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ENCODINGS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "reversed": lambda text: text[::-1],
    "first half": lambda text: text[: len(text) // 2],
    "second half": lambda text: text[len(text) // 2 :],
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 behind one byte": lambda text: base64.b64encode(b"x" + text.encode() + b"yz").decode(),
    "base64 behind two": lambda text: base64.urlsafe_b64encode(b"xx" + text.encode()).decode(),
    "credentials": lambda text: f"Basic {base64.b64encode(f'me:{text}'.encode()).decode()}",
    "url": lambda text: quote(f"/{text}?", safe=""),
    "json": lambda text: json.dumps({"a": f'"{text}"'}),
    "repr": lambda text: repr(f"'{text}\\"),
}

HEAD = """
import sqlite3, sys
from tbot_core.testing.canaries import canary

SECRET = canary("inner")

def test_it(tmp_path, capsys):
"""

JOURNAL = """base = sqlite3.connect(tmp_path / "j.sqlite")
base.execute("create table events (payload)")
base.execute("insert into events values (?)", (SECRET,))
base.commit()
base.close()"""


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
def test_a_canary_is_found_in_every_encoding(encode: Callable[[str], str]) -> None:
    """In text and in bytes, with anything around it."""
    assert shows(f"before {encode(canary('one'))} after")
    assert shows(f"\0{encode(canary('two'))}\n".encode())


def test_what_is_no_canary_is_not_found() -> None:
    """Ordinary text, and bytes that are none."""
    assert not shows("token=[redacted] canary serinus canaria")
    assert not shows(bytes(range(256)))


@pytest.fixture
def suite(pytester: pytest.Pytester, root: Path) -> Iterator[pytest.Pytester]:
    """A folder with the root's fixtures; what leaks into it goes with the test."""
    pytester.makeconftest((root / "conftest.py").read_text())
    yield pytester
    for folder in (pytester.path, os.environ["PYTEST_DEBUG_TEMPROOT"]):
        shutil.rmtree(folder)


def outcome(suite: pytest.Pytester, body: str) -> dict[str, int]:
    """How a test of this body ends."""
    suite.makepyfile(HEAD + "".join(f"    {line}\n" for line in body.splitlines()))
    quiet = ("--tb=no", "--show-capture=no")  # what this test prints is looked through too
    return suite.runpytest_inprocess("-p", "no:randomly", "-p", "no:xdist", *quiet).parseoutcomes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        "print(SECRET)",
        "print(SECRET.encode().hex(), file=sys.stderr)",
        "import base64; print(base64.b64encode(SECRET.encode()).decode())",
        "(tmp_path / 'tbot.log').write_text(f'line {SECRET[::-1]}')",
        "(tmp_path / 'a').mkdir(); (tmp_path / 'a' / 'report.html').write_bytes(SECRET.encode())",
        JOURNAL,
        "import os; (tmp_path / 'environ').write_text(os.environ['IB_PASSWORD'])",
    ],
    ids=["stdout", "stderr", "encoded", "log", "report", "journal", "environment"],
)
def test_a_test_that_lets_a_canary_out_fails(suite: pytest.Pytester, body: str) -> None:
    """Into either stream or any file of its folder: the test passes by itself, and its end is an error."""
    assert outcome(suite, body) == {"passed": 1, "errors": 1}


def test_what_a_test_reads_of_its_streams_counts(suite: pytest.Pytester) -> None:
    """A test that swallows what was said fails there."""
    assert outcome(suite, "print(SECRET)\ncapsys.readouterr()") == {"failed": 1}


def test_a_folder_that_tests_share_is_looked_through_at_the_end(suite: pytest.Pytester) -> None:
    """What no test calls its own is not forgotten."""
    body = "(tmp_path.parent / 'shared').mkdir()\n(tmp_path.parent / 'shared' / 'x').write_text(SECRET)"
    assert outcome(suite, body) == {"passed": 1, "errors": 1}


def test_a_test_that_keeps_its_secrets_passes(suite: pytest.Pytester) -> None:
    """Shown redacted, kept encrypted, and compared: nothing to object to."""
    body = "print('[redacted]'); (tmp_path / 'x').write_bytes(bytes(9)); assert SECRET; assert capsys.readouterr().out"
    assert outcome(suite, body) == {"passed": 1}


def test_links_and_pipes_are_not_followed(tmp_path: Path) -> None:
    """A circle of links, a link to nowhere, a pipe without a writer: passed over."""
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    assert leaks(tmp_path) == ()


def test_a_file_that_goes_away_while_one_looks_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that still replaces its files is looked through; one that cannot be read is named."""
    held = tmp_path / "held"
    held.write_text(canary("x"))
    monkeypatch.setattr(filesystem, "files", lambda folder: [folder / "gone", folder / "held"])
    assert leaks(tmp_path) == (held,)
    held.unlink()
    held.mkdir()
    with pytest.raises(AccessError):
        leaks(tmp_path)
    held.rmdir()
