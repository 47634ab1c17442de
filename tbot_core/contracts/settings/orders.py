"""How positions are entered, protected and closed."""

from __future__ import annotations

from decimal import Decimal

import attrs

from tbot_core.contracts.setting import Permits, boolean, choice, duration, fraction, minutes, number, setting


@attrs.frozen(kw_only=True)
class EntrySettings:
    """The price of an entry, its lifetime and what blocks it."""

    entry_order_type: str = setting(
        "ENTRY_ORDER_TYPE",
        choice("limit", "market"),
        default="limit",
        doc="Type of entry orders; a market order is sized and checked as if it cost PRICE_BAND_PCT more.",
        permits=Permits("unless", ("limit",), why="Entries have no limit price."),
    )
    entry_limit_pct: Decimal = setting(
        "ENTRY_LIMIT_PCT",
        fraction(),
        default="0.002",
        doc="Distance of an entry's limit price beyond its reference price, as a fraction of that price.",
        permits=Permits("larger"),
    )
    entry_ttl: float = setting(
        "ENTRY_TTL",
        duration(least="1s", most="10m"),
        default="20s",
        doc="Time after which the unfilled rest of an entry order is cancelled.",
        permits=Permits("larger"),
    )
    max_spread_pct: Decimal = setting(
        "MAX_SPREAD_PCT",
        fraction(),
        default="0.003",
        doc="Largest spread at entry, as a fraction of the mid price.",
        permits=Permits("larger"),
    )
    one_trade_per_symbol_per_day: bool = setting(
        "ONE_TRADE_PER_SYMBOL_PER_DAY",
        boolean(),
        default="true",
        doc="Whether a symbol that had a fill is not entered again in the session.",
        permits=Permits("unless", ("true",), why="A symbol may be entered again in the same session."),
    )
    earnings_blackout: bool = setting(
        "EARNINGS_BLACKOUT",
        boolean(),
        default="false",
        doc="Whether a symbol is not entered on the day of an earnings report and the day before.",
        permits=Permits("unless", ("true",), why="Entries are possible around earnings reports."),
    )
    fractional: bool = setting(
        "FRACTIONAL",
        boolean(),
        default="false",
        doc="Whether fractional quantities are used, where broker and asset allow them.",
        permits=Permits("unless", ("false",), why="Quantities may be fractional, for which a broker may hold no stop."),
    )
    fractional_unprotected: bool = setting(
        "FRACTIONAL_UNPROTECTED",
        boolean(),
        default="false",
        doc="Whether a position below one share is allowed where its stop cannot rest at the broker.",
        permits=Permits("unless", ("false",), why="A position may have no stop at the broker."),
    )
    trade_confirmation_required: bool = setting(
        "TRADE_CONFIRMATION_REQUIRED",
        boolean(),
        default="false",
        doc="Whether entries need a confirmation by a person; replay and backtest confirm them at once.",
        permits=Permits("unless", ("true",), why="Entries no longer wait for a person."),
    )
    confirmation_timeout: float = setting(
        "CONFIRMATION_TIMEOUT",
        duration(least="5s", most="30m"),
        default="60s",
        doc="Time after which an unconfirmed entry expires.",
        permits=Permits("larger"),
    )


@attrs.frozen(kw_only=True)
class ExitSettings:
    """Stops, targets and the end of the day."""

    stop_loss_pct: Decimal = setting(
        "STOP_LOSS_PCT",
        fraction(least="0.0001", most="0.99"),
        default="0.02",
        doc="Distance of the protective stop from the signal bar's close, as a fraction of that close.",
        permits=Permits("larger", why="A stop is farther away, so that a trade can lose more."),
    )
    trailing_stop: bool = setting(
        "TRAILING_STOP",
        boolean(),
        default="false",
        doc="Whether every stop trails at its own distance.",
        permits=Permits("unless", ("true",), why="Stops no longer follow the price."),
    )
    stop_atr: float = setting(
        "STOP_ATR",
        number(least=0, most=100),
        default="0",
        doc="Stop distance in units of the daily ATR-14, instead of STOP_LOSS_PCT (0 = off).",
    )
    target_r: float = setting(
        "TARGET_R",
        number(least=0, most=1000),
        default="0",
        doc="Target in units of the stop distance, instead of the strategy's own target (0 = off).",
    )
    target_fill: str = setting(
        "TARGET_FILL",
        choice("through", "touch"),
        default="through",
        doc="Whether a simulated target fills only when price trades through it by one tick, or already at a touch.",
        permits=Permits("none"),
    )
    flatten_before_close: int = setting(
        "FLATTEN_BEFORE_CLOSE",
        minutes(least=1, most=60),
        default="5",
        doc="Minutes before the close at which the bot starts to close every position.",
        permits=Permits("smaller", why="Positions are held closer to the end of the session."),
    )
    stop_policy: str = setting(
        "STOP_POLICY",
        choice("keep", "flatten"),
        default="keep",
        doc="What SIGTERM and SIGINT do with positions: keep them with their stops, or close them.",
        changes_trades=False,
        permits=Permits("unless", ("flatten",), why="Positions stay open when the bot is ended by a signal."),
    )
