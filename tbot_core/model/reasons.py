"""The reason codes: every candidate and every signal ends with exactly one."""

from __future__ import annotations

import re
from enum import IntEnum, unique
from typing import TYPE_CHECKING, Final, Self

import attrs

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence


@attrs.frozen(kw_only=True)
class Remedy:
    """What changes a denial: settings, data to import, or what a command does; else why nothing does (`final`).

    In a setting `{NAME}` stands for the name of a strategy, in a command `{home}` for the option --home.
    """

    settings: tuple[str, ...] = ()
    data: str = ""
    command: str = ""
    final: str = ""

    @property
    def text(self) -> str:
        """The remedy for the reference; `{NAME}` stands for the name of a strategy."""
        data = [f"import {self.data}"] if self.data else []
        named = [f"`{one}`" for one in self.settings]
        return " or ".join([*data, ", ".join(named)] if named else data) or self.command.format(home="") or self.final


def _by(*settings: str) -> Remedy:
    return Remedy(settings=settings)


def _with(data: str, *settings: str) -> Remedy:
    return Remedy(data=data, settings=settings)


def _run(command: str) -> Remedy:
    return Remedy(command=command)


def _never(final: str) -> Remedy:
    return Remedy(final=final)


_CAPS: Final = ("MAX_RISK_PER_TRADE", "FIRST_LIVE_DAY_MAX_ORDER_NOTIONAL")
_VARIABLE: Final = r"\b[A-Z]+_[A-Z_]+(?:\{NAME\})?|\bBLOCKLIST\b|\bWEIGHTS\b"
"""A setting in a sentence: two of them are one word, the others have an underscore."""


