"""Holdings of an account that are not tbot's, as recorded in the journal."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.journal import records

if TYPE_CHECKING:
    from tbot_core.journal.projection import JournalEvent
    from tbot_core.journal.store import Journal

_KINDS: Final = (records.FOREIGN_HOLDING, records.CORPORATE_ACTION, records.SESSION_OPENED, records.SESSION_CLOSED)


@attrs.frozen(kw_only=True)
class _Holding:
    quantity: Decimal
    price: str | None
    session: int


@attrs.define
class ExternalHoldings:
    """A projection of external holdings. Values of a session remain valid until the next one has read the account."""

    _held: dict[tuple[str, str], _Holding] = attrs.field(factory=dict)
    _sessions: int = 0

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event."""
        payload = event.payload
        match event.kind:
            case records.FOREIGN_HOLDING:
                if found := records.holding_of(payload):
                    price = None if found[1] is None else str(found[1])
                    holding = _Holding(quantity=found[0], price=price, session=self._sessions)
                    self._held[payload.get("broker", ""), payload["symbol"]] = holding
            case records.CORPORATE_ACTION:
                self._split(payload.get("broker", ""), payload["symbol"], payload["after"], payload["before"])
            case records.SESSION_CLOSED:
                self._sessions += 1
            case records.SESSION_OPENED:  # its account is read before the open
                self._held = {key: one for key, one in self._held.items() if one.session == self._sessions}

    @property
    def value_usd(self) -> Decimal:
        """Total absolute value in USD; holdings without a price count as zero."""
        priced = (abs(one.quantity) * Decimal(one.price) for one in self._held.values() if one.price is not None)
        return sum(priced, Decimal(0))

    def document(self) -> list[dict[str, Any]]:
        """The holdings for JSON; short quantities are negative, `broker` is "" for the primary."""
        return [
            {"symbol": symbol, "quantity": str(one.quantity), "price": one.price, "broker": broker}
            for (broker, symbol), one in sorted(self._held.items())
            if one.quantity
        ]

    def at_broker(self, broker: str = "") -> dict[str, Decimal]:
        """Signed shares by symbol at one broker; "" is the primary."""
        return {symbol: one.quantity for (place, symbol), one in self._held.items() if place == broker}

    def _split(self, broker: str, symbol: str, after: int, before: int) -> None:
        # Scale quantity and price, since the price was per share before the split.
        held = self._held.get((broker, symbol))
        if held is not None:
            price = None if held.price is None else str(Decimal(held.price) * before / after)
            self._held[broker, symbol] = attrs.evolve(held, quantity=held.quantity * after / before, price=price)


def known_external_holdings(journal: Journal, account_id: str) -> dict[str, Decimal]:
    """Signed shares by symbol that an account holds and that are not tbot's.

    Empty for any account other than that of the last session's primary broker.
    """
    opened = journal.last_event(records.SESSION_OPENED)
    if opened is None or opened.payload.get("account") != account_id:
        return {}
    found = ExternalHoldings()
    for event in sorted((one for kind in _KINDS for one in journal.events(kind=kind)), key=lambda one: one.seq):
        found.apply(event)
    return found.at_broker()
