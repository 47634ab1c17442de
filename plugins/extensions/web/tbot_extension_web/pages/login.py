"""Logging in and out, and entering the password again before a dangerous act."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.system import random
from tbot_extension_web.access.logins import Refused
from tbot_extension_web.cookies import SESSION, VISIT, form_token, set_cookie
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
    """The form that asks for the password again."""
    return call.page("step_up.html", next=local_path(call.request.query_params.get("next", "/")), fault="")


async def step_up(call: Call) -> Response:
    """Allow dangerous acts for the next minutes, and go back to the page that asked for it."""
    target = local_path(call.form.get("next", "/"))
    found = await call.site.logins.step_up(call.token, call.form.get("password", ""), call.form.get("code", ""))
    if isinstance(found, Refused):
        return call.page("step_up.html", 401, next=target, fault=found.sentence)
    answer = call.to(target, "The password is right. Nothing was done yet: make your request now, within five minutes.")
    set_cookie(answer, call.site.origin, SESSION[call.site.origin.secure], found.token)
    return answer


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
