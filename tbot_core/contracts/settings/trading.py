"""Broker, data, strategies, symbols and days."""

from __future__ import annotations

from datetime import time
from decimal import Decimal

import attrs

from tbot_core.contracts.setting import (
    Permits,
    boolean,
    choice,
    clock_time,
    duration,
    fraction,
    integer,
    minutes,
    money,
    names,
    optional,
    plugin_name,
    setting,
    weekdays,
)
from tbot_core.contracts.settings.calendar_overrides import Overrides, calendar_overrides
from tbot_core.model.calendar import ExchangeCalendar


@attrs.frozen(kw_only=True)
class TradingSettings:
    """What is traded, where and when; names of plugins are in lower case, symbols in upper case."""

    broker_name: str = setting(
        "BROKER_NAME",
        plugin_name("paper"),
        default="paper",
        doc="The broker plugin that orders are sent to; replay, demo, backtest and dry runs use the simulator instead.",
        permits=Permits(why="Orders go to another broker."),
    )
    data_source: str = setting(
        "DATA_SOURCE",
        plugin_name("paper", empty=True),
        default="",
        doc="The plugin that supplies bars and quotes; empty for the plugin of BROKER_NAME.",
        permits=Permits(why="Decisions depend on the prices of another source."),
    )
    strategy_sequence: tuple[str, ...] = setting(
        "STRATEGY_SEQUENCE",
        names(case="lower"),
        default="",
        doc="The strategies that run, in order.",
        permits=Permits("added", why="More strategies may trade, or in another order."),
    )
    strategy_override: str = setting(
        "STRATEGY_OVERRIDE",
        plugin_name("open", empty=True),
        default="",
        doc="Run only this strategy; empty for all of STRATEGY_SEQUENCE.",
        permits=Permits(why="Other strategies may trade."),
    )
    universe: tuple[str, ...] = setting(
        "UNIVERSE",
        names(case="upper"),
        default="",
        doc="The symbols to trade; empty for all symbols of the data source, or of the screener.",
        permits=Permits("added", ("",), why="More symbols may be traded."),
    )
    universe_max: int = setting(
        "UNIVERSE_MAX",
        integer(least=1, most=20_000),
        default="500",
        doc="Largest number of symbols; the rest is cut by 20-day dollar volume.",
        permits=Permits("larger"),
    )
    watch_only: tuple[str, ...] = setting(
        "WATCH_ONLY",
        names(case="upper"),
        default="",
        doc="Symbols, such as funds and underlyings, that are subscribed and never traded.",
        permits=Permits("removed", why="Symbols may be traded that were watched only."),
    )
    blocklist: tuple[str, ...] = setting(
        "BLOCKLIST",
        names(case="upper"),
        default="",
        doc="Symbols that are never entered.",
        permits=Permits("removed", why="Symbols may be entered that were blocked."),
    )
    filters: tuple[str, ...] = setting(
        "FILTERS",
        names(case="lower", taken_away=True),
        default="",
        doc="Filters beside the standard ones, which are price_volume and each filter whose switch is on; "
        "-price_volume takes it away, and the word none all standard ones.",
        permits=Permits("checks", why="Signals are judged by fewer checks, or in another order."),
    )
    filter_missing_data: str = setting(
        "FILTER_MISSING_DATA",
        choice("reject", "pass"),
        default="reject",
        doc="What a filter does with a signal when it lacks data.",
        permits=Permits("unless", ("reject",), why="A signal passes a check whose data are missing."),
    )
    vix_source: str = setting(
        "VIX_SOURCE",
        choice("previous_close", "live"),
        default="previous_close",
        doc="Which VIX value the strategies use; live is the value when a window's entries begin, live trading only.",
    )
    gap_reference: str = setting(
        "GAP_REFERENCE",
        choice("current", "previous_close"),
        default="current",
        doc="Which move MAX_GAP_PCT limits: from today's open to the last price (current), or from the previous close "
        "to today's open (previous_close).",
    )
    extensions: tuple[str, ...] = setting(
        "EXTENSIONS",
        names(case="lower"),
        default="",
        doc="The enabled extension plugins; empty for all installed ones; the word none for none.",
        file=".env",
        permits=Permits(why="Other extensions run beside the bot, or fewer."),
    )
    trading_days: tuple[int, ...] = setting(
        "TRADING_DAYS",
        weekdays(),
        default="mon,tue,wed,thu,fri",
        doc="Weekdays on which the bot trades, within the exchange calendar.",
        permits=Permits("added", why="The bot trades on more days."),
    )
    calendar_overrides: Overrides = setting(
        "CALENDAR_OVERRIDES",
        calendar_overrides(),
        default="",
        doc="Closures and early closes of the exchange that the calendar does not contain; the shorter session wins, "
        "so no session can be added.",
        permits=Permits("removed", why="A closure or an early close no longer counts."),
    )
    sleep_time: float = setting(
        "SLEEP_TIME",
        duration(least="50ms", most="60s"),
        default="1s",
        doc="Time between two polls of a broker without a stream; fills are known, and stops placed, with this delay.",
        changes_trades=False,
        permits=Permits("larger", why="Fills are seen, and stops placed, later."),
    )
    bar_grace: float = setting(
        "BAR_GRACE",
        duration(least="0s", most="30s"),
        default="2s",
        doc="How long to wait for late bars after the end of a minute.",
    )
    time_anchor: str = setting(
        "TIME_ANCHOR",
        choice("exchange", "utc"),
        default="exchange",
        doc="Exchange keeps each window's distance to the opening bell all year; utc uses START_TIME literally.",
    )
    api_retry_limit: int = setting(
        "API_RETRY_LIMIT",
        integer(least=0, most=20),
        default="3",
        doc="Retries of a failed read or cancel at the broker; an order is never resent blindly.",
        changes_trades=False,
    )
    api_timeout: float = setting(
        "API_TIMEOUT",
        duration(least="1s", most="10m", bare="s"),
        default="30",
        doc="Time-out of a request to the broker in seconds.",
        changes_trades=False,
    )


