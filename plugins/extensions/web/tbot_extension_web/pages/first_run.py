"""The page of the one-time link: it makes the first admin, and is gone then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from tbot_core.errors import UsageError
from tbot_core.system import random
from tbot_extension_web.access.logins import Refused
from tbot_extension_web.cookies import FIRST_RUN, SESSION, VISIT, form_token, set_cookie

if TYPE_CHECKING:
    from starlette.responses import Response

    from tbot_extension_web.call import Call
    from tbot_extension_web.first_run import FirstRun


async def show(call: Call) -> Response:
    """The form, where the link is valid. The token moves from the address into a cookie first."""
    first = _first(call)
    token = call.request.query_params.get("link", "")
    if not first.link.is_valid(token or _token(call), call.source):
        return _invalid(call)
    if not token:
        return _form(call)
    answer = call.to("/first-run")
    secure = call.site.origin.secure
    # Lax: the link may be opened from a page that shows a terminal.
    answer.set_cookie(FIRST_RUN, token, secure=secure, httponly=True, samesite="lax", path="/first-run")
    return answer


async def make_admin(call: Call) -> Response:
    """Make the admin, and log in."""
    first, token = _first(call), _token(call)
    if not first.link.is_valid(token, call.source):
        return _invalid(call)
    name, password = call.form.get("name", ""), call.form.get("password", "")
    if password != call.form.get("again", ""):
        return _form(call, "The two passwords differ.", name)
    try:
        account = await first.link.make_admin(token, call.source, name, password)
    except UsageError as fault:
        return _form(call, f"{fault.message} {fault.remedy}", name)
    found = await call.site.logins.log_in(account.name, password, "", call.source, call.agent)
    if isinstance(found, Refused):
        return call.to("/login")
    answer = call.to("/")
    set_cookie(answer, call.site.origin, SESSION[call.site.origin.secure], found.token)
    answer.delete_cookie(VISIT, path="/")
    answer.delete_cookie(FIRST_RUN, path="/first-run")
    return answer


def _first(call: Call) -> FirstRun:
    first = call.site.first_run
    if first is None or first.accounts.has_admin:
        raise HTTPException(404)
    return first


def _token(call: Call) -> str:
    return call.request.cookies.get(FIRST_RUN, "")


def _invalid(call: Call) -> Response:
    text = "This page opens by the link that `tbot web` prints: for 30 minutes, in a browser on the same machine."
    remedy = "Start `tbot web` again: it prints a new link."
    return call.page("message.html", 403, title="The link is not valid", text=text, remedy=remedy)


def _form(call: Call, fault: str = "", name: str = "") -> Response:
    visit = call.request.cookies.get(VISIT) or random.entropy(16).hex()
    code = 400 if fault else 200
    answer = call.page("first_run.html", code, fault=fault.strip(), name=name, csrf=form_token(visit))
    set_cookie(answer, call.site.origin, VISIT, visit)
    return answer
