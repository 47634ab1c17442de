"""What a person decides for a running bot: arming, reduced-risk mode, entries that need a confirmation.

Each is a request (`control_requests`); here is what is decided on, and what the bot answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.actions.assembly import assert_no_rehearsal
from tbot_core.actions.control_requests import PICKUP_TIMEOUT_S, RequestResult, request, send_request
from tbot_core.actions.plugin_declarations import plugin_declarations
from tbot_core.contracts.settings.trading import calendar_of
from tbot_core.engine.control import ControlRequest, ControlVerb
from tbot_core.errors import JournalError, RiskError, SettingsError, UsageError
from tbot_core.instance import Instance, Settings, has_settings, load_settings
from tbot_core.instance.control_folder import known_control_folder
from tbot_core.instance.report import format_share, planned_worst_day
from tbot_core.instance.secrets import account_mode
from tbot_core.instance.sources import find_instance
from tbot_core.journal import integrity
from tbot_core.journal.projections.approvals import (
    PendingConfirmations,
    next_sessions,
    recall_arming,
    recall_confirmations,
)
from tbot_core.journal.projections.book import fold_events
from tbot_core.model.clock import Clock, SystemClock, exchange_time
from tbot_core.model.formatting import format_price, format_quantity
from tbot_core.model.reasons import Reason
from tbot_core.model.types import RiskState
from tbot_core.plugins import lock
from tbot_core.status.instance import status_document
from tbot_core.status.risk_state import folder_warnings, read_control_folder
from tbot_core.status.runs import PAPER, RunFile, current_run, open_run_file
from tbot_core.trading.risk.states import KINDS, StateCause

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


_NOT_ARMED: Final = 5
_STILL_ON: Final = 5
_AGAIN_S: Final = 0.05
_REFUSED: Final = 5
_PRICES: Final = ("price", "stop", "target")


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


@attrs.frozen(kw_only=True)
class ConfirmationOutcome:
    """The result of an answer; `decision` is the decision in the journal, None until it is recorded."""

    answer: RequestResult
    entry: Mapping[str, Any]
    decision: Mapping[str, Any] | None

    def document(self) -> dict[str, Any]:
        """The result as a JSON document."""
        decision = None if self.decision is None else entry_document(self.decision)
        return self.answer.document() | {"asked": entry_document(self.entry), "decision": decision}

    @property
    def code(self) -> int:
        """The exit code: 0 done, 1 not accepted or not decided yet, 5 refused."""
        if self.decision is None:
            return 1
        done = "CONFIRMATION_REJECTED" if self.answer.verb.value == "reject" else "ALLOWED"
        return 0 if self.decision["reason"] == done else _REFUSED

    @property
    def sentence(self) -> str:
        """The outcome as a sentence."""
        what = entry_text(self.entry)
        if self.decision is None:
            if self.answer.process is None:
                until = exchange_time(datetime.fromisoformat(self.entry["expires"]))
                answer = "confirmation" if self.answer.verb is ControlVerb.CONFIRM else "rejection"
                return (
                    f"No bot is running. The {answer} is kept: a bot that starts before {until:%H:%M:%S} New York acts"
                    f" on it, later the entry expires: {what}."
                )
            return self.answer.lost or f"The answer was accepted and is not decided yet: {what}."
        reason = Reason[self.decision["reason"]]
        if reason is Reason.ALLOWED:
            return self._sent(self.decision)
        if reason is Reason.CONFIRMATION_REJECTED:
            return f"Rejected: {what}."
        sentence = reason.sentence_for([self.entry["signal"]["strategy"]])
        return f"Not sent: {what}. {reason.name}: {sentence}"

    def _sent(self, decision: Mapping[str, Any]) -> str:
        # What was sent may be less than what was asked for: entries that were confirmed before it count.
        asked, sizing = Decimal(self.entry["quantity"]), decision.get("sizing") or self.entry
        sent = entry_text({**self.entry, **decision, "quantity": sizing["quantity"]})
        found = f"Confirmed, checked again and sent: {sent}."
        if Decimal(sizing["quantity"]) == asked:
            return found
        return f"{found} {format_quantity(asked)} were asked for; {sizing['bound']} allows no more now."


def arm(home: Path | None, count: int, actor: str = "") -> tuple[ArmingSummary, RequestResult]:
    """Ask for live trading in this many sessions; returns the subject, and what a running bot answered.

    Raises UsageError with TBOT_REHEARSAL, and what `live_settings` raises.
    """
    assert_no_rehearsal("arm")
    subject = arming_summary(live_settings(home), SystemClock().now(), count)
    return subject, request("arm", home, subject.arguments, actor)


def disarm(home: Path | None, actor: str = "") -> RequestResult | None:
    """Ask to block live entries; returns what a running bot answered, None where nothing is armed and none is asked."""
    return None if _trades_on_paper(home) else request("disarm", home, actor=actor)


def _trades_on_paper(home: Path | None) -> bool:
    # Whether the last run was on paper, or none is recorded or running, and no arming waits in the control folder.
    # Opens neither settings nor secrets. A journal that cannot be read counts as one of live trading.
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
    if not has_settings(instance):
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


def defense_document(home: Path | None, now: datetime) -> dict[str, Any]:
    """The risk state, its causes, and the requests in the control folder."""
    shown = status_document(home, now)
    instance = known_control_folder(Instance.at(home))
    seen = read_control_folder(instance.control)
    requests = folder_warnings(seen, running=shown["running"], folder=instance.control_dir)
    lasting = [condition["lasting"] for condition in shown["conditions"] if condition["lasting"]]
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


def entry_document(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry, or its decision, as a JSON document: prices are strings."""
    prices = {name: entry[name] for name in _PRICES if entry.get(name) is not None}
    return {**entry, **{name: str(value) for name, value in prices.items()}}


