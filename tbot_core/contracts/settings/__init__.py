"""The core's own settings as values: one frozen attrs class a group, one field a variable, in lower case.

Money is Decimal USD, fractions of 1 are Decimal, percentages are Decimal as written (0.15 is 0.15 %), time spans
are float seconds, and minutes are int.
"""

from __future__ import annotations

from tbot_core.contracts.settings.deployment import Deployment
from tbot_core.contracts.settings.general import Failover, General, Ledger, Notifications, Rebalance
from tbot_core.contracts.settings.orders import Entries, Exits
from tbot_core.contracts.settings.risk import Risk
from tbot_core.contracts.settings.simulation import Simulation
from tbot_core.contracts.settings.trading import Frame, Trading

__all__ = [
    "Deployment",
    "Entries",
    "Exits",
    "Failover",
    "Frame",
    "General",
    "Ledger",
    "Notifications",
    "Rebalance",
    "Risk",
    "Simulation",
    "Trading",
]
