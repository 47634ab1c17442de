"""Child processes, bounded in time and output, with only the given environment.

A worker answers requests: bytes to its standard input, bytes from its standard output.
"""

from __future__ import annotations

import fcntl
import os
import resource
import selectors
import signal
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, TYPE_CHECKING, Final, cast

import attrs

from tbot_core.errors import AccessError
from tbot_core.system import filesystem, secure_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

OUTPUT_BYTES: Final = 1_000_000
"""Kept bytes of each stream of a child; the rest is read and dropped, so that the child never blocks."""

_exclusive = threading.Lock()  # so that a look at a lock is not taken for a program that holds it
_CHUNK: Final = 65_536
_GRACE_S: Final = 0.2
_LAST_S: Final = 2.0
_POLL_S: Final = 0.01
MEMORY_BYTES: Final = 4 * 2**30
"""The address space of a confined child; numpy reserves far more than it uses."""

FILES: Final = 64
_PIECE: Final = 1 << 20


@attrs.frozen(kw_only=True)
class ProcessResult:
    """The result of a child: exit code (negative: the signal), and the first megabyte of each stream as text."""

    code: int
    output: str
    errors: str
    timed_out: bool


class WorkerProcess:
    """The child process; reads and writes block without a limit unless interrupted.

    It gets no file of ours, only `environment`, and its own session. Raises AccessError when it cannot be started, and
    later when it has ended.
    """

    def __init__(self, args: Sequence[str], *, environment: Mapping[str, str]) -> None:
        try:
            self._child = subprocess.Popen(  # noqa: S603  -- no shell, and callers choose the program
                args,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=dict(environment),
                start_new_session=True,
                bufsize=0,
            )
        except OSError as fault:
            raise AccessError(f"Cannot start {args[0]}: {fault.strerror}.", "Check that the program exists.") from fault
        self._in = cast("IO[bytes]", self._child.stdin)
        self._out = cast("IO[bytes]", self._child.stdout)

    def write(self, data: bytes) -> None:
        """Write everything to its standard input."""
        try:
            _write_whole(self._in.fileno(), data)
        except OSError as fault:
            raise self._ended_error() from fault

    def read(self, size: int) -> bytes:
        """Read exactly so many bytes of its output."""
        data = _read_whole(self._out.fileno(), size)
        if len(data) < size:
            raise self._ended_error()
        return data

    def end(self) -> None:
        """Kill it and its descendants."""
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        self._in.close()
        self._out.close()

    def _ended_error(self) -> AccessError:
        return AccessError(f"its process ended with code {self._child.wait()} before it had answered.")


def run_program(args: Sequence[str], *, timeout_s: float, environment: Mapping[str, str]) -> ProcessResult:
    """Run a program to its end, or kill it and its descendants after `timeout_s` seconds; blocks.

    The child gets no input, no open file of ours, and only `environment` (`environ.minimal_environment` gives what a
    program needs). Raises AccessError when the program cannot be started.
    """
    with started_program(args, environment=environment) as finish:
        return finish(timeout_s)


@contextmanager
def started_program(
    args: Sequence[str], *, environment: Mapping[str, str]
) -> Iterator[Callable[[float], ProcessResult]]:
    """Start a program as `run_program` does, and yield a function that waits for its end as that does.

    Several may run at once. Leaving the context kills the program and its descendants.
    """
    try:
        child = subprocess.Popen(  # noqa: S603  -- no shell, and callers choose the program
            args,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,
        )
    except OSError as fault:
        raise AccessError(f"Cannot start {args[0]}: {fault.strerror}.", "Check that the program exists.") from fault

    def finish(timeout_s: float) -> ProcessResult:
        kept, in_time = _drain(child, time.monotonic() + timeout_s)
        ends.close()
        output, errors = (bytes(part).decode(errors="replace") for part in kept)
        return ProcessResult(code=child.wait(), output=output, errors=errors, timed_out=not in_time)

    with child, ExitStack() as ends:
        ends.callback(_kill_group, child.pid)
        yield finish


