"""HTTP requests of a plugin to one declared host: paced, bounded, and mapped to the errors that the core decides by."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from datetime import UTC
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import attrs

from tbot_core.contracts.network import Headers, HttpResponse, OutgoingRequest, RequestHeaders
from tbot_core.errors import (
    BrokerError,
    LoginNeeded,
    OutcomeUnknown,
    PluginError,
    Rejected,
    RejectionMeaning,
    Unavailable,
    bounded_pause,
)
from tbot_core.model import json_document
from tbot_core.model.clock import Clock
from tbot_core.model.formatting import one_line
from tbot_core.plugins.network.request_limits import CYCLE_S, ON_SEND, PRIORITY, RequestBudget, RetryPolicy
from tbot_core.system.http import HttpTransport, RawResponse
from tbot_core.system.redaction import redact

if TYPE_CHECKING:
    from tbot_core.contracts.broker import Permit
    from tbot_core.contracts.credentials import SecretValue

MOST_PAGES: Final = 1000
_QUOTED: Final = 300
_READ: Final = 10 * _QUOTED
_OK: Final = range(200, 300)
_LOGIN: Final = 401
_TIMED_OUT: Final = 408
_TOO_MANY: Final = 429
_REFUSED: Final = 400
_SERVER: Final = 500
_MILLISECONDS: Final = 10_000_000_000
"""A reset time above this number of seconds (year 2286) is given in milliseconds or less."""

_MOST_LEFT: Final = 1_000_000_000
"""No vendor counts as many requests."""

_SPENT: Final = "The vendor's limit of requests is reached: stop other programs that use this key, or wait."
_MOVED: Final = "A redirect is not followed: correct the address, it may be that of a login page or a proxy."
_KEY: Final = "The key is wrong, revoked, or one of another host: correct it with `tbot secrets edit CATEGORY`."
_FORM: Final = "Is the address that of the service? If it is, the service has changed its answers: update the plugin."

_REPEATED: Final = re.compile(r"[a-z]+, [^,]+|[^,]+", re.IGNORECASE)
"""One value of a header that was sent several times; a date has a comma after its weekday."""

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE: Final = re.compile(r"(?:[!-~](?:[ -~\t]*[!-~])?)?")
_PATH: Final = re.compile(r"/(?:[^/\\\s?#][^\\\s?#]*)?", re.ASCII)


@attrs.frozen(kw_only=True)
class ReceivedResponse:
    """The answer to `request`: see `tbot_core.contracts.network.HttpResponse`; `unreadable` is raised for no JSON."""

    status: int
    headers: Mapping[str, str]
    body: bytes = attrs.field(repr=False)
    unreadable: Callable[..., BrokerError] = Unavailable
    request: str = ""

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body as JSON."""
        try:
            return json_document.parse_json(self.body, fractions=Decimal)
        except json_document.InvalidJson as fault:
            raise self.unreadable(f"{self.request}The answer cannot be read: {fault}.", _FORM) from None


