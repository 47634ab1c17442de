"""Where live trading reads compiled modules: in a folder of the instance that no other user can write to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tbot_core.errors import AccessError
from tbot_core.system import filesystem, log

if TYPE_CHECKING:
    from pathlib import Path

_log = log.logger(__name__)


def read_private_bytecode(home: Path, *, user: int | None = None) -> None:
    """From now on read bytecode from `data/bytecode` only, which is created; from nowhere if that is not private.

    It is private if it, its content and the folders above it in the instance belong to `user` (None: this one) or root,
    and no other user may write to them. Without it every module is compiled anew at each start.
    """
    data = home / "data"
    folder = data / "bytecode"
    try:
        filesystem.make_private_folder(folder, user=user)
        exposed = [path for path in (home, data) if filesystem.write_exposure(path, user=user)]
        is_private = not exposed and filesystem.belongs_to(folder, user=user)
    except AccessError as fault:
        is_private, reason = False, fault.message
    else:
        reason = "another user could have written to it"
    if is_private:
        sys.pycache_prefix = str(folder)
        return
    _log.warning("bytecode.not_private", folder=str(folder), reason=reason, remedy=f"rm -r {folder}")
    sys.pycache_prefix, sys.dont_write_bytecode = filesystem.NOWHERE, True
