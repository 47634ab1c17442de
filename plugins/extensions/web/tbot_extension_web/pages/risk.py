"""Requests to the bot: what each will do is said before it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.actions import audit, control_requests, operator_requests
from tbot_core.engine.control import ControlVerb
from tbot_core.model.types import RiskState
from tbot_core.trading.risk.states import StateCause
from tbot_extension_web.access.permissions import REQUESTS
from tbot_extension_web.access.security_log import note_request
from tbot_extension_web.posts import Question
from tbot_extension_web.texts import profit, shares

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.responses import Response

    from tbot_core.actions.control_requests import RequestResult
    from tbot_extension_web.access.permissions import Permission
    from tbot_extension_web.call import Call


@attrs.frozen(kw_only=True)
class Act:
    """A request that a person can make: its button, and what it does.

    `sure`: the button of the question that comes first, "" without one. `closes`: whether it sells or buys back every
    position; `widens`: whether it allows more than before it; `to_a_bot`: whether it changes nothing while none runs.
    """

    verb: ControlVerb
    label: str
    does: str
    stepped_up: bool = False
    sure: str = ""
    closes: bool = False
    widens: bool = False
    to_a_bot: bool = False

    @property
    def permission(self) -> Permission:
        """What its user needs."""
        return REQUESTS[self.verb]

    @property
    def path(self) -> str:
        """Where its form is sent to."""
        return f"/risk/{self.verb.value}"


ACTS: Final = (
    Act(
        verb=ControlVerb.STOP,
        label="Stop",
        sure="Stop now",
        does="Blocks new entries. Open positions are managed to their exits, then the bot ends.",
        to_a_bot=True,
    ),
    Act(
        verb=ControlVerb.KILL,
        label="Kill",
        sure="Kill now",
        does="Blocks every entry at once and cancels working entry orders. Stops stay at the broker; time exits wait. "
        "It holds over a restart, until an admin clears it.",
    ),
    Act(
        verb=ControlVerb.DEFENSE_ON,
        label="Defense on",
        does="Smaller entries and tighter limits from now on. Open positions stay as they are.",
    ),
    Act(
        verb=ControlVerb.DISARM,
        label="Disarm",
        does="Blocks live entries. Open positions are managed to their exits. Paper trading needs no arming.",
    ),
    Act(
        verb=ControlVerb.STOP_FLATTEN,
        label="Stop and flatten",
        sure="Yes, close every position",
        does="Blocks new entries, closes every position at the market now, then the bot ends.",
        closes=True,
    ),
    Act(
        verb=ControlVerb.KILL_FLATTEN,
        label="Kill and flatten",
        sure="Yes, close every position",
        does="As the kill, and closes every position at the market now.",
        closes=True,
    ),
    Act(
        verb=ControlVerb.STOP_KEEP,
        label="Stop at once",
        sure="End the bot now",
        does="The bot ends now. Open positions keep their stops at the broker, and nothing manages them until the next "
        "start.",
        to_a_bot=True,
    ),
    Act(
        verb=ControlVerb.STOP_CANCEL,
        label="Cancel the stop",
        does="The bot goes on as before the stop.",
        widens=True,
    ),
    Act(
        verb=ControlVerb.KILL_CLEAR,
        label="Clear the kill",
        does="Entries are possible again, where no other cause blocks them.",
        stepped_up=True,
        widens=True,
    ),
    Act(
        verb=ControlVerb.DEFENSE_OFF,
        label="Defense off",
        does="The usual limits hold again, where no other cause keeps defense on.",
        widens=True,
    ),
    Act(
        verb=ControlVerb.ARM,
        label="Arm",
        does="Allows live entries for the session, or for as many as you choose, up to five. A loss latch and a change "
        "of settings, plugins, mode or account end it.",
        stepped_up=True,
        widens=True,
    ),
    Act(
        verb=ControlVerb.ACCEPT_JOURNAL,
        label="Accept the journal",
        sure="Trade on with this journal",
        does="The journal is older than the audit log says: a kill, a stop or a disarm that came later may be lost. "
        "Entries are possible again, where no other cause blocks them. Live trading needs a new arming.",
        stepped_up=True,
        widens=True,
    ),
)
"""The requests in the order of the page: what restricts first, then what closes, then what allows."""

_BY_PATH: Final = {one.path: one for one in ACTS}


_WITHDRAWN: Final = {
    ControlVerb.STOP_CANCEL: ("stop", {StateCause.STOP_COMMAND, StateCause.STOP_SIGNAL, StateCause.STOP_FILE}),
    ControlVerb.KILL_CLEAR: ("kill", {StateCause.KILL_COMMAND, StateCause.KILL_SIGNAL, StateCause.KILL_FILE}),
    ControlVerb.DEFENSE_OFF: ("defense-on", {StateCause.DEFENSE_COMMAND}),
    ControlVerb.ACCEPT_JOURNAL: ("accept", {StateCause.JOURNAL_OLDER}),
}


_MADE: Final = {ControlVerb.KILL: StateCause.KILL_COMMAND, ControlVerb.DEFENSE_ON: StateCause.DEFENSE_COMMAND}
"""Requests that stay in force until they are withdrawn, with the cause that says so."""

_ENDED_BY: Final = {ControlVerb.KILL: ControlVerb.KILL_CLEAR, ControlVerb.DEFENSE_ON: ControlVerb.DEFENSE_OFF}


def offered(asked: Act, status: Mapping[str, Any]) -> bool:
    """Whether the request has an effect now: something to end, close or withdraw. Each has while nothing is known."""
    if not status:
        return True
    if asked.to_a_bot:
        return bool(status["running"])
    if asked.closes:
        unknown = not set(control_requests.SILENT).isdisjoint(status["causes"])
        return bool(status["positions"] or status["orders"]) or unknown
    if asked.verb in _MADE:
        # While nothing is entered at all, there is nothing that defense makes smaller.
        idle = asked.verb is ControlVerb.DEFENSE_ON and status["state"] == RiskState.HALTED.word
        waits = _waits(status["requests"]["waiting"], asked.verb.value, _ENDED_BY[asked.verb])
        return not (idle or waits) and _MADE[asked.verb].value not in status["causes"]
    if asked.verb not in _WITHDRAWN:
        return True
    name, causes = _WITHDRAWN[asked.verb]
    requests = status["requests"]
    waiting = _waits(requests["waiting"], name, asked.verb, there=bool(requests.get(name)))  # with the file
    return waiting or not {str(cause) for cause in causes}.isdisjoint(status["causes"])


def _waits(verbs: Iterable[str], name: str, ended_by: ControlVerb, *, there: bool = False) -> bool:
    # Whether a request whose verb begins so waits for the bot, and none after it that ends it.
    for verb in verbs:
        there = verb != ended_by.value and (there or verb.startswith(name))
    return there


async def show(call: Call) -> Response:
    """The state with its causes, and the requests."""
    return call.page("risk.html", **await _shown(call))


async def state(call: Call) -> Response:
    """The state as a part of an open page, which reads it again; with the requests, where others are offered now."""
    values = await _shown(call)
    if call.request.query_params.get("shown") == values["shown"]:
        return call.page("parts/risk_state.html", **values)
    answer = call.page("parts/risk.html", **values)
    answer.headers.update({"HX-Retarget": "#risk", "HX-Reswap": "outerHTML"})
    return answer


async def _shown(call: Call) -> dict[str, Any]:
    # The state, the requests that are offered, and their names, by which an open page knows that it has these.
    snapshot = await call.site.live.snapshot()
    acts = [one for one in ACTS if offered(one, snapshot.status)]
    names = ".".join(one.verb.value for one in acts)
    return {"status": snapshot.status, "fault": snapshot.fault, "acts": acts, "shown": names}


async def question(call: Call) -> Question:
    """What the request does, and what is open now."""
    asked, status = _BY_PATH[call.request.url.path], (await call.site.live.snapshot()).status
    held = [
        f"{shares(position['quantity'])} {position['symbol']} ({profit(position['pnl'])})"
        for position in status.get("positions", ())
    ]
    facts = [f"Open now: {', '.join(held) or 'no position'}."]
    if asked.verb is ControlVerb.ACCEPT_JOURNAL:
        facts += await call.work(audit.lost_events, call.site.home)
    elif not status.get("running"):
        facts.append("No bot is running: the request takes effect at the next start.")
    return Question(title=f"{asked.label}?", text=asked.does, button=asked.sure, back="/risk", facts=tuple(facts))


async def act(call: Call) -> Response:
    """Make the request, and say what the bot has recorded."""
    asked = _BY_PATH[call.request.url.path]
    said = await _made(call, asked)
    await call.work(note_request, call.site.logins.security, call.user.user, asked.verb.value)
    return call.to("/risk", *said)


async def _made(call: Call, asked: Act) -> list[str]:
    # The sentences of the command line about the request.
    actor = call.actor
    if asked.verb is ControlVerb.ARM:
        summary, armed = await call.work(operator_requests.arm, call.site.home, _sessions(call), actor)
        return [summary.line, operator_requests.arming_sentence(armed)]
    if asked.verb is ControlVerb.DISARM:
        disarmed = await call.work(operator_requests.disarm, call.site.home, actor)
        return [_NOTHING_ARMED if disarmed is None else operator_requests.arming_sentence(disarmed)]
    if asked.verb is ControlVerb.ACCEPT_JOURNAL:
        return [*audit.acceptance_lines(await call.work(audit.accept_chain, call.site.home, actor))]
    answer = await control_requests.send_request(call.site.home, asked.verb, call.site.clock, actor=actor)
    return [_sentence(answer), *control_requests.result_notes(answer)]


_NOTHING_ARMED: Final = "Nothing is armed: paper trading needs no arming. No request was sent."


def _sessions(call: Call) -> int:
    # How many sessions a form arms; what is no number from 1 to 5 is one.
    text = call.form.get("sessions", "1")
    return int(text) if text in {"1", "2", "3", "4", "5"} else 1


def _sentence(answer: RequestResult) -> str:
    if answer.verb.value.startswith("kill"):
        return control_requests.kill_sentence(answer)
    if answer.verb.value.startswith("defense"):
        return operator_requests.defense_sentence(answer)
    return control_requests.stop_sentence(answer)
