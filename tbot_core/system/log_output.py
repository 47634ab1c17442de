"""The output of log lines: levels, JSON or CSV, rotated files, and redaction. Imported with the first line."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import shutil
import sys
from collections import deque
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final, Literal

from tbot_core.system import filesystem
from tbot_core.system.foreign_exceptions import exception_trace
from tbot_core.system.redaction import redact

Level = Literal["quiet", "info", "verbose"]
Format = Literal["json", "csv"]

FILE_NAME: Final = "tbot.log"
FILE_BYTES: Final = 10_000_000
"""A log file of this size is moved into the backups folder, and a new one is started."""
FILES_KEPT: Final = 10

_HELD: Final = 200
_LEVELS: Final[Mapping[Level, int]] = {"quiet": logging.WARNING, "info": logging.INFO, "verbose": logging.DEBUG}
_COLUMNS: Final = ("timestamp", "level", "logger", "event")


def configure(
    level: Level,
    format: Format,  # noqa: A002  -- the name of the setting
    folder: Path | None,
    *,
    backups: Path | None = None,
    screen: bool = True,
) -> None:
    """Start logging: to standard error unless `screen` is false, and to `folder`/tbot.log unless that is None.

    A full file is moved into `backups` (default: the folder `backups` beside `folder`). A repeated call closes the
    previous handlers. Held lines go to the file only. Python's warnings, and other libraries' messages from WARNING
    up, are logged too. Raises AccessError when a folder or the file cannot be created.
    """
    held = _pop_held()
    close()
    handlers: list[logging.Handler] = [_Screen()] if screen else []
    if folder is not None:
        handlers.append(_file(format, folder, folder.parent / "backups" if backups is None else backups))
    lines = _Lines(format)
    root = logging.getLogger()
    for handler in handlers:
        handler.setFormatter(lines)
        handler.addFilter(_is_ours_or_warning)
        root.addHandler(handler)
    root.setLevel(_LEVELS[level])
    logging.captureWarnings(capture=True)
    for record in held:
        for handler in handlers:
            if isinstance(handler, _File):
                handler.handle(record)


def hold() -> None:
    """Hold back warnings and errors until `configure` is called; does nothing afterwards."""
    root = logging.getLogger()
    if not any(isinstance(handler, _Screen | _File | _Held) for handler in root.handlers):
        root.addHandler(_Held())


def holds() -> bool:
    """Whether lines are held back."""
    return any(isinstance(handler, _Held) and handler.records for handler in logging.getLogger().handlers)


def _pop_held() -> list[logging.LogRecord]:
    root, records = logging.getLogger(), list[logging.LogRecord]()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Held)]:
        root.removeHandler(handler)
        records += handler.records
    return records


def _is_ours_or_warning(record: logging.LogRecord) -> bool:
    # Messages of libraries below WARNING are dropped; our events are dictionaries.
    return isinstance(record.msg, dict) or record.levelno >= logging.WARNING


def lost() -> int:
    """How many lines could not be written since the process started, for example because the disk was full."""
    return _losses.count


def close() -> None:
    """Stop logging and close the file; does nothing when not configured."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Screen | _File)]:
        root.removeHandler(handler)
        with suppress(OSError):  # lines that a full disk refused are lost, and counted
            handler.close()
    logging.captureWarnings(capture=False)


class _Held(logging.Handler):
    # The newest lines before `configure`, redacted while their secrets are known.
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: deque[logging.LogRecord] = deque(maxlen=_HELD)

    def emit(self, record: logging.LogRecord) -> None:
        kept = logging.makeLogRecord(vars(record))
        ours = isinstance(record.msg, dict)
        kept.msg = _clean(None, "", record.msg) if ours else redact(record.getMessage())  # type: ignore[arg-type]  # a dict
        kept.args, kept.exc_info = None, None
        self.records.append(kept)


class _Screen(logging.StreamHandler[Any]):
    # Standard error as it is when writing.
    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  -- the standard library's name
        _lost(record)


