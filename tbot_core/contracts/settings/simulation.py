"""The simulation of fills where there is no market."""

from __future__ import annotations

from decimal import Decimal

import attrs

from tbot_core.contracts.setting import Permits, boolean, choice, fraction, integer, money, percent, setting


@attrs.frozen(kw_only=True)
class SimulationSettings:
    """Seed, costs and account of paper, replay, demo and backtest; slippage is in percent (0.15 is 0.15 %)."""

    seed: int = setting(
        "SEED",
        integer(least=0, most=2**32 - 1),
        default="0",
        doc="Seed of all random numbers in a simulation.",
        permits=Permits("none"),
    )
    volume_limit: Decimal = setting(
        "VOLUME_LIMIT",
        fraction(),
        default="0.10",
        doc="Largest fill as a fraction of its bar's volume (0 = off).",
        permits=Permits("none"),
    )
    fixed_quantity: int = setting(
        "FIXED_QUANTITY",
        integer(least=0, most=1_000_000),
        default="0",
        doc="Quantity of every simulated entry, instead of a share of the budget (0 = off).",
        permits=Permits("none"),
    )
    fee_per_share: Decimal = setting(
        "FEE_PER_SHARE",
        money(most="10"),
        default="0",
        doc="Fee per share bought or sold, in USD.",
        permits=Permits("none"),
    )
    fee_sell_bps: Decimal = setting(
        "FEE_SELL_BPS",
        attrs.evolve(percent(most="1000"), name="basis points", allowed="basis points (1 is 0.01 %) from 0 to 1000"),
        default="0.278",
        doc="Fee of a sale, in basis points of its proceeds.",
        permits=Permits("none"),
    )
    paper_cash: Decimal = setting(
        "PAPER_CASH",
        money(least="1", most="1000000000"),
        default="100000",
        doc="Starting cash of a simulated account in USD.",
        permits=Permits("none"),
    )
    enable_slippage_model: bool = setting(
        "ENABLE_SLIPPAGE_MODEL",
        boolean(),
        default="true",
        doc="Whether slippage is applied to simulated market orders and stops.",
        permits=Permits("none"),
    )
    slippage_simulation_type: str = setting(
        "SLIPPAGE_SIMULATION_TYPE",
        choice("none", "rule_based", "randomized"),
        default="randomized",
        doc="The slippage model.",
        permits=Permits("none"),
    )
    slippage_mean_pct: Decimal = setting(
        "SLIPPAGE_MEAN_PCT",
        percent(most="10"),
        default="0.15",
        doc="Mean slippage in percent of the price.",
        permits=Permits("none"),
    )
    slippage_stddev_pct: Decimal = setting(
        "SLIPPAGE_STDDEV_PCT",
        percent(most="10"),
        default="0.10",
        doc="Standard deviation of randomized slippage in percent of the price.",
        permits=Permits("none"),
    )
    simulated_latency_ms: int = setting(
        "SIMULATED_LATENCY_MS",
        integer(least=0, most=600_000),
        default="500",
        doc="Delay of each simulated order in milliseconds; under 60,000 ms it does not change one-minute fills.",
        permits=Permits("none"),
    )
