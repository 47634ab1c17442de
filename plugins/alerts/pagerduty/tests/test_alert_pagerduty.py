"""The pagerduty channel over real connections: what it sends, judged by the vendor's own file, and each answer."""

from __future__ import annotations

import datetime as dt
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no type hints
from tbot_alert_pagerduty import NEEDS, Config, PagerDutyCredentials, create, tbot_alert
from tbot_alert_pagerduty.event import EventAction, compose_event, dedup_key
from tbot_alert_pagerduty.venue import KEY, EventVenue, accept, open_venue

from tbot_core.alerts.delivery import AlertDelivery, MessageWriter
from tbot_core.alerts.dispatcher import AlertDispatcher, AlertOptions
from tbot_core.alerts.store import FILE_NAME, Notice, open_store
from tbot_core.contracts import Alert, SupportsAcknowledgement, SupportsConnectionCheck, Urgency
from tbot_core.contracts.credentials import secret_fields
from tbot_core.errors import Undelivered
from tbot_core.instance import Instance
from tbot_core.instance.plugin_settings import known_plugins
from tbot_core.model import json_document
from tbot_core.model.clock import ManualClock
from tbot_core.testing.alert import AlertContract
from tbot_core.testing.scripted_server import ServerFault, ServerReply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_core.testing.scripted_server import ServerRequest

pytestmark = pytest.mark.usefixtures("loopback")

NOW = dt.datetime(2026, 11, 24, 15, 0, tzinfo=dt.UTC)
ALERT = Alert(
    key="US_NY_PAPER_001-17-20261124T150000",
    urgency=Urgency.CRITICAL,
    title="[PAPER US_NY_PAPER_001] ACME has no stop for 1 s: 12 shares.",
    text="[PAPER US_NY_PAPER_001] ACME has no stop for 1 s: 12 shares.\n15:00 UTC\nNext: tbot why ACME",
    time=NOW,
    mode="paper",
    identity="US_NY_PAPER_001",
    command="tbot why ACME",
)
ALERTS = {
    "critical": ALERT,
    "routine": attrs.evolve(ALERT, urgency=Urgency.ROUTINE),
    "no identity": attrs.evolve(ALERT, identity="", mode=""),
    "long": attrs.evolve(ALERT, title="x" * 5_000, text="y" * 50_000, key="k" * 300),
    "any text": attrs.evolve(ALERT, title="\N{WARNING SIGN} <b> \ud800", text="", key="a b/ü"),
}


@pytest.fixture
def service() -> Iterator[EventVenue]:
    """A server that accepts every valid event."""
    with open_venue() as found:
        yield found


class TestContract(AlertContract):
    """The contract before the plugin's own server."""