class _File(RotatingFileHandler):
    # A private file; a CSV file begins with its column names.
    def __init__(self, path: Path, header: str) -> None:
        self._header = header
        super().__init__(path, maxBytes=FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8")

    def _open(self) -> Any:
        # What is no text, as half of a surrogate pair, is escaped: the line is not lost. The handler closes the file.
        path, escaped = self.baseFilename, "backslashreplace"
        stream = open(path, "a", encoding="utf-8", errors=escaped, opener=_private)  # noqa: SIM115
        if self._header and stream.tell() == 0:
            stream.write(self._header)
        return stream

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  -- the standard library's name
        _lost(record)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class _Losses:
    count = 0


_losses: Final = _Losses()


def _lost(record: logging.LogRecord) -> None:
    # The standard library would print the record unredacted.
    _losses.count += 1
    failure = sys.exc_info()[1]
    sys.stderr.write(f"tbot: a log line of {record.name} could not be written: {type(failure).__name__}\n")


def _file(form: Format, folder: Path, backups: Path) -> logging.Handler:
    filesystem.make_folder(folder)
    filesystem.make_folder(backups)
    with filesystem.raising_access_errors("open the log file", folder / FILE_NAME):
        handler = _File(folder / FILE_NAME, _row((*_COLUMNS, "fields")) if form == "csv" else "")
    handler.namer = lambda name: str(backups / Path(name).name)
    handler.rotator = _move
    return handler


def _move(source: str, target: str) -> None:
    # A rename fails across file systems.
    if Path(source).exists():
        shutil.move(source, target)


class _Lines(logging.Formatter):
    # The last step before output: renders the whole line, then redacts it.
    def __init__(self, form: Format) -> None:
        super().__init__()
        from structlog.stdlib import ProcessorFormatter

        render = _render_csv if form == "csv" else _render_json
        self._inner = ProcessorFormatter(
            processors=[_stamp, ProcessorFormatter.remove_processors_meta, _clean, render],
            foreign_pre_chain=_shared(),
        )

    def format(self, record: logging.LogRecord) -> str:
        return redact(self._inner.format(record))


def bind(name: str) -> Any:
    """The structlog logger of a name."""
    import structlog

    return structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _shared() -> list[Any]:
    import structlog

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _with_trace,
    ]


def _with_trace(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    # The traceback of an exception, whose own text may fail.
    given = event.pop("exc_info", None)
    if given:
        fault = (
            given if isinstance(given, BaseException) else (given if isinstance(given, tuple) else sys.exc_info())[1]
        )
        if fault is not None:
            event["exception"] = exception_trace(fault).rstrip("\n")
    return event


def _stamp(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    # The record's own time, so that every handler writes the same.
    moment = datetime.fromtimestamp(event["_record"].created, UTC)
    event["timestamp"] = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return event


def _clean(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    # Redact each value separately, so that the rendered line stays well-formed.
    return {redact(str(key)): _plain(value) for key, value in event.items()}


def _plain(value: object) -> object:
    match value:
        case None | bool():
            return value
        case int() | float():
            text = redact(repr(value))
            return value if text == repr(value) else text
        case Mapping():
            return {redact(str(key)): _plain(part) for key, part in value.items()}
        case Sequence() if not isinstance(value, str | bytes | bytearray):
            return [_plain(part) for part in value]
        case bytes() | bytearray():
            return redact(value.decode(errors="backslashreplace"))
        case _:
            return redact(str(value))


def _render_json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    front = {name: event.pop(name) for name in _COLUMNS if name in event}
    return json.dumps(front | dict(sorted(event.items())), ensure_ascii=False)


def _render_csv(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    front = [str(event.pop(name, "")) for name in _COLUMNS]
    return _row((*front, json.dumps(event, ensure_ascii=False, sort_keys=True) if event else "")).rstrip("\r\n")


def _row(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
