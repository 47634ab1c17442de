"""Refuses a start at an account at which another tbot install has an open order.

Two installs at one account see each other's orders and shares as external, and both spend the same buying power.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import OrderStatus
from tbot_core.errors import SettingsError
from tbot_core.model.formatting import format_quantity, plural, printable_name
from tbot_core.trading.orders import install_mark, mark_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tbot_core.contracts import OrderStatusReport

_LISTED: Final = 5


@attrs.define(kw_only=True)
class SoleInstallCheck:
    """Checks the external orders of each account of a run once, at its first reading.

    Later ones of another install are reported as external: ending a run that holds positions would not protect them.
    """

    install_id: str
    _passed: set[tuple[str, str]] = attrs.field(init=False, factory=set)

    def check(self, broker: str, account_id: str, external: Sequence[OrderStatusReport]) -> None:
        """Raise SettingsError if an open order at the account bears the mark of another install."""
        if (broker, account_id) in self._passed:
            return
        own = install_mark(self.install_id)
        others = [one for one in external if one.kind is OrderStatus.WORKING and _is_of_another(one, own)]
        if others:
            marks = ", ".join(sorted({mark_of(one.client_order_id) for one in others}))
            raise SettingsError(
                f"Another tbot install has {plural(len(others), 'open order')} at {broker}, account {account_id}:"
                f" {'; '.join(_listed(others))}. The mark of that install is {marks}, of this one {own}.",
                "One account is traded by one install. End the other bot with `tbot stop --flatten --home ITS_FOLDER`,"
                " or cancel its orders at the broker if it is gone; then start again. If this instance's data/ was lost"
                " or moved, put it back: the mark is made from data/install.id.",
            )
        self._passed.add((broker, account_id))


def _is_of_another(report: OrderStatusReport, own: str) -> bool:
    return mark_of(report.client_order_id) not in {"", own}


def _listed(others: Sequence[OrderStatusReport]) -> Iterable[str]:
    for one in others[:_LISTED]:
        side, rest = "buy" if one.buy else "sell", format_quantity(one.quantity - one.filled)
        yield f"{side} {rest} {printable_name(one.symbol)}, client order id {one.client_order_id}"
    if len(others) > _LISTED:
        yield f"and {len(others) - _LISTED} more"
