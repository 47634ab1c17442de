"""The settings of the paper broker."""

from __future__ import annotations

import attrs

from tbot_core.contracts.setting import choice, setting
from tbot_core.contracts.settings import SimulationSettings


@attrs.frozen(kw_only=True)
class Config(SimulationSettings):
    """The core's settings of simulated fills, and the rule for targets."""

    target_fill: str = setting(
        "TARGET_FILL",
        choice("through", "touch"),
        default="through",
        doc="Whether a simulated target fills only when price trades through it by one tick, or already at a touch.",
    )
