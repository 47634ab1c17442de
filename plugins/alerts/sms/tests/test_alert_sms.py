"""The sms channel over real connections: what it sends, judged by the vendor's own file, and each answer."""

from __future__ import annotations

import base64
import datetime as dt
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no type hints
from tbot_alert_sms import NEEDS, Config, TwilioCredentials, create, tbot_alert
from tbot_alert_sms.message import LONGEST_TEXT, compose_text, message_form
from tbot_alert_sms.venue import ACCOUNT, KEY, SENDER, TwilioVenue, accept, open_venue

from tbot_core.alerts.delivery import AlertDelivery, MessageWriter
from tbot_core.alerts.dispatcher import AlertDispatcher, AlertOptions
from tbot_core.alerts.store import FILE_NAME, Notice, open_store
from tbot_core.contracts import Alert, SendsOnce, SupportsAcknowledgement, SupportsConnectionCheck, Urgency
from tbot_core.contracts.credentials import secret_fields
from tbot_core.errors import PartlyDelivered, Undelivered
from tbot_core.instance import Instance
from tbot_core.instance.plugin_settings import known_plugins
from tbot_core.model import json_document
from tbot_core.model.clock import ManualClock
from tbot_core.system.secret import Secret
from tbot_core.testing.alert import AlertContract
from tbot_core.testing.scripted_server import ServerFault, ServerReply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_core.contracts import AlertChannel
    from tbot_core.testing.scripted_server import ServerRequest

pytestmark = pytest.mark.usefixtures("loopback")

FIRST, SECOND = "+12025550123", "+12025550124"
SERVICE = "MG0123456789abcdef0123456789abcdef"
ALERT = Alert(
    key="US_NY_PAPER_001-17-20261124T150000",
    urgency=Urgency.CRITICAL,
    title="[PAPER US_NY_PAPER_001] ACME has no stop for 1 s: 12 shares.",
    text="[PAPER US_NY_PAPER_001] ACME has no stop for 1 s: 12 shares.\n15:00 UTC\nNext: tbot why ACME",
    time=dt.datetime(2026, 11, 24, 15, 0, tzinfo=dt.UTC),
    mode="paper",
    identity="US_NY_PAPER_001",
    command="tbot why ACME",
)
ALERTS = {
    "critical": ALERT,
    "routine": attrs.evolve(ALERT, urgency=Urgency.ROUTINE),
    "end of an incident": attrs.evolve(ALERT, resolved=True),
    "long": attrs.evolve(ALERT, title="x" * 5_000, text="y" * 50_000),
    "long command": attrs.evolve(ALERT, command="z" * 500),
    "no command": attrs.evolve(ALERT, command=""),
    "any text": attrs.evolve(ALERT, title="\N{WARNING SIGN} \x07<b> \ud800", text="", command="a\r\nb"),
}


@pytest.fixture
def service() -> Iterator[TwilioVenue]:
    """A server that accepts every valid message to one recipient."""
    with open_venue() as found:
        yield found


@pytest.fixture
def both() -> Iterator[TwilioVenue]:
    """The same with two recipients."""
    with open_venue(recipients=(FIRST, SECOND)) as found:
        yield found


class TestContract(AlertContract):
    """The contract before the plugin's own server."""


@pytest.fixture(scope="module")
def document(shared: Path) -> dict[str, Any]:
    """The vendor's file."""
    path = shared / "specs" / "twilio" / "twilio_api_v2010.json"
    if not path.exists():
        pytest.skip(f"no file of the vendor at {path}")
    found: dict[str, Any] = json_document.parse_json(path.read_bytes())
    return found


