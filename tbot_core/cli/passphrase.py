"""The passphrase of a bundle: from a file that an option names, or from a person."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tbot_core.errors import UsageError
from tbot_core.system import filesystem, terminal
from tbot_core.system.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO

_PHRASE_CHARACTERS: Final = 1024


@contextmanager
def read_passphrase(phrase: TextIO | None, *, twice: bool = False, of: Path | None = None) -> Iterator[Secret]:
    """The passphrase of a bundle, from the open file or a hidden prompt, which is wiped afterwards.

    Raises AccessError if the bundle `of` does not exist, before it prompts.
    """
    if of is not None:
        filesystem.size(of)
    if phrase is None:
        secret = Secret(terminal.read_hidden("Passphrase of the bundle", twice=twice))
    else:
        secret = Secret(_first_line(phrase))
    try:
        yield secret
    finally:
        secret.wipe()


def _first_line(phrase: TextIO) -> str:
    # The file may not be text, and may be endless.
    try:
        line = phrase.readline(_PHRASE_CHARACTERS + 2).rstrip("\r\n")
    except UnicodeDecodeError:
        line = ""
    if not 0 < len(line) <= _PHRASE_CHARACTERS:
        message = f"The first line of the passphrase file must be text of 1 to {_PHRASE_CHARACTERS} characters."
        raise UsageError(message, "Write the passphrase there, and nothing else.")
    return line
