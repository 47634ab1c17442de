"""The slack channel over real connections: webhook and bot, what they send, and each answer."""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from tbot_alert_slack import NEEDS, Config, SlackCredentials, create, tbot_alert
from tbot_alert_slack.message import LONGEST_TEXT, compose_message
from tbot_alert_slack.threads import MOST, Threads
from tbot_alert_slack.venue import CHANNEL, KEY, WEBHOOK_PATH, SlackVenue, open_venue

from tbot_core.contracts import Alert, SupportsAcknowledgement, SupportsConnectionCheck, Urgency
from tbot_core.contracts.credentials import secret_fields
from tbot_core.errors import Undelivered
from tbot_core.instance.plugin_settings import known_plugins
from tbot_core.system.redaction import redact
from tbot_core.system.secret import Secret
from tbot_core.testing.alert import AlertContract
from tbot_core.testing.scripted_server import ServerFault, ServerReply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_core.contracts import AlertChannel

pytestmark = pytest.mark.usefixtures("loopback")

ALERT = Alert(
    key="US_NY_PAPER_001-17-20261124T150000",
    urgency=Urgency.CRITICAL,
    title="[PAPER US_NY_PAPER_001] ACME has no stop for 1 s: 12 shares.",
    text="[PAPER US_NY_PAPER_001] ACME has no stop for 1 s: 12 shares.\n15:00 UTC\nNext: tbot why ACME",
    time=dt.datetime(2026, 11, 24, 15, 0, tzinfo=dt.UTC),
)
OVER = attrs.evolve(ALERT, resolved=True, title="Resolved: ACME", text="Resolved: ACME")


@pytest.fixture
def bot() -> Iterator[SlackVenue]:
    """A bot in its channel."""
    with open_venue() as found:
        yield found


@pytest.fixture
def webhook() -> Iterator[SlackVenue]:
    """A webhook."""
    with open_venue(bot=False) as found:
        yield found


class TestBotContract(AlertContract):
    """The contract with a bot."""

    @pytest.fixture
    def service(self, bot: SlackVenue) -> SlackVenue:
        """The bot."""
        return bot


class TestWebhookContract(AlertContract):
    """The contract with a webhook."""

    @pytest.fixture
    def service(self, webhook: SlackVenue) -> SlackVenue:
        """The webhook."""
        return webhook


def with_secrets(venue: SlackVenue, **values: Any) -> AlertChannel:
    """The channel with other secrets."""
    secrets = {"alert": SlackCredentials(**values)}
    return create(Config(), attrs.evolve(venue.context, secrets=secrets))


def test_a_bot_posts_into_its_channel(bot: SlackVenue) -> None:
    """With its token in the header; the text is shown as it is, and previews no link."""
    assert bot.wait(bot.channel.send(ALERT)) == f"posted to {CHANNEL}"
    (request,) = bot.server.requests
    assert (request.target, request.headers["authorization"]) == ("/chat.postMessage", f"Bearer {KEY}")
    assert request.document == {
        "channel": CHANNEL,
        "text": f":rotating_light: {ALERT.text}",
        "mrkdwn": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }


def test_a_webhook_posts_the_same_text(webhook: SlackVenue) -> None:
    """To its address, without a token; a routine alert has no sign."""
    routine = attrs.evolve(ALERT, urgency=Urgency.ROUTINE)
    assert webhook.wait(webhook.channel.send(routine)) == "posted by the webhook"
    (request,) = webhook.server.requests
    assert (request.target, request.document["text"]) == (WEBHOOK_PATH, ALERT.text)
    assert "authorization" not in request.headers


def test_marks_of_slack_are_escaped() -> None:
    """A text of a broker mentions no person, and an escaped mark is never cut in two."""
    text = compose_message(attrs.evolve(ALERT, text=f"{ALERT.title}\n<!channel> a & b"))["text"]
    assert text.endswith("&lt;!channel&gt; a &amp; b")
    long = compose_message(attrs.evolve(ALERT, text=ALERT.title + "<" * 9_000))["text"]
    assert long.endswith("&lt;...")
    assert long.count("&lt;") == LONGEST_TEXT - 3 - len(ALERT.title)


def test_the_end_of_an_incident_is_in_its_thread(bot: SlackVenue) -> None:
    """Also after a restart; a repeated alert does not begin another thread, an unknown incident has none."""
    bot.wait(bot.channel.send(ALERT))
    bot.wait(bot.channel.send(ALERT))
    again = create(Config(), bot.context)
    assert bot.wait(again.send(OVER)) == f"posted to {CHANNEL}, in its thread"
    bot.wait(again.send(attrs.evolve(OVER, key="other")))
    over, unknown = (one.document for one in bot.server.requests[2:])
    assert (over["thread_ts"], over["reply_broadcast"]) == ("1764514800.000001", True)
    assert over["text"] == ":white_check_mark: Resolved: ACME"
    assert "thread_ts" not in unknown


