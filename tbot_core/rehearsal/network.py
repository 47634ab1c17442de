"""The network path between a bot and a venue: transports requests and events, with faults.

It belongs to the world, not to the bot: a sent request arrives even if the bot crashes, and outages outlast a restart.
A reading may show what is not so, as a client that notices nothing would report it.
"""

from __future__ import annotations

import heapq
from collections import deque
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypedDict

import attrs

from tbot_core.contracts import AccountSnapshot, BrokerEvent, BrokerEventKind
from tbot_core.errors import BrokerError, LoginNeeded, OutcomeUnknown, RejectionMeaning, Unavailable
from tbot_core.model.types import Account, Leg
from tbot_core.rehearsal.venue_profiles import ReadingLags
from tbot_core.testing.canaries import canary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tbot_core.rehearsal.exchange import SimulatedExchange
    from tbot_core.rehearsal.faults import SeedFaults
    from tbot_core.rehearsal.random_streams import RandomStream

TIMEOUT_S: Final = 10.0

KEY: Final = canary("venue")
"""The bot's key at every venue; a venue quotes it in an error message."""

_LATENCY_S: Final = (0.01, 0.08)

_NOTICED_S: Final = 20.0

_SLOW_S: Final = 5.0

_STORM_S: Final = 15.0

_MINUTE_S: Final = 60.0

_REPLAYED: Final = 5

_DELAYED_S: Final = 300.0

_AMBUSH_S: Final = 120.0

_EPISODES: Final = ("F6", "F7", "F8", "F12", "F13", "F58", "F59", "F60", "F61", "F62", "F63")

_PASSABLE: Final = frozenset({"F58", "F62"})

_UNREACHED: Final = {"F6": "TLS handshake failed", "F7": "its certificate is not valid", "F8": "no such host"}

_TRADING: Final = frozenset({"submit", "cancel", "replace"})

_EFFECTS: Final[Mapping[str, FaultEffect]] = {
    "F1": {"arrives": False, "silent": True},
    "F2": {"silent": True},
    "F3": {"silent": True},
    "F4": {"silent": True},
    "F5": {"garbled": "connection reset by peer"},
    "F9": {"garbled": "500 internal server error"},
    "F10": {"garbled": "504 gateway time-out"},
    "F11": {"garbled": "429 too many requests"},
    "F15": {"garbled": "200 with a page of HTML"},
    "F16": {"garbled": "200 with half an answer"},
    "F17": {"garbled": "200 with a quantity of NaN"},
    "F19": {},
    "F31": {"arrives": False},
    "F32": {},
    "F33": {},
    "F34": {},
}

COUNTED_WHEN_SHOWN: Final = frozenset({"F49", "F113", "F114"})
"""The faults that count as injected only where they change what is shown."""

_COUNTED_WHEN_DONE: Final = frozenset({"F19", "F32", "F33", *COUNTED_WHEN_SHOWN})

_EITHER_WAY: Final = frozenset({"F5", "F9", "F10", "F11"})

_BY_KIND: Final = {
    "submit": ("F1", "F2", "F3", "F4", "F5", "F9", "F10", "F11", "F15", "F16", "F17", "F19"),
    "cancel": ("F31", "F32", "F35"),
    "replace": ("F33", "F34"),
    "snapshot": ("F48", "F49", "F50", "F51", "F113", "F114", "F115", "F116"),
    "account": ("F48", "F51", "F115", "F116"),
    "find": ("F48", "F115"),
}

_UNREADABLE: Final = {
    "F48": "500 the positions cannot be read",
    "F50": "Page 2 of 3 of the orders is missing.",
    "F115": "A row lacks its quantity, or has a status that is not known.",
}

_ANSWERED: Final = {"entry": "F117", "stop": "F118", "exit": "F119", "replace": "F120", "cancel": "F121"}
"""The fault that answers each kind of order request with a status."""

_ANSWERS: Final = (1, 1, 2, 4)

_LEGS: Final[Mapping[Leg | None, str]] = {
    Leg.ENTRY: "entry",
    Leg.STOP: "stop",
    Leg.TARGET: "exit",
    Leg.EXIT: "exit",
}

LISTS: Final = ("positions_s", "orders_s", "account_s", "activities_s")
"""The parts of a snapshot, each of which may be behind, by the names of `ReadingLags`."""

_EUROS: Final = Decimal("0.9")

_ABSURD: Final = (100, 10_000)

_PAGES: Final = 2


