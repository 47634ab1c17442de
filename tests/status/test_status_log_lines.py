"""The latest lines of a log file."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from tbot_core.status.log_lines import latest_log_lines
from tbot_core.system import log, redaction
from tbot_core.system.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    # Lines that earlier cases left go nowhere, nor do warnings of what they left to the collector.
    gc.collect()
    log.configure("quiet", "json", None, screen=False)
    log.close()
    yield
    log.close()


@pytest.mark.parametrize("form", ["json", "csv"])
def test_the_latest_lines_come_first(tmp_path: Path, form: log.Format) -> None:
    """From files of both formats, with the fields, of at least the level, and no more than asked for."""
    log.configure("verbose", form, tmp_path / "logs", screen=False)
    ours = log.logger("tests")
    ours.info("first", symbol="AAPL")
    ours.warning("second", count=2)
    ours.error("third")
    log.close()
    file = tmp_path / "logs" / log.FILE_NAME
    assert [one.event for one in latest_log_lines(file)] == ["third", "second", "first"]
    assert [one.event for one in latest_log_lines(file, "warning")] == ["third", "second"]
    assert [one.event for one in latest_log_lines(file, most=1)] == ["third"]
    first = latest_log_lines(file)[-1]
    assert (first.level, first.at[:2]) == ("info", "20")
    assert "AAPL" in first.fields


def test_other_lines_are_shown_as_they_are(tmp_path: Path) -> None:
    """Half a line, and one that is no object."""
    file = tmp_path / "tbot.log"
    file.write_text('[1]\n{"event": "half\n')
    assert [(one.event, one.level) for one in latest_log_lines(file)] == [('{"event": "half', "")]
    assert latest_log_lines(tmp_path / "none") == ()


def test_a_secret_that_is_known_now_is_not_shown(tmp_path: Path) -> None:
    """Also where an older line has it."""
    kept = Secret("a-long-secret-of-a-test")
    file = tmp_path / "tbot.log"
    file.write_text('{"event": "a-long-secret-of-a-test", "key": "a-long-secret-of-a-test"}\n')
    assert redaction.redact(kept.inspect()) != kept.inspect()
    (line,) = latest_log_lines(file)
    assert kept.inspect() not in f"{line.event} {line.fields}"
