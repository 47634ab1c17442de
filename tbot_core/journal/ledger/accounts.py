"""Double entry: accounts, and transactions whose postings sum to zero.

A debit is positive: incoming cash, shares at cost, a fee paid. Income and deposits are the other side, negative.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CASH: Final = "cash"
FEES: Final = "fees"
REALISED: Final = "realised"
DIVIDENDS: Final = "dividends"
INTEREST: Final = "interest"
TRANSFERS: Final = "transfers"
EXTERNAL: Final = "external"
ADJUSTMENTS: Final = "adjustments"
OPENING: Final = "opening"
_SECURITIES: Final = "securities:"


def securities(symbol: str, broker: str = "") -> str:
    """The account that holds a symbol's shares at cost; short positions at their proceeds, negative."""
    return f"{_SECURITIES}{symbol}{_at(broker)}"


def cash(broker: str = "") -> str:
    """The cash account at a broker; "" is the primary."""
    return f"{CASH}{_at(broker)}"


def _at(broker: str) -> str:
    return f":{broker}" if broker else ""


@attrs.frozen
class Posting:
    """A change of one account in dollars; negative is a credit."""

    account: str
    amount: Decimal


@attrs.frozen(kw_only=True)
class Transaction:
    """The postings of one event. `what` is the event's kind, `reference` its id.

    `tag` is the order's tag; FAILOVER_LOG_TAG marks orders sent to a broker other than the primary.
    """

    time: datetime
    what: str
    reference: str
    postings: tuple[Posting, ...]
    tag: str = ""

    def __attrs_post_init__(self) -> None:
        """Raises ValueError when the postings do not sum to zero."""
        over = sum((posting.amount for posting in self.postings), Decimal(0))
        if over:
            raise ValueError(f"{self.what} {self.reference}: the postings add up to {over}, not to zero")


def transaction(
    time: datetime, what: str, reference: str, amounts: Mapping[str, Decimal], tag: str = ""
) -> Transaction:
    """Build a transaction from amounts by account, leaving out zeros."""
    postings = tuple(Posting(account, amount) for account, amount in amounts.items() if amount)
    return Transaction(time=time, what=what, reference=reference, postings=postings, tag=tag)


def balances(transactions: Iterable[Transaction]) -> dict[str, Decimal]:
    """Sum the postings by account, sorted by name."""
    found: defaultdict[str, Decimal] = defaultdict(Decimal)
    for one in transactions:
        for posting in one.postings:
            found[posting.account] += posting.amount
    return dict(sorted(found.items()))
