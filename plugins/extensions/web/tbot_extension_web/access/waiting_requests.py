"""Requests to the bot that wait in the control folder: refused once their user is removed, or may not make them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.actions.control_requests import refuse_waiting
from tbot_core.engine.control import ControlRequest, ControlVerb
from tbot_core.errors import TbotError
from tbot_core.model.clock import exchange_time
from tbot_core.system import log
from tbot_core.vault.categories import CONTROL
from tbot_extension_web.access.credentials import Role
from tbot_extension_web.access.permissions import REQUESTS, allows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_extension_web.access.security_log import SecurityLog

ACTOR: Final = "web/"
"""How the names of the page's users begin in requests."""

KEPT: Final = frozenset({ControlVerb.KILL})
"""What stays, even if its user is removed: it only blocks entries, and a bot must not trade because a user left."""

_log = log.logger(__name__)


class WaitingRequests:
    """Refuses the requests of users who may no longer make them, with a line in the security log for each."""

    def __init__(self, security: SecurityLog, *, with_roles: bool) -> None:
        self._security = security
        self._with_roles = with_roles
        self._judged: object = None

    def judge(self, revision: object, roles: Mapping[str, Role], actor: str) -> None:
        """Refuse what the users with these roles may not ask for; once for each revision of the accounts.

        `actor` changed the accounts, "" where that is not known. Without a line nothing is refused: it is tried again.
        """
        if revision == self._judged:
            return
        try:
            refuse_waiting(
                self._security.vault.instance.home,
                lambda one: self._fault(one, roles),
                lambda one, why: self._security.record("deny", actor, _words(one, why), category=CONTROL),
            )
        except TbotError as fault:
            _log.error("web.requests_not_judged", reason=fault.message)
        else:
            self._judged = revision

    def _fault(self, request: ControlRequest, roles: Mapping[str, Role]) -> str:
        # Why the request is refused; "" if it stays, as one of the command line does.
        if not request.actor.startswith(ACTOR) or request.verb in KEPT:
            return ""
        user = request.actor.removeprefix(ACTOR)
        if user not in roles:
            return "the user was removed"
        role = roles[user] if self._with_roles else Role.ADMIN
        return "" if allows(role, REQUESTS[request.verb]) else f"the user is now {role}"


def _words(request: ControlRequest, why: str) -> str:
    made = exchange_time(request.made)
    return f"refused {request.verb.value} of {request.actor}, made {made:%Y-%m-%d %H:%M:%S} in New York: {why}"
