"""What a person sees of a failure that nobody foresaw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tbot_core.seams import environ

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    Failure = tuple[type[BaseException], BaseException, TracebackType | None]


class Unforeseen:
    """The last hook of the process: one sentence and where the traceback lies; the process then exits with 1.

    `home` is the instance's folder once `--home` has been read.
    """

    def __init__(self) -> None:
        self.home: Path | None = None

    def report(self, kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> None:
        """Write the sentence, and the redacted traceback: to the screen when it is asked for, else to the log."""
        if issubclass(kind, KeyboardInterrupt):
            click.echo("tbot: Stopped.", err=True)
            return
        from tbot_core.seams.redaction import redact

        sentence = redact(f"tbot: An unforeseen failure, a fault of tbot or of a plugin: {kind.__name__}: {fault}")
        click.echo(sentence, err=True)
        if self._debugging():
            import traceback

            click.echo(redact("".join(traceback.format_exception(kind, fault, trace))), err=True)
        else:
            click.echo(f"      {self._pointer((kind, fault, trace))}", err=True)

    def _debugging(self) -> bool:
        return environ.variable("TBOT_DEBUG") == "1"

    def _pointer(self, failure: Failure) -> str:
        return "Run the command again with TBOT_DEBUG=1 in the environment to see the traceback."