@attrs.frozen
class _Request:
    # The parts of a request; names of its headers are lower case.
    method: str
    path: str
    params: Mapping[str, str] | None
    body: bytes = b""
    headers: RequestHeaders = attrs.field(factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@attrs.frozen(kw_only=True, eq=False)
class PacedHttpClient:
    """Requests to one host: see `tbot_core.contracts.network.HttpClient`.

    `name` names plugin and host in errors. `per_minute` requests are allowed by `budget`, which others may share.
    """

    name: str
    _transport: HttpTransport = attrs.field(alias="transport")
    _headers: Headers = attrs.field(alias="headers")
    _clock: Clock = attrs.field(alias="clock")
    _budget: RequestBudget = attrs.field(alias="budget")
    _per_minute: int = attrs.field(alias="per_minute")
    _timeout_s: float = attrs.field(alias="timeout_s")
    _retries: RetryPolicy = attrs.field(alias="retries")
    _rejection: Callable[[HttpResponse], BrokerError] | None = attrs.field(alias="rejection", default=None)
    _rejects_429: bool = attrs.field(alias="rejects_429", default=False)

    async def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        headers: RequestHeaders | None = None,
        weight: int = 1,
    ) -> ReceivedResponse:
        """Read something, again after a failure."""
        return await self._reading(_Request("GET", path, params, headers=_lower(headers or {})), weight)

    async def read(  # noqa: PLR0913  -- the parts of a request
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        form: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        headers: RequestHeaders | None = None,
        weight: int = 1,
    ) -> ReceivedResponse:
        """Read something by a request with a body, again after a failure."""
        return await self._reading(_request(method, path, params, (json, form), headers), weight)

    async def pages(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        following: Callable[[HttpResponse], Mapping[str, str] | None],
        headers: RequestHeaders | None = None,
    ) -> AsyncIterator[ReceivedResponse]:
        """Read page by page."""
        seen: set[frozenset[tuple[str, str]]] = set()
        added: Mapping[str, str] | None = {}
        while added is not None:
            wanted = {**params, **added}
            if frozenset(wanted.items()) in seen:
                raise Unavailable(f"{self.name}: GET {path} answered with a page that was read before.")
            if len(seen) >= MOST_PAGES:
                raise Unavailable(f"{self.name}: GET {path} has more than {MOST_PAGES} pages.")
            seen.add(frozenset(wanted.items()))
            page = await self.get(path, wanted, headers=headers)
            added = following(page)
            yield page

    async def send(  # noqa: PLR0913  -- the parts of a request
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        form: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        headers: RequestHeaders | None = None,
        permit: Permit | None = None,
        weight: int = 1,
    ) -> ReceivedResponse:
        """Send something once."""
        request = _request(method, path, params, (json, form), headers)
        assert_below_host(self.name, path)
        await self._turn(request, weight)
        try:
            raw = await self._exchange(request, partial(_before_send, permit))
        except (Unavailable, OutcomeUnknown) as fault:
            fault.message = f"{self.name}: {request}: {fault.message}"
            raise
        lost: Callable[..., BrokerError] = OutcomeUnknown
        if raw.status == _TOO_MANY and self._rejects_429:
            lost = Unavailable if permit is None else partial(Rejected, meaning=RejectionMeaning.RATE_LIMITED)
        return self._checked(raw, request, lost)

    async def close(self) -> None:
        """Close its connections."""
        await self._transport.close()

    async def _turn(self, request: _Request, weight: int) -> None:
        await self._budget.wait_turn(
            self._clock, PRIORITY.get(), self._per_minute, f"{self.name}: {request}", weight=weight
        )

    async def _reading(self, request: _Request, weight: int) -> ReceivedResponse:
        assert_below_host(self.name, request.path)
        pauses = self._retries.delays()
        while True:
            await self._turn(request, weight)
            try:
                return await self._read_once(request)
            except Unavailable as fault:
                pause = next(pauses, None)
                if pause is None or (fault.retry_after_s or 0.0) > CYCLE_S:
                    raise
                await self._retries.sleep(max(pause, fault.retry_after_s or 0.0))

    async def _read_once(self, request: _Request) -> ReceivedResponse:
        try:
            raw = await self._exchange(request, _nothing)
        except (Unavailable, OutcomeUnknown) as fault:
            raise Unavailable(f"{self.name}: {request}: {fault.message}") from fault
        return self._checked(raw, request, Unavailable)

    async def _exchange(self, request: _Request, before_send: Callable[[], None]) -> RawResponse:
        def headers(url: str) -> dict[str, str]:
            leaving = OutgoingRequest(method=request.method, url=url, body=request.body, headers=request.headers)
            return revealed_headers(self.name, self._headers, leaving)

        return await self._transport.exchange(
            request.method,
            request.path,
            timeout_s=self._timeout_s,
            headers=headers,
            params=request.params,
            body=request.body,
            before_send=before_send,
        )

    def _checked(self, raw: RawResponse, request: _Request, lost: Callable[..., BrokerError]) -> ReceivedResponse:
        # The answer with a status of success; others are raised, `lost` where the request may have to be repeated.
        pause = self._pause(raw)
        if pause:
            self._budget.back_off(pause, self._clock.monotonic())
        response = ReceivedResponse(
            status=raw.status,
            headers=raw.headers,
            body=raw.body,
            unreadable=lost,
            request=f"{self.name}: {request}: ",
        )
        quoted = redact(one_line(response.text[:_READ]))[:_QUOTED]  # a cut secret would not be recognised
        words = f"{self.name}: {request}: {raw.status} {quoted}".rstrip()
        if raw.status in _OK:
            return response
        if raw.status in {_TIMED_OUT, _TOO_MANY} or raw.status >= _SERVER or raw.status < _REFUSED:  # or a redirect
            remedy = _SPENT if raw.status == _TOO_MANY else _MOVED if raw.status < _REFUSED else ""
            raise lost(f"{words}." if remedy else words, remedy, retry_after_s=pause)
        if raw.status == _LOGIN:
            raise LoginNeeded(f"{words}.", _KEY)
        raise Rejected(words) if self._rejection is None else self._rejection(response)

    def _pause(self, raw: RawResponse) -> float | None:
        # The seconds that the vendor asks to wait: after a refusal, or because no request is left until a reset.
        headers = {name.lower(): text for name, text in raw.headers.items()}
        left = _number(headers.get("x-ratelimit-remaining", headers.get("x-ratelimit-available")))
        if left is not None and left >= 0:
            self._budget.note_reported(int(min(left, _MOST_LEFT)), self._clock.monotonic())
        if raw.status != _TOO_MANY and left != 0:
            return _seconds(headers.get("retry-after"), self._clock) if raw.status >= _SERVER else None
        reset = _number(headers.get("x-ratelimit-reset", headers.get("x-ratelimit-expiry")))
        asked = _seconds(headers.get("retry-after"), self._clock)
        if asked is None and reset is not None:
            while reset > _MILLISECONDS:  # milliseconds, microseconds or nanoseconds
                reset /= 1000
            asked = bounded_pause(reset - self._clock.now().timestamp())
        return asked


