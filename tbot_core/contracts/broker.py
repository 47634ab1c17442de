"""Brokers: what the core asks of an account at a venue, and what it is told."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import attrs

from tbot_core.model import Fill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.bars import Minute
    from tbot_core.calendar import Session
    from tbot_core.model import Account, Order


@attrs.frozen(kw_only=True)
class VenueRules:
    """What a broker can do; the core never guesses it.

    `simulated`: the core shows it every closed minute before deciding on it. `brackets`: an entry's stop and target
    rest there from its fill on. `quantity_step`: the smallest quantity in shares, for types in `fractional_types`.
    """

    simulated: bool = False
    brackets: bool = False
    amend_atomic: bool = False
    dedupes_cid: bool = False
    query_by_cid: bool = False
    cancel_by_cid: bool = False
    lists_closed: bool = False
    exec_ids_unique: bool = False
    reduce_only: bool = False
    cancel_all: bool = False
    dead_man_switch: bool = False
    quantity_step: Decimal = Decimal(1)
    fractional_types: frozenset[str] = frozenset()
    cid_length: int = 48


@attrs.frozen(kw_only=True)
class BrokerEvent:
    """Something a broker says of an order.

    `kind`: acknowledged, rejected, fill, cancelled, expired, replaced, cancel_refused, not_found. `event_id` is unique
    within broker and account, so that the same event is booked once. `words` quotes the broker.
    """

    kind: str
    event_id: str
    client_order_id: str
    fill: Fill | None = None
    words: str = ""


@runtime_checkable
class Broker(Protocol):
    """An account at a venue.

    Every call may raise `BrokerError`; a submit that may have arrived raises `OutcomeUnknown`.
    """

    @property
    def rules(self) -> VenueRules:
        """What the venue can do."""

    async def connect(self) -> Account:
        """Log in and say whose account it is."""

    async def account(self) -> Account:
        """Cash, equity and buying power now."""

    async def submit(self, order: Order) -> None:
        """Hand an order over; what becomes of it comes as events."""

    async def cancel(self, client_order_id: str) -> None:
        """Ask for a cancel; its outcome comes as an event."""

    async def replace(self, client_order_id: str, stop_price: Decimal) -> None:
        """Move a resting stop."""

    async def poll(self) -> Sequence[BrokerEvent]:
        """Everything that happened since the last call, oldest first; does not wait."""

    async def close(self) -> None:
        """Log out; resting orders stay."""


@runtime_checkable
class SimulatedVenue(Protocol):
    """A broker without a market of its own: it fills from the bars that it is shown."""

    def open_session(self, session: Session, symbols: tuple[str, ...], cash: Decimal) -> None:
        """A new session's bell: nothing rests any more; `cash` is what the journal knows of the account."""

    def observe(self, minute: Minute) -> None:
        """A minute has closed: match what rests, before anyone decides on it."""

    def close_session(self) -> None:
        """The session is over: what is still open is closed at its last price."""
