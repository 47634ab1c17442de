"""`tbot defense`: switch reduced-risk mode on and off by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from tbot_core.cli.options import emit, home_option, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tbot_core.actions.control_requests import RequestResult

_STILL_ON: Final = 5


@click.group("defense")
def command() -> None:
    """Reduced-risk mode: on, off, status. It uses DEFENSE_MODE_TRADE_LIMIT_PCT and DEFENSE_MODE_TOTAL_ALLOCATION."""


@command.command("on")
@home_option
@json_option
def on(*, home: Path | None, as_json: bool) -> int:
    """Switch defense on, until `tbot defense off`."""
    return _send("defense-on", home, as_json=as_json)


@command.command("off")
@home_option
@json_option
def off(*, home: Path | None, as_json: bool) -> int:
    """Switch defense off. Exits with 5 while another cause keeps it on; the cause is named."""
    return _send("defense-off", home, as_json=as_json)


@command.command("status", short_help="Show the risk state, its causes and requests.")
@home_option
@json_option
def status(*, home: Path | None, as_json: bool) -> int:
    """Show the risk state, its causes, and the requests in the control folder."""
    from tbot_core.instance import Instance
    from tbot_core.instance.control_folder import known_control_folder
    from tbot_core.model.clock import SystemClock
    from tbot_core.status.instance import status_document
    from tbot_core.status.risk_state import folder_warnings, read_control_folder

    shown = status_document(home, SystemClock().now())
    instance = known_control_folder(Instance.at(home))
    seen = read_control_folder(instance.control)
    requests = folder_warnings(seen, running=shown["running"], folder=instance.control_dir)
    line = f"The state is {shown['state']}{_causes_text(shown['causes'])}."
    document = {"state": shown["state"], "causes": shown["causes"], "requests": requests}
    emit(document, as_json=as_json, lines=[line, *requests])
    return 0


def sentence(answer: RequestResult) -> str:
    """The result of the request as a sentence."""
    from tbot_core.engine.control import ControlVerb

    switched_on = answer.verb is ControlVerb.DEFENSE_ON
    if answer.lost:
        return answer.lost
    if answer.process is None:
        what = "defense is on" if switched_on else "`tbot defense on` is cleared"
        return f"No bot is running; {what} from the next start."
    if switched_on or answer.state == "normal":
        return f"The state is {answer.state}{_causes_text(answer.causes)}."
    return f"`tbot defense on` is cleared, but the state stays {answer.state}{_causes_text(answer.causes)}."


def _send(verb: str, home: Path | None, *, as_json: bool) -> int:
    from tbot_core.actions.control_requests import request, result_notes
    from tbot_core.engine.control import ControlVerb

    answer = request(verb, home)
    emit(answer.document(), as_json=as_json, lines=[sentence(answer), *result_notes(answer)])
    if answer.lost:
        return 1
    return _STILL_ON if answer.verb is ControlVerb.DEFENSE_OFF and answer.taken and keeps_defense(answer.causes) else 0


def keeps_defense(causes: tuple[str, ...]) -> bool:
    """Whether one of the causes keeps the bot in defense, also if there are more severe ones."""
    from tbot_core.model.types import RiskState
    from tbot_core.trading.risk.states import KINDS

    return any(cause.value in causes for cause, kind in KINDS.items() if kind.state is RiskState.DEFENSE)


def _causes_text(causes: Sequence[str]) -> str:
    return f": {', '.join(causes)}" if causes else ""
