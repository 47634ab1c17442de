"""The core's own settings as values: one frozen attrs class a group, one field a variable, in lower case.

Money is Decimal USD, fractions of 1 are Decimal, percentages are Decimal as written (0.15 is 0.15 %), time spans
are float seconds, and minutes are int.
"""

from __future__ import annotations

from tbot_core.policy.deployment import Deployment
from tbot_core.policy.general import Failover, General, Ledger, Notifications, Rebalance
from tbot_core.policy.orders import Entries, Exits
from tbot_core.policy.risk import Risk
from tbot_core.policy.simulation import Simulation
from tbot_core.policy.trading import Frame, Trading

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