def test_threads_are_bounded_and_a_file_that_cannot_be_used_costs_none(tmp_path: Path) -> None:
    """The oldest ones go; a damaged file counts as empty, and one that cannot be written is no error."""
    threads = Threads(tmp_path / "new")
    for number in range(MOST + 2):
        threads.remember(str(number), f"{number}.0")
    again = Threads(tmp_path / "new")
    assert (again.of("1"), again.of("2"), again.of(str(MOST + 1))) == (None, "2.0", f"{MOST + 1}.0")
    for damaged in (b"{", b"[]"):
        (tmp_path / "new" / "threads.json").write_bytes(damaged)
        assert Threads(tmp_path / "new").of("2") is None
    (tmp_path / "file").write_bytes(b"")
    blocked = Threads(tmp_path / "file")
    blocked.remember("a", "1.0")
    assert blocked.of("a") == "1.0"


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("invalid_auth", "The bot token is not accepted"),
        ("channel_not_found", "Check the field `channel`"),
        ("not_in_channel", "Invite the bot"),
        ("missing_scope", "chat:write"),
        ("internal_error", "may appear twice"),
        ("ratelimited", "may appear twice"),
        ("something_new", "Slack's documentation"),
    ],
)
def test_n1_ok_false_is_a_failure(bot: SlackVenue, error: str, remedy: str) -> None:
    """Though the status is 200: the sentence has Slack's error and what to do."""
    bot.server._handler = lambda _request: ServerReply(document={"ok": False, "error": error})
    with pytest.raises(Undelivered, match=rf"Slack did not accept chat\.postMessage: {error}\. .*{remedy}"):
        bot.wait(bot.channel.send(ALERT))


@pytest.mark.parametrize("document", [{}, [], {"ok": "true"}, {"ok": 1, "error": None}])
def test_n1_only_ok_true_is_accepted(bot: SlackVenue, document: object) -> None:
    """An answer without it, or with another value, is a failure."""
    bot.server._handler = lambda _request: ServerReply(document=document)
    with pytest.raises(Undelivered, match=r"chat\.postMessage: no reason"):
        bot.wait(bot.channel.send(ALERT))


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, "invalid_payload", "answered 400: invalid_payload"),
        (404, "no_service", "answered 404: no_service.*Incoming Webhooks"),
        (403, "action_prohibited", "answered 403: action_prohibited.*administrator"),
        (410, "channel_is_archived", "answered 410: channel_is_archived.*archived"),
        (404, "", "answered 404: no reason"),
        (200, "invalid_payload", "answered 'invalid_payload', not ok"),
        (200, "", "answered '', not ok"),
        (500, "rollup_error", "500 rollup_error.*may appear twice"),
    ],
)
def test_n2_a_webhook_says_in_text_why_it_refuses(webhook: SlackVenue, status: int, body: str, words: str) -> None:
    """Only 200 with `ok` is accepted."""
    webhook.server._handler = lambda _request: ServerReply(status=status, body=body.encode())
    with pytest.raises(Undelivered, match=f"(?s){words}"):
        webhook.wait(webhook.channel.send(ALERT))


@pytest.mark.parametrize("name", ["bot", "webhook"])
def test_n3_the_pause_of_retry_after_is_kept(request: pytest.FixtureRequest, name: str) -> None:
    """A 429 was not handled: the core sends the message again after the pause."""
    venue: SlackVenue = request.getfixturevalue(name)
    venue.server.fail(ServerFault.TOO_MANY)
    with pytest.raises(Undelivered, match=r"429.*asks for a pause of 1 s") as found:
        venue.wait(venue.channel.send(ALERT))
    assert found.value.retry_after_s == 1.0
    assert len(venue.server.requests) == 1


