"""A user's own account: password, one-time codes, sessions."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import attrs
import segno
from starlette.responses import JSONResponse

from tbot_core.errors import TbotError, UsageError
from tbot_extension_web.access.logins import Refused
from tbot_extension_web.access.second_factor import is_totp_secret, new_totp_secret, totp_uri
from tbot_extension_web.cookies import SESSION, set_cookie

if TYPE_CHECKING:
    from starlette.responses import Response

    from tbot_extension_web.access.logins import LoggedIn
    from tbot_extension_web.call import Call

MOST_SECRET: Final = 64
_GROUP: Final = 4


async def show(call: Call) -> Response:
    """What there is to change."""
    return _page(call, done="Your password is changed; your other sessions ended." if _says(call, "password") else "")


async def left(call: Call) -> Response:
    """The seconds until the session ends, as JSON; a request of a person counts as a click, as everywhere."""
    found = call.site.session_left(call.session)
    return JSONResponse({} if found is None else attrs.asdict(found), headers={"Cache-Control": "no-store"})


async def change_password(call: Call) -> Response:
    """Change the password: the other sessions end, and this one goes on."""
    new = call.form.get("new", "")
    if new != call.form.get("again", ""):
        return _page(call, fault="The two new passwords differ. Enter the same one twice.")
    given = (call.form.get("password", ""), call.form.get("code", ""))
    try:
        found = await call.site.logins.change_password(call.token, *given, new)
    except UsageError as fault:
        return _page(call, fault=f"{fault.message} {fault.remedy}")
    if isinstance(found, Refused):
        return _page(call, fault=found.sentence)
    return _in_session(call, found, call.to("/account?done=password"))


async def show_codes(call: Call) -> Response:
    """Begin with one-time codes: a new secret as a picture and as text."""
    return _enrolment(call, new_totp_secret())


async def begin_codes(call: Call) -> Response:
    """Turn the codes on once the app shows a right one; the recovery codes are shown this once."""
    secret = call.form.get("secret", "")
    if len(secret) > MOST_SECRET or not is_totp_secret(secret):
        return call.to("/account/codes")
    try:
        found, codes = await call.site.logins.enrol_totp(call.token, secret, call.form.get("code", ""))
    except TbotError as fault:
        return _enrolment(call, secret, f"{fault.message} {fault.remedy}")
    renewed = attrs.evolve(call, session=attrs.evolve(call.user, csrf=found.csrf))
    return _in_session(call, found, renewed.page("account_recovery.html", codes=codes))


async def end_codes(call: Call) -> Response:
    """Turn the codes off, unless the page is reached from other machines."""
    if call.site.logins.rules.totp_required:
        raise UsageError("One-time codes are required on this address.", "Begin with a new secret.")
    found = await call.site.logins.end_totp(call.token)
    return _in_session(call, found, call.to("/account"))


async def end_session(call: Call) -> Response:
    """End one of the user's sessions; also this one."""
    number = call.form.get("id", "")
    if not number.isdecimal() or not call.site.logins.end_session(call.user.user, int(number[:18])):
        raise UsageError("The session has ended already.", "Open your account again.")
    return call.to("/account")


def qr_code(text: str) -> str:
    """A QR code as SVG without a style, on white in light and dark."""
    picture = io.BytesIO()
    segno.make(text, error="m").save(
        picture, kind="svg", xmldecl=False, omitsize=True, light="#fff", svgclass="qr", lineclass=None, title="QR code"
    )
    return picture.getvalue().decode()


def _in_session(call: Call, found: LoggedIn, answer: Response) -> Response:
    # The answer with the new token of the session.
    set_cookie(answer, call.site.origin, SESSION[call.site.origin.secure], found.token)
    return answer


def _says(call: Call, what: str) -> bool:
    return call.request.query_params.get("done", "") == what


def _page(call: Call, *, done: str = "", fault: str = "") -> Response:
    account = call.site.logins.accounts.read().get(call.user.user)
    return call.page(
        "account.html",
        400 if fault else 200,
        codes=account is not None and account.totp is not None,
        left=0 if account is None else len(account.recovery),
        required=call.site.logins.rules.totp_required,
        rules=call.site.logins.rules,
        sessions=call.site.logins.sessions(call.user.user),
        done=done,
        fault=fault,
    )


def _enrolment(call: Call, secret: str, fault: str = "") -> Response:
    groups = " ".join(secret[at : at + _GROUP] for at in range(0, len(secret), _GROUP))
    picture = qr_code(totp_uri(secret, call.user.user))
    return call.page(
        "account_codes.html", 400 if fault else 200, secret=secret, groups=groups, picture=picture, fault=fault
    )