@attrs.frozen(kw_only=True)
class StrategySettings:
    """The core settings of the strategy NAME; `{NAME}` in a variable stands for its name in upper case."""

    enabled: bool = setting(
        "STRAT_{NAME}_ENABLED",
        boolean(),
        default="true",
        doc="Whether the strategy is enabled.",
        permits=Permits("unless", ("false",), why="The strategy may trade."),
    )
    start_time: time = setting(
        "START_TIME_{NAME}",
        clock_time(),
        default="14:30",
        doc="Start of the window as UTC of a standard-time day: 14:30 is 09:30 in New York, the opening bell. With ET, "
        "as in 09:50 ET, it is New York time, whatever TIME_ANCHOR says.",
    )
    analysis_minutes: int = setting(
        "{NAME}_ANALYSIS_TIME",
        minutes(),
        default="20",
        doc="Analysis phase: minutes from the start of the window without entries.",
    )
    breakout_minutes: int = setting(
        "{NAME}_BREAKOUT_TIME",
        minutes(least=1),
        default="10",
        doc="Entry phase: minutes after the analysis in which a bar may trigger an entry.",
        permits=Permits("larger"),
    )
    monitoring_minutes: int = setting(
        "{NAME}_MONITORING_TIME",
        minutes(least=1),
        default="30",
        doc="Minutes for which a position is managed, counted from the end of the entry phase or from its own entry, "
        "depending on the strategy.",
        permits=Permits("larger"),
    )
    short_type: str = setting(
        "SHORT_TYPE_{NAME}",
        choice("InverseETF", "ShortSell", "LongPut", "disabled"),
        default="disabled",
        doc="How the strategy goes short.",
        permits=Permits("unless", ("disabled",), why="The strategy may go short, or in another way."),
    )
    max_gap_pct: Decimal = setting(
        "MAX_GAP_PCT_{NAME}",
        fraction(most="10"),
        default="0.1",
        doc="Largest move at which the strategy enters, up or down, as a fraction: the move since today's open, or "
        "that which GAP_REFERENCE names.",
        permits=Permits("larger"),
    )
    min_market_cap: Decimal | None = setting(
        "MIN_MARKET_CAP_{NAME}",
        optional(money(), zero=True, absent="0 or empty for none"),
        default="",
        doc="Smallest market capitalisation of a candidate in USD; 0 or empty for no limit.",
        permits=Permits("smaller", ("",)),
    )
    max_market_cap: Decimal | None = setting(
        "MAX_MARKET_CAP_{NAME}",
        optional(money(), zero=True, absent="0 or empty for none"),
        default="",
        doc="Largest market capitalisation of a candidate in USD; 0 or empty for no limit.",
        permits=Permits("larger", ("",)),
    )


def calendar_of(trading: TradingSettings) -> ExchangeCalendar:
    """The exchange calendar, reduced by TRADING_DAYS and CALENDAR_OVERRIDES."""
    return ExchangeCalendar(weekdays=frozenset(trading.trading_days), overrides=dict(trading.calendar_overrides))
