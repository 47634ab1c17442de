"""One mail over SMTP: what each reply means, and that nothing leaves without TLS."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.errors import LoginNeeded, OutcomeUnknown, Rejected, Unavailable
from tbot_core.system.smtp import MailServer, OutgoingMail, check_mail_server, deliver_mail
from tbot_core.testing.scripted_mail_server import ScriptedMailServer, certificate

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

pytestmark = pytest.mark.usefixtures("loopback")

MAIL = OutgoingMail(
    sender="bot@example.com", recipients=("a@example.com", "b@example.com"), content=b"Subject: x\r\n\r\n.dot\nend\n"
)


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The contexts of a server with a certificate, and of a client that trusts it."""
    return certificate(tmp_path_factory.mktemp("mail") / "mail.pem")


def deliver(
    server: Any, *, context: ssl.SSLContext | None = None, timeout_s: float = 2.0, **how: Any
) -> Mapping[str, str]:
    """Deliver the mail to the server."""

    async def main() -> Mapping[str, str]:
        async with server:
            there = MailServer(host="127.0.0.1", port=server.port, **how)
            return await deliver_mail(there, MAIL, timeout_s=timeout_s, context=context)

    return asyncio.run(main())


def test_a_mail_is_delivered_whole() -> None:
    """Lines end as SMTP demands, and a line that begins with a dot does not end the mail."""
    server = ScriptedMailServer()
    assert deliver(server, plain=True) == {}
    assert server.mails == ["Subject: x\r\n\r\n..dot\r\nend\r\n.\r\n"]
    assert server.commands[1:4] == ["MAIL FROM:<bot@example.com>", "RCPT TO:<a@example.com>", "RCPT TO:<b@example.com>"]


@pytest.mark.parametrize("implicit", [True, False])
def test_tls_comes_before_the_login(contexts: tuple[ssl.SSLContext, ssl.SSLContext], *, implicit: bool) -> None:
    """From the start or by STARTTLS, with the certificate verified."""
    server = ScriptedMailServer(tls=contexts[0], implicit=implicit)
    assert deliver(server, tls=implicit, context=contexts[1], user="bot", password="secret word") == {}
    login = base64.b64encode(b"\0bot\0secret word").decode()
    names = [one.partition(" ")[0] for one in server.commands]
    assert names[: names.index("AUTH")] == (["EHLO"] if implicit else ["EHLO", "STARTTLS", "EHLO"])
    assert f"AUTH PLAIN {login}" in server.commands
    assert server.secured is not implicit


@pytest.mark.parametrize("implicit", [True, False])
def test_a_certificate_that_is_not_trusted_ends_it(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], *, implicit: bool
) -> None:
    """Nothing of the mail or the password has left."""
    server = ScriptedMailServer(tls=contexts[0], implicit=implicit)
    with pytest.raises(Unavailable, match=r"(?i)certificate verify failed"):
        deliver(server, tls=implicit, user="bot", password="secret word")
    assert not server.mails
    assert not any(one.startswith("AUTH") for one in server.commands)


def test_nothing_is_sent_in_the_clear() -> None:
    """A server without STARTTLS, or someone between who takes the offer away, gets no login and no mail."""
    server = ScriptedMailServer(offers=("fake", "AUTH PLAIN"))
    with pytest.raises(Unavailable, match="offers no STARTTLS"):
        deliver(server, user="bot", password="secret word")
    assert [one for one in server.commands if one] == ["EHLO [127.0.0.1]"]


