"""The log gate: levels, formats, files, rotation, and no way around the redaction."""

from __future__ import annotations

import csv
import json
import logging
import stat
import sys
import warnings
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.errors import AccessError
from tbot_core.system import environ, log, log_output, processes
from tbot_core.system.secret import SHOWN, Secret
from tbot_core.testing.canaries import canary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CANARY = canary("log")


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    log_output._pop_held()  # what other tests left waiting for a gate
    yield
    log.close()


def lines(folder: Path) -> list[dict[str, Any]]:
    """The parsed lines of the log file."""
    return [json.loads(line) for line in (folder / "tbot.log").read_text().splitlines()]


def test_an_event_is_one_json_line_on_screen_and_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both hold time, level, logger, event and the fields, plain values as they are."""
    log.configure("info", "json", tmp_path / "logs")
    log.logger("tbot_core.engine").info(
        "order.submitted", quantity=3, price=Decimal("1.50"), legs=[{"a": None}], ok=True
    )
    (line,) = lines(tmp_path / "logs")
    assert json.loads(capsys.readouterr().err) == line
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info", "logger": "tbot_core.engine", "event": "order.submitted",
        "quantity": 3, "price": "1.50", "legs": [{"a": None}], "ok": True,
    }  # fmt: skip
    assert stat.S_IMODE((tmp_path / "logs" / "tbot.log").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("level", "passed"),
    [("quiet", ["warning", "error"]), ("info", ["info", "warning", "error"]), ("verbose", None)],
)
def test_the_level_decides_what_passes(tmp_path: Path, level: log.Level, passed: list[str] | None) -> None:
    """Quiet lets warnings through, info also what a person wants to know, verbose everything."""
    log.configure(level, "json", tmp_path)
    logger = log.logger("tbot_core.level")
    for name in ("debug", "info", "warning", "error"):
        getattr(logger, name)("said")
    assert [line["level"] for line in lines(tmp_path)] == (passed or ["debug", "info", "warning", "error"])


def test_csv_lines_carry_a_header_and_five_cells(tmp_path: Path) -> None:
    """A csv file names its columns once; fields stand as JSON in the last."""
    log.configure("info", "csv", tmp_path)
    log.logger("a").info('said "so", twice', symbol="SPY")
    log.logger("a").warning("bare")
    log.configure("info", "csv", tmp_path)
    log.logger("a").info("again")
    with (tmp_path / "tbot.log").open(newline="") as file:
        header, first, second, third = csv.reader(file)
    assert header == ["timestamp", "level", "logger", "event", "fields"]
    assert first[1:] == ["info", "a", 'said "so", twice', '{"symbol": "SPY"}']
    assert second[1:] == ["warning", "a", "bare", ""]
    assert third[3] == "again"


def test_no_folder_means_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a folder the lines go to standard error alone."""
    log.configure("info", "json", None)
    log.logger("a").info("said")
    assert "said" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def _raise() -> None:
    fault = ValueError(f"bad {CANARY}")
    fault.add_note(f"note {CANARY}")
    raise KeyError(CANARY) from fault


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_secret_leaves_by_no_door(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: log.Format) -> None:
    """Message, fields, keys, bytes, nested values, numbers, exceptions, foreign records and warnings are redacted."""
    secrets = [Secret(CANARY), Secret("73917391")]
    log.configure("verbose", form, tmp_path)
    logger = log.logger("a")
    fields: dict[str, Any] = {"a": {CANARY: [CANARY, secrets[0]]}, "b": CANARY.encode(), "c": 73917391, CANARY: 1.5}
    event = f"event {CANARY}"
    logger.info(event, **fields)
    try:
        _raise()
    except KeyError:
        logger.exception("failed")
        logging.getLogger("vendor").exception("failed %s", CANARY)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"odd {CANARY}", stacklevel=1)
    text = capsys.readouterr().err
    assert (tmp_path / "tbot.log").read_text().endswith(text)
    assert CANARY not in text
    assert "73917391" not in text
    assert text.count("Traceback") == 2
    assert "UserWarning" in text
    if form == "json":
        assert lines(tmp_path)[0]["a"] == {SHOWN: [SHOWN, SHOWN]}


