"""The way of a plugin to a mail server: which one, and what becomes of the message."""

from __future__ import annotations

import asyncio
import datetime as dt
import email
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts.network import Mail, NoNetwork
from tbot_core.contracts.permissions import Host, PluginNeeds
from tbot_core.errors import LoginNeeded, PluginError, Rejected
from tbot_core.model.clock import ManualClock
from tbot_core.plugins.network.connector import Connector, RequestBudgets
from tbot_core.plugins.network.mail_content import mail_server, without_tls
from tbot_core.system.secret import Secret
from tbot_core.system.smtp import MailServer
from tbot_core.testing.scripted_mail_server import ScriptedMailServer

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.usefixtures("loopback")

NOON = dt.datetime(2026, 3, 3, 17, tzinfo=dt.UTC)
HOSTS = {"mail": Host("smtp://*"), "api": Host("https://api.example.com"), "own": Host("smtps://mail.example.com")}
MAIL = Mail(sender="bot@example.com", recipients=("a@example.com",), subject="Fill in ACMÉ", text="12 ACME\n.\nµ")


def send(there: Any, host: str = "mail", mail: Mail = MAIL, **options: Any) -> Mapping[str, str]:
    """Send a mail through a connector whose mail server is the fake one."""

    async def main() -> Mapping[str, str]:
        async with there:
            return await connector(there).mail(host, mail, **options)

    return asyncio.run(main())


def check(there: Any, **options: Any) -> str:
    """Check the login through such a connector."""

    async def main() -> str:
        async with there:
            return await connector(there).check_mail("mail", server="mail.example.org", **options)

    return asyncio.run(main())


def connector(there: Any) -> Connector:
    """A connector whose mail server is the fake one."""
    clock = ManualClock(NOON)
    return Connector(
        plugin="alert post",
        hosts=HOSTS,
        clock=clock,
        budgets=RequestBudgets(clock),
        addresses={"mail": f"http://127.0.0.1:{there.port}"},
    )


def test_a_mail_has_its_headers_and_text() -> None:
    """Any letter arrives, in headers and in the text; the password is used for the login."""
    server = ScriptedMailServer()
    assert send(server, server="mail.example.org", user="bot", password=Secret("hush-hush-1")) == {}
    (raw,) = server.mails
    assert raw.isascii()
    found = email.message_from_string(raw.replace("\r\n..", "\r\n."), policy=email.policy.default)
    assert found["Subject"] == "Fill in ACMÉ"
    assert (found["From"], found["To"]) == ("bot@example.com", "a@example.com")
    assert found["Date"].datetime == NOON
    assert found["Message-ID"].endswith("@example.com>")
    assert found.get_content().splitlines()[:3] == ["12 ACME", ".", "µ"]
    assert any(one.startswith("AUTH PLAIN ") for one in server.commands)


def test_a_refusal_names_the_plugin() -> None:
    """And quotes the server."""
    with pytest.raises(Rejected, match=r"alert post \(mail\): 127\.0\.0\.1: 550 not you"):
        send(ScriptedMailServer({"MAIL": "550 not you"}), server="mail.example.org")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("subject", "Fill\r\nBcc: x@example.com"),
        ("subject", "Fill\nx"),
        ("subject", "\x00"),
        ("subject", " "),
        ("sender", "bot@example.com>\r\nRCPT TO:<x@example.com"),
        ("sender", "bot"),
        ("recipients", ("a@example.com", "b@example.com\n")),
        ("recipients", ("a b@example.com",)),
        ("recipients", ()),
    ],
)
def test_n9_a_line_break_adds_no_header(name: str, value: object) -> None:
    """Whatever a symbol or a vendor's words contain, no header and no recipient comes from it."""
    given: dict[str, Any] = {"sender": "bot@example.com", "recipients": ("a@example.com",), "subject": "s", "text": ""}
    with pytest.raises(ValueError, match=f"{name}|recipients"):
        Mail(**given | {name: value})


@pytest.mark.parametrize(
    ("host", "given", "words"),
    [
        ("api", "", "not with smtp or smtps"),
        ("mail", "", "names no mail server"),
        ("own", "mail.example.org", "names mail.example.org, but declares smtps://mail.example.com"),
        ("mail", "mail.example.org:x", "is no mail server"),
        ("mail", "user@mail.example.org", "is no mail server"),
        ("mail", "mail.example.org/x", "is no mail server"),
        ("mail", ":25", "is no mail server"),
        ("other", "", "does not declare the host 'other'"),
    ],
)
def test_only_a_declared_mail_server_is_used(host: str, given: str, words: str) -> None:
    """The operator names one only where the declaration leaves it to him."""
    clock = ManualClock(NOON)
    connect = Connector(plugin="alert post", hosts=HOSTS, clock=clock, budgets=RequestBudgets(clock))
    with pytest.raises(PluginError, match=words):
        asyncio.run(connect.mail(host, MAIL, server=given))


