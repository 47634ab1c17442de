"""What a judge of a day at the venue is given: the facts of protection, and the order requests and orders."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_broker_alpaca.venue.faults import Act, Endpoint, act_of, endpoint_of
from tbot_broker_alpaca.venue.options import OPTION_SYMBOL
from tbot_broker_alpaca.venue.orders import MATCHED, OPEN, STOPS, VenueOrder
from tbot_broker_alpaca.venue.wire import moment_of
from tbot_core.testing.venue import (
    Cover,
    ForeignCancel,
    Halted,
    Held,
    OrderRequest,
    Process,
    ProtectionFact,
    Quoted,
    Reading,
    SeenOrder,
    SeenRequest,
    ShownCover,
    ShownHeld,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tbot_broker_alpaca.venue.account import VenueAccount
    from tbot_core.testing.scripted_server import ServerReply, ServerRequest

_NO: Final = Decimal(0)
_PROTECTING: Final = frozenset({"market", *STOPS})
_UNANSWERED_S: Final = 3.0
"""An order request without an answer for so long has an unknown outcome."""


@attrs.define(eq=False)
class _Known:
    # An order: its fills as time and filled quantity, its end, and what of this the client was shown.
    order: VenueOrder
    act: str
    own: bool
    arrived_at: float
    fills: list[tuple[float, Decimal]] = attrs.field(factory=list)
    ended_at: float | None = None
    cancelled_by_client: bool = False
    shown_filled: Decimal = _NO
    shown_open: bool = False
    shown_end: bool = False

    @property
    def shown_quantity(self) -> Decimal:
        return self.shown_filled if self.order.buy else -self.shown_filled

    @property
    def may_close(self) -> bool:
        # Whether it closes a position as far as the client was shown.
        booked = self.order.status in MATCHED or self.ended_at is not None
        return booked and not self.shown_end and self.order.type in _PROTECTING

    def filled_at(self, moment: float) -> Decimal:
        return max((filled for at, filled in self.fills if at <= moment), default=_NO)

    def is_absent(self, listed: Mapping[str, Any], moment: float) -> bool:
        # Whether a list lacks it rightly: it had ended.
        return self.order.id not in listed and self.ended_at is not None and self.ended_at <= moment

    def contradicts(self, listed: Mapping[str, Any]) -> bool:
        # Whether a list of the open orders has of it what the client knows otherwise.
        return self.order.id in listed if self.shown_end else self.shown_open and self.order.id not in listed


class VenueRecord:
    """Records what happens at an account, and what its client is shown; times are seconds of the venue's clock."""

    def __init__(self, account: VenueAccount) -> None:
        self._account = account
        self.facts: list[ProtectionFact] = []
        self.requests: list[SeenRequest] = []
        self._known: dict[str, _Known] = {}
        self._measured: dict[str, tuple[Decimal, Decimal]] = {}
        self._shown: dict[str, tuple[Decimal, Decimal]] = {}
        self._act: Act | None = None
        self._runs, self._answered = True, False
        account.observers.append(self._observe)
        account.payment_observers.append(self._observe_payment)

    @property
    def orders(self) -> list[SeenOrder]:
        """The orders that were booked."""
        return [
            SeenOrder(
                client_order_id=one.order.client_order_id,
                symbol=one.order.symbol,
                act=one.act,
                buy=one.order.buy,
                own=one.own,
                arrived_at=one.arrived_at,
                replaces=self._known[one.order.replaces].order.client_order_id if one.order.replaces else "",
                filled=one.order.filled,
                ended_at=one.ended_at,
                cancelled=one.order.status == "canceled",
                cancelled_by_client=one.cancelled_by_client,
            )
            for one in self._known.values()
        ]

    def set_process(self, *, runs: bool) -> None:
        """The client's process has ended, or another one has begun, which has no answer yet."""
        self._runs, self._answered = runs, False
        if not runs:
            self.facts.append(Process(at=self._now, runs=False))

    def execute(self, request: ServerRequest, answer: Callable[[ServerRequest], ServerReply]) -> ServerReply:
        """The answer to a request that the venue executes."""
        self._act = act_of(request, self._account)
        cancelled = self._known.get(request.path.rpartition("/")[2]) if self._act is Act.CANCEL else None
        if cancelled is not None and cancelled.ended_at is None:
            cancelled.cancelled_by_client = True
        try:
            return answer(request)
        finally:
            self._act = None

    def answered(self, request: ServerRequest, reply: ServerReply | None, asked_at: float, late_s: float) -> None:
        """An answer is delivered, None: none is; a reading has what was true `late_s` before it was asked for."""
        act = act_of(request, self._account)
        if act is not None:
            self._requested(act, request, reply, asked_at)
        if reply is None or reply.status != HTTPStatus.OK or not self._runs:
            return
        if not self._answered:
            self._answered = True
            self.facts.append(Process(at=self._now, runs=True))
        if act is None:
            self._read(request, reply.document, asked_at, asked_at - late_s)
        elif self._now - asked_at < _UNANSWERED_S:
            self.show(reply.document)

    def show(self, document: Any) -> None:
        """The client has received an order."""
        if not self._runs or not isinstance(document, dict):
            return
        known, filled = self._known.get(document.get("id") or ""), _number(document.get("filled_qty"))
        if known is not None:
            self._show_fills(known, min(filled, known.order.filled))
            status = document.get("status")
            known.shown_open = known.shown_open or status in MATCHED
            if status is not None and status not in OPEN and known.ended_at is not None:
                self._show_end(known)
        for leg in document.get("legs") or ():
            self.show(leg)

    def quoted(self, symbols: Iterable[str]) -> None:
        """The client has received a trade, a quote or a bar of these symbols."""
        if self._runs:
            self.facts += [Quoted(at=self._now, symbol=symbol) for symbol in sorted(symbols)]

    def halted(self, symbol: str, *, halted: bool) -> None:
        """A symbol is halted, or trades again."""
        self.facts.append(Halted(at=self._now, symbol=symbol, halted=halted))

    @property
    def _now(self) -> float:
        return self._account.market.clock.monotonic()

    def _observe(self, order: VenueOrder) -> None:
        # What happened to an order.
        known = self._known.get(order.id)
        if known is None:
            act = Act.STOP if order.type in STOPS else Act.ENTRY if "open" in order.intent else Act.EXIT
            known = _Known(order, act, own=self._act is not None, arrived_at=self._now)
            self._known[order.id] = known
        if order.filled > known.filled_at(self._now):
            known.fills.append((self._now, order.filled))
        if order.status not in OPEN and known.ended_at is None:
            known.ended_at = self._now
            known.cancelled_by_client = known.cancelled_by_client or self._act is Act.CANCEL
            foreign = known.own and known.act == Act.STOP and not known.cancelled_by_client
            if foreign and order.status == "canceled":
                self.facts.append(ForeignCancel(at=self._now, symbol=order.symbol))
        self._measure(order.symbol)
        self._measure_shown(order.symbol)

    def _observe_payment(self, kind: str, symbol: str) -> None:
        # Shares that an exercised option has brought or taken: a position that no order has opened or closed.
        if kind == "OPTRD":
            self._measure(symbol)

    def _measure(self, symbol: str) -> None:
        # The position, and what would close it. An option needs no protection: no more than its premium can be lost.
        if OPTION_SYMBOL.fullmatch(symbol):
            return
        held, _ = self._account.held.get(symbol, (_NO, _NO))
        working = (order for order in self._account.orders if order.symbol == symbol and order.status in MATCHED)
        closing = (order for order in working if held and order.buy is (held < 0) and order.type in _PROTECTING)
        cover = sum((order.remaining for order in closing), _NO)
        before = self._measured.get(symbol, (_NO, _NO))
        self._measured[symbol] = held, cover
        if cover != before[1]:
            self.facts.append(Cover(at=self._now, symbol=symbol, quantity=cover))
        if held != before[0]:
            self.facts.append(Held(at=self._now, symbol=symbol, quantity=held))

    def _measure_shown(self, symbol: str) -> None:
        # The same by what the client was shown: an order that works, or has ended, closes until its end is shown.
        if OPTION_SYMBOL.fullmatch(symbol):
            return
        orders = [one for one in self._known.values() if one.order.symbol == symbol]
        held = sum((order.shown_quantity for order in orders), _NO)
        closing = (order for order in orders if held and order.order.buy is (held < 0) and order.may_close)
        cover = sum((one.order.quantity - one.shown_filled for one in closing), _NO)
        before = self._shown.get(symbol, (_NO, _NO))
        self._shown[symbol] = held, cover
        if cover != before[1]:
            self.facts.append(ShownCover(at=self._now, symbol=symbol, quantity=cover))
        if held != before[0]:
            self.facts.append(ShownHeld(at=self._now, symbol=symbol, quantity=held))

    def _requested(self, act: Act, request: ServerRequest, reply: ServerReply | None, asked_at: float) -> None:
        failed = reply is None or self._now - asked_at >= _UNANSWERED_S or not _is_decided(reply.status)
        self.facts.append(OrderRequest(at=asked_at, failed=failed))
        given = request.document if request.method in {"POST", "PATCH"} else {}
        known = self._known.get(request.path.rpartition("/")[2])
        self.requests.append(
            SeenRequest(
                at=asked_at,
                act=act,
                symbol=str(given.get("symbol") or (known.order.symbol if known else "")),
                client_order_id=str(given.get("client_order_id") or ""),
                failed=failed,
            )
        )

    def _read(self, request: ServerRequest, document: Any, asked_at: float, true_at: float) -> None:
        match endpoint_of(request):
            case Endpoint.POSITIONS if isinstance(document, list):
                self._read_positions(document, asked_at, true_at)
            case Endpoint.ORDERS if isinstance(document, list):
                self._read_orders(document, request.query, asked_at, true_at)
            case Endpoint.ACTIVITIES if isinstance(document, list):
                for row in document:
                    self.show({"id": row.get("order_id"), "filled_qty": row.get("cum_qty")})
            case Endpoint.LOOKUP:
                self.show(document)

    def _read_positions(self, rows: Sequence[Mapping[str, Any]], asked_at: float, true_at: float) -> None:
        listed = {row.get("symbol"): _number(row.get("qty")) for row in rows}
        for symbol in self._symbols:
            orders = [one for one in self._known.values() if one.order.symbol == symbol]
            quantity = listed.get(symbol, _NO)
            if quantity == sum((order.filled_at(true_at) * (1 if order.order.buy else -1) for order in orders), _NO):
                for order in orders:
                    self._show_fills(order, order.filled_at(true_at))
            agrees = quantity == sum((order.shown_quantity for order in orders), _NO)
            self._add_reading(symbol, Endpoint.POSITIONS, asked_at, agrees=agrees)

    def _read_orders(
        self, rows: Sequence[Mapping[str, Any]], query: Mapping[str, str], asked_at: float, true_at: float
    ) -> None:
        for row in rows:
            self.show(row)
        if query.get("status", "open") == "closed" or "symbols" in query:
            return
        listed = {str(row.get("id")): row for row in rows if row.get("status") in OPEN}
        first = moment_of(query["after"]) if "after" in query else None
        due = [one for one in self._known.values() if one.own and (first is None or one.order.at > first)]
        for one in due:
            if one.is_absent(listed, true_at):
                self._show_end(one)
        for symbol in self._symbols:
            contradicted = any(one.contradicts(listed) for one in due if one.order.symbol == symbol)
            self._add_reading(symbol, Endpoint.ORDERS, asked_at, agrees=not contradicted)

    @property
    def _symbols(self) -> list[str]:
        return sorted({one.order.symbol for one in self._known.values()})

    def _add_reading(self, symbol: str, endpoint: Endpoint, asked_at: float, *, agrees: bool) -> None:
        subject: Any = endpoint.value
        self.facts.append(Reading(at=self._now, symbol=symbol, subject=subject, asked_at=asked_at, agrees=agrees))

    def _show_fills(self, known: _Known, filled: Decimal) -> None:
        if filled > known.shown_filled:
            known.shown_filled = filled
            known.shown_end = known.shown_end or filled == known.order.quantity
            self._measure_shown(known.order.symbol)

    def _show_end(self, known: _Known) -> None:
        if not known.shown_end and known.ended_at is not None:
            known.shown_end = True
            self._measure_shown(known.order.symbol)


def _is_decided(status: int) -> bool:
    # Whether an answer tells what became of a request.
    kinds = HTTPStatus.OK // 100, HTTPStatus.BAD_REQUEST // 100
    return status // 100 in kinds and status != HTTPStatus.TOO_MANY_REQUESTS


def _number(text: object) -> Decimal:
    # A quantity as the client was sent it; 0 for what is no number.
    try:
        found = Decimal(str(text))
    except InvalidOperation:
        return _NO
    return found if found.is_finite() else _NO
