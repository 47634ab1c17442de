"""Rebalancing settings of the bots of simulated worlds."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.rehearsal.random_streams import RandomStream

TOPPING_UP: Final[Mapping[str, Any]] = {
    "rebalance_top_up": True,
    "rebalance_threshold": Decimal(0),
    "rebalance_check_interval": 60.0,
    "total_allocation": Decimal("0.6"),
    "max_risk_per_trade": Decimal("0.2"),
    "max_gross_exposure": Decimal("0.9"),
}
"""Settings of a bot with top-ups: a check each minute, and large positions, so that a gap is a whole share."""


def rebalance_settings(stream: RandomStream) -> dict[str, Any]:
    """Random settings: one bot in four rebalances every few minutes; half of the bots have the top-up settings."""
    settings: dict[str, Any] = {
        "rebalance_enabled": stream.happens(0.25),
        "rebalance_threshold": stream.one((Decimal(0), Decimal("0.001"), Decimal("0.01"))),
        "rebalance_check_interval": stream.one((60.0, 120.0, 300.0)),
    }
    return settings | (dict(TOPPING_UP) if stream.happens(0.5) else {})