@pytest.mark.parametrize("name", ["bot", "webhook"])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (ServerFault.SERVER_ERROR, "503.*may appear twice"),
        (ServerFault.NO_REPLY, "no answer within 1 s.*may appear twice"),
        (ServerFault.LOST_REPLY, "may appear twice"),
        (ServerFault.LOGIN, "401.*The key is wrong"),
    ],
)
def test_each_failure_is_undelivered_and_no_secret_is_shown(
    request: pytest.FixtureRequest, name: str, fault: ServerFault, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither token nor webhook are in an error or a log."""
    venue: SlackVenue = request.getfixturevalue(name)
    venue.server.fail(fault)
    with caplog.at_level(logging.DEBUG), pytest.raises(Undelivered, match=f"(?s){words}") as found:
        venue.wait(venue.channel.send(ALERT))
    assert WEBHOOK_PATH not in f"{found.value} {found.value.__cause__}"
    shown = f"{found.value} {found.value.__cause__} {redact(caplog.text)}"  # the log's gate redacts what libraries log
    assert KEY not in shown
    assert WEBHOOK_PATH.rpartition("/")[2] not in shown


def test_a_server_that_is_away_is_undelivered(webhook: SlackVenue) -> None:
    """Nothing was sent, and the address is not shown."""
    webhook.wait(webhook.server.__aexit__(None, None, None))
    with pytest.raises(Undelivered, match=r"POST /services/\.\.\.:"):
        webhook.wait(webhook.channel.send(ALERT))


def test_a_check_tries_the_token(bot: SlackVenue) -> None:
    """By auth.test; a token that Slack refuses is a failure."""
    channel: Any = bot.channel
    assert bot.wait(channel.check_connection()) == "the bot tbot of Desk"
    wrong: Any = with_secrets(bot, bot_token=Secret("xoxb-wrong"), channel=CHANNEL)
    with pytest.raises(Undelivered, match=r"auth\.test: invalid_auth\. The bot token is not accepted"):
        bot.wait(wrong.check_connection())


def test_a_check_tries_the_webhook_with_an_empty_text(webhook: SlackVenue) -> None:
    """Slack refuses that after it has found the webhook; nothing is posted."""
    channel: Any = webhook.channel
    assert webhook.wait(channel.check_connection()) == "the webhook exists"
    for reply, words in (
        (ServerReply(status=404, body=b"no_service"), "answered 404: no_service.*Incoming Webhooks"),
        (ServerReply(body=b"ok"), "accepted a message without a text"),
        (ServerReply(status=503), "503"),
    ):
        webhook.server._handler = lambda _request, reply=reply: reply  # type: ignore[misc]  # a handler of one reply
        with pytest.raises(Undelivered, match=f"(?s){words}"):
            webhook.wait(channel.check_connection())
    assert not webhook.arrived()


def test_secrets_that_are_not_complete_are_named(bot: SlackVenue) -> None:
    """A token without a channel, and neither token nor webhook."""
    alone: Any = with_secrets(bot, bot_token=Secret(KEY))
    for call in (alone.send(ALERT), alone.check_connection()):
        with pytest.raises(Undelivered, match="The bot token has no channel"):
            bot.wait(call)
    nothing: Any = with_secrets(bot)
    for call in (nothing.send(ALERT), nothing.check_connection()):
        with pytest.raises(Undelivered, match=r"neither a webhook nor a bot token.*`tbot secrets edit alert`"):
            bot.wait(call)
    assert not bot.server.requests


def test_the_venue_refuses_what_slack_refuses(bot: SlackVenue, webhook: SlackVenue) -> None:
    """Another channel, an empty text, another webhook."""
    for channel, words in (
        (with_secrets(bot, bot_token=Secret(KEY), channel="other"), "channel_not_found"),
        (with_secrets(bot, webhook_url=Secret("https://hooks.slack.com/services/x")), "no_service"),
    ):
        with pytest.raises(Undelivered, match=words):
            bot.wait(channel.send(ALERT))
    http = bot.context.connect.http("api", headers={"authorization": f"Bearer {KEY}"})
    empty = bot.wait(http.send("POST", "/chat.postMessage", json={"channel": CHANNEL}))
    assert empty.json() == {"ok": False, "error": "no_text"}
    answer: Any = webhook.server._handler(attrs.evolve(bot.server.requests[-1], path=WEBHOOK_PATH))
    assert (answer.status, answer.body) == (400, b"no_text")


def test_its_secrets_are_those_that_the_core_knows() -> None:
    """A file of secrets is judged in the same way before and after the plugin is installed."""
    (known,) = (one for one in known_plugins() if (one.kind, one.name) == ("alert", "slack"))
    mine, other = secret_fields(SlackCredentials), known.secrets["alert"]
    assert {name: attrs.evolve(field, kind=other[name].kind) for name, field in mine.items()} == other
    assert {name: field.kind.allowed for name, field in mine.items()} == {
        name: field.kind.allowed for name, field in other.items()
    }


def test_it_offers_itself_with_its_needs(bot: SlackVenue) -> None:
    """Two hosts; it checks its connection, and knows no acknowledgements."""
    offer = tbot_alert()
    assert (offer.name, offer.config, offer.venue is not None) == ("slack", Config, True)
    assert offer.needs.sentence("x") == "secrets alert; hosts hooks.slack.com, slack.com"
    assert isinstance(bot.channel, SupportsConnectionCheck)
    assert not isinstance(bot.channel, SupportsAcknowledgement)
    assert set(NEEDS.hosts) == {"api", "webhook"}
