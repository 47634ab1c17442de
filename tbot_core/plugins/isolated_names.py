"""The names of plugins that run in a worker process; a cheap query."""

from __future__ import annotations

from typing import Final

from tbot_core.system import environ

VARIABLE: Final = "TBOT_PLUGINS_ISOLATE"


def isolated_plugin_names() -> frozenset[str]:
    """The names in TBOT_PLUGINS_ISOLATE."""
    parts = (environ.variable(VARIABLE) or "").split(",")
    return frozenset(part.strip() for part in parts if part.strip())
