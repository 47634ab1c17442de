"""The email channel before aiosmtpd over real connections: login, TLS, refusals, hangs, and what a mail contains."""

from __future__ import annotations

import asyncio
import datetime as dt
import email
import email.policy
import json
from email.message import EmailMessage
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from tbot_alert_email import NEEDS, Config, SmtpCredentials, create, tbot_alert
from tbot_alert_email.venue import MailVenue, open_venue

from tbot_core.alerts.delivery import AlertDelivery, MessageWriter
from tbot_core.alerts.dispatcher import AlertDispatcher, AlertOptions
from tbot_core.contracts import Alert, AlertChannel, Context, SupportsConnectionCheck, Urgency
from tbot_core.contracts.credentials import secret_fields
from tbot_core.engine.journal_guard import read_chain_heads
from tbot_core.errors import PartlyDelivered, Undelivered
from tbot_core.instance import Instance
from tbot_core.instance.plugin_settings import known_plugins
from tbot_core.journal import records
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.plugins.network.connector import Connector, RequestBudgets
from tbot_core.system import log
from tbot_core.system.secret import Secret
from tbot_core.testing.alert import AlertContract
from tbot_core.testing.canaries import canary
from tbot_core.testing.scripted_mail_server import certificate
from tbot_core.vault.schemas import check_content

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.usefixtures("loopback"),
    pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning"),
]

NOW = dt.datetime(2026, 11, 24, 15, 0, tzinfo=dt.UTC)
USER, PASSWORD = "bot@example.com", canary("smtp")
FIRST, SECOND = "first@example.com", "second@example.com"
ALERT = Alert(
    key="US_NY_PAPER_001-17-20261124T150000",
    urgency=Urgency.CRITICAL,
    title="[PAPER US_NY_PAPER_001] ACME has no stop for 1 s: 12 shares.",
    text="[PAPER US_NY_PAPER_001] ACME has no stop for 1 s: 12 shares.\n15:00 UTC\nNext: tbot why ACME",
    time=NOW,
)


