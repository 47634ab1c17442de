"""What is traded, by whom and when."""

from __future__ import annotations

from datetime import time
from decimal import Decimal

import attrs

from tbot_core.contracts.setting import (
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


@attrs.frozen(kw_only=True)
class TradingSettings:
    """Broker, data, strategies, symbols and days; the names of plugins are in lower case, symbols in upper case."""

    broker_name: str = setting(
        "BROKER_NAME",
        plugin_name("paper"),
        default="paper",
        doc="The broker plugin that orders go to, in any case; replay, demo, backtest and dry runs use the simulator "
        "instead.",
    )
    data_source: str = setting(
        "DATA_SOURCE",
        plugin_name("paper", empty=True),
        default="",
        doc="The plugin whose bars and quotes are used; empty is the one of BROKER_NAME.",
    )
    strategy_sequence: tuple[str, ...] = setting(
        "STRATEGY_SEQUENCE",
        names(case="lower"),
        default="",
        doc="The strategies that run, in order.",
    )
    strategy_override: str = setting(
        "STRATEGY_OVERRIDE",
        plugin_name("open", empty=True),
        default="",
        doc="The one strategy that runs alone; empty runs STRATEGY_SEQUENCE.",
    )
    universe: tuple[str, ...] = setting(
        "UNIVERSE",
        names(case="upper"),
        default="",
        doc="The symbols that are traded; empty takes every symbol that the source has, or the screener's.",
    )
    universe_max: int = setting(
        "UNIVERSE_MAX",
        integer(least=1, most=20_000),
        default="500",
        doc="The largest number of symbols; more are cut by 20-day dollar volume.",
    )
    blocklist: tuple[str, ...] = setting(
        "BLOCKLIST",
        names(case="upper"),
        default="",
        doc="Symbols that are never entered.",
    )
    filters: tuple[str, ...] = setting(
        "FILTERS",
        names(case="lower"),
        default="",
        doc="The filter plugins in order; empty is price_volume and each filter whose switch is on; the word none is "
        "no filter.",
    )
    filter_missing_data: str = setting(
        "FILTER_MISSING_DATA",
        choice("reject", "pass"),
        default="reject",
        doc="What a filter does with a signal that it lacks data for.",
    )
    vix_source: str = setting(
        "VIX_SOURCE",
        choice("previous_close", "live"),
        default="previous_close",
        doc="Which value of the VIX strategies see; live is that of the minute in which a window's entries begin, and "
        "holds for live trading only.",
    )
    gap_reference: str = setting(
        "GAP_REFERENCE",
        choice("current", "previous_close"),
        default="current",
        doc="The gap is the last price against today's open, or with previous_close today's open against that.",
    )
    extensions: tuple[str, ...] = setting(
        "EXTENSIONS",
        names(case="lower"),
        default="",
        doc="The extension plugins that are enabled; empty is all that are installed; the word none is none.",
        file=".env",
    )
    trading_days: tuple[int, ...] = setting(
        "TRADING_DAYS",
        weekdays(),
        default="mon,tue,wed,thu,fri",
        doc="Days of the week on which the bot trades, on top of the exchange's calendar.",
    )
    calendar_overrides: Overrides = setting(
        "CALENDAR_OVERRIDES",
        calendar_overrides(),
        default="",
        doc="Days on which the exchange is closed, or closes early, and the calendar does not know it; the shorter "
        "session wins, so nothing can be added.",
    )
    sleep_time: float = setting(
        "SLEEP_TIME",
        duration(least="50ms", most="60s"),
        default="1s",
        doc="Time between two polls of a broker that has no stream; fills are known there, and stops placed, so much "
        "later.",
        changes_trades=False,
    )
    bar_grace: float = setting(
        "BAR_GRACE",
        duration(least="0s", most="30s"),
        default="2s",
        doc="Time after a minute's end for which its late bars are waited for.",
    )
    time_anchor: str = setting(
        "TIME_ANCHOR",
        choice("exchange", "utc"),
        default="exchange",
        doc="Exchange keeps each window's distance to the opening bell all year; utc takes START_TIME literally.",
    )
    api_retry_limit: int = setting(
        "API_RETRY_LIMIT",
        integer(least=0, most=20),
        default="3",
        doc="How often a failed read or cancel at the broker is tried again; an order is never blindly sent again.",
        changes_trades=False,
    )
    api_timeout: float = setting(
        "API_TIMEOUT",
        duration(least="1s", most="10m", bare="s"),
        default="30",
        doc="Seconds after which a request to the broker is given up.",
        changes_trades=False,
        acted_on=False,
    )


@attrs.frozen(kw_only=True)
class StrategySettings:
    """What the core reads for the strategy NAME; `{NAME}` in a variable stands for its name in upper case."""

    enabled: bool = setting(
        "STRAT_{NAME}_ENABLED",
        boolean(),
        default="true",
        doc="Whether the strategy runs.",
    )
    start_time: time = setting(
        "START_TIME_{NAME}",
        clock_time(),
        default="14:30",
        doc="Start of the window as UTC of a standard-time day: 14:30 is 09:30 in New York, the opening bell.",
    )
    analysis_minutes: int = setting(
        "{NAME}_ANALYSIS_TIME",
        minutes(),
        default="20",
        doc="Minutes from the window's start that are only watched.",
    )
    breakout_minutes: int = setting(
        "{NAME}_BREAKOUT_TIME",
        minutes(least=1),
        default="10",
        doc="Minutes after the analysis in which a bar may trigger an entry.",
    )
    monitoring_minutes: int = setting(
        "{NAME}_MONITORING_TIME",
        minutes(least=1),
        default="30",
        doc="Minutes that a position is managed, from the breakout phase's end or its own entry, as the strategy says.",
    )
    short_type: str = setting(
        "SHORT_TYPE_{NAME}",
        choice("InverseETF", "ShortSell", "LongPut", "disabled"),
        default="disabled",
        doc="How the strategy goes short.",
    )
    max_gap_pct: Decimal = setting(
        "MAX_GAP_PCT_{NAME}",
        fraction(most="10"),
        default="0.1",
        doc="Largest gap of a candidate, as a fraction of the price that GAP_REFERENCE names.",
    )
    min_market_cap: Decimal | None = setting(
        "MIN_MARKET_CAP_{NAME}",
        optional(money(), zero=True, absent="0 or empty for none"),
        default="",
        doc="Smallest market capitalisation of a candidate in USD; 0 or empty is none.",
    )
    max_market_cap: Decimal | None = setting(
        "MAX_MARKET_CAP_{NAME}",
        optional(money(), zero=True, absent="0 or empty for none"),
        default="",
        doc="Largest market capitalisation of a candidate in USD; 0 or empty is none.",
    )
