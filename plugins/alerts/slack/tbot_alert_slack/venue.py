"""A server that plays Slack, to test the channel with."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from tbot_alert_slack import NEEDS, Config, SlackCredentials, create
from tbot_core.system import filesystem
from tbot_core.system.secret import Secret
from tbot_core.testing.scripted_server import ScriptedServer, ServerFault, ServerReply, ServerRequest, context

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path

    from tbot_core.model.clock import Clock

KEY: Final = "xoxb-a-token-of-tests-and-no-workspace"
_WEBHOOKS: Final = "/services/"
WEBHOOK_PATH: Final = "/services/T00000001/B00000002/aBcDeFgHiJkLmNoPqRsTuVwX"
CHANNEL: Final = "C0123456789"


class SlackVenue:
    """The channel and the server behind it, in one event loop; without `bot` it has the webhook."""

    def __init__(self, runner: asyncio.Runner, server: ScriptedServer, folder: Path, *, bot: bool) -> None:
        self._runner, self.server = runner, server
        secrets = (
            SlackCredentials(bot_token=Secret(KEY), channel=CHANNEL)
            if bot
            else SlackCredentials(webhook_url=Secret(f"https://hooks.slack.com{WEBHOOK_PATH}"))
        )
        self.context = context(server, hosts=NEEDS.hosts, secrets={"alert": secrets}, timeout_s=1.0, folder=folder)
        self.channel = create(Config(), self.context)

    def arrived(self) -> list[str]:
        """The text of each message as a person reads it."""
        posts = [words for request in self.server.requests if (words := request.document.get("text"))]
        return [words.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for words in posts]

    def received(self) -> list[str]:
        """The text of each message, as it arrived."""
        return self.arrived()

    def fail(self) -> bool:
        """Let every further request fail."""
        self.server.fail(ServerFault.SERVER_ERROR, times=None)
        return True

    def wait(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Await a call in the loop of the channel and the server; returns its result."""
        return self._runner.run(call)


class FakeSlack:
    """The answers: of the Web API as JSON, of the webhook as text; with `any_login` to every token and webhook."""

    def __init__(self, *, any_login: bool = False) -> None:
        self.posted = 0
        self._any = any_login

    def __call__(self, request: ServerRequest) -> ServerReply:
        """The answer to a request."""
        if request.path == WEBHOOK_PATH or (self._any and request.path.startswith(_WEBHOOKS)):
            return ServerReply(body=b"ok") if request.document.get("text") else ServerReply(status=400, body=b"no_text")
        if request.path not in {"/chat.postMessage", "/auth.test"}:
            return ServerReply(status=404, body=b"no_service")
        if not self._any and request.headers.get("authorization") != f"Bearer {KEY}":
            return _refused("invalid_auth")
        if request.path == "/auth.test":
            return ServerReply(document={"ok": True, "user": "tbot", "team": "Desk"})
        return self._post(request.document)

    def _post(self, message: dict[str, Any]) -> ServerReply:
        if not self._any and message.get("channel") != CHANNEL:
            return _refused("channel_not_found")
        if not message.get("text"):
            return _refused("no_text")
        self.posted += 1
        return ServerReply(document={"ok": True, "channel": CHANNEL, "ts": f"1764514800.{self.posted:06}"})


def _refused(error: str) -> ServerReply:
    return ServerReply(document={"ok": False, "error": error})


@contextmanager
def open_venue(
    runner: asyncio.Runner | None = None, _clock: Clock | None = None, *, bot: bool = True
) -> Iterator[SlackVenue]:
    """A server that accepts every valid message of the bot, or of the webhook.

    A rehearsal brings its own event loop and clock; then every login is accepted.
    """
    with filesystem.scratch_folder() as folder, asyncio.Runner() as own:
        server = ScriptedServer(FakeSlack(any_login=runner is not None))
        runner = runner or own
        runner.run(server.__aenter__())
        venue = SlackVenue(runner, server, folder, bot=bot)
        try:
            yield venue
        finally:
            runner.run(venue.context.connect.close())
            runner.run(server.__aexit__(None, None, None))
