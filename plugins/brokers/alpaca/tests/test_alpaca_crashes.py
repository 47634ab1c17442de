"""kill -9 at ten moments of a day at the test venue: nothing is ordered twice, all is protected, the books agree."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest

from tbot_core.engine.run_plan import RunWatcher
from tbot_core.journal import records
from tbot_core.testing.scripted_server import ServerFault, ServerRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.journal.store import NewEvent

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loopback")]

DOWN_S: Final = 2.0
"""How long the process is dead."""

_ENDS_S: Final = 5.0
"""How long a run may take to end after its session is closed."""


class Doom:
    """Ends a run at a moment that the journal or the venue reports, as kill -9 does, and starts it again."""

    def __init__(self, day: Any) -> None:
        self._day, self._server = day, day.venue.server
        self._died, self._closed = asyncio.Event(), asyncio.Event()
        self._life: Any = None
        self._legs: list[str] = []
        self._seen: list[str] = []
        day.day = attrs.evolve(day.day, watcher=RunWatcher(on_events=self._on_events, on_minute=self._on_minute))
        day.venue.venue.before = self._on_request
        self.on_event: Callable[[Sequence[str], NewEvent], bool] = lambda _seen, _event: False
        self.on_request: Callable[[Sequence[str], ServerRequest], bool] = lambda _seen, _request: False
        self.on_minute: Callable[[int], bool] = lambda _minute: False

    async def live(self) -> Any:
        """Let a run live until its moment, and another one to the end of the session.

        Returns None where the other one began after the close: it waits for the next session then.
        """
        self._life = self._day.start()
        await asyncio.wait({asyncio.ensure_future(self._died.wait()), self._life}, return_when=asyncio.FIRST_COMPLETED)
        assert self._died.is_set(), "the moment did not come"
        await self._day.crash(self._life)
        await self._day.clock.sleep(DOWN_S)
        self._server.recover()
        self._day.venue.venue.streams.silent = False
        self._day.answers = True
        life = self._day.start()
        await asyncio.wait({asyncio.ensure_future(self._closed.wait()), life}, return_when=asyncio.FIRST_COMPLETED)
        with suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(life), _ENDS_S)
        return await self._day.crash(life)

    def kill(self) -> None:
        """End the process: nothing that it sends arrives, and nothing reaches it."""
        self._day.answers = False
        self._server.fail(ServerFault.LOST_REQUEST, times=None)
        self._day.venue.venue.streams.silent = True
        self._life.cancel()
        self._died.set()

    def kill_soon(self) -> None:
        """End the process when it has read what was sent to it."""
        self._day.loop.call_later(0.05, self.kill)

    def _on_events(self, entries: Sequence[NewEvent]) -> None:
        if any(one.kind == records.SESSION_CLOSED for one in entries):
            self._closed.set()
        for one in () if self._died.is_set() else entries:
            self._legs += [one.payload["leg"]] if one.kind == records.INTENDED else []
            if self.on_event(self._legs, one):
                self.kill()
                raise asyncio.CancelledError

    def _on_request(self, request: ServerRequest) -> None:
        self._seen.append(request.method if request.path.startswith("/v2/orders") else "")
        if not self._died.is_set() and self.on_request(self._seen, request):
            self.kill()

    def _on_minute(self, _session: object, minute: int) -> None:
        if not self._died.is_set() and self.on_minute(minute):
            self.kill()
            raise asyncio.CancelledError


def at_event(leg: str, kind: str) -> Callable[[Doom], None]:
    """When an event of this kind is on disk, and the latest order is one of this leg."""

    def planned(doom: Doom) -> None:
        doom.on_event = lambda legs, event: event.kind == kind and legs[-1:] == [leg]

    return planned


def at_request(method: str, number: int) -> Callable[[Doom], None]:
    """When the venue has received such a request for an order; it is processed, and its answer does not arrive."""

    def planned(doom: Doom) -> None:
        doom.on_request = lambda seen, _request: seen[-1] == method and seen.count(method) == number

    return planned


def after_the_reply(doom: Doom) -> None:
    """When the process has the answer to its first order, and no event of its stream."""

    def posted(seen: Sequence[str], _request: ServerRequest) -> bool:
        if seen.count("POST") == 1 and seen[-1] == "POST":
            doom._day.venue.venue.streams.silent = True
            doom.kill_soon()
        return False

    doom.on_request = posted


def at_minute(minute: int) -> Callable[[Doom], None]:
    """When a minute was decided."""

    def planned(doom: Doom) -> None:
        doom.on_minute = lambda closed: closed == minute

    return planned


def after_the_close(doom: Doom) -> None:
    """When the day's statement is on disk, and its end is not."""
    statements: list[str] = []

    def stated(_legs: Sequence[str], event: NewEvent) -> bool:
        statements.extend([event.kind] if event.kind == records.STATEMENT else [])
        return len(statements) == 2

    doom.on_event = stated


@attrs.frozen
class Moment:
    """When a run dies, in a day of so many minutes."""

    plan: Callable[[Doom], None]
    minutes: int = 18
    rises: bool = False


MOMENTS: Final = {
    "between fill and stop": Moment(at_event("entry", "fill")),
    "before the entry is posted": Moment(at_event("entry", records.SENDING)),
    "between the entry's post and its reply": Moment(at_request("POST", 1)),
    "after the reply and before the journal": Moment(after_the_reply),
    "while the stop is posted": Moment(at_request("POST", 2)),
    "in a replace": Moment(at_request("PATCH", 1), rises=True),
    "while an exit is posted": Moment(at_request("POST", 3), minutes=24),
    "in flatten": Moment(at_request("DELETE", 1)),
    "before the close": Moment(at_minute(16)),
    "after the close": Moment(after_the_close),
}


UNSENT: Final = {"before the entry is posted"}
"""The moments that leave an order on disk that never left: the signal is not traded."""


@pytest.mark.first(0)  # over two seconds
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.full if number else ()) for number, name in enumerate(MOMENTS)]
)
def test_a_day_goes_on_after_kill_9(trade: Callable[..., Any], name: str) -> None:
    """The next process protects what is held within five seconds of its start, and orders nothing again."""
    moment = MOMENTS[name]

    async def script(day: Any) -> Any:
        doom = Doom(day)
        moment.plan(doom)
        return await doom.live()

    day = trade(script, (3, 0), minutes=moment.minutes, rises=moment.rises)
    day.assert_sound()
    assert [one.payload["trades"] for one in day.of(records.SESSION_CLOSED)] == [name not in UNSENT]
