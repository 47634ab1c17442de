"""The invariants of what the bot must do in time see what breaks them, and nothing else."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.journal import codec, records
from tbot_core.journal.events.accounts import Adjustment
from tbot_core.journal.events.orders import OrderIntended
from tbot_core.model.types import ExitReason, Leg, Order
from tbot_core.rehearsal.bot import TTL_S
from tbot_core.rehearsal.history import RehearsalHistory
from tbot_core.rehearsal.invariants.deadlines import CANCEL_S, DEADLINE_INVARIANTS
from tbot_core.rehearsal.network import NetworkRequest
from tbot_core.rehearsal.venue_matching import VenueFact
from tbot_core.rehearsal.world import World
from tbot_core.testing.trades import fill, identity, journal_event, order, rules

if TYPE_CHECKING:
    from collections.abc import Mapping

SENT = 400.0
DUE = SENT + TTL_S + CANCEL_S


class Script:
    """A journal and the facts of one venue, written by hand: 10,000 USD, 100 of them may be lost in a day."""

    def __init__(self) -> None:
        world = World(1, (), venues=1, minutes=60)
        self.story = RehearsalHistory(
            world=world,
            name=world.names[0],
            rules=rules(
                daily_loss_limit="0.01", window_loss_limit="0.1", total_allocation="0.2", max_consecutive_losses=2
            ),
            births=[0.0],
            held={},
        )
        self.event(records.SESSION_OPENED, {"equity": "10000", "date": "2026-03-03", "symbols": 1})

    def event(self, kind: str, payload: Mapping[str, Any], cid: str | None = None, at: float = SENT) -> None:
        """One more event."""
        moment = self.story.world.start + dt.timedelta(seconds=at)
        self.story.events.append(journal_event(len(self.story.events) + 1, kind, payload, moment, cid))

    def fact(self, one: Order, kind: str, at: float, units: int = 0) -> None:
        """What happened at the venue."""
        moment = self.story.world.start + dt.timedelta(seconds=at)
        self.story.facts.append(
            VenueFact(at=moment, kind=kind, ours=True, client_order_id=one.client_order_id, symbol="A", units=units)
        )

    def request(self, kind: str, one: Order, at: float) -> None:
        """What left."""
        cid = one.client_order_id
        self.story.way.requests.append(NetworkRequest(at=at, kind=kind, client_order_id=cid))

    def entry(self) -> Order:
        """An entry for ten shares works at the venue from `SENT` on."""
        one = order(name="entry", symbol="A", quantity="10", limit="100")
        self.event(records.INTENDED, codec.write(OrderIntended.of(one)), one.client_order_id)
        self.request("submit", one, SENT)
        self.fact(one, "accepted", SENT)
        return one

    def trade(self, name: str, entry: str, leave: str, at: float = SENT, fees: str = "0") -> None:
        """Ten shares are bought and sold."""
        moment = self.story.world.start + dt.timedelta(seconds=at)
        bought = order(name=f"{name}-entry", symbol="A", quantity="10", limit=entry)
        sold = order(Leg.EXIT, f"{name}-exit", symbol="A", quantity="10", limit=leave, reason=ExitReason.TIME)
        for one, price in ((bought, entry), (sold, leave)):
            sent = attrs.evolve(one, signal=identity("A", rule=name))
            self.event(records.INTENDED, codec.write(OrderIntended.of(sent)), sent.client_order_id, at)
            payload = codec.write(Adjustment.of(attrs.evolve(fill(sent, price, fees=fees), time=moment)))
            self.event("fill", {"words": ""} | payload, sent.client_order_id, at)

    def words(self, name: str) -> list[str]:
        """What one invariant says."""
        check = next(check for check in DEADLINE_INVARIANTS if check.__name__ == f"_{name}")
        return [*check(self.story)]


@pytest.mark.parametrize("filled", [0, 4])
def test_an_old_entry_is_cancelled(script: Script, filled: int) -> None:
    """Also one that is partly filled; a cancel in time is enough, whatever becomes of it."""
    one = script.entry()
    if filled:
        script.fact(one, "execution", SENT + 5, filled * 1_000_000)
    assert script.words("ttl") == [f"entry was open for {TTL_S + CANCEL_S:.0f} s, and no cancel has left"]
    script.request("cancel", one, DUE + 1)
    assert len(script.words("ttl")) == 1
    script.request("cancel", one, DUE - 1)
    assert script.words("ttl") == []


@pytest.mark.parametrize(
    "kind",
    ["filled", "ended", "lost", "died", "died before", "unborn", "quiet", "unreached", "exit"],
)
def test_what_no_bot_could_cancel_is_not_judged(script: Script, kind: str) -> None:
    """An entry that has ended, is lost, or of a process that crashed; and nothing while a venue cannot be reached."""
    one, story = script.entry(), script.story
    match kind:
        case "filled":
            script.fact(one, "execution", SENT + 5, 10_000_000)
        case "ended":
            script.fact(one, "expired", DUE - 1)
        case "lost":
            script.event(records.LOST, {"words": ""}, one.client_order_id)
        case "died":
            story.deaths = [DUE - 1]
        case "died before":
            story.deaths = [SENT - 1]
        case "unborn":
            story.births = [SENT + 1]
        case "quiet":
            story.world.quiet_from = DUE - 1
        case "unreached":
            story.world.faults.injected["F60"] = 1
        case "exit":
            story.events.clear()
            exit_order = order(Leg.EXIT, name="entry", symbol="A")
            script.event(records.INTENDED, codec.write(OrderIntended.of(exit_order)), "entry")
    assert script.words("ttl") == []


def test_an_entry_that_was_taken_for_less_has_ended_when_that_is_filled(script: Script) -> None:
    """F19: the venue knows of no more."""
    one = script.entry()
    script.story.facts[0] = attrs.evolve(script.story.facts[0], quantity=4_000_000)
    script.fact(one, "execution", SENT + 5, 4_000_000)
    assert script.words("ttl") == []


@pytest.mark.parametrize(
    ("until", "cancelled", "count"),
    [(float("inf"), None, 1), (float("inf"), 15.0, 1), (float("inf"), 5.0, 0), (SENT + 8, None, 0)],
)
def test_a_kill_cancels_what_works(script: Script, until: float, cancelled: float | None, count: int) -> None:
    """Within seconds, unless it is withdrawn before."""
    one = script.entry()
    script.story.people.killed = [(SENT + 3, until)]
    if cancelled is not None:
        script.request("cancel", one, SENT + cancelled)
    assert len(script.words("killed")) == count
    script.story.world.faults.injected["F68"] = 1
    assert script.words("killed") == []


def test_a_kill_cancels_what_has_left_and_was_not_accepted_yet(script: Script) -> None:
    """The order is on its way to the venue."""
    script.entry()
    script.story.facts[0] = attrs.evolve(
        script.story.facts[0], at=script.story.world.start + dt.timedelta(seconds=SENT + 0.05)
    )
    script.story.people.killed = [(SENT + 0.01, float("inf"))]
    assert len(script.words("killed")) == 1


@pytest.mark.parametrize(("price", "fees", "count"), [("90.01", "0", 0), ("90", "0", 1), ("90.01", "0.05", 1)])
def test_a_realised_loss_sets_the_latch(script: Script, price: str, fees: str, count: int) -> None:
    """Of the limit or more, fees included; with the latch set nothing is wrong."""
    script.trade("a", "100", price, fees=fees)
    assert len(script.words("latched")) == count
    script.event(records.RISK, {"what": "daily loss latch"})
    assert script.words("latched") == []


@pytest.mark.parametrize("kind", ["late", "adjusted", "standby", "unfinished"])
def test_a_loss_that_may_be_another_is_not_judged(script: Script, kind: str) -> None:
    """In the last minute it is not checked, and other holdings or accounts change the sum."""
    script.trade("a", "100", "50", at=3_900.0 - 30 if kind == "late" else SENT)
    match kind:
        case "adjusted":
            script.event(records.ADJUSTMENT, {"symbol": "A", "quantity": "1"})
        case "standby":
            script.story.elsewhere["beta"] = None  # type: ignore[assignment]  # its presence counts
        case "unfinished":
            script.story.held = None
    assert script.words("latched") == []
    if kind != "adjusted":
        assert script.words("losing") == []


def test_losing_trades_in_a_row_set_the_latch(script: Script) -> None:
    """Two in a row, and not two with a gain between them."""
    script.trade("a", "100", "99")
    script.trade("b", "100", "101")
    script.trade("c", "100", "99")
    assert script.words("losing") == []
    script.trade("d", "100", "99")
    assert script.words("losing") == ["2 losing trades in a row, 2 are allowed"]
    script.event(records.RISK, {"what": "losing run latch"})
    assert script.words("losing") == []


def test_the_loss_of_a_window_sets_its_latch(script: Script) -> None:
    """A tenth of its budget of 2,000 USD."""
    script.trade("a", "100", "80")
    (words,) = script.words("losing")
    assert words.startswith("the window of open lost 200")
    script.event(records.RISK, {"what": "window loss latch of open"})
    assert script.words("losing") == []


def test_without_an_opened_session_nothing_is_lost(script: Script) -> None:
    """There is no equity to compare with, and no trade."""
    script.story.events.clear()
    assert script.words("latched") == script.words("losing") == []


def test_the_figures_are_those_of_the_settings(script: Script) -> None:
    """The limits that the tests above count on."""
    assert script.story.rules.risk.daily_loss_limit == Decimal("0.01")
