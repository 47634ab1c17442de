"""A person's editor on a file that lies in memory alone."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tbot_core.errors import AccessError

MEMORY: Final = Path("/dev/shm")  # noqa: S108  -- memory, and a folder of our own in it
MOUNTS: Final = Path("/proc/mounts")
_FALLBACK: Final = "vi"


def edit(name: str, data: bytes, *, folder: Path = MEMORY, mounts: Path = MOUNTS) -> bytes:
    """What a person makes of the text: $VISUAL, else $EDITOR, else vi works on a file called `name`.

    The file, and whatever the editor leaves beside it, is in memory and is overwritten and removed afterwards; `mounts`
    says what is memory. Raises AccessError where there is no file system in memory, and when the editor fails.
    """
    if not _in_memory(folder, mounts):
        raise AccessError(
            f"{folder} is no file system in memory, so there is no safe place for the text.",
            "Mount a tmpfs there, or set the values from standard input.",
        )
    work = Path(tempfile.mkdtemp(prefix="tbot-", dir=folder))
    file = work / name
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(data)
        _run(file)
        return file.read_bytes()
    except OSError as fault:
        raise AccessError(f"The editor could not be used: {fault.strerror}.", "Set EDITOR to a program.") from fault
    finally:
        for left in (it for it in work.rglob("*") if it.is_file() and not it.is_symlink()):
            left.write_bytes(bytes(left.stat().st_size))
        shutil.rmtree(work)


def _run(file: Path) -> None:
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or _FALLBACK
    environment = {**os.environ, "TMPDIR": str(file.parent)}
    done = subprocess.run([*shlex.split(command), str(file)], env=environment, check=False)  # noqa: S603  -- theirs
    if done.returncode:
        raise AccessError(f"The editor ended with {done.returncode}.", "Nothing was changed.")


def _in_memory(folder: Path, mounts: Path) -> bool:
    """Whether the folder is the root of a tmpfs, as the kernel says."""
    try:
        rows = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return False
    return any(row[1] == str(folder) and row[2] in {"tmpfs", "ramfs"} for row in rows)
