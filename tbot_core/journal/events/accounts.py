"""Events: what changes an account or an instrument without an order of tbot."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Self

from tbot_core.journal.codec import EventFacts, FillFacts, fact, fill_facts

if TYPE_CHECKING:
    from fractions import Fraction

    from tbot_core.contracts import AccountActivity, InstrumentRules, OrderStatusReport
    from tbot_core.model.types import Fill


class ForeignOrder(EventFacts):
    """An order at the broker that is not of tbot; `paid`: what its fills added to cash, `said`: its status."""

    kind = "foreign_order"

    client_order_id: str
    broker_order_id: str
    symbol: str
    buy: bool
    quantity: Decimal
    filled: Decimal
    paid: Decimal
    said: str

    @classmethod
    def of(cls, report: OrderStatusReport) -> Self:
        """The event of an order at the broker: itemised fills, and its average price for the rest."""
        sign = -1 if report.buy else 1
        paid = sum((sign * fill.quantity * fill.price - fill.fees for fill in report.fills), Decimal(0))
        unnamed = report.filled - sum((fill.quantity for fill in report.fills), Decimal(0))
        return cls(
            client_order_id=report.client_order_id,
            broker_order_id=report.broker_order_id,
            symbol=report.symbol,
            buy=report.buy,
            quantity=report.quantity,
            filled=report.filled,
            paid=paid + sign * unnamed * (report.average_price or Decimal(0)),
            said=report.kind,
        )


class ForeignHolding(EventFacts):
    """An external holding, and the price at which it counts toward exposure; None: it does not count yet."""

    kind = "foreign_holding"

    symbol: str
    quantity: Decimal
    price: Decimal | None = fact(default=None, always=True)


class Adjustment(FillFacts):
    """A position changed outside of tbot; `unexplained`: the broker lists nothing that would have changed it."""

    kind = "adjustment"

    unexplained: bool = False

    @classmethod
    def of(cls, fill: Fill, *, unexplained: bool = False) -> Self:
        """The event of a change, as a fill."""
        return cls(unexplained=unexplained, **fill_facts(fill))


class PositionDisputed(EventFacts):
    """Readings of the account contradict the books in a symbol, or no longer do (`there` false, without quantities)."""

    kind = "disputed"

    symbol: str
    there: bool
    ours: Decimal | None = fact(default=None, always=True)
    theirs: Decimal | None = fact(default=None, always=True)


class SplitBooked(EventFacts):
    """A split: `before` shares became `after` shares."""

    kind = "corporate_action"

    activity_id: str
    words: str
    symbol: str
    before: int
    after: int

    @classmethod
    def of(cls, activity: AccountActivity, ratio: Fraction) -> Self:
        """The event of a split that the broker reports."""
        return cls(
            activity_id=activity.activity_id,
            words=activity.words,
            symbol=activity.symbol,
            before=ratio.denominator,
            after=ratio.numerator,
        )


class AccountMoved(EventFacts):
    """Money or shares moved without an order; `activity` is its kind."""

    kind = "activity"

    activity: str
    activity_id: str
    symbol: str
    quantity: Decimal
    cash: Decimal
    time: dt.datetime
    words: str

    @classmethod
    def of(cls, activity: AccountActivity) -> Self:
        """The event of a movement that the broker reports."""
        names = ("activity_id", "symbol", "quantity", "cash", "time", "words")
        return cls(activity=activity.kind, **{name: getattr(activity, name) for name in names})


class CashStated(EventFacts):
    """The cash that a broker reports, and the ledger's; None where this report opens the ledger."""

    kind = "statement"

    cash: Decimal
    ours: Decimal | None
    currency: str = fact(default="USD", always=True)


class CashSettled(EventFacts):
    """The cash of an account that was settled when a session began."""

    kind = "settled"

    account: str
    session: dt.date
    settled: Decimal


class CashShareLeft(EventFacts):
    """The cash share of equity left its target."""

    kind = "cash_share"

    share: Decimal
    target: Decimal


class SymbolFrozen(EventFacts):
    """A symbol was frozen (`there`) or is free again; `lasting`: for the whole session."""

    kind = "frozen"

    symbol: str
    there: bool
    words: str
    lasting: bool = fact(default=False, always=True)


_RULES: Final = (
    "tick",
    "quantity_step",
    "tradable",
    "shortable",
    "easy_to_borrow",
    "fractionable",
    "minimum_quantity",
    "minimum_notional",
)


def _is_known(facts: InstrumentRulesReported) -> bool:
    return facts.known


class InstrumentRulesReported(EventFacts):
    """The rules of an instrument as its broker reports them; not `known`: `waiting` for them, or given up."""

    kind = "instrument"

    symbol: str
    known: bool
    waiting: bool
    words: str
    tick: Decimal | None = fact(default=None, written_if=_is_known)
    quantity_step: Decimal | None = fact(default=None, written_if=_is_known)
    tradable: bool | None = fact(default=None, written_if=_is_known)
    shortable: bool | None = fact(default=None, written_if=_is_known)
    easy_to_borrow: bool | None = None
    fractionable: bool | None = None
    minimum_quantity: Decimal | None = None
    minimum_notional: Decimal | None = None
    instrument_kind: str | None = fact(default=None, key="kind")

    @classmethod
    def of(cls, rules: InstrumentRules, words: str = "") -> Self:
        """The event of rules that the broker reports."""
        return cls(
            symbol=rules.symbol,
            known=True,
            waiting=False,
            words=words,
            instrument_kind=None if rules.kind is None else rules.kind.value,
            **{name: getattr(rules, name) for name in _RULES},
        )

    @property
    def rules(self) -> InstrumentRules:
        """These rules as the contract has them."""
        from tbot_core.contracts import InstrumentRules

        rules = {name: getattr(self, name) for name in _RULES}
        return InstrumentRules(symbol=self.symbol, kind=self.instrument_kind, **rules)

    @classmethod
    def unknown(cls, symbol: str, words: str, *, waiting: bool) -> Self:
        """The event of rules that are asked for, or that the broker does not report."""
        return cls(symbol=symbol, known=False, waiting=waiting, words=words)
