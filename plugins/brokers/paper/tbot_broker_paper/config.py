"""The settings of the paper broker."""

from __future__ import annotations

import attrs

from tbot_core.contracts.setting import Permits, choice, setting
from tbot_core.contracts.settings import SimulationSettings


@attrs.frozen(kw_only=True)
class Config(SimulationSettings):
    """The settings of every simulation, and when a target is filled."""

    target_fill: str = setting(
        "TARGET_FILL",
        choice("through", "touch"),
        default="through",
        doc="Whether a simulated target fills only when price trades through it by one tick, or already at a touch.",
        permits=Permits("none"),
    )
