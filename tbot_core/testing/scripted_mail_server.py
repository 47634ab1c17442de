"""A mail server on this machine that replies as a test says, with TLS or without.

The content that arrived is in `mails`, the commands in `commands`::

    async with ScriptedMailServer({"RCPT TO:<b@example.com>": "550 unknown"}) as server:
        address = server.url
"""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl  # seam: the other end of a test's connection
from typing import TYPE_CHECKING, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tbot_core.model.clock import SystemClock
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_HERE: Final = "127.0.0.1"
_USUAL: Final = {
    "STARTTLS": "220 go on",
    "DATA": "354 go on",
    **dict.fromkeys(("MAIL", "RCPT", "DOT", "NOOP"), "250 fine"),
}
OFFERS: Final = ("fake", "STARTTLS", "AUTH PLAIN LOGIN")


def certificate(path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The contexts of a server on 127.0.0.1 with a certificate of its own, and of a client that trusts it.

    Key and certificate are written to `path`.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    now = SystemClock().now()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    filesystem.write_atomic(path, private + made.public_bytes(Encoding.PEM))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cafile=path)


class ScriptedMailServer:
    """Serves while it is entered, with replies by the first word of a command, or by the whole line.

    The reply "" closes the connection, None stays silent. `offers` are the lines of the reply to EHLO. `tls`: the
    server's context; `implicit`: TLS from the start.
    """

    def __init__(
        self,
        replies: Mapping[str, str | None] | None = None,
        *,
        offers: tuple[str, ...] = OFFERS,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
    ) -> None:
        self.commands: list[str] = []
        self.mails: list[str] = []
        self.secured = False
        self.port = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.replies = {"GREETING": "220 hello", **(replies or {})}
        self._offers = offers
        self._tls = tls
        self._implicit = implicit
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Its address, in the form of a setting HOST_PLUGIN_NAME."""
        return f"http://{_HERE}:{self.port}"

    @property
    def socket_url(self) -> str:
        """The same address: it has no WebSockets."""
        return self.url

    async def __aenter__(self) -> Self:
        """Listen."""
        context = self._tls if self._implicit else None
        self._server = await asyncio.start_server(self._serve, _HERE, 0, ssl=context)  # seam: as above
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # In a task of its own: Python 3.11 reports a cancelled handler as an error.
        self._tasks.append(asyncio.ensure_future(self._answer(reader, writer)))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(reader, writer)
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = "GREETING"
        while line:
            reply = self._reply(line)
            if reply is None:
                await asyncio.Event().wait()
            if not reply:
                return
            writer.write(f"{reply}\r\n".encode())
            await writer.drain()
            if line == "STARTTLS" and reply.startswith("220") and self._tls is not None:
                await writer.start_tls(self._tls)
                self.secured = True
            if line == "DATA" and reply.startswith("354"):
                self.mails.append((await reader.readuntil(b"\r\n.\r\n")).decode())
                line = "DOT"
                continue
            line = (await reader.readline()).decode().strip()
            self.commands.append(line)

    def _reply(self, line: str) -> str | None:
        for name in (line, line.partition(" ")[0]):
            if name in self.replies:
                return self.replies[name]
        if line.startswith("EHLO"):
            offers = [offer for offer in self._offers if not (self.secured and offer == "STARTTLS")]
            return "\r\n".join([*(f"250-{offer}" for offer in offers[:-1]), f"250 {offers[-1]}"])
        if "AUTH LOGIN" in self.commands[-2:]:
            return "334 next" if self.commands[-1] == "AUTH LOGIN" or self.commands[-2] == "AUTH LOGIN" else "235 in"
        return _USUAL.get(line.partition(" ")[0], "235 welcome")
