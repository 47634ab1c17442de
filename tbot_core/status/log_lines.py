"""The latest lines of a log file, as they were written: redacted."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.model import json_document
from tbot_core.system import filesystem
from tbot_core.system.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_COLUMNS: Final = ("timestamp", "level", "logger", "event")
_CSV_HEADER: Final = "timestamp,"


@attrs.frozen(kw_only=True)
class LogLine:
    """A line: its time and level as text, the event, and its other fields as text."""

    at: str
    level: str
    event: str
    fields: str


def latest_log_lines(path: Path, level: str = "debug", most: int = 200) -> tuple[LogLine, ...]:
    """The latest lines of at least this level, the newest first; none where there is no file. Raises AccessError."""
    if not filesystem.exists(path):
        return ()
    texts = filesystem.read_bytes(path).decode("utf-8", "replace").splitlines()
    least = LEVELS.index(level)
    header = next(csv.reader(texts[:1]), []) if texts and texts[0].startswith(_CSV_HEADER) else []
    found = []
    for text in reversed(texts):
        line = _line(text, header)
        if line is not None and (line.level not in LEVELS or LEVELS.index(line.level) >= least):
            found.append(line)
        if len(found) == most:
            break
    return tuple(found)


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
