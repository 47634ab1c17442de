"""Canaries: secrets that a test plants to see whether they leak, in any of the usual encodings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.errors import AccessError
from tbot_core.system import filesystem
from tbot_core.system.redaction import encodings

if TYPE_CHECKING:
    from pathlib import Path

MARK: Final = "Serinus7Canaria"
"""The mark at both ends of every canary, so that a part of one is found too."""

_TRACES: Final = tuple(sorted(form.encode() for form in encodings(MARK.encode())))


def canary(name: str) -> str:
    """A secret value for a test, recognised wherever it appears; `name` identifies it."""
    return f"{MARK}-{name}-{MARK}"


def shows(data: bytes | str) -> bool:
    """Whether a canary appears in the data: plain, reversed, in hex, base64, URL or JSON escapes."""
    content = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    return any(trace in content for trace in _TRACES)


def leaks(folder: Path) -> tuple[Path, ...]:
    """The files below the folder that contain a canary; links are not followed. Raises AccessError."""
    return tuple(path for path in filesystem.files(folder) if shows(_content(path)))


def _content(path: Path) -> bytes:
    # The content of a file; empty if it was deleted meanwhile, such as one that a process is replacing.
    try:
        return filesystem.read_bytes(path)
    except AccessError:
        if filesystem.is_present(path):
            raise
        return b""
