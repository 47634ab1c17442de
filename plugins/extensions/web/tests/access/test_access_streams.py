"""An open stream of live figures ends with the session of who opened it, in whatever way that ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from starlette.requests import Request
from tbot_extension_web import live
from tbot_extension_web.access.credentials import Role
from tbot_extension_web.call import Call
from tbot_extension_web.headers import Origin
from tbot_extension_web.pages import dashboard
from tbot_extension_web.site import Site

from tbot_core.errors import AccessError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PASSWORD = "velvet otter quarry"
ENDED = "event: ended\ndata: \n\n"


async def log_out(access: Any, token: str) -> None:
    """Log out, in another tab."""
    await access.logins.log_out(token)


async def idle(access: Any, _token: str) -> None:
    """Let this time pass without a request."""
    access.clock.advance(access.rules.idle_s)


async def grow_old(access: Any, token: str) -> None:
    """A person is active for as long as a session may last at all."""
    for _ in range(4):
        access.clock.advance(access.rules.absolute_s / 4)
        access.logins.session(token)


async def be_ended(access: Any, _token: str) -> None:
    """An admin ends the user's sessions."""
    await access.logins.end_sessions("bob", actor="alice")


async def end_one(access: Any, _token: str) -> None:
    """The user ends this one in the list."""
    (mine,) = access.logins.sessions("bob")
    assert access.logins.end_session("bob", mine.id)


async def change_password(access: Any, token: str) -> None:
    """The user changes the password."""
    await access.logins.change_password(token, PASSWORD, "", "granite lamp orchard")


async def get_password(access: Any, _token: str) -> None:
    """An admin sets the password."""
    await access.accounts.set_password("bob", "granite lamp orchard", actor="alice")


async def get_role(access: Any, _token: str) -> None:
    """An admin gives another role."""
    await access.accounts.set_role("bob", Role.TRADER, actor="alice")


async def be_removed(access: Any, _token: str) -> None:
    """An admin removes the user."""
    await access.accounts.remove("bob", actor="alice")


async def be_asked_for_codes(access: Any, _token: str) -> None:
    """The page begins to demand one-time passwords."""
    access.logins.rules = attrs.evolve(access.logins.rules, totp_required=True)


async def be_unread(access: Any, _token: str) -> None:
    """The users cannot be read any longer."""

    def unread() -> Any:
        raise AccessError("They cannot be read.", "Check the disk.")

    access.accounts.read = unread


WAYS = [
    log_out, idle, grow_old, be_ended, end_one, change_password, get_password, get_role, be_removed,
    be_asked_for_codes, be_unread,
]  # fmt: skip


@pytest.fixture
def bob(access: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Call, str]:
    """A request of the viewer bob for the stream, and the token of his session."""
    monkeypatch.setattr(live, "TICK_S", 0.01)
    access.add("bob")
    token = access.token("bob")
    origin = Origin(scheme="http", hosts=frozenset({"127.0.0.1:8443"}))
    page = Site(access.home, access.clock, origin, access.logins, "US_TX_SIM_B01")
    cookie = (b"cookie", f"tbot-session={token}".encode())
    scope = {"type": "http", "method": "GET", "path": "/live/dashboard", "query_string": b"", "headers": [cookie]}
    return Call(request=Request(scope), site=page, session=access.logins.session(token)), token


@pytest.mark.parametrize("way", WAYS, ids=lambda one: one.__name__)
def test_a_stream_ends_with_its_session(
    access: Any, bob: tuple[Call, str], way: Callable[[Any, str], Awaitable[None]]
) -> None:
    """Without a change of the figures, and with nothing of them after that."""
    call, token = bob

    async def read() -> list[str]:
        got: list[str] = []
        answer = await dashboard.stream(call)
        async for chunk in answer.body_iterator:  # type: ignore[attr-defined]
            got.append(str(chunk))
            if len(got) == 2:
                await way(access, token)
        return got

    _, figures, *rest = access.do(asyncio.wait_for(read(), 30))
    assert "part-state" in figures
    assert rest == [ENDED]


def test_a_stream_is_no_activity_and_says_that_it_lives(access: Any, bob: tuple[Call, str]) -> None:
    """It says so while nothing changes; looking at its session does not keep that alive."""
    call, token = bob

    async def read() -> list[str]:
        got: list[str] = []
        answer = await dashboard.stream(call)
        async for chunk in answer.body_iterator:  # type: ignore[attr-defined]
            got.append(str(chunk))
            if len(got) > 1:
                access.clock.advance(access.rules.idle_s / 20)
        return got

    *_, last, ended = access.do(asyncio.wait_for(read(), 60))
    assert (last, ended) == ("event: heard\ndata: \n\n", ENDED)
    assert access.logins.session(token) is None
