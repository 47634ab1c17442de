"""Hidden input, folders in memory, variables set aside, and output that is closed, full or without a reader."""

from __future__ import annotations

import getpass
import io
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TextIO

import pytest

from tbot_core.errors import AccessError
from tbot_core.system import editor, environ, terminal
from tbot_core.system.secret import Secret
from tbot_core.system.terminal import GuardedStream, guarded_streams

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Keyboard(io.StringIO):
    """A person at a terminal."""

    def isatty(self) -> bool:
        """It is one."""
        return True


def test_what_is_new_is_typed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person is asked again, and refused where the two differ; a script gives one line."""
    asked: list[str] = []
    answers = iter(["one phrase", "one phrase", "one phrase", "another", "one phrase"])

    def typed(words: str) -> str:
        asked.append(words)
        return next(answers)

    monkeypatch.setattr(getpass, "getpass", typed)
    monkeypatch.setattr(sys, "stdin", Keyboard())
    assert terminal.read_hidden("Passphrase", twice=True) == "one phrase"
    with pytest.raises(AccessError, match="Passphrase: the two inputs differ"):
        terminal.read_hidden("Passphrase", twice=True)
    assert terminal.read_hidden("Passphrase") == "one phrase"
    assert asked == ["Passphrase: ", "Passphrase again: "] * 2 + ["Passphrase: "]
    monkeypatch.setattr(sys, "stdin", io.StringIO("one line\nnot read\n"))
    assert terminal.read_hidden("Passphrase", twice=True) == "one line"
    assert sys.stdin.read() == "not read\n"


def test_a_folder_in_memory_is_overwritten_and_removed() -> None:
    """It is its owner's alone, and what was in it reads as zeros to each process that still holds it open."""
    with editor.in_memory() as folder:
        assert folder.parent == editor.MEMORY
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "keys").mkdir()
        (folder / "keys" / "one").write_bytes(b"secret")
        (folder / "link").symlink_to("/etc/hostname")
        held = (folder / "keys" / "one").open("rb")
    with held:
        assert held.read() == bytes(6)
    assert not folder.exists()


def test_variables_are_set_aside_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset inside, as they were afterwards, also after a failure; another thread reads them meanwhile."""
    monkeypatch.setenv("TBOT_ODD", "1")
    monkeypatch.delenv("TBOT_EVEN", raising=False)
    with environ.without_variables("TBOT_ODD", "TBOT_EVEN"):
        assert environ.variable("TBOT_ODD") is None
        assert "TBOT_ODD" not in environ.own_environment()
        with ThreadPoolExecutor() as threads:
            assert threads.submit(environ.variable, "TBOT_ODD").result() == "1"
    assert environ.variable("TBOT_ODD") == "1"
    with pytest.raises(KeyError), environ.without_variables("TBOT_ODD"):
        raise KeyError
    assert environ.variable("TBOT_ODD") == "1"
    assert environ.variable("TBOT_EVEN") is None


def test_a_disk_is_no_memory(tmp_path: Path) -> None:
    """A folder elsewhere is refused before anything is made in it."""
    with pytest.raises(AccessError, match="not a file system in memory"), editor.in_memory(folder=tmp_path):
        pytest.fail("a folder was given")
    assert not list(tmp_path.iterdir())


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


def test_output_without_a_reader_is_written_nowhere(abandoned: TextIO) -> None:
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


def test_what_is_written_is_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `print` of a value that was handed out shows none of it; a process without secrets loads no redaction."""
    key = Secret("key-0123456789").reveal()
    reader, writer = os.pipe()
    guard = GuardedStream(opened(writer), "standard error")
    print("login failed with key", key, file=guard)
    guard.flush()
    assert os.read(reader, 99) == b"login failed with key [redacted]\n"
    monkeypatch.delitem(sys.modules, "tbot_core.system.secret")
    assert guard.write("word\n") == 5
    guard.close()
    assert os.read(reader, 99) == b"word\n"
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
