"""A session on a live feed, in a simulated world: what faults of the feed and of the clock leave of its trading."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.journal import records
from tbot_core.journal.store import Event, open_journal
from tbot_core.rehearsal.bot import BotProcess, PlannedCrash, bot_config
from tbot_core.rehearsal.world import World

if TYPE_CHECKING:
    from pathlib import Path


SEEDS = (3, 5, 7)


def lived(home: Path, seed: int, **rates: float) -> tuple[World, list[Event]]:
    """A world whose bot hears a live feed with these faults at these rates, and what its journal says at the end."""
    world = World(seed, (), rates=rates, live=True, minutes=30)
    folder = home / f"seed{seed}"
    folder.mkdir()
    life = BotProcess(world, world.names[:1], folder, bot_config(world), PlannedCrash(10**9, after=False))
    world.run(life.live)
    life.close()
    with closing(open_journal(folder / "tbot.sqlite")) as journal:
        return world, list(journal.events())


def of(events: list[Event], kind: str) -> list[dict[str, Any]]:
    """What events of a kind say."""
    return [dict(event.payload) for event in events if event.kind == kind]


def causes(events: list[Event]) -> set[str]:
    """Every cause that came."""
    return {payload["cause"] for payload in of(events, records.STATE) if payload["there"]}


def entries_while(events: list[Event], cause: str) -> list[str]:
    """The entries that were sent while a cause stood."""
    there, found, entries = False, [], set()
    for event in events:
        if event.kind == records.STATE and event.payload["cause"] == cause:
            there = event.payload["there"]
        elif event.kind == records.INTENDED and event.payload["leg"] == "entry":
            entries.add(event.cid)
        elif event.kind == records.SENDING and there and event.cid in entries:
            found.append(str(event.cid))
    return found


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_session_on_a_well_feed_trades_at_the_far_side_of_the_quote(tmp_path: Path) -> None:
    """No cause comes but that the account had to be read first, and each entry says the quote that it was sized by."""
    seen = [lived(tmp_path, seed)[1] for seed in SEEDS]
    assert {cause for events in seen for cause in causes(events)} <= {"UNRECONCILED", "UNIVERSE_STALE"}
    allowed = [one for events in seen for one in of(events, records.DECISION) if one["reason"] == "ALLOWED"]
    assert allowed
    assert all(one["reference"] > 0 for one in allowed)
    assert [one for events in seen for one in of(events, records.SESSION_CLOSED)]


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_f52_a_frozen_feed_enters_nothing(tmp_path: Path) -> None:
    """Its socket lives and says heartbeats, and the state is exits only as long as no price comes."""
    seen = [lived(tmp_path, seed, F52=0.3)[1] for seed in SEEDS]
    assert "FEEDS_STALE" in {cause for events in seen for cause in causes(events)}
    assert [one for events in seen for one in entries_while(events, "FEEDS_STALE")] == []


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_f53_a_gap_is_written_down_and_nothing_is_traded_on_its_back_fill(tmp_path: Path) -> None:
    """No entry has its signal in a minute of the gap."""
    gaps = 0
    for seed in SEEDS:
        _, events = lived(tmp_path, seed, F53=0.2)
        for gap in of(events, records.FEED_GAP):
            gaps += 1
            inside = range(gap["first"] + 2, gap["last"])
            allowed = [one for one in of(events, records.DECISION) if one["reason"] == "ALLOWED"]
            assert [one for one in allowed if one["signal"]["minute"] in inside] == []
    assert gaps


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_f40_a_halt_is_written_down_and_its_symbol_is_not_entered(tmp_path: Path) -> None:
    """Between the word of the halt and that of its end no entry of the symbol is sent."""
    halts = 0
    for seed in SEEDS:
        _, events = lived(tmp_path, seed, F40=0.3)
        halted: set[str] = set()
        of_entry: dict[str | None, str] = {}
        for event in events:
            if event.kind == records.HALT:
                halts += event.payload["halted"]
                (halted.add if event.payload["halted"] else halted.discard)(event.payload["symbol"])
            elif event.kind == records.INTENDED and event.payload["leg"] == "entry":
                of_entry[event.cid] = event.payload["signal"]["symbol"]
            elif event.kind == records.SENDING:
                assert of_entry.get(event.cid) not in halted
    assert halts


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_f56_crossed_and_one_sided_quotes_enter_nothing(tmp_path: Path) -> None:
    """When no quote is a good one, every signal that would be entered ends with NO_QUOTE."""
    reasons = {one["reason"] for seed in SEEDS for one in of(lived(tmp_path, seed, F56=1.0)[1], records.DECISION)}
    assert "NO_QUOTE" in reasons
    assert "ALLOWED" not in reasons


@pytest.mark.slow
@pytest.mark.first(0)  # the band is tested in test_trading_risk_gate
def test_f55_a_spike_is_held_against_the_quote_by_the_price_band(tmp_path: Path) -> None:
    """No entry is written down on a bar ten times too high: its limit lies too far from the last trade."""
    decided = [one for seed in SEEDS for one in of(lived(tmp_path, seed, F55=1.0)[1], records.DECISION)]
    assert "PRICE_BAND" in {one["reason"] for one in decided}
    for one in decided:
        if one["reason"] == "ALLOWED":
            assert one["reference"] == pytest.approx(one["price"], rel=0.06)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "cause"), [("F68", "CLOCK_JUMP"), ("F69", "CLOCK_JUMP"), ("F70", "CLOCK_SKEW")])
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_clock_that_is_wrong_leaves_exits_only_and_the_session_whole(fault: str, cause: str, tmp_path: Path) -> None:
    """F68, F69, F70: nothing is entered meanwhile, and the session is not closed before its time."""
    seen = [lived(tmp_path, seed, **{fault: 0.1}) for seed in SEEDS]
    assert cause in {one for _, events in seen for one in causes(events)}
    assert [one for _, events in seen for one in entries_while(events, cause)] == []
    for world, events in seen:
        assert len(of(events, records.SESSION_CLOSED)) == 1
        assert world.clock.true() >= world.session.close
