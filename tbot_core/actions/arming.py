"""Arming live trading: what is to be armed, and what a running bot answered."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.actions.assembly import assert_no_rehearsal
from tbot_core.actions.control_requests import request
from tbot_core.actions.plugin_declarations import plugin_declarations
from tbot_core.contracts.settings.calendar import calendar_of
from tbot_core.engine.control import ControlVerb
from tbot_core.errors import JournalError, SettingsError
from tbot_core.instance import Instance, is_there, load_settings
from tbot_core.instance.control_folder import known_control_folder
from tbot_core.instance.report import format_share
from tbot_core.instance.secrets import account_mode
from tbot_core.instance.sources import find_instance
from tbot_core.instance.worst_day import planned_worst_day
from tbot_core.journal import integrity
from tbot_core.journal.projections.arming import next_sessions, recall_arming
from tbot_core.journal.projections.book import fold_events
from tbot_core.model.clock import SystemClock
from tbot_core.plugins import lock
from tbot_core.status.risk_state import read_control_folder
from tbot_core.status.runs import PAPER, RunFile, open_run_file
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from tbot_core.actions.control_requests import RequestResult
    from tbot_core.instance import Settings

_NOT_ARMED: Final = 5


@attrs.frozen(kw_only=True)
class ArmingSummary:
    """What is to be armed. `account` is "" until a live session has reported it; `plugins`: hash of their lock."""

    mode: str
    broker: str
    account: str
    sessions: tuple[date, ...]
    worst_day: str
    settings: str
    plugins: str

    def document(self) -> dict[str, Any]:
        """The subject as a JSON document."""
        return attrs.asdict(self) | {"sessions": [day.isoformat() for day in self.sessions]}

    @property
    def arguments(self) -> dict[str, str]:
        """The arguments of the request: how many sessions, and the terms that are shown."""
        terms = {"mode": self.mode, "account": self.account, "settings": self.settings, "plugins": self.plugins}
        return {"sessions": str(len(self.sessions))} | terms

    @property
    def line(self) -> str:
        """The subject as text."""
        account = f"account {self.account}" if self.account else "an account that has not traded live here yet"
        first, last = self.sessions[0], self.sessions[-1]
        days = f"the session of {first}" if first == last else f"the {len(self.sessions)} sessions {first} to {last}"
        return f"Arms {self.mode} trading at {self.broker}, {account}, for {days}; planned worst day {self.worst_day}."


def arm(home: Path | None, count: int, actor: str = "") -> tuple[ArmingSummary, RequestResult]:
    """Ask for live trading in this many sessions; returns the subject, and what a running bot answered.

    Raises UsageError with TBOT_REHEARSAL, and what `live_settings` raises.
    """
    assert_no_rehearsal("arm")
    subject = arming_summary(live_settings(home), SystemClock().now(), count)
    return subject, request("arm", home, subject.arguments, actor)


def disarm(home: Path | None, actor: str = "") -> RequestResult | None:
    """Ask to block live entries; returns what a running bot answered, None where nothing is armed and none is asked."""
    return None if trades_on_paper(home) else request("disarm", home, actor=actor)


def trades_on_paper(home: Path | None) -> bool:
    """Whether the last run was on paper, or none is recorded or running, and no arming waits in the control folder.

    Opens neither settings nor secrets. A journal that cannot be read counts as one of live trading.
    """
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
    return mode == "paper" or (not mode and instance.lock_holder is None)


def live_settings(home: Path | None) -> Settings:
    """The settings of an instance that trades live; raises SettingsError for any other instance."""
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
        plugins=lock.lock_fingerprint(settings.instance.home),
    )


def armed_with_other_plugins(home: Path | None) -> bool:
    """Whether live trading was armed, and the plugins that are approved now are others: then it is not armed any more.

    Raises JournalError for a journal that cannot be read.
    """
    instance = Instance.at(home)
    if not integrity.journal_exists(instance.journal):
        return False
    with open_run_file(RunFile(name=PAPER, path=instance.journal, changed=0.0)) as journal:
        armed = recall_arming(journal.events()).armed
    return armed is not None and armed.terms.plugins != lock.lock_fingerprint(instance.home)


def arming_sentence(answer: RequestResult) -> str:
    """The result of the request as a sentence."""
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


def arming_code(answer: RequestResult) -> int:
    """The exit code for an answer."""
    if answer.verb is ControlVerb.ARM and (answer.refused or (answer.taken and _unarmed(answer))):
        return _NOT_ARMED
    return 1 if answer.lost else 0


def _unarmed(answer: RequestResult) -> bool:
    return StateCause.NOT_ARMED.value in answer.causes
