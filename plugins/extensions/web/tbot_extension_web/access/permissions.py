"""What each role may do. Deny by default: a role has the permissions of this table and no other."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from tbot_core.engine.control import ControlVerb
from tbot_extension_web.access.credentials import Role

if TYPE_CHECKING:
    from collections.abc import Mapping


class Permission(StrEnum):
    """What a route asks for."""

    PUBLIC = "public"
    """No login: the login itself, health, styles and scripts."""

    FIRST_RUN = "first_run"
    """The one-time link of an instance without an account."""

    OWN = "own"
    """A user's own account: logging out, password, one-time codes, sessions."""

    READ = "read"
    """Everything but users and secrets."""

    RESTRICT = "restrict"
    """Requests that only restrict trading: stop, kill, defense on, disarm."""

    CONFIRM = "confirm"
    """Approve or reject an entry that waits for it."""

    RUN = "run"
    """Start a replay or a backtest; test and acknowledge alerts."""

    CONTROL = "control"
    """Requests that widen or end trading: arm, clear, flatten, defense off."""

    CONFIGURE = "configure"
    """Settings, plugins and the set-up."""

    SECRETS = "secrets"
    """Write secrets, see which are set, rotate their keys."""

    USERS = "users"
    """Accounts, roles and sessions of all users."""

    METRICS = "metrics"
    """The figures for a monitoring system, behind a token of their own."""


_VIEWER: Final = frozenset({Permission.OWN, Permission.READ})
_TRADER: Final = _VIEWER | {Permission.RESTRICT, Permission.CONFIRM, Permission.RUN}
_ADMIN: Final = _TRADER | {Permission.CONTROL, Permission.CONFIGURE, Permission.SECRETS, Permission.USERS}

GRANTED: Final = {Role.VIEWER: _VIEWER, Role.TRADER: _TRADER, Role.ADMIN: _ADMIN}
"""The permissions of each role."""


REQUESTS: Final[Mapping[ControlVerb, Permission]] = {
    **dict.fromkeys(
        (ControlVerb.STOP, ControlVerb.KILL, ControlVerb.DEFENSE_ON, ControlVerb.DISARM), Permission.RESTRICT
    ),
    **dict.fromkeys((ControlVerb.CONFIRM, ControlVerb.REJECT), Permission.CONFIRM),
    **dict.fromkeys(
        (
            ControlVerb.STOP_FLATTEN,
            ControlVerb.KILL_FLATTEN,
            ControlVerb.STOP_KEEP,
            ControlVerb.STOP_CANCEL,
            ControlVerb.KILL_CLEAR,
            ControlVerb.DEFENSE_OFF,
            ControlVerb.ARM,
            ControlVerb.FAILOVER_CONFIRM,
            ControlVerb.ACCEPT_JOURNAL,
        ),
        Permission.CONTROL,
    ),
}
"""What each request to the bot needs, when it is made and until the bot has recorded it."""


def allows(role: Role, permission: Permission) -> bool:
    """Whether the role has the permission."""
    return permission in GRANTED[role]
