"""Readings that contradict the books: what explains one, how long it must last, and when it says nothing yet."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest

from tbot_core.contracts import AccountActivity, AccountSnapshot, OrderStatusReport
from tbot_core.execution.contradictions import APART_S, CONTRADICTED_S, Contradictions, Judgment
from tbot_core.execution.reconciliation import PositionDifference
from tbot_core.model.types import Account
from tbot_core.testing.trades import fill, order, session

if TYPE_CHECKING:
    from collections.abc import Sequence

ACCOUNT: Final = Account(account_id="A1", equity=Decimal(1000), cash=Decimal(1000), buying_power=Decimal(1000))
LAG_S: Final = 5.0
OURS: Final = order(name="ours")


def differs(theirs: int, ours: int = 7) -> PositionDifference:
    """The account shows so many shares of AAA, the books have others."""
    return PositionDifference(symbol="AAA", ours=Decimal(ours), theirs=Decimal(theirs))


def traded(shares: int, number: int = 1, cid: str = "theirs", kind: str = "fill") -> OrderStatusReport:
    """An order that has bought or sold so many AAA."""
    return OrderStatusReport(
        client_order_id=cid,
        broker_order_id=f"b{number}",
        kind=kind,
        symbol="AAA",
        buy=shares > 0,
        quantity=Decimal(100),
        time=session().open,
        filled=Decimal(abs(shares)),
    )


def executed(shares: int, cid: str = "theirs") -> dict[str, Any]:
    """A reading that lists an execution of so many AAA."""
    of = attrs.evolve(OURS, client_order_id=cid, buy=shares > 0)
    return {"fills": (fill(of, "100", str(abs(shares))),)}


def moved(shares: int, symbol: str = "AAA") -> dict[str, Any]:
    """A reading that lists a movement of so many shares without an order."""
    one = AccountActivity(
        activity_id="m1", kind="transfer", time=session().open, symbol=symbol, quantity=Decimal(shares)
    )
    return {"activities": (one,)}


def readings(*lists: dict[str, Any], at: float = 0.0) -> Contradictions:
    """The readings of an account that has shown these lists, each `at` a second."""
    found = Contradictions(LAG_S)
    for one in lists:
        found.add_reading(AccountSnapshot(account=ACCOUNT, **one), {"ours": OURS}, at)
    return found


@pytest.mark.parametrize(
    ("lists", "theirs", "explained"),
    [
        ([{"orders": (traded(-4),)}], 3, True),
        ([{"orders": (traded(5),)}], 12, True),
        ([{"orders": (traded(-4), traded(1, 2))}], 4, True),
        ([executed(-4)], 3, True),
        ([moved(-4)], 3, True),
        ([{"orders": (traded(-4),)} | executed(-4)], 3, True),  # the same sale in both lists
        ([{"orders": (traded(-4),)} | moved(-1)], 2, True),
        ([executed(-4) | moved(-1)], 2, True),
        ([{"orders": (traded(-2),)}, {"orders": (traded(-4),)}], 3, True),  # it has filled on
        ([], 3, False),
        ([{"orders": (traded(-4),)}], 4, False),
        ([{"orders": (traded(4),)}], 3, False),
        ([{"orders": (traded(-4, cid="ours"),)} | executed(-4, "ours")], 3, False),
        ([{"orders": (traded(0, kind="acknowledged"),)}], 3, False),
        ([moved(-4, "BBB")], 3, False),
    ],
)
def test_what_somebody_else_traded_explains_just_that_change(
    lists: Sequence[dict[str, Any]], theirs: int, explained: bool
) -> None:
    """An order, an execution or an activity is believed at once, for as many shares as it says; ours explain none."""
    expected = Judgment.EXPLAINED if explained else Judgment.DISPUTED
    assert readings(*lists).judge(differs(theirs), 1.0) is expected


def test_what_somebody_else_traded_explains_for_as_long_as_a_contradiction_may_last() -> None:
    """Lists are behind each other: positions may show a sale seconds after it was listed, and not much later."""
    for seconds, expected in ((CONTRADICTED_S, Judgment.EXPLAINED), (CONTRADICTED_S + 1, Judgment.DISPUTED)):
        assert readings({"orders": (traded(-4),)}).judge(differs(3), seconds) is expected


def test_what_the_books_contain_explains_nothing_further() -> None:
    """Neither what was booked in this session, nor what is restored after a restart; what fills on does."""
    sold: dict[str, Any] = {"orders": (traded(-4),)}
    booked, restored = readings(sold), Contradictions(LAG_S)
    booked.settle("AAA")
    restored.restore("AAA", "b1", Decimal(-4))
    for found in (booked, restored):
        found.add_reading(AccountSnapshot(account=ACCOUNT, **sold), {}, 1.0)
        assert found.judge(differs(-1, 3), 1.0) is Judgment.DISPUTED
        found.add_reading(AccountSnapshot(account=ACCOUNT, orders=(traded(-8),)), {}, 2.0)
        assert found.judge(differs(-1, 3), 2.0) is Judgment.EXPLAINED


@pytest.mark.parametrize(
    ("requested", "expected"),
    [(9.0, Judgment.EARLY), (10.0 + LAG_S - 0.1, Judgment.EARLY), (10.0 + LAG_S, Judgment.DISPUTED)],
)
def test_a_reading_of_before_the_lists_can_know_contradicts_nothing(requested: float, expected: Judgment) -> None:
    """The broker has just confirmed something in the symbol; another symbol is not concerned."""
    found = readings()
    found.confirm("AAA", 10.0)
    assert found.judge(differs(3), requested) is expected
    assert found.judge(attrs.evolve(differs(3), symbol="BBB"), requested) is Judgment.DISPUTED


@pytest.mark.parametrize(
    ("seconds", "lasts"),
    [
        ([0.0, 90.0, CONTRADICTED_S], True),
        ([15.0 * number for number in range(13)], True),
        ([0.0, CONTRADICTED_S], False),  # two are too few
        ([0.0, 90.0, CONTRADICTED_S - 1], False),
        ([0.0, CONTRADICTED_S, CONTRADICTED_S + APART_S - 1], False),  # the last two count once
        ([0.0, CONTRADICTED_S, CONTRADICTED_S + APART_S], True),
    ],
)
def test_a_contradiction_that_nothing_explains_is_believed_when_it_has_lasted(
    seconds: Sequence[float], lasts: bool
) -> None:
    """Three readings, each fifteen seconds after the one before, over three minutes; until then it is disputed."""
    found = readings()
    *before, last = [found.judge(differs(3), second) for second in seconds]
    assert {*before} == {Judgment.DISPUTED}
    assert last is (Judgment.LASTING if lasts else Judgment.DISPUTED)


@pytest.mark.parametrize("interrupted", ["another holding", "agreement", "booked"])
def test_a_contradiction_that_was_interrupted_begins_anew(interrupted: str) -> None:
    """Only the same holding, shown without a break, is believed."""
    found = readings()
    for second in (0.0, 90.0):
        found.judge(differs(3), second)
    match interrupted:
        case "another holding":
            found.judge(differs(2), 120.0)
        case "agreement":
            found.agree_except(["BBB"])
        case _:
            found.settle("AAA")
    assert found.judge(differs(3), CONTRADICTED_S) is Judgment.DISPUTED
    assert found.judge(differs(3), 2 * CONTRADICTED_S) is Judgment.DISPUTED
    assert found.judge(differs(3), 2 * CONTRADICTED_S + APART_S) is Judgment.LASTING


def test_agreement_elsewhere_interrupts_no_contradiction() -> None:
    """What is still shown of a symbol goes on to count."""
    found = readings()
    for second in (0.0, 90.0):
        found.judge(differs(3), second)
        found.agree_except(["AAA"])
    assert found.judge(differs(3), CONTRADICTED_S) is Judgment.LASTING


def test_a_contradiction_of_what_was_confirmed_last_begins_anew() -> None:
    """A fill that is confirmed meanwhile is not denied by readings of before it."""
    found = readings()
    for second in (0.0, 90.0):
        found.judge(differs(3), second)
    found.confirm("AAA", CONTRADICTED_S - LAG_S)
    assert found.judge(differs(3, ours=0), CONTRADICTED_S) is Judgment.DISPUTED