@unique
class Reason(IntEnum):
    """Why a candidate or a signal was allowed or denied; `sentence` is the text, `remedy` what changes it.

    In a sentence `{NAME}` stands for the name of a strategy. Values are stable. 1 to 29 are known before the open, 30
    to 59 at the signal, 60 to 69 come from sizing, 70 to 99 from the risk gate, and from 100 on they describe the
    result of an order.
    """

    sentence: str
    remedy: Remedy

    def __new__(cls, value: int, sentence: str, remedy: Remedy) -> Self:
        """A member with its explanation and its remedy."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        member.remedy = remedy
        return member

    @property
    def is_before_sizing(self) -> bool:
        """Whether it denies a signal before it is sized or compared with a limit."""
        return Reason.ALLOWED < self < Reason.QUANTITY_TOO_SMALL

    @property
    def setting(self) -> str:
        """The first setting that its sentence names; "" if it names none."""
        return next(iter(re.findall(_VARIABLE, self.sentence)), "")

    def sentence_for(self, strategies: Iterable[str]) -> str:
        """The sentence with `{NAME}` replaced: each of its variables is named for each of the strategies."""
        names = tuple(strategies)
        return re.sub(_VARIABLE, lambda found: " or ".join(_named(found.group(), names)), self.sentence)

    def variables_for(self, strategies: Iterable[str], known: Container[str] | None = None) -> tuple[str, ...]:
        """The settings that change it, those of each strategy for each of the strategies.

        With `known` only these: a strategy need not have each of the settings.
        """
        names = tuple(strategies)
        found = (name for one in self.remedy.settings for name in _named(one, names))
        return tuple(name for name in found if known is None or name in known)

    ALLOWED = (0, "Every check passed; an order intent was journaled.", _never("It is no denial."))

    NO_TRIGGER = (
        1,
        "The window ended without the strategy's trigger.",
        _never("The prices did not reach the trigger that the strategy's own settings define."),
    )
    WINDOW_OUTSIDE_SESSION = (
        2,
        "The window begins before the bell, or its entry phase would end after flattening starts, so it is skipped.",
        _by("START_TIME_{NAME}", "{NAME}_ANALYSIS_TIME", "{NAME}_BREAKOUT_TIME", "FLATTEN_BEFORE_CLOSE"),
    )
    BLOCKLISTED = (3, "The symbol is on BLOCKLIST.", _by("BLOCKLIST"))
    UNIVERSE_TRUNCATED = (
        4,
        "The universe was cut to UNIVERSE_MAX, or to what the feed allows, by 20-day dollar volume.",
        _by("UNIVERSE_MAX", "UNIVERSE"),
    )
    VOLUME_LOW = (5, "Mean daily volume is below MIN_VOLUME_THRESHOLD.", _by("MIN_VOLUME_THRESHOLD"))
    VOLUME_UNKNOWN = (
        6,
        (
            "Fewer than 5 complete previous sessions are known, so mean daily volume is unknown, and "
            "FILTER_MISSING_DATA is reject."
        ),
        _with("earlier sessions", "FILTER_MISSING_DATA"),
    )
    MARKET_CAP_LOW = (7, "Market capitalisation is below MIN_MARKET_CAP_{NAME}.", _by("MIN_MARKET_CAP_{NAME}"))
    MARKET_CAP_HIGH = (8, "Market capitalisation is above MAX_MARKET_CAP_{NAME}.", _by("MAX_MARKET_CAP_{NAME}"))
    MARKET_CAP_UNKNOWN = (
        9,
        "Market capitalisation is unknown, and FILTER_MISSING_DATA is reject.",
        _with("fundamentals", "FILTER_MISSING_DATA"),
    )
    VIX_LOW = (
        10,
        "The previous session's VIX close is below the strategy's threshold.",
        _by("STRAT_{NAME}_VIX_THRESHOLD"),
    )
    VIX_UNKNOWN = (11, "The previous session's VIX close is unknown.", _with("the daily VIX"))
    SCREEN_DENIED = (12, "A filter plugin denied the symbol before the bell, with its own reason.", _by("FILTERS"))
    SCREEN_UNKNOWN = (
        13,
        "A filter plugin lacks data on the symbol before the bell.",
        _by("FILTER_MISSING_DATA", "FILTERS"),
    )
    SCREEN_FAILED = (
        14,
        "A plugin failed before the bell, so the symbol was not checked; unknown means deny.",
        _run("`tbot plugins list{home}` shows why the plugin failed"),
    )
    WATCH_ONLY = (
        15,
        "The symbol is watched, but not traded: it is on WATCH_ONLY, or SPY, QQQ or IWM outside UNIVERSE.",
        _by("WATCH_ONLY", "UNIVERSE"),
    )
    PRICE_UNKNOWN = (
        16,
        "The stored bars are adjusted, so the price of that day is unknown, and FILTER_MISSING_DATA is reject.",
        _with("raw bars", "FILTER_MISSING_DATA"),
    )

    PRICE_LOW = (30, "The signal bar's close is below MIN_PRICE.", _by("MIN_PRICE"))
    PRICE_HIGH = (31, "The signal bar's close is above MAX_PRICE.", _by("MAX_PRICE"))
    GAP_LARGE = (
        32,
        "The move since today's open, or that which GAP_REFERENCE names, is larger than MAX_GAP_PCT_{NAME}.",
        _by("MAX_GAP_PCT_{NAME}", "GAP_REFERENCE"),
    )
    GAP_UNKNOWN = (
        33,
        "The price from which the move is measured is unknown, and FILTER_MISSING_DATA is reject.",
        _with("the session before", "FILTER_MISSING_DATA"),
    )
    NO_QUOTE = (34, "The symbol has no fresh two-sided quote.", _by("DATA_SOURCE"))
    SPREAD_WIDE = (35, "The spread is wider than MAX_SPREAD_PCT.", _by("MAX_SPREAD_PCT"))
    REL_VOLUME_LOW = (
        36,
        "Volume of the session up to now, relative to the same minutes of previous sessions, is below MIN_REL_VOLUME.",
        _by("MIN_REL_VOLUME"),
    )
    REL_VOLUME_UNKNOWN = (
        37,
        "Volume of the same minutes of previous sessions is unknown, and FILTER_MISSING_DATA is reject.",
        _with("earlier sessions", "FILTER_MISSING_DATA"),
    )
    FILTER_DENIED = (38, "A filter plugin denied the signal, with its own reason.", _by("FILTERS"))
    FILTER_UNKNOWN = (39, "A filter plugin lacks data on the signal.", _by("FILTER_MISSING_DATA", "FILTERS"))
    FILTER_FAILED = (
        40,
        "A filter plugin failed, so the signal was not checked; unknown means deny.",
        _run("`tbot plugins list{home}` shows why the plugin failed"),
    )
    SIGNAL_TOO_LATE = (
        41,
        "The signal's bar is no longer the latest closed one.",
        _never("The bot was started, or its data came, after the signal's minute."),
    )
    SHORT_DISABLED = (42, "SHORT_TYPE_{NAME} is disabled.", _by("SHORT_TYPE_{NAME}"))
    SHORT_RESTRICTED = (
        43,
        "A low at or under 0.9 x previous close, today or yesterday, restricts short sales.",
        _never("The rule is the exchanges' own (Rule 201 of Regulation SHO)."),
    )
    SHORT_BY_FUND_UNAVAILABLE = (
        44,
        "SHORT_TYPE_{NAME}=InverseETF needs a table of inverse funds; none is installed.",
        _by("SHORT_TYPE_{NAME}"),
    )
    SHORT_BY_PUT_UNAVAILABLE = (
        45,
        "SHORT_TYPE_{NAME}=LongPut: options are not traded yet.",
        _by("SHORT_TYPE_{NAME}"),
    )
    CONFIRMATION_EXPIRED = (
        46,
        "The entry was not confirmed within CONFIRMATION_TIMEOUT.",
        _by("CONFIRMATION_TIMEOUT", "TRADE_CONFIRMATION_REQUIRED"),
    )
    CONFIRMATION_REJECTED = (47, "A person rejected the entry.", _by("TRADE_CONFIRMATION_REQUIRED"))
    CONFIRMED_TOO_LATE = (
        48,
        "When the entry was confirmed, the price was beyond the signal's stop or target.",
        _by("CONFIRMATION_TIMEOUT", "TRADE_CONFIRMATION_REQUIRED"),
    )
    DATA_STALE = (
        49,
        "The feed is alive, but the symbol had neither a bar nor a quote for three minutes.",
        _by("DATA_SOURCE"),
    )
    SYMBOL_HALTED = (
        50,
        "The symbol is halted, or has fewer than two full bars since it resumed.",
        _never("The exchange halted the symbol."),
    )
    MARKET_HALTED = (
        51,
        "The whole market is halted, or reopened less than five minutes ago.",
        _never("The exchanges halted the market."),
    )
    ANALYSIS_INCOMPLETE = (
        52,
        "The feed lost a minute of the window's analysis, and the backfill did not return it.",
        _by("DATA_SOURCE"),
    )
    MARK_STALE = (
        53,
        "The price of a held position is older than two minutes; entries are blocked until it is newer.",
        _by("DATA_SOURCE"),
    )
    FEEDS_APART = (54, "The prices of the feed and of the broker differ by too much.", _by("DATA_SOURCE"))
    TOP_UP_LOSING = (
        55,
        "The price is on the losing side of the position's entry, so the position is not topped up.",
        _never("Top-ups are only for positions that gain."),
    )
    TOP_UP_NEAR_EXIT = (
        56,
        "Less than a quarter of the distance to the position's exit is left, so the position is not topped up.",
        _never("Top-ups are only for positions that are not near their exit."),
    )
    TOP_UP_UNCONFIRMED = (
        57,
        "TRADE_CONFIRMATION_REQUIRED is true, and top-ups cannot be confirmed.",
        _by("TRADE_CONFIRMATION_REQUIRED", "REBALANCE_TOP_UP"),
    )
    RULES_UNKNOWN = (
        58,
        (
            "The broker rejected an order of the symbol as off its price or size grid, and has not reported the rules "
            "since."
        ),
        _never("The broker has to report its rules for the symbol first."),
    )
    NOT_SHORTABLE = (59, "The broker does not report that the symbol can be sold short.", _by("SHORT_TYPE_{NAME}"))

    QUANTITY_TOO_SMALL = (
        60,
        "The budget buys less than the smallest quantity.",
        _by("TOTAL_ALLOCATION", "WEIGHTS", *_CAPS, "FRACTIONAL", "PAPER_CASH"),
    )
    NO_WEIGHT = (61, "WEIGHTS gives no budget to this order of the window.", _by("WEIGHTS"))
    FRACTION_UNPROTECTED = (
        62,
        "The broker accepts no stop for less than one share, and FRACTIONAL_UNPROTECTED is false.",
        _by("FRACTIONAL_UNPROTECTED", "FRACTIONAL"),
    )

    TRADING_DISABLED = (70, "DISABLE_ALL_TRADES is true.", _by("DISABLE_ALL_TRADES"))
    HALTED = (71, "The bot is halted.", _run("`tbot kill --clear{home}` ends the halt"))
    EXIT_ONLY = (72, "The bot is in exit-only state.", _run("`tbot status{home}` names the causes"))
    DAILY_LOSS = (
        73,
        "The session's loss reached DAILY_LOSS_LIMIT; no entries until the end of the session.",
        _by("DAILY_LOSS_LIMIT"),
    )
    WINDOW_LOSS = (74, "The window's loss reached WINDOW_LOSS_LIMIT.", _by("WINDOW_LOSS_LIMIT"))
    CONSECUTIVE_LOSSES = (
        75,
        "MAX_CONSECUTIVE_LOSSES trades in a row lost; no entries until the end of the session.",
        _by("MAX_CONSECUTIVE_LOSSES"),
    )
    FLATTENING = (76, "Flattening before the close has started.", _by("FLATTEN_BEFORE_CLOSE"))
    ALREADY_HELD = (77, "The symbol has a position or a working order.", _never("A symbol has one position at a time."))
    SYMBOL_TRADED = (
        78,
        "The symbol has been traded today, and ONE_TRADE_PER_SYMBOL_PER_DAY is true.",
        _by("ONE_TRADE_PER_SYMBOL_PER_DAY"),
    )
    NOT_ARMED = (79, "Live trading is not armed.", _run("`tbot arm{home}` allows live entries"))
    MAX_TRADES = (80, "The window has had as many orders as MAX_TRADES allows.", _by("MAX_TRADES", "WEIGHTS"))
    MAX_OPEN_POSITIONS = (81, "MAX_OPEN_POSITIONS positions and working entries are open.", _by("MAX_OPEN_POSITIONS"))
    PRICE_BAND = (
        82,
        "The limit price is further from the last trade than PRICE_BAND_PCT.",
        _by("PRICE_BAND_PCT", "ENTRY_LIMIT_PCT"),
    )
    TRADE_NOTIONAL = (83, "The order's worst case is above MAX_RISK_PER_TRADE of equity.", _by("MAX_RISK_PER_TRADE"))
    ORDER_NOTIONAL = (84, "The order's worst case is above MAX_ORDER_NOTIONAL.", _by("MAX_ORDER_NOTIONAL"))
    SYMBOL_EXPOSURE = (
        85,
        "The symbol's worst case is above MAX_SYMBOL_EXPOSURE of equity.",
        _by("MAX_SYMBOL_EXPOSURE"),
    )
    INDEX_EXPOSURE = (
        86,
        "The index's net worst case is above MAX_INDEX_EXPOSURE of equity.",
        _by("MAX_INDEX_EXPOSURE"),
    )
    GROSS_EXPOSURE = (
        87,
        "The worst case of all positions and orders is above MAX_GROSS_EXPOSURE of equity.",
        _by("MAX_GROSS_EXPOSURE"),
    )
    ORDER_RATE = (88, "MAX_ORDERS_PER_MINUTE entries were sent in this minute.", _by("MAX_ORDERS_PER_MINUTE"))
    BUYING_POWER = (
        89,
        "The worst case of all working entries is above the buying power.",
        _by("MAX_LEVERAGE", "TOTAL_ALLOCATION"),
    )
    RISK_CHECK_DENIED = (90, "A plugin's risk check denied the order, with its own reason.", _by("EXTENSIONS"))
    RISK_CHECK_FAILED = (
        91,
        "A plugin's risk check failed, or returned neither None nor a sentence; unknown means deny.",
        _run("`tbot plugins list{home}` shows why the plugin failed"),
    )

    CASH_LONG_ONLY = (
        92,
        "Short sales are not possible in a cash account, nor in an account whose type the broker does not report.",
        _by("SHORT_TYPE_{NAME}"),
    )
    UNSETTLED_CASH = (
        93,
        "The worst case of all working entries is above the settled cash of a cash account.",
        _by("TOTAL_ALLOCATION"),
    )
    DAY_TRADES = (
        94,
        "Closing the entry today would exceed the account's day trade limit, or the number of day trades is unknown.",
        _never("The rule is the broker's own."),
    )
    EQUITY_JUMP = (
        95,
        "The equity at the open is explained neither by the last close nor by cash transfers.",
        _never("The next session is compared with the present equity."),
    )
    REDUCE_ONLY = (
        96,
        "The instrument's broker is not proven to respond, and the entry may not go to another broker.",
        _run("`tbot failover status{home}` shows what is missing"),
    )

    INSTRUMENT_FROZEN = (
        97,
        "It is unclear what the account holds of the symbol, or whether the symbol is still traded.",
        _run("`tbot status{home}` names the frozen symbols and why"),
    )

    DEFENSE = (98, "Positions are not topped up in defense.", _run("`tbot defense status{home}` names the causes"))

    SHORTING_NOT_ALLOWED = (99, "The broker does not allow the account to sell short.", _by("SHORT_TYPE_{NAME}"))

    ENTRY_NOT_FILLED = (
        100,
        "The entry order ended without a fill; entries are never chased.",
        _by("ENTRY_LIMIT_PCT", "ENTRY_TTL"),
    )


def _named(variable: str, strategies: Sequence[str]) -> tuple[str, ...]:
    # The variable of each strategy; unchanged where it belongs to none, or none is given.
    if "{NAME}" not in variable or not strategies:
        return (variable,)
    return tuple(variable.replace("{NAME}", name.upper()) for name in strategies)


CONFIRMED: Final = "the confirmed quantity"
"""What decided a quantity: a person has confirmed it, and now more would be possible."""

REASON_BY_CODE: Final[Mapping[int, Reason]] = {int(reason): reason for reason in Reason}
"""Each reason by its stable number."""


def most_frequent(counts: Mapping[str, int]) -> str:
    """The name that was counted most often, the first one by name of several."""
    return min(counts, key=lambda name: (-counts[name], name))
