"""The account as it was some seconds ago: what an endpoint answers that lags behind."""

from __future__ import annotations

import copy
import datetime as dt
from bisect import bisect_right
from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from tbot_broker_alpaca.venue.wire import stamp

if TYPE_CHECKING:
    from tbot_broker_alpaca.venue.account import VenueAccount
    from tbot_broker_alpaca.venue.orders import VenueOrder


@attrs.frozen(kw_only=True)
class _Balance:
    # Cash and positions from a moment on.
    at: dt.datetime
    cash: Decimal
    held: dict[str, tuple[Decimal, Decimal]]


class AccountPast:
    """The states of an account since it was opened, by the changes of its orders and what else was booked."""

    def __init__(self, account: VenueAccount) -> None:
        self._account = account
        self._orders: defaultdict[str, list[tuple[dt.datetime, VenueOrder]]] = defaultdict(list)
        self._balances: list[_Balance] = []
        account.observers.append(self._keep)
        account.payment_observers.append(lambda _kind, _symbol: self._keep_balance())

    def account_at(self, moment: dt.datetime) -> VenueAccount:
        """The account as it was, at today's prices; it is only to be read. Before the first order it is as at that."""
        found = copy.copy(self._account)
        states = (self._state(order, moment) for order in self._account.orders)
        found.orders = [order for order in states if order is not None]
        found.activities = [activity for activity in self._account.activities if _time_of(activity) <= stamp(moment)]
        if self._balances:
            last = bisect_right(self._balances, moment, key=lambda one: one.at)
            balance = self._balances[max(last - 1, 0)]
            found.cash, found.held = balance.cash, {**balance.held}
        return found

    def _keep(self, order: VenueOrder) -> None:
        self._orders[order.id].append((self._account.now, attrs.evolve(order, times={**order.times})))
        self._keep_balance()

    def _keep_balance(self) -> None:
        account = self._account
        self._balances.append(_Balance(at=account.now, cash=account.cash, held={**account.held}))

    def _state(self, order: VenueOrder, moment: dt.datetime) -> VenueOrder | None:
        states = self._orders[order.id]
        last = bisect_right(states, moment, key=lambda one: one[0])
        return states[last - 1][1] if last else None


def _time_of(activity: dict[str, object]) -> str:
    return str(activity.get("transaction_time") or activity["created_at"])
