"""The state of failover as text, from its document."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tbot_core.model.formatting import format_money, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def lines(shown: Mapping[str, Any]) -> Iterator[str]:
    """Each broker, leases that have moved, an outage, the last drill, and the command to run next."""
    if len(shown["places"]) == 1:
        yield "Failover is off: FAILOVER_ENABLED and FAILOVER_BROKERS switch it on."
    yield from map(_broker, shown["places"])
    yield from (f"entries in {symbol} go to {owner}" for symbol, owner in shown["leases"].items())
    if shown["broken"]:
        why = f" ({shown['why']})" if shown["why"] else ""
        yield f"The primary broker does not respond: {shown['phase']}{why}."
    yield f"Drill: {shown['objection'] or shown['drill'] or 'none yet'}."
    yield f"Next: {shown['next']}"


def _broker(one: Mapping[str, Any]) -> str:
    held = ", ".join(one["held"]) or "nothing"
    confirmed = f", confirmed {format_money(Decimal(one['confirmed']))}" if one["confirmed"] else ""
    worst = f"worst case {format_money(Decimal(one['reserved']))}{confirmed}"
    return f"{one['name']:<10} {one['circuit']:<10} holds {held}, {plural(one['orders'], 'open order')}, {worst}"
