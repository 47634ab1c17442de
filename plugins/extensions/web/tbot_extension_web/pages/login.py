"""Logging in and out, and entering the password again before a dangerous act."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.system import random
from tbot_extension_web.access.logins import STEP_UP_REFUSED, Refused
from tbot_extension_web.cookies import SESSION, VISIT, form_token, set_cookie
from tbot_extension_web.notices import ASKED_S
from tbot_extension_web.posts import local_path

if TYPE_CHECKING:
    from starlette.responses import Response

    from tbot_extension_web.call import Call


async def show(call: Call) -> Response:
    """The form; a browser that is logged in goes on to the dashboard."""
    return call.to("/") if call.site.logins.session(call.token, active=False) is not None else _form(call)


async def log_in(call: Call) -> Response:
    """Log in, and give the browser a new session."""
    asked = (call.form.get("name", ""), call.form.get("password", ""), call.form.get("code", ""))
    found = await call.site.logins.log_in(*asked, call.source, call.agent)
    if isinstance(found, Refused):
        return _form(call, found.sentence, asked[0], status=401)
    answer = call.to("/")
    set_cookie(answer, call.site.origin, SESSION[call.site.origin.secure], found.token)
    answer.delete_cookie(VISIT, path="/")
    return answer


async def log_out(call: Call) -> Response:
    """End the session."""
    call.site.answers.forget(call.user)
    await call.site.logins.log_out(call.token)
    answer = call.to("/login")
    answer.delete_cookie(SESSION[call.site.origin.secure], path="/", secure=call.site.origin.secure)
    answer.headers["Clear-Site-Data"] = '"cache", "storage"'
    return answer


async def show_step_up(call: Call) -> Response:
    """The form that asks for the password again: for a request that waits for it, or for those of the next minutes."""
    query = call.request.query_params
    if number := query.get("request", ""):
        return _asked(call, number)
    return call.page("step_up.html", next=local_path(query.get("next", "/")), number="", does="", fault="")


async def step_up(call: Call) -> Response:
    """Make the request that waits for the password, and that alone; else allow dangerous ones for the next minutes."""
    target, entered = local_path(call.form.get("next", "/")), (call.form.get("password", ""), call.form.get("code", ""))
    logins = call.site.logins
    if number := call.form.get("request", ""):
        if call.site.asked.find(call.user, number) is None:
            return _asked(call, number)
        refused, session = await logins.confirm(call.token, *entered), logins.session(call.token)
        if refused is not None or session is None:
            return _asked(call, number, STEP_UP_REFUSED if refused is None else refused.sentence)
        asked = call.site.asked.take(session, number)
        return _asked(call, number) if asked is None else await asked.make(attrs.evolve(call, session=session))
    found = await logins.step_up(call.token, *entered)
    if isinstance(found, Refused):
        return call.page("step_up.html", 401, next=target, number="", does="", fault=found.sentence)
    answer = call.to(target, "The password is right. Nothing was done yet: make your request now, within five minutes.")
    set_cookie(answer, call.site.origin, SESSION[call.site.origin.secure], found.token)
    return answer


def _asked(call: Call, number: str, fault: str = "") -> Response:
    # The form for a request that waits; for one that does not, that nothing was done.
    found = call.site.asked.find(call.user, number)
    if found is None:
        return call.page("message.html", 400, title="Nothing was done now", text=_NO_LONGER, remedy=_LOOK)
    code = 401 if fault else 200
    return call.page("step_up.html", code, next="/", number=number, does=found.does, fault=fault)


_NO_LONGER: Final = f"The request was made already, or it waited for your password for over {ASKED_S:g} s."
_LOOK: Final = "See whether it was done before you make it again."


def _form(call: Call, fault: str = "", name: str = "", *, status: int = 200) -> Response:
    visit = call.request.cookies.get(VISIT) or random.entropy(16).hex()
    first = call.site.first_run
    empty = first is not None and not first.accounts.has_admin
    rules = call.site.logins.rules
    ended = "" if fault else call.request.query_params.get("ended", "")
    answer = call.page(
        "login.html", status, fault=fault, name=name, csrf=form_token(visit), empty=empty, ended=ended, rules=rules
    )
    set_cookie(answer, call.site.origin, VISIT, visit)
    return answer
