"""Apprise's services: found by address, and called in a thread, since their libraries block."""

from __future__ import annotations

import asyncio
import logging
import threading  # seam: the libraries of the services block; the event loop of trading must not wait for them
import warnings
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apprise import NotifyBase
    from apprise.asset import AppriseAsset

CONNECT_S: Final = 3.0
READ_S: Final = 4.0
_SILENT: Final = logging.CRITICAL + 1
_LOGGERS: Final = ("apprise", "urllib3", "requests", "oauthlib", "requests_oauthlib")
"""They log addresses, in which the credentials are."""


def find_service(address: str) -> NotifyBase | None:
    """The service of an address, with short time limits; None if Apprise does not know it."""
    from apprise import Apprise, OverflowMode

    for name in _LOGGERS:
        logging.getLogger(name).setLevel(_SILENT)
    asset = _asset()
    try:
        # Its first use imports every service's module, some of which use what Python will drop.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            found: Any = Apprise.instantiate(address, asset=asset, suppress_exceptions=True)
    except Exception:  # noqa: BLE001  -- the border of a library: its words contain the address
        return None
    if found is None:
        return None
    found.socket_connect_timeout = min(found.socket_connect_timeout, CONNECT_S)
    found.socket_read_timeout = min(found.socket_read_timeout, READ_S)
    if "overflow=" not in address:
        found.overflow_mode = OverflowMode.TRUNCATE  # one message for each alert
    service: NotifyBase = found
    return service


class BlockingService:
    """Calls one service in a thread of its own, one call at a time: a service that hangs costs one thread."""

    def __init__(self, service: NotifyBase) -> None:
        self._service = service
        self._running: asyncio.Future[bool] | None = None

    async def notify(self, arguments: Mapping[str, Any]) -> bool:
        """Deliver a message; whether the service accepted it. The call itself cannot be cancelled, only its result."""
        while self._running is not None and not self._running.done():
            await asyncio.wait([self._running])
        loop = asyncio.get_running_loop()
        self._running = answer = loop.create_future()
        thread = threading.Thread(target=_call, args=(self._service, arguments, loop, answer), daemon=True)
        thread.start()
        return await asyncio.shield(answer)


def _call(
    service: NotifyBase, arguments: Mapping[str, Any], loop: asyncio.AbstractEventLoop, answer: asyncio.Future[bool]
) -> None:
    # Runs in the thread. What a library raises may quote the address, so only the failure is passed on.
    try:
        accepted = bool(service.notify(**arguments))
    except Exception:  # noqa: BLE001  -- the border of a library
        accepted = False
    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(_settle, answer, accepted)


def _settle(answer: asyncio.Future[bool], accepted: bool) -> None:  # noqa: FBT001  -- called by the loop
    if not answer.done():
        answer.set_result(accepted)


@cache
def _asset() -> AppriseAsset:
    # No pictures from a public host, no redirects to another host, no files, and each text as it is.
    from apprise import AppriseAsset

    return AppriseAsset(
        app_id="tbot",
        app_desc="tbot",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        http_redirects=False,
        interpret_escapes=False,
        interpret_emojis=False,
        allow_templates=False,
        secure_logging=True,
        storage_mode="memory",
    )
