"""Orders to cancel, because their position is closed or has changed.

A cancel may get lost, so it is requested each minute until the broker reports that the order has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.trading.commands import CancelOrder, TradingCommand

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class CancelQueue:
    """The orders of a session to cancel, by id."""

    def __init__(self) -> None:
        self._orders: dict[str, None] = {}
        self._urgent: list[str] = []

    def __iter__(self) -> Iterator[str]:
        """Iterate over their ids."""
        return iter(self._orders)

    def cancel_next_minute(self, orders: Iterable[str]) -> None:
        """Cancel these with the next minute."""
        self._orders.update(dict.fromkeys(orders))

    def cancel_now(self, orders: Iterable[str]) -> None:
        """Cancel these with the next commands, without waiting for the minute."""
        fresh = [*orders]
        self.cancel_next_minute(fresh)
        self._urgent += fresh

    def on_ended(self, client_order_id: str) -> None:
        """Remove an order that has ended."""
        self._orders.pop(client_order_id, None)

    def cancels_for_minute(self) -> list[TradingCommand]:
        """The cancels of a minute: all orders of the queue."""
        self._urgent = []
        return [CancelOrder(client_order_id=one) for one in self._orders]

    def cancels_due_now(self) -> list[TradingCommand]:
        """The cancels of `cancel_now`, each returned once."""
        fresh, self._urgent = self._urgent, []
        return [CancelOrder(client_order_id=one) for one in dict.fromkeys(fresh) if one in self._orders]
