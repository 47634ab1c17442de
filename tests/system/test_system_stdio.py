"""Streams whose readers go away, or that cannot be written: a real pipe, a real terminal, a full device."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

import pytest

from tbot_core.errors import AccessError
from tbot_core.system.stdio import GuardedStream, guarded_streams

if TYPE_CHECKING:
    from collections.abc import Iterator


def opened(number: int) -> TextIO:
    """A stream that writes to this number."""
    return os.fdopen(number, "w", encoding="utf-8")


@pytest.fixture(params=["pipe", "terminal"])
def abandoned(request: pytest.FixtureRequest) -> Iterator[TextIO]:
    """A stream whose reader has gone."""
    reader, writer = os.pipe() if request.param == "pipe" else os.openpty()
    stream = opened(writer)
    guard = GuardedStream(stream, "standard output")
    os.close(reader)
    yield guard  # type: ignore[misc]  # it stands for the stream
    stream.close()


def test_what_nobody_reads_any_more_is_written_nowhere(abandoned: TextIO) -> None:
    """The first and every further word is taken, none raises, and the stream can be closed."""
    for word in ("one\n", "two\n"):
        assert abandoned.write(word) == 4
        abandoned.flush()


def test_what_is_read_arrives() -> None:
    """A guarded stream is the stream itself: its words, its number and its encoding."""
    reader, writer = os.pipe()
    guard = GuardedStream(opened(writer), "standard output")
    guard.write("word\n")
    guard.flush()
    assert os.read(reader, 99) == b"word\n"
    assert (guard.fileno(), guard.encoding) == (writer, "utf-8")
    guard.close()
    os.close(reader)


def test_what_the_encoding_has_no_bytes_for_is_spelled_out() -> None:
    """Half a pair, as a path or a JSON text may hold it, ends no command; what stands around it is written as it is."""
    reader, writer = os.pipe()
    guard = GuardedStream(opened(writer), "standard output")
    assert guard.write("é \ud800\n") == 4
    guard.flush()
    assert os.read(reader, 99) == "é \\ud800\n".encode()
    guard.close()
    os.close(reader)


def test_a_full_device_is_a_sentence() -> None:
    """What cannot be written is said with the system's reason, each time; the stream itself can be closed in quiet."""
    stream = opened(os.open("/dev/full", os.O_WRONLY))
    guard = GuardedStream(stream, "standard output")
    guard.write("word\n")
    for deed in (guard.flush, guard.flush, lambda: guard.write("")):
        with pytest.raises(AccessError, match="Cannot write to standard output: No space left on device"):
            deed()
    stream.close()


def test_both_streams_are_guarded_inside_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are guarded inside and themselves again afterwards; a closed standard error is left alone."""
    before = sys.stdout, sys.stderr
    with guarded_streams():
        assert [type(one) for one in (sys.stdout, sys.stderr)] == [GuardedStream, GuardedStream]
    assert (sys.stdout, sys.stderr) == before
    monkeypatch.setattr(sys, "stderr", None)
    with guarded_streams():
        assert sys.stderr is None


def test_a_closed_output_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing begins whose words would end up in whatever file is opened first."""
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(AccessError, match="Standard output is closed"), guarded_streams():
        pytest.fail("it began")
