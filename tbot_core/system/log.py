"""The loggers of modules, and the only output of log lines (`log_output`), which is imported when it is needed.

A short command logs nothing, and the standard library's logging would take a twentieth of its time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tbot_core.system.log_output import (
        FILE_BYTES,
        FILE_NAME,
        FILES_KEPT,
        Format,
        Level,
        close,
        configure,
        hold,
        holds,
        lost,
    )

__all__ = [
    "FILES_KEPT",
    "FILE_BYTES",
    "FILE_NAME",
    "Format",
    "Level",
    "Logger",
    "close",
    "configure",
    "hold",
    "holds",
    "logger",
    "lost",
]


class Logger:
    """A module's logger: an event name, then fields. Nothing is imported or opened until a line is written."""

    __slots__ = ("_bound", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._bound: Any = None

    def debug(self, event: str, **fields: object) -> None:
        """Log details for debugging."""
        self._structlog().debug(event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """Log what an operator wants to know today."""
        self._structlog().info(event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log a problem that was handled."""
        self._structlog().warning(event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """Log a problem that was not handled."""
        self._structlog().error(event, **fields)

    def exception(self, event: str, **fields: object) -> None:
        """Log an error with the traceback of the current exception."""
        self._structlog().exception(event, **fields)

    def _structlog(self) -> Any:
        from tbot_core.system import log_output

        log_output.hold()
        if self._bound is None:
            self._bound = log_output.bind(self._name)
        return self._bound


def logger(name: str) -> Logger:
    """Return the logger of a module; cheap, so it can be created at import."""
    return Logger(name)


def __getattr__(name: str) -> Any:
    """A public name of the output, imported when it is asked for."""
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module("tbot_core.system.log_output"), name)
