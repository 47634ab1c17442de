"""The network as a plugin reaches it: `Context.connect`, and what it returns.

A plugin names the hosts that it needs in `PluginNeeds.hosts`; nothing else can be reached::

    NEEDS = PluginNeeds(hosts={"trading": Host("https://api.example.com", requests_per_minute=200)}, orders=True)


    class ExampleBroker:
        def __init__(self, context: Context) -> None:
            key = context.secrets["broker"].api_key
            self._http = context.connect.http("trading", headers={"X-Api-Key": key}, rejection=parse.rejection)

        async def account(self) -> Account:
            return parse.account((await self._http.get("/v2/account")).json())
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import attrs

from tbot_core.contracts.permissions import CHOSEN, host_setting_name
from tbot_core.contracts.setting import Permits, SettingDeclaration, SettingKind, declare, text
from tbot_core.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from tbot_core.contracts.broker import Permit
    from tbot_core.contracts.credentials import SecretValue
    from tbot_core.errors import BrokerError

MAIL_ADDRESS: Final = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}"
"""Pattern of the addresses that a mail may have."""

_MAIL: Final = re.compile(MAIL_ADDRESS)
_MESSAGE_ID: Final = re.compile(r"<[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,128}@[A-Za-z0-9.-]{1,100}>")
_LOOPBACK: Final = r"(?:http://(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~-]+)*/?)?"
_HERE: Final = "http://127.0.0.1:PORT, with a path or without"
_LABEL: Final = r"(?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_CHOSEN: Final = re.compile(
    rf"https://(?P<host>(?:[A-Za-z0-9]{_LABEL}\.)*[A-Za-z]{_LABEL}|[0-9.]{{7,15}})(?::(?P<port>[0-9]{{1,5}}))?"
)
_PORTS: Final = range(1, 65_536)
_ELSEWHERE: Final = "The plugin connects to another host than before, and sends its secrets there."


def host_settings(plugin: str, hosts: Mapping[str, str]) -> dict[str, SettingDeclaration]:
    """The setting of each host of a plugin, by the host's name; `hosts` are their addresses.

    It points the host to this machine. Where the address is `https://*` it also names the host; then it is part of the
    settings hash, since another host gives or receives something else.
    """
    return {host: _host_setting(plugin, host, url) for host, url in hosts.items()}


def is_on_this_machine(address: str) -> bool:
    """Whether the value of a host's setting is an address on this machine; no value is none."""
    return address.startswith("http://")


def _host_setting(plugin: str, host: str, url: str) -> SettingDeclaration:
    name = host_setting_name(plugin, host)
    here = attrs.evolve(text(pattern=_LOOPBACK, allowed=f"{_HERE}, or empty"), name="address")
    if url == CHOSEN:
        doc = f"The https host ({host}) of the plugin {plugin}, which the operator chooses; http:// is for rehearsals."
        return declare(name, _chosen_host(here), default="", doc=doc, permits=Permits(why=_ELSEWHERE))
    doc = f"Address on this machine that is used instead of {url}, for tests and rehearsals."
    return declare(name, here, default="", doc=doc, changes_trades=False)


def _chosen_host(here: SettingKind[str]) -> SettingKind[str]:
    # An https host, by name or IPv4 address, or what `here` allows.
    def parse(written: str) -> str:
        match = _CHOSEN.fullmatch(written)
        return here.parse(written) if match is None or not _is_elsewhere(**match.groupdict()) else written

    return attrs.evolve(here, parse=parse, allowed=f"https://NAME or https://NAME:PORT, {_HERE}, or empty")


def _is_elsewhere(host: str, port: str | None) -> bool:
    # Whether it is a host that is not this machine, with a port that exists.
    if port is not None and int(port) not in _PORTS:
        return False
    if not host.replace(".", "").isdigit():
        return host.lower().rpartition(".")[2] != "localhost"
    address = ipaddress.IPv4Address(host)
    return not (address.is_loopback or address.is_unspecified)


RequestHeaders: TypeAlias = "Mapping[str, str | SecretValue]"
"""Headers of requests; the text of a secret is redacted wherever it is shown."""


@attrs.frozen(kw_only=True)
class OutgoingRequest:
    """A request as it will leave: `url` with its parameters, the body, and the headers of this request alone.

    Names of headers are lower case. A WebSocket begins as a GET.
    """

    method: str
    url: str
    body: bytes = attrs.field(default=b"", repr=False)
    headers: RequestHeaders = attrs.field(factory=dict, repr=False)


