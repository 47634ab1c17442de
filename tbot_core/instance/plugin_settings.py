"""The variables that belong to plugins, as the core knows them: so a file loads, and is checked, without its plugins.

A plugin's own declaration takes precedence where the plugin is installed.
"""

from __future__ import annotations

from decimal import Decimal

import attrs

from tbot_core.contracts.setting import Declared, boolean, choice, fraction, integer, number, optional, path, setting


@attrs.frozen(kw_only=True)
class _Open:
    buffer: Decimal = setting(
        "STRAT_OPEN_BUFFER",
        fraction(),
        default="0.02",
        doc="Distance of the trigger beyond the opening range, as a fraction of the range's high or low.",
    )


@attrs.frozen(kw_only=True)
class _Mid:
    threshold: Decimal = setting(
        "STRAT_MID_VWAP_THRESHOLD",
        fraction(),
        default="0.02",
        doc="Distance of the trigger from VWAP, as a fraction of VWAP.",
    )


@attrs.frozen(kw_only=True)
class _Close:
    vix_threshold: float = setting(
        "STRAT_CLOSE_VIX_THRESHOLD",
        number(least=0, most=1000),
        default="15",
        doc="Lowest VIX, in points, at which the strategy enters.",
    )
    buffer: Decimal = setting(
        "CLOSE_BUFFER",
        fraction(),
        default="0",
        doc="Distance of the trigger beyond the session's range, as a fraction of its high or low.",
    )
    min_range_pct: Decimal = setting(
        "CLOSE_MIN_RANGE_PCT",
        fraction(),
        default="0.01",
        doc="Smallest range of the session so far, as a fraction of its open.",
    )
    fade_pct: Decimal = setting(
        "CLOSE_FADE_PCT",
        fraction(),
        default="0.05",
        doc="Return of the session, as a fraction of its open, beyond which a turn is traded.",
    )


@attrs.frozen(kw_only=True)
class _PriceVolume:
    min_price: float = setting(
        "MIN_PRICE",
        number(least=0, most=1_000_000),
        default="1",
        doc="Lowest close of the signal bar in USD, raw prices.",
    )
    max_price: float | None = setting(
        "MAX_PRICE",
        optional(number(least=0, most=1_000_000), zero=True, absent="0 or empty for none"),
        default="",
        doc="Highest close of the signal bar in USD, raw prices; 0 or empty is none.",
    )
    min_volume_threshold: int = setting(
        "MIN_VOLUME_THRESHOLD",
        integer(least=0, most=10**12),
        default="0",
        doc="Smallest mean regular-session volume of up to 20 previous sessions, in shares (0 = off).",
    )
    min_rel_volume: float = setting(
        "MIN_REL_VOLUME",
        number(least=0, most=1000),
        default="0",
        doc="Smallest volume so far against the mean of the same minutes of previous sessions (0 = off).",
    )


@attrs.frozen(kw_only=True)
class _Finnhub:
    enable: bool = setting(
        "ENABLE_FUNNHUB_FUNDAMENTALS_FILTER",
        boolean(),
        default="false",
        doc="Whether fundamentals are judged.",
        aliases=("ENABLE_FINNHUB_FUNDAMENTALS_FILTER",),
    )
    max_pe_ratio: float = setting(
        "MAX_PE_RATIO", number(least=0), default="50", doc="Largest ratio of price to earnings."
    )
    max_debt_equity: float = setting(
        "MAX_DEBT_EQUITY", number(least=0), default="2.5", doc="Largest ratio of debt to equity."
    )


@attrs.frozen(kw_only=True)
class _BlackScholes:
    enable: bool = setting("ENABLE_BSM_FILTER", boolean(), default="false", doc="Whether options' prices are judged.")
    max_deviation: Decimal = setting(
        "MAX_BSM_DEVIATION",
        fraction(most="10"),
        default="0.15",
        doc="Largest deviation of an option's price from the model's, as a fraction of that.",
    )
    risk_free_rate: Decimal = setting(
        "RISK_FREE_RATE", fraction(least="-0.1"), default="0.045", doc="Continuous yearly rate as a fraction."
    )
    risk_free_rate_source: str = setting(
        "RISK_FREE_RATE_SOURCE",
        choice("static", "dynamic"),
        default="static",
        doc="Static takes RISK_FREE_RATE, dynamic that of the identity's jurisdiction.",
    )
    exercise: str = setting(
        "BSM_EXERCISE", choice("american", "european"), default="american", doc="Exercise style of the model."
    )
    volatility: str = setting(
        "BSM_VOLATILITY",
        choice("realised", "chain"),
        default="realised",
        doc="Where the model's volatility comes from.",
    )


@attrs.frozen(kw_only=True)
class _Optimizer:
    enable: bool = setting(
        "ENABLE_STRATEGY_OPTIMIZER",
        boolean(),
        default="false",
        doc="Whether parameters may be tuned.",
        changes_trades=False,
    )
    lookback: int = setting(
        "OPTIMIZER_BACKTEST_LOOKBACK_DAYS",
        integer(least=1, most=5000),
        default="30",
        doc="Sessions back from the last stored one.",
        changes_trades=False,
    )
    algorithm: str = setting(
        "OPTIMIZER_ALGORITHM",
        choice("grid_search", "bayesian", "genetic"),
        default="grid_search",
        doc="How parameters are searched.",
        changes_trades=False,
    )
    output_dir: str = setting(
        "OPTIMIZER_OUTPUT_DIR",
        path(),
        default="backtest_results/strategy_tuning/",
        doc="Folder of the results.",
        changes_trades=False,
    )


@attrs.frozen(kw_only=True)
class _Web:
    rbac_enabled: bool = setting(
        "RBAC_ENABLED",
        boolean(),
        default="true",
        doc="Whether roles limit what users may do; false makes every account admin, on loopback only.",
        changes_trades=False,
    )
    default_user_role: str = setting(
        "DEFAULT_USER_ROLE",
        choice("viewer", "trader", "admin"),
        default="viewer",
        doc="Role of a new user.",
        changes_trades=False,
    )


OWNED = (
    Declared(kind="strategy", name="open", config=_Open),
    Declared(kind="strategy", name="mid", config=_Mid),
    Declared(kind="strategy", name="close", config=_Close),
    Declared(kind="filter", name="price_volume", config=_PriceVolume),
    Declared(kind="filter", name="finnhub", config=_Finnhub),
    Declared(kind="filter", name="black_scholes", config=_BlackScholes),
    Declared(kind="extension", name="optimizer", config=_Optimizer),
    Declared(kind="extension", name="web", config=_Web),
)