def revealed_headers(name: str, headers: Headers, request: OutgoingRequest) -> dict[str, str]:
    """The headers of a request as they are sent, secrets included; its own replace those of all requests.

    Raises PluginError for one that HTTP does not allow; the value is not shown.
    """
    made = {**_lower(headers(request) if callable(headers) else headers), **request.headers}
    found = {one: text if isinstance(text, str) else text.reveal() for one, text in made.items()}
    for one, text in found.items():
        if not _NAME.fullmatch(one) or not _VALUE.fullmatch(text):
            raise PluginError(
                f"{name}: the header {one!r} cannot be sent.",
                "A name has letters, digits and hyphens; a value has printable ASCII, without a space at its ends.",
            )
    return found


def _lower(headers: RequestHeaders) -> dict[str, str | SecretValue]:
    # Names of headers have no case, so that one replaces another.
    return {name.lower(): text for name, text in headers.items()}


def assert_below_host(name: str, path: str) -> None:
    """Raises PluginError for a path that could lead to another host, or out of the host's address."""
    if not _PATH.fullmatch(path) or any(part in {".", ".."} for part in path.split("/")):
        raise PluginError(
            f"{name}: the path {path!r} does not begin with one slash, or leads elsewhere.",
            "Give the part of the address after the host's; parameters go into `params`.",
        )


def _nothing() -> None:
    pass


def _before_send(permit: Permit | None) -> None:
    # The permit comes first: what it refuses does not leave.
    if permit is not None:
        permit.redeem()
    ON_SEND.get()()


def _request(
    method: str,
    path: str,
    params: Mapping[str, str] | None,
    content: tuple[object, Mapping[str, str] | None],
    headers: RequestHeaders | None,
) -> _Request:
    # A request with a JSON document or a form.
    kind, body = _body(*content)
    return _Request(method, path, params, body, {**kind, **_lower(headers or {})})


def _body(document: object, form: Mapping[str, str] | None) -> tuple[dict[str, str], bytes]:
    # The header that names the kind of the body, and the body.
    if form is not None:
        return {"content-type": "application/x-www-form-urlencoded"}, urlencode(form).encode()
    if document is not None:
        return {"content-type": "application/json"}, json.dumps(document, default=_exact, allow_nan=False).encode()
    return {}, b""


def _exact(value: object) -> float | int:
    # A Decimal as a JSON number with the same digits.
    if not isinstance(value, Decimal) or not value.is_finite():
        raise TypeError(f"{value!r} cannot be written as JSON.")
    if value == value.to_integral_value():
        return int(value)
    if Decimal(repr(float(value))) != value:
        raise TypeError(f"{value} has more digits than a JSON number holds: send it as text.")
    return float(value)


def _seconds(header: str | None, clock: Clock) -> float | None:
    # Retry-After: seconds or a date (RFC 9110, 10.2.3), of several the longest; one that has passed is no pause.
    found: list[float] = []
    for one in _REPEATED.findall(header or ""):
        seconds = _number(one)
        if seconds is None:
            seconds = _until(one, clock)
        if seconds is not None:
            found.append(seconds)
    return bounded_pause(max(found, default=None))


def _until(date: str, clock: Clock) -> float | None:
    # The seconds until a date, negative if it has passed.
    with suppress(ValueError, OverflowError):
        moment = parsedate_to_datetime(date)
        return (moment.replace(tzinfo=moment.tzinfo or UTC) - clock.now()).total_seconds()
    return None


def _number(text: str | None) -> float | None:
    # A finite number; digits beyond what a float holds are the largest one.
    with suppress(ValueError):
        found = float(text or "")
        if math.isinf(found) and (text or "").strip().isdecimal():
            return sys.float_info.max
        return found if math.isfinite(found) else None
    return None
