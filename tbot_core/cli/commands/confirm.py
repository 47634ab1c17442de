"""`tbot confirm`: confirm or reject an entry that needs a confirmation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tbot_core.cli.options import emit, home_option, json_option
from tbot_core.instance.sources import find_instance
from tbot_core.status.runs import bot_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


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

    from tbot_core.actions.confirmations import (
        entry_document,
        entry_with_id,
        kept_answers,
        pending_entries,
        send_answer,
    )
    from tbot_core.engine.control import ControlVerb
    from tbot_core.errors import UsageError
    from tbot_core.model.clock import SystemClock

    clock = SystemClock()
    instance = find_instance(home)
    if entry_id is None:
        if reject:
            raise UsageError("--reject needs the ID of an entry.", "`tbot confirm` lists the entries.")
        shown = pending_entries(instance).open_entries(bot_time(instance, clock.now()))
        answers = {name: f"{one.verb.value} by {one.actor}" for name, one in kept_answers(instance).items()}
        waiting = [entry_document(one) | {"answer": answers.get(one["id"])} for one in shown]
        emit({"waiting": waiting}, as_json=as_json, lines=lines(shown, answers))
        return 0
    entry = entry_with_id(pending_entries(instance), entry_id, bot_time(instance, clock.now()))
    outcome = asyncio.run(send_answer(instance, ControlVerb.REJECT if reject else ControlVerb.CONFIRM, entry, clock))
    emit(outcome.document(), as_json=as_json, lines=[outcome.sentence])
    return outcome.code


def lines(shown: Sequence[Mapping[str, Any]], answers: Mapping[str, str]) -> Iterator[str]:
    """The pending entries as text, with the answers that wait for a bot by the id of their entry."""
    from datetime import datetime

    from tbot_core.actions.confirmations import entry_text
    from tbot_core.model.clock import both_times

    if not shown:
        yield "No entry needs a confirmation."
    for one in shown:
        kept = f"; {answers[one['id']]}, waits for a bot" if one["id"] in answers else ""
        yield f"{one['id']:8} {entry_text(one)}, until {both_times(datetime.fromisoformat(one['expires']))}{kept}"
