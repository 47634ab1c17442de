"""The instance's settings: files, checks, and typed values."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tbot_core.instance.enabled_plugins import plugins_enabled, raw_settings
    from tbot_core.instance.findings import Mode, SettingsFinding
    from tbot_core.instance.folder import Instance
    from tbot_core.instance.loading import ExaminedSettings, examine_settings, load_settings, table_hashes
    from tbot_core.instance.registry import EffectiveSetting
    from tbot_core.instance.settings import Settings
    from tbot_core.instance.sources import SettingsFiles, has_settings, is_sealed, read_settings_files

# Order matters: listing plugins needs only the first two.
_MODULES = ("folder", "enabled_plugins", "sources", "findings", "registry", "settings", "loading")

__all__ = [
    "EffectiveSetting",
    "ExaminedSettings",
    "Instance",
    "Mode",
    "Settings",
    "SettingsFiles",
    "SettingsFinding",
    "examine_settings",
    "has_settings",
    "is_sealed",
    "load_settings",
    "plugins_enabled",
    "raw_settings",
    "read_settings_files",
    "table_hashes",
]


def __getattr__(name: str) -> object:
    """Import a public name on first access."""
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    places = (vars(import_module(f"{__name__}.{module}")) for module in _MODULES)
    return next(place[name] for place in places if name in place)
