"""The password again, asked for on the page whose request needs it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from starlette.responses import Response

from tbot_extension_web.access.logins import Refused
from tbot_extension_web.cookies import SESSION, set_cookie

if TYPE_CHECKING:
    from tbot_extension_web.call import Call

SetCookie = Callable[[Response], None]


async def step_up_with(call: Call) -> tuple[SetCookie | None, str]:
    """Step up with the password of the form, unless that was done within the last minutes.

    Returns what gives the answer the session's new token, and the sentence of a refusal, "" where there is none.
    """
    if call.user.stepped_up:
        return None, ""
    found = await call.site.logins.step_up(call.token, call.form.get("password", ""), call.form.get("code", ""))
    if isinstance(found, Refused):
        return None, found.sentence
    origin = call.site.origin
    return partial(set_cookie, origin=origin, name=SESSION[origin.secure], value=found.token), ""