def test_a_full_file_moves_into_the_backups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotation takes the old file to the backups folder and goes on in a new one."""
    monkeypatch.setattr(log_output, "FILE_BYTES", 300)
    log.configure("info", "json", tmp_path / "logs")
    for number in range(3):
        log.logger("a").info("said", number=number, filler="x" * 100)
    assert [path.name for path in sorted((tmp_path / "backups").iterdir())] == ["tbot.log.1", "tbot.log.2"]
    assert [line["number"] for line in lines(tmp_path / "logs")] == [2]


def test_a_file_that_somebody_removed_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotation goes on when the file it would move is gone."""
    monkeypatch.setattr(log_output, "FILE_BYTES", 300)
    log.configure("info", "json", tmp_path)
    log.logger("a").info("first", filler="x" * 150)
    (tmp_path / "tbot.log").unlink()
    log.logger("a").info("second", filler="x" * 150)
    assert [line["event"] for line in lines(tmp_path)] == ["second"]


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """A file where the log folder should be is an AccessError, and so is a folder where the log file should be."""
    (tmp_path / "logs").write_text("")
    with pytest.raises(AccessError):
        log.configure("info", "json", tmp_path / "logs")
    (tmp_path / "more" / "tbot.log").mkdir(parents=True)
    with pytest.raises(AccessError, match="Cannot open the log file"):
        log.configure("info", "json", tmp_path / "more")


def test_the_screen_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With `screen` false a line goes to the file alone."""
    log.configure("info", "json", tmp_path, screen=False)
    log.logger("a").info("said")
    assert [line["event"] for line in lines(tmp_path)] == ["said"]
    assert capsys.readouterr().err == ""


class _Unshowable:
    def __str__(self) -> str:
        raise RuntimeError(CANARY)


def test_a_line_that_cannot_be_written_is_said_without_its_content(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failing line is counted on standard error by its logger and the failure's name, nothing more."""
    log.configure("info", "json", tmp_path)
    log.logger("a").info("said", value=_Unshowable())
    assert capsys.readouterr().err == "tbot: a log line of a could not be written: RuntimeError\n" * 2


@pytest.mark.parametrize("form", ["json", "csv"])
def test_half_of_a_surrogate_pair_costs_no_line(tmp_path: Path, form: log.Format) -> None:
    """A text that cannot be encoded, as a request may bring it, is escaped in the file."""
    log.configure("info", form, tmp_path, screen=False)
    log.logger("tests").warning("request.odd", path="a\udcffb")
    (file,) = tmp_path.glob("*.log")
    assert "udcff" in file.read_text("utf-8")


def test_a_traceback_is_that_of_the_exception_at_hand(tmp_path: Path) -> None:
    """Without one there is none, also where the call asks for it."""
    log.configure("info", "json", tmp_path)
    log.logger("gate").error("without", exc_info=True)
    try:
        float("no")
    except ValueError as fault:
        log.logger("gate").error("at hand", exc_info=True)
        log.logger("gate").error("given", exc_info=fault)
    without, *others = lines(tmp_path)
    assert "exception" not in without
    assert [one["exception"].splitlines()[-1] for one in others] == [
        "ValueError: could not convert string to float: 'no'"
    ] * 2


def test_a_logger_costs_nothing_until_it_is_used() -> None:
    """Making a logger, as modules do at import, loads neither structlog nor the standard library's logging."""
    code = "import sys; from tbot_core.system import log; log.logger('a'); print(sorted(sys.modules))"
    made = processes.run_program([sys.executable, "-c", code], timeout_s=30, environment=environ.minimal_environment())
    assert made.code == 0
    assert "'structlog'" not in made.output
    assert "'logging'" not in made.output


def test_a_library_is_logged_only_when_it_warns(tmp_path: Path) -> None:
    """At the loudest level a library's debug and info lines stay out, its warnings come through."""
    log.configure("verbose", "json", tmp_path / "logs", screen=False)
    for level in (logging.DEBUG, logging.INFO, logging.WARNING):
        logging.getLogger("filelock").log(level, "lock %s", level)
    assert [line["event"] for line in lines(tmp_path / "logs")] == [f"lock {logging.WARNING}"]


def test_nothing_is_shown_before_the_gate_opens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was said before waits, redacted, and goes to the file alone; of a gate without one nothing is left."""
    secret = Secret(CANARY)
    log.logger("a").error("early", traceback=f"Traceback {CANARY}")
    logging.getLogger("vendor").warning("odd %s", CANARY)
    log.logger("a").info("too quiet")
    assert log.holds()
    del secret
    log.configure("info", "json", tmp_path)
    assert not log.holds()
    assert [line["event"] for line in lines(tmp_path)] == ["early", f"odd {SHOWN}"]
    assert CANARY not in (tmp_path / "tbot.log").read_text()
    assert capsys.readouterr().err == ""
