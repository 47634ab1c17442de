"""What brokers report: each kind and status is a member of its enum, and the texts that are none of them."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import (
    AccountActivity,
    AccountActivityKind,
    AccountKind,
    BrokerCapabilities,
    BrokerEvent,
    BrokerEventKind,
    DayTradeRule,
    OrderStatus,
    OrderStatusReport,
)
from tbot_core.journal import codec
from tbot_core.journal.events.accounts import AccountMoved, ForeignOrder
from tbot_core.journal.events.orders import OrderReported
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.model.types import OrderType

if TYPE_CHECKING:
    from pathlib import Path

MOMENT = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
EVENT = BrokerEvent(kind=BrokerEventKind.FILL, event_id="1", client_order_id="a")
ACTIVITY = AccountActivity(activity_id="1", kind=AccountActivityKind.FEE, time=MOMENT)
REPORT = OrderStatusReport(
    client_order_id="a",
    broker_order_id="b",
    kind=OrderStatus.WORKING,
    symbol="AAA",
    buy=True,
    quantity=Decimal(1),
    time=MOMENT,
)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", "1E+999999", "1E+12"])
@pytest.mark.parametrize("field", ["quantity", "filled", "average_price"])
def test_an_absurd_number_is_no_order(field: str, value: str) -> None:
    """A quantity or price that no order can have is refused where the report is made; one that is not known is None."""
    change: Any = {field: Decimal(value)}
    with pytest.raises(ValueError, match=f"{field} .* is not that of an order"):
        attrs.evolve(REPORT, **change)
    assert attrs.evolve(REPORT, filled=Decimal(1), average_price=None).average_price is None


@pytest.mark.parametrize("kind", BrokerEventKind)
def test_the_text_of_an_event_is_its_member(kind: BrokerEventKind) -> None:
    """An event that is made from the text of a kind, as after a restart, has the member."""
    assert attrs.evolve(EVENT, kind=str(kind)).kind is kind


@pytest.mark.parametrize("kind", AccountActivityKind)
def test_the_text_of_an_activity_is_its_member(kind: AccountActivityKind) -> None:
    """An activity that is made from the text of a kind has the member."""
    assert attrs.evolve(ACTIVITY, kind=str(kind)).kind is kind


def test_a_broker_may_use_words_of_its_own() -> None:
    """The kind of an event or of an activity that the core does not know is kept as the broker wrote it."""
    assert attrs.evolve(EVENT, kind="pending_review").kind == "pending_review"
    assert attrs.evolve(ACTIVITY, kind="stamp duty").kind == "stamp duty"


@pytest.mark.parametrize("status", OrderStatus)
def test_the_text_of_a_status_is_its_member(status: OrderStatus) -> None:
    """A report that is made from the text of a status has the member, which is also the kind of an event."""
    assert attrs.evolve(REPORT, kind=str(status)).kind is status
    assert str(BrokerEventKind(status)) == str(status)


def test_an_order_has_a_status_of_the_core() -> None:
    """A report with any other status is refused: it would be unknown whether the order may still fill."""
    with pytest.raises(ValueError, match="held"):
        attrs.evolve(REPORT, kind="held")


def test_a_broker_declares_what_the_core_knows() -> None:
    """A kind of account or a type of order that does not exist is refused, and a text of one that exists is not."""
    rule = DayTradeRule(until=date(2026, 1, 5), account="margin", equity_below=Decimal(25_000), max_day_trades=3)
    assert rule.account is AccountKind.MARGIN
    with pytest.raises(ValueError, match="offshore"):
        attrs.evolve(rule, account="offshore")
    assert BrokerCapabilities(fractional_types=frozenset({"limit"})).fractional_types == {OrderType.LIMIT}
    with pytest.raises(ValueError, match="pegged"):
        BrokerCapabilities(fractional_types=frozenset({"pegged"}))


def test_the_journal_holds_the_texts(tmp_path: Path) -> None:
    """Payloads with a member are the same JSON as those with its text, and an event has the same hash."""
    assert json.dumps(codec.write(AccountMoved.of(ACTIVITY))).startswith('{"activity": "fee", ')
    assert json.dumps(codec.write(ForeignOrder.of(REPORT))).endswith('"said": "acknowledged"}')
    hashes = set()
    for name, kind in (("member", EVENT.kind), ("text", "fill")):
        with closing(open_journal(tmp_path / name)) as journal:
            journal.append([NewEvent(kind=kind, payload=codec.write(OrderReported.of(EVENT)), time=MOMENT, cid="a")])
            hashes |= {event.hash for event in journal.events(kind="fill")}
    assert len(hashes) == 1
