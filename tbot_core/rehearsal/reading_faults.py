"""Readings of an account that show what is not so, as a client that notices nothing would report them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from tbot_core.contracts import AccountSnapshot
    from tbot_core.model.types import Account
    from tbot_core.rehearsal.random_streams import RandomStream

LISTS: Final = ("positions_s", "orders_s", "account_s", "activities_s")
"""The parts of a snapshot, each of which may be behind, by the names of `ReadingLags`."""

COUNTED_WHEN_SHOWN: Final = frozenset({"F49", "F113", "F114"})
"""The faults that count as injected only where they change what is shown."""

_EUROS: Final = Decimal("0.9")
_ABSURD: Final = (100, 10_000)
_PAGES: Final = 2


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
        {("positions", one.symbol, one.quantity) for one in it.holdings}
        | {("orders", one.symbol, one.broker_order_id, one.time) for one in it.orders}
        for it in (right, shown)
    )
    return frozenset((subject, symbol) for subject, symbol, *_ in sorted(rows ^ wrong))


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
