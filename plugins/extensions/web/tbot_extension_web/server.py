"""The process of the page: its address, its certificate, and uvicorn."""

from __future__ import annotations

import errno
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tbot_core.errors import AccessError, SettingsError, TbotError
from tbot_core.system.sockets import listening_sockets
from tbot_extension_web.headers import Origin

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp

MOST_CONNECTIONS: Final = 200
MOST_WAITING: Final = 150
"""With more connections than this, each new one ends the one that has waited longest for a request."""

RECEIVE_S: Final = 15.0
"""How long a request may take to arrive, and how long a connection waits for one."""

RECEIVE_WITHIN: Final = "receive_within"
"""In the state of a request: a function that gives the rest of it so many seconds in place of RECEIVE_S."""

_EDIT: Final = "`tbot secrets edit network_config`."

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@attrs.frozen(kw_only=True)
class Address:
    """Where the page listens; `certificate` and `private_key` are files in PEM, None without TLS.

    `hosts` are more names under which browsers reach it.
    """

    host: str = "127.0.0.1"
    port: int = 8443
    certificate: Path | None = None
    private_key: Path | None = None
    hosts: tuple[str, ...] = ()

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self.certificate is not None

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in LOOPBACK

    @property
    def on_this_machine(self) -> Address:
        """The same port where only this machine reaches it."""
        return self if self.loopback else Address(port=self.port)

    @property
    def origin(self) -> Origin:
        """The origins that a browser may show for it."""
        names = {self.host, *self.hosts, *(LOOPBACK if self.loopback else ())}
        shown = sorted(f"[{name}]" if ":" in name else name for name in sorted(names))
        found = [f"{name}:{self.port}" for name in shown]
        found += shown if self.port == (443 if self.secure else 80) else []
        return Origin(scheme="https" if self.secure else "http", hosts=frozenset(name.lower() for name in found))

    @property
    def url(self) -> str:
        """What a person opens."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}/"

    def refuse_open(self, *, public: bool) -> None:
        """Raise SettingsError for an address that other machines reach without TLS, or without being asked for."""
        if self.loopback:
            return
        if not self.secure:
            raise SettingsError(
                f"The page would listen on {self.host} for other machines without TLS.",
                "Give certificate and private_key in network_config: `tbot secrets edit network_config`.",
            )
        if not public:
            raise SettingsError(
                f"The page would listen on {self.host}, where other machines reach it.",
                "Set public=true in network_config if you want that.",
            )


class EndingServer(uvicorn.Server):
    """A server that calls `ending` before it waits for the answers being given: streams do not end by themselves."""

    ending: Callable[[], None]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the answers, then the connections."""
        self.ending()
        await super().shutdown(sockets)


@contextmanager
def listening(app: ASGIApp, address: Address, ending: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Listen on the address while the context lasts, and yield what serves the page until the process is asked to end.

    Then `ending` is called, which ends the streams.

    A browser that comes before that waits. Raises SettingsError for a certificate that cannot be used and a host that
    is none of this machine, AccessError for a port that is taken or not allowed.
    """
    config = server_config(app, address)
    try:
        config.load()
    except OSError as fault:  # SSLError is one
        message = f"The page's certificate or private key cannot be used: {fault.strerror or fault}."
        raise SettingsError(message, f"Give others in network_config: {_EDIT}") from fault
    with bound(address) as sockets:
        server = EndingServer(config)
        server.ending = ending
        yield partial(server.run, sockets)


@contextmanager
def bound(address: Address, *, configured: bool = True) -> Iterator[list[socket.socket]]:
    """Sockets that listen on the address while the context lasts; `configured`: whether network_config can be edited.

    Raises SettingsError for a host that is none of this machine, AccessError for a port that is taken or not allowed.
    """
    try:
        sockets = listening_sockets(address.host, address.port)
    except OSError as fault:
        raise _unbound(address, fault, configured=configured) from fault
    with ExitStack() as ends:
        for one in sockets:
            ends.enter_context(one)
        yield sockets


def _unbound(address: Address, fault: OSError, *, configured: bool) -> TbotError:
    message = f"The page cannot listen on {address.url}: {fault.strerror or fault}."
    edit = f" Or give port in network_config: {_EDIT}" if configured else ""
    match fault.errno:
        case errno.EADDRINUSE:
            remedy = "End the program that listens there, or choose another port: `tbot web --port N`."
            return AccessError(message, f"{remedy}{edit}")
        case errno.EACCES:
            return AccessError(message, f"Choose a port from 1024 up: `tbot web --port N`.{edit}")
        case _:
            return SettingsError(message, f"Give host in network_config an address of this machine: {_EDIT}")


class Connection(H11Protocol):
    """A connection that brings each request whole within RECEIVE_S, or ends; of many that wait the oldest ends.

    A request whose sender may send a large file gets the time of that.
    """

    _ends: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base has it
        """Wait for the first request."""
        super().connection_made(transport)
        self._expect()
        waiting = [
            connection
            for connection in self.connections
            if isinstance(connection, Connection) and connection.waits_until is not None
        ]
        if len(self.connections) > MOST_WAITING and waiting:
            min(waiting, key=lambda one: one.waits_until or 0).end()

    def handle_events(self) -> None:
        """Go on with the request, which may ask for more time."""
        super().handle_events()
        if self.scope is not None:
            self.scope["state"][RECEIVE_WITHIN] = self._receive_within

    def data_received(self, data: bytes) -> None:
        """Go on with the request."""
        super().data_received(data)
        self._expect()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._wait_no_more()
        super().connection_lost(exc)

    @property
    def waits_until(self) -> float | None:
        """When it ends unless the rest of a request comes; None while none is waited for."""
        return None if self._ends is None else self._ends.when()

    def end(self) -> None:
        """End it at once."""
        self._wait_no_more()
        self.transport.abort()

    def _expect(self) -> None:
        # The time counts from the begin of the wait: a byte now and then does not lengthen it.
        if self.conn.their_state not in {h11.IDLE, h11.SEND_BODY}:
            self._wait_no_more()
        elif self._ends is None and not self.transport.is_closing():
            self._ends = self.loop.call_later(RECEIVE_S, self.end)

    def _receive_within(self, seconds: float) -> None:
        if self._ends is not None:
            self._ends.cancel()
            self._ends = self.loop.call_later(seconds, self.end)

    def _wait_no_more(self) -> None:
        if self._ends is not None:
            self._ends.cancel()
            self._ends = None


def server_config(app: ASGIApp, address: Address) -> uvicorn.Config:
    """How the page is served: no log of requests, no name of the server, no address from a proxy's header."""
    return uvicorn.Config(
        app,
        host=address.host,
        port=address.port,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.private_key,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=3,
        limit_concurrency=MOST_CONNECTIONS,
        http=Connection,
        lifespan="off",
    )