@attrs.define
class Inbox:
    """The handler of aiosmtpd: keeps mails, and replies to a command as a test says; None never replies."""

    mails: list[EmailMessage] = attrs.field(factory=list)
    recipients: list[list[str]] = attrs.field(factory=list)
    replies: dict[str, str | None] = attrs.field(factory=dict)
    logins: list[tuple[str, str]] = attrs.field(factory=list)
    protected: list[bool] = attrs.field(factory=list)

    async def reply(self, name: str) -> str | None:
        """The reply that a test asks for."""
        if name in self.replies and self.replies[name] is None:
            await asyncio.Event().wait()
        return self.replies.get(name)

    async def handle_MAIL(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802  -- aiosmtpd's name
        """Accept the sender."""
        found = await self.reply("MAIL")
        if found is None:
            envelope.mail_from = address
        return found or "250 OK"

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802  -- aiosmtpd's name
        """Accept the recipient."""
        found = await self.reply(address)
        if found is None:
            envelope.rcpt_tos.append(address)
        return found or "250 OK"

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802  -- aiosmtpd's name
        """Keep the mail."""
        found = await self.reply("DATA")
        if found is None:
            self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
            self.recipients.append(list(envelope.rcpt_tos))
            self.protected.append(server.transport.get_extra_info("ssl_object") is not None)
        return found or "250 OK queued"

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        """Accept the one password."""
        login = (data.login.decode(), data.password.decode())
        self.logins.append(login)
        return AuthResult(success=login == (USER, PASSWORD), handled=False)


class Service:
    """The channel, and aiosmtpd behind it, in one event loop."""

    def __init__(self, runner: asyncio.Runner, folder: Path, tls: ssl.SSLContext | None, **secrets: Any) -> None:
        self.inbox, self._runner = Inbox(), runner
        implicit = secrets.get("security") == "tls"
        made = partial(
            SMTP,
            self.inbox,
            hostname="localhost",
            tls_context=None if implicit else tls,
            require_starttls=tls is not None and not implicit,
            authenticator=self.inbox.authenticate,
            auth_required=True,
            auth_require_tls=tls is not None and not implicit,
            loop=runner.get_loop(),
        )
        listening = runner.get_loop().create_server(made, "127.0.0.1", 0, ssl=tls if implicit else None)
        self._server: asyncio.Server = runner.run(listening)
        port = self._server.sockets[0].getsockname()[1]
        given = {"user": USER, "password": Secret(PASSWORD), "recipients": (FIRST, SECOND)}
        credentials = SmtpCredentials(**{"host": "127.0.0.1", "port": port, **given, **secrets})
        clock = ManualClock(NOW)
        connect = Connector(
            plugin="alert email", hosts=NEEDS.hosts, clock=clock, budgets=RequestBudgets(clock), timeout_s=1.0
        )
        self.context = Context(
            clock=clock,
            log=log.logger("tbot.alert.email"),
            data_dir=folder,
            secrets={"smtp": credentials},
            connect=connect,
        )
        self.channel = create(Config(), self.context)

    def arrived(self) -> list[str]:
        """The texts of the mails."""
        return [one.get_content() for one in self.inbox.mails]

    def fail(self) -> bool:
        """Stop listening."""
        self._server.close()
        return True

    def wait(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Await a call in the loop of both."""
        return self._runner.run(call)


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The context of the server, whose certificate this process trusts."""
    server, _ = certificate(tmp_path / "mail.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "mail.pem"))
    return server


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """An event loop."""
    with asyncio.Runner() as made:
        yield made


@pytest.fixture
def service(runner: asyncio.Runner, tmp_path: Path, tls: ssl.SSLContext) -> Iterator[Service]:
    """A server with STARTTLS and a login."""
    made = Service(runner, tmp_path, tls)
    yield made
    made.fail()


class TestContract(AlertContract):
    """The contract before aiosmtpd, with STARTTLS and a login."""


class TestOwnVenue(AlertContract):
    """The contract before the server that `tbot plugins check` uses."""

    @pytest.fixture
    def service(self) -> Iterator[MailVenue]:
        """A server that accepts every mail."""
        with open_venue() as found:
            yield found


def test_its_secrets_are_those_that_the_core_knows() -> None:
    """A file of secrets is judged in the same way before and after the plugin is installed."""
    (known,) = (one for one in known_plugins() if (one.kind, one.name) == ("alert", "email"))
    found = secret_fields(SmtpCredentials)
    assert list(found) == list(known.secrets["smtp"])
    for name, mine in found.items():
        other = known.secrets["smtp"][name]
        assert attrs.evolve(mine, kind=other.kind) == other
        assert (mine.kind.name, mine.kind.allowed, mine.kind.empty) == (
            other.kind.name,
            other.kind.allowed,
            other.kind.empty,
        )


def test_it_offers_itself_with_its_needs() -> None:
    """The approver sees the category, and that the operator names the server."""
    offer = tbot_alert()
    assert (offer.name, offer.config, offer.venue is not None) == ("email", Config, True)
    assert offer.needs.sentence("x") == "secrets smtp; hosts the mail server of its secrets"


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_n6_a_mail_is_protected_and_its_sender_logged_in(
    runner: asyncio.Runner, tmp_path: Path, tls: ssl.SSLContext, security: str
) -> None:
    """By STARTTLS or TLS from the start; the answer names server and recipients."""
    made = Service(runner, tmp_path, tls, security=security)
    words = made.wait(made.channel.send(ALERT))
    assert words.startswith("accepted by 127.0.0.1:")
    assert words.endswith(f" for {FIRST}, {SECOND}")
    assert made.inbox.logins == [(USER, PASSWORD)]
    assert made.inbox.recipients == [[FIRST, SECOND]]
    assert made.inbox.protected == [True]
    made.fail()


def test_a_mail_says_who_what_and_what_next(service: Service) -> None:
    """The title is the subject, the text the body; sender and recipients are those of the secrets."""
    service.wait(service.channel.send(ALERT))
    (mail,) = service.inbox.mails
    assert (mail["Subject"], mail["From"], mail["To"]) == (ALERT.title, USER, f"{FIRST}, {SECOND}")
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content().splitlines() == ALERT.text.splitlines()


def test_the_end_of_an_incident_answers_its_first_mail(service: Service) -> None:
    """A mail program shows both as one thread, and the same alert has the same Message-ID however often it is sent."""
    over = attrs.evolve(ALERT, resolved=True, title="[PAPER US_NY_PAPER_001] Resolved: ACME has no stop.")
    for alert in (ALERT, ALERT, over):
        service.wait(service.channel.send(alert))
    first, again, end = service.inbox.mails
    assert again["Message-ID"] == first["Message-ID"] != end["Message-ID"]
    assert end["In-Reply-To"] == end["References"] == first["Message-ID"]
    assert first["In-Reply-To"] is None
    assert "Resolved: " in end["Subject"]


@pytest.mark.parametrize(
    "symbol", ["ACME\r\nBcc: x@example.net", "ACME\nTo: x@example.net\n\nbody", "A\x00\x0b\x85\u2028B"]
)
def test_n9_a_symbol_adds_no_header(service: Service, symbol: str) -> None:
    """A line break in any field of an alert becomes a blank, or stays in the body."""
    plain = attrs.evolve(ALERT, title="t")
    spoiled = attrs.evolve(ALERT, key=f"k-{symbol}", title=f"Bought {symbol}", text=f"Bought {symbol}")
    for alert in (plain, spoiled):
        service.wait(service.channel.send(alert))
    first, second = service.inbox.mails
    assert second.keys() == first.keys()
    assert second["To"] == first["To"]
    assert len(second["Subject"].splitlines()) == 1
    assert service.inbox.recipients == [[FIRST, SECOND]] * 2


def test_a_long_title_is_cut(service: Service) -> None:
    """The text has it whole."""
    service.wait(service.channel.send(attrs.evolve(ALERT, title="x" * 500, text="x" * 500)))
    (mail,) = service.inbox.mails
    assert mail["Subject"] == "x" * 197 + "..."
    assert mail.get_content().strip() == "x" * 500


def test_a_lone_surrogate_is_sent_as_a_question_mark(service: Service) -> None:
    """A path that is no text may stand in an alert."""
    service.wait(service.channel.send(attrs.evolve(ALERT, title="\ud800", text="a \ud800")))
    assert service.inbox.mails[0].get_content().strip() == "a ?"
    assert service.inbox.mails[0]["Subject"] == "tbot"


def test_n6_a_refused_login_names_the_remedy(service: Service) -> None:
    """535 is no time-out; the words of the server are quoted, the password is not."""
    credentials = attrs.evolve(service.context.secrets["smtp"], password=Secret(canary("wrong")))
    channel = create(Config(), attrs.evolve(service.context, secrets={"smtp": credentials}))
    with pytest.raises(Undelivered, match=r"the login was refused: 535 .*`tbot secrets edit smtp`"):
        service.wait(channel.send(ALERT))
    assert not service.inbox.mails


def test_n6_one_of_two_recipients_is_refused(service: Service) -> None:
    """The failure names that one with the server's words; the other gets the mail."""
    service.inbox.replies[SECOND] = "550 5.1.1 no such user"
    with pytest.raises(PartlyDelivered) as fault:
        service.wait(service.channel.send(ALERT))
    assert fault.value.message == f"Refused for {SECOND} (550 5.1.1 no such user); delivered to {FIRST}."
    assert service.inbox.recipients == [[FIRST]]


def test_n6_a_partly_refused_list_is_not_sent_again_and_reported_once(service: Service, tmp_path: Path) -> None:
    """Else a wrong address would hold back every later alert; the operator learns it by a message of its own."""
    bot = Bot(service, tmp_path)
    service.inbox.replies[SECOND] = "550 5.1.1 no such user"
    for number in range(2):
        bot.dispatcher.notify(f"Something {number}.", "tbot status")
        service.wait(bot.dispatcher.send(Urgency.ROUTINE))
    texts = [mail["Subject"] for mail in service.inbox.mails]
    assert [text.removeprefix("[PAPER BOT_1] ")[:11] for text in texts] == ["Something 0", "The channel", "Something 1"]
    assert f"email does not reach everybody: Refused for {SECOND} (550 5.1.1 no such user)" in texts[1]
    bot.close()


def test_n6_every_recipient_refused_is_a_failure(service: Service) -> None:
    """So that the other channel is used."""
    service.inbox.replies |= {FIRST: "550 no", SECOND: "550 no"}
    with pytest.raises(Undelivered, match="550 no") as fault:
        service.wait(service.channel.send(ALERT))
    assert type(fault.value) is Undelivered


def test_n6_a_temporary_refusal_is_sent_later(service: Service) -> None:
    """451 is a failure, and the next attempt delivers under the same Message-ID."""
    service.inbox.replies["MAIL"] = "451 4.7.1 try later"
    with pytest.raises(Undelivered, match=r"451 4\.7\.1 try later"):
        service.wait(service.channel.send(ALERT))
    service.inbox.replies.clear()
    service.wait(service.channel.send(ALERT))
    assert len(service.inbox.mails) == 1


@pytest.mark.parametrize(("at", "words"), [("MAIL", "no reply within 1 s"), ("DATA", "The mail may have arrived")])
def test_n6_a_server_that_hangs_is_left(service: Service, at: str, words: str) -> None:
    """Within the time limit of requests; after the whole mail its fate is unknown, and it is sent again."""
    service.inbox.replies[at] = None
    with pytest.raises(Undelivered, match=words):
        service.wait(service.channel.send(ALERT))


def test_without_tls_only_this_machine_is_reached(runner: asyncio.Runner, tmp_path: Path) -> None:
    """A local relay needs no TLS, as its errors say; for any other host nothing is sent."""
    made = Service(runner, tmp_path, None, security="none")
    made.wait(made.channel.send(ALERT))
    assert made.inbox.protected == [False]
    made.inbox.replies["MAIL"] = "451 4.7.1 try later"
    with pytest.raises(Undelivered, match=r"^alert email \(without TLS\): "):
        made.wait(made.channel.send(ALERT))
    far = attrs.evolve(made.context.secrets["smtp"], host="mail.example.com")
    channel = create(Config(), attrs.evolve(made.context, secrets={"smtp": far}))
    with pytest.raises(Undelivered, match=r"a mail to mail\.example\.com would leave this machine without TLS"):
        made.wait(channel.send(ALERT))
    made.fail()


@pytest.mark.parametrize(
    ("secrets", "words"),
    [
        ({"user": "", "password": None, "recipients": ()}, "sender must be an address"),
        ({"recipients": ("nobody",)}, "recipient must be an address such as me@example.com, not 'nobody'"),
    ],
)
def test_incomplete_secrets_are_named(
    runner: asyncio.Runner, tmp_path: Path, secrets: dict[str, Any], words: str
) -> None:
    """Without a sender, or with something that is no address; a check says it too."""
    made = Service(runner, tmp_path, None, **secrets)
    channel: Any = made.channel
    for call in (channel.send(ALERT), channel.check_connection()):
        with pytest.raises(Undelivered, match=words):
            made.wait(call)
    made.fail()


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"user": USER}, None),
        ({"user": "apikey", "sender": USER, "recipients": f"{FIRST},{SECOND}"}, None),
        ({"user": USER, "recipients": "nobody"}, "recipients"),
        ({"user": USER, "recipients": f"{FIRST};{SECOND}"}, "recipients"),
        ({"user": "apikey"}, "sender"),
        ({}, "sender"),
    ],
)
def test_secrets_that_can_never_send_are_refused(given: dict[str, str], field: str | None) -> None:
    """Recipients are addresses, and the sender is one, or else the user."""
    content = memoryview(json.dumps({"host": "mail.example.com", **given}).encode())
    faults = check_content(content, "smtp", "f", {("smtp", ""): secret_fields(SmtpCredentials)})
    assert [f" {field}" in one.message for one in faults] == [True] * (field is not None)


