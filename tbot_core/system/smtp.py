"""One mail over SMTP: TLS verified, bounded in time, and clear about what the server did with it."""

from __future__ import annotations

import asyncio
import base64
import ssl
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from tbot_core.errors import BrokerError, LoginNeeded, OutcomeUnknown, Rejected, Unavailable

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Awaitable, Callable, Mapping

T = TypeVar("T")
_NAME: Final = "[127.0.0.1]"
"""The name under which the client introduces itself: an address literal, which tells nothing of the machine."""

_LONGEST: Final = 2_000
_MOST_LINES: Final = 100
_CHUNK: Final = 4_096
_LOGIN: Final = frozenset({530, 534, 535, 538})
_TEMPORARY: Final = range(400, 500)
_OK: Final = range(200, 400)


@attrs.frozen(kw_only=True)
class MailServer:
    """A server and how it is reached; `tls` from the start, else by STARTTLS.

    `plain`: on this machine, without TLS. The password is sent over TLS, or on this machine.
    """

    host: str
    port: int
    tls: bool = False
    plain: bool = False
    user: str = ""
    password: str = attrs.field(default="", repr=False)


@attrs.frozen(kw_only=True)
class OutgoingMail:
    """The addresses of a mail, and its headers and body as they are sent."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class SmtpReply:
    """A server's reply: the code, and its lines without the code."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The reply in one line."""
        return f"{self.code} {' '.join(self.lines)}".strip()


async def deliver_mail(
    server: MailServer, mail: OutgoingMail, *, timeout_s: float, context: ssl.SSLContext | None = None
) -> Mapping[str, str]:
    """Deliver the mail within `timeout_s` seconds; returns the refused recipients, each with the server's words.

    `context` replaces the system's trusted certificates. Raises Unavailable where nothing was accepted and a later
    attempt may help, LoginNeeded and Rejected as the server says, and OutcomeUnknown where the whole mail was sent
    without a reply.
    """
    return await _talk(server, lambda dialogue: dialogue.deliver(mail), timeout_s, context)


async def check_mail_server(server: MailServer, *, timeout_s: float, context: ssl.SSLContext | None = None) -> str:
    """Connect and log in within `timeout_s` seconds, and send nothing; returns the server's reply to NOOP.

    Raises as `deliver_mail`.
    """
    return await _talk(server, _Dialogue.check, timeout_s, context)


async def _talk(
    server: MailServer,
    speak: Callable[[_Dialogue], Awaitable[T]],
    timeout_s: float,
    context: ssl.SSLContext | None,
) -> T:
    context = context or ssl.create_default_context()
    dialogue: _Dialogue | None = None
    try:
        async with asyncio.timeout(timeout_s):
            dialogue = _Dialogue(server, context, await _connect(server, context))
            await dialogue.open()
            found = await speak(dialogue)
            dialogue.leave()
            return found
    except TimeoutError as fault:
        raise _lost(server, dialogue, f"no reply within {timeout_s:g} s") from fault
    except (OSError, EOFError, ValueError) as fault:  # a refused connection, a broken one, a failed TLS handshake
        raise _lost(server, dialogue, str(fault) or type(fault).__name__) from fault
    finally:
        if dialogue is not None:
            dialogue.close()


async def _connect(server: MailServer, context: ssl.SSLContext) -> tuple[StreamReader, StreamWriter]:
    tls, name = (context, server.host) if server.tls else (None, None)
    return await asyncio.open_connection(server.host, server.port, ssl=tls, server_hostname=name)


def _lost(server: MailServer, dialogue: _Dialogue | None, words: str) -> BrokerError:
    # The error of a lost connection.
    kind = OutcomeUnknown if dialogue is not None and dialogue.whole else Unavailable
    return kind(f"{server.host}: {words}")


