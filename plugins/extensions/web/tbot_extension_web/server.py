"""The process of the page: its address, its certificate, and uvicorn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import uvicorn

from tbot_core.errors import SettingsError
from tbot_extension_web.headers import Origin

if TYPE_CHECKING:
    from starlette.types import ASGIApp

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


def serve(app: ASGIApp, address: Address) -> None:
    """Serve the page until the process is asked to end."""
    uvicorn.Server(server_config(app, address)).run()


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
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
        limit_concurrency=200,
        lifespan="off",
    )
