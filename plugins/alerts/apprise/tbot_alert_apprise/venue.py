"""A server that takes JSON messages, to test the channel with."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from tbot_alert_apprise import AppriseAddresses, Config, create
from tbot_core.system.secret import Secret
from tbot_core.testing.scripted_server import ScriptedServer, ServerFault, context

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

KEY: Final = "aKeyInTheAddress77"


class JsonVenue:
    """The channel and the server behind it, in one event loop."""

    def __init__(self, runner: asyncio.Runner, server: ScriptedServer) -> None:
        self._runner, self.server = runner, server
        self.address = f"{server.url.replace('http', 'json', 1)}/{KEY}"
        secrets = {"alert": AppriseAddresses(urls=Secret(self.address))}
        self.context = context(server, hosts={}, secrets=secrets)
        self.channel = create(Config(), self.context)

    def arrived(self) -> list[str]:
        """Title and text of each message."""
        return [f"{request.document['title']}\n{request.document['message']}" for request in self.server.requests]

    def fail(self) -> bool:
        """Let every further request fail."""
        self.server.fail(ServerFault.SERVER_ERROR, times=None)
        return True

    def wait(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Await a call in the loop of the channel and the server; returns its result."""
        return self._runner.run(call)


@contextmanager
def open_venue() -> Iterator[JsonVenue]:
    """A server that accepts every message."""
    with asyncio.Runner() as runner:
        server = ScriptedServer()
        runner.run(server.__aenter__())
        venue = JsonVenue(runner, server)
        try:
            yield venue
        finally:
            runner.run(server.__aexit__(None, None, None))
