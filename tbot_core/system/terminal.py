"""The terminal, hidden input, and standard streams that survive the loss of their reader and show no secret."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from tbot_core.errors import AccessError

if TYPE_CHECKING:
    from collections.abc import Iterator

_REMEDY: Final = "Free some space there, or redirect the output."


def read_hidden(words: str, *, twice: bool = False) -> str:
    """Read hidden input from the terminal, or the first line of standard input when that is no terminal.

    `twice` asks a person for it again. Raises AccessError for empty input, and when the two differ.
    """
    import getpass

    seen = sys.stdin.isatty()
    text = getpass.getpass(f"{words}: ") if seen else sys.stdin.readline().removesuffix("\n")
    if not text:
        raise AccessError(f"{words}: the input was empty.", "Type it, or pipe it to standard input.")
    if twice and seen and getpass.getpass(f"{words} again: ") != text:
        raise AccessError(f"{words}: the two inputs differ.", "Type it again.")
    return text


def is_interactive() -> bool:
    """Whether a person can be asked: standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def is_dumb() -> bool:
    """Whether the terminal supports neither cursor movement nor styles."""
    return os.environ.get("TERM", "").lower() in {"dumb", "unknown"}


def columns() -> int | None:
    """The number of columns of standard output; None when it is no terminal and lines may have any length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def allows_style() -> bool:
    """Whether bold and colours may be used; NO_COLOR in the environment forbids them."""
    return not (is_dumb() or os.environ.get("NO_COLOR"))


class GuardedStream:
    """A text stream of the process: what is written is redacted, and discarded after its reader has gone.

    A plugin's `print` passes it too; a value written in several pieces is not recognised. The reader has gone when a
    pipe was closed, as by `head`, or a terminal has hung up. Any other failure raises AccessError, also on later calls.
    Characters outside the encoding are escaped.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._gone = {errno.EPIPE, errno.EIO} if stream.isatty() else {errno.EPIPE}
        self._fault: AccessError | None = None

    def write(self, text: str) -> int:
        """Write text; returns its length, written or not."""
        shown = _redacted(text)
        with self._guarded():
            try:
                self._stream.write(shown)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                self._stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Flush the buffer."""
        with self._guarded():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as fault:
            _divert(self._stream)
            if fault.errno not in self._gone:
                reason = fault.strerror or type(fault).__name__
                self._fault = AccessError(f"Cannot write to {self._name}: {reason}.", _REMEDY)
        if self._fault is not None:  # every time, since a caller may swallow the first one
            raise self._fault


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Guard both streams in the context. Raises AccessError when standard output is closed from the start.

    Otherwise the first opened file would get its descriptor, and the output.
    """
    if sys.stdout is None:
        raise AccessError("Standard output is closed.", "Redirect it to a file, or to /dev/null.")
    before = sys.stdout, sys.stderr
    sys.stdout = cast("TextIO", GuardedStream(sys.stdout, "standard output"))
    if sys.stderr is not None:
        sys.stderr = cast("TextIO", GuardedStream(sys.stderr, "standard error"))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _redacted(text: str) -> str:
    # A short command that never loaded the module of secrets has none to hide, and starts without it.
    if "tbot_core.system.secret" not in sys.modules:
        return text
    from tbot_core.system.redaction import redact

    return redact(text)


def _divert(stream: TextIO) -> None:
    # Buffered and later output goes to the null device; Python flushes the stream at exit.
    handle = os.open(os.devnull, os.O_WRONLY)
    os.dup2(handle, stream.fileno())
    os.close(handle)
