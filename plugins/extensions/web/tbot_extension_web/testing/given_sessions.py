"""Sessions that are given: the token is the role's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.errors import UsageError
from tbot_extension_web.access.credentials import Role
from tbot_extension_web.access.login_rules import LoginRules
from tbot_extension_web.access.logins import LoggedIn, OpenSession, Refused, Session

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from tbot_extension_web.access.accounts import Account

CSRF = "the-token-of-forms"
STEPPED_UP = "admin-stepped-up"
RIGHT = "right"
"""The password of everybody."""


@attrs.define
class GivenLog:
    """Keeps what is recorded."""

    lines: list[tuple[str, str]] = attrs.field(factory=list)

    def record(self, action: str, actor: str, outcome: str, **_: str) -> None:
        """Keep the actor and the outcome."""
        self.lines.append((actor, f"{action} {outcome}"))


@attrs.define
class GivenAccounts:
    """No account; none can be made."""

    def read(self) -> Mapping[str, Account]:
        """The accounts."""
        return {}

    async def add(self, name: str, password: str, role: Role, *, actor: str) -> Account:
        """Refuse."""
        raise UsageError(f"{actor} cannot add {name} as {role}.", f"{len(password)} characters are not enough.")

    async def set_totp(self, name: str, secret: str | None, *, actor: str) -> None:
        """Refuse."""
        raise UsageError(f"{actor} cannot set {secret} for {name}.", "The user does not exist.")


@attrs.define
class GivenSessions:
    """Knows a session for each role, and one of an admin who entered the password again."""

    ended: list[str] = attrs.field(factory=list)
    became: dict[str, str] = attrs.field(factory=dict)
    """A token whose session is now like that of another, as when the role was changed."""

    accounts: GivenAccounts = attrs.field(factory=GivenAccounts)
    security: GivenLog = attrs.field(factory=GivenLog)
    rules: LoginRules = attrs.field(factory=LoginRules)

    def session(self, token: str, *, active: bool = True) -> Session | None:  # noqa: ARG002  -- as the real one
        """The session that the token names."""
        token = self.became.get(token, token)
        if token in self.ended or token not in {*Role, STEPPED_UP}:
            return None
        role = Role.ADMIN if token == STEPPED_UP else Role(token)
        return Session(
            id=[*Role].index(role), user=f"a-{role.value}", role=role, csrf=CSRF, stepped_up=token == STEPPED_UP
        )

    async def log_in(self, name: str, password: str, code: str, source: str, agent: str) -> LoggedIn | Refused:  # noqa: ARG002
        """Accept one password."""
        return _answer("viewer", accepted=password == RIGHT)

    async def log_out(self, token: str) -> None:
        """End the session."""
        self.ended.append(token)

    async def confirm(self, token: str, password: str, code: str) -> Refused | None:  # noqa: ARG002
        """Accept one password."""
        return None if password == RIGHT else Refused(sentence="Wrong.")

    async def step_up(self, token: str, password: str, code: str) -> LoggedIn | Refused:  # noqa: ARG002
        """Accept one password."""
        return _answer(STEPPED_UP, accepted=password == RIGHT)

    async def change_password(self, token: str, password: str, code: str, new: str) -> LoggedIn | Refused:  # noqa: ARG002
        """Accept one password."""
        return _answer(token, accepted=password == RIGHT)

    async def enrol_totp(self, token: str, secret: str, code: str) -> tuple[LoggedIn, tuple[str, ...]]:
        """Refuse."""
        raise UsageError(f"The code {code[:6]!a} does not fit.", f"{token} has another secret than {secret[:4]!a}.")

    async def end_totp(self, token: str) -> LoggedIn:
        """Refuse."""
        raise UsageError(f"{token} has no codes.", "There are none to end.")

    def sessions(self, user: str | None = None) -> list[OpenSession]:  # noqa: ARG002
        """None that could be listed."""
        return []

    def last_logins(self) -> dict[str, datetime]:
        """None."""
        return {}

    def end_session(self, user: str, number: int) -> bool:  # noqa: ARG002
        """There is none of that number."""
        return False

    def locked_users(self) -> tuple[str, ...]:
        """Nobody is locked."""
        return ()


def _answer(token: str, *, accepted: bool) -> LoggedIn | Refused:
    return LoggedIn(token=token, csrf=CSRF) if accepted else Refused(sentence="Wrong.")
