"""What a rejection of Alpaca's means: its words first, since one code stands for several causes; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from tbot_core.errors import BrokerError, LoginNeeded, Rejected, RejectionMeaning, Unavailable
from tbot_core.model import json_document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.contracts import HttpResponse

_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_UNKNOWN_ORDER: Final = 40410000
_DAY_TRADES: Final = 40310100
_KEY: Final = re.compile(
    r"forbidden\.?|unauthorized\.?|access key verification failed.*|invalid .*(?:key|credential).*"
)

_MEANINGS: Final = (
    (
        r"day trading protection|liquidation only|account is (?:restricted|blocked)|rejected by user request",
        RejectionMeaning.RESTRICTED,
    ),
    (
        r"not authorized to trade options|not eligible to trade long option",
        RejectionMeaning.RESTRICTED,
    ),
    (r"wash trade|opposite side", RejectionMeaning.WASH_TRADE),
    (r"must be unique|already (?:been )?used", RejectionMeaning.DUPLICATE_ID),
    (
        r"sold short|short ?sell|short sales?|to short|not shortable|hard.to.borrow|not easy.to.borrow",
        RejectionMeaning.NOT_SHORTABLE,
    ),
    (
        r"insufficient (?:qty|quantity|position|shares)|qty available|uncovered option|position intent mismatch",
        RejectionMeaning.INSUFFICIENT_QUANTITY,
    ),
    (r"buying power|insufficient (?:cash|balance|funds)", RejectionMeaning.INSUFFICIENT_BUYING_POWER),
    (
        r"sub-?penny|pricing criteria|increment|fractional|fractionable|must be integer|must be a multiple",
        RejectionMeaning.OFF_GRID,
    ),
    (
        r"not tradable|not active|inactive|asset .*not found|contract .*(?:not found|is expired)",
        RejectionMeaning.NOT_TRADABLE,
    ),
    (r"market is (?:closed|not open)|market hours|outside .*hours", RejectionMeaning.MARKET_CLOSED),
)


class UnknownOrder(Rejected):
    """Alpaca answered, in its own words, that it knows no such order or asset."""

    def __init__(self, message: str) -> None:
        super().__init__(message, meaning=RejectionMeaning.UNKNOWN_ORDER)


class NotPermitted(Rejected):
    """Alpaca answered 403 to a key that it knows: the account, its state or its plan does not allow the request."""


def rejection(response: HttpResponse) -> BrokerError:
    """The error for a status from 400 on that the core does not map itself; a body may be empty."""
    document = _document(response)
    words = str(document.get("message") or response.text.strip() or "no words")
    quoted = f"Alpaca: {response.status} {words[:300]}"
    if response.status == _FORBIDDEN and _KEY.fullmatch(words.lower()):
        return LoginNeeded(quoted, "Correct the key, or the mode: `tbot secrets edit broker`.")
    if response.status == _NOT_FOUND and document.get("code") == _UNKNOWN_ORDER:
        return UnknownOrder(quoted)
    kind = NotPermitted if response.status == _FORBIDDEN else Rejected
    reason = document.get("reject_reason") or ""
    restricted = document.get("code") == _DAY_TRADES
    meaning = RejectionMeaning.RESTRICTED if restricted else meaning_of(f"{words} {reason}")
    return kind(quoted, meaning=meaning)


def meaning_of(words: str) -> RejectionMeaning | None:
    """The meaning of a rejection with these words; None for words that are not known: it is final and is reported."""
    lower = words.lower()
    return next((meaning for pattern, meaning in _MEANINGS if re.search(pattern, lower)), None)


def _document(response: HttpResponse) -> dict[str, Any]:
    try:
        found = json_document.parse_json(response.body)
    except json_document.InvalidJson:
        return {}
    return found if isinstance(found, dict) else {}


def stream_error(message: Mapping[str, Any]) -> BrokerError:
    """The error that the data stream reports, by its code; after most, as 400 or 404, another connection is opened."""
    code, words = message.get("code"), f"Alpaca's data stream: {message.get('code')} {message.get('msg')}"
    match code:
        case 401 | 402:
            return LoginNeeded(words)
        case 405 | 409:
            return Rejected(f"{words}.", "The plan does not allow it: set ALPACA_DATA_FEED=iex and at most 30 symbols.")
        case 406:
            return Unavailable(f"{words}.", "Another program uses the one data connection of this key: stop it.")
        case _:
            return Unavailable(words)