@pytest.fixture(scope="module")
def schema(document: dict[str, Any]) -> Draft202012Validator:
    """The vendor's schema of the form of a new message."""
    post = document["paths"]["/2010-04-01/Accounts/{AccountSid}/Messages.json"]["post"]
    form = post["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
    return Draft202012Validator({**form, "components": document["components"]})


@pytest.mark.parametrize("sender", [SENDER, SERVICE])
@pytest.mark.parametrize("name", ALERTS)
def test_each_form_is_valid_by_the_vendors_file(schema: Draft202012Validator, name: str, sender: str) -> None:
    """And has no field that the file does not know."""
    form = message_form(compose_text(ALERTS[name]), sender, FIRST)
    schema.validate(form)
    assert form.keys() <= schema.schema["properties"].keys()


def test_the_file_would_find_a_wrong_service(schema: Draft202012Validator) -> None:
    """The validation knows the patterns of the file."""
    assert not schema.is_valid(message_form("text", "MGwrong", FIRST))


def test_its_paths_and_answers_are_those_of_the_file(document: dict[str, Any], service: TwilioVenue) -> None:
    """A message is a POST that 201 answers, the account a GET; the account's id has the file's pattern."""
    channel: Any = service.channel
    service.wait(channel.send(ALERT))
    service.wait(channel.check_connection())
    sent, read = service.server.requests
    for request, name, status in (
        (sent, "/Accounts/{AccountSid}/Messages.json", "201"),
        (read, "/Accounts/{Sid}.json", "200"),
    ):
        operation = document["paths"][f"/2010-04-01{name}"][request.method.lower()]
        assert request.path == f"/2010-04-01{name}".replace("{AccountSid}", ACCOUNT).replace("{Sid}", ACCOUNT)
        assert list(operation["responses"]) == [status]
        (parameter,) = operation["parameters"]
        Draft202012Validator(parameter["schema"]).validate(ACCOUNT)
    assert document["servers"] == [{"url": NEEDS.hosts["api"].url}]


def test_an_alert_is_a_text_message(service: TwilioVenue) -> None:
    """From, To and Body; the token is in the header alone."""
    assert service.wait(service.channel.send(ALERT)) == "queued for ...0123"
    (request,) = service.server.requests
    assert service.forms == [{"To": FIRST, "From": SENDER, "Body": f"CRITICAL {ALERT.text}"}]
    login = base64.b64encode(f"{ACCOUNT}:{KEY}".encode()).decode()
    assert request.headers["authorization"] == f"Basic {login}"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"


@pytest.mark.parametrize("name", ALERTS)
def test_a_text_begins_with_the_severity_and_is_short(name: str) -> None:
    """At most 320 characters, and nothing in them that is not printed."""
    text = compose_text(ALERTS[name])
    assert text.split()[0] in {"CRITICAL", "ROUTINE", "RESOLVED"}
    assert len(text) <= LONGEST_TEXT
    assert text.replace("\n", "").isprintable()


def test_the_command_is_never_cut_off() -> None:
    """What is too long loses the end of what happened."""
    text = compose_text(ALERTS["long"])
    assert (len(text), text[-23:]) == (LONGEST_TEXT, "x...\nNext: tbot why ACME"[-23:])


def test_a_messaging_service_sends(service: TwilioVenue) -> None:
    """It chooses the number, so there is no From."""
    channel = with_secrets(service, sender=SERVICE)
    service.wait(channel.send(ALERT))
    assert service.forms[0]["MessagingServiceSid"] == SERVICE
    assert "From" not in service.forms[0]


def with_secrets(venue: TwilioVenue, **values: Any) -> AlertChannel:
    """The channel with some other secrets."""
    known: dict[str, Any] = {
        "account_sid": ACCOUNT,
        "auth_token": Secret(KEY),
        "sender": SENDER,
        "recipients": (FIRST,),
    }
    secrets = {"alert": TwilioCredentials(**{**known, **values})}
    return create(Config(), attrs.evolve(venue.context, secrets=secrets))


def test_each_recipient_gets_it_once(both: TwilioVenue) -> None:
    """Also one that is listed twice."""
    channel = with_secrets(both, recipients=(FIRST, SECOND, FIRST))
    assert both.wait(channel.send(ALERT)) == "queued for ...0123, ...0124"
    assert sorted(one["To"] for one in both.forms) == [FIRST, SECOND]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (ServerFault.SERVER_ERROR, "503"),
        (ServerFault.GATEWAY_TIMEOUT, "504"),
        (ServerFault.NO_REPLY, "no answer within 1 s"),
        (ServerFault.LOST_REPLY, ""),
        (ServerFault.LOST_REQUEST, ""),
    ],
)
def test_n5_an_unclear_result_says_so_and_is_sent_once(service: TwilioVenue, fault: ServerFault, words: str) -> None:
    """After a time-out, a reset or a 5xx it may have arrived: the channel itself repeats nothing."""
    service.server.fail(fault)
    with pytest.raises(Undelivered, match=f"(?s){words}.*not sent by text message again") as found:
        service.wait(service.channel.send(ALERT))
    assert found.value.unclear
    assert len(service.server.requests) == 1
    assert isinstance(service.channel, SendsOnce)
    assert service.channel.sends_once


