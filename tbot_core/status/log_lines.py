"""The lines of a log file from its end, in pages, as they were written: redacted."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.model import json_document
from tbot_core.system import filesystem, large_files
from tbot_core.system.large_files import lines_back
from tbot_core.system.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MOST_LINES: Final = 200
"""Lines of a page."""

MOST_BYTES: Final = 1_048_576
"""How much of the file is searched for a page."""

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_COLUMNS: Final = ("timestamp", "level", "logger", "event")
_CSV_HEADER: Final = "timestamp,"
_LONGEST_HEADER: Final = 4096


@attrs.frozen(kw_only=True)
class LogLine:
    """A line: its time and level as text, the event, and its other fields as text."""

    at: str
    level: str
    event: str
    fields: str


@attrs.frozen(kw_only=True)
class LogPage:
    """Lines of a log, the newest first; `older` is where the page of those before ends, None where there are none."""

    lines: tuple[LogLine, ...] = ()
    older: int | None = None


def log_page(path: Path, level: str = "debug", before: int | None = None, most: int = _MOST_LINES) -> LogPage:
    """The latest lines of at least this level, or the latest before a place; none where there is no file.

    It reads no more than MOST_BYTES, whatever the size of the file: a page may have fewer lines, or none. Raises
    AccessError.
    """
    if not filesystem.exists(path):
        return LogPage()
    least, found, ended = LEVELS.index(level), list[LogLine](), None
    header = _header(path)
    with closing(lines_back(path, before)) as lines:
        for start, raw in lines:
            ended = start + len(raw) if ended is None else ended
            line = _line(raw.decode("utf-8", "replace").strip(), header)
            if line is not None and (line.level not in LEVELS or LEVELS.index(line.level) >= least):
                found.append(line)
            if len(found) == most or ended - start >= MOST_BYTES:
                return LogPage(lines=tuple(found), older=start or None)
    return LogPage(lines=tuple(found))


def _header(path: Path) -> list[str]:
    # The names of the columns of a CSV file; none of one of JSON lines.
    first = large_files.read_start(path, _LONGEST_HEADER).decode("utf-8", "replace").partition("\n")[0]
    return next(csv.reader([first])) if first.startswith(_CSV_HEADER) else []


def _line(text: str, header: list[str]) -> LogLine | None:
    try:
        found = dict(zip(header, next(csv.reader([text])), strict=False)) if header else json_document.parse_json(text)
    except (json_document.InvalidJson, csv.Error, StopIteration):
        found = {"event": text}  # of another format, or half written
    if not isinstance(found, dict) or (header and found.get("timestamp") == "timestamp"):
        return None
    return LogLine(
        at=str(found.get("timestamp", "")),
        level=str(found.get("level", "")),
        event=redact(str(found.get("event", ""))),
        fields=redact(" ".join(_fields(found))),
    )


def _fields(found: dict[str, Any]) -> Iterator[str]:
    for name, value in found.items():
        if name not in _COLUMNS and value not in ("", None):
            yield f"{name}={value if isinstance(value, str) else json.dumps(value)}"
