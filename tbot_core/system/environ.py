"""The one way to the process environment."""

from __future__ import annotations

import os
import pwd
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX: Final = "TBOT_"
_PREFIX: Final = re.compile(r"[A-Z][A-Z0-9]*_")
_CARRIED: Final = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "PYTHONHASHSEED", "TMPDIR", "TZ", "TZDIR")


def variable(name: str) -> str | None:
    """The value of a variable that the docs name, None when it is unset; ValueError unless it begins with TBOT_."""
    if not name.startswith(PREFIX):
        raise ValueError(f"only variables that begin with {PREFIX} are read, not {name}")
    return os.environ.get(name)


@contextmanager
def without_variables(*names: str) -> Iterator[None]:
    """As long as the context lasts these variables of tbot are unset, in this process and in its children."""
    kept = {name: os.environ.pop(name) for name in names if variable(name) is not None}
    try:
        yield
    finally:
        os.environ.update(kept)


def variables_with_prefix(prefix: str) -> dict[str, str]:
    """The variables that begin with a prefix such as `NAME_`, without it and in order; empty ones are left out.

    For importing a vendor's credentials once, when an instance is made. Raises ValueError for any other prefix.
    """
    if _PREFIX.fullmatch(prefix) is None:
        raise ValueError(f"a prefix is a word in capitals and an underscore, not {prefix!r}")
    found = {name.removeprefix(prefix): value for name, value in os.environ.items() if name.startswith(prefix)}
    return {name: value for name, value in sorted(found.items()) if name and value}


def user_name() -> str:
    """The name of the account that runs this process, as the system knows it; its number when it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def minimal_environment() -> dict[str, str]:
    """What a child process may inherit: the paths, language and zone that a program needs, nothing of the user's."""
    return {name: os.environ[name] for name in _CARRIED if name in os.environ}


def own_environment() -> dict[str, str]:
    """What another run of the same command is started with: as `minimal`, and the variables of tbot."""
    return minimal_environment() | {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
