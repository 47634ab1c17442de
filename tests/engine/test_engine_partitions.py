"""A broker out of reach while a session runs: nothing is entered, and everything is known afterwards."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tbot_core.alerts.rules import AlertRules, RoutineEvents
from tbot_core.contracts import Urgency
from tbot_core.journal import records
from tbot_core.journal.projections.book import fold_events
from tbot_core.journal.store import Event, open_journal
from tbot_core.model.types import OrderState
from tbot_core.rehearsal.bot import BotProcess, PlannedCrash, bot_config
from tbot_core.rehearsal.world import World

if TYPE_CHECKING:
    from pathlib import Path


SEEDS = (6, 46)
_UNSEEN = frozenset({"UNREACHABLE", "UNKNOWN"})


def lived(home: Path, seed: int, **rates: float) -> tuple[World, list[Event]]:
    """A world whose way to the broker has these faults, and what its bot's journal says at the end."""
    world = World(seed, (), rates=rates, live=False)
    folder = home / f"seed{seed}"
    folder.mkdir()
    life = BotProcess(world, world.names[:1], folder, bot_config(world), PlannedCrash(10**9, after=False))
    world.run(life.live)
    life.close()
    with closing(open_journal(folder / "tbot.sqlite")) as journal:
        return world, list(journal.events())


def blind(events: list[Event]) -> tuple[set[str], list[str | None]]:
    """The causes by which the bot saw that it sees nothing, and the entries that it marked as sent meanwhile."""
    there: set[str] = set()
    seen: set[str] = set()
    entries: set[str | None] = set()
    sent = []
    for event in events:
        if event.kind == records.STATE and event.payload["cause"] in _UNSEEN:
            (there.add if event.payload["there"] else there.discard)(event.payload["cause"])
            seen |= there
        elif event.kind == records.INTENDED and event.payload["leg"] == "entry":
            entries.add(event.cid)
        elif event.kind == records.SENDING and there and event.cid in entries:
            sent.append(event.cid)
    return seen, sent


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["F7", "F60", "F61"])
def test_f7_f60_f61_nothing_is_entered_while_the_broker_is_out_of_reach(tmp_path: Path, fault: str) -> None:
    """Data alone let nothing in; when it is over each order's outcome is known, and none was sent twice."""
    seen: set[str] = set()
    struck = 0
    for seed in SEEDS:
        world, events = lived(tmp_path, seed, **{fault: 0.25})
        struck += world.faults.injected.get(fault, 0)
        causes, sent = blind(events)
        seen |= causes
        assert sent == []
        unsettled = [one for one in fold_events(events).orders.values() if one.state is OrderState.UNKNOWN]
        assert unsettled == []
        requests = world.way(world.names[0]).requests
        submits = [one.client_order_id for one in requests if one.kind == "submit" and one.left]
        assert len(submits) == len(set(submits))
    assert struck
    assert seen or fault == "F61"  # where readings pass, only orders are in doubt


@pytest.mark.slow
def test_f7_a_certificate_that_is_not_valid_wakes_somebody(tmp_path: Path) -> None:
    """Nothing goes on anyway: no request leaves while it lasts, and the page quotes what is the matter."""
    told = []
    for seed in SEEDS:
        _, events = lived(tmp_path, seed, F7=0.2)
        watch = AlertRules(RoutineEvents())
        for event in events:
            watch.apply(event)
            told += [
                one for one in watch.open_incidents(event.applied).values()
                if one.urgency is Urgency.CRITICAL and "certificate" in one.what
            ]  # fmt: skip
    assert told