def test_n5_the_bot_sends_a_message_without_an_answer_once(service: TwilioVenue, tmp_path: Path) -> None:
    """Though no other channel delivers it at first: the other one gets it later, also in the next run."""

    class Mail:
        fault: Exception | None = Undelivered("down")
        got = 0

        async def send(self, _alert: Alert) -> None:
            if self.fault is not None:
                raise self.fault
            self.got += 1

    instance, clock, mail = Instance.at(tmp_path), ManualClock(ALERT.time), Mail()
    instance.data.mkdir(parents=True)
    own = {Urgency.CRITICAL: ("sms",), Urgency.ROUTINE: ("mail",)}

    def run() -> None:
        delivery = AlertDelivery({"sms": service.channel, "mail": mail}, own)
        dispatcher = AlertDispatcher(
            instance, delivery, MessageWriter(mode="paper", identity="B"), clock, AlertOptions()
        )
        dispatcher.begin()
        service.wait(dispatcher.send(Urgency.CRITICAL))
        service.wait(dispatcher.send_pending())
        service.wait(dispatcher.finish())
        clock.advance(120)

    store = open_store(instance.data / FILE_NAME)
    store.add_notices([Notice(key="n", urgency=Urgency.CRITICAL, what="NOT READY.")], ALERT.time)
    service.server.fail(ServerFault.NO_REPLY)
    run()
    mail.fault = None
    run()
    run()
    assert (len(service.forms), mail.got, store.rows(1)[0].via) == (1, 1, "sms, mail")
    store.close()