@pytest.fixture(scope="module")
def schema(shared: Path) -> Draft202012Validator:
    """The vendor's schema of a request to /enqueue."""
    path = shared / "specs" / "pagerduty" / "events-v2.openapiv3.json"
    if not path.exists():
        pytest.skip(f"no file of the vendor at {path}")
    document = json_document.parse_json(path.read_bytes())
    request = document["paths"]["/enqueue"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return Draft202012Validator({**request, "components": document["components"]})


@pytest.mark.parametrize("action", EventAction)
@pytest.mark.parametrize("name", ALERTS)
def test_each_event_is_valid_by_the_vendors_file(schema: Draft202012Validator, name: str, action: EventAction) -> None:
    """And has no field that the file does not know."""
    event = compose_event(ALERTS[name], action, KEY)
    schema.validate(event)
    assert event.keys() <= schema.schema["properties"].keys()
    known = schema.schema["components"]["schemas"]["Payload"]["properties"].keys()
    assert event.get("payload", {}).keys() <= known


def test_the_file_would_find_a_wrong_severity(schema: Draft202012Validator) -> None:
    """The validation follows the references of the file."""
    event = compose_event(ALERT, EventAction.TRIGGER, KEY)
    event["payload"]["severity"] = "grave"
    assert not schema.is_valid(event)


def test_an_alert_triggers_an_incident(service: EventVenue) -> None:
    """Summary, severity, source and details are those of the alert; the answer is returned."""
    words = service.channel.send(ALERT)
    assert service.wait(words) == "trigger: 202 Event processed"
    (event,) = service.events
    assert event == {
        "routing_key": KEY,
        "event_action": "trigger",
        "dedup_key": ALERT.key,
        "client": "tbot",
        "payload": {
            "summary": ALERT.title,
            "timestamp": "2026-11-24T15:00:00.000+00:00",
            "severity": "critical",
            "source": "US_NY_PAPER_001",
            "component": "tbot",
            "group": "paper",
            "class": "critical",
            "custom_details": {
                "mode": "paper",
                "identity": "US_NY_PAPER_001",
                "incident": ALERT.key,
                "text": ALERT.text,
                "next": "tbot why ACME",
            },
        },
    }


def test_a_routine_alert_pages_no_person(service: EventVenue) -> None:
    """Its severity is info."""
    service.wait(service.channel.send(ALERTS["routine"]))
    assert service.events[0]["payload"]["severity"] == "info"


def test_n4_one_dedup_key_for_the_whole_incident(service: EventVenue) -> None:
    """Trigger, retry, acknowledge and resolve name the same incident, also in a later run."""
    channel: Any = service.channel
    again: Any = create(Config(), service.context)
    for call in (
        channel.send(ALERT),
        channel.send(ALERT),
        again.acknowledge(ALERT),
        again.send(attrs.evolve(ALERT, resolved=True, title="Resolved")),
    ):
        service.wait(call)
    assert [(event["event_action"], event["dedup_key"]) for event in service.events] == [
        ("trigger", ALERT.key),
        ("trigger", ALERT.key),
        ("acknowledge", ALERT.key),
        ("resolve", ALERT.key),
    ]


def test_a_long_key_is_shortened_and_stays_its_own() -> None:
    """PagerDuty takes 255 characters."""
    long, other = "k" * 256, "k" * 257
    assert dedup_key("k" * 255) == "k" * 255
    assert len(dedup_key(long)) == 64
    assert dedup_key(long) == dedup_key(long) != dedup_key(other)


@pytest.mark.parametrize(
    ("fault", "words", "pause"),
    [
        (ServerFault.TOO_MANY, "429", 1.0),
        (ServerFault.SERVER_ERROR, "503.*same dedup key", None),
        (ServerFault.GATEWAY_TIMEOUT, "504.*same dedup key", None),
        (ServerFault.LOGIN, "401.*integration key", None),
        (ServerFault.NO_REPLY, "no answer within 1 s.*same dedup key", None),
        (ServerFault.LOST_REPLY, "same dedup key", None),
    ],
)
def test_each_failure_is_undelivered(service: EventVenue, fault: ServerFault, words: str, pause: float | None) -> None:
    """So that the other channel is used; a pause that PagerDuty asks for is kept."""
    service.server.fail(fault)
    with pytest.raises(Undelivered, match=f"(?s){words}") as found:
        service.wait(service.channel.send(ALERT))
    assert found.value.retry_after_s == pause
    assert len(service.events) == 1


def test_a_server_that_is_away_is_undelivered(service: EventVenue) -> None:
    """Nothing was sent."""
    service.wait(service.server.__aexit__(None, None, None))
    with pytest.raises(Undelivered, match="tested plugin"):
        service.wait(service.channel.send(ALERT))


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (ServerReply(status=400, document={"status": "invalid event", "errors": [f"bad key {KEY}"]}), "400 .*bad key"),
        (ServerReply(status=200, document={"status": "success"}), "answered 200, not 202"),
    ],
)
def test_only_202_is_accepted_and_the_key_is_never_shown(
    service: EventVenue, reply: ServerReply, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal quotes PagerDuty, also where its words contain the key."""
    service.server._handler = lambda _request: reply
    delivery = AlertDelivery({"pagerduty": service.channel}, dict.fromkeys(Urgency, ("pagerduty",)))
    with caplog.at_level(logging.DEBUG):
        answer = service.wait(delivery.deliver(ALERT, ["pagerduty"]))
        with pytest.raises(Undelivered, match=f"{words}.*`tbot secrets set alert`") as found:
            service.wait(service.channel.send(ALERT))
    assert KEY not in f"{answer} {found.value} {found.value.__cause__} {caplog.text}"
    assert KEY not in "".join(request.target + str(request.headers) for request in service.server.requests)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"message": 5}', b"<html>"])
def test_the_status_alone_decides(service: EventVenue, body: bytes) -> None:
    """An accepted event whose answer cannot be read is accepted."""
    service.server._handler = lambda _request: ServerReply(status=202, body=body)
    assert service.wait(service.channel.send(ALERT)) == "trigger: 202"


@pytest.mark.parametrize("text", ["", KEY[:-1], f"{KEY}0", f"{KEY[:-1]}-", "https://events.pagerduty.com"])
def test_a_key_has_32_letters_or_digits(text: str) -> None:
    """Another text, such as that of another field, is refused before it is stored, with what is allowed."""
    field = secret_fields(PagerDutyCredentials)["routing_key"]
    assert field.kind.allowed == "32 letters or digits"
    assert field.kind.parse(KEY) == KEY
    with pytest.raises(ValueError, match=r"^"):
        field.kind.parse(text)


def test_its_secrets_are_those_that_the_core_knows() -> None:
    """A file of secrets is judged in the same way before and after the plugin is installed."""
    (known,) = (one for one in known_plugins() if (one.kind, one.name) == ("alert", "pagerduty"))
    (mine,), (other,) = secret_fields(PagerDutyCredentials).values(), known.secrets["alert"].values()
    assert attrs.evolve(mine, kind=other.kind) == other
    assert (mine.kind.name, mine.kind.allowed) == (other.kind.name, other.kind.allowed)


def test_it_offers_itself_with_its_needs() -> None:
    """One host; it cannot try the key without an event, and says so by having no check."""
    offer = tbot_alert()
    assert (offer.name, offer.config, offer.venue is not None) == ("pagerduty", Config, True)
    assert offer.needs.sentence("x") == "secrets alert; hosts events.pagerduty.com"
    with open_venue() as service:
        assert isinstance(service.channel, SupportsAcknowledgement)
        assert not isinstance(service.channel, SupportsConnectionCheck)
    assert set(NEEDS.hosts) == {"events"}


def test_an_incident_of_the_bot_is_triggered_acknowledged_and_resolved(service: EventVenue, tmp_path: Path) -> None:
    """By the dispatcher: its cause opens it, `tbot alerts ack` acknowledges it, the end of the cause resolves it."""
    instance, clock = Instance.at(tmp_path), ManualClock(NOW)
    instance.data.mkdir(parents=True)
    delivery = AlertDelivery({"pagerduty": service.channel}, dict.fromkeys(Urgency, ("pagerduty",)))
    writer = MessageWriter(mode="paper", identity="BOT_1")
    dispatcher = AlertDispatcher(instance, delivery, writer, clock, AlertOptions())
    dispatcher.begin()
    store = open_store(instance.data / FILE_NAME)
    store.open_incident(Notice(key="stop ACME", urgency=Urgency.CRITICAL, what="ACME has no stop."), NOW)
    service.wait(dispatcher.send(Urgency.CRITICAL))
    service.wait(dispatcher.send_pending())
    store.acknowledge([1], "me", clock.now())
    for _ in range(2):
        service.wait(dispatcher.send_pending())
    store.clear_incident("stop ACME", clock.now())
    clock.advance(61)
    service.wait(dispatcher.send(Urgency.CRITICAL))
    service.wait(dispatcher.send_pending())
    store.close()
    service.wait(dispatcher.finish())
    assert [event["event_action"] for event in service.events] == ["trigger", "acknowledge", "resolve"]
    assert {event["dedup_key"] for event in service.events} == {"BOT_1-1-20261124T150000"}


@pytest.mark.parametrize(
    ("path", "event", "words"),
    [
        ("/v2/enqueue", {"event_action": "resolve", "routing_key": KEY}, "'dedup_key' is missing or blank"),
        (
            "/v2/enqueue",
            {"event_action": "trigger", "routing_key": KEY, "payload": {}},
            "'summary' is missing or blank",
        ),
        ("/v2/other", {"event_action": "resolve", "routing_key": KEY, "dedup_key": "k"}, "Event object is invalid"),
    ],
)
def test_the_venue_refuses_what_the_vendor_refuses(path: str, event: dict[str, Any], words: str) -> None:
    """An event without a field, and an unknown address, are answered with 400 and the reason."""
    answer = accept(cast("ServerRequest", SimpleNamespace(path=path, document=event)))
    assert answer.status == 400
    assert words in str(answer.document)
