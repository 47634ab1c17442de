"""Sessions that are given: the token is the role's name."""

from __future__ import annotations

import attrs

from tbot_extension_web.access.credentials import Role
from tbot_extension_web.access.logins import LoggedIn, Refused, Session

CSRF = "the-token-of-forms"
STEPPED_UP = "admin-stepped-up"
RIGHT = "right"
"""The password of everybody."""


@attrs.define
class GivenSessions:
    """Knows a session for each role, and one of an admin who entered the password again."""

    ended: list[str] = attrs.field(factory=list)

    def session(self, token: str, *, active: bool = True) -> Session | None:  # noqa: ARG002  -- as the real one
        """The session that the token names."""
        if token in self.ended or token not in {*Role, STEPPED_UP}:
            return None
        role = Role.ADMIN if token == STEPPED_UP else Role(token)
        return Session(id=1, user=f"a-{role.value}", role=role, csrf=CSRF, stepped_up=token == STEPPED_UP)

    async def log_in(self, name: str, password: str, code: str, source: str, agent: str) -> LoggedIn | Refused:  # noqa: ARG002
        """Accept one password."""
        return _answer("viewer", accepted=password == RIGHT)

    async def log_out(self, token: str) -> None:
        """End the session."""
        self.ended.append(token)

    async def step_up(self, token: str, password: str, code: str) -> LoggedIn | Refused:  # noqa: ARG002
        """Accept one password."""
        return _answer(STEPPED_UP, accepted=password == RIGHT)


def _answer(token: str, *, accepted: bool) -> LoggedIn | Refused:
    return LoggedIn(token=token, csrf=CSRF) if accepted else Refused(sentence="Wrong.")
