"""The protection meter counts bare seconds as the contract does, from facts alone."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from tbot_core.journal import records
from tbot_core.journal.store import Event
from tbot_core.rehearsal.protection import LONGEST_BARE_S, PositionProtection, claims, measure_protection
from tbot_core.testing.venue import (
    Claim,
    ClaimedState,
    Cover,
    ForeignCancel,
    Halted,
    Held,
    OrderRequest,
    Process,
    ProtectionFact,
    Quoted,
    Reading,
    ShownCover,
    ShownHeld,
    TwoListsNeeded,
)

SYMBOL = "AAPL"
CLOSE = 1_000.0
LAG_S = 5.0


def held(at: float, quantity: int) -> Held:
    """The position from a second on."""
    return Held(at=at, symbol=SYMBOL, quantity=Decimal(quantity))


def cover(at: float, quantity: int) -> Cover:
    """What working orders close from a second on."""
    return Cover(at=at, symbol=SYMBOL, quantity=Decimal(quantity))


def shown(at: float, quantity: int = 10) -> ShownHeld:
    """An answer that shows the fills of a position."""
    return ShownHeld(at=at, symbol=SYMBOL, quantity=Decimal(quantity))


def shown_cover(at: float, quantity: int) -> ShownCover:
    """What would close a position by the answers until now."""
    return ShownCover(at=at, symbol=SYMBOL, quantity=Decimal(quantity))


def claim(at: float, state: ClaimedState) -> Claim:
    """What the journal claims from a second on."""
    return Claim(at=at, symbol=SYMBOL, state=state)


def read(at: float, subject: Any, *, asked_at: float | None = None, agrees: bool = True) -> Reading:
    """A list that was delivered."""
    return Reading(at=at, symbol=SYMBOL, subject=subject, asked_at=at if asked_at is None else asked_at, agrees=agrees)


def quotes(begins: int = 0, ends: int = int(CLOSE)) -> list[ProtectionFact]:
    """A quote every five seconds."""
    return [Quoted(at=float(at), symbol=SYMBOL) for at in range(begins, ends, 5)]


def measured(*facts: ProtectionFact, quoted: list[ProtectionFact] | None = None) -> PositionProtection:
    """The one position of a day whose process runs from the start."""
    feed = quotes() if quoted is None else quoted
    [found] = measure_protection([Process(at=0, runs=True), *feed, *facts], CLOSE, LAG_S)
    return found


FILL = held(100, 10)
ENDED = shown_cover(101, 10), cover(120, 0), shown_cover(120, 0)
DOWN = Process(at=100, runs=False), Process(at=150, runs=True)


@pytest.mark.parametrize(
    ("facts", "bare", "unseen"),
    [
        pytest.param((FILL, shown(100), cover(101, 10)), 1, 0, id="from the fill that is shown at once"),
        pytest.param((FILL, shown(112), cover(115, 10)), 3, 12, id="from the answer that shows the fill"),
        pytest.param((FILL, shown(100, 4), cover(100, 4), cover(115, 10)), 0, 15, id="not where less is shown"),
        pytest.param((FILL, shown(100), cover(100, 9), cover(130, 10)), 30, 0, id="with a stop for a part"),
        pytest.param((FILL, shown(100), held(120, 0)), 20, 0, id="to the end of the position"),
        pytest.param((FILL, shown(100)), 900, 0, id="to the close"),
        pytest.param(
            (FILL, Process(at=100, runs=False), Process(at=150, runs=True), cover(160, 10)), 10, 50, id="dead"
        ),
        pytest.param((held(100, -10), shown(100, -10), cover(107, 10)), 7, 0, id="short"),
    ],
)
def test_seconds_count_from_what_the_venue_has_shown(
    facts: tuple[ProtectionFact, ...], bare: float, unseen: float
) -> None:
    """A bot that could not know of a position is not blamed for it; one that could is, until it is covered."""
    found = measured(*facts)
    assert (found.bare_s, found.unseen_s) == (bare, unseen)
    assert found.longest_bare_s == bare
    assert bool(found.violations) is (bare > LONGEST_BARE_S)


@pytest.mark.parametrize(
    ("facts", "uncounted"),
    [
        pytest.param([OrderRequest(at=100 + 4 * step, failed=True) for step in range(5)], 20, id="requests fail"),
        pytest.param([OrderRequest(at=100, failed=True)], 4, id="one request fails, and no other is sent"),
        pytest.param([OrderRequest(at=100, failed=True), OrderRequest(at=101, failed=False)], 1, id="one succeeds"),
        pytest.param([Halted(at=100, symbol=SYMBOL, halted=True), Halted(at=110, symbol=SYMBOL, halted=False)], 10),
    ],
)
def test_seconds_in_which_nothing_could_be_done_are_shown_and_not_counted(
    facts: list[ProtectionFact], uncounted: float
) -> None:
    """While each request fails or the symbol is halted; one failure does not excuse the wait that follows it."""
    found = measured(FILL, shown(100), *facts, cover(120, 10))
    assert (found.uncounted_s, found.bare_s) == (uncounted, 20 - uncounted)


def test_a_stop_that_ended_unseen_counts_from_what_shows_its_end() -> None:
    """The venue has ended it, and no answer says so before 130 s."""
    rests, ends = (cover(100, 10), shown_cover(100, 10)), (cover(120, 0), shown_cover(130, 0))
    found = measured(FILL, shown(100), *rests, *ends, cover(137, 10))
    assert (found.unseen_s, found.bare_s) == (10, 7)


def test_an_order_that_was_taken_for_less_counts_from_the_list_that_shows_it() -> None:
    """Until then it counts for what was ordered; a claim of a resting stop is false from then on."""
    order, listed = shown_cover(100, 10), shown_cover(110, 4)
    found = measured(FILL, shown(100), cover(100, 4), order, listed, claim(100, "resting"), cover(130, 10))
    assert (found.unseen_s, found.bare_s, found.false_claim_s) == (10, 20, 20)


def test_an_order_that_may_be_booked_twice_waits_for_two_lists() -> None:
    """Where ids may repeat, a failed order excuses the seconds between the lists, and no more."""
    waits = TwoListsNeeded(at=100, symbol=SYMBOL, until=119)
    found = measured(FILL, shown(100), waits, OrderRequest(at=105, failed=False), cover(130, 10))
    assert (found.uncounted_s, found.bare_s) == (19, 11)


@pytest.mark.parametrize(("cancelled", "bare_s"), [(True, 0), (False, 30)])
def test_a_stop_that_others_cancelled_waits_for_lists_also_where_the_holding_grew(
    *, cancelled: bool, bare_s: int
) -> None:
    """As after a split: the venue cancels the stop, and twice as much is held."""
    others = (ForeignCancel(at=110, symbol=SYMBOL),) if cancelled else ()
    grown = (held(110, 20), shown(110, 20), *others, cover(110, 0), shown_cover(110, 0), cover(140, 20))
    found = measured(FILL, shown(100), cover(100, 10), shown_cover(100, 10), *grown)
    assert found.bare_s == bare_s


def test_a_stale_feed_is_not_counted() -> None:
    """Ten seconds after the last message of the feed."""
    found = measured(FILL, shown(100), cover(140, 10), quoted=[*quotes(0, 106), *quotes(130)])
    assert (found.uncounted_s, found.bare_s) == (15, 25)


@pytest.mark.parametrize(
    ("facts", "uncounted"),
    [
        pytest.param([read(125, "positions", agrees=False), read(140, "positions")], 15, id="until the lists agree"),
        pytest.param([read(125, "positions", agrees=False)], 180, id="at most three minutes"),
        pytest.param([read(122, "orders", asked_at=121, agrees=False)], 0, id="not where it was asked for too soon"),
    ],
)
def test_a_contradiction_forbids_to_act_and_is_not_counted(facts: list[ProtectionFact], uncounted: float) -> None:
    """A stop ended, and a list contradicts what the venue has confirmed."""
    found = measured(FILL, shown(100), cover(100, 10), *ENDED, *facts, cover(400, 10))
    assert (found.uncounted_s, found.bare_s) == (uncounted, 280 - uncounted)


def test_a_contradiction_does_not_excuse_the_first_stop() -> None:
    """A fill that was confirmed is protected whatever a list shows."""
    found = measured(FILL, shown(100), read(110, "positions", agrees=False), cover(130, 10))
    assert (found.uncounted_s, found.bare_s) == (0, 30)


def test_a_stop_that_the_venue_cancelled_is_placed_after_both_lists() -> None:
    """Both asked for a list's lag after the cancel; what follows counts."""
    facts: list[ProtectionFact] = [read(122, "orders"), read(126, "positions"), read(128, "orders")]
    cancelled = ForeignCancel(at=120, symbol=SYMBOL)
    found = measured(FILL, shown(100), cover(100, 10), *ENDED, cancelled, *facts, cover(131, 10))
    assert (found.uncounted_s, found.bare_s) == (8, 3)


