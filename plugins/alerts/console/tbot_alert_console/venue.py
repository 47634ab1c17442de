"""A log that is read, to test the channel with."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

from tbot_alert_console import Console

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator


@attrs.frozen
class RecordedLog:
    """A log that keeps its lines: level, event and fields."""

    lines: list[tuple[str, str, dict[str, Any]]] = attrs.field(factory=list)

    def debug(self, event: str, **fields: Any) -> None:
        """Keep it."""
        self.lines.append(("debug", event, fields))

    def info(self, event: str, **fields: Any) -> None:
        """Keep it."""
        self.lines.append(("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        """Keep it."""
        self.lines.append(("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        """Keep it."""
        self.lines.append(("error", event, fields))


@attrs.frozen
class LogReader:
    """The channel and the log that it writes."""

    log: RecordedLog
    channel: Console

    def arrived(self) -> list[str]:
        """The texts of the lines."""
        return [str(fields["text"]) for _, _, fields in self.log.lines]

    def fail(self) -> bool:
        """A log cannot be unreachable."""
        return False

    def wait(self, call: Coroutine[Any, Any, None]) -> None:
        """Await a call."""
        asyncio.run(call)


@contextmanager
def open_venue() -> Iterator[LogReader]:
    """The channel as the core makes it, before an empty log."""
    log = RecordedLog()
    yield LogReader(log, Console(log))
