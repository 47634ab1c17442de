"""The control folder in use: that of the running bot, else that of CONTROL_DIR in the global configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import AccessError, TbotError
from tbot_core.instance.sources import deployment_of, read_global_file
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from tbot_core.instance.folder import Instance

NAME: Final = "control-folder"
"""The file in `data/` in which a trading process records its id and its control folder."""

_LARGEST: Final = 8192


def record_control_folder(instance: Instance) -> None:
    """Record the folder that the holder of the instance's lock watches."""
    holder = instance.lock_holder
    if holder is not None:
        filesystem.write_atomic(instance.data / NAME, f"{holder}\n{instance.control_dir}\n".encode())


def with_control_folder(instance: Instance) -> Instance:
    """The instance with the control folder that commands must use.

    A running bot has recorded its folder: a changed setting applies from its next session. Without one the next start
    reads CONTROL_DIR. Raises AccessError or VaultError if the global configuration cannot be read and no earlier run
    has recorded a folder.
    """
    process, recorded = _recorded(instance)
    if recorded and process == str(instance.lock_holder):
        return attrs.evolve(instance, control_dir=recorded)
    source = read_global_file(instance)
    if source.fault is None:
        return attrs.evolve(instance, control_dir=deployment_of(source.parsed).control_dir)
    if recorded:
        return attrs.evolve(instance, control_dir=recorded)
    raise source.fault


def known_control_folder(instance: Instance) -> Instance:
    """As `with_control_folder`; the default folder where it cannot be known."""
    try:
        return with_control_folder(instance)
    except TbotError:
        return instance


def _recorded(instance: Instance) -> tuple[str, str]:
    # The process id and the folder of the last trading process; both empty without a record.
    try:
        process, _, folder = filesystem.read_bytes(instance.data / NAME, limit=_LARGEST).decode().partition("\n")
    except (AccessError, ValueError):
        return "", ""
    return process, folder.rstrip("\n")