def test_the_kind_of_the_host_says_how_tls_begins() -> None:
    """And the port, where none is given."""
    assert mail_server("x", HOSTS["mail"], "a.example.com", "") == MailServer(host="a.example.com", port=587)
    assert mail_server("x", HOSTS["mail"], "a.example.com:25", "") == MailServer(host="a.example.com", port=25)
    assert mail_server("x", HOSTS["own"], "", "") == MailServer(host="mail.example.com", port=465, tls=True)
    assert mail_server("x", HOSTS["own"], "", "http://127.0.0.1") == MailServer(host="127.0.0.1", port=465, plain=True)


@pytest.mark.parametrize("url", ["wss://*", "smtp://*.example.com", "smtp://*:25", "ftp://example.com"])
def test_only_a_mail_server_is_left_to_the_operator(url: str) -> None:
    """And an https host; the name of any other one is declared."""
    with pytest.raises(TypeError):
        Host(url)


def test_an_approver_sees_that_the_operator_names_the_server() -> None:
    """Instead of a host's name."""
    assert PluginNeeds(hosts={"mail": HOSTS["mail"]}).sentence("x") == "hosts the mail server of its secrets"


def test_an_isolated_plugin_sends_no_mail() -> None:
    """It has no network."""
    with pytest.raises(PluginError, match="no network"):
        asyncio.run(NoNetwork().mail("mail", MAIL))
    with pytest.raises(PluginError, match="no network"):
        asyncio.run(NoNetwork().check_mail("mail"))


def test_a_mail_keeps_its_id_and_names_the_one_that_it_follows() -> None:
    """Mail programs show both together; a person away answers no automatic mail."""
    server = ScriptedMailServer()
    mail = attrs.evolve(MAIL, message_id="<b2@example.com>", answers="<a1@example.com>")
    assert send(server, server="mail.example.org", mail=mail) == {}
    found = email.message_from_string(server.mails[0], policy=email.policy.default)
    assert (found["Message-ID"], found["In-Reply-To"]) == ("<b2@example.com>", "<a1@example.com>")
    assert (found["References"], found["Auto-Submitted"]) == ("<a1@example.com>", "auto-generated")


@pytest.mark.parametrize("name", ["message_id", "answers"])
@pytest.mark.parametrize("value", ["a1@example.com", "<a1>", "<a b@example.com>", "<a@example.com>\r\nBcc: x@y.com"])
def test_n9_an_id_adds_no_header(name: str, value: str) -> None:
    """It is one word in angle brackets."""
    given: dict[str, Any] = {"sender": "bot@example.com", "recipients": ("a@example.com",), "subject": "s", "text": ""}
    with pytest.raises(ValueError, match=f"{name} of a mail must be an id"):
        Mail(**given | {name: value})


def test_a_login_is_checked_without_a_mail() -> None:
    """The server's reply is returned; a refusal names the plugin."""
    server = ScriptedMailServer({"NOOP": "250 here"})
    assert check(server, user="bot", password=Secret("hush-hush-2")) == "250 here"
    assert [one.partition(" ")[0] for one in server.commands if one][:3] == ["EHLO", "AUTH", "NOOP"]
    with pytest.raises(LoginNeeded, match=r"alert post \(mail\): 127\.0\.0\.1: the login was refused: 535 no"):
        check(ScriptedMailServer({"AUTH": "535 no"}), user="bot", password=Secret("hush-hush-3"))


@pytest.mark.parametrize("there", ["localhost:25", "127.0.0.1", "[::1]:25"])
def test_a_server_on_this_machine_needs_no_tls(there: str) -> None:
    """Nothing leaves it."""
    assert without_tls("x", mail_server("x", HOSTS["mail"], there, "")).plain


@pytest.mark.parametrize("there", ["mail.example.com", "localhost.example.com", "127.0.0.2.example.com"])
def test_any_other_server_does(there: str) -> None:
    """Neither a password nor an alert is sent in the clear."""
    with pytest.raises(PluginError, match=f"a mail to {there} would leave this machine without TLS"):
        without_tls("x", mail_server("x", HOSTS["mail"], there, ""))
