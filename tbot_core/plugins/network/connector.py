"""What `Context.connect` is: the declared hosts of one plugin, and the clients to them.

The connections of a run's plugins are closed when a plugin is no longer used, and at the run's end.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs

from tbot_core.contracts.network import Connect, Gap, Headers, HttpResponse, Mail, OutgoingRequest, WebSocket
from tbot_core.contracts.permissions import Host
from tbot_core.errors import BrokerError, PluginError, Unavailable
from tbot_core.model.clock import Clock
from tbot_core.plugins.network.request_limits import RequestBudget, RetryPolicy
from tbot_core.system import log

if TYPE_CHECKING:
    import asyncio

    from tbot_core.contracts.credentials import SecretValue
    from tbot_core.plugins.network.http_client import PacedHttpClient
    from tbot_core.system.smtp import MailServer
    from tbot_core.system.websocket import OpenWebSocket

_LONGEST_PAUSE_S: Final = 30.0

_FIRST_PAUSE_S: Final = 0.5

CLOSE_S: Final = 10.0
"""Seconds within which a connection closes, however a server behaves."""

_log = log.logger(__name__)


@attrs.frozen(kw_only=True, eq=False)
class Connector:
    """The network of one plugin: see `tbot_core.contracts.network.Connect`.

    `addresses` are the loopback addresses that the instance gives instead of declared ones; with `only_here`, as in a
    rehearsal, a host without one is refused. `timeout_s` is API_TIMEOUT; `retries` are those of readings.
    """

    plugin: str
    hosts: Mapping[str, Host]
    clock: Clock
    budgets: RequestBudgets
    timeout_s: float = 10.0
    retries: RetryPolicy = attrs.field(factory=RetryPolicy)
    addresses: Mapping[str, str] = attrs.field(factory=dict)
    only_here: bool = False
    _closing: list[Callable[[], Awaitable[None]]] = attrs.field(factory=list, init=False)
    _sockets: list[Callable[[], Awaitable[None]]] = attrs.field(factory=list, init=False)
    _streams: list[Callable[[], None]] = attrs.field(factory=list, init=False)

    def http(
        self,
        host: str,
        *,
        headers: Headers | None = None,
        rejection: Callable[[HttpResponse], BrokerError] | None = None,
        rejects_429: bool = False,
    ) -> PacedHttpClient:
        """A client for requests to a declared host."""
        from tbot_core.plugins.network.http_client import PacedHttpClient
        from tbot_core.system.http import HttpTransport

        declared, url = self._address(host, "https", "http")
        given = headers or {}
        client = PacedHttpClient(
            name=f"{self.plugin} ({host})",
            transport=HttpTransport(url),
            headers=given,
            clock=self.clock,
            budget=self.budgets.of(declared, given, url),
            per_minute=declared.requests_per_minute,
            timeout_s=self.timeout_s,
            retries=self.retries,
            rejection=rejection,
            rejects_429=rejects_429,
        )
        self._closing.append(client.close)
        return client

    def websocket(
        self,
        host: str,
        path: str = "",
        *,
        headers: Headers | None = None,
        mute_s: float | None = None,
    ) -> AbstractAsyncContextManager[OpenWebSocket]:
        """One connection to a declared host."""
        from tbot_core.plugins.network.http_client import assert_below_host

        _, base = self._address(host, "wss", "ws")
        assert_below_host(f"{self.plugin} ({host})", path or "/")
        return self._socket(host, base.rstrip("/") + path, headers or {}, mute_s)

    async def stream(
        self,
        host: str,
        path: str = "",
        *,
        opening: Callable[[WebSocket], Awaitable[None]],
        headers: Headers | None = None,
        mute_s: float | None = None,
    ) -> AsyncIterator[str | bytes | Gap]:
        """Messages of a connection that is opened again whenever it is lost."""
        import asyncio

        pause_s, lost = _FIRST_PAUSE_S, ""
        closed = asyncio.Event()
        self._streams.append(closed.set)
        while not closed.is_set():
            try:
                async with self.websocket(host, path, headers=headers, mute_s=mute_s) as connection:
                    await opening(connection)
                    if lost:
                        yield Gap(words=lost)
                    while True:
                        yield await connection.receive()
                        pause_s = _FIRST_PAUSE_S
            except Unavailable as fault:
                lost = fault.message
            if not closed.is_set():
                await self.clock.sleep(pause_s * (0.5 + self.retries.jitter() / 2))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

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
        """Send a mail by the declared server, or the operator's."""
        from tbot_core.plugins.network.mail_content import outgoing_mail
        from tbot_core.system.smtp import deliver_mail

        there = self._mail_server(host, server, (user, password), plain=plain)
        sent = outgoing_mail(mail, self.clock.now())
        with self._named_faults(_security(host, plain=plain)):
            return await deliver_mail(there, sent, timeout_s=self.timeout_s)

    async def check_mail(
        self,
        host: str,
        *,
        server: str = "",
        user: str = "",
        password: SecretValue | None = None,
        plain: bool = False,
    ) -> str:
        """Log in to the declared server, or the operator's, and send nothing."""
        from tbot_core.system.smtp import check_mail_server

        there = self._mail_server(host, server, (user, password), plain=plain)
        with self._named_faults(_security(host, plain=plain)):
            return await check_mail_server(there, timeout_s=self.timeout_s)

    async def close(self) -> None:
        """Close every connection and end every stream; HTTP clients open new connections when they are used again."""
        import asyncio

        for end in self._streams:
            end()
        self._streams.clear()
        closing = [one() for one in (*self._closing, *self._sockets)]
        await asyncio.gather(*closing, return_exceptions=True)

    def _mail_server(self, host: str, server: str, login: tuple[str, SecretValue | None], *, plain: bool) -> MailServer:
        from tbot_core.plugins.network import mail_content

        name, (user, password) = f"{self.plugin} ({_security(host, plain=plain)})", login
        there = mail_content.mail_server(name, self._declared(host), server, self.addresses.get(host, ""))
        if plain:
            there = mail_content.without_tls(name, there)
        return attrs.evolve(there, user=user, password="" if password is None else password.reveal())

    @contextmanager
    def _named_faults(self, security: str) -> Iterator[None]:
        # Errors name the plugin and how its mail server is reached.
        try:
            yield
        except BrokerError as fault:
            fault.message = f"{self.plugin} ({security}): {fault.message}"
            raise

    @asynccontextmanager
    async def _socket(
        self, host: str, url: str, headers: Headers, mute_s: float | None
    ) -> AsyncIterator[OpenWebSocket]:
        # One connection, which `close` closes too.
        from tbot_core.plugins.network.http_client import revealed_headers
        from tbot_core.system.websocket import open_websocket

        name = f"{self.plugin} ({host})"
        made = revealed_headers(name, headers, OutgoingRequest(method="GET", url=url))
        async with open_websocket(name, url, headers=made, timeout_s=self.timeout_s, mute_s=mute_s) as connection:
            self._sockets.append(connection.close)
            try:
                yield connection
            finally:
                self._sockets.remove(connection.close)

    def _declared(self, host: str) -> Host:
        declared = self.hosts.get(host)
        if declared is None:
            known = ", ".join(sorted(self.hosts)) or "none"
            raise PluginError(f"{self.plugin} does not declare the host {host!r}; its hosts: {known}.")
        if self.only_here and not self.addresses.get(host):
            raise Unavailable(
                f"{self.plugin}: a rehearsal reaches servers on this machine only, and {declared.url} has none.",
                "`tbot rehearse --broker NAME --serve` serves what the plugin's venue plays.",
            )
        return declared

    def _address(self, host: str, scheme: str, loopback_scheme: str) -> tuple[Host, str]:
        # The declaration of a host and the address in use; both must be of the right scheme.
        declared = self._declared(host)
        if urlsplit(declared.url).scheme != scheme:
            raise PluginError(f"{self.plugin} declares the host {host!r} as {declared.url}, not with {scheme}.")
        given = self.addresses.get(host)
        if not given:
            return declared, declared.url
        there = urlsplit(given)
        return declared, f"{loopback_scheme}://{there.netloc}{there.path}"


