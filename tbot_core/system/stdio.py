"""Standard output and standard error, made to outlive whoever reads them."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from tbot_core.errors import AccessError

if TYPE_CHECKING:
    from collections.abc import Iterator

_REMEDY: Final = "Free some space there, or redirect the output."


class GuardedStream:
    """A text stream of the process; what is written after its reader has gone goes nowhere, and the work goes on.

    A pipe that was closed, as `head` does, and a terminal that has hung up are readers that have gone. Whatever else
    keeps it from being written raises AccessError, from then on. What its encoding has no bytes for is spelled out.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._gone = {errno.EPIPE, errno.EIO} if stream.isatty() else {errno.EPIPE}
        self._fault: AccessError | None = None

    def write(self, text: str) -> int:
        """Write text; returns its length, written or not."""
        with self._outlived():
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Hand over what is held."""
        with self._outlived():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _outlived(self) -> Iterator[None]:
        try:
            yield
        except OSError as fault:
            _divert(self._stream)
            if fault.errno not in self._gone:
                reason = fault.strerror or type(fault).__name__
                self._fault = AccessError(f"Cannot write to {self._name}: {reason}.", _REMEDY)
        if self._fault is not None:  # each time: whoever tries the stream out swallows the first
            raise self._fault


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Inside, both streams are guarded. Raises AccessError where standard output is closed from the start.

    Its number would go to the first file that is opened, and what is meant for a person into that.
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


def _divert(stream: TextIO) -> None:
    # What the stream still holds, and what is yet to come, goes where nothing fails; Python flushes it at the end.
    handle = os.open(os.devnull, os.O_WRONLY)
    os.dup2(handle, stream.fileno())
    os.close(handle)