def test_replies_before_tls_do_not_count_after_it(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """What someone between adds to the reply to STARTTLS is not read as protected."""
    server = ScriptedMailServer({"STARTTLS": "220 go on\r\n250 fine"}, tls=contexts[0])
    with pytest.raises(Unavailable, match="more than its reply to STARTTLS"):
        deliver(server, context=contexts[1])


def test_a_login_by_two_lines() -> None:
    """Where only AUTH LOGIN is offered."""
    server = ScriptedMailServer(offers=("fake", "AUTH LOGIN"))
    assert deliver(server, plain=True, user="bot", password="word") == {}
    coded = [base64.b64encode(one).decode() for one in (b"bot", b"word")]
    assert server.commands[1:4] == ["AUTH LOGIN", *coded]


@pytest.mark.parametrize(
    ("replies", "raised", "words"),
    [
        ({"GREETING": "421 too busy"}, Unavailable, "421 too busy"),
        ({"GREETING": "554 no"}, Rejected, "554 no"),
        ({"GREETING": "HTTP/1.1 400 Bad Request"}, Unavailable, "does not speak SMTP"),
        ({"GREETING": "220-" + "x" * 9000}, Unavailable, "no end"),
        ({"GREETING": "\r\n".join(["220-x"] * 101)}, Unavailable, "no end"),
        ({"GREETING": ""}, Unavailable, "closed the connection"),
        ({"AUTH": "535 5.7.8 wrong"}, LoginNeeded, "the login was refused: 535"),
        ({"AUTH": "454 later"}, Unavailable, "454 later"),
        ({"MAIL": "550 not you"}, Rejected, "550 not you"),
        ({"MAIL": "530 log in first"}, LoginNeeded, "530"),
        ({"RCPT": "550 unknown"}, Rejected, "550 unknown"),
        ({"RCPT": "451 later"}, Unavailable, "451 later"),
        ({"RCPT TO:<a@example.com>": "550 unknown", "RCPT TO:<b@example.com>": "451 later"}, Unavailable, "451 later"),
        ({"DATA": "452 full"}, Unavailable, "452 full"),
        ({"DOT": "552 too large"}, Rejected, "552 too large"),
        ({"DOT": "451 later"}, Unavailable, "451 later"),
        ({"DOT": ""}, OutcomeUnknown, "closed the connection"),
    ],
)
def test_n6_each_reply_has_its_error(replies: dict[str, str], raised: type[Exception], words: str) -> None:
    """Later, never, a login, or unknown after the whole mail had left."""
    server = ScriptedMailServer(replies)
    with pytest.raises(raised, match=words) as fault:
        deliver(server, plain=True, user="bot", password="word")
    assert type(fault.value) is raised


@pytest.mark.parametrize(
    ("silent", "raised"), [("GREETING", Unavailable), ("RCPT", Unavailable), ("DOT", OutcomeUnknown)]
)
def test_n6_a_server_that_hangs_is_left(silent: str, raised: type[Exception]) -> None:
    """The whole dialogue has one time limit."""
    with pytest.raises(raised, match=r"no reply within 0\.2 s"):
        deliver(ScriptedMailServer({silent: None}), plain=True, timeout_s=0.2)


def test_n6_one_of_two_recipients_is_refused() -> None:
    """The other one gets the mail, and the refusal is returned in the server's words."""
    server = ScriptedMailServer({"RCPT TO:<b@example.com>": "550 unknown"})
    assert deliver(server, plain=True) == {"b@example.com": "550 unknown"}
    assert len(server.mails) == 1


def test_a_server_without_a_login_by_password_is_named() -> None:
    """What it offers is said."""
    with pytest.raises(LoginNeeded, match="offers no login by password: XOAUTH2"):
        deliver(ScriptedMailServer(offers=("fake", "AUTH XOAUTH2")), plain=True, user="bot", password="word")


def test_a_server_that_is_not_there_is_unavailable() -> None:
    """Nothing was sent."""
    there = MailServer(host="127.0.0.1", port=1, plain=True)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1: "):
        asyncio.run(deliver_mail(there, MAIL, timeout_s=2.0))


def test_a_dialogue_ends_with_quit() -> None:
    """A server counts a connection that is only closed as a fault of the client."""
    server = ScriptedMailServer()

    async def main() -> None:
        async with server:
            there = MailServer(host="127.0.0.1", port=server.port, plain=True)
            assert await check_mail_server(there, timeout_s=2.0) == "250 fine"
            while "QUIT" not in server.commands:  # noqa: ASYNC110  -- the server has no event for it
                await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), 5.0))