def pending_entries(instance: Instance) -> PendingConfirmations:
    """The confirmations in the journal."""
    if (file := current_run(instance)) is None:
        return recall_confirmations(())
    with open_run_file(file) as journal:
        return recall_confirmations(journal.events())


def entry_with_id(known: PendingConfirmations, entry_id: str, now: datetime) -> Mapping[str, Any]:
    """The entry with that id; raises UsageError for an unknown id, RiskError if it is no longer pending."""
    remedy = "`tbot confirm` lists the entries."
    if entry_id not in known.entries:
        raise UsageError(f"No entry of this session has the ID {entry_id}.", remedy)
    entry = known.entries[entry_id]
    if entry_id in known.decided:
        reason = known.decided[entry_id]["reason"]
        raise RiskError(f"The entry {entry_id} is decided already: {entry_text(entry)}, {reason}.", remedy)
    if entry not in known.open_entries(now):
        raise RiskError(f"The entry {entry_id} expired at {entry['expires']}: {entry_text(entry)}.", remedy)
    return entry


def kept_answers(instance: Instance) -> dict[str, ControlRequest]:
    """The answers that lie waiting for a bot, by the id of their entry; of several the one that counts."""
    return read_control_folder(known_control_folder(instance).control).answers


async def send_answer(
    instance: Instance, verb: ControlVerb, entry: Mapping[str, Any], clock: Clock, actor: str = ""
) -> ConfirmationOutcome:
    """Send the answer of `actor`, and wait until a running bot has decided the entry.

    Raises RiskError if an answer that waits for a bot stands against it; a rejection takes back a confirmation.
    """
    earlier = kept_answers(instance).get(entry["id"])
    if earlier is not None and (earlier.verb is verb or verb is ControlVerb.CONFIRM):
        done = "confirmed" if earlier.verb is ControlVerb.CONFIRM else "rejected"
        message = f"The entry {entry['id']} was {done} by {earlier.actor} and waits for a bot: {entry_text(entry)}."
        raise RiskError(message, "`tbot confirm` lists the entries.")
    until = clock.monotonic() + PICKUP_TIMEOUT_S
    answer = await send_request(instance.home, verb, clock, {"id": entry["id"]}, actor)
    decision = pending_entries(instance).decided.get(entry["id"])
    while decision is None and answer.taken and clock.monotonic() < until:
        await clock.sleep(_AGAIN_S)
        decision = pending_entries(instance).decided.get(entry["id"])
    return ConfirmationOutcome(answer=answer, entry=entry, decision=decision)


def entry_text(entry: Mapping[str, Any]) -> str:
    """A pending entry as text."""
    signal = entry["signal"]
    shares, at = format_quantity(Decimal(entry["quantity"])), format_price(Decimal(str(entry["price"])))
    action = "BUY" if entry["side"] == "long" else "SELL SHORT"
    return f"[{signal['strategy'].upper()}] {action} {shares} {signal['symbol']} @ about {at}"


def _unarmed(answer: RequestResult) -> bool:
    return StateCause.NOT_ARMED.value in answer.causes


def _causes_text(causes: Sequence[str]) -> str:
    return f": {', '.join(causes)}" if causes else ""