Headers: TypeAlias = "RequestHeaders | Callable[[OutgoingRequest], RequestHeaders]"
"""The headers of all requests, or a function that is called for each attempt: for renewed tokens and signatures."""


class HttpResponse(Protocol):
    """The answer to a request: its status (200 to 299), headers and body."""

    @property
    def status(self) -> int:
        """The status code."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; names are lower case."""

    @property
    def body(self) -> bytes:
        """The body as bytes."""

    @property
    def text(self) -> str:
        """The body as UTF-8 text; bytes that are not UTF-8 are replaced."""

    def json(self) -> Any:
        """The body as JSON, numbers with a fraction as Decimal.

        Raises Unavailable for a reading, OutcomeUnknown for a sending, if the body is no JSON.
        """


class HttpClient(Protocol):
    """HTTP requests to one declared host.

    `path` begins with a slash and is below the host's address; parameters go into `params`. PluginError is raised for
    another one, such as a link of the vendor's to another host. Each request has a time limit (API_TIMEOUT), and waits
    until the vendor's request limit allows it: an entry for one second, a reading for ten (longer where the limit is
    below twelve a minute), then Unavailable is raised. `weight` is the number of requests that the vendor counts.

    `headers` are those of one request, such as an idempotency key; they replace those of all requests, and are the same
    in each attempt. A header that HTTP does not allow raises PluginError, and nothing is sent.
    """

    async def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        headers: RequestHeaders | None = None,
        weight: int = 1,
    ) -> HttpResponse:
        """Read something. A failed reading is repeated API_RETRY_LIMIT times, unless the core repeats the whole call.

        Raises Unavailable without an answer, and for 429 and 5xx; LoginNeeded for 401; what `rejection` returns for
        any other status that is not 2xx.
        """

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
    ) -> HttpResponse:
        """Read something by a request with a body, such as the quotes of many symbols by POST.

        It has no effect at the vendor: it is repeated, and raises, as `get`.
        """

    def pages(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        following: Callable[[HttpResponse], Mapping[str, str] | None],
        headers: RequestHeaders | None = None,
    ) -> AsyncIterator[HttpResponse]:
        """Read page by page; `following` returns the parameters that the next page adds, None after the last.

        Raises Unavailable for a page that was read before, and after 1,000 pages: a part is never taken for the whole.
        """

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
    ) -> HttpResponse:
        """Send something that has an effect, once; the permit is redeemed just before the first byte.

        Numbers in `json` may be Decimal; they are written with all their digits. Raises Unavailable where nothing was
        sent, OutcomeUnknown without a clear answer (time-out, reset, 5xx, 429), LoginNeeded for 401, and what
        `rejection` returns for any other status that is not 2xx. With `rejects_429` a 429 is Rejected for an order,
        which has a permit, and Unavailable for anything else.
        """


@attrs.frozen(kw_only=True)
class Gap:
    """A connection stands, or stands again: what happened before was not received. `words` says why."""

    words: str


class WebSocket(Protocol):
    """An open connection, on which messages go both ways."""

    async def send(self, message: str | bytes) -> None:
        """Send a message; raises Unavailable when the connection is lost."""

    async def receive(self) -> str | bytes:
        """The next message; raises Unavailable when the connection is lost, or silent for longer than allowed."""


def _one_line(_owner: object, field: attrs.Attribute[str], value: str) -> None:
    if not value.strip() or not value.isprintable():
        raise ValueError(f"{field.name} of a mail must be one line of text, not {value!r}")


def _mail_address(_owner: object, field: attrs.Attribute[str], value: str) -> None:
    if not _MAIL.fullmatch(value):
        raise ValueError(f"{field.name} of a mail must be an address such as me@example.com, not {value!r}")


def _message_id(_owner: object, field: attrs.Attribute[str], value: str) -> None:
    if value and not _MESSAGE_ID.fullmatch(value):
        raise ValueError(f"{field.name} of a mail must be an id such as <a1b2@example.com>, not {value!r}")


