"""A server that plays Twilio, to test the channel with."""

from __future__ import annotations

import asyncio
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from tbot_alert_sms import NEEDS, Config, TwilioCredentials, create
from tbot_core.system.secret import Secret
from tbot_core.testing.scripted_server import ScriptedServer, ServerFault, ServerReply, ServerRequest, context

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from tbot_core.model.clock import Clock

ACCOUNT: Final = "AC0123456789abcdef0123456789abcdef"
KEY: Final = "fedcba9876543210fedcba9876543210"
SENDER: Final = "+12025550100"
RECIPIENTS: Final = ("+12025550123",)
_MESSAGES: Final = re.compile("/2010-04-01/Accounts/AC[0-9a-fA-F]{32}/Messages.json")
_ACCOUNT: Final = re.compile("/2010-04-01/Accounts/AC[0-9a-fA-F]{32}.json")


class TwilioVenue:
    """The channel and the server behind it, in one event loop."""

    def __init__(self, runner: asyncio.Runner, server: ScriptedServer, recipients: tuple[str, ...]) -> None:
        self._runner, self.server = runner, server
        secrets = TwilioCredentials(account_sid=ACCOUNT, auth_token=Secret(KEY), sender=SENDER, recipients=recipients)
        self.context = context(server, hosts=NEEDS.hosts, secrets={"alert": secrets}, timeout_s=1.0)
        self.channel = create(Config(), self.context)

    @property
    def forms(self) -> list[dict[str, str]]:
        """The forms of all messages, oldest first."""
        return [form(request) for request in self.server.requests if request.method == "POST"]

    def arrived(self) -> list[str]:
        """The text of each message."""
        return [one["Body"] for one in self.forms]

    def received(self) -> list[str]:
        """The number and the text of each message."""
        return [f"to {one['To']}: {one['Body']}" for one in self.forms]

    def fail(self) -> bool:
        """Let every further request fail."""
        self.server.fail(ServerFault.SERVER_ERROR, times=None)
        return True

    def wait(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Await a call in the loop of the channel and the server; returns its result."""
        return self._runner.run(call)


def form(request: ServerRequest) -> dict[str, str]:
    """The fields of a request's form."""
    return dict(parse_qsl(request.body.decode()))


def accept(request: ServerRequest) -> ServerReply:
    """The answer: 201 for a message with its fields, 400 with a code for another one."""
    if request.method == "GET" and _ACCOUNT.fullmatch(request.path):
        return ServerReply(document={"sid": ACCOUNT, "status": "active"})
    if request.method != "POST" or not _MESSAGES.fullmatch(request.path):
        return _refused(20404, f"The requested resource {request.path} was not found", 404)
    fields = form(request)
    if not fields.get("To"):
        return _refused(21604, "A 'To' phone number is required.")
    if not fields.get("From") and not fields.get("MessagingServiceSid"):
        return _refused(21603, "A 'From' phone number is required.")
    if not fields.get("Body"):
        return _refused(21602, "Message body is required.")
    message = {"sid": "SM0123456789abcdef0123456789abcdef", "status": "queued", "to": fields["To"]}
    return ServerReply(status=201, document=message)


def _refused(code: int, words: str, status: int = 400) -> ServerReply:
    more = f"https://www.twilio.com/docs/errors/{code}"
    return ServerReply(status=status, document={"code": code, "message": words, "more_info": more, "status": status})


@contextmanager
def open_venue(
    runner: asyncio.Runner | None = None, _clock: Clock | None = None, *, recipients: tuple[str, ...] = RECIPIENTS
) -> Iterator[TwilioVenue]:
    """A server that accepts every valid message, of any account; a rehearsal brings its own event loop and clock."""
    with asyncio.Runner() as own:
        runner = runner or own
        server = ScriptedServer(accept)
        runner.run(server.__aenter__())
        venue = TwilioVenue(runner, server, recipients)
        try:
            yield venue
        finally:
            runner.run(venue.context.connect.close())
            runner.run(server.__aexit__(None, None, None))
