"""The decision walk of one session over bars that are all there: a replay's desk and venue, without waiting."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import RiskCheck
from tbot_core.decide import Rules
from tbot_core.desk import Cancel, Desk, Place, Replace
from tbot_core.fills import Costs, Venue
from tbot_core.portfolio import Position
from tbot_core.reasons import Reason

if TYPE_CHECKING:
    from tbot_core.bars import Bars
    from tbot_core.calendar import Session
    from tbot_core.decide import Proposal
    from tbot_core.desk import Action
    from tbot_core.model import Leg, SignalId


@attrs.frozen(kw_only=True, eq=False)
class Terms:
    """What every session of a backtest shares."""

    rules: Rules
    costs: Costs
    checks: tuple[tuple[str, RiskCheck], ...] = ()


@attrs.frozen(kw_only=True, eq=False)
class Walked:
    """A session's result: closed positions in the order of their closing, equity in atoms, denials by reason code."""

    positions: Sequence[Position]
    equity_atoms: int
    denials: Counter[str]


def walk(terms: Terms, session: Session, bars: Bars, proposals: Sequence[Proposal], equity_atoms: int) -> Walked:
    """Trade one session; `proposals` are those of all its strategies, in any order."""
    desk = Desk(terms.rules, session, equity_atoms, _name, terms.checks)
    venue = Venue(terms.costs, session, bars.symbols)
    denials: Counter[str] = Counter()
    due: defaultdict[int, list[Proposal]] = defaultdict(list)
    for proposal in proposals:
        due[proposal.signal.minute].append(proposal)
    waiting = sorted(due, reverse=True)
    minute = -1
    while True:
        minute += 1
        if desk.idle and venue.idle:
            while waiting and waiting[-1] < minute:
                waiting.pop()
            if not waiting:
                break
            minute = waiting[-1]
        if minute >= session.minutes:
            break
        if not venue.idle:
            venue.match(bars, minute)
            _book(desk, venue, denials)
        desk.mark(bars, minute)
        _act(venue, desk.manage(bars, minute), minute)
        for decision in desk.decide(due.get(minute, ())):
            if decision.order is not None:
                venue.accept(decision.order, minute)
            else:
                denials[decision.reason.name] += 1
        _book(desk, venue, denials)
    venue.close(bars)
    _book(desk, venue, denials)
    return Walked(positions=desk.portfolio.closed, equity_atoms=desk.portfolio.equity_atoms, denials=denials)


def _book(desk: Desk, venue: Venue, denials: Counter[str]) -> None:
    for event in venue.events():
        outcome = desk.booked(event)
        if outcome is not None and outcome.not_filled:
            denials[Reason.ENTRY_NOT_FILLED.name] += 1


def _act(venue: Venue, actions: Sequence[Action], minute: int) -> None:
    for action in actions:
        match action:
            case Place(order=order):
                venue.accept(order, minute)
            case Cancel(client_order_id=cid):
                venue.cancel(cid)
            case Replace(client_order_id=cid, stop_price=price):
                venue.replace(cid, price)


def _name(signal: SignalId, leg: Leg, attempt: int) -> str:
    """An order's name within a backtest: nobody else will ever read it."""
    return f"{signal.symbol}/{signal.strategy}/{signal.minute}/{leg}/{attempt}"
