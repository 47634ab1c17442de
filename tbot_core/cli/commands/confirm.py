"""`tbot confirm`: confirm or reject an entry that needs a confirmation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from tbot_core.cli.options import emit, home_option, json_option
from tbot_core.status.runs import find_instance

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from tbot_core.engine.control import ControlVerb
    from tbot_core.instance import Instance
    from tbot_core.journal.projections.confirmations import PendingConfirmations
    from tbot_core.model.clock import Clock

from tbot_core.actions.control_requests import RequestResult

_AGAIN_S: Final = 0.05
_REFUSED: Final = 5
_PRICES: Final = ("price", "stop", "target")


@attrs.frozen(kw_only=True)
class ConfirmationOutcome:
    """The result of an answer; `decision` is the decision in the journal, None until it is recorded."""

    answer: RequestResult
    entry: Mapping[str, Any]
    decision: Mapping[str, Any] | None

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
        from tbot_core.model.reasons import Reason

        what = entry_text(self.entry)
        if self.decision is None:
            if self.answer.process is None:
                return f"No bot is running, so the answer has no effect; the entry expires: {what}."
            return self.answer.lost or f"The answer was accepted and is not decided yet: {what}."
        reason = Reason[self.decision["reason"]]
        if reason is Reason.ALLOWED:
            return f"Confirmed, checked again and sent: {what}."
        if reason is Reason.CONFIRMATION_REJECTED:
            return f"Rejected: {what}."
        sentence = reason.sentence_for([self.entry["signal"]["strategy"]])
        return f"Not sent: {what}. {reason.name}: {sentence}"


@click.command("confirm")
@click.argument("entry_id", metavar="[ID]", required=False)
@click.option("--reject", is_flag=True, help="Reject the entry.")
@home_option
@json_option
def command(*, entry_id: str | None, reject: bool, home: Path | None, as_json: bool) -> int:
    """List the entries that need a confirmation, or confirm the entry ID; it is priced and checked again.

    Exits with 5 if the entry has expired, is decided already, or is denied by the second check.
    """
    import asyncio

    from tbot_core.engine.control import ControlVerb
    from tbot_core.errors import UsageError
    from tbot_core.model.clock import SystemClock

    clock = SystemClock()
    instance = find_instance(home)
    if entry_id is None:
        if reject:
            raise UsageError("--reject needs the ID of an entry.", "`tbot confirm` lists the entries.")
        shown = pending_entries(instance).open_entries(clock.now())
        emit({"waiting": [_payload_document(one) for one in shown]}, as_json=as_json, lines=lines(shown))
        return 0
    entry = entry_with_id(pending_entries(instance), entry_id, clock.now())
    outcome = asyncio.run(send_answer(instance, ControlVerb.REJECT if reject else ControlVerb.CONFIRM, entry, clock))
    decision = None if outcome.decision is None else _payload_document(outcome.decision)
    document = outcome.answer.document() | {"asked": _payload_document(outcome.entry), "decision": decision}
    emit(document, as_json=as_json, lines=[outcome.sentence])
    return outcome.code


def _payload_document(payload: Mapping[str, Any]) -> dict[str, Any]:
    # The payload as a JSON document: prices are strings.
    prices = {name: payload[name] for name in _PRICES if payload.get(name) is not None}
    return {**payload, **{name: str(value) for name, value in prices.items()}}


def pending_entries(instance: Instance) -> PendingConfirmations:
    """The confirmations in the journal."""
    from tbot_core.journal.projections.confirmations import recall_confirmations
    from tbot_core.status.runs import current_run, open_run_file

    if (file := current_run(instance)) is None:
        return recall_confirmations(())
    with open_run_file(file) as journal:
        return recall_confirmations(journal.events())


def entry_with_id(known: PendingConfirmations, entry_id: str, now: datetime) -> Mapping[str, Any]:
    """The entry with that id; raises UsageError for an unknown id, RiskError if it is no longer pending."""
    from tbot_core.errors import RiskError, UsageError

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


async def send_answer(
    instance: Instance, verb: ControlVerb, entry: Mapping[str, Any], clock: Clock
) -> ConfirmationOutcome:
    """Send the answer, and wait until a running bot has decided the entry."""
    from tbot_core.actions.control_requests import PICKUP_TIMEOUT_S, send_request

    until = clock.monotonic() + PICKUP_TIMEOUT_S
    answer = await send_request(instance.home, verb, clock, arguments={"id": entry["id"]})
    decision = pending_entries(instance).decided.get(entry["id"])
    while decision is None and answer.taken and clock.monotonic() < until:
        await clock.sleep(_AGAIN_S)
        decision = pending_entries(instance).decided.get(entry["id"])
    return ConfirmationOutcome(answer=answer, entry=entry, decision=decision)


def entry_text(entry: Mapping[str, Any]) -> str:
    """A pending entry as text."""
    from decimal import Decimal

    from tbot_core.model.formatting import format_price, format_quantity

    signal = entry["signal"]
    shares, at = format_quantity(Decimal(entry["quantity"])), format_price(Decimal(str(entry["price"])))
    action = "BUY" if entry["side"] == "long" else "SELL SHORT"
    return f"[{signal['strategy'].upper()}] {action} {shares} {signal['symbol']} @ about {at}"


def lines(shown: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The pending entries as text."""
    from datetime import datetime

    from tbot_core.model.clock import both_times

    if not shown:
        yield "No entry needs a confirmation."
    for one in shown:
        yield f"{one['id']:8} {entry_text(one)}, until {both_times(datetime.fromisoformat(one['expires']))}"
