"""Access to the process environment."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX: Final = "TBOT_"
_PREFIX: Final = re.compile(r"[A-Z][A-Z0-9]*_")
_MANAGER: Final = ("DBUS_SESSION_BUS_ADDRESS", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR")
_UNSET: ContextVar[frozenset[str]] = ContextVar("unset", default=frozenset())
_CARRIED: Final = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "PYTHONHASHSEED", "TMPDIR", "TZ", "TZDIR")


def program(name: str) -> str | None:
    """The path of a program on PATH, or of a file that may be executed; None without one."""
    return shutil.which(name)


def own_command(name: str, started: str) -> str:
    """How to call the program `name` that was started as `started`: by its name where PATH leads to it, else by a path.

    Where it was started in another way, as by `python -m`, it is the name.
    """
    path, found = Path(started), shutil.which(name)
    if path.name != name or (found is not None and Path(found).resolve() == path.resolve()):
        return name
    path, here = path.absolute(), Path.cwd()
    return shlex.quote(f"./{path.relative_to(here)}" if path.is_relative_to(here) else str(path))


def variable(name: str) -> str | None:
    """The value of a documented variable; None when unset. Raises ValueError unless it begins with TBOT_."""
    if not name.startswith(PREFIX):
        raise ValueError(f"only variables that begin with {PREFIX} are read, not {name}")
    return None if name in _UNSET.get() else os.environ.get(name)


@contextmanager
def without_variables(*names: str) -> Iterator[None]:
    """Unset these variables of tbot in the context, for the thread that entered it and the children that it starts.

    Other threads of the process read them meanwhile.
    """
    token = _UNSET.set(_UNSET.get() | {*names})
    try:
        yield
    finally:
        _UNSET.reset(token)


def without_blas_threads() -> None:
    """Let numpy start no thread for linear algebra, of which tbot has none: they wait in a loop that uses a processor.

    An OPENBLAS_NUM_THREADS that is set already stays.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def variables_with_prefix(prefix: str) -> dict[str, str]:
    """The variables with a prefix such as `NAME_`, without the prefix, sorted; empty ones are left out.

    Used to import a vendor's credentials once, when an instance is created. Raises ValueError for an invalid prefix.
    """
    if _PREFIX.fullmatch(prefix) is None:
        raise ValueError(f"a prefix is a word in capitals and an underscore, not {prefix!r}")
    found = {name.removeprefix(prefix): value for name, value in os.environ.items() if name.startswith(prefix)}
    return {name: value for name, value in sorted(found.items()) if name and value}


def service_socket() -> str:
    """NOTIFY_SOCKET, which a service manager sets for the process that it started; "" without one."""
    return os.environ.get("NOTIFY_SOCKET", "")


def user_name() -> str:
    """The name of the account that runs this process; its number when it has no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def minimal_environment() -> dict[str, str]:
    """The variables that a child process may inherit: paths, language and time zone."""
    return {name: os.environ[name] for name in _CARRIED if name in os.environ}


def own_environment() -> dict[str, str]:
    """The environment for running the same command again: `minimal_environment` plus the variables of tbot."""
    own = (name for name in os.environ if name.startswith(PREFIX) and name not in _UNSET.get())
    return minimal_environment() | {name: os.environ[name] for name in own}


def manager_environment() -> dict[str, str]:
    """The environment of a program that asks the user's service manager: `minimal_environment` and where that is."""
    return minimal_environment() | {name: os.environ[name] for name in _MANAGER if name in os.environ}
