"""Every error that tbot raises on purpose.

The tree::

    TbotError                     message and remedy; exit code 1 unless given below
    ├── UsageError           2    a command's arguments, dates or options are invalid
    ├── SettingsError        3    configuration: missing, unreadable or invalid
    ├── VaultError           3    a key or an encrypted file
    ├── PluginError          3    a plugin that is absent, broken, duplicate or incompatible
    ├── BrokerError          4    a broker or the connection to it
    │   ├── Rejected              the broker rejected the request
    │   │   └── LoginNeeded       the broker no longer accepts the key
    │   ├── Unavailable           nothing was sent
    │   │   └── Withdrawn         the send permit was revoked first
    │   ├── AccountRefused   3    the account is not one of the run's mode
    │   ├── FeedRefused           the account does not have the feed that the settings name
    │   └── OutcomeUnknown        sent, and its outcome is not known
    ├── Undelivered          4    an alert that a channel could not deliver
    │   └── PartlyDelivered       a channel delivered it to some recipients only
    ├── RiskError            5    refused by a risk rule, or not armed
    ├── DataError            1    bars and facts: missing or corrupt
    ├── JournalError         1    the journal: damaged, or written by a newer tbot
    └── AccessError          1    a folder, file or port that cannot be used, or a second instance
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import ClassVar, Final


class TbotError(Exception):
    """A failure in one sentence (`message`), and what to do about it (`remedy`)."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        """The message, followed by the remedy if there is one."""
        return f"{self.message} {self.remedy}".rstrip()


class UsageError(TbotError):
    """A command was called with invalid arguments, dates or options."""

    exit_code = 2


class SettingsError(TbotError):
    """The configuration is missing, unreadable or invalid; the message has one line per fault."""

    exit_code = 3


class VaultError(TbotError):
    """A key or an encrypted file is missing, readable by others or wrong; `code` is its code, as in TB-SEC-021."""

    exit_code = 3

    def __init__(self, message: str, remedy: str = "", *, code: str = "") -> None:
        super().__init__(message, remedy)
        self.code = code


class PluginError(TbotError):
    """A required plugin is missing, broken, duplicate or incompatible."""

    exit_code = 3


LONGEST_PAUSE_S: Final = 120.0
"""A longer pause that a broker asks for is not believed: the next refusal asks again."""

LONGEST_ALERT_PAUSE_S: Final = 3600.0
"""The same of an alert channel, whose pauses hold up no order."""


def bounded_pause(seconds: float | None, most: float = LONGEST_PAUSE_S) -> float | None:
    """The pause that a vendor asked for in seconds, 0 to `most`; None for NaN, 0 for one that has passed."""
    return None if seconds is None or math.isnan(seconds) else min(max(0.0, seconds), most)


class BrokerError(TbotError):
    """A broker, or the connection to it, failed; `retry_after_s` is the pause that the broker asked for, if any.

    It is bounded as `bounded_pause` does.
    """

    exit_code = 4

    def __init__(self, message: str, remedy: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message, remedy)
        self.retry_after_s = bounded_pause(retry_after_s)


class RejectionMeaning(StrEnum):
    """What a rejection means, where that decides what happens next; a plugin's parse decides it.

    `INSUFFICIENT_QUANTITY`: the account has fewer shares to sell, or another order holds them.
    `INSUFFICIENT_BUYING_POWER`: the account cannot pay for it. `WASH_TRADE`: an opposite order of the account works.
    `DUPLICATE_ID`: the client order id was used before. `OFF_GRID`: a price or quantity is off the instrument's current
    grid. `NOT_TRADABLE`: the instrument is no longer traded, at least under this name. `NOT_SHORTABLE`: it cannot be
    sold short now. `MARKET_CLOSED`: the venue accepts no such order at this time. `NOT_LOGGED_IN`: the key or the
    session is not accepted; a 403 with another reason has another meaning. `RATE_LIMITED`: there were too many
    requests, and this one was not processed. `UNKNOWN_ORDER`: the broker knows no such order. `RESTRICTED`: the account
    may not send such an order, since it may only liquidate, is blocked, or a day-trade rule forbids it.
    """

    INSUFFICIENT_QUANTITY = "insufficient_quantity"
    INSUFFICIENT_BUYING_POWER = "insufficient_buying_power"
    WASH_TRADE = "wash_trade"
    DUPLICATE_ID = "duplicate_id"
    OFF_GRID = "off_grid"
    NOT_TRADABLE = "not_tradable"
    NOT_SHORTABLE = "not_shortable"
    MARKET_CLOSED = "market_closed"
    NOT_LOGGED_IN = "not_logged_in"
    RATE_LIMITED = "rate_limited"
    UNKNOWN_ORDER = "unknown_order"
    RESTRICTED = "restricted"


class Rejected(BrokerError):
    """The broker rejected the request; the message quotes the broker. `meaning`: None if it only has to be reported."""

    def __init__(
        self,
        message: str,
        remedy: str = "",
        *,
        meaning: RejectionMeaning | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, remedy, retry_after_s=retry_after_s)
        self.meaning = meaning


class LoginNeeded(Rejected):
    """The broker no longer accepts the key, as 401 says: the request had no effect, and a retry does not help."""

    def __init__(self, message: str, remedy: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message, remedy, meaning=RejectionMeaning.NOT_LOGGED_IN, retry_after_s=retry_after_s)


class Unavailable(BrokerError):
    """The broker could not be reached, and nothing was sent."""


class Withdrawn(Unavailable):
    """The permit to send an order was revoked before its first byte."""


class AccountRefused(BrokerError):
    """The account is live money on paper, none in live trading, or not known to be either."""

    exit_code = 3


class FeedRefused(BrokerError):
    """The account, such as its plan, does not have the feed that the settings name: a retry does not help.

    A run without positions ends with it; one with positions manages them without the feed.
    """


class OutcomeUnknown(BrokerError):
    """A request was sent without a response: the outcome is unknown until it is looked up."""


class Undelivered(TbotError):
    """A channel could not deliver an alert; `retry_after_s` is the pause that its service asked for, if any.

    `unclear`: the service may have accepted it. A channel that `sends_once` is not given the alert again then.
    """

    exit_code = 4

    def __init__(
        self, message: str, remedy: str = "", *, retry_after_s: float | None = None, unclear: bool = False
    ) -> None:
        super().__init__(message, remedy)
        self.retry_after_s = bounded_pause(retry_after_s, LONGEST_ALERT_PAUSE_S)
        self.unclear = unclear


class PartlyDelivered(Undelivered):
    """A channel delivered an alert to some recipients only; the message names the others, and why.

    The alert counts as delivered: sent again, it would reach some people twice and the others still not.
    """


class RiskError(TbotError):
    """Refused by a risk rule, or live trading is not armed."""

    exit_code = 5


class DataError(TbotError):
    """Bars or facts are missing or corrupt."""


class JournalError(TbotError):
    """The journal is damaged, or was written by a newer version."""


class AccessError(TbotError):
    """A folder, file or port cannot be used, or another process holds the instance."""