def test_n5_only_201_is_queued(service: TwilioVenue) -> None:
    """Another status of success is unclear."""
    service.server._handler = lambda _request: ServerReply(status=200, document={})
    with pytest.raises(Undelivered, match="answered 200, not 201") as found:
        service.wait(service.channel.send(ALERT))
    assert found.value.unclear


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            ServerReply(status=400, document={"code": 21211, "message": "Invalid 'To' Phone Number", "status": 400}),
            "answered 400: Invalid 'To' Phone Number.*twilio.com/docs/errors/21211",
        ),
        (ServerReply(status=403, document={"message": 5}), "answered 403: no reason.*`tbot secrets edit alert`"),
        (ServerReply(status=404, body=b"<html>"), "answered 404: no reason"),
        (ServerReply(status=401, document={"code": 20003}), "401.*Check account_sid and auth_token"),
        (ServerReply(status=429, headers={"Retry-After": "7"}), "429"),
    ],
)
def test_a_refusal_is_clear_and_quotes_twilio(
    service: TwilioVenue, reply: ServerReply, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be sent again; the token is in no error and no log."""
    service.server._handler = lambda _request: reply
    with caplog.at_level(logging.DEBUG), pytest.raises(Undelivered, match=f"(?s){words}") as found:
        service.wait(service.channel.send(ALERT))
    assert not found.value.unclear
    assert found.value.retry_after_s == (7.0 if reply.status == 429 else None)
    assert KEY not in f"{found.value} {found.value.__cause__} {caplog.text}"


@pytest.mark.parametrize("status", [400, 401, 503])
def test_no_error_has_the_account_or_a_whole_number(service: TwilioVenue, status: int) -> None:
    """Neither by the path of the request nor by Twilio's words; the last four digits distinguish numbers."""
    words = f"The 'To' number {FIRST} or {FIRST[1:]} is not valid for {SENDER} of {ACCOUNT}."
    service.server._handler = lambda _request: ServerReply(status=status, document={"code": 21211, "message": words})
    channel: Any = service.channel
    for call in (channel.send(ALERT), channel.check_connection()):
        with pytest.raises(Undelivered) as found:
            service.wait(call)
        assert not [one for one in (ACCOUNT, FIRST, FIRST[1:], SENDER) if one in str(found.value)]
    with pytest.raises(Undelivered, match=r"^\.{3}0123: "):
        service.wait(channel.send(ALERT))


def test_a_server_that_is_away_is_clear(service: TwilioVenue) -> None:
    """Nothing was sent."""
    service.wait(service.server.__aexit__(None, None, None))
    with pytest.raises(Undelivered, match="tested plugin") as found:
        service.wait(service.channel.send(ALERT))
    assert not found.value.unclear


def test_a_recipient_that_is_refused_is_named(both: TwilioVenue) -> None:
    """The other one got it, so the alert counts as delivered in part."""

    def judge(request: ServerRequest) -> ServerReply:
        if b"To=%2B12025550124" in request.body:
            return ServerReply(status=400, document={"code": 21610, "message": "unsubscribed recipient"})
        return accept(request)

    both.server._handler = judge
    with pytest.raises(PartlyDelivered, match=r"Queued for \.{3}0123 only\. \.{3}0124: .*unsubscribed.*21610"):
        both.wait(both.channel.send(ALERT))


def test_one_unclear_recipient_makes_a_failure_unclear(both: TwilioVenue) -> None:
    """The other one was refused: the message is not sent again."""

    def judge(request: ServerRequest) -> ServerReply:
        if b"To=%2B12025550124" in request.body:
            return ServerReply(status=503)
        return ServerReply(status=400)

    both.server._handler = judge
    with pytest.raises(Undelivered, match=r"(?s)400.*503.*not sent by text message again") as found:
        both.wait(both.channel.send(ALERT))
    assert found.value.unclear


def test_no_recipients_are_named(service: TwilioVenue) -> None:
    """Nothing is sent."""
    with pytest.raises(Undelivered, match=r"no recipients.*`tbot secrets edit alert`"):
        service.wait(with_secrets(service, recipients=()).send(ALERT))
    assert not service.server.requests


def test_a_check_reads_the_account(service: TwilioVenue) -> None:
    """A refused token, and an account that is not active, are failures; no message is sent."""
    channel: Any = service.channel
    assert service.wait(channel.check_connection()) == "the account is active, 1 recipient"
    for reply, words in (
        (ServerReply(document={"status": "suspended"}), "account at Twilio is suspended, not active"),
        (ServerReply(document=[]), "account at Twilio is unknown, not active"),
        (ServerReply(status=401), "401.*Check account_sid"),
    ):
        service.server._handler = lambda _request, reply=reply: reply  # type: ignore[misc]  # a handler of one reply
        with pytest.raises(Undelivered, match=f"(?s){words}"):
            service.wait(channel.check_connection())
    assert not service.forms


def test_its_secrets_are_those_that_the_core_knows() -> None:
    """A file of secrets is judged in the same way before and after the plugin is installed."""
    (known,) = (one for one in known_plugins() if (one.kind, one.name) == ("alert", "sms"))
    mine, other = secret_fields(TwilioCredentials), known.secrets["alert"]
    assert {name: attrs.evolve(field, kind=other[name].kind) for name, field in mine.items()} == other
    for name, field in mine.items():
        assert field.kind.allowed == other[name].kind.allowed
    for sender in (SENDER, SERVICE):
        assert mine["sender"].kind.parse(sender) == other["sender"].kind.parse(sender) == sender
    for kind in (mine["recipients"].kind, other["recipients"].kind):
        assert kind.parse(f"{FIRST}, {SECOND}") == (FIRST, SECOND)
        with pytest.raises(ValueError, match="list of text"):
            kind.parse("0202 555 0123")


def test_it_offers_itself_with_its_needs(service: TwilioVenue) -> None:
    """One host; it checks its connection, and knows no acknowledgements."""
    offer = tbot_alert()
    assert (offer.name, offer.config, offer.venue is not None) == ("sms", Config, True)
    assert offer.needs.sentence("x") == "secrets alert; hosts api.twilio.com"
    assert isinstance(service.channel, SupportsConnectionCheck)
    assert not isinstance(service.channel, SupportsAcknowledgement)


@pytest.mark.parametrize(
    ("method", "body", "words"),
    [
        ("GET", b"", "was not found"),
        ("POST", b"From=a&Body=b", "'To'"),
        ("POST", b"To=a&Body=b", "'From'"),
        ("POST", b"To=a&From=b", "body is required"),
    ],
)
def test_the_venue_refuses_what_twilio_refuses(method: str, body: bytes, words: str) -> None:
    """A message without a field, and an unknown address."""
    path = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    answer = accept(cast("ServerRequest", SimpleNamespace(method=method, path=path, body=body)))
    assert answer.status in {400, 404}
    assert words in str(answer.document)
