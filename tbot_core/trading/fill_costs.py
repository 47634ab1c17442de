"""The costs of simulated fills, and how much of a bar's volume they may have."""

from __future__ import annotations

import functools
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.model.types import ATOMS_PER_CENT, ATOMS_PER_DOLLAR, UNITS_PER_SHARE
from tbot_core.trading.slippage import Slippage

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tbot_core.contracts.settings import SimulationSettings


@attrs.frozen(kw_only=True)
class FillCosts:
    """Costs and volume cap of simulated fills.

    `lag`: minutes from the decision's bar to the first bar that can fill; `entry_delay`: more of them for an entry.
    `share_cap`: numerator and denominator of the part of a bar's volume that a fill may have; None: no cap. It does not
    apply to the symbols in `uncapped`, whose volumes are a part of the tape. Fees are in atoms per share and in bps of
    sales. `through`: a target fills only if the bar trades through it, not at a touch.
    """

    slippage: Slippage
    lag: int = 1
    entry_delay: int = 0
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

    @property
    def filling(self) -> tuple[Hashable, ...]:
        """What decides when and in what part orders fill; the rest decides what the fills cost."""
        return self.lag, self.entry_delay, self.share_cap, self.uncapped, self.through

    def at_twice_the_slippage(self) -> FillCosts:
        """The costs with twice the mean and the deviation of the slippage."""
        model = self.slippage
        return attrs.evolve(self, slippage=attrs.evolve(model, mean=2 * model.mean, deviation=2 * model.deviation))

    def without_volume_limit(self, symbols: frozenset[str]) -> FillCosts:
        """The costs where VOLUME_LIMIT does not apply to these symbols."""
        return attrs.evolve(self, uncapped=symbols)

    @property
    def has_fees(self) -> bool:
        """Whether any fill has a fee."""
        return bool(self.fee_atoms_per_share or self.fee_sell_bps)

    @functools.cached_property
    def _fee_of_sales(self) -> tuple[int, int]:
        return (self.fee_sell_bps / 10_000).as_integer_ratio()

    def fee(self, ticks: int, units: int, *, buy: bool) -> Decimal:
        """The fees of a fill in dollars, rounded up to the cent."""
        return Decimal(self.fee_cents(ticks, units, buy=buy)).scaleb(-2)

    def fee_cents(self, ticks: int, units: int, *, buy: bool) -> int:
        """The same in cents."""
        part, whole = (0, 1) if buy else self._fee_of_sales
        atoms = self.fee_atoms_per_share * units * whole + part * ticks * units * UNITS_PER_SHARE
        return -(-atoms // (whole * UNITS_PER_SHARE * ATOMS_PER_CENT))

    def capacity(self, symbol: str, volume: float, units: int) -> int:
        """How much of `units` a bar of `volume` shares fills: whole shares where the cap binds, 0 without volume."""
        if not volume > 0:
            return 0
        if self.share_cap is None or symbol in self.uncapped:
            return units
        most: int = self.share_of(int(volume))
        return min(units, most)

    def share_of(self, shares: Any) -> Any:
        """The units that VOLUME_LIMIT leaves a fill of so many whole shares in a bar; a number or an array."""
        part, whole = self.share_cap or (1, 1)
        return shares * part // whole * UNITS_PER_SHARE
