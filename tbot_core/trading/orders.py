"""The life of an order as data, and the names under which brokers know our orders.

`TRANSITIONS` is the only place that says which event leads where. An order's outcome is never guessed: a time-out
makes it UNKNOWN, and only evidence from the broker leads out of that.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import BrokerEventKind
from tbot_core.model.types import Fill, Leg, Order, OrderState, SignalId

if TYPE_CHECKING:
    from collections.abc import Iterable


class OrderEvent(StrEnum):
    """What can happen to an order."""

    SEND = "send"
    DROP = "drop"
    ACKNOWLEDGE = "acknowledge"
    REJECT = "reject"
    NO_ANSWER = "no answer"
    FILL = "fill"
    CANCEL = "cancel"
    CANCEL_REFUSED = "cancel refused"
    REPLACE = "replace"
    EXPIRE = "expire"
    NOT_FOUND = "not found"
    BUST = "bust"
    CORRECT = "correct"
    GIVE_UP = "give up"


class TransitionEffect(StrEnum):
    """What a transition asks of whoever runs the order."""

    NONE = "none"
    IGNORE = "ignore"
    QUERY = "query"
    ALARM = "alarm"


@attrs.frozen
class Transition:
    """Where an event leads, and what it asks for."""

    to: OrderState
    effect: TransitionEffect = TransitionEffect.NONE


_S = OrderState
_E = OrderEvent
TERMINAL: Final = frozenset({_S.DROPPED, _S.FILLED, _S.CANCELLED, _S.REJECTED, _S.EXPIRED})
_WORKING: Final = (_S.NEW, _S.PARTIALLY_FILLED)
IN_DOUBT: Final = frozenset({_S.UNKNOWN, _S.LOST})
"""Nobody knows what became of the order."""


ENDED: Final = TERMINAL - {_S.DROPPED}
"""It had left and is over; a fill that was not heard of may be missing, even one of more than was ordered."""


AMENDS: Final = (_E.BUST, _E.CORRECT)
"""Words about an execution and not about the order: its state stays."""

_ANSWERS: Final = (
    _E.ACKNOWLEDGE,
    _E.REJECT,
    _E.CANCEL,
    _E.CANCEL_REFUSED,
    _E.REPLACE,
    _E.EXPIRE,
    _E.NOT_FOUND,
)


def _unanswered() -> dict[tuple[OrderState, OrderEvent], Transition]:
    # Orders that no broker has spoken of yet.
    #
    # What cannot be, as an answer to an order that was never sent, changes no state and raises an alarm.
    return {
        (_S.INTENDED, _E.SEND): Transition(_S.SENDING),
        (_S.INTENDED, _E.DROP): Transition(_S.DROPPED),
        (_S.INTENDED, _E.FILL): Transition(_S.PARTIALLY_FILLED, TransitionEffect.ALARM),
        (_S.INTENDED, _E.NO_ANSWER): Transition(_S.INTENDED),
        **{(_S.INTENDED, word): Transition(_S.INTENDED, TransitionEffect.ALARM) for word in _ANSWERS},
        (_S.SENDING, _E.DROP): Transition(_S.DROPPED),
        (_S.SENDING, _E.ACKNOWLEDGE): Transition(_S.NEW),
        (_S.SENDING, _E.REJECT): Transition(_S.REJECTED),
        (_S.SENDING, _E.NO_ANSWER): Transition(_S.UNKNOWN, TransitionEffect.QUERY),
        (_S.SENDING, _E.FILL): Transition(_S.PARTIALLY_FILLED),
        (_S.SENDING, _E.EXPIRE): Transition(_S.EXPIRED),
        (_S.SENDING, _E.CANCEL): Transition(_S.CANCELLED),
        (_S.SENDING, _E.CANCEL_REFUSED): Transition(_S.SENDING, TransitionEffect.QUERY),
        (_S.SENDING, _E.NOT_FOUND): Transition(_S.UNKNOWN, TransitionEffect.QUERY),
        (_S.SENDING, _E.REPLACE): Transition(_S.NEW),
    }


def _arrows() -> dict[tuple[OrderState, OrderEvent], Transition]:
    # Every word of a broker leads somewhere from every state; a deed of ours that is absent is a fault of ours.
    table = _unanswered()
    for state in _WORKING:
        table |= {
            (state, _E.ACKNOWLEDGE): Transition(state, TransitionEffect.IGNORE),
            (state, _E.REPLACE): Transition(state),
            (state, _E.REJECT): Transition(state, TransitionEffect.QUERY),
            (state, _E.NO_ANSWER): Transition(state, TransitionEffect.QUERY),
            (state, _E.FILL): Transition(_S.PARTIALLY_FILLED),
            (state, _E.EXPIRE): Transition(_S.EXPIRED),
            (state, _E.CANCEL): Transition(_S.CANCELLED),
            (state, _E.CANCEL_REFUSED): Transition(state, TransitionEffect.QUERY),
            (state, _E.NOT_FOUND): Transition(_S.UNKNOWN, TransitionEffect.QUERY),
        }
    for state in sorted(IN_DOUBT):
        table |= {
            (state, _E.ACKNOWLEDGE): Transition(_S.NEW),
            (state, _E.REPLACE): Transition(_S.NEW),
            (state, _E.REJECT): Transition(_S.REJECTED),
            (state, _E.NO_ANSWER): Transition(state),
            (state, _E.FILL): Transition(_S.PARTIALLY_FILLED),
            (state, _E.EXPIRE): Transition(_S.EXPIRED),
            (state, _E.CANCEL): Transition(_S.CANCELLED),
            (state, _E.CANCEL_REFUSED): Transition(state),
            (state, _E.NOT_FOUND): Transition(state, TransitionEffect.QUERY),
            (state, _E.GIVE_UP): Transition(_S.LOST, TransitionEffect.ALARM),
        }
    amended = {(state, word): Transition(state, TransitionEffect.ALARM) for state in _S for word in AMENDS}
    return table | _ended() | amended


def _ended() -> dict[tuple[OrderState, OrderEvent], Transition]:
    # Terminal states stay what they are; a late fill is booked all the same.
    table: dict[tuple[OrderState, OrderEvent], Transition] = {}
    for state in sorted(TERMINAL):
        table |= {
            (state, _E.ACKNOWLEDGE): Transition(state, TransitionEffect.QUERY),
            (state, _E.REJECT): Transition(state, TransitionEffect.IGNORE),
            (state, _E.NO_ANSWER): Transition(state),
            (state, _E.FILL): Transition(state, TransitionEffect.ALARM),
            (state, _E.EXPIRE): Transition(state, TransitionEffect.IGNORE),
            (state, _E.CANCEL): Transition(state, TransitionEffect.IGNORE),
            (state, _E.CANCEL_REFUSED): Transition(state, TransitionEffect.IGNORE),
            (state, _E.REPLACE): Transition(state, TransitionEffect.QUERY),
            (state, _E.NOT_FOUND): Transition(state, TransitionEffect.IGNORE),
        }
    return table


TRANSITIONS: Final[Mapping[tuple[OrderState, OrderEvent], Transition]] = _arrows()

BROKER_EVENT_KINDS: Final[Mapping[str, OrderEvent]] = {
    BrokerEventKind.ACKNOWLEDGED: OrderEvent.ACKNOWLEDGE,
    BrokerEventKind.REJECTED: OrderEvent.REJECT,
    BrokerEventKind.FILL: OrderEvent.FILL,
    BrokerEventKind.CANCELLED: OrderEvent.CANCEL,
    BrokerEventKind.CANCEL_REFUSED: OrderEvent.CANCEL_REFUSED,
    BrokerEventKind.REPLACED: OrderEvent.REPLACE,
    BrokerEventKind.EXPIRED: OrderEvent.EXPIRE,
    BrokerEventKind.NOT_FOUND: OrderEvent.NOT_FOUND,
    BrokerEventKind.BUSTED: OrderEvent.BUST,
    BrokerEventKind.CORRECTED: OrderEvent.CORRECT,
}
"""The kinds of a broker's reports as events of an order; a text that is no kind of the core has none."""


