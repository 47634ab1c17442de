"""The way of a plugin to a mail server: which one, and what becomes of the message."""

from __future__ import annotations

import asyncio
import datetime as dt
import email
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.contracts.network import Mail, NoNetwork
from tbot_core.contracts.permissions import Host, PluginNeeds
from tbot_core.errors import PluginError, Rejected
from tbot_core.model.clock import ManualClock
from tbot_core.plugins.network.connector import Connector, RequestBudgets
from tbot_core.plugins.network.mail_content import mail_server
from tbot_core.system.secret import Secret
from tbot_core.system.smtp import MailServer
from tbot_core.testing.scripted_mail_server import ScriptedMailServer

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.usefixtures("loopback")

NOON = dt.datetime(2026, 3, 3, 17, tzinfo=dt.UTC)
HOSTS = {"mail": Host("smtp://*"), "api": Host("https://api.example.com"), "own": Host("smtps://mail.example.com")}
MAIL = Mail(sender="bot@example.com", recipients=("a@example.com",), subject="Fill in ACMÉ", text="12 ACME\n.\nµ")


def send(there: Any, host: str = "mail", **options: Any) -> Mapping[str, str]:
    """Send the mail through a connector whose mail server is the fake one."""

    async def main() -> Mapping[str, str]:
        clock = ManualClock(NOON)
        async with there:
            connect = Connector(
                plugin="alert post",
                hosts=HOSTS,
                clock=clock,
                budgets=RequestBudgets(clock),
                addresses={"mail": f"http://127.0.0.1:{there.port}"},
            )
            return await connect.mail(host, MAIL, **options)

    return asyncio.run(main())


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


@pytest.mark.parametrize("url", ["https://*", "smtp://*.example.com", "smtp://*:25", "ftp://example.com"])
def test_only_a_mail_server_is_left_to_the_operator(url: str) -> None:
    """The name of any other host is declared."""
    with pytest.raises(TypeError):
        Host(url)


def test_an_approver_sees_that_the_operator_names_the_server() -> None:
    """Instead of a host's name."""
    assert PluginNeeds(hosts={"mail": HOSTS["mail"]}).sentence == "hosts the mail server of its secrets"


def test_an_isolated_plugin_sends_no_mail() -> None:
    """It has no network."""
    with pytest.raises(PluginError, match="no network"):
        asyncio.run(NoNetwork().mail("mail", MAIL))
