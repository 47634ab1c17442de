"""Whole days in which the answer to a stop or an exit is a fault: its position is protected again within seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from tbot_broker_alpaca.venue.faults import Act, RequestFault

from tbot_core.testing.scripted_server import ServerReply, ServerRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tbot_core.engine.run_plan import RunOutcome

    Script = Callable[[Any], Awaitable[RunOutcome | None]]

pytestmark = [pytest.mark.slow, pytest.mark.first(0), pytest.mark.usefixtures("loopback")]

STOP: Final = 2
EXIT: Final = 3
"""The numbers of a day's orders."""


def answered(number: int, status: int, *, booked: bool = False, **document: Any) -> Script:
    """A day whose order of this number is answered with a fault, `booked` or not."""

    async def script(day: Any) -> RunOutcome | None:
        venue, orders = day.venue.venue, iter(range(1, 100))

        def before(request: ServerRequest) -> ServerReply | None:
            if (request.method, request.path) != ("POST", "/v2/orders") or next(orders) != number:
                return None
            if booked:
                venue.account.submit(request.document)
                venue.account.settle()
            return ServerReply(status=status, document=document or {"message": "fault"})

        venue.before = before
        outcome: RunOutcome | None = await day.start()
        return outcome

    return script


@pytest.mark.parametrize(
    ("number", "status", "booked"), [(STOP, 503, False), (STOP, 429, True), (EXIT, 307, False), (EXIT, 504, True)]
)
def test_an_order_whose_answer_was_lost_is_settled_under_its_id(
    trade: Callable[..., Any], number: int, status: int, *, booked: bool
) -> None:
    """It is sent again under its id where the venue does not have it, and found where it does; none is beside it."""
    day = trade(answered(number, status, booked=booked), (3, 0), minutes=24)
    assert max(day.watched.longest.values()) <= 5
    assert sorted(day.posts.values()) == ([1, 1, 1] if booked else [1, 1, 2])


@pytest.mark.parametrize(
    ("message", "posts"), [("forbidden.", 5), ("trade denied due to pattern day trading protection", 4)]
)
def test_an_exit_that_is_refused_puts_its_stop_back(trade: Callable[..., Any], message: str, posts: int) -> None:
    """The exit is decided again with the next minute, unless the account is restricted; the stop rests meanwhile."""
    day = trade(answered(EXIT, 403, code=40310000, message=message), (3, 0), minutes=24)
    assert max(day.watched.longest.values()) <= 5
    assert [*day.posts.values()] == [1] * posts


def test_a_stop_that_hangs_holds_up_no_other_stop(trade: Callable[..., Any]) -> None:
    """Of two positions that fill in one minute, one stop gets no answer for 40 s; API_TIMEOUT is 30 s.

    The other stop is sent at once; the first one is sent again under its id once its outcome is unknown.
    """

    async def script(day: Any) -> RunOutcome | None:
        hanging = RequestFault(acts=frozenset({Act.STOP}), booked=False, after_s=40.0, is_cut=True)
        day.venue.venue.faults.add(hanging)
        outcome: RunOutcome | None = await day.start()
        return outcome

    day = trade(script, (3, 0), (3, 1), minutes=24)
    assert sorted(day.posts.values()) == [1, 1, 1, 1, 1, 2]
    other, hung = sorted(day.watched.longest.values())
    assert (other <= 1, 3 < hung <= 5) == (True, True)
