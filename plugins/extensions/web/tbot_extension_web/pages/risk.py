"""Requests to the bot: what each will do is said before it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.actions import control_requests
from tbot_core.engine.control import ControlVerb
from tbot_extension_web.permissions import Permission

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

    from tbot_extension_web.call import Call


@attrs.frozen(kw_only=True)
class Act:
    """A request that a person can make: its button, what it does, and who may make it."""

    verb: ControlVerb
    label: str
    does: str
    permission: Permission
    stepped_up: bool = False
    undoes: bool = False

    @property
    def path(self) -> str:
        """Where its form is sent to."""
        return f"/risk/{self.verb.value}"


ACTS: Final = (
    Act(
        verb=ControlVerb.STOP,
        label="Stop",
        does="Blocks new entries. Open positions are managed to their exits, then the bot ends.",
        permission=Permission.RESTRICT,
    ),
    Act(
        verb=ControlVerb.STOP_CANCEL,
        label="Cancel the stop",
        does="The bot goes on as before the stop.",
        permission=Permission.CONTROL,
        undoes=True,
    ),
    Act(
        verb=ControlVerb.STOP_FLATTEN,
        label="Stop and flatten",
        does="Blocks new entries, closes every position at the market now, then the bot ends.",
        permission=Permission.CONTROL,
    ),
    Act(
        verb=ControlVerb.KILL,
        label="Kill",
        does="Blocks every entry at once and cancels working entry orders. Stops stay at the broker; time exits wait. "
        "It holds over a restart, until an admin clears it.",
        permission=Permission.RESTRICT,
    ),
    Act(
        verb=ControlVerb.KILL_FLATTEN,
        label="Kill and flatten",
        does="As the kill, and closes every position at the market now.",
        permission=Permission.CONTROL,
    ),
    Act(
        verb=ControlVerb.KILL_CLEAR,
        label="Clear the kill",
        does="Entries are possible again, where no other cause blocks them.",
        permission=Permission.CONTROL,
        stepped_up=True,
        undoes=True,
    ),
)
"""The requests in the order of the page."""


async def show(call: Call) -> Response:
    """The state with its causes, and the requests."""
    snapshot = await call.site.live.snapshot()
    return call.page("risk.html", status=snapshot.status, fault=snapshot.fault, acts=ACTS, results=())


def requests_of(acts: tuple[Act, ...] = ACTS) -> Mapping[str, Act]:
    """The requests by their path."""
    return {one.path: one for one in acts}


async def act(call: Call) -> Response:
    """Make the request, and say what the bot has recorded."""
    asked = requests_of()[call.request.url.path]
    answer = await control_requests.send_request(call.site.home, asked.verb, call.site.clock, actor=call.user.user)
    results = [sentence_of(answer), *control_requests.result_notes(answer)]
    snapshot = await call.site.live.snapshot()
    return call.page("risk.html", status=snapshot.status, fault=snapshot.fault, acts=ACTS, results=results)


def sentence_of(answer: control_requests.RequestResult) -> str:
    """The result of a request as the command line says it."""
    if answer.verb.value.startswith("kill"):
        return control_requests.kill_sentence(answer)
    return control_requests.stop_sentence(answer)
