"""The one way to the process environment."""

from __future__ import annotations

import os
import pwd
from typing import Final

PREFIX: Final = "TBOT_"
_CARRIED: Final = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "PYTHONHASHSEED", "TMPDIR", "TZ", "TZDIR")


def variable(name: str) -> str | None:
    """The value of a variable that the docs name, None when it is unset; ValueError unless it begins with TBOT_."""
    if not name.startswith(PREFIX):
        raise ValueError(f"only variables that begin with {PREFIX} are read, not {name}")
    return os.environ.get(name)


def user() -> str:
    """The name of the account that runs this process, as the system knows it; its number when it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def minimal() -> dict[str, str]:
    """What a child process may inherit: the paths, language and zone that a program needs, nothing of the user's."""
    return {name: os.environ[name] for name in _CARRIED if name in os.environ}
