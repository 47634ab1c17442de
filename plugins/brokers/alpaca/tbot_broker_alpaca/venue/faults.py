"""Faults of the venue: what happens to order requests, to readings and to trade updates, and when.

Each fault has a `When`. A request fault applies to the requests of its acts, a reading fault to the answers of its
endpoints, an event fault to the trade updates of its names; the first one that is due applies.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import attrs

from tbot_broker_alpaca.venue.orders import OPEN, STOPS
from tbot_broker_alpaca.venue.past import AccountPast
from tbot_core.testing.scripted_server import ServerReply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_broker_alpaca.venue.account import VenueAccount
    from tbot_broker_alpaca.venue.orders import VenueOrder
    from tbot_core.testing.scripted_server import ServerRequest


class Act(StrEnum):
    """What an order request does: the venue knows it by method, type, side and position."""

    ENTRY = "entry"
    STOP = "stop"
    EXIT = "exit"
    REPLACE = "replace"
    CANCEL = "cancel"


class Endpoint(StrEnum):
    """A kind of reading."""

    POSITIONS = "positions"
    ORDERS = "orders"
    LOOKUP = "lookup"
    ACCOUNT = "account"
    ACTIVITIES = "activities"
    CALENDAR = "calendar"
    CONTRACTS = "option contracts"
    OPTION_DATA = "option data"
    OTHER = "other"


class Moment(StrEnum):
    """A moment of a trade, from which a fault may apply: the first one of its kind that the venue sees."""

    START = "at the start"
    ENTRY_SENT = "entry sent"
    ENTRY_FILLED = "entry filled"
    STOP_SENT = "stop sent"
    STOP_ACKNOWLEDGED = "stop acknowledged"
    REPLACE_SENT = "trailing replace"
    CANCEL_SENT = "exit decided"
    EXIT_SENT = "exit sent"
    EXIT_FILLED = "after exit"
    RESTART = "restart"


SENT: Final = {
    Act.ENTRY: Moment.ENTRY_SENT,
    Act.STOP: Moment.STOP_SENT,
    Act.REPLACE: Moment.REPLACE_SENT,
    Act.CANCEL: Moment.CANCEL_SENT,
    Act.EXIT: Moment.EXIT_SENT,
}
"""The moment at which the first request of an act arrives."""


@attrs.frozen(kw_only=True)
class When:
    """The requests or events that a fault applies to.

    They are those that come at most `lasts_s` after `since`, but for the first `skip`, and at most `times` of them;
    None has no bound.
    """

    since: Moment = Moment.START
    lasts_s: float = math.inf
    skip: int = 0
    times: int | None = 1


@attrs.frozen(kw_only=True)
class RequestFault:
    """What happens to an order request: it is booked or not, `after_s` later, and answered with `reply`, if not cut.

    Without a `reply` a booked request has its own answer, and one that is not booked has none. `hidden_s`: no look-up
    or list has the order for so long. `ends_after_s`: the venue cancels it so long after it was booked.
    """

    acts: frozenset[Act] = frozenset(Act)
    when: When = When()
    booked: bool = True
    after_s: float = 0.0
    reply: ServerReply | None = None
    is_cut: bool = False
    hidden_s: float = 0.0
    ends_after_s: float | None = None


@attrs.frozen(kw_only=True)
class ReadingFault:
    """What happens to an answer: it has what was true `late_s` ago, and its document is changed by `change`.

    Requests with a query that `refuses` are answered with `reply`, all of them by default, where there is one.
    """

    endpoints: frozenset[Endpoint]
    when: When = When(times=None)
    late_s: float = 0.0
    change: Callable[[Any], Any] = lambda document: document
    reply: ServerReply | None = None
    refuses: Callable[[Mapping[str, str]], bool] = lambda _query: True


@attrs.frozen(kw_only=True)
class EventFault:
    """What happens to a trade update: it is sent `copies` times, `late_s` later.

    `between` is the name of an update that no client knows, which is sent before each copy after the first one. Without
    names it applies to each update.
    """

    names: frozenset[str] = frozenset()
    when: When = When(times=None)
    copies: int = 1
    late_s: float = 0.0
    between: str = ""


Fault: TypeAlias = RequestFault | ReadingFault | EventFault
_Kind = TypeVar("_Kind", RequestFault, ReadingFault, EventFault)


@attrs.define(eq=False)
class _Planned:
    # A fault, and how many requests or events of its kind have met it since its time began.
    fault: Fault
    met: int = 0

    @property
    def is_due(self) -> bool:
        when = self.fault.when
        return when.skip <= self.met and (when.times is None or self.met < when.skip + when.times)


class VenueFaults:
    """The faults of one venue, and the moments of its trade, of which the first of each kind counts.

    `down`: the client's process has ended, so that nothing arrives and nothing is delivered.
    """

    def __init__(self, account: VenueAccount, send_update: Callable[[dict[str, Any]], object]) -> None:
        self._account, self._send_update = account, send_update
        self._past = AccountPast(account)
        self._planned: list[_Planned] = []
        self._began = {Moment.START: self._now}
        self._hidden: dict[str, float] = {}
        self.down = False
        self._acts: defaultdict[Moment, list[tuple[float, Callable[[], None]]]] = defaultdict(list)
        account.observers.append(self._observe)

    def add(self, *faults: Fault) -> None:
        """Let these happen."""
        self._planned += map(_Planned, faults)

    def clear(self) -> None:
        """Let no more happen."""
        self._planned.clear()

    def act_at(self, moment: Moment, act: Callable[[], None], *, after_s: float = 0.0) -> None:
        """Let something be done at a moment, or so long after it."""
        self._acts[moment].append((after_s, act))

    @property
    def all_met(self) -> bool:
        """Whether each planned fault has applied to something, and each planned act was done."""
        return all(one.met > one.fault.when.skip for one in self._planned) and self._acts.keys() <= self._began.keys()

    def begin(self, moment: Moment) -> None:
        """A moment has come."""
        if moment in self._began:
            return
        self._began[moment] = self._now
        for after_s, act in self._acts[moment]:
            if after_s:
                asyncio.get_running_loop().call_later(after_s, act)
            else:
                act()

    async def answer(
        self, request: ServerRequest, answer: Callable[[ServerRequest], ServerReply]
    ) -> ServerReply | None:
        """The answer to a request with the fault that is due; None: the connection is cut."""
        act, was_down = act_of(request, self._account), self.down
        if act is None or was_down:
            return None if was_down else self._read(request, answer)
        self.begin(SENT[act])
        fault = self._due(RequestFault, lambda one: act in one.acts)
        if self.down:  # the client's process has ended while the request was on its way
            if fault is None or fault.booked:
                answer(request)
            return None
        return answer(request) if fault is None else await self._failed(fault, request, answer)

    def account_for(self, endpoint: Endpoint) -> VenueAccount:
        """The account as an endpoint shows it now."""
        late_s = self.late_s(endpoint)
        hidden = {one for one, until in self._hidden.items() if self._now < until}
        if not late_s and not hidden:
            return self._account
        found = self._past.account_at(self._account.now - dt.timedelta(seconds=late_s))
        if endpoint in {Endpoint.ORDERS, Endpoint.LOOKUP}:
            found.orders = [order for order in found.orders if order.id not in hidden]
        return found

    def late_s(self, endpoint: Endpoint) -> float:
        """How far an endpoint lags behind now, in seconds."""
        return max((fault.late_s for fault in self._reading_faults(endpoint)), default=0.0)

    def send(self, update: dict[str, Any]) -> None:
        """Send a trade update with the fault that is due."""
        name = update["event"]
        fault = self._due(EventFault, lambda one: not one.names or name in one.names) or EventFault()
        between = [{**update, "event": fault.between}] if fault.between else []
        for number in range(fault.copies):
            for one in (*(between if number else ()), update):
                if fault.late_s:
                    asyncio.get_running_loop().call_later(fault.late_s, self._send_update, one)
                else:
                    self._send_update(one)

    @property
    def _now(self) -> float:
        return self._account.market.clock.monotonic()

    async def _failed(
        self, fault: RequestFault, request: ServerRequest, answer: Callable[[ServerRequest], ServerReply]
    ) -> ServerReply | None:
        # The answer to a request that a fault applies to.
        if fault.after_s:
            await asyncio.sleep(fault.after_s)
        known = len(self._account.orders)
        reply = answer(request) if fault.booked else None
        for order in self._account.orders[known:]:
            self._hidden[order.id] = self._now + fault.hidden_s
            if fault.ends_after_s is not None:
                asyncio.get_running_loop().call_later(fault.ends_after_s, self._end, order)
        return None if fault.is_cut else fault.reply or reply

    def _end(self, order: VenueOrder) -> None:
        if order.status in OPEN:
            self._account.end(order, "canceled")

    def _read(self, request: ServerRequest, answer: Callable[[ServerRequest], ServerReply]) -> ServerReply:
        # The answer to a reading.
        endpoint = endpoint_of(request)
        faults, reply = self._reading_faults(endpoint), answer(request)
        for fault, planned in self._active(ReadingFault):
            planned.met += endpoint in fault.endpoints
        for fault in faults:
            if fault.reply is not None and fault.refuses(request.query):
                return fault.reply
            if reply.status == HTTPStatus.OK:
                reply = attrs.evolve(reply, document=fault.change(reply.document))
        return reply

    def _reading_faults(self, endpoint: Endpoint) -> list[ReadingFault]:
        return [
            fault for fault, planned in self._active(ReadingFault) if endpoint in fault.endpoints and planned.is_due
        ]

    def _due(self, kind: type[_Kind], fits: Callable[[_Kind], bool]) -> _Kind | None:
        # The first fault that is due; each that fits is met.
        found = None
        for fault, planned in self._active(kind):
            if fits(fault):
                found = fault if found is None and planned.is_due else found
                planned.met += 1
        return found

    def _active(self, kind: type[_Kind]) -> Iterator[tuple[_Kind, _Planned]]:
        # The faults of a kind whose time has begun and is not over.
        for planned in self._planned:
            fault, when = planned.fault, planned.fault.when
            began = self._began.get(when.since, math.inf)
            if isinstance(fault, kind) and began <= self._now < began + when.lasts_s:
                yield fault, planned

    def _observe(self, order: VenueOrder) -> None:
        # The moments that a change of an order is.
        if order.type in STOPS and order.status == "new":
            self.begin(Moment.STOP_ACKNOWLEDGED)
        if order.filled:
            self.begin(
                Moment.EXIT_FILLED if closes(self._account, order.symbol, buy=order.buy) else Moment.ENTRY_FILLED
            )


def closes(account: VenueAccount, symbol: str, *, buy: bool) -> bool:
    """Whether an order of a side closes what was opened before: one of the other side has filled."""
    return any(order.filled and order.symbol == symbol and order.buy is not buy for order in account.orders)


def act_of(request: ServerRequest, account: VenueAccount) -> Act | None:
    """What an order request does; None for a reading."""
    match request.method, request.path.strip("/").split("/"):
        case "POST", ["v2", "orders"]:
            given = request.document
            if given.get("type") in STOPS:
                return Act.STOP
            closing = closes(account, str(given.get("symbol")), buy=given.get("side") == "buy")
            return Act.EXIT if closing else Act.ENTRY
        case "PATCH", ["v2", "orders", _]:
            return Act.REPLACE
        case "DELETE", ["v2", "orders", *_]:
            return Act.CANCEL
        case "DELETE", ["v2", "positions", *_]:
            return Act.EXIT
    return None


def endpoint_of(request: ServerRequest) -> Endpoint:
    """The kind of a reading."""
    match request.path.strip("/").split("/"):
        case ["v2", "orders", _]:
            return Endpoint.LOOKUP
        case ["v2", "account", "activities", *_]:
            return Endpoint.ACTIVITIES
        case ["v2", "options", "contracts", *_]:
            return Endpoint.CONTRACTS
        case ["v1beta1", "options", *_]:
            return Endpoint.OPTION_DATA
        case ["v2", name, *_] if name in _ENDPOINTS:
            return _ENDPOINTS[name]
    return Endpoint.OTHER


_ENDPOINTS: Final = {
    "positions": Endpoint.POSITIONS,
    "orders": Endpoint.ORDERS,
    "orders:by_client_order_id": Endpoint.LOOKUP,
    "account": Endpoint.ACCOUNT,
    "calendar": Endpoint.CALENDAR,
}