@attrs.define
class NetworkRequest:
    """A request of the bot: its time, whether it was sent and arrived, its outcome, and when it was answered."""

    at: float
    kind: str
    client_order_id: str
    left: bool = True
    reached: bool = False
    outcome: str = ""
    answered_at: float | None = None

    @property
    def line(self) -> str:
        """The request as one line of a trace."""
        flags = f"{'left' if self.left else 'kept'} {'reached' if self.reached else 'lost'}"
        return f"{self.at:.6f} {self.kind} {self.client_order_id or '-'} {flags} {self.outcome}".rstrip()


@attrs.frozen(kw_only=True)
class DeliveredReading:
    """A snapshot that was delivered: when it was asked for, read at the venue and answered, and how far it was behind.

    `wrong`: of which list and symbol it showed what is not so.
    """

    asked_at: float
    read_at: float
    at: float
    lags: ReadingLags
    wrong: frozenset[tuple[str, str]] = frozenset()


@attrs.frozen(kw_only=True)
class RequestTransit:
    """The transit of one request.

    `kept`: it fails and is not sent. `turned`: it is sent and rejected without effect. Else it arrives or not, delayed
    by `late_s`, and its answer is missing (`silent`), `garbled` or valid; a garbled one says nothing of the outcome,
    unless it is `refused` with a `meaning`.
    """

    fault: str = ""
    queue_s: float = 0.0
    out_s: float = 0.0
    back_s: float = 0.0
    kept: BrokerError | None = None
    turned: BrokerError | None = None
    arrives: bool = True
    late_s: float = 0.0
    silent: bool = False
    garbled: str = ""
    refused: bool = False
    meaning: RejectionMeaning | None = None


class FaultEffect(TypedDict, total=False):
    """The effect of a fault on a request's transit."""

    arrives: bool
    silent: bool
    garbled: str
    refused: bool
    meaning: RejectionMeaning | None


@attrs.frozen
class _Episode:
    begins: float
    ends: float
    fault: str
    name: str


_DUPLICATE: Final = FaultEffect(
    garbled="422 client_order_id must be unique", refused=True, meaning=RejectionMeaning.DUPLICATE_ID
)

_INSUFFICIENT: Final = FaultEffect(
    garbled="403 insufficient qty available for order", refused=True, meaning=RejectionMeaning.INSUFFICIENT_QUANTITY
)

_UNCLEAR: Final = tuple(
    FaultEffect(garbled=words)
    for words in (
        "302 found",
        "307 temporary redirect",
        "500 internal server error",
        "502 bad gateway",
        "503 service unavailable",
        "504 gateway time-out",
    )
)

_REFUSED: Final = FaultEffect(garbled="422 the request was refused", refused=True, arrives=False)

_STATUSES: Final = {
    "entry": (*_UNCLEAR, _REFUSED, _DUPLICATE),
    "stop": (*_UNCLEAR, _REFUSED, _DUPLICATE, _INSUFFICIENT),
    "exit": (*_UNCLEAR, _REFUSED, _DUPLICATE, _INSUFFICIENT),
    "replace": (*_UNCLEAR, _REFUSED),
    "cancel": (*_UNCLEAR, _REFUSED),
}
"""The answers with a status; each may come before or after booking, but for a plain refusal, which is right."""


