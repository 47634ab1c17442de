"""A server that accepts events, to test the channel with."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from tbot_alert_pagerduty import NEEDS, Config, PagerDutyCredentials, create
from tbot_core.system.secret import Secret
from tbot_core.testing.scripted_server import ScriptedServer, ServerFault, ServerReply, ServerRequest, context

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping

    from tbot_core.model.clock import Clock

KEY: Final = "0123456789abcdef0123456789abcdef"
_PATH: Final = "/enqueue"


class EventVenue:
    """The channel and the server behind it, in one event loop."""

    def __init__(self, runner: asyncio.Runner, server: ScriptedServer) -> None:
        self._runner, self.server = runner, server
        secrets = {"alert": PagerDutyCredentials(routing_key=Secret(KEY))}
        self.context = context(server, hosts=NEEDS.hosts, secrets=secrets, timeout_s=1.0)
        self.channel = create(Config(), self.context)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The bodies of all requests, oldest first."""
        return [request.document for request in self.server.requests]

    def arrived(self) -> list[str]:
        """Summary and text of each trigger."""
        payloads = [event["payload"] for event in self.events if event["event_action"] == "trigger"]
        return [f"{payload['summary']}\n{payload['custom_details']['text']}" for payload in payloads]

    def received(self) -> list[str]:
        """The action of each event, and its summary, or the incident that it ends."""
        return [
            f"{event['event_action']}: {event.get('payload', event).get('summary', _of(event))}"
            for event in self.events
        ]

    def fail(self) -> bool:
        """Let every further request fail."""
        self.server.fail(ServerFault.SERVER_ERROR, times=None)
        return True

    def wait(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Await a call in the loop of the channel and the server; returns its result."""
        return self._runner.run(call)


def accept(request: ServerRequest) -> ServerReply:
    """The answer to an event: 202 with its dedup key, 400 where a field is missing or wrong."""
    event = request.document
    wrong = [name for name in ("routing_key", "event_action") if not event.get(name)]
    if event.get("event_action") == "trigger":
        wrong += [name for name in ("summary", "source", "severity") if not event.get("payload", {}).get(name)]
    elif not event.get("dedup_key"):
        wrong.append("dedup_key")
    if wrong or request.path != _PATH:
        errors = [f"'{name}' is missing or blank" for name in wrong]
        refusal = {"status": "invalid event", "message": "Event object is invalid", "errors": errors}
        return ServerReply(status=400, document=refusal)
    answer = {"status": "success", "message": "Event processed", "dedup_key": event["dedup_key"]}
    return ServerReply(status=202, document=answer)


def _of(event: Mapping[str, Any]) -> str:
    return f"the incident {event['dedup_key']}"


@contextmanager
def open_venue(runner: asyncio.Runner | None = None, _clock: Clock | None = None) -> Iterator[EventVenue]:
    """A server that accepts every valid event, of any key; a rehearsal brings its own event loop and clock."""
    with asyncio.Runner() as own:
        runner = runner or own
        server = ScriptedServer(accept)
        runner.run(server.__aenter__())
        venue = EventVenue(runner, server)
        try:
            yield venue
        finally:
            runner.run(venue.context.connect.close())
            runner.run(server.__aexit__(None, None, None))
