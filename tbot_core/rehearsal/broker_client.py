"""The broker of the simulation: a client of a simulated exchange over a faulty network path."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from tbot_core.contracts import (
    AccountSnapshot,
    BrokerCapabilities,
    BrokerEvent,
    BrokerEventKind,
    Gap,
    InstrumentRules,
    MaintenanceWindow,
    OrderStatusReport,
    Permit,
    RejectionMeaning,
)
from tbot_core.errors import OutcomeUnknown, Rejected, Unavailable
from tbot_core.model.types import Account, Leg, Order, price_of
from tbot_core.rehearsal.exchange import VenueResponse
from tbot_core.rehearsal.network import (
    COUNTED_WHEN_SHOWN,
    LISTS,
    TIMEOUT_S,
    DeliveredReading,
    EventDeliveries,
    NetworkPath,
    NetworkRequest,
    RequestTransit,
    differing_rows,
    spoil_account,
    spoil_snapshot,
)
from tbot_core.rehearsal.venue_profiles import ReadingLags

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

    from tbot_core.model.clock import Clock

    Value = TypeVar("Value")

_MEANINGS: Final = {
    "42210001": RejectionMeaning.MARKET_CLOSED,
    "42210002": RejectionMeaning.NOT_TRADABLE,
    "42210004": RejectionMeaning.OFF_GRID,
    "40310000": RejectionMeaning.INSUFFICIENT_BUYING_POWER,
    "40310001": RejectionMeaning.NOT_SHORTABLE,
}
_LATE_S: Final = 20.0
_STREAM_S: Final = 0.25
_OUTDATED_S: Final = 120.0
_TORN: Final = 0.5


class SimulatedBroker:
    """A client of a simulated exchange; a restarted bot creates a new one, the exchange stays.

    A request times out TIMEOUT_S after it was sent.
    """

    def __init__(self, way: NetworkPath, clock: Clock) -> None:
        self._way = way
        self._exchange = way.exchange
        self._clock = clock
        rules = self._exchange.matching.character.rules
        self._capabilities = attrs.evolve(rules, server_time=True, instruments=True)
        self._deliveries = EventDeliveries(way)
        self._connected_at = float("-inf")
        self._connected = False
        self._known_ids: dict[str, None] = {}
        self._ahead: deque[float] = deque(maxlen=5)

    @property
    def clock_ahead_s(self) -> Sequence[float]:
        """How far the bot's clock was ahead of the venue's at the last answers, in seconds."""
        return [*self._ahead]

    @property
    def capabilities(self) -> BrokerCapabilities:
        """The venue's capabilities; a client always reports the venue's time and the rules of its instruments."""
        return self._capabilities

    async def connect(self) -> Account:
        """Log in over a new connection."""
        self._connected_at = self._clock.monotonic()
        account = await self._read("connect", self._exchange.account, self._passage("connect"))
        self._connected = True
        return account

    async def account(self) -> Account:
        """Current cash, equity and buying power."""
        passage, lag_s = self._passage("account"), self._lag_s("account_s")
        account = await self._read("account", lambda: self._exchange.account(lag_s), passage)
        return spoil_account(account, passage.fault, self._way.chance("spoiled/account"))

    async def submit(self, order: Order, permit: Permit) -> None:
        """Submit an order; an id in use is rejected with that meaning, since the answer does not tell its state."""
        passage, cid = self._passage("submit", order.leg), order.client_order_id
        sent = order
        if passage.fault == "F19" and order.quantity >= 2:
            sent = attrs.evolve(order, quantity=order.quantity // 2)
            self._way.faults.count("F19")
        if passage.fault in {"F2", "F3"}:
            self._way.hushed[cid] = _LATE_S if passage.fault == "F3" else float("inf")
        answer = await self._send("submit", cid, lambda: self._exchange.submit(sent), passage, permit)
        refuses = self.capabilities.unique_client_order_id
        if answer.duplicate and (refuses or self._way.faults.strikes("F14", self._clock.monotonic())):
            words = f"400 client_order_id {cid} must be unique"
            raise Rejected(words, "Look up what became of it.", meaning=RejectionMeaning.DUPLICATE_ID)
        if answer.refusal:
            raise Rejected(answer.refusal, meaning=_meaning(answer.refusal))
        self._known_ids.update(dict.fromkeys((cid, *(part.client_order_id for part in order.protection))))

    async def cancel(self, client_order_id: str) -> None:
        """Request a cancel."""
        self._must_be_known(client_order_id)
        passage = self._passage("cancel")

        def act() -> VenueResponse:
            if passage.fault == "F32":
                self._fill_rest(client_order_id, "F32")
            return self._exchange.cancel(client_order_id)

        await self._send("cancel", client_order_id, act, passage)

    @property
    def replace(self) -> Callable[[str, Order], Coroutine[Any, Any, None]]:
        """Replace a resting order; absent where the venue cannot."""
        if not self.capabilities.replaces:
            raise AttributeError("replace")
        return self._replace

    async def _replace(self, client_order_id: str, order: Order) -> None:
        # Change a resting order.
        self._must_be_known(client_order_id)
        passage = self._passage("replace")

        def act() -> VenueResponse:
            if passage.fault == "F33":
                self._fill_rest(client_order_id, "F33")
            return self._exchange.replace(client_order_id, order, refused=passage.fault == "F34")

        await self._send("replace", client_order_id, act, passage)
        self._known_ids[order.client_order_id] = None

    @property
    def poll(self) -> Callable[[], Coroutine[Any, Any, Sequence[BrokerEvent]]]:
        """The events since the last call; absent where the venue has a stream."""
        if self.capabilities.streams:
            raise AttributeError("poll")
        return self.receive

    @property
    def events(self) -> Callable[[], AsyncIterator[BrokerEvent | Gap]]:
        """The stream of events; absent where the venue has none."""
        if not self.capabilities.streams:
            raise AttributeError("events")
        return self._events

    async def _events(self) -> AsyncIterator[BrokerEvent | Gap]:
        # One connection: it lasts until the client logs out.
        yield Gap(words="connected")
        while True:
            for event in await self.receive():
                yield event
            await asyncio.sleep(_STREAM_S)

    async def receive(self) -> Sequence[BrokerEvent]:
        """The events delivered since the last call; raises Unavailable while there is no connection."""
        now = self._clock.monotonic()
        self._exchange.advance(now)
        if not self._connected:
            raise Unavailable("The stream is not connected.", "Connect first.")
        if self._way.silence(now, self._connected_at):
            return []
        events = self._deliveries.receive_until(now)
        self._known_ids.update(
            dict.fromkeys(event.client_order_id for event in events if event.kind == BrokerEventKind.ACKNOWLEDGED)
        )
        return [event if event.fill else attrs.evolve(event, meaning=_meaning(event.words)) for event in events]

    async def snapshot(self, since: dt.datetime) -> AccountSnapshot:
        """A snapshot of the account, of which each part may be behind."""
        passage = self._passage("snapshot")
        lags = self._lags()
        older = self._outdated(lags) if passage.fault == "F49" else lags

        def read() -> tuple[AccountSnapshot, AccountSnapshot, float]:
            matching = self._exchange.matching
            return self._exchange.snapshot(since, lags), self._exchange.snapshot(since, older), matching.now

        asked_at = self._clock.monotonic()
        right, snapshot, read_at = await self._read("snapshot", read, passage)
        snapshot = spoil_snapshot(snapshot, passage.fault, self._way.chance("spoiled"))
        if passage.fault in COUNTED_WHEN_SHOWN and snapshot != right:
            self._way.faults.count(passage.fault)
        self._way.readings.append(
            DeliveredReading(
                asked_at=asked_at,
                read_at=read_at,
                at=self._clock.monotonic(),
                lags=lags,
                wrong=differing_rows(right, snapshot),
            )
        )
        self._known_ids.update(dict.fromkeys(report.client_order_id for report in snapshot.orders))
        return snapshot

    @property
    def find(self) -> Callable[[str], Coroutine[Any, Any, OrderStatusReport | None]]:
        """Look up an order; absent where the venue does not claim it."""
        if not self.capabilities.query_by_cid:
            raise AttributeError("find")
        return self._find

    async def _find(self, client_order_id: str) -> OrderStatusReport | None:
        # The order; None if the venue does not list it, or not yet.
        passage = self._passage("find")
        lag_s = self._lag_s("lookup_s")
        report = await self._read(
            "find", lambda: self._exchange.report(client_order_id, lag_s), passage, client_order_id
        )
        if report is not None:
            self._known_ids[client_order_id] = None
        return report

    async def instruments(self, symbols: Sequence[str]) -> Sequence[InstrumentRules]:
        """The current facts of these symbols."""
        passage = self._passage("instrument")
        return await self._read("instrument", lambda: [*map(self._instrument, symbols)], passage)

    def _instrument(self, symbol: str) -> InstrumentRules:
        matching = self._exchange.matching
        path = matching.path(symbol)
        if path is None:
            return InstrumentRules(symbol=symbol, tradable=False)
        return InstrumentRules(
            symbol=symbol,
            tick=price_of(path.grid(matching.step)),
            quantity_step=self.capabilities.quantity_step,
            tradable=True,
            shortable=True,
            easy_to_borrow=True,
        )

    async def close(self) -> None:
        """Log out; resting orders stay."""
        self._connected = False

    def _lag_s(self, name: str) -> float:
        # How far one reading is behind this time.
        most = getattr(self._exchange.matching.character.lags, name)
        return self._way.chance(f"lag/{name}").between(0.0, most) if most else 0.0

    def _lags(self) -> ReadingLags:
        # How far each part of a snapshot is behind this time; where snapshots have barriers, all are of one moment.
        if self._exchange.matching.character.numbers_moments:
            return ReadingLags.of_lists(self._lag_s("orders_s"))
        return ReadingLags(**{name: self._lag_s(name) for name in LISTS})

    def _outdated(self, lags: ReadingLags) -> ReadingLags:
        # Some parts are further behind than the venue declares; a reading with a barrier never is.
        character, stream = self._exchange.matching.character, self._way.chance("outdated")
        if character.numbers_moments:
            return lags
        old = [name for name in LISTS if stream.happens(_TORN)] or LISTS
        behind = {name: character.rules.list_lag_s + stream.between(0.0, _OUTDATED_S) for name in old}
        return attrs.evolve(lags, **behind)

    def _passage(self, kind: str, leg: Leg | None = None) -> RequestTransit:
        return self._way.passage(kind, self._clock.monotonic(), self._connected_at, leg)

    async def _read(self, kind: str, read: Callable[[], Value], passage: RequestTransit, cid: str = "") -> Value:
        # Read the exchange at the time at which the request arrives there.
        values: list[Value] = []

        def act() -> VenueResponse:
            values.append(read())
            return VenueResponse()

        try:
            await self._send(kind, cid, act, passage)
        except OutcomeUnknown as fault:
            raise Unavailable(fault.message, retry_after_s=fault.retry_after_s) from fault
        return values[0]

    async def _send(
        self,
        kind: str,
        cid: str,
        act: Callable[[], VenueResponse],
        passage: RequestTransit,
        permit: Permit | None = None,
    ) -> VenueResponse:
        # Send a request; it takes effect at its arrival, even if the caller has gone.
        responses: list[VenueResponse] = []
        await asyncio.sleep(passage.queue_s)
        if passage.kept is not None:
            request = NetworkRequest(at=self._clock.monotonic(), kind=kind, client_order_id=cid, left=False)
            request.outcome = passage.kept.message
            self._way.requests.append(request)
            raise passage.kept
        if permit is not None:
            permit.redeem()
        request = self._way.depart(kind, cid, self._clock.monotonic())
        if passage.turned is not None:
            await self._answered(passage)
            request.outcome = passage.turned.message
            raise passage.turned

        def arrive() -> None:
            request.reached = True
            responses.append(act())

        if passage.arrives:
            self._exchange.schedule(request.at + passage.out_s + passage.late_s, arrive)
        if passage.silent:
            request.outcome = "no answer"
            await asyncio.sleep(TIMEOUT_S)
            raise OutcomeUnknown(f"No answer to {kind} {cid} in {TIMEOUT_S:.0f} s.", "Look it up, never send it again.")
        await self._answered(passage)
        request.answered_at = self._clock.monotonic()
        answer = responses[0] if responses else VenueResponse()
        request.outcome = passage.garbled or answer.refusal or "ok"
        if passage.refused:
            raise Rejected(f"{kind} {cid}: {passage.garbled}", meaning=passage.meaning)
        if passage.garbled:
            raise OutcomeUnknown(f"{kind} {cid}: {passage.garbled}", "Look it up, never send it again.")
        return answer

    async def _answered(self, passage: RequestTransit) -> None:
        await asyncio.sleep(passage.out_s + passage.back_s)
        self._exchange.advance(self._clock.monotonic())
        there = self._exchange.matching.moment(self._clock.monotonic())
        self._ahead.append((self._clock.now() - there).total_seconds())

    def _fill_rest(self, client_order_id: str, fault: str) -> None:
        # The order fills at the market just before the request arrives.
        matching = self._exchange.matching
        working = matching.find(client_order_id)
        if working is not None and working in matching.open and matching.in_session and working.remaining_units:
            matching.execute(
                working, working.remaining_units, matching.market.paths[working.order.symbol].prices[matching.step]
            )
            self._way.faults.count(fault)

    def _must_be_known(self, client_order_id: str) -> None:
        if not self._exchange.matching.character.cancels_by_cid and client_order_id not in self._known_ids:
            words = f"The broker's own id of {client_order_id} is not known, and it takes no other."
            raise Unavailable(words, "Read the account's orders first.")


class MaintenanceBroker(SimulatedBroker):
    """A client of a venue that announces its maintenance."""

    @property
    def capabilities(self) -> BrokerCapabilities:
        """The venue's capabilities, and the announcements."""
        return attrs.evolve(super().capabilities, maintenance=True)

    async def maintenance(self) -> Sequence[MaintenanceWindow]:
        """The announced maintenance windows."""
        matching, found = self._exchange.matching, self._way.announced
        await self._read("maintenance", self._exchange.account, self._passage("maintenance"))
        return [MaintenanceWindow(begins=matching.moment(begins), ends=matching.moment(ends)) for begins, ends in found]


def _meaning(words: str) -> RejectionMeaning | None:
    # The meaning of a rejection's text.
    return _MEANINGS.get(words.split(" ", 1)[0])