SUPPOSED_PREFIX: Final = "supposed-"
"""Begins the execution id of a fill that was derived from a cumulative quantity, its executions not being named."""


@attrs.frozen(kw_only=True)
class OrderRecord:
    """An order and what has become of it.

    `supposed` is the part of `filled` whose executions the broker has not named yet; those that come are part of it.
    `executions` holds by its id what is booked of each: less than it says where it was supposed before, and nothing of
    one that is void. `corrected` are those that had other terms once.
    """

    order: Order
    state: OrderState = OrderState.INTENDED
    filled: Decimal = Decimal(0)
    inferred_quantity: Decimal = Decimal(0)
    executions: Mapping[str, Fill] = attrs.field(factory=dict)
    corrected: frozenset[str] = frozenset()

    @property
    def terminal(self) -> bool:
        """Whether nothing but a late fill can still happen."""
        return self.state in TERMINAL

    @property
    def is_missed_entry(self) -> bool:
        """Whether it is the entry of a signal that has ended without a fill."""
        return self.terminal and self.order.leg is Leg.ENTRY and not (self.order.tops_up or self.filled)

    @property
    def open_quantity(self) -> Decimal:
        """What may still fill: the worst case counts it in full."""
        return Decimal(0) if self.terminal else max(Decimal(0), self.order.quantity - self.filled)

    @property
    def overfilled(self) -> Decimal:
        """The quantity filled beyond the ordered one."""
        return max(Decimal(0), self.filled - self.order.quantity)