class _Dialogue:
    # Commands and replies on one connection; `whole`: the mail has left, and its reply has not come.
    def __init__(self, server: MailServer, context: ssl.SSLContext, streams: tuple[StreamReader, StreamWriter]) -> None:
        self.whole = False
        self._server = server
        self._context = context
        self._reader, self._writer = streams
        self._received = b""
        self._offers: tuple[str, ...] = ()

    def leave(self) -> None:
        # RFC 5321, 4.1.1.10, without the wait for the reply: the server has taken what it was sent.
        self._writer.write(b"QUIT\r\n")

    def close(self) -> None:
        self._writer.close()

    async def open(self) -> None:
        # Start TLS and log in.
        server = self._server
        self._expect(await self._reply())
        await self._introduce()
        if not server.tls and not server.plain:
            await self._start_tls()
        if server.user:
            await self._log_in()

    async def check(self) -> str:
        reply = await self._command("NOOP")
        self._expect(reply)
        return reply.text

    async def deliver(self, mail: OutgoingMail) -> Mapping[str, str]:
        self._expect(await self._command(f"MAIL FROM:<{mail.sender}>"))
        replies = {recipient: await self._command(f"RCPT TO:<{recipient}>") for recipient in mail.recipients}
        refused = {one: reply for one, reply in replies.items() if reply.code not in _OK}
        if len(refused) == len(replies):
            later = [reply for reply in refused.values() if reply.code in _TEMPORARY]
            self._expect(next(iter(later or refused.values())))
        self._expect(await self._command("DATA"))
        lines = mail.content.replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n")
        await self._write(b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines))
        self.whole = True
        await self._write(b".\r\n")
        reply = await self._reply()
        self.whole = False
        self._expect(reply)
        return {one: reply.text for one, reply in refused.items()}

    async def _introduce(self) -> None:
        reply = await self._command(f"EHLO {_NAME}")
        self._expect(reply)
        self._offers = tuple(line.upper() for line in reply.lines[1:])

    async def _start_tls(self) -> None:
        if "STARTTLS" not in self._offers:
            raise Unavailable(f"{self._server.host} offers no STARTTLS, and nothing is sent in the clear.")
        self._expect(await self._command("STARTTLS"))
        if self._received:  # sent in the clear by someone between, to be read as part of the protected dialogue
            raise Unavailable(f"{self._server.host} sent more than its reply to STARTTLS.")
        await self._writer.start_tls(self._context, server_hostname=self._server.host)
        await self._introduce()

    async def _log_in(self) -> None:
        server = self._server
        ways = next((line.split()[1:] for line in self._offers if line.startswith("AUTH ")), [])
        if "PLAIN" in ways:
            reply = await self._command(f"AUTH PLAIN {_coded(f'{chr(0)}{server.user}{chr(0)}{server.password}')}")
        elif "LOGIN" in ways:
            self._expect(await self._command("AUTH LOGIN"))
            self._expect(await self._command(_coded(server.user)))
            reply = await self._command(_coded(server.password))
        else:
            raise LoginNeeded(f"{server.host} offers no login by password: {' '.join(ways) or 'no AUTH'}.")
        if reply.code not in _OK and reply.code not in _TEMPORARY:
            raise LoginNeeded(f"{server.host}: the login was refused: {reply.text}")
        self._expect(reply)

    async def _command(self, text: str) -> SmtpReply:
        await self._write(f"{text}\r\n".encode("ascii"))
        return await self._reply()

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def _reply(self) -> SmtpReply:
        lines: list[str] = []
        while len(lines) < _MOST_LINES:
            line = await self._line()
            if not line[:3].isdecimal() or line[3:4] not in {" ", "-", ""}:
                raise ValueError("the server does not speak SMTP")
            lines.append(line[4:])
            if line[3:4] != "-":
                return SmtpReply(code=int(line[:3]), lines=tuple(lines))
        raise ValueError("the server's reply has no end")

    async def _line(self) -> str:
        # The next line; all that has arrived is kept here, so that it is known what came before TLS began.
        while b"\n" not in self._received:
            if len(self._received) > _LONGEST:
                raise ValueError("a line of the server's reply has no end")
            chunk = await self._reader.read(_CHUNK)
            if not chunk:
                raise EOFError("the server closed the connection")
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line.rstrip(b"\r").decode(errors="replace")

    def _expect(self, reply: SmtpReply) -> None:
        # Raise what a refusal means.
        if reply.code in _OK:
            return
        kind = Unavailable if reply.code in _TEMPORARY else LoginNeeded if reply.code in _LOGIN else Rejected
        raise kind(f"{self._server.host}: {reply.text}")


def _coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