def test_emulation_counts_while_it_is_claimed_on_a_fresh_quote() -> None:
    """Without a quote of the symbol the claim is worth nothing; other symbols keep the feed alive."""
    others: list[ProtectionFact] = [Quoted(at=float(at), symbol="SPY") for at in range(0, 1000, 5)]
    facts: list[ProtectionFact] = [claim(103, "emulated"), claim(150, "bare"), cover(160, 10)]
    found = measured(FILL, shown(100), *facts, quoted=[*quotes(0, 131), *others])
    assert (found.bare_s, found.emulated_s) == (3 + 20, 140 - 103)
    assert found.longest_bare_s == 20


@pytest.mark.parametrize(("state", "seconds"), [("resting", 27.0), ("bare", 0.0)])
def test_a_claim_that_the_venue_has_denied_is_found(state: ClaimedState, seconds: float) -> None:
    """From the event that shows the stop's end to the claim's."""
    facts: list[ProtectionFact] = [cover(120, 0), shown_cover(123, 0), claim(150, "bare"), cover(160, 10)]
    found = measured(FILL, shown(100), cover(100, 10), shown_cover(100, 10), claim(100, state), *facts)
    assert found.false_claim_s == seconds
    assert any("claimed" in words for words in found.violations) is bool(seconds)