class NetworkPath:
    """The network path to one exchange, with the outages planned by the seed, and the log of all requests.

    `latency_s`: the shortest and the longest one-way latency.
    """

    def __init__(
        self, exchange: SimulatedExchange, faults: SeedFaults, chance: Callable[[str], RandomStream], end: float
    ) -> None:
        """`chance` returns the random stream of a purpose; outages are planned until second `end`."""
        self.exchange = exchange
        self.requests: list[NetworkRequest] = []
        self.delivered: list[tuple[float, BrokerEvent]] = []
        self.readings: list[DeliveredReading] = []
        self.hushed: dict[str, float] = {}
        self.replays = deque(at for at, _ in faults.planned("F24", 0.0, end))
        self.faults = faults
        self.chance = chance
        self.latency_s = _LATENCY_S
        self._episodes: list[_Episode] = []
        self._counted: dict[_Episode, None] = {}
        self._departures: deque[float] = deque()
        self._ambushes: deque[float] = deque()
        self._bursts = [
            _AnswerBurst(fault, kind, begins, chance(f"answers/{kind}"))
            for kind, fault in _ANSWERED.items()
            for begins, _ in faults.planned(fault, 0.0, end)
        ]
        for name in _EPISODES:
            for begins, ends in faults.planned(name, 0.0, end):
                self.add_fault(name, begins, ends)

    def add_fault(self, fault: str, begins: float, ends: float, name: str = "") -> None:
        """Add an outage between two seconds of the world; it is counted as the fault `name`."""
        self._episodes.append(_Episode(begins, ends, fault, name or fault))

    @property
    def outages(self) -> list[tuple[float, float]]:
        """The spans in which every submit fails, in seconds of the world."""
        return [(episode.begins, episode.ends) for episode in self._episodes if episode.fault not in _PASSABLE]

    @property
    def announced(self) -> list[tuple[float, float]]:
        """The planned maintenance windows, in seconds of the world."""
        return [(episode.begins, episode.ends) for episode in self._episodes if episode.fault == "F63"]

    def ambush(self, at: float) -> None:
        """Begin a partition with the first order that is sent from second `at` on."""
        self._ambushes.append(at)

    def passage(self, kind: str, now: float, connected_at: float, leg: Leg | None = None) -> RequestTransit:
        """The transit of a request made at second `now`, over a connection made at second `connected_at`.

        `leg` is that of a submitted order.
        """
        latency = self.chance("latency")
        if kind == "submit" and self._ambushes and self._ambushes[0] <= now < self.faults.over_at:
            self._ambushes.popleft()
            self.add_fault("F60", now, min(now + _AMBUSH_S, self.faults.over_at), "F64")
        active_episodes = self._active_episodes(now)
        slow = _SLOW_S / 2 if any(episode.fault == "F62" for episode in active_episodes) else 0.0
        plain = RequestTransit(
            queue_s=latency.between(0.0, 0.005),
            out_s=latency.between(*self.latency_s) + slow,
            back_s=latency.between(*self.latency_s) + slow,
        )
        fault = self.faults.first(_BY_KIND.get(kind, ()), now)
        for episode in active_episodes:
            age, fresh = now - episode.begins, connected_at >= episode.begins
            affected = self._transit_in_episode(plain, episode, kind, age=age, fresh=fresh)
            if affected is not None:
                return attrs.evolve(affected, fault=episode.name)
        for burst in self._bursts:
            if burst.strikes(_LEGS.get(leg, kind), now):
                self.faults.count(burst.fault)
                return attrs.evolve(plain, fault=burst.fault, **burst.effect())
        if not fault:
            return plain
        if fault not in _COUNTED_WHEN_DONE:
            self.faults.count(fault)
        return attrs.evolve(self._apply_fault(plain, fault, leg), fault=fault)

    def depart(self, kind: str, client_order_id: str, now: float) -> NetworkRequest:
        """Log a sent request; raises the venue's error if it is over the limit per minute."""
        request = NetworkRequest(at=now, kind=kind, client_order_id=client_order_id)
        self.requests.append(request)
        while self._departures and self._departures[0] <= now - _MINUTE_S:
            self._departures.popleft()
        limit = self.exchange.matching.character.rules.requests_per_minute
        if limit and len(self._departures) >= limit:
            request.outcome = "429"
            raise self._too_many(self._departures[0] + _MINUTE_S - now)
        self._departures.append(now)
        return request

    def silence(self, now: float, connected_at: float) -> bool:
        """Whether the stream is silent now; raises Unavailable once the client notices the outage."""
        for episode in self._active_episodes(now):
            age = now - episode.begins
            if episode.fault == "F58":
                raise Unavailable("The stream was closed as soon as it was opened.")
            if episode.fault == "F60" or (episode.fault == "F59" and connected_at < episode.begins):
                if age > _NOTICED_S:
                    raise Unavailable("The stream has been silent for two heartbeats.", "Connect again.")
                return True
        return False

    def replayed(self, now: float) -> bool:
        """Whether the stream repeats earlier events now."""
        if not self.replays or self.replays[0] > now:
            return False
        while self.replays and self.replays[0] <= now:
            self.replays.popleft()
        return True

    def _active_episodes(self, now: float) -> list[_Episode]:
        active_episodes = [episode for episode in self._episodes if episode.begins <= now < episode.ends]
        for episode in active_episodes:
            if episode not in self._counted:
                self._counted[episode] = None
                self.faults.count(episode.name)
        return active_episodes

    def _transit_in_episode(
        self, plain: RequestTransit, episode: _Episode, kind: str, *, age: float, fresh: bool
    ) -> RequestTransit | None:
        # The transit during an outage of that age; None if it does not affect the request.
        #
        # `fresh`: the connection was made since the outage began.
        fault = episode.fault
        if fault in _UNREACHED:
            words = f"The broker was not reached: {_UNREACHED[fault]}."
            return attrs.evolve(plain, kept=Unavailable(words))
        turned = self._rejection(fault, kind)
        if turned is not None:
            return attrs.evolve(plain, turned=turned)
        cut = fault == "F60" or (fault == "F61" and kind in _TRADING)
        if cut and age > _NOTICED_S:
            return attrs.evolve(plain, kept=Unavailable("The broker was not reached: connecting timed out."))
        if cut or (fault == "F59" and not fresh):
            return attrs.evolve(plain, arrives=False, silent=True)
        return None

    def _rejection(self, fault: str, kind: str) -> BrokerError | None:
        if fault == "F12" and kind != "cancel":
            return self._too_many(_STORM_S)
        if fault == "F13":
            return LoginNeeded(f"401 unauthorized: the key {KEY} is not known")
        return Unavailable("503 the venue is under maintenance") if fault == "F63" else None

    def _apply_fault(self, plain: RequestTransit, fault: str, leg: Leg | None) -> RequestTransit:
        if fault == "F35":
            return attrs.evolve(plain, kept=Unavailable("The connection was closed before the cancel was sent."))
        if fault in _UNREADABLE:
            return attrs.evolve(plain, turned=Unavailable(_UNREADABLE[fault]))
        if fault == "F11" and self.exchange.matching.character.documents_429:
            return attrs.evolve(plain, turned=self._too_many(_STORM_S))
        effect = _EFFECTS.get(fault, FaultEffect())
        if fault == "F4":
            plain = attrs.evolve(plain, late_s=self._late_s(plain, leg))
        if fault in _EITHER_WAY:
            effect = effect | FaultEffect(arrives=self.chance(f"coin/{fault}").happens(0.5))
        return attrs.evolve(plain, **effect)

    def _late_s(self, plain: RequestTransit, leg: Leg | None) -> float:
        # How much later an order arrives. A stop or exit is listed within the seconds that the venue declares, unless
        # the venue refuses its id a second time: else no bot could know that it is still on the way.
        character = self.exchange.matching.character
        if leg is Leg.ENTRY or character.rules.unique_client_order_id:
            return _DELAYED_S
        behind_s = max(character.lags.orders_s, character.lags.lookup_s)
        return max(character.rules.list_lag_s - behind_s - plain.out_s, 0.0)

    def _too_many(self, retry_after_s: float) -> BrokerError:
        kind = Unavailable if self.exchange.matching.character.documents_429 else OutcomeUnknown
        return kind(f"429 too many requests: retry after {retry_after_s:.0f} s", retry_after_s=retry_after_s)


