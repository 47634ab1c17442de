"""Whole days in which the answer to a stop or an exit is lost: the position is protected again within seconds.

The venue counts for how long no order closes the position (`WatchedDay`), and what each order was posted for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tbot_core.testing.scripted_server import ServerReply, ServerRequest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loopback")]

ORDERS: Final = "/v2/orders"


def is_post(request: ServerRequest) -> bool:
    return (request.method, request.path) == ("POST", ORDERS)


def failing(number: int, status: int, *, booked: bool, times: int = 1, document: Any = None):
    async def script(day: Any) -> Any:
        venue = day.venue.venue
        seen = [0]

        def before(request: ServerRequest) -> ServerReply | None:
            if not is_post(request):
                return None
            seen[0] += 1
            if number <= seen[0] < number + times:
                if booked:
                    venue.account.submit(request.document)
                    venue.account.settle()
                return ServerReply(status=status, document=document or {"message": "fault"})
            return None

        venue.before = before
        return await day.start()

    return script


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("booked", [False, True])
@pytest.mark.parametrize("status", [503, 307, 429, 504])
def test_unknown(trade: Callable[..., Any], number: int, booked: bool, status: int) -> None:
    day = trade(failing(number, status, booked=booked), (3, 0), minutes=24)
    print(dict(day.watched.longest), day.posts.values())
    kinds = [(e.kind, e.cid and e.cid[-4:], str(e.applied.time())[:12], str(e.payload)[:100]) for e in day.events if e.cid]
    for k in kinds: print(k)
    assert max(day.watched.longest.values()) <= 5


@pytest.mark.parametrize("message", ["trade denied due to pattern day trading protection", "insufficient buying power", "forbidden."])
def test_exit_refused(trade: Callable[..., Any], message: str) -> None:
    day = trade(failing(3, 403, booked=False, times=2, document={"code": 40310000, "message": message}), (3, 0), minutes=24)
    print(dict(day.watched.longest), day.posts.values())
    kinds = [(e.kind, e.cid and e.cid[-4:], str(e.applied.time())[:12], str(e.payload)[:100]) for e in day.events if e.cid]
    for k in kinds: print(k)
    assert max(day.watched.longest.values()) <= 5
