"""The costs of simulated fills, and how much of a bar's volume they may have."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from tbot_core.model.types import ATOMS_PER_CENT, ATOMS_PER_DOLLAR, UNITS_PER_SHARE
from tbot_core.trading.slippage import Slippage

if TYPE_CHECKING:
    from tbot_core.contracts.settings import SimulationSettings


@attrs.frozen(kw_only=True)
class FillCosts:
    """Costs and volume cap of simulated fills.

    `lag`: minutes from the decision's bar to the first bar that can fill. `share_cap`: numerator and denominator of the
    part of a bar's volume that a fill may have; None: no cap. It does not apply to the symbols in `uncapped`, whose
    volumes are a part of the tape. Fees are in atoms per share and in bps of sales. `through`: a target fills only if
    the bar trades through it, not at a touch.
    """

    slippage: Slippage
    lag: int = 1
    share_cap: tuple[int, int] | None = None
    uncapped: frozenset[str] = frozenset()
    fee_atoms_per_share: int = 0
    fee_sell_bps: Decimal = Decimal(0)
    through: bool = True

    @classmethod
    def of(cls, simulation: SimulationSettings, target_fill: str) -> FillCosts:
        """The costs of the settings; `target_fill` is `through` or `touch`."""
        return cls(
            slippage=Slippage.of(simulation),
            lag=1 + int(simulation.simulated_latency_ms) // 60_000,
            share_cap=simulation.volume_limit.as_integer_ratio() if simulation.volume_limit else None,
            fee_atoms_per_share=int(simulation.fee_per_share * ATOMS_PER_DOLLAR),
            fee_sell_bps=simulation.fee_sell_bps,
            through=target_fill == "through",
        )

    def without_volume_limit(self, symbols: frozenset[str]) -> FillCosts:
        """The costs where VOLUME_LIMIT does not apply to these symbols."""
        return attrs.evolve(self, uncapped=symbols)

    def fee(self, ticks: int, units: int, *, buy: bool) -> Decimal:
        """The fees of a fill in dollars, rounded up to the cent."""
        atoms = Decimal(self.fee_atoms_per_share * units) / UNITS_PER_SHARE
        if not buy:
            atoms += self.fee_sell_bps * ticks * units / 10_000
        return Decimal(math.ceil(atoms / ATOMS_PER_CENT)).scaleb(-2)

    def capacity(self, symbol: str, volume: float, units: int) -> int:
        """How much of `units` a bar of `volume` shares fills: whole shares where the cap binds, 0 without volume."""
        if not volume > 0:
            return 0
        if self.share_cap is None or symbol in self.uncapped:
            return units
        part, whole = self.share_cap
        return min(units, int(volume) * part // whole * UNITS_PER_SHARE)