class EventDeliveries:
    """The venue's events as one connection delivers them: late, twice, in another order, or never."""

    def __init__(self, way: NetworkPath) -> None:
        self._way = way
        self._next = len(way.exchange.matching.timed_events)
        self._inbox: list[tuple[float, int, BrokerEvent]] = []
        self._count = 0
        self._in_order = 0.0
        self._latest: deque[BrokerEvent] = deque(maxlen=_REPLAYED)

    def receive_until(self, now: float) -> list[BrokerEvent]:
        """The events delivered until second `now`."""
        events = self._way.exchange.matching.timed_events
        while self._next < len(events):
            self._route(*events[self._next])
            self._next += 1
        if self._way.replayed(now) and self._latest:
            self._way.faults.count("F24")
            for event in self._latest:
                self._put(now, event)
        received = []
        while self._inbox and self._inbox[0][0] <= now:
            received.append(heapq.heappop(self._inbox)[2])
        self._latest.extend(received)
        self._way.delivered += [(now, event) for event in received]
        return received

    def _route(self, at: float, event: BrokerEvent) -> None:
        due = at + self._way.chance("delivery").between(0.01, 0.1) + self._lag_s()
        due = self._in_order = max(self._in_order, due)
        for lag, version in self._versions(at, event):
            self._put(due + lag, version)

    def _lag_s(self) -> float:
        # How far the stream is behind this time.
        most = self._way.exchange.matching.character.lags.events_s
        return self._way.chance("lag/events_s").between(0.0, most) if most else 0.0

    def _versions(self, at: float, event: BrokerEvent) -> Iterator[tuple[float, BrokerEvent]]:
        # The deliveries of an event, none, one or several, each with its delay in seconds.
        if event.kind == BrokerEventKind.ACKNOWLEDGED:
            late = self._way.hushed.pop(event.client_order_id, 0.0)
            fault = self._struck(("F18", "F21", "F22"), at)
            if late < float("inf"):
                yield late + (20.0 if fault == "F22" else 0.0), event
            if fault == "F21":
                yield 1.0, event
            if fault == "F18":
                yield 1.0, attrs.evolve(event, kind="pending_review", event_id=f"{event.event_id}-r")
        elif event.kind == BrokerEventKind.FILL:
            fault = self._struck(("F23", "F25", "F26", "F27"), at)
            if fault != "F26":
                yield {"F25": 12.0, "F27": 30.0}.get(fault, 0.0), event
            if fault == "F23":
                yield 1.0, attrs.evolve(event, event_id=f"{event.event_id}-p")
        else:
            yield 0.0, event

    def _struck(self, names: Sequence[str], at: float) -> str:
        fault = self._way.faults.first(names, at)
        if fault:
            self._way.faults.count(fault)
        return fault

    def _put(self, due: float, event: BrokerEvent) -> None:
        self._count += 1
        heapq.heappush(self._inbox, (due, self._count, event))


