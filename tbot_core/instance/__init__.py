"""The instance's settings: files, checks, and the typed values that everything else is given."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tbot_core.instance.effective import Effective
    from tbot_core.instance.enabled_plugins import enabled, raw
    from tbot_core.instance.findings import Finding, Mode
    from tbot_core.instance.folder import Instance
    from tbot_core.instance.loading import Examined, examine, load, table_hashes
    from tbot_core.instance.settings import Settings
    from tbot_core.instance.sources import Sources, is_sealed, is_there, read

# Each name is imported when it is asked for: listing plugins needs `enabled_plugins` alone.
_HOMES = {
    "Instance": "folder",
    "Examined": "loading",
    "examine": "loading",
    "load": "loading",
    "table_hashes": "loading",
    "enabled": "enabled_plugins",
    "raw": "enabled_plugins",
    "is_sealed": "sources",
    "is_there": "sources",
    "read": "sources",
    "Sources": "sources",
    "Effective": "effective",
    "Finding": "findings",
    "Mode": "findings",
    "Settings": "settings",
}

__all__ = [
    "Effective",
    "Examined",
    "Finding",
    "Instance",
    "Mode",
    "Settings",
    "Sources",
    "enabled",
    "examine",
    "is_sealed",
    "is_there",
    "load",
    "raw",
    "read",
    "table_hashes",
]


def __getattr__(name: str) -> object:
    """The public name, imported from its module."""
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
