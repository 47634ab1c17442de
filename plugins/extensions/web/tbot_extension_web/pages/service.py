"""The bot on the dashboard: what keeps it running, its last output, and what starts and stops it."""

from __future__ import annotations

import asyncio
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from tbot_core.actions.service import service_status, start_service, stop_service
from tbot_core.engine.control import ControlVerb
from tbot_core.errors import TbotError
from tbot_core.instance import Instance, read_settings_files
from tbot_core.status.service import service_sentence
from tbot_core.system.threads import DaemonThreads
from tbot_extension_web.access.security_log import note_request
from tbot_extension_web.pages.risk import ACTS, offered
from tbot_extension_web.posts import Question
from tbot_extension_web.texts import date

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tbot_extension_web.call import Call

ANSWER_S: Final = 10.0
"""How long a stop is waited for; it goes on after that, and the dashboard shows it."""

_VERBS: Final = (ControlVerb.STOP, ControlVerb.KILL, ControlVerb.KILL_CLEAR)
_STOPPING: Final = "The bot is being stopped by STOP_POLICY; the dashboard shows when it has ended."


async def show(call: Call) -> Response:
    """The part of the dashboard, for an open one that asks again; without content where nothing has changed."""
    if not call.partial:
        return call.to("/")
    values = await control_values(call)
    if call.request.query_params.get("shown") == values["shown"]:
        return Response(status_code=204)
    return call.page("parts/control.html", **values)


async def start(call: Call) -> Response:
    """Start the service; the answer comes once the bot has lived for some seconds, or says why it does not."""
    change = await call.work(start_service, call.site.home, (), call.actor, call.site.service_host)
    await call.work(note_request, call.site.logins.security, call.user.user, "service start")
    return call.to("/", *change.sentences)


async def question(call: Call) -> Question:
    """What the stop of the service does."""
    status = (await call.site.live.snapshot()).status
    held = ", ".join(position["symbol"] for position in status.get("positions", ()))
    text = "The bot ends now. It stays ended, also after a restart of the machine, until it is started again."
    facts = (await call.work(_policy, call.site.home), f"Open now: {held or 'no position'}.")
    return Question(title="Stop the service?", text=text, button="Stop the service", back="/", facts=facts)


async def stop(call: Call) -> Response:
    """Stop the bot and what keeps it running; it is stopped also where the page ends meanwhile."""
    loop, home, actor = asyncio.get_running_loop(), call.site.home, call.actor
    await call.work(note_request, call.site.logins.security, call.user.user, "service stop")
    work = partial(stop_service, home, actor, host=call.site.service_host)
    stopping = loop.run_in_executor(DaemonThreads(1), work)  # seam: no run waits for the page
    try:
        change = await asyncio.wait_for(asyncio.shield(stopping), ANSWER_S)
    except TimeoutError:
        return call.to("/", _STOPPING)
    return call.to("/", *change.sentences)


async def control_values(call: Call) -> dict[str, Any]:
    """What the part shows: the service, the requests that have an effect now, and a digest of that."""
    status = (await call.site.live.snapshot()).status
    try:
        service = await call.work(service_status, call.site.home, call.site.service_host)
    except TbotError as fault:
        service = {"running": False, "wanted": False, "output": [], "down": f"{fault}"}
    acts = [one for one in ACTS if one.verb in _VERBS and offered(one, status)]
    bot = status.get("process")
    sentence = _sentence(service, bot)
    starts = bot is None and not (service and service["running"])
    shown = sha256(repr((sentence, service, acts, starts)).encode()).hexdigest()[:16]
    return {"service": service, "sentence": sentence, "acts": acts, "starts": starts, "shown": shown}


def _policy(home: Path) -> str:
    # What the end of the bot does with positions.
    texts = read_settings_files(Instance.at(home)).known_texts()
    closes = texts.get("STOP_POLICY", "").strip().lower() == "flatten"
    does = "keep: positions keep their stops at the broker, and nothing manages them."
    return f"STOP_POLICY={'flatten: positions are closed at the market.' if closes else does}"


def _sentence(service: Mapping[str, Any] | None, bot: int | None) -> str:
    if service is not None and (service["running"] or service["down"]):
        words = service_sentence(service, date)
        return f"The bot is {words}." if service["running"] else words
    if bot is not None:
        return f"Process {bot} runs, started by hand; nothing starts it again after a crash."
    if service is not None:
        return f"No bot runs: {service['actor']} stopped it."
    return "No bot runs."
