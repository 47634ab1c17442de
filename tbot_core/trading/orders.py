"""The state machine of orders, and client order ids.

`TRANSITIONS` is the only table of state changes. An outcome is never guessed: a time-out makes an order UNKNOWN, and
only a broker's report changes that.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import StrEnum
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from tbot_core.model.types import BrokerEventKind, Fill, Leg, Order, OrderState, SignalId

if TYPE_CHECKING:
    from collections.abc import Iterable


_MADE_BY_TBOT: Final = re.compile(r"tb(?P<mark>[a-z2-7]{6})[a-z2-7]{12,52}")


class OrderEvent(StrEnum):
    """An event of an order."""

    SEND = "send"
    DROP = "drop"
    ACKNOWLEDGE = "acknowledge"
    REJECT = "reject"
    NO_ANSWER = "no answer"
    FILL = "fill"
    CANCEL = "cancel"
    CANCEL_REFUSED = "cancel refused"
    REPLACE = "replace"
    TRIGGER = "trigger"
    EXPIRE = "expire"
    NOT_FOUND = "not found"
    BUST = "bust"
    CORRECT = "correct"
    GIVE_UP = "give up"


class TransitionEffect(StrEnum):
    """What the caller must do after a transition."""

    NONE = "none"
    IGNORE = "ignore"
    QUERY = "query"
    ALARM = "alarm"


@attrs.frozen
class Transition:
    """The next state of an order, and what the caller must do."""

    to: OrderState
    effect: TransitionEffect = TransitionEffect.NONE


_State = OrderState
_Event = OrderEvent
TERMINAL: Final = frozenset({_State.DROPPED, _State.FILLED, _State.CANCELLED, _State.REJECTED, _State.EXPIRED})
WORKING: Final = frozenset({_State.NEW, _State.PARTIALLY_FILLED})
IN_DOUBT: Final = frozenset({_State.UNKNOWN, _State.LOST})
"""The outcome of the order is unknown."""


_CONFIRMED: Final = frozenset({*WORKING, _State.FILLED, _State.CANCELLED, _State.EXPIRED})
"""States that only a report of the broker leads to, of an order that it has accepted."""

ENDED: Final = TERMINAL - {_State.DROPPED}
"""The order was sent and has ended; a fill that was not reported may be missing, even an overfill."""


AMENDS: Final = (_Event.BUST, _Event.CORRECT)
"""Events that change an execution, not the order's state."""

_ANSWERS: Final = (
    _Event.ACKNOWLEDGE,
    _Event.REJECT,
    _Event.CANCEL,
    _Event.CANCEL_REFUSED,
    _Event.REPLACE,
    _Event.TRIGGER,
    _Event.EXPIRE,
    _Event.NOT_FOUND,
)


def _unacknowledged_transitions() -> dict[tuple[OrderState, OrderEvent], Transition]:
    # Orders without a broker's report.
    #
    # An answer to an order that was never sent changes no state and raises an alarm.
    return {
        (_State.INTENDED, _Event.SEND): Transition(_State.SENDING),
        (_State.INTENDED, _Event.DROP): Transition(_State.DROPPED),
        (_State.INTENDED, _Event.FILL): Transition(_State.PARTIALLY_FILLED, TransitionEffect.ALARM),
        (_State.INTENDED, _Event.NO_ANSWER): Transition(_State.INTENDED),
        **{(_State.INTENDED, word): Transition(_State.INTENDED, TransitionEffect.ALARM) for word in _ANSWERS},
        (_State.SENDING, _Event.DROP): Transition(_State.DROPPED),
        (_State.SENDING, _Event.ACKNOWLEDGE): Transition(_State.NEW),
        (_State.SENDING, _Event.REJECT): Transition(_State.REJECTED),
        (_State.SENDING, _Event.NO_ANSWER): Transition(_State.UNKNOWN, TransitionEffect.QUERY),
        (_State.SENDING, _Event.FILL): Transition(_State.PARTIALLY_FILLED),
        (_State.SENDING, _Event.EXPIRE): Transition(_State.EXPIRED),
        (_State.SENDING, _Event.CANCEL): Transition(_State.CANCELLED),
        (_State.SENDING, _Event.CANCEL_REFUSED): Transition(_State.SENDING, TransitionEffect.QUERY),
        (_State.SENDING, _Event.NOT_FOUND): Transition(_State.UNKNOWN, TransitionEffect.QUERY),
        (_State.SENDING, _Event.REPLACE): Transition(_State.NEW),
        (_State.SENDING, _Event.TRIGGER): Transition(_State.NEW),
    }


