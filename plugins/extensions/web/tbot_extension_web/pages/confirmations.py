"""Entries that wait for a confirmation: approve or reject one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.actions.operator_requests import entry_with_id, pending_entries, send_answer
from tbot_core.engine.control import ControlVerb
from tbot_core.instance import Instance
from tbot_core.status.confirmations import confirmations_document
from tbot_core.status.runs import bot_time
from tbot_extension_web.access.security_log import note_request

if TYPE_CHECKING:
    from starlette.responses import Response

    from tbot_extension_web.call import Call


async def show(call: Call) -> Response:
    """The entries that wait, and what was decided today."""
    document = await call.work(confirmations_document, call.site.home, call.site.clock.now())
    return call.page("confirmations.html", confirmations=document)


async def waiting(call: Call) -> Response:
    """The entries that wait, as a part of the page."""
    document = await call.work(confirmations_document, call.site.home, call.site.clock.now())
    return call.page("parts/confirmations.html", confirmations=document)


async def approve(call: Call) -> Response:
    """Approve an entry: it is priced and checked again, then sent."""
    return await _answered(call, ControlVerb.CONFIRM)


async def reject(call: Call) -> Response:
    """Reject an entry."""
    return await _answered(call, ControlVerb.REJECT)


async def _answered(call: Call, verb: ControlVerb) -> Response:
    instance = Instance.at(call.site.home)
    known = await call.work(pending_entries, instance)
    entry = entry_with_id(known, call.form.get("id", ""), bot_time(instance, call.site.clock.now()))
    outcome = await send_answer(instance, verb, entry, call.site.clock, call.actor)
    words = f"{verb.value} {entry['id']}, {entry['quantity']} {entry['signal']['symbol']}"
    await call.work(note_request, call.site.logins.security, call.user.user, words)
    return call.to("/confirmations", outcome.sentence)