@contextmanager
def listening_process(args: Sequence[str], *, environment: Mapping[str, str]) -> Iterator[Callable[[bytes], bool]]:
    """Run a program for the duration of the context, and yield a function that writes to its standard input.

    The function does not block and returns whether the program still reads; what does not fit the pipe is lost. The
    program survives an interrupt from the terminal. It must end when its input ends, else it is killed. Raises
    AccessError as `run_program` does.
    """
    try:
        child = subprocess.Popen(  # noqa: S603  -- no shell, and callers choose the program
            args,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(environment),
            start_new_session=True,
            bufsize=0,
        )
    except OSError as fault:
        raise AccessError(f"Cannot start {args[0]}: {fault.strerror}.", "Check that the program exists.") from fault
    pipe = cast("IO[bytes]", child.stdin)
    os.set_blocking(pipe.fileno(), False)

    def send(data: bytes) -> bool:
        try:
            os.write(pipe.fileno(), data)
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        return True

    try:
        yield send
    finally:
        pipe.close()
        with suppress(subprocess.TimeoutExpired):
            child.wait(_LAST_S)
        child.kill()
        child.wait()


@contextmanager
def run_together(commands: Sequence[Sequence[str]], *, environment: Mapping[str, str]) -> Iterator[Iterator[bytes]]:
    """Run several programs at once, and yield their output lines as they come, until all have ended.

    They get no input; their standard error goes to ours. Leaving the context early interrupts them. Raises AccessError
    when one cannot be started; the lines raise it when one fails or prints an endless line.
    """
    with ExitStack() as ends:
        yield _lines([ends.enter_context(_output_process(args, environment)) for args in commands])


def start_detached(args: Sequence[str], *, environment: Mapping[str, str], output: Path) -> int:
    """Start a program that outlives this process, in its own session; returns its process id.

    Its output is appended to `output`. Raises AccessError when it cannot be started.
    """
    return _awaited(start_child(args, environment=environment, output=output))


def start_child(args: Sequence[str], *, environment: Mapping[str, str], output: Path) -> subprocess.Popen[bytes]:
    """Start a program as `start_detached` does; the caller waits for its end.

    Raises AccessError when it cannot be started.
    """
    with filesystem.raising_access_errors("open", output):
        handle = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        return subprocess.Popen(  # noqa: S603  -- no shell, and callers choose the program
            args,
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
            env=dict(environment),
            start_new_session=True,
        )
    except OSError as fault:
        raise AccessError(f"Cannot start {args[0]}: {fault.strerror}.", "Check that the program exists.") from fault
    finally:
        os.close(handle)


def end_program(process: int) -> None:
    """Ask a program to end, as `kill` does; one that has ended already needs nothing."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGTERM)


def is_running(process: int) -> bool:
    """Whether a program that `start_detached` started has not ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def start_exclusive(
    args: Sequence[str],
    *,
    environment: Mapping[str, str],
    lock: Path,
    streams: tuple[Path, Path],
    prepare: Callable[[], Callable[[], None] | None],
) -> int | None:
    """Start a program that outlives this process and holds `lock` until it ends in any way; returns its process id.

    None when the lock is held. `streams` are the files of its output and errors. `prepare` is called with the lock
    held, before the start; what it returns is called in a thread after the program's end, if this process runs until
    then. Raises AccessError when it cannot be started.
    """
    with _exclusive, ExitStack() as ends:
        held = _opened(lock, ends)
        with filesystem.raising_access_errors("lock", lock):
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
        ended = prepare()
        output, errors = (_opened(path, ends) for path in streams)
        try:
            child = subprocess.Popen(  # noqa: S603  -- no shell, and callers choose the program
                args,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=dict(environment),
                start_new_session=True,
                pass_fds=(held,),
            )
        except OSError as fault:
            raise AccessError(f"Cannot start {args[0]}: {fault.strerror}.", "Check that the program exists.") from fault
    return _awaited(child, ended)


def runs_exclusively(lock: Path) -> bool:
    """Whether a program that `start_exclusive` started with this lock runs, whichever process started it."""
    if not filesystem.exists(lock):
        return False
    with _exclusive, filesystem.try_lock(lock, shared=True) as free:  # two that ask at once see no program
        return not free


def end_group(process: int) -> None:
    """Ask a program that was started in its own session, and its descendants, to end, as `kill` does.

    Not as Ctrl-C does: what a shell starts in the background, and its children, ignore that.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGTERM)


def signal_name(number: int) -> str:
    """The name of a signal, such as SIGKILL; its number where it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def process_id() -> int:
    """The id of this process."""
    return os.getpid()


def end_parent(
    process: int, parent: Callable[[], int] = os.getppid, kill: Callable[[int, int], None] = os.kill
) -> bool:
    """Kill the parent process if it still has this id; returns whether it is gone."""
    if parent() == process:
        with suppress(ProcessLookupError, PermissionError):
            kill(process, signal.SIGKILL)
    deadline = time.monotonic() + _LAST_S
    while parent() == process and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return parent() != process


