"""What `tbot check` finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.actions.checks import check_with_broker

if TYPE_CHECKING:
    from starlette.responses import Response

    from tbot_extension_web.call import Call


async def show(call: Call) -> Response:
    """Every finding, failures first, as the command line prints them."""
    account = call.site.logins.accounts.read().get(call.user.user)
    codes = account is not None and account.totp is not None
    return call.page("check.html", result=await call.compute(check_with_broker, call.site.home), codes=codes)
