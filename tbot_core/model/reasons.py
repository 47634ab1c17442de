"""The reason codes: every candidate and every signal ends in exactly one of them."""

from __future__ import annotations

from enum import IntEnum, unique
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


@unique
class Reason(IntEnum):
    """Why a candidate or a signal was allowed or denied; `sentence` says it in words.

    Values are stable. 1 to 29 are known before the bell, 30 to 59 at the signal, 60 to 69 come from sizing,
    70 to 99 from the risk gate; from 100 on they say what became of an order.
    """

    sentence: str

    def __new__(cls, value: int, sentence: str) -> Self:
        """A member with its explanation."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member

    ALLOWED = 0, "Every check passed; an order was written down."

    NO_TRIGGER = 1, "The window ended without the strategy's trigger."
    WINDOW_OUTSIDE_SESSION = 2, "The window's entry phase does not end before flattening starts, so it is skipped."
    BLOCKLISTED = 3, "The symbol stands on BLOCKLIST."
    UNIVERSE_TRUNCATED = 4, "The universe was cut to UNIVERSE_MAX, or to what the feed allows, by 20-day dollar volume."
    VOLUME_LOW = 5, "Mean daily volume lies under MIN_VOLUME_THRESHOLD."
    VOLUME_UNKNOWN = 6, "Fewer than 5 complete previous sessions are known, so mean daily volume is unknown."
    MARKET_CAP_LOW = 7, "Market capitalisation lies under MIN_MARKET_CAP of the strategy."
    MARKET_CAP_HIGH = 8, "Market capitalisation lies above MAX_MARKET_CAP of the strategy."
    MARKET_CAP_UNKNOWN = 9, "Market capitalisation is unknown."
    VIX_LOW = 10, "The previous session's VIX close lies under the strategy's threshold."
    VIX_UNKNOWN = 11, "The previous session's VIX close is unknown."
    SCREEN_DENIED = 12, "A filter plugin denied the symbol before the bell, in its own words."
    SCREEN_UNKNOWN = 13, "A filter plugin lacks data on the symbol before the bell."
    SCREEN_FAILED = 14, "A plugin failed before the bell, so the symbol was not judged; unknown means deny."

    PRICE_LOW = 30, "The signal bar's close lies under MIN_PRICE."
    PRICE_HIGH = 31, "The signal bar's close lies above MAX_PRICE."
    GAP_LARGE = 32, "The gap is larger than MAX_GAP_PCT of the strategy."
    GAP_UNKNOWN = 33, "The gap's reference price is unknown."
    NO_QUOTE = 34, "No fresh two-sided quote stands for the symbol."
    SPREAD_WIDE = 35, "The spread is wider than MAX_SPREAD_PCT."
    REL_VOLUME_LOW = 36, "Volume so far, relative to the same minutes of previous sessions, lies under MIN_REL_VOLUME."
    REL_VOLUME_UNKNOWN = 37, "Volume of the same minutes of previous sessions is unknown."
    FILTER_DENIED = 38, "A filter plugin denied the signal, in its own words."
    FILTER_UNKNOWN = 39, "A filter plugin lacks data on the signal."
    FILTER_FAILED = 40, "A filter plugin failed, so the signal was not judged; unknown means deny."
    SIGNAL_TOO_LATE = 41, "The signal's bar is no longer the latest closed one."
    SHORT_DISABLED = 42, "SHORT_TYPE of the strategy is disabled."
    SHORT_RESTRICTED = 43, "A low at or under 0.9 x previous close, today or yesterday, restricts short sales."
    SHORT_BY_FUND_UNAVAILABLE = 44, "SHORT_TYPE InverseETF needs a table of inverse funds, which is not installed."
    SHORT_BY_PUT_UNAVAILABLE = 45, "SHORT_TYPE LongPut needs an options filter, which is not installed."
    CONFIRMATION_EXPIRED = 46, "Nobody confirmed the entry within CONFIRMATION_TIMEOUT."
    CONFIRMATION_REJECTED = 47, "A person rejected the entry."
    CONFIRMED_TOO_LATE = 48, "When the entry was confirmed, the price lay beyond the signal's stop or target."
    DATA_STALE = 49, "Neither a bar nor a quote of the symbol came for three minutes, while the feed lives."
    SYMBOL_HALTED = 50, "The symbol is halted, or two full bars since its resumption are not there yet."
    MARKET_HALTED = 51, "The whole market is halted, or reopened less than five minutes ago."
    ANALYSIS_INCOMPLETE = 52, "A minute of the window's analysis was lost by the feed, and back-fill left it open."
    MARK_STALE = 53, "The price of a held position is older than two minutes; nothing is entered meanwhile."
    FEEDS_APART = 54, "The feed's price and the broker's lie too far apart."
    TOP_UP_LOSING = 55, "The price lies on the losing side of the position's entry, so it is not topped up."
    TOP_UP_NEAR_EXIT = 56, "Less than a quarter of the way to the position's exit is left, so it is not topped up."
    TOP_UP_UNCONFIRMED = 57, "TRADE_CONFIRMATION_REQUIRED is true, and nobody is asked about a top-up."
    RULES_UNKNOWN = 58, "The broker refused an order of the symbol as off its grid, and has not told its rules since."
    NOT_SHORTABLE = 59, "The broker says that the symbol cannot be sold short."

    QUANTITY_TOO_SMALL = 60, "The budget buys less than the smallest quantity."
    NO_WEIGHT = 61, "WEIGHTS gives this order of the window no budget."
    FRACTION_UNPROTECTED = 62, "Its stop could not rest for less than a share, and FRACTIONAL_UNPROTECTED is false."

    TRADING_DISABLED = 70, "DISABLE_ALL_TRADES is true."
    HALTED = 71, "The bot is halted."
    EXIT_ONLY = 72, "The bot only exits."
    DAILY_LOSS = 73, "The session's loss reached DAILY_LOSS_LIMIT; no entries to the session's end."
    WINDOW_LOSS = 74, "The window's loss reached WINDOW_LOSS_LIMIT."
    CONSECUTIVE_LOSSES = 75, "MAX_CONSECUTIVE_LOSSES losing trades came in a row; no entries to the session's end."
    FLATTENING = 76, "Flattening before the close has started."
    ALREADY_HELD = 77, "The symbol is held or being worked."
    SYMBOL_TRADED = 78, "The symbol has been traded today, and ONE_TRADE_PER_SYMBOL_PER_DAY is true."
    NOT_ARMED = 79, "Live trading is not armed."
    MAX_TRADES = 80, "MAX_TRADES orders of the window have been sent."
    MAX_OPEN_POSITIONS = 81, "MAX_OPEN_POSITIONS positions are held or being worked."
    PRICE_BAND = 82, "The limit lies further from the last trade than PRICE_BAND_PCT."
    TRADE_NOTIONAL = 83, "The order's worst case is above MAX_RISK_PER_TRADE of equity."
    ORDER_NOTIONAL = 84, "The order's worst case is above MAX_ORDER_NOTIONAL."
    SYMBOL_EXPOSURE = 85, "The symbol's worst case is above MAX_SYMBOL_EXPOSURE of equity."
    INDEX_EXPOSURE = 86, "The index's net worst case is above MAX_INDEX_EXPOSURE of equity."
    GROSS_EXPOSURE = 87, "The worst case of all positions and orders is above MAX_GROSS_EXPOSURE of equity."
    ORDER_RATE = 88, "MAX_ORDERS_PER_MINUTE entries were sent in this minute."
    BUYING_POWER = 89, "The worst case of all working entries is above the buying power."
    RISK_CHECK_DENIED = 90, "A plugin's risk check denied the order, in its own words."
    RISK_CHECK_FAILED = 91, "A plugin's risk check failed, or answered neither None nor a sentence; unknown means deny."

    CASH_LONG_ONLY = 92, "Nothing is sold short in a cash account, nor in one whose kind the broker does not tell."
    UNSETTLED_CASH = 93, "The worst case of all working entries is above the settled cash of a cash account."
    DAY_TRADES = 94, "The entry's exit today would be more day trades than the account is allowed, or unknown how many."
    EQUITY_JUMP = 95, "The session opened with an equity that neither the last close nor moved cash explains."
    REDUCE_ONLY = 96, "The instrument's broker is not proven to answer, and the entry may not go to another one."

    INSTRUMENT_FROZEN = 97, "What the account holds of the symbol, or whether it is still traded, is not clear."

    DEFENSE = 98, "In defense no position is topped up."

    ENTRY_NOT_FILLED = 100, "The entry was sent and ended without a fill; it is never chased."


REASON_BY_CODE: Final[Mapping[int, Reason]] = {int(reason): reason for reason in Reason}
"""Each reason by its stable number."""


def table() -> str:
    """The codes in Markdown, one row each, for the reference."""
    rows = [f"| {int(reason)} | `{reason.name}` | {reason.sentence} |" for reason in Reason]
    return "\n".join(("| number | code | meaning |", "|---|---|---|", *rows))