def _all_transitions() -> dict[tuple[OrderState, OrderEvent], Transition]:
    # Every broker event has a transition from every state; a missing event of ours is a bug.
    table = _unacknowledged_transitions()
    for state in sorted(WORKING):
        table |= {
            (state, _Event.ACKNOWLEDGE): Transition(state, TransitionEffect.IGNORE),
            (state, _Event.REPLACE): Transition(state),
            (state, _Event.TRIGGER): Transition(state),
            (state, _Event.REJECT): Transition(state, TransitionEffect.QUERY),
            (state, _Event.NO_ANSWER): Transition(state, TransitionEffect.QUERY),
            (state, _Event.FILL): Transition(_State.PARTIALLY_FILLED),
            (state, _Event.EXPIRE): Transition(_State.EXPIRED),
            (state, _Event.CANCEL): Transition(_State.CANCELLED),
            (state, _Event.CANCEL_REFUSED): Transition(state, TransitionEffect.QUERY),
            (state, _Event.NOT_FOUND): Transition(_State.UNKNOWN, TransitionEffect.QUERY),
        }
    for state in sorted(IN_DOUBT):
        table |= {
            (state, _Event.ACKNOWLEDGE): Transition(_State.NEW),
            (state, _Event.REPLACE): Transition(_State.NEW),
            (state, _Event.TRIGGER): Transition(_State.NEW),
            (state, _Event.REJECT): Transition(_State.REJECTED),
            (state, _Event.NO_ANSWER): Transition(state),
            (state, _Event.FILL): Transition(_State.PARTIALLY_FILLED),
            (state, _Event.EXPIRE): Transition(_State.EXPIRED),
            (state, _Event.CANCEL): Transition(_State.CANCELLED),
            (state, _Event.CANCEL_REFUSED): Transition(state),
            (state, _Event.NOT_FOUND): Transition(state, TransitionEffect.QUERY),
            (state, _Event.GIVE_UP): Transition(_State.LOST, TransitionEffect.ALARM),
        }
    amended = {(state, word): Transition(state, TransitionEffect.ALARM) for state in _State for word in AMENDS}
    return table | _terminal_transitions() | amended


def _terminal_transitions() -> dict[tuple[OrderState, OrderEvent], Transition]:
    # Terminal states do not change; a late fill is booked nevertheless.
    table: dict[tuple[OrderState, OrderEvent], Transition] = {}
    for state in sorted(TERMINAL):
        table |= {
            (state, _Event.ACKNOWLEDGE): Transition(state, TransitionEffect.QUERY),
            (state, _Event.REJECT): Transition(state, TransitionEffect.IGNORE),
            (state, _Event.NO_ANSWER): Transition(state),
            (state, _Event.FILL): Transition(state, TransitionEffect.ALARM),
            (state, _Event.EXPIRE): Transition(state, TransitionEffect.IGNORE),
            (state, _Event.CANCEL): Transition(state, TransitionEffect.IGNORE),
            (state, _Event.CANCEL_REFUSED): Transition(state, TransitionEffect.IGNORE),
            (state, _Event.REPLACE): Transition(state, TransitionEffect.QUERY),
            (state, _Event.TRIGGER): Transition(state, TransitionEffect.IGNORE),
            (state, _Event.NOT_FOUND): Transition(state, TransitionEffect.IGNORE),
        }
    return table


TRANSITIONS: Final[Mapping[tuple[OrderState, OrderEvent], Transition]] = _all_transitions()

