"""The message for an unexpected error."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from tbot_core.errors import TbotError
from tbot_core.system import environ

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

_CAUSE = "unexpected error; this is a bug in tbot or in a plugin."
_HINT = "Run the command again with TBOT_DEBUG=1 in the environment to see the traceback."
_OFF = frozenset({"false", "no", "off", "0"})


class CrashReporter:
    """The exception hook of the process: prints one sentence and where the traceback is; the process exits with 1.

    `home` is the instance's folder once a command has read `--home`, `texts` its settings once a run has read them. The
    traceback goes to the log of the instance, or to the screen with BUILD_MODE=debug in the settings or TBOT_DEBUG=1 in
    the environment; both are redacted.
    """

    def __init__(self) -> None:
        self.home: Path | None = None
        self.texts: Mapping[str, str] | None = None

    def report(self, kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> None:
        """Print the message, and raise nothing; the signature is that of `sys.excepthook`.

        If the settings or the log cannot be opened, the message says how to see the traceback.
        """
        from tbot_core.system.foreign_exceptions import exception_text, exception_trace, type_name
        from tbot_core.system.redaction import redact

        with suppress(OSError):  # standard error may be closed
            sentence = f"tbot: {type_name(fault)}: {exception_text(fault)}: {_CAUSE}"
            click.echo(redact(sentence), err=True)
            texts = self._settings()
            if environ.variable("TBOT_DEBUG") == "1" or texts.get("BUILD_MODE", "").strip().lower() == "debug":
                click.echo(redact(exception_trace(fault)), err=True)
            else:
                click.echo(redact(f"      {self._log_traceback((kind, fault, trace), texts)}"), err=True)

    def flush_to_log(self) -> None:
        """Write lines that were logged before the log of the instance was open, as by a command that ended early."""
        if self.home is None or "tbot_core.system.log_output" not in sys.modules:
            return  # a log that was never loaded holds no lines
        from tbot_core.system import log

        if not log.holds():
            return
        try:
            self._open_log(self._settings())
        except Exception:  # noqa: BLE001  -- the command has printed its own message
            return
        log.close()

    def _settings(self) -> Mapping[str, str]:
        if self.texts is not None:
            return self.texts
        if self.home is None:
            return {}
        from tbot_core.instance.enabled_plugins import raw_settings

        try:
            return raw_settings(self.home)
        except Exception:  # noqa: BLE001  -- the file that ended the command may fail again
            return {}

    def _log_traceback(
        self, failure: tuple[type[BaseException], BaseException, TracebackType | None], texts: Mapping[str, str]
    ) -> str:
        # Write the traceback to the instance's log; returns where it is, or without a log how to see it.
        from tbot_core.system import log

        try:
            folder = self._open_log(texts)
            if folder is None:
                return _HINT
            log.logger(__name__).error("command.failed", exc_info=failure)
            log.close()
        except TbotError as fault:
            return f"{fault.message} {_HINT}"
        except Exception:  # noqa: BLE001  -- the last hook raises nothing
            return _HINT
        return f"The traceback is in {folder / log.FILE_NAME}."

    def _open_log(self, texts: Mapping[str, str]) -> Path | None:
        # Open the instance's log, without output on the screen, and return its folder; None without a log.
        if self.home is None or not texts or texts.get("ENABLE_LOGGING", "").strip().lower() in _OFF:
            return None
        from tbot_core.instance.folder import Instance
        from tbot_core.system import log

        form: log.Format = "csv" if texts.get("LOG_FORMAT", "").strip().lower() == "csv" else "json"
        folder = Instance.at(self.home).logs
        log.configure("info", form, folder, screen=False)
        return folder