def test_a_check_logs_in_and_sends_nothing(service: Service) -> None:
    """It returns the server's reply, and raises what a mail would."""
    channel = service.channel
    assert isinstance(channel, SupportsConnectionCheck)
    words = service.wait(channel.check_connection())
    assert words.startswith("127.0.0.1:")
    assert "logged in: 250" in words
    assert service.inbox.logins == [(USER, PASSWORD)]
    assert not service.inbox.mails
    service.fail()
    with pytest.raises(Undelivered):
        service.wait(channel.check_connection())


@pytest.mark.parametrize(
    ("host", "port", "security", "server"),
    [
        ("mail.example.com", None, "starttls", "mail.example.com:587"),
        ("mail.example.com", None, "tls", "mail.example.com:465"),
        ("localhost", None, "none", "localhost:25"),
        ("mail.example.com:2525", 587, "starttls", "mail.example.com:2525"),
        ("2001:db8::1", 2525, "starttls", "[2001:db8::1]:2525"),
    ],
)
def test_the_port_follows_the_encryption(host: str, port: int | None, security: str, server: str) -> None:
    """Unless one is given."""
    from tbot_alert_email.channel import _server

    assert _server(SmtpCredentials(host=host, port=port, security=security)) == server


class Bot:
    """A dispatcher whose channel is the one under test."""

    def __init__(self, service: Service, home: Path) -> None:
        self.instance, self.clock = Instance.at(home), ManualClock(NOW)
        self.instance.data.mkdir(parents=True, exist_ok=True)
        self.journal = open_journal(self.instance.journal)
        channel: AlertChannel = service.channel
        delivery = AlertDelivery({"email": channel}, dict.fromkeys(Urgency, ("email",)))
        writer = MessageWriter(mode="paper", identity="BOT_1")
        self.dispatcher = AlertDispatcher(self.instance, delivery, writer, self.clock, AlertOptions())
        self.dispatcher.begin()

    def close(self) -> None:
        """Close what is open."""
        asyncio.run(self.dispatcher.finish())
        self.journal.close()


def test_the_heads_of_the_chains_leave_the_machine_by_email(service: Service, tmp_path: Path) -> None:
    """At the end, with the command that verifies the files against them."""
    bot = Bot(service, tmp_path)
    bot.journal.append([NewEvent(kind=records.STOPPED, payload={"open": []}, time=NOW)])
    bot.dispatcher.poll_journal()
    service.wait(bot.dispatcher.note_chain_heads(end=True))
    service.wait(bot.dispatcher.send(Urgency.ROUTINE))
    head = read_chain_heads(bot.instance)["journal"]
    *_, text = service.arrived()
    assert f"Heads of the hash chains: journal {head}" in " ".join(text.split())
    assert f"Next: tbot audit verify --journal-head {head}" in " ".join(text.split())
    bot.close()