@attrs.frozen(kw_only=True)
class Mail:
    """A mail of plain text. ValueError for a line break or a control character in what becomes a header.

    `message_id` is its Message-ID, a random one if empty; a mail that is sent again has the same one. `answers` is the
    Message-ID of the mail that it follows, so that mail programs show both together.
    """

    sender: str = attrs.field(validator=_mail_address)
    recipients: tuple[str, ...] = attrs.field(
        validator=[attrs.validators.deep_iterable(_mail_address), attrs.validators.min_len(1)]
    )
    subject: str = attrs.field(validator=_one_line)
    text: str
    message_id: str = attrs.field(default="", validator=_message_id)
    answers: str = attrs.field(default="", validator=_message_id)


class Connect(Protocol):
    """The way of a plugin to the network: only the hosts that it declared, TLS always verified.

    Every method raises PluginError for a host that the plugin did not declare.
    """

    def http(
        self,
        host: str,
        *,
        headers: Headers | None = None,
        rejection: Callable[[HttpResponse], BrokerError] | None = None,
        rejects_429: bool = False,
    ) -> HttpClient:
        """A client for requests to a declared host; `headers` go with each of them.

        Clients whose headers come from a function share one request budget for each host.

        `rejection` turns an answer that is neither 2xx, 401, 429 nor 5xx into the exception to raise; without it that
        is `Rejected` with the answer's text. `rejects_429`: the vendor documents that a request over its limit is not
        processed.
        """

    def websocket(
        self,
        host: str,
        path: str = "",
        *,
        headers: Headers | None = None,
        mute_s: float | None = None,
    ) -> AbstractAsyncContextManager[WebSocket]:
        """One connection to a declared host.

        It is lost when a ping stays without a pong for 10 s, and when no message came for `mute_s` seconds, for a
        vendor that sends heartbeats. Opening raises Unavailable, or LoginNeeded for the status 401.
        """

    def stream(
        self,
        host: str,
        path: str = "",
        *,
        opening: Callable[[WebSocket], Awaitable[None]],
        headers: Headers | None = None,
        mute_s: float | None = None,
    ) -> AsyncIterator[str | bytes | Gap]:
        """Messages of a connection that is opened again whenever it is lost.

        `opening` is called on each new connection: it logs in and subscribes. A `Gap` follows each reconnect. The pause
        before it grows from half a second to 30 seconds, with jitter, and starts anew after a message. LoginNeeded and
        Rejected, of the connection or of `opening`, end the iterator.
        """

    async def mail(  # noqa: PLR0913  -- the parts of a login
        self,
        host: str,
        mail: Mail,
        *,
        server: str = "",
        user: str = "",
        password: SecretValue | None = None,
        plain: bool = False,
    ) -> Mapping[str, str]:
        """Send a mail; returns the recipients that the server refused, each with its words: empty if it took all.

        `server` is NAME or NAME:PORT (default: 587 with STARTTLS, 465 with TLS) where the declared host is
        `smtp://*`. `plain`: without TLS, to a server on this machine only; PluginError for another one. Raises
        Unavailable where nothing was accepted and a later attempt may help, LoginNeeded for a refused login, Rejected
        for a refusal for good, and OutcomeUnknown where the whole mail left without a reply.
        """

    async def check_mail(
        self,
        host: str,
        *,
        server: str = "",
        user: str = "",
        password: SecretValue | None = None,
        plain: bool = False,
    ) -> str:
        """Connect to the mail server and log in, as `mail` does, and send nothing; returns the server's last reply.

        Raises as `mail`.
        """

    async def close(self) -> None:
        """Close every connection of the plugin, and end its streams; the core calls it when it no longer uses it."""


class NoNetwork:
    """Where a plugin has no network, as in its isolated process: every method raises PluginError."""

    def http(self, host: str, **_options: object) -> HttpClient:
        """Raises PluginError."""
        raise _no_network(host)

    def websocket(self, host: str, path: str = "", **_options: object) -> AbstractAsyncContextManager[WebSocket]:
        """Raises PluginError."""
        raise _no_network(host + path)

    def stream(self, host: str, path: str = "", **_options: object) -> AsyncIterator[str | bytes | Gap]:
        """Raises PluginError."""
        raise _no_network(host + path)

    async def mail(self, host: str, mail: Mail, **_options: object) -> Mapping[str, str]:
        """Raises PluginError."""
        raise _no_network(f"{host} ({mail.sender})")

    async def check_mail(self, host: str, **_options: object) -> str:
        """Raises PluginError."""
        raise _no_network(host)

    async def close(self) -> None:
        """Nothing is open."""


def _no_network(host: str) -> PluginError:
    return PluginError(f"The plugin has no network here, but asked for its host {host}.", "Run it without isolation.")
