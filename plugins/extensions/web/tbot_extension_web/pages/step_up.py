"""The password again, asked for on the page whose request needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tbot_extension_web.call import Call


async def password_refusal(call: Call) -> str:
    """Why the password of the form does not allow its request; "" where it does, or was entered minutes ago."""
    if call.user.stepped_up:
        return ""
    entered = (call.form.get("password", ""), call.form.get("code", ""))
    refused = await call.site.logins.confirm(call.token, *entered)
    return "" if refused is None else refused.sentence
