"""The latest lines of a log file."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from tbot_core.status.log_lines import MOST_BYTES, LogPage, log_page
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
    assert [one.event for one in log_page(file).lines] == ["third", "second", "first"]
    assert [one.event for one in log_page(file, "warning").lines] == ["third", "second"]
    assert [one.event for one in log_page(file, most=1).lines] == ["third"]
    first = log_page(file).lines[-1]
    assert (first.level, first.at[:2]) == ("info", "20")
    assert "AAPL" in first.fields


def test_other_lines_are_shown_as_they_are(tmp_path: Path) -> None:
    """Half a line, and one that is no object."""
    file = tmp_path / "tbot.log"
    file.write_text('[1]\n{"event": "half\n')
    assert [(one.event, one.level) for one in log_page(file).lines] == [('{"event": "half', "")]
    assert log_page(tmp_path / "none") == LogPage()


def test_a_secret_that_is_known_now_is_not_shown(tmp_path: Path) -> None:
    """Also where an older line has it."""
    kept = Secret("a-long-secret-of-a-test")
    file = tmp_path / "tbot.log"
    file.write_text('{"event": "a-long-secret-of-a-test", "key": "a-long-secret-of-a-test"}\n')
    assert redaction.redact(kept.inspect()) != kept.inspect()
    (line,) = log_page(file).lines
    assert kept.inspect() not in f"{line.event} {line.fields}"


@pytest.mark.parametrize("form", ["json", "csv"])
def test_pages_have_each_line_once(tmp_path: Path, form: log.Format) -> None:
    """From the newest to the oldest, also of a level; what is written meanwhile changes no page before."""
    log.configure("verbose", form, tmp_path / "logs", screen=False)
    ours = log.logger("tests")
    for number in range(25):
        (ours.error if number % 5 == 0 else ours.info)(f"line {number}")
    file = tmp_path / "logs" / log.FILE_NAME
    for level, numbers in (("info", range(25)), ("error", range(0, 25, 5))):
        seen, page = list[str](), log_page(file, level, most=3)
        while True:
            seen += [one.event for one in page.lines]
            if page.older is None:
                break
            ours.error("a later one")
            page = log_page(file, level, page.older, most=3)
        assert seen[-len(numbers) :] == [f"line {number}" for number in reversed(numbers)]
    log.close()


@pytest.mark.slow
def test_a_search_for_rare_lines_goes_on_page_by_page(tmp_path: Path) -> None:
    """A page that found nothing in its part of the file leads on."""
    file = tmp_path / "tbot.log"
    calm = '{"level": "info", "event": "calm"}\n'
    file.write_text('{"level": "error", "event": "the first"}\n' + calm * (5 * MOST_BYTES // 2 // len(calm)))
    page, pages = log_page(file, "error"), 1
    while not page.lines:
        assert page.older is not None
        page, pages = log_page(file, "error", page.older), pages + 1
    assert ([one.event for one in page.lines], page.older, pages) == (["the first"], None, 3)