def advance(record: OrderRecord, event: OrderEvent, fill: Fill | None = None) -> tuple[OrderRecord, TransitionEffect]:
    """The record after an event, and what the event asks for.

    A fill that was booked before changes nothing, nor does one that names an execution of a supposed fill: what is
    booked is the growth of `filled`. A late fill of an order that has ended is booked, the state stays; one that is
    found again after parts of it were filled is partially filled, not new. A correction of what was not told yet is the
    fill itself. Raises ValueError for an event that the table does not know in this state.
    """
    arrow = TRANSITIONS.get((record.state, event))
    if arrow is None:
        raise ValueError(f"order {record.order.client_order_id}: no {event.value} in state {record.state.value}")
    if event is OrderEvent.CORRECT and fill is not None and fill.execution_id not in record.executions:
        event, arrow = OrderEvent.FILL, TRANSITIONS[record.state, OrderEvent.FILL]
    if fill is None:
        found_again = arrow.to is OrderState.NEW and record.filled
        return attrs.evolve(record, state=OrderState.PARTIALLY_FILLED if found_again else arrow.to), arrow.effect
    if event in AMENDS:
        return _amended(record, event, fill), arrow.effect
    if fill.execution_id in record.executions:
        return record, TransitionEffect.IGNORE
    named = (
        Decimal(0) if fill.execution_id.startswith(SUPPOSED_PREFIX) else min(fill.quantity, record.inferred_quantity)
    )
    supposing = fill.quantity if fill.execution_id.startswith(SUPPOSED_PREFIX) else -named
    filled = record.filled + fill.quantity - named
    complete = filled >= record.order.quantity and not record.terminal
    booked = attrs.evolve(
        record,
        state=OrderState.FILLED if complete else arrow.to,
        filled=filled,
        inferred_quantity=record.inferred_quantity + supposing,
        executions={**record.executions, fill.execution_id: attrs.evolve(fill, quantity=fill.quantity - named)},
    )
    return booked, TransitionEffect.ALARM if filled > record.order.quantity else arrow.effect


def _amended(record: OrderRecord, event: OrderEvent, fill: Fill) -> OrderRecord:
    # The record after an execution was taken back or corrected; a later report of a void one is void too.
    nothing = Decimal(0)
    was = record.executions.get(fill.execution_id)
    booked = nothing if was is None else was.quantity
    now = fill.quantity if booked and event is OrderEvent.CORRECT else nothing
    return attrs.evolve(
        record,
        filled=record.filled + now - booked,
        executions={**record.executions, fill.execution_id: attrs.evolve(fill, quantity=now)},
        corrected=record.corrected | {fill.execution_id},
    )


@attrs.frozen
class ExecutionUpdate:
    """What is to be booked of an execution; `amends`: in place of what was booked of it before."""

    fill: Fill
    is_correction: bool


def execution_update(before: OrderRecord, after: OrderRecord, fill: Fill) -> ExecutionUpdate | None:
    """What a fill, a bust or a correction has changed of its execution; None where that is nothing."""
    was, now = before.executions.get(fill.execution_id), after.executions[fill.execution_id]
    if now == was or (was is None and not now.quantity):
        return None
    return ExecutionUpdate(now, is_correction=was is not None)


@attrs.frozen(kw_only=True)
class ClientOrderIds:
    """Makes client order ids: the same install, identity, account, signal, leg and attempt give the same id."""

    install_id: str
    identity: str
    account_id: str
    length: int = 48

    def client_order_id(self, signal: SignalId, leg: Leg, attempt: int = 1) -> str:
        """`tb`, six characters that mark the install, and a digest, cut to the broker's length."""
        digest = sha256("\n".join((self._head, signal.text, leg.value, str(attempt))).encode()).digest()
        return f"tb{_mark(self.install_id)}{_letters(digest)}"[: self.length]

    @property
    def _head(self) -> str:
        return f"{self.install_id}\n{self.identity}\n{self.account_id}"


def transition_table(arrows: Iterable[tuple[tuple[OrderState, OrderEvent], Transition]] = TRANSITIONS.items()) -> str:
    """The table in Markdown, one row an arrow, for the reference."""
    rows = [
        f"| {state.value} | {event.value} | {arrow.to.value} | {arrow.effect.value} |"
        for (state, event), arrow in arrows
    ]
    return "\n".join(("| state | event | next state | asks for |", "|---|---|---|---|", *rows))


@cache
def _mark(install_id: str) -> str:
    return _letters(sha256(install_id.encode()).digest())[:6]


def _letters(digest: bytes) -> str:
    return base64.b32encode(digest).decode().rstrip("=").lower()
