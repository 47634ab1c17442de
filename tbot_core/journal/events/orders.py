"""Events: signals and orders."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

import attrs

from tbot_core.errors import RejectionMeaning
from tbot_core.journal.codec import EventFacts, Facts, fact, fill_facts, fill_from
from tbot_core.model.exit_rules import ExitRules
from tbot_core.model.reasons import Reason
from tbot_core.model.types import ExitReason, Fill, Instrument, Leg, Order, OrderType, SignalId, stock

if TYPE_CHECKING:
    from tbot_core.contracts import BrokerEvent, OrderStatusReport
    from tbot_core.trading.commands import Decision
    from tbot_core.trading.risk.figures import LimitFigures, SizingFigures
    from tbot_core.trading.verdicts import CheckResult


class Finding(Facts):
    """One comparison of a filter: None is unknown, or no limit; `plugin` and `words` where these explain it."""

    check: str
    value: float | None
    low: float | None
    high: float | None
    reason: str
    plugin: str = ""
    words: str = ""

    @classmethod
    def of(cls, check: CheckResult) -> Self:
        """The comparison; its words count only where a plugin explains it."""
        explained = {"plugin": check.plugin, "words": check.words} if check.plugin else {}
        return cls(
            check=check.check,
            value=_known(check.value),
            low=_known(check.low),
            high=_known(check.high),
            reason=check.reason.name,
            **explained,
        )


class JudgedQuote(Facts):
    """The quote that a decision saw: dollars, and seconds of age."""

    bid: float
    ask: float
    age_s: float


class SignalJudged(EventFacts):
    """A signal and its outcome: the reason's name, and the values that were compared.

    `instrument`: what its order would trade, None for the signal's own stock.

    Prices are None where the signal has none; `confirmed`: the minute of a confirmation. `sizing` and `limits` hold
    exact figures as text.
    """

    signal: SignalId
    side: str
    price: float | None
    strength: float | None
    stop: float | None = fact(default=None, always=True)
    target: float | None
    exits: ExitRules
    reference: float | None = None
    quote: JudgedQuote | None = None
    reason: str
    value: str | None
    limit: str | None
    words: str
    findings: tuple[Finding, ...]
    sizing: Mapping[str, str | None] | None = None
    limits: tuple[Mapping[str, str | None], ...] = ()
    confirmed: int | None = None
    instrument: Instrument | None = None

    @classmethod
    def of(cls, decision: Decision, **more: Any) -> Self:
        """The event of a decision; `more` are the fields of a subclass."""
        proposal = decision.proposal
        return cls(
            signal=proposal.signal,
            side=proposal.side.word,
            price=_known(proposal.price),
            strength=_known(proposal.strength),
            stop=_known(proposal.stop),
            target=_known(proposal.target),
            exits=proposal.exits,
            reference=proposal.reference,
            quote=None if proposal.quote is None else JudgedQuote(**attrs.asdict(proposal.quote)),
            reason=decision.reason.name,
            value=None if decision.value is None else str(decision.value),
            limit=None if decision.limit is None else str(decision.limit),
            words=decision.detail,
            findings=tuple(map(Finding.of, proposal.findings)),
            sizing=None if decision.sizing is None else _texts(decision.sizing),
            limits=tuple(map(_texts, decision.limits)),
            confirmed=proposal.confirmed_minute,
            instrument=proposal.instrument.recorded,
            **more,
        )


class SignalDecided(SignalJudged):
    """An entry was allowed or denied."""

    kind = "decision"


class TopUpDecided(SignalJudged):
    """A top-up of a position was allowed or denied."""

    kind = "top_up"


class ConfirmationAsked(SignalJudged):
    """A person is asked to confirm an entry, as it would be sent now."""

    kind = "confirmation_asked"

    id: str
    quantity: Decimal | None
    expires: dt.datetime

    @classmethod
    def asked(cls, name: str, decision: Decision, expires: dt.datetime) -> Self:
        """The event of an entry that is asked for by a short name."""
        quantity = None if decision.order is None else decision.order.quantity
        return cls.of(decision, id=name, quantity=quantity, expires=expires)


class OrderIntended(EventFacts):
    """An order, before anything is sent; `protection`: the ids of its stop and target, which have their own events.

    `instrument`: what it trades, None for the signal's own stock.
    """

    kind = "intended"

    signal: SignalId
    leg: Leg
    buy: bool
    quantity: Decimal
    type: OrderType
    limit_price: Decimal | None
    stop_price: Decimal | None
    time_in_force: str
    protection: tuple[str, ...]
    reason: ExitReason | None
    tag: str = fact(default="", always=True)
    instrument: Instrument | None = None

    @classmethod
    def of(cls, order: Order) -> Self:
        """The event of an order."""
        names = (
            "signal",
            "leg",
            "buy",
            "quantity",
            "type",
            "limit_price",
            "stop_price",
            "time_in_force",
            "reason",
            "tag",
        )
        protection = tuple(one.client_order_id for one in order.protection)
        instrument = order.instrument.recorded
        return cls(protection=protection, instrument=instrument, **{name: getattr(order, name) for name in names})

    def order(self, client_order_id: str) -> Order:
        """The order, without the protective ones."""
        return Order(
            client_order_id=client_order_id,
            signal=self.signal,
            leg=self.leg,
            instrument=self.instrument or stock(self.signal.symbol),
            buy=self.buy,
            quantity=self.quantity,
            type=self.type,
            limit_price=self.limit_price,
            stop_price=self.stop_price,
            reason=self.reason,
            time_in_force=self.time_in_force,
            tag=self.tag,
        )


class OrderSending(EventFacts):
    """An order is sent next: from here on it may be at the broker."""

    kind = "sending"


class OrderDropped(EventFacts):
    """An order will not be at the broker: it was not sent, or the broker answered that it did not process it."""

    kind = "dropped"

    words: str


class OrderUnanswered(EventFacts):
    """An order was sent, and there was no answer: its outcome is unknown."""

    kind = "no_answer"

    words: str


class OrderSentAgain(EventFacts):
    """An order was sent again under the same id."""

    kind = "sent_again"


class OrderAbsent(EventFacts):
    """The broker did not list an order."""

    kind = "absent"


class OrderLost(EventFacts):
    """An order that the broker did not list for so long that it counts as not there."""

    kind = "lost"


class RequestFailed(EventFacts):
    """A request to the broker failed: what was asked, and what was answered."""

    kind = "silence"

    asked: str
    words: str


class CancelRequested(EventFacts):
    """An order is to be cancelled."""

    kind = "cancel_requested"


class ReplaceRequested(EventFacts):
    """A stop is to be moved; `reason`: why its fill closes the position from then on."""

    kind = "replace_requested"

    stop_price: Decimal
    reason: ExitReason


class OrderReported(EventFacts):
    """A broker's event about an order; `kind` is that of the journal's event.

    The fields of a fill are None where it reports none.
    """

    words: str = fact(default="", always=True)
    meaning: RejectionMeaning | None = None
    execution_id: str | None = None
    symbol: str | None = None
    buy: bool | None = None
    quantity: Decimal | None = None
    price: Decimal | None = None
    fees: Decimal | None = None
    time: dt.datetime | None = None

    @classmethod
    def of(cls, event: BrokerEvent) -> Self:
        """The journal's event of a broker's."""
        fill = {} if event.fill is None else fill_facts(event.fill)
        return cls(words=event.words, meaning=event.meaning, **fill)

    def fill(self, client_order_id: str) -> Fill | None:
        """The fill of an order; None where the event reports none."""
        return None if self.execution_id is None else fill_from(self, client_order_id)


class ExecutionReused(OrderReported):
    """A broker gave an execution the id of another one."""

    kind = "execution_reused"


class OrderedTerms(Facts):
    """What was ordered."""

    symbol: str
    buy: bool
    quantity: Decimal


class OrderTermsDiffer(EventFacts):
    """An order at the broker has other terms than those `ordered`."""

    kind = "taken_otherwise"

    leg: Leg
    symbol: str
    buy: bool
    quantity: Decimal
    ordered: OrderedTerms

    @classmethod
    def of(cls, report: OrderStatusReport, order: Order) -> Self:
        """The event of an order at the broker, and of what was ordered."""
        ordered = OrderedTerms(symbol=order.symbol, buy=order.buy, quantity=order.quantity)
        return cls(leg=order.leg, symbol=report.symbol, buy=report.buy, quantity=report.quantity, ordered=ordered)


def _known(value: float | None) -> float | None:
    # A measured value for JSON, which has no NaN.
    return None if value is None or not math.isfinite(value) else value


def _texts(figures: SizingFigures | LimitFigures) -> dict[str, str | None]:
    # Exact amounts as text; a reason or an order's type by its name.
    return {field.name: _text(getattr(figures, field.name)) for field in attrs.fields(type(figures))}


def _text(value: object) -> str | None:
    match value:
        case None:
            return None
        case Reason():
            return value.name
        case OrderType():
            return value.value
        case Decimal():
            return f"{value:f}"
        case _:
            return str(value)
