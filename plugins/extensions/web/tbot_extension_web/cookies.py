"""The cookies of the page, and the token of a form before a login."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from tbot_core.system import random

if TYPE_CHECKING:
    from starlette.responses import Response

    from tbot_extension_web.headers import Origin

SESSION: Final = {True: "__Host-tbot", False: "tbot-session"}
"""The name of the session's cookie with TLS, and without: the prefix is refused by browsers without TLS."""

VISIT: Final = "tbot-visit"
"""A random value that binds a form before the login to the browser that was given it."""

FIRST_RUN: Final = "tbot-first-run"
"""The token of the one-time link, so that the address shows it no longer."""

_KEY: Final = random.entropy(32)


def form_token(visit: str) -> str:
    """The token of a form for this visit; another process gives another one."""
    return hmac.new(_KEY, visit.encode(), hashlib.sha256).hexdigest()


def is_form_token(given: str, visit: str) -> bool:
    """Whether the token belongs to the visit."""
    return bool(visit) and hmac.compare_digest(given.encode(), form_token(visit).encode())


def set_cookie(answer: Response, origin: Origin, name: str, value: str) -> None:
    """Give the browser a cookie that no script reads and no other page sends."""
    answer.set_cookie(name, value, secure=origin.secure, httponly=True, samesite="strict", path="/")