def read_stdin(timeout_s: float) -> bytes | None:
    """Read standard input for at most this time: None for nothing, empty after its end."""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        return os.read(0, _CHUNK) if selector.select(timeout_s) else None


def _read_whole(handle: int, size: int) -> bytes:
    # Read so many bytes; fewer only at the end of the stream.
    data = bytearray()
    while len(data) < size:
        part = os.read(handle, min(size - len(data), _PIECE))
        if not part:
            break
        data += part
    return bytes(data)


def _write_whole(handle: int, data: bytes) -> None:
    # Write everything.
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def open_child_pipe() -> tuple[Callable[[int], bytes], Callable[[bytes], None]]:
    """In the child: return functions to read and to write. Later prints go to standard error, which is discarded."""
    requests, responses = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return lambda size: _read_whole(requests, size), lambda data: _write_whole(responses, data)


def confine(hardened: Callable[[], object] = secure_memory.harden) -> None:
    """In the child: harden the process, and limit its memory and files."""
    hardened()
    for what, most in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_NOFILE, FILES)):
        _, hard = resource.getrlimit(what)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (limit, limit))


def _kill_group(process: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)


def _awaited(child: subprocess.Popen[bytes], ended: Callable[[], None] | None = None) -> int:
    # The child's process id; when it ends, no trace of it stays in the process table.
    def wait() -> None:
        child.wait()
        if ended is not None:
            ended()

    threading.Thread(target=wait, name=f"end of {child.pid}", daemon=True).start()
    return child.pid


def _opened(path: Path, ends: ExitStack) -> int:
    with filesystem.raising_access_errors("open", path):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    ends.callback(os.close, handle)
    return handle


@contextmanager
def _output_process(args: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        child = subprocess.Popen(  # noqa: S603  -- no shell, and callers choose the program
            args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=dict(environment), start_new_session=True
        )
    except OSError as fault:
        raise AccessError(f"Cannot start {args[0]}: {fault.strerror}.", "Check that the program exists.") from fault
    with child:
        try:
            yield child
        finally:
            child.send_signal(signal.SIGINT)
            _has_ended(child, _LAST_S)
            child.kill()


def _lines(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[bytes]:
    # Complete lines of all children, without line ends.
    partial = {child.pid: b"" for child in children}
    with selectors.DefaultSelector() as selector:
        for child in children:
            selector.register(cast("IO[bytes]", child.stdout), selectors.EVENT_READ, child)
        while selector.get_map():
            for key, _ in selector.select():
                child, chunk = key.data, os.read(key.fd, _CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                    _assert_done(child)
                *whole, partial[child.pid] = (partial[child.pid] + chunk).split(b"\n")
                yield from whole
                if len(partial[child.pid]) > OUTPUT_BYTES:
                    raise AccessError(
                        f"{child.args[0]} printed a line without an end.", "Run it on its own to see the output."
                    )


def _assert_done(child: subprocess.Popen[bytes]) -> None:
    _has_ended(child, _LAST_S)
    if child.poll() != 0:
        words = "still runs, and prints nothing more" if child.returncode is None else f"ended with {child.returncode}"
        raise AccessError(f"{cast('Sequence[str]', child.args)[0]} {words}.", "Run it on its own to see why.")


def _drain(child: subprocess.Popen[bytes], deadline: float) -> tuple[tuple[bytearray, bytearray], bool]:
    # Read both streams until the child has ended (True) or the deadline has passed (False).
    kept = bytearray(), bytearray()
    streams = cast("tuple[IO[bytes], IO[bytes]]", (child.stdout, child.stderr))
    with selectors.DefaultSelector() as selector:
        for stream, buffer in zip(streams, kept, strict=True):
            selector.register(stream, selectors.EVENT_READ, buffer)
        while True:
            left = max(deadline - time.monotonic(), 0)
            ended = _has_ended(child, 0 if selector.get_map() else min(left, _GRACE_S))
            ready = selector.select(0 if ended else min(left, _GRACE_S)) if selector.get_map() else []
            for key, _ in ready:
                _read_chunk(selector, key)
            if not left or (ended and not ready):
                return kept, ended


def _has_ended(child: subprocess.Popen[bytes], wait_s: float) -> bool:
    try:
        child.wait(wait_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _read_chunk(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    chunk = os.read(key.fd, _CHUNK)
    if chunk:
        key.data.extend(chunk[: OUTPUT_BYTES - len(key.data)])
    else:
        selector.unregister(key.fileobj)