def test_each_position_is_measured_by_itself() -> None:
    """A symbol that is held twice, and one that turns to the other side."""
    facts = [FILL, held(110, 0), held(200, 5), held(210, -5), held(220, 0), held(230, -5)]
    found = measure_protection([Process(at=0, runs=True), *facts], CLOSE, LAG_S)
    assert [one.opened_at for one in found] == [100, 200, 210, 230]


def test_a_span_ends_with_its_position() -> None:
    """What the one before was without does not count for the next one."""
    facts: list[ProtectionFact] = [FILL, shown(100), held(114, 0), held(200, 5), shown(200, 5), cover(214, 5)]
    found = measure_protection([Process(at=0, runs=True), *quotes(), *facts], CLOSE, LAG_S)
    assert [one.longest_bare_s for one in found] == [14, 14]


def test_claims_are_read_from_a_journal() -> None:
    """In seconds since a moment, from when they were written."""
    origin = dt.datetime(2026, 3, 3, 14, 30, tzinfo=dt.UTC)
    written = origin + dt.timedelta(seconds=90)
    payload = {"symbol": SYMBOL, "state": "bare", "since": origin.isoformat(), "bare_s": "90", "emulated_s": "0"}
    events = [
        Event(seq=number, kind=kind, cid=None, source=None, payload=payload, received=written, applied=written, hash="")
        for number, kind in enumerate((records.PROTECTION, records.STUCK))
    ]
    assert [*claims(events, origin)] == [claim(90, "bare")]


def test_a_position_does_not_inherit_the_bare_seconds_of_an_earlier_one() -> None:
    """The span of the first one ends with it, also where the second one's fill is shown later."""
    facts: list[ProtectionFact] = [Process(at=0, runs=True), *quotes()]
    facts += [held(100, 10), shown(100), held(150, 0), shown(150, 0), held(200, 10), cover(201, 10), shown(210)]
    first, second = measure_protection(facts, CLOSE, LAG_S)
    assert first.longest_bare_s == 50
    assert second.longest_bare_s == 0
