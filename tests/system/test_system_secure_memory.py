"""Memory for secrets, and the hardened process."""

from __future__ import annotations

import copy
import os
import pickle
import ssl
import sys
from typing import TYPE_CHECKING

import pytest

from tbot_core.system import environ, processes, random, secure_memory
from tbot_core.system.secure_memory import SecureBuffer

if TYPE_CHECKING:
    from pathlib import Path


def test_a_buffer_is_written_in_place_and_wiped() -> None:
    """It begins as zeros, holds what is written, and is nothing once wiped, at the latest at the end of its context."""
    with SecureBuffer(4) as buffer:
        assert bytes(buffer.view) == bytes(4)
        buffer.view[:] = b"abcd"
        assert (bytes(buffer.view), len(buffer), buffer.is_held) == (b"abcd", 4, True)
    assert not buffer.is_held
    buffer.wipe()
    with pytest.raises(ValueError, match="wiped"):
        _ = buffer.view


def test_a_part_that_somebody_holds_reads_as_zeros() -> None:
    """Wiping reaches each part of the view that was kept."""
    buffer = SecureBuffer.of([b"ab", bytearray(b"cd"), memoryview(b"ef")])
    part = buffer.view[1:5]
    assert bytes(part) == b"bcde"
    buffer.wipe()
    assert bytes(part) == bytes(4)


def test_an_empty_buffer_is_one() -> None:
    """Nothing can be held as well."""
    with SecureBuffer.of([]) as buffer:
        assert (bytes(buffer.view), len(buffer)) == (b"", 0)


def test_a_buffer_shows_nothing_and_is_not_carried_away() -> None:
    """Neither repr, nor pickle, nor copy."""
    buffer = SecureBuffer.of([b"hunter2"])
    assert repr(buffer) == "Buffer([redacted])"
    for carry in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be"):
            carry(buffer)


def test_a_plain_buffer_is_wiped_in_place() -> None:
    """Its length stays."""
    plain = bytearray(b"abc")
    secure_memory.wipe(plain)
    assert plain == bytes(3)


def test_entropy_has_the_length_asked_for_and_never_repeats() -> None:
    """Bytes for keys and nonces."""
    assert [len(random.entropy(size)) for size in (0, 12, 32)] == [0, 12, 32]
    assert random.entropy(32) != random.entropy(32)


def test_a_hardened_process_leaves_no_core_and_says_what_it_could_not_do() -> None:
    """No core file, no dump, no new rights, nothing readable by others; doing it twice changes nothing."""
    code = (
        "import os, resource\n"
        "from tbot_core.system.secure_memory import harden\n"
        "print(harden(), harden())\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), oct(os.umask(0)))\n"
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('NoNewPrivs')])\n"
        "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
    )
    if sys.platform != "linux":
        pytest.skip("what is hardened here can be read on Linux alone")
    done = processes.run_program([sys.executable, "-c", code], timeout_s=30, environment=environ.minimal_environment())
    assert done.output == "() ()\n(0, 0) 0o77\n['1']\n0\n", done.errors


def test_a_hardened_process_writes_no_keys_of_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that the environment names for them stays absent: who reads it could read passwords on the wire."""
    keys = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
    secure_memory.harden(lambda *_: False)
    assert ssl.create_default_context().keylog_filename is None
    assert not keys.exists()


def test_what_could_not_be_hardened_is_said() -> None:
    """A property that the system refuses to set is named; elsewhere than on Linux both are."""
    mask = os.umask(0o022)
    try:
        assert secure_memory.harden(lambda option, _: option == 4, "linux") == (
            "The memory could not be protected against debuggers.",
        )
        assert secure_memory.harden(lambda option, _: option == 38, "linux") == (
            "New privileges could not be prevented.",
        )
        assert len(secure_memory.harden(lambda *_: False, "darwin")) == 1
        assert os.umask(0) == 0o077
    finally:
        os.umask(mask)
    assert sys.platform != "linux" or secure_memory._prctl(4, 99)


def test_what_is_locked_stays_out_of_core_files_and_children() -> None:
    """The pages of a buffer are marked: not swapped, not dumped, not inherited."""
    if sys.platform != "linux":
        pytest.skip("the marks can be read on Linux alone")
    code = (
        "import ctypes\n"
        "from tbot_core.system.secure_memory import SecureBuffer\n"
        "buffer = SecureBuffer.of([b'x' * 32])\n"
        "start = ctypes.addressof(ctypes.c_char.from_buffer(buffer.view))\n"
        "blocks = open('/proc/self/smaps').read().split('VmFlags:')\n"
        "flags = [after.split(chr(10))[0] for before, after in zip(blocks, blocks[1:]) if f'{start:x}-' in before]\n"
        "print(sorted({'lo', 'dd', 'dc'} & set(flags[0].split())))\n"
    )
    done = processes.run_program([sys.executable, "-c", code], timeout_s=30, environment=environ.minimal_environment())
    assert done.output == "['dc', 'dd', 'lo']\n", done.errors
