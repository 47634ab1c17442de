"""One HTTP exchange with another machine: bounded in time and size, and clear about whether bytes may have left."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import attrs
import httpx2

from tbot_core.errors import BrokerError, OutcomeUnknown, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST: Final = 64 * 1024 * 1024
"""Bytes of a body from which on an answer is discarded."""

KEPT_S: Final = 45.0
"""Seconds without a request after which a connection is closed.

An order between two account readings, which are at most 30 s apart, needs no new connection; servers usually keep one
for at least 60 s.
"""

_ENCODINGS: Final = ("gzip", "deflate")
"""Each alone: to undo several could keep the process busy before the time limit is seen."""

_QUOTED: Final = 40
_HTTP_PORT: Final = 80
_ERRNO: Final = re.compile(r"\[Errno -?\d+\] ")
_FIRST_BYTE: Final = ("http11.send_request_headers.started", "http2.send_request_headers.started")


@attrs.frozen(kw_only=True)
class RawResponse:
    """An answer as it was received; the names of headers are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def accepts_connections(url: str, timeout_s: float) -> bool:
    """Whether a server accepts a connection at the host and port of this address; nothing is sent."""
    split = urlsplit(url)
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(split.hostname, split.port or _HTTP_PORT)
    except OSError:  # refused, or not within the time
        return False
    writer.close()
    return True


class HttpTransport:
    """Connections to one host, each kept open for `kept_s` seconds without a request.

    TLS certificates are always verified, redirects are not followed, cookies are not kept, and proxies of the
    environment are not used: a request goes to the host that was declared, or nowhere.
    """

    def __init__(self, base_url: str, kept_s: float = KEPT_S) -> None:
        self._base_url, self._kept_s = base_url, kept_s
        self._client = self._opened()

    async def exchange(  # noqa: PLR0913  -- the parts of a request
        self,
        method: str,
        path: str,
        *,
        timeout_s: float,
        headers: Callable[[str], Mapping[str, str]],
        params: Mapping[str, str] | None = None,
        body: bytes = b"",
        before_send: Callable[[], None],
    ) -> RawResponse:
        """Send one request and read its answer, within `timeout_s` seconds in all.

        `headers` receives the address with its parameters, as it is sent.

        `before_send` is called once the connection stands, just before the first byte; what it raises ends the request.
        Raises Unavailable where no byte has left, and OutcomeUnknown where some may have.
        """
        sent = False

        async def watch(event: str, _info: Mapping[str, Any]) -> None:
            nonlocal sent
            if event in _FIRST_BYTE and not sent:
                before_send()
                sent = True

        try:
            async with asyncio.timeout(timeout_s):
                request = self._client.build_request(
                    method, path, params=params, content=body or None, extensions={"trace": watch}
                )
                request.headers.update(headers(str(request.url)))
                return await self._answer(request)
        except TimeoutError as fault:
            raise _fault(sent=sent, words=f"no answer within {timeout_s:g} s") from fault
        except httpx2.ConnectError as fault:
            words = f"no connection to {urlsplit(self._base_url).hostname} ({_ERRNO.sub('', str(fault))})"
            raise _fault(sent=sent, words=f"{words}: check this machine's network and that address") from fault
        except httpx2.HTTPError as fault:
            raise _fault(sent=sent, words=str(fault) or type(fault).__name__) from fault

    async def close(self) -> None:
        """Close all connections; a later exchange opens new ones."""
        closing, self._client = self._client, self._opened()
        await closing.aclose()

    def _opened(self) -> httpx2.AsyncClient:
        limits = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=self._kept_s)
        return httpx2.AsyncClient(
            base_url=self._base_url,
            headers={"accept-encoding": ", ".join(_ENCODINGS)},
            trust_env=False,
            follow_redirects=False,
            timeout=None,
            limits=limits,
        )

    async def _answer(self, request: httpx2.Request) -> RawResponse:
        response = await self._client.send(request, stream=True)
        self._client.cookies.clear()
        try:
            encoding = response.headers.get("content-encoding", "")
            if encoding.strip().lower() not in {"", "identity", *_ENCODINGS}:
                raise OutcomeUnknown(f"the answer has the encoding {encoding[:_QUOTED]!r}, which was not asked for")
            parts, size = [], 0
            async for part in response.aiter_bytes():
                size += len(part)
                if size > LARGEST:
                    raise OutcomeUnknown(f"the answer is larger than {LARGEST // 1024 // 1024} MiB")
                parts.append(part)
        finally:
            await response.aclose()
        return RawResponse(status=response.status_code, headers=dict(response.headers), body=b"".join(parts))


def _fault(*, sent: bool, words: str) -> BrokerError:
    return OutcomeUnknown(words) if sent else Unavailable(words)
