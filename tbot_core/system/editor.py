"""In-memory folders, and editing a file in one with the user's editor."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tbot_core.errors import AccessError

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY: Final = Path("/dev/shm")  # noqa: S108  -- memory, and a folder of our own in it
_MOUNTS: Final = Path("/proc/mounts")
_FALLBACK: Final = "vi"


def edit(name: str, data: bytes, *, folder: Path = MEMORY, mounts: Path = _MOUNTS) -> bytes:
    """Let the user edit the text in a file called `name`, with $VISUAL, else $EDITOR, else vi; returns the result.

    The file and the editor's own files are in a folder made by `in_memory`. Raises AccessError when there is none, or
    when the editor fails.
    """
    with in_memory(folder=folder, mounts=mounts) as work:
        file = work / name
        try:
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
                opened.write(data)
            _run(file)
            return file.read_bytes()
        except OSError as fault:
            raise AccessError(
                f"The editor could not be started: {fault.strerror}.", "Set EDITOR to a program."
            ) from fault


@contextmanager
def in_memory(*, folder: Path = MEMORY, mounts: Path = _MOUNTS) -> Iterator[Path]:
    """Create a private folder on a file system in memory; its files are overwritten and removed at the end.

    Its name contains the process id, so that a killed process's folder can be recognised. `mounts` lists the mounted
    file systems. Raises AccessError when `folder` is not in memory.
    """
    if not _is_memory(folder, mounts):
        raise AccessError(
            f"{folder} is not a file system in memory, so there is no safe place for decrypted content.",
            "Mount a tmpfs there.",
        )
    work = Path(tempfile.mkdtemp(prefix=f"tbot-{os.getpid()}-", dir=folder))
    try:
        yield work
    finally:
        for left in (path for path in work.rglob("*") if path.is_file() and not path.is_symlink()):
            left.write_bytes(bytes(left.stat().st_size))
        shutil.rmtree(work)


def _run(file: Path) -> None:
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or _FALLBACK
    environment = {**os.environ, "TMPDIR": str(file.parent)}
    done = subprocess.run([*shlex.split(command), str(file)], env=environment, check=False)  # noqa: S603  -- the user's choice
    if done.returncode:
        raise AccessError(f"The editor exited with code {done.returncode}.", "Nothing was changed.")


def _is_memory(folder: Path, mounts: Path) -> bool:
    # Whether the folder is the mount point of a tmpfs.
    try:
        rows = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return False
    return any(row[1] == str(folder) and row[2] in {"tmpfs", "ramfs"} for row in rows)
