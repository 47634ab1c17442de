"""Which plugins run in a worker process of their own; cheap to ask."""

from __future__ import annotations

from typing import Final

from tbot_core.system import environ

VARIABLE: Final = "TBOT_PLUGINS_ISOLATE"


def isolated_plugin_names() -> frozenset[str]:
    """The names in the variable."""
    parts = (environ.variable(VARIABLE) or "").split(",")
    return frozenset(part.strip() for part in parts if part.strip())
