"""`tbot arm`: arm live trading."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from tbot_core.cli.options import BoundedInt, emit, home_option, json_option
from tbot_core.instance.secrets import account_mode

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from tbot_core.actions.control_requests import RequestResult
    from tbot_core.instance import Settings

_NOT_ARMED: Final = 5


@attrs.frozen(kw_only=True)
class ArmingSummary:
    """What is to be armed. `account` is "" until a live session has reported it."""

    mode: str
    broker: str
    account: str
    sessions: tuple[date, ...]
    worst_day: str
    settings: str

    def document(self) -> dict[str, Any]:
        """The subject as a JSON document."""
        return attrs.asdict(self) | {"sessions": [day.isoformat() for day in self.sessions]}

    @property
    def line(self) -> str:
        """The subject as text."""
        account = f"account {self.account}" if self.account else "an account that has not traded live here yet"
        first, last = self.sessions[0], self.sessions[-1]
        days = f"the session of {first}" if first == last else f"the {len(self.sessions)} sessions {first} to {last}"
        return f"Arms {self.mode} trading at {self.broker}, {account}, for {days}; planned worst day {self.worst_day}."


@click.command("arm")
@click.option(
    "--sessions", "count", type=BoundedInt(1, 5), default=1, metavar="N", help="Number of sessions. Default: 1."
)
@home_option
@json_option
def command(*, count: int, home: Path | None, as_json: bool) -> int:
    """Arm live trading to the end of the session, or for N sessions, without a question.

    Exits with 5 if a running bot is not armed afterwards; without one the next start is armed. A loss latch, `tbot
    disarm`, and a change of settings, plugins, mode or account end it.
    """
    from tbot_core.actions.assembly import assert_no_rehearsal
    from tbot_core.actions.control_requests import request
    from tbot_core.model.clock import SystemClock

    assert_no_rehearsal("arm")
    subject = arming_summary(live_settings(home), SystemClock().now(), count)
    arguments = {"sessions": str(count), "settings": subject.settings}
    answer = request("arm", home, arguments)
    document = answer.document() | {"subject": subject.document()}
    emit(document, as_json=as_json, lines=[subject.line, sentence(answer)])
    return exit_code(answer)


@click.command("disarm")
@home_option
@json_option
def disarm(*, home: Path | None, as_json: bool) -> int:
    """Disarm: block live entries. Open positions are managed to their exits. No settings or secrets are opened.

    Where only paper trading is recorded and no arming waits, it does nothing.
    """
    from tbot_core.actions.control_requests import RequestResult, request
    from tbot_core.engine.control import ControlVerb

    if trades_on_paper(home):
        document = RequestResult(verb=ControlVerb.DISARM, process=None).document()
        emit(document, as_json=as_json, lines=["Nothing is armed: paper trading needs no arming. No request was sent."])
        return 0
    answer = request("disarm", home)
    emit(answer.document(), as_json=as_json, lines=[sentence(answer)])
    return exit_code(answer)


def trades_on_paper(home: Path | None) -> bool:
    """Whether the last run was on paper, or none is recorded or running, and no arming waits in the control folder.

    Opens neither settings nor secrets. A journal that cannot be read counts as one of live trading.
    """
    from tbot_core.engine.control import ControlVerb
    from tbot_core.errors import JournalError
    from tbot_core.instance.control_folder import known_control_folder
    from tbot_core.journal import integrity
    from tbot_core.journal.projections.book import fold_events
    from tbot_core.status.risk_state import read_control_folder
    from tbot_core.status.runs import PAPER, RunFile, find_instance, open_run_file
    from tbot_core.system import filesystem

    instance, mode = find_instance(home), ""
    if any(
        request.verb is ControlVerb.ARM
        for request in read_control_folder(known_control_folder(instance).control).requests
    ):
        return False
    try:
        if integrity.journal_exists(instance.journal):
            with open_run_file(RunFile(name=PAPER, path=instance.journal, changed=0.0)) as journal:
                mode = fold_events(journal.events()).run.get("mode", "")
    except JournalError:
        return False
    return mode == "paper" or (not mode and filesystem.lock_holder(instance.lock) is None)


def live_settings(home: Path | None) -> Settings:
    """The settings of an instance that trades live; raises SettingsError for any other instance."""
    from tbot_core.actions.plugin_declarations import plugin_declarations
    from tbot_core.errors import SettingsError
    from tbot_core.instance import Instance, is_there, load_settings

    instance = Instance.at(home)
    if not is_there(instance):
        raise SettingsError(f"{instance.home} is not an instance.", "Give its folder with --home.")
    settings = load_settings(home, mode="replay")
    if account_mode(settings) != "live":
        raise SettingsError(
            f"{instance.home} trades on paper ({settings.trading.broker_name}); paper trading needs no arming.",
            "Live trading needs a live broker in BROKER_NAME, and mode=live in its section: `tbot secrets edit "
            "broker`.",
        )
    return load_settings(home, mode="live", declared=plugin_declarations(home).declared)


def arming_summary(settings: Settings, now: datetime, count: int) -> ArmingSummary:
    """The subject of an arming request for this many sessions."""
    from tbot_core.contracts.settings.calendar import calendar_of
    from tbot_core.instance.report import format_share
    from tbot_core.instance.worst_day import planned_worst_day
    from tbot_core.journal import integrity
    from tbot_core.journal.projections.arming import next_sessions, recall_arming
    from tbot_core.status.runs import PAPER, RunFile, open_run_file

    terms = None
    if integrity.journal_exists(settings.instance.journal):
        with open_run_file(RunFile(name=PAPER, path=settings.instance.journal, changed=0.0)) as journal:
            terms = recall_arming(journal.events()).terms
    calendar = calendar_of(settings.trading)
    return ArmingSummary(
        mode="live",
        broker=settings.trading.broker_name,
        account="" if terms is None else terms.account,
        sessions=next_sessions(calendar, now, count),
        worst_day=f"{format_share(planned_worst_day(settings).worst_day)} of equity",
        settings=settings.fingerprint,
    )


def sentence(answer: RequestResult) -> str:
    """The result of the request as a sentence."""
    from tbot_core.engine.control import ControlVerb

    arming = answer.verb is ControlVerb.ARM
    if answer.lost:
        return answer.lost
    if answer.process is None:
        return f"No bot is running; it is {('armed' if arming else 'disarmed')} at the next start."
    if answer.waits:
        return f"No session is under way; the next one begins {('armed' if arming else 'disarmed')}."
    because = f"the state is {answer.state}{': ' if answer.causes else ''}{', '.join(answer.causes)}"
    if arming:
        return (
            f"The request was accepted, but the bot is not armed yet: {because}."
            if _unarmed(answer)
            else f"Armed; {because}."
        )
    return f"Disarmed; {because}." if _unarmed(answer) else f"Nothing needs arming here; {because}."


def exit_code(answer: RequestResult) -> int:
    """The exit code for an answer."""
    from tbot_core.engine.control import ControlVerb

    if answer.verb is ControlVerb.ARM and (answer.refused or (answer.taken and _unarmed(answer))):
        return _NOT_ARMED
    return 1 if answer.lost else 0


def _unarmed(answer: RequestResult) -> bool:
    from tbot_core.trading.risk.states import StateCause

    return StateCause.NOT_ARMED.value in answer.causes
