"""Entries that need a confirmation: list them, and confirm or reject one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.actions.control_requests import PICKUP_TIMEOUT_S, RequestResult, send_request
from tbot_core.engine.control import ControlVerb
from tbot_core.errors import RiskError, UsageError
from tbot_core.instance.control_folder import known_control_folder
from tbot_core.journal.projections.confirmations import recall_confirmations
from tbot_core.model.clock import exchange_time
from tbot_core.model.formatting import format_price, format_quantity
from tbot_core.model.reasons import Reason
from tbot_core.status.risk_state import read_control_folder
from tbot_core.status.runs import current_run, open_run_file

if TYPE_CHECKING:
    from tbot_core.engine.control import ControlRequest
    from tbot_core.instance import Instance
    from tbot_core.journal.projections.confirmations import PendingConfirmations
    from tbot_core.model.clock import Clock

_AGAIN_S: Final = 0.05
_REFUSED: Final = 5
_PRICES: Final = ("price", "stop", "target")


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