BROKER_EVENT_KINDS: Final[Mapping[str, OrderEvent]] = {
    BrokerEventKind.ACKNOWLEDGED: OrderEvent.ACKNOWLEDGE,
    BrokerEventKind.REJECTED: OrderEvent.REJECT,
    BrokerEventKind.FILL: OrderEvent.FILL,
    BrokerEventKind.CANCELLED: OrderEvent.CANCEL,
    BrokerEventKind.CANCEL_REFUSED: OrderEvent.CANCEL_REFUSED,
    BrokerEventKind.REPLACED: OrderEvent.REPLACE,
    BrokerEventKind.TRIGGERED: OrderEvent.TRIGGER,
    BrokerEventKind.EXPIRED: OrderEvent.EXPIRE,
    BrokerEventKind.NOT_FOUND: OrderEvent.NOT_FOUND,
    BrokerEventKind.BUSTED: OrderEvent.BUST,
    BrokerEventKind.CORRECTED: OrderEvent.CORRECT,
}
"""The order event of each kind of `contracts.BrokerEvent`."""


SUPPOSED_PREFIX: Final = "supposed-"
"""Prefix of the execution id of an inferred fill: one derived from a cumulative quantity."""


@attrs.frozen(kw_only=True)
class OrderRecord:
    """An order and its current state.

    `inferred_quantity` is the part of `filled` whose executions the broker has not reported; reported ones reduce it.
    `executions` holds the booked fill of each execution id: reduced by what was inferred before, 0 if void.
    `corrected` has the ids of executions that were corrected or void, each with the quantity that this took away.
    `confirmed`: the broker has reported that the order works or has worked. `refused_at`: the second of a steady clock
    at which the broker refused an order without a known outcome because it has its id, or because an order holds its
    shares: the order may be booked.
    """

    order: Order
    state: OrderState = OrderState.INTENDED
    filled: Decimal = Decimal(0)
    inferred_quantity: Decimal = Decimal(0)
    executions: Mapping[str, Fill] = attrs.field(factory=dict)
    corrected: Mapping[str, Decimal] = attrs.field(factory=dict)
    confirmed: bool = False
    refused_at: float | None = None

    @property
    def terminal(self) -> bool:
        """Whether the order has ended; only a late fill can still arrive."""
        return self.state in TERMINAL

    @property
    def is_missed_entry(self) -> bool:
        """Whether it is a signal's entry that ended without a fill."""
        return self.terminal and self.order.leg is Leg.ENTRY and not (self.order.tops_up or self.filled)

    @property
    def open_quantity(self) -> Decimal:
        """The quantity that may still fill; 0 for a terminal order."""
        return Decimal(0) if self.terminal else max(Decimal(0), self.order.quantity - self.filled)

    @property
    def withdrawn(self) -> Decimal:
        """The quantity that busts and corrections took away; a report that is older still counts it."""
        return sum(self.corrected.values(), Decimal(0))

    def in_state(self, state: OrderState) -> OrderRecord:
        """The record in a state; a change of state answers a refusal."""
        if state is self.state:
            return self
        return OrderRecord(  # attrs.evolve takes five times as long
            order=self.order,
            state=state,
            filled=self.filled,
            inferred_quantity=self.inferred_quantity,
            executions=self.executions,
            corrected=self.corrected,
            confirmed=self.confirmed or state in _CONFIRMED,
        )

    @property
    def overfilled(self) -> Decimal:
        """The quantity filled beyond the ordered one."""
        return max(Decimal(0), self.filled - self.order.quantity)


