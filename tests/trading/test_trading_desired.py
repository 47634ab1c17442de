"""What should work for a position, and which of its orders are to end."""

from __future__ import annotations

import pytest

from tbot_core.model.types import ExitReason, Leg, Side
from tbot_core.testing.trades import fill, order, session
from tbot_core.trading.account_book import AccountBook, ManagedPosition, SignalPlan, Ticket
from tbot_core.trading.exit_plan import immediate_exit_plan
from tbot_core.trading.portfolio import Portfolio
from tbot_core.trading.positions.desired import CLOSING, Desired

BRACKET = Desired(bracket=True)


class Held:
    """A position of 100 shares whose signal is traded by a plan."""

    def __init__(self) -> None:
        entry, plan = order(), immediate_exit_plan(Side.LONG, 1_000_000)
        self.book = AccountBook(Portfolio(opening_atoms=10**12, session=session().date))
        planned = self.book.signals[entry.signal] = SignalPlan(plan=plan, row=0)
        self.entry = self.book.add_ticket(entry)
        position = self.book.book_fill(self.entry, fill(entry, "100"))
        assert position is not None
        self.position = ManagedPosition(plan=plan, row=0, position=position, tickets=planned.tickets)

    def add(self, leg: Leg, name: str, quantity: str = "100", reason: ExitReason | None = None) -> Ticket:
        """Add a working order."""
        return self.book.add_ticket(order(leg, name, quantity=quantity, reason=reason))

    def ends(self, desired: Desired) -> set[str]:
        """The orders that are to end if this is desired."""
        return {ticket.cid for ticket in self.position.tickets if not desired.includes(ticket, self.position)}


def bracketed() -> Held:
    """A position with the stop and target of its entry's bracket."""
    held = Held()
    for leg in (Leg.STOP, Leg.TARGET):
        held.add(leg, leg.value).in_bracket = True
    return held


def test_a_bracket_stays_until_its_position_is_closed_or_has_a_stop_of_its_own() -> None:
    """Its stop and its target end together."""
    held = bracketed()
    assert held.ends(BRACKET) == set()
    assert held.ends(CLOSING) == {"entry", "stop", "target"}
    assert held.ends(Desired(stop=100_000_000)) == {"stop", "target"}


@pytest.mark.parametrize(("units", "ends"), [(100_000_000, set()), (60_000_000, {"own"}), (0, {"own"}), (None, set())])
def test_a_stop_of_its_own_stays_at_its_size(units: int | None, ends: set[str]) -> None:
    """One of another size is to end; without a size it stays as it rests."""
    held = Held()
    held.add(Leg.STOP, "own")
    assert held.ends(Desired(stop=units)) == ends


def test_of_two_stops_that_work_the_latest_stays() -> None:
    """An older one that is reported late could close what is held twice."""
    held = Held()
    for name in ("older", "latest"):
        held.add(Leg.STOP, name)
    assert held.ends(Desired(stop=100_000_000)) == {"older"}


def test_an_order_that_is_outdated_ends_whatever_is_desired() -> None:
    """Another takes its place, or it was taken for something else."""
    held = bracketed()
    held.position.tickets[1].outdated = True
    assert held.ends(BRACKET) == {"stop"}


def test_an_exit_works_for_no_more_than_is_left() -> None:
    """One for more would turn the position round; the one that reverses an overfill is none of the position's."""
    held = Held()
    held.add(Leg.EXIT, "fits", "100", ExitReason.TIME)
    held.add(Leg.EXIT, "more", "101", ExitReason.TIME)
    held.add(Leg.EXIT, "excess", "500", ExitReason.EXCESS)
    assert held.ends(CLOSING) == {"entry", "more"}


def test_a_trim_ends_when_its_position_is_closed() -> None:
    """The exit closes what it would have sold."""
    held = Held()
    held.add(Leg.EXIT, "trim", "10", ExitReason.REBALANCE)
    assert (held.ends(BRACKET), held.ends(CLOSING)) == (set(), {"entry", "trim"})


def test_a_lost_entry_is_not_cancelled() -> None:
    """Its outcome is unknown, and it stays reserved."""
    held = Held()
    held.entry.is_lost = True
    assert held.ends(CLOSING) == set()
