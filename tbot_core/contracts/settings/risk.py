"""The limits. Equity always means the equity at the session's start."""

from __future__ import annotations

from decimal import Decimal

import attrs

from tbot_core.contracts.setting import (
    Permits,
    above_zero,
    boolean,
    fraction,
    integer,
    money,
    number,
    optional,
    percent,
    setting,
    weights,
)


@attrs.frozen(kw_only=True)
class RiskSettings:
    """Budgets and limits. Where a limit says `0 = off`, the value 0 switches it off."""

    disable_all_trades: bool = setting(
        "DISABLE_ALL_TRADES",
        boolean(),
        default="false",
        doc="True blocks every entry; exits, stops and cancels continue.",
        permits=Permits("unless", ("true",), why="Entries are possible again."),
    )
    total_allocation: Decimal = setting(
        "TOTAL_ALLOCATION",
        fraction(),
        default="0.02",
        doc="Budget of each strategy window as a fraction of equity.",
        permits=Permits("larger"),
    )
    max_trades: int = setting(
        "MAX_TRADES",
        integer(least=0, most=1000),
        default="4",
        doc="Largest number of orders that a strategy window sends.",
        permits=Permits("larger"),
    )
    weights: tuple[Decimal, ...] = setting(
        "WEIGHTS",
        weights(),
        default="0.4,0.2,0.2,0.2",
        doc="Fraction of B that the window's first, second, ... order gets.",
        permits=Permits("larger"),
    )
    daily_loss_limit: Decimal = setting(
        "DAILY_LOSS_LIMIT",
        above_zero(fraction()),
        default="0.05",
        doc="Loss of the session, as a fraction of equity, at which all positions are closed and entries blocked "
        "until the next session.",
        permits=Permits("larger", why="More can be lost in a session."),
    )
    max_risk_per_trade: Decimal = setting(
        "MAX_RISK_PER_TRADE",
        fraction(),
        default="0.025",
        doc="Largest value of one trade's order as a fraction of equity; the stop limits its loss, not this.",
        permits=Permits("larger"),
    )
    max_open_positions: int = setting(
        "MAX_OPEN_POSITIONS",
        integer(least=0, most=10_000),
        default="5",
        doc="Largest number of positions over all strategies, including working entries.",
        permits=Permits("larger"),
    )
    window_loss_limit: Decimal = setting(
        "WINDOW_LOSS_LIMIT",
        above_zero(fraction()),
        default="0.10",
        doc="Loss of a strategy window, as a fraction of B, that ends the window's entries.",
        permits=Permits("larger", why="More can be lost in a window."),
    )
    max_consecutive_losses: int = setting(
        "MAX_CONSECUTIVE_LOSSES",
        integer(least=0, most=1000),
        default="0",
        doc="Losing trades in a row, over all strategies, that end the session's entries (0 = off).",
        permits=Permits("larger", ("0",)),
    )
    max_gross_exposure: Decimal = setting(
        "MAX_GROSS_EXPOSURE",
        fraction(most="10"),
        default="0.10",
        doc="Largest sum of all positions and working entries, long and short, as a fraction of equity.",
        permits=Permits("larger"),
    )
    max_symbol_exposure: Decimal | None = setting(
        "MAX_SYMBOL_EXPOSURE",
        optional(fraction(most="10"), absent="empty for MAX_RISK_PER_TRADE"),
        default="",
        doc="Largest exposure in one symbol as a fraction of equity; empty is MAX_RISK_PER_TRADE.",
        permits=Permits("larger"),
    )
    max_index_exposure: Decimal = setting(
        "MAX_INDEX_EXPOSURE",
        fraction(most="10"),
        default="0.04",
        doc="Largest net exposure in the funds of one index, leverage x notional, as a fraction of equity.",
        permits=Permits("larger"),
    )
    max_leverage: Decimal = setting(
        "MAX_LEVERAGE",
        fraction(least="0", most="4"),
        default="1",
        doc="Largest worst case of all working entries and positions, as a multiple of equity.",
        permits=Permits("larger"),
    )
    max_order_notional: Decimal = setting(
        "MAX_ORDER_NOTIONAL",
        money(),
        default="0",
        doc="Largest notional of one order in USD (0 = off).",
        permits=Permits("larger", ("0",)),
    )
    first_live_day_max_order_notional: Decimal = setting(
        "FIRST_LIVE_DAY_MAX_ORDER_NOTIONAL",
        money(),
        default="500",
        doc="Largest notional of an entry in USD on the first day that an account trades live (0 = off); the quantity "
        "is reduced to it.",
        permits=Permits("larger", ("0",)),
    )
    max_orders_per_minute: int = setting(
        "MAX_ORDERS_PER_MINUTE",
        integer(least=1, most=10_000),
        default="30",
        doc="Largest number of entry orders in any minute; exits are exempt.",
        permits=Permits("larger"),
    )
    price_band_pct: Decimal = setting(
        "PRICE_BAND_PCT",
        fraction(),
        default="0.05",
        doc="Largest distance of a limit price from the last trade, as a fraction of that trade's price.",
        permits=Permits("larger"),
    )
    max_rejects_in_row: int = setting(
        "MAX_REJECTS_IN_ROW",
        integer(least=1, most=1000),
        default="3",
        doc="Broker rejections in a row after which only exits are sent.",
        permits=Permits("larger"),
    )
    max_fill_deviation_pct: Decimal = setting(
        "MAX_FILL_DEVIATION_PCT",
        fraction(),
        default="0.01",
        doc="Deviation of a fill from its reference price, as a fraction of it, that is reported; three in a row "
        "switch defense on.",
        permits=Permits("larger"),
    )
    inverse_max_leverage: float = setting(
        "INVERSE_MAX_LEVERAGE",
        number(least=1, most=3),
        default="1",
        doc="Largest leverage of an inverse fund used for a short.",
        acted_on=False,
        permits=Permits("larger"),
    )
    inverse_min_corr: float = setting(
        "INVERSE_MIN_CORR",
        number(least=-1, most=1),
        default="0.5",
        doc="Smallest correlation of a stock with the index of the inverse fund used for its short.",
        acted_on=False,
        permits=Permits("smaller"),
    )
    defense_mode_active: bool = setting(
        "DEFENSE_MODE_ACTIVE",
        boolean(),
        default="false",
        doc="True forces defense: fewer trades, smaller budget.",
        permits=Permits("unless", ("true",), why="The usual limits hold again in place of those of defense."),
    )
    defense_mode_trade_limit_pct: Decimal = setting(
        "DEFENSE_MODE_TRADE_LIMIT_PCT",
        percent(),
        default="66",
        doc="Percentage of MAX_TRADES and MAX_OPEN_POSITIONS that remains in defense, rounded down.",
        permits=Permits("larger"),
    )
    defense_mode_total_allocation: Decimal = setting(
        "DEFENSE_MODE_TOTAL_ALLOCATION",
        fraction(),
        default="0.01",
        doc="Budget of each strategy window in defense as a fraction of equity.",
        permits=Permits("larger"),
    )

    @property
    def order_shares(self) -> tuple[Decimal, ...]:
        """The shares of equity that the orders of one window are sized to, in order: weights of the budget, capped.

        FIXED_QUANTITY replaces them. What a limit of exposure denies is not cut to it.
        """
        cap = self.max_risk_per_trade
        return tuple(min(self.total_allocation * weight, cap) for weight in self.weights[: self.max_trades])

    @property
    def symbol_share(self) -> Decimal:
        """The largest exposure in one symbol, as a share of equity."""
        return self.max_risk_per_trade if self.max_symbol_exposure is None else self.max_symbol_exposure