class RequestBudgets:
    """The request budgets of a run: one for each host and credential, shared by the plugins that use both."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._budgets: dict[tuple[str, str], RequestBudget] = {}
        self._limits: dict[str, int] = {}
        self._shown: dict[str, str] = {}

    def of(self, host: Host, headers: Headers, url: str = "") -> RequestBudget:
        """The budget of this host, or of its `budget`, for the credential: the secret ones among the headers.

        `url` is the address in use where it is not the declared one; only `left` shows it.

        Headers that are made for each request count as one credential.
        """
        given = {} if callable(headers) else headers
        secret = sorted(text.reveal() for text in given.values() if not isinstance(text, str))
        credential = hashlib.sha256(repr(secret).encode()).hexdigest()
        where = host.budget or urlsplit(host.url).netloc
        if url and url != host.url:
            self._shown[where] = f"{urlsplit(url).netloc} instead of {where}"
        self._limits[where] = host.requests_per_minute
        return self._budgets.setdefault((where, credential), RequestBudget(self._clock.monotonic()))

    def left(self) -> tuple[tuple[str, int | None, int, float], ...]:
        """For each host, or `budget`, with a limit: the requests left as the vendor says, and the limit per minute.

        None: the vendor's answers of the last minute do not say it. The last number is the seconds of a pause that the
        vendor asked for. The least of its credentials counts. Where another address is in use, the name says so.
        """
        now = self._clock.monotonic()
        found = []
        for where, limit in sorted(self._limits.items()):
            budgets = [it for (place, _), it in self._budgets.items() if place == where]
            left = min((said for budget in budgets if (said := budget.reported(now)) is not None), default=None)
            paused = max(budget.paused_s(now) for budget in budgets)
            found += [(self._shown.get(where, where), left, limit, round(paused, 1))] if limit else []
        return tuple(found)


class PluginConnections:
    """What each plugin of a run was given to connect with, by `kind/name`."""

    def __init__(self) -> None:
        self._given: defaultdict[str, list[Connect]] = defaultdict(list)
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many objects of plugins were given one."""
        return sum(map(len, self._given.values()))

    def add(self, plugin: str, connect: Connect) -> None:
        """Note what a plugin is created with."""
        self._given[plugin].append(connect)

    def remove(self, plugin: str, connect: Connect) -> None:
        """Forget what an object was created with that is no longer used, and close it."""
        self._given[plugin].remove(connect)
        self._close_soon([connect])

    def close_plugin(self, plugin: str) -> None:
        """Begin to close the connections of a plugin that is switched off; it may open others when it is used again."""
        self._close_soon(self._given.get(plugin, []))

    async def close(self) -> None:
        """Close the connections of all plugins, within `CLOSE_S` seconds."""
        await _close([one for given in self._given.values() for one in given])
        if self._closing:
            import asyncio

            await asyncio.wait(self._closing)

    def _close_soon(self, connects: Iterable[Connect]) -> None:
        # In the event loop that opened them; without one nothing is open.
        import asyncio

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        task = loop.create_task(_close(list(connects)))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _security(host: str, *, plain: bool) -> str:
    # How a mail server is reached: as the declared host of that name, or without TLS in its place.
    return "without TLS" if plain else host


async def _close(connects: list[Connect]) -> None:
    if not connects:
        return
    import asyncio

    done, left = await asyncio.wait([asyncio.ensure_future(one.close()) for one in connects], timeout=CLOSE_S)
    for task in left:
        task.cancel()
        _log.warning("connections.not_closed", reason=f"no answer within {CLOSE_S:g} s")
    for task in done:
        if fault := task.exception():
            _log.warning("connections.not_closed", reason=str(fault))