def spoil_account(account: Account, fault: str, stream: RandomStream) -> Account:
    """The account as a fault shows it: in another currency, or with absurd amounts, which are others each time."""
    match fault:
        case "F51":
            return _multiplied(attrs.evolve(account, currency="EUR"), _EUROS)
        case "F116":
            return _multiplied(account, Decimal(stream.whole(*_ABSURD)))
        case _:
            return account


def spoil_snapshot(right: AccountSnapshot, fault: str, stream: RandomStream) -> AccountSnapshot:
    """A snapshot as a fault shows it; `stream` draws which of its parts is wrong."""
    match fault:
        case "F113":
            return _with_rows(right, stream, 0)
        case "F114":
            return _with_rows(right, stream, 1)
        case "F116" if right.holdings and stream.happens(0.5):
            at = stream.whole(0, len(right.holdings) - 1)
            rows = list(right.holdings)
            rows[at] = attrs.evolve(rows[at], quantity=rows[at].quantity * stream.whole(*_ABSURD))
            return attrs.evolve(right, holdings=tuple(rows))
        case _:
            return attrs.evolve(right, account=spoil_account(right.account, fault, stream))


def differing_rows(right: AccountSnapshot, shown: AccountSnapshot) -> frozenset[tuple[str, str]]:
    """The list, `positions` or `orders`, and the symbol of each row in which two snapshots differ."""
    rows, wrong = (
        {("positions", holding.symbol, holding.quantity) for holding in snapshot.holdings}
        | {("orders", order.symbol, order.broker_order_id, order.time) for order in snapshot.orders}
        for snapshot in (right, shown)
    )
    return frozenset((subject, symbol) for subject, symbol, *_ in sorted(rows ^ wrong))


class _AnswerBurst:
    # Some requests of one kind in a row, from a second on, are answered with one status.
    def __init__(self, fault: str, kind: str, begins: float, stream: RandomStream) -> None:
        self.fault = fault
        self._kind = kind
        self._begins = begins
        self._stream = stream
        self._left = stream.one(_ANSWERS)
        self._status = stream.one(_STATUSES[kind])

    def strikes(self, kind: str, now: float) -> bool:
        """Whether it answers a request of that kind at second `now`."""
        if kind != self._kind or now < self._begins or not self._left:
            return False
        self._left -= 1
        return True

    def effect(self) -> FaultEffect:
        """Its status, before or after the request is booked."""
        return FaultEffect(arrives=self._stream.happens(0.5)) | self._status


def _with_rows(right: AccountSnapshot, stream: RandomStream, pages: int) -> AccountSnapshot:
    # One of its lists, of which so many of two pages arrived.
    def arrived(count: int) -> int:
        return count * pages // _PAGES

    match stream.one(("holdings", "orders", "activities")):
        case "holdings":
            return attrs.evolve(right, holdings=right.holdings[: arrived(len(right.holdings))])
        case "orders":
            return attrs.evolve(right, orders=right.orders[: arrived(len(right.orders))])
        case _:
            return attrs.evolve(
                right,
                activities=right.activities[: arrived(len(right.activities))],
                fills=right.fills[: arrived(len(right.fills))],
            )


def _multiplied(account: Account, factor: Decimal) -> Account:
    power = account.buying_power
    return attrs.evolve(
        account,
        equity=account.equity * factor,
        cash=account.cash * factor,
        buying_power=None if power is None else power * factor,
    )
