"""Extension `web`: the page that sets tbot up, shows a running bot, and controls it, with roles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import Plugin
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.setting import Permits, boolean, choice, setting
from tbot_extension_web.access.credentials import Role

if TYPE_CHECKING:
    from tbot_core.contracts import Context

__all__ = ["Config", "create"]


@attrs.frozen(kw_only=True)
class Config:
    """Roles on the page."""

    rbac_enabled: bool = setting(
        "RBAC_ENABLED",
        boolean(),
        default="true",
        doc="Whether roles limit what users may do; false makes every account admin, on loopback only.",
        changes_trades=False,
        permits=Permits("unless", ("true",), why="Every account may do everything."),
    )
    default_user_role: str = setting(
        "DEFAULT_USER_ROLE",
        choice(*Role),
        default="viewer",
        doc="Role of a new user.",
        changes_trades=False,
        permits=Permits("unless", ("viewer",), why="New users may do more than view."),
    )


@hookimpl
def tbot_extension() -> Plugin:
    """Describe the plugin. It needs no secrets of a run: the page opens those of its users in its own process."""
    return Plugin(
        name="web",
        summary="A page to set tbot up, watch it and control it",
        config=Config,
        create=create,
    )


def create(config: Config, _context: Context) -> Config:
    """The settings; the page is a process of its own, so that nothing runs beside a run."""
    return config
