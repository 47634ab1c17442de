"""A simulated venue in another process, and the broker client of it, in virtual or real time.

The venue outlives its clients. Its time is the world's seconds; each message of a client advances it. A message is one
line of JSON: the values of the broker contract that are listed here, in both directions.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from tbot_core.contracts import (
    AccountActivity,
    AccountSnapshot,
    BrokerCapabilities,
    BrokerEvent,
    OrderStatusReport,
    Permit,
    PositionReport,
    ReplaceMode,
)
from tbot_core.errors import (
    BrokerError,
    LoginNeeded,
    OutcomeUnknown,
    Rejected,
    RejectionMeaning,
    Unavailable,
    Withdrawn,
)
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.model import json_document
from tbot_core.model.types import (
    Account,
    AccountRestriction,
    ExitReason,
    Fill,
    Instrument,
    InstrumentKind,
    Leg,
    Order,
    OrderState,
    OrderType,
    SignalId,
)
from tbot_core.rehearsal.broker_client import SimulatedBroker
from tbot_core.rehearsal.venue_profiles import VenueProfile
from tbot_core.trading.orders import OrderRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tbot_core.model.clock import Clock
    from tbot_core.rehearsal.network import NetworkPath
    from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop

_ROUNDS: Final = 6

_ASKED: Final = frozenset({"connect", "account", "submit", "cancel", "replace", "poll", "snapshot", "find", "close"})

_VALUES: Final[Mapping[str, type[attrs.AttrsInstance]]] = {
    one.__name__: one
    for one in (
        *(Account, AccountActivity, BrokerEvent, VenueProfile, Fill, PositionReport),
        *(Order, Instrument, OrderRecord, OrderStatusReport, SignalId, AccountSnapshot, BrokerCapabilities),
    )
}

_ERRORS: Final = {
    one.__name__: one for one in (BrokerError, LoginNeeded, OutcomeUnknown, Rejected, Unavailable, Withdrawn)
}

_TEXTS: Final[Mapping[str, tuple[Callable[[Any], str], Callable[[str], Any]]]] = {
    "Decimal": (str, Decimal),
    "datetime": (dt.datetime.isoformat, dt.datetime.fromisoformat),
    "date": (dt.date.isoformat, dt.date.fromisoformat),
    **{
        one.__name__: (str, one)
        for one in (
            AccountRestriction,
            ExitReason,
            InstrumentKind,
            Leg,
            OrderState,
            OrderType,
            RejectionMeaning,
            ReplaceMode,
        )
    },
}

_KIND: Final = "is"

_OF: Final = "of"


class Connection(Protocol):
    """A connection for messages and answers."""

    def send(self, data: bytes) -> None:
        """Send bytes."""

    def receive(self) -> bytes | None:
        """The next message; None when the other end has closed."""


class RemoteBroker:
    """A client of a venue over a connection.

    The venue answers each message at once with the results so far, and the second at which more may be ready. The
    client waits in its own loop until then, so that many requests can be pending.
    """

    def __init__(self, connection: Connection, clock: Clock) -> None:
        """Connect to the venue; raises Unavailable without an answer."""
        self._connection = connection
        self._clock = clock
        self._offset = 0.0
        self._count = 0
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._wake: asyncio.TimerHandle | None = None
        self._capabilities: BrokerCapabilities
        reported, start = self._exchange("hello")
        self._capabilities = attrs.evolve(reported, server_time=False, instruments=False)
        self._offset = clock.monotonic() - (clock.now() - start).total_seconds()

    @property
    def capabilities(self) -> BrokerCapabilities:
        """The venue's capabilities, without those that the connection does not serve."""
        return self._capabilities

    async def connect(self) -> Account:
        """Log in."""
        account: Account = await self._ask("connect")
        return account

    async def account(self) -> Account:
        """Current cash, equity and buying power."""
        account: Account = await self._ask("account")
        return account

    async def submit(self, order: Order, permit: Permit) -> None:
        """Submit an order."""
        permit.redeem()
        await self._ask("submit", order)

    async def cancel(self, client_order_id: str) -> None:
        """Request a cancel."""
        await self._ask("cancel", client_order_id)

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Change a resting order."""
        await self._ask("replace", client_order_id, order)

    async def poll(self) -> Sequence[BrokerEvent]:
        """The events since the last call."""
        events: Sequence[BrokerEvent] = await self._ask("poll")
        return events

    async def snapshot(self, since: dt.datetime) -> AccountSnapshot:
        """A snapshot of the account, with the orders closed since then."""
        snapshot: AccountSnapshot = await self._ask("snapshot", since)
        return snapshot

    async def find(self, client_order_id: str) -> OrderStatusReport | None:
        """Look up an order; None if the venue does not list it."""
        report: OrderStatusReport | None = await self._ask("find", client_order_id)
        return report

    async def close(self) -> None:
        """Log out; resting orders stay."""
        await self._ask("close")

    async def _ask(self, what: str, *parts: object) -> Any:
        self._count += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._open[self._count] = answer
        self._exchange_answers(what, parts)
        answer_value = await answer
        if isinstance(answer_value, BrokerError):
            raise answer_value
        return answer_value

    def _exchange_answers(self, what: str = "", parts: tuple[object, ...] = ()) -> None:
        # Send the time and perhaps a request, process the results, and repeat when more may be ready.
        answers, next_at = self._exchange(what, parts)
        for number, answer_value in answers:
            waiting = self._open.pop(number)
            if not waiting.done():  # the caller may have gone
                waiting.set_result(answer_value)
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if next_at is not None:
            self._wake = asyncio.get_running_loop().call_later(max(next_at - self._second, 0.0), self._exchange_answers)

    @property
    def _second(self) -> float:
        return self._clock.monotonic() - self._offset

    def _exchange(self, what: str, parts: tuple[object, ...] = ()) -> Any:
        self._connection.send(dump_line((self._second, self._count, what, parts)))
        line = self._connection.receive()
        if line is None:
            raise Unavailable("The venue has hung up.", "Start it again.")
        return load_line(line)


class VenueServer:
    """Serves one client of a venue; a restarted bot is another client.

    A message has the client's current second of the world, and may have a request with a number. The answer has the
    results of all requests finished by then, and the second at which more may finish.
    """

    def __init__(self, way: NetworkPath, loop: VirtualLoop, clock: LoopClock) -> None:
        self._loop = loop
        self._broker = SimulatedBroker(way, clock)
        self._start = way.exchange.matching.start
        self._tasks: dict[int, asyncio.Task[Any]] = {}

    def serve(self, connection: Connection) -> None:
        """Answer messages until the client closes the connection."""
        while (message := connection.receive()) is not None:
            connection.send(self.answer(message))

    def answer(self, message: bytes) -> bytes:
        """The answer to a message."""
        at, number, what, parts = load_line(message)
        if what == "hello":
            return dump_line((self._broker.capabilities, self._start))
        self._loop.run_until_complete(self._pass(at, number, what, parts))
        done = [number for number, task in self._tasks.items() if task.done()]
        answers = [(number, self._tasks.pop(number).result()) for number in done]
        return dump_line((answers, self._loop.next_at if self._tasks else None))

    async def _ask(self, what: str, parts: tuple[Any, ...]) -> object:
        if what not in _ASKED:
            raise ValueError(f"A broker is not asked for {what}.")
        if what == "submit":  # the client redeemed the real permit
            parts = (*parts, SendPermit(parts[0], never_refuse))
        ask: Callable[..., Any] = getattr(self._broker, what)
        try:
            return await ask(*parts)
        except BrokerError as fault:
            return fault

    async def _pass(self, at: float, number: int, what: str, parts: tuple[Any, ...]) -> None:
        # Advance to that second, and start the request.
        if at > self._loop.time():
            await asyncio.sleep(at - self._loop.time())
        if what:
            self._tasks[number] = self._loop.create_task(self._ask(what, parts))
        for _ in range(_ROUNDS):  # run the tasks that wake at that very second
            await asyncio.sleep(0)


def dump_line(value: object) -> bytes:
    """Serialize a value as a line with its line feed; raises TypeError for an unsupported type."""
    return json.dumps(_plain(value), separators=(",", ":")).encode() + b"\n"


def load_line(line: bytes) -> Any:
    """Parse a line; lists become tuples. Raises KeyError or ValueError for an invalid line."""
    return _value(json_document.parse_json(line))


def _plain(value: object) -> object:
    # The value in JSON types, marked with its type.
    kind = type(value).__name__
    if kind in _TEXTS:
        return {_KIND: kind, _OF: _TEXTS[kind][0](value)}
    match value:
        case None | bool() | int() | float() | str():
            return value
        case tuple() | list():
            return [_plain(one) for one in value]
        case BrokerError():
            meaning = value.meaning if type(value) is Rejected else None
            return {_KIND: kind, _OF: [value.message, value.remedy, value.retry_after_s, meaning]}
    return {_KIND: kind, _OF: _content(value)}


def _content(value: object) -> object:
    # The content of a set, a dict or a value of the contract.
    match value:
        case frozenset():
            return [_plain(one) for one in sorted(value)]
        case dict():
            return [[_plain(key), _plain(one)] for key, one in value.items()]
        case _ if type(value).__name__ in _VALUES:
            names = [field.name for field in attrs.fields(_VALUES[type(value).__name__]) if field.init]
            return {name: _plain(getattr(value, name)) for name in names}
    raise TypeError(f"{type(value).__name__} cannot be serialized.")


def _value(plain: Any) -> Any:
    # The inverse of `_plain`.
    match plain:
        case list():
            return tuple(_value(one) for one in plain)
        case {"is": "frozenset", "of": of}:
            return frozenset(_value(one) for one in of)
        case {"is": "dict", "of": of}:
            return {_value(key): _value(one) for key, one in of}
        case {"is": kind, "of": of}:
            return _construct(kind, of)
    return plain


def _construct(kind: str, of: Any) -> Any:
    if kind in _TEXTS:
        return _TEXTS[kind][1](of)
    if kind in _ERRORS:
        message, remedy, retry_after_s, meaning = of
        made = _ERRORS[kind](message, remedy, retry_after_s=retry_after_s)
        if type(made) is Rejected:
            made.meaning = None if meaning is None else RejectionMeaning(meaning)
        return made
    return _VALUES[kind](**{name: _value(one) for name, one in of.items()})