def advance(record: OrderRecord, event: OrderEvent, fill: Fill | None = None) -> tuple[OrderRecord, TransitionEffect]:
    """The record after an event, and what the caller must do.

    A fill that was booked before changes nothing; one that reports an execution of an inferred fill adds only what
    exceeds it. A late fill of a terminal order is booked, the state stays. An order found again after partial fills is
    PARTIALLY_FILLED, not NEW. A correction of an unreported execution is booked as its fill. Raises ValueError if the
    table has no transition for the event in this state.
    """
    transition = TRANSITIONS.get((record.state, event))
    if transition is None:
        raise ValueError(f"order {record.order.client_order_id}: no {event.value} in state {record.state.value}")
    if event is OrderEvent.CORRECT and fill is not None and fill.execution_id not in record.executions:
        event, transition = OrderEvent.FILL, TRANSITIONS[record.state, OrderEvent.FILL]
    if fill is None:
        found_again = transition.to is OrderState.NEW and record.filled
        return record.in_state(OrderState.PARTIALLY_FILLED if found_again else transition.to), transition.effect
    if event in AMENDS:
        return _corrected_record(record, event, fill), transition.effect
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
        state=OrderState.FILLED if complete else transition.to,
        confirmed=True,
        filled=filled,
        inferred_quantity=record.inferred_quantity + supposing,
        executions={**record.executions, fill.execution_id: attrs.evolve(fill, quantity=fill.quantity - named)},
        refused_at=None,
    )
    if filled > record.order.quantity:
        return booked, TransitionEffect.ALARM
    return booked, TransitionEffect.IGNORE if named == fill.quantity else transition.effect


def _corrected_record(record: OrderRecord, event: OrderEvent, fill: Fill) -> OrderRecord:
    # The record after a bust or a correction; a later report of a void execution is void too.
    nothing = Decimal(0)
    was = record.executions.get(fill.execution_id)
    booked = nothing if was is None else was.quantity
    now = fill.quantity if booked and event is OrderEvent.CORRECT else nothing
    before = record.corrected.get(fill.execution_id, nothing) + (fill.quantity if was is None else booked)
    return attrs.evolve(
        record,
        filled=record.filled + now - booked,
        executions={**record.executions, fill.execution_id: attrs.evolve(fill, quantity=now)},
        corrected={**record.corrected, fill.execution_id: max(before - now, nothing)},
    )


@attrs.frozen
class ExecutionUpdate:
    """The fill to book of an execution; `is_correction`: it replaces the fill booked before."""

    fill: Fill
    is_correction: bool


def execution_update(before: OrderRecord, after: OrderRecord, fill: Fill) -> ExecutionUpdate | None:
    """The change of an execution by a fill, a bust or a correction; None if nothing changed."""
    was, now = before.executions.get(fill.execution_id), after.executions[fill.execution_id]
    if now == was or (was is None and not now.quantity):
        return None
    return ExecutionUpdate(now, is_correction=was is not None)


OrderIdFactory: TypeAlias = Callable[[SignalId, Leg, int], str]
"""Creates the client order id of a signal's leg, a new one for each attempt."""


@attrs.frozen(kw_only=True)
class ClientOrderIds:
    """Creates client order ids: the same install, identity, account, signal, leg and attempt give the same id."""

    install_id: str
    identity: str
    account_id: str
    length: int = 48

    def client_order_id(self, signal: SignalId, leg: Leg, attempt: int = 1) -> str:
        """`tb`, six characters of the install, and a digest, cut to `length` characters."""
        digest = sha256("\n".join((self._head, signal.text, leg.value, str(attempt))).encode()).digest()
        return f"tb{install_mark(self.install_id)}{_letters(digest)}"[: self.length]

    @property
    def _head(self) -> str:
        return f"{self.install_id}\n{self.identity}\n{self.account_id}"


def transition_table(
    transitions: Iterable[tuple[tuple[OrderState, OrderEvent], Transition]] = TRANSITIONS.items(),
) -> str:
    """The table in Markdown, one row for each transition, for the reference."""
    rows = [
        f"| {state.value} | {event.value} | {transition.to.value} | {transition.effect.value} |"
        for (state, event), transition in transitions
    ]
    return "\n".join(("| state | event | next state | asks for |", "|---|---|---|---|", *rows))


@cache
def install_mark(install_id: str) -> str:
    """The six characters of an install in its client order ids."""
    return _letters(sha256(install_id.encode()).digest())[:6]


def mark_of(client_order_id: str) -> str:
    """The mark of the install that made a client order id; "" for an id that no tbot made."""
    found = _MADE_BY_TBOT.fullmatch(client_order_id)
    return "" if found is None else found["mark"]


def _letters(digest: bytes) -> str:
    return base64.b32encode(digest).decode().rstrip("=").lower()
