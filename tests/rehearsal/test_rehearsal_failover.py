"""Failover in worlds of two venues: where entries go when the first one breaks, and where they must not."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.journal import records
from tbot_core.rehearsal.failover_drill import OutageResult, OutageScenario

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tbot_core.rehearsal.world import World

TEN_MINUTES = ((0, "F60", 5.0, 15.0),)


@pytest.fixture(scope="module")
def ten_minutes(tmp_path_factory: pytest.TempPathFactory) -> OutageResult:
    """A session whose primary is broken from its sixth minute to its fifteenth, for tests that only read it."""
    return OutageScenario(troubles=TEN_MINUTES).play(tmp_path_factory.mktemp("played"))


NEWEST = 10**9
"""The order of a request that was made after all that the journal has."""


def phases(played: OutageResult) -> list[tuple[str, str]]:
    """How the session stood with its primary, one after the other."""
    return [(event.payload["phase"], event.payload["why"]) for event in played.events(records.FAILOVER)]


def causes(played: OutageResult, broker: str = "") -> list[str]:
    """The causes that came, one after the other."""
    changes = (event.payload for event in played.events(records.STATE) if event.payload["there"])
    return [payload["cause"] for payload in changes if payload.get("broker", "") == broker]


def denied(played: OutageResult) -> list[tuple[int, str]]:
    """The signals that were denied because the broker of their instrument was not proven, by minute."""
    changes = [event for event in played.events(records.DECISION) if event.payload["reason"] == "REDUCE_ONLY"]
    return list(zip(played.minutes(changes), (event.payload["words"] for event in changes), strict=True))


def confirmed(home: Path, amount: str, order: int = NEWEST) -> Callable[[World], None]:
    """Let somebody say what may be open at the broker that broke."""

    def ask(world: World) -> None:
        control.write_request(
            home / "control",
            ControlVerb.FAILOVER_CONFIRM,
            actor="ada",
            now=world.clock.now(),
            order=order,
            arguments={"amount": amount},
        )

    return ask


@pytest.mark.slow
def test_without_trouble_everything_is_entered_at_the_primary(tmp_path: Path) -> None:
    """Another broker that is ready costs nothing: no lease moves, nothing is written of circuits."""
    played = OutageScenario().play(tmp_path)
    assert (len(played.entries()), played.entries("beta")) == (14, [])
    assert played.events(records.LEASE) + played.events(records.CIRCUIT) + played.events(records.FAILOVER) == []
    assert played.violations == ()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["F12", "F60", "F63"])
def test_f12_f60_f63_entries_go_to_the_next_broker_while_the_primary_is_broken(tmp_path: Path, fault: str) -> None:
    """Each instrument moves once, tagged and in its own account; the session is in defense, and no invariant breaks."""
    played = OutageScenario(troubles=((0, fault, 5.0, 15.0),)).play(tmp_path)
    assert played.violations == ()
    assert phases(played) == [("entries go on", ""), ("over", "")]
    assert [minute for minute in played.minutes(played.entries()) if 5 < minute < 16] == []
    assert [minute for minute in played.minutes(played.entries("beta")) if minute < 16] == [9, 11, 13, 15]
    assert "PRIMARY_DOWN" in causes(played)
    assert {event.payload["tag"] for event in played.entries("beta")} == {"FAILOVER_ACTIVE"}
    assert {event.payload["tag"] for event in played.entries()} == {""}
    leases = played.events(records.LEASE)
    assert [event.payload["epoch"] for event in leases] == [1] * len(leases)


@pytest.mark.slow
def test_f60_a_lease_is_written_down_before_the_entry_that_it_is_moved_for(ten_minutes: OutageResult) -> None:
    """Between the two lies a crash point: the entry is not in the journal while the lease is not."""
    first = {event.payload["symbol"]: event.seq for event in ten_minutes.events(records.LEASE)}
    moved = ten_minutes.entries("beta")
    assert moved
    for event in moved:
        assert first[event.payload["signal"]["symbol"]] < event.seq


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_f12_cancels_are_served_while_a_storm_keeps_the_circuit_open(tmp_path: Path) -> None:
    """What waits at the primary is taken back there in the storm; nothing new is entered at it."""
    played = OutageScenario(troubles=((0, "F12", 9.2, 20.0),)).play(tmp_path)
    assert played.violations == ()
    opened = next(event for event in played.events(records.CIRCUIT) if event.payload["state"] == "open")
    assert played.minutes([opened])[0] < 12
    world = played.story.world
    begins = (opened.applied - world.start).total_seconds()
    asked = [
        one for one in world.ways[0].requests if one.kind == "cancel" and one.at > begins and one.at < 20 * 60 + 300
    ]
    assert asked
    assert all(one.outcome == "ok" for one in asked)


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_f61_a_partition_of_orders_alone_opens_the_circuit(tmp_path: Path) -> None:
    """Three orders in a row do not reach the primary, whose readings go on; the next ones go elsewhere."""
    played = OutageScenario(troubles=((0, "F61", 5.0, 15.0),)).play(tmp_path)
    assert played.violations == ()
    assert phases(played)[0] == ("entries go on", "")
    assert played.minutes(played.entries("beta"))[0] == 15


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_f64_an_unknown_order_at_the_primary_lets_the_other_broker_only_reduce(tmp_path: Path) -> None:
    """Its first order falls into the partition: until what became of it is known, nothing is entered anywhere."""
    played = OutageScenario(ambushed=7.0).play(tmp_path)
    assert played.violations == ()
    assert phases(played) == [("the others only reduce", "IN_FLIGHT"), ("over", "")]
    assert denied(played) == [(11, "orders there may still be working")]
    assert (played.entries("beta"), played.events(records.LEASE)) == ([], [])


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_f65_a_primary_that_returns_is_reconciled_and_gets_no_lease_back(ten_minutes: OutageResult) -> None:
    """It is entered again when a clean minute has proven it, and never in an instrument that has moved."""
    assert ten_minutes.violations == ()
    (over,) = (event for event in ten_minutes.events(records.FAILOVER) if event.payload["phase"] == "over")
    moved = {event.payload["symbol"] for event in ten_minutes.events(records.LEASE)}
    after = [event for event in ten_minutes.entries() if event.seq > over.seq]
    assert after
    assert {event.payload["signal"]["symbol"] for event in after}.isdisjoint(moved)
    assert {event.payload["signal"]["symbol"] for event in ten_minutes.entries("beta") if event.seq > over.seq} <= moved


@pytest.mark.slow
def test_f66_a_way_that_flaps_is_one_break_and_stays_left(tmp_path: Path) -> None:
    """It closes again only when a minute has held; between its returns no entry goes to the primary."""
    flaps = tuple((0, "F60", 9.2 + 1.3 * number, 9.8 + 1.3 * number) for number in range(6))
    played = OutageScenario(troubles=flaps, calls=(12, 13, 14, 15, 16, 30)).play(tmp_path)
    assert played.violations == ()
    assert [phase for phase, _ in phases(played)] == ["entries go on", "over"]
    states = [event.payload["state"] for event in played.events(records.CIRCUIT)]
    assert states.count("open") > 2
    assert ("closed", "open") not in set(pairwise(states))
    assert played.minutes(played.entries("beta"))[:5] == [13, 14, 15, 16, 17]


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_f66_a_third_break_within_an_hour_moves_nothing_more(tmp_path: Path) -> None:
    """The flap guard: what has moved is entered where it is, what has not stays, and the journal says why."""
    breaks = tuple((0, "F60", start, start + 3.0) for start in (5.0, 13.0, 21.0))
    played = OutageScenario(troubles=breaks, calls=(7, 15, 23, 24, 25, 26), seed=3).play(tmp_path)
    assert played.violations == ()
    assert ("entries go on", "FLAPPING") in phases(played)
    assert len({event.payload["since"] for event in played.events(records.LEASE)}) == 2
    assert "two outages within an hour have moved entries already" in {words for _, words in denied(played)}


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_f67_with_every_way_broken_exits_alone_are_left(tmp_path: Path) -> None:
    """Nothing is entered anywhere; the cause is one of exits-only, until the account has been clean for a minute."""
    played = OutageScenario(troubles=(*TEN_MINUTES, (1, "F60", 5.0, 15.0))).play(tmp_path)
    assert played.violations == ()
    assert phases(played)[0] == ("no broker answers", "NO_OTHER")
    assert "BROKERS_DOWN" in causes(played)
    assert min(played.minutes([*played.entries(), *played.entries("beta")])) > 16


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_what_the_primary_holds_lets_the_other_broker_only_reduce_until_a_person_confirms(tmp_path: Path) -> None:
    """A stop that rests there is an order that has not ended; the amount that is confirmed counts as open there."""
    outage = OutageScenario(troubles=((0, "F60", 9.2, 20.0),), calls=(8, 12, 14, 16, 30))
    played = outage.play(tmp_path, (13.5, confirmed(tmp_path, "6000")))
    assert played.violations == ()
    assert phases(played)[:2] == [("the others only reduce", "IN_FLIGHT"), ("entries go on", "")]
    assert denied(played) == [(13, "orders there may still be working")]
    assert [minute for minute in played.minutes(played.entries("beta")) if minute < 20] == [15, 17]
    (changes,) = played.events(records.FAILOVER_CONFIRMED)
    assert (changes.payload["of"], changes.payload["amount"], changes.payload["actor"]) == ("alpha", "6000", "ada")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("minute", "amount", "words"),
    [
        (7.0, "6000", "Every broker responds: there is nothing to confirm."),
        (13.0, "6000 before", "The request was made before alpha failed: check the account, and confirm again."),
        (13.0, "1", "The worst case known at alpha is "),
        (13.0, "NaN", "'NaN' is not an amount in USD."),
        (13.0, "much", "'much' is not an amount in USD."),
        (13.0, "-5", "'-5' is not an amount in USD."),
        (13.0, "1e999999", "'1e999999' is not an amount in USD."),
    ],
)
def test_an_amount_that_cannot_be_is_refused_with_the_figures(
    tmp_path: Path, minute: float, amount: str, words: str
) -> None:
    """No less is confirmed than the journal itself reserves there, nor anything while all answer, or before."""
    outage = OutageScenario(troubles=((0, "F60", 9.2, 20.0),), calls=(8, 14, 16))
    asked, _, before = amount.partition(" ")
    played = outage.play(tmp_path, (minute, confirmed(tmp_path, asked, 1 if before else NEWEST)))
    (refused,) = played.events(records.REQUEST_REFUSED)
    assert refused.payload["words"].startswith(words)
    assert (played.events(records.FAILOVER_CONFIRMED), played.entries("beta")) == ([], [])


@pytest.mark.slow
def test_a_confirmed_amount_counts_in_the_limits_of_the_other_broker(tmp_path: Path) -> None:
    """What a person says is open at the primary leaves so much less of MAX_GROSS_EXPOSURE."""
    outage = OutageScenario(troubles=((0, "F60", 9.2, 20.0),), calls=(8, 14, 16))
    played = outage.play(tmp_path, (13.0, confirmed(tmp_path, "89000")))
    reasons = {event.payload["reason"] for event in played.events(records.DECISION) if event.payload.get("broker")}
    assert (reasons, played.entries("beta")) == ({"GROSS_EXPOSURE"}, [])


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_bot_without_a_drill_only_reduces(tmp_path: Path) -> None:
    """The words name the drill; nothing moves."""
    played = OutageScenario(troubles=TEN_MINUTES, drilled=False).play(tmp_path)
    assert phases(played)[0] == ("the others only reduce", "NO_DRILL")
    assert played.entries("beta") == []


@pytest.mark.slow
def test_both_accounts_are_settled_to_the_cent(ten_minutes: OutageResult) -> None:
    """The ledger has the money of each broker by itself, and tags what another one than the primary did."""
    from tbot_core.journal.ledger import ledger_of
    from tbot_core.model.types import dollars_of

    ledger = ledger_of(ten_minutes.story.events)
    for place, account in ((0, "cash"), (1, "cash:beta")):
        books = ten_minutes.story.world.ways[place].exchange.matching.books
        assert ledger.balances[account] == dollars_of(books.cash)
    tags: dict[str, set[str]] = {}
    for one in ledger.transactions:
        if one.what == "fill":
            tags.setdefault(one.tag, set()).update(part.account for part in one.postings if "cash" in part.account)
    assert tags == {"": {"cash"}, "FAILOVER_ACTIVE": {"cash:beta"}}
    assert sum(ledger.balances.values(), Decimal(0)) == 0


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_the_other_broker_sizes_by_the_smaller_equity(tmp_path: Path) -> None:
    """An account that holds a fourth enters a fourth; one that holds more enters no more than the primary would."""
    sizes: dict[int, Any] = {}
    for place, name in enumerate(("smaller", "larger")):
        cash = Decimal((25_000, 400_000)[place])
        (tmp_path / name).mkdir()
        played = OutageScenario(troubles=TEN_MINUTES, second_cash=cash).play(tmp_path / name)
        order = played.entries("beta")[0].payload
        sizes[place] = Decimal(order["quantity"]) * Decimal(order["limit_price"])
    assert sizes[0] <= 25_000 * Decimal("0.6") * Decimal("0.05")
    assert 25_000 * Decimal("0.6") * Decimal("0.05") < sizes[1] <= 100_000 * Decimal("0.6") * Decimal("0.05")
