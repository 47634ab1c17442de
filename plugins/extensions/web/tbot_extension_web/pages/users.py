"""The users: who may come in, with which role, and what an admin can change."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import attrs

from tbot_core.actions.control_requests import waiting_of
from tbot_core.engine.control import ControlVerb
from tbot_core.errors import UsageError
from tbot_core.instance import Instance
from tbot_core.instance.sources import read_settings_files
from tbot_extension_web.access.credentials import Role
from tbot_extension_web.access.waiting_requests import ACTOR
from tbot_extension_web.posts import Question

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    from starlette.responses import Response

    from tbot_extension_web.call import Call


@attrs.frozen(kw_only=True)
class UserRow:
    """A user as the list shows it; `last_login` is None before the first."""

    name: str
    role: str
    codes: bool
    locked: bool
    sessions: int
    last_login: datetime | None


async def show(call: Call) -> Response:
    """The list, with the forms of an admin who entered the password again."""
    logins = call.site.logins
    accounts, locked, sessions = logins.accounts.read(), set(logins.locked_users()), logins.sessions()
    times = logins.last_logins()
    rows = [
        UserRow(
            name=one.name,
            role=one.role,
            codes=one.totp is not None,
            locked=one.name in locked,
            sessions=sum(session.user == one.name for session in sessions),
            last_login=times.get(one.name),
        )
        for _, one in sorted(accounts.items())
    ]
    default = await call.work(default_role, call.site.home)
    return call.page("users.html", rows=rows, roles=[*Role], default=default, with_roles=logins.rules.with_roles)


async def add(call: Call) -> Response:
    """Add a user."""
    name, password = call.form.get("name", ""), _new_password(call)
    account = await call.site.logins.accounts.add(name, password, _role(call), actor=call.user.user)
    return call.to("/users", f"{account.name} is added as {account.role}.")


async def set_role(call: Call) -> Response:
    """Give a user another role; the user's sessions end."""
    name, role = _named(call), _role(call)
    said = await _changing(call, name, call.site.logins.accounts.set_role(name, role, actor=call.user.user))
    return call.to("/users", f"{name} is now {role}.", *said)


async def set_password(call: Call) -> Response:
    """Give a user another password; the user's sessions end."""
    name = _named(call)
    await call.site.logins.accounts.set_password(name, _new_password(call), actor=call.user.user)
    return call.to("/users", f"{name} has a new password.")


async def codes_off(call: Call) -> Response:
    """Turn a user's one-time codes off, for one who lost the app and the recovery codes."""
    name = _named(call)
    if name == call.user.user and call.site.logins.rules.totp_required:
        raise UsageError("One-time codes are required on this address.", "Begin with a new secret under Your account.")
    await call.site.logins.accounts.set_totp(name, None, actor=call.user.user)
    return call.to("/users", f"{name} logs in without one-time codes.")


async def remove(call: Call) -> Response:
    """Remove a user; the last admin stays."""
    name = _named(call)
    said = await _changing(call, name, call.site.logins.accounts.remove(name, actor=call.user.user))
    return call.to("/users", f"{name} is removed.", *said)


async def _changing(call: Call, name: str, change: Awaitable[object]) -> list[str]:
    # Make a change after which the user may ask for less; what it does to requests of the user that wait.
    before = await call.work(waiting_of, call.site.home, f"{ACTOR}{name}")
    await change
    left = await call.work(waiting_of, call.site.home, f"{ACTOR}{name}")
    refused = ", ".join(verb for verb in dict.fromkeys(before) if verb not in left)
    said = [f"Refused are the waiting requests of {name}: {refused}."] if refused else []
    return [*said, *([f"The kill of {name} waits until an admin clears it."] if ControlVerb.KILL.value in left else [])]


async def removal(call: Call) -> Question:
    """What the removal of a user does."""
    name = _named(call)
    text = (
        "The user's sessions end at once, and the name and password open nothing any longer. Requests of the user that "
        "wait for the bot are refused, but for a kill. It cannot be undone."
    )
    return Question(title=f"Remove {name}?", text=text, button=f"Remove {name}", back="/users")


async def unlock(call: Call) -> Response:
    """Let a user try to log in again at once."""
    name = _named(call)
    await call.site.logins.unlock(name, actor=call.user.user)
    return call.to("/users", f"{name} may log in again.")


async def end_sessions(call: Call) -> Response:
    """End each session of a user."""
    name = _named(call)
    ended = await call.site.logins.end_sessions(name, actor=call.user.user)
    return call.to("/users", f"{name}: {ended} sessions ended.")


def default_role(home: Path) -> str:
    """DEFAULT_USER_ROLE, where the settings give a role."""
    found = read_settings_files(Instance.at(home)).known_texts().get("DEFAULT_USER_ROLE", "").strip().lower()
    return found if found in set(Role) else Role.VIEWER


def _named(call: Call) -> str:
    name = call.form.get("name", "")
    if name not in call.site.logins.accounts.read():
        raise UsageError("The user does not exist.", "Reload the list of users.")
    return name


def _role(call: Call) -> Role:
    text = call.form.get("role", "")
    if text not in set(Role):
        raise UsageError("Unknown role.", f"Choose one of {', '.join(Role)}.")
    return Role(text)


def _new_password(call: Call) -> str:
    password = call.form.get("password", "")
    if password != call.form.get("again", ""):
        raise UsageError("The two passwords differ.", "Enter the same one twice.")
    return password
