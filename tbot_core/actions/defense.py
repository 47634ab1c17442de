"""Reduced-risk mode: what is known of it, and what a running bot answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tbot_core.engine.control import ControlVerb
from tbot_core.instance import Instance
from tbot_core.instance.control_folder import known_control_folder
from tbot_core.model.types import RiskState
from tbot_core.status.instance import status_document
from tbot_core.status.risk_state import folder_warnings, read_control_folder
from tbot_core.trading.risk.states import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from tbot_core.actions.control_requests import RequestResult

_STILL_ON: Final = 5


def defense_document(home: Path | None, now: datetime) -> dict[str, Any]:
    """The risk state, its causes, and the requests in the control folder."""
    shown = status_document(home, now)
    instance = known_control_folder(Instance.at(home))
    seen = read_control_folder(instance.control)
    requests = folder_warnings(seen, running=shown["running"], folder=instance.control_dir)
    lasting = [one["lasting"] for one in shown["conditions"] if one["lasting"]]
    return {"state": shown["state"], "causes": shown["causes"], "lasting": lasting, "requests": requests}


def state_sentence(document: Mapping[str, Any]) -> str:
    """The state of a `defense_document` in sentences, with until when it goes on where that is known."""
    return " ".join(
        f"{words}."
        for words in (
            f"The state is {document['state']}{_causes_text(document['causes'])}",
            *(f"{one[:1].upper()}{one[1:]}" for one in document["lasting"]),
        )
    )


def defense_sentence(answer: RequestResult) -> str:
    """The result of the request as a sentence."""
    switched_on = answer.verb is ControlVerb.DEFENSE_ON
    if answer.lost:
        return answer.lost
    if answer.process is None:
        what = "defense is on" if switched_on else "`tbot defense on` is cleared"
        return f"No bot is running; {what} from the next start."
    if switched_on or answer.state == "normal":
        return f"The state is {answer.state}{_causes_text(answer.causes)}."
    return f"`tbot defense on` is cleared, but the state stays {answer.state}{_causes_text(answer.causes)}."


def defense_code(answer: RequestResult) -> int:
    """The exit code for an answer: 5 where another cause keeps defense on, 1 for a lost request."""
    if answer.lost:
        return 1
    return _STILL_ON if answer.verb is ControlVerb.DEFENSE_OFF and answer.taken and keeps_defense(answer.causes) else 0


def keeps_defense(causes: tuple[str, ...]) -> bool:
    """Whether one of the causes keeps the bot in defense, also if there are more severe ones."""
    return any(cause.value in causes for cause, kind in KINDS.items() if kind.state is RiskState.DEFENSE)


def _causes_text(causes: Sequence[str]) -> str:
    return f": {', '.join(causes)}" if causes else ""
