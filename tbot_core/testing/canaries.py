"""Canaries: secrets that a test plants to see whether they leak, in any of the usual encodings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.errors import AccessError
from tbot_core.system import filesystem
from tbot_core.system.redaction import encodings

if TYPE_CHECKING:
    from pathlib import Path

MARK: Final = "Serinus7Canaria"
"""What every canary has at both ends, so that half of one is found too."""

_TRACES: Final = tuple(sorted(form.encode() for form in encodings(MARK.encode())))


def canary(name: str) -> str:
    """A secret value for a test, recognised wherever it appears; `name` identifies it."""
    return f"{MARK}-{name}-{MARK}"


def shows(data: bytes | str) -> bool:
    """Whether a canary appears in the data: plain, reversed, in hex, base64, URL or JSON escapes."""
    held = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    return any(trace in held for trace in _TRACES)


def leaks(folder: Path) -> tuple[Path, ...]:
    """The files below the folder that contain a canary; links are not followed. Raises AccessError."""
    return tuple(path for path in filesystem.files(folder) if shows(_held(path)))


def _held(path: Path) -> bytes:
    # What a file holds; nothing if it went away meanwhile, as what a process is still replacing does.
    try:
        return filesystem.read_bytes(path)
    except AccessError:
        if filesystem.is_present(path):
            raise
        return b""
