"""External positions of an account, from the journal alone."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.cli.commands.status import figure_lines
from tbot_core.errors import JournalError
from tbot_core.journal import records
from tbot_core.journal.projection import project
from tbot_core.journal.projections.external_holdings import ExternalHoldings
from tbot_core.journal.store import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.journal.projection import JournalEvent

NOON = dt.datetime(2026, 11, 24, 17, tzinfo=dt.UTC)
OPENED: tuple[str, dict[str, Any]] = (records.SESSION_OPENED, {})
CLOSED: tuple[str, dict[str, Any]] = (records.SESSION_CLOSED, {})


def held(symbol: str, shares: str, price: str | None = "12.5", **more: str) -> tuple[str, dict[str, Any]]:
    """So many shares were found."""
    return records.FOREIGN_HOLDING, {"symbol": symbol, "quantity": shares, "price": price, **more}


def told(*said: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What these events come to."""
    found = ExternalHoldings()
    for number, (kind, payload) in enumerate(said):
        found.apply(
            Event(seq=number, kind=kind, cid=None, source=None, payload=payload, received=NOON, applied=NOON, hash="")
        )
    return found.document()


def test_what_was_said_last_counts() -> None:
    """Each broker's by itself; what is gone is listed no more."""
    found = told(held("B", "3"), held("A", "-5"), held("A", "2", broker="beta"), held("B", "0"))
    assert [(one["symbol"], one["quantity"], one["broker"]) for one in found] == [("A", "-5", ""), ("A", "2", "beta")]


@pytest.mark.parametrize("figure", ["1E+999999", "NaN", "1E-999999", "0E+999999", "1E+12"])
def test_a_figure_that_none_can_hold_is_unknown(figure: str) -> None:
    """An older version booked it: what was known before stays until the account is read, and its price is unknown."""
    (found,) = told(held("A", "3"), held("A", figure))
    assert found["quantity"] == "3"
    (found,) = told(held("A", "3", figure))
    assert (found["quantity"], found["price"]) == ("3", None)


def test_a_figure_that_cannot_be_computed_with_names_its_event() -> None:
    """Such a journal starts nothing; the error says which event it is, and what to do."""

    class Multiplying:
        def apply(self, event: JournalEvent) -> None:
            """Square its quantity."""
            _ = Decimal(event.payload["quantity"]) ** 2

    payload = {"quantity": "1E+999999"}
    one = Event(seq=7, kind="fill", cid=None, source=None, payload=payload, received=NOON, applied=NOON, hash="")
    with pytest.raises(JournalError, match=r"event 7 \(fill\) has a figure that cannot be computed with: Overflow"):
        project([one], Multiplying())

    def failing() -> Iterator[Event]:
        for number in range(1):
            yield attrs.evolve(one, seq=1 // number)

    with pytest.raises(JournalError, match="The journal's event has a figure"):
        project(failing(), Multiplying())


def test_a_split_counts_for_others_too() -> None:
    """Of seven shares at 12.50 are fourteen at 6.25."""
    split = (records.CORPORATE_ACTION, {"symbol": "A", "before": 1, "after": 2})
    (found,) = told(held("A", "7"), split, (records.CORPORATE_ACTION, {"symbol": "B", "before": 1, "after": 2}))
    assert (found["quantity"], found["price"]) == ("14", "6.25")


def test_a_session_forgets_what_its_own_reading_did_not_find() -> None:
    """After the close it is still listed; the next session's account is read before its bell."""
    assert len(told(held("A", "7"), OPENED, CLOSED)) == 1
    assert [one["symbol"] for one in told(held("A", "7"), OPENED, CLOSED, held("B", "1"), OPENED)] == ["B"]


@pytest.mark.parametrize(
    ("price", "broker", "line"),
    [
        ("12.5", "", "foreign     -5 A at 12.50, external"),
        (None, "beta", "foreign     -5 A counted in no limit, its price is unknown, external, at beta"),
    ],
)
def test_status_lists_it(price: str | None, broker: str, line: str) -> None:
    """With the price that it counts at."""
    one = {"symbol": "A", "quantity": "-5", "price": price, "broker": broker}
    shown: dict[str, Any] = {
        "foreign": [one],
        "candidates": {},
        "accounts": [],
        "marks_at": None,
        "restart": None,
        "hosts": [],
    }
    assert [*figure_lines(shown)] == [line]
