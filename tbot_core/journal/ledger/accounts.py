"""Double entry: accounts, and transactions that add up to nothing.

An amount is positive where an account gains (a debit): cash that comes in, shares at what they cost, a fee that was
paid. What was earned or brought in stands on the other side, negative.
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
    """The account that holds a symbol's shares at what they cost; those sold short at what they brought, negative."""
    return f"{_SECURITIES}{symbol}{_at(broker)}"


def cash(broker: str = "") -> str:
    """The account of the money at a broker; without a name that of the primary."""
    return f"{CASH}{_at(broker)}"


def _at(broker: str) -> str:
    return f":{broker}" if broker else ""


@attrs.frozen
class Posting:
    """What an account gains, dollars; negative where it loses."""

    account: str
    amount: Decimal


@attrs.frozen(kw_only=True)
class Transaction:
    """What one event did to the accounts. `what` is the event's kind, `reference` what it speaks of.

    `tag` is that of the order, as FAILOVER_LOG_TAG marks those that went to another broker than the primary.
    """

    time: datetime
    what: str
    reference: str
    postings: tuple[Posting, ...]
    tag: str = ""

    def __attrs_post_init__(self) -> None:
        """Raises ValueError for postings that do not add up to nothing."""
        over = sum((posting.amount for posting in self.postings), Decimal(0))
        if over:
            raise ValueError(f"{self.what} {self.reference}: the postings add up to {over}, not to zero")


def transaction(
    time: datetime, what: str, reference: str, amounts: Mapping[str, Decimal], tag: str = ""
) -> Transaction:
    """The transaction of these amounts by account; accounts that gain nothing have no part in it."""
    postings = tuple(Posting(account, amount) for account, amount in amounts.items() if amount)
    return Transaction(time=time, what=what, reference=reference, postings=postings, tag=tag)


def balances(transactions: Iterable[Transaction]) -> dict[str, Decimal]:
    """What each account has come to, by its name."""
    found: defaultdict[str, Decimal] = defaultdict(Decimal)
    for one in transactions:
        for posting in one.postings:
            found[posting.account] += posting.amount
    return dict(sorted(found.items()))
