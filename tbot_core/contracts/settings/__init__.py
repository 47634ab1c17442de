"""The core's own settings: one frozen attrs class per group, one field per variable, in lower case.

Money is Decimal USD, fractions of 1 are Decimal, percentages are Decimal as written (0.15 is 0.15 %), time spans are
float seconds, and minutes are int.
"""

from __future__ import annotations

from tbot_core.contracts.settings.deployment import DeploymentSettings
from tbot_core.contracts.settings.general import (
    FailoverSettings,
    GeneralSettings,
    LedgerSettings,
    NotificationSettings,
    RebalanceSettings,
)
from tbot_core.contracts.settings.orders import EntrySettings, ExitSettings
from tbot_core.contracts.settings.risk import RiskSettings
from tbot_core.contracts.settings.simulation import SimulationSettings
from tbot_core.contracts.settings.trading import StrategySettings, TradingSettings

__all__ = [
    "DeploymentSettings",
    "EntrySettings",
    "ExitSettings",
    "FailoverSettings",
    "GeneralSettings",
    "LedgerSettings",
    "NotificationSettings",
    "RebalanceSettings",
    "RiskSettings",
    "SimulationSettings",
    "StrategySettings",
    "TradingSettings",
]
