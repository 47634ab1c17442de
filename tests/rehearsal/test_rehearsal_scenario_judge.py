"""The judge of a scenario's day finds each way in which the contract can be broken, from facts alone."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any, Final

import attrs
import pytest

from tbot_core.cli.commands.rehearse import scenario_document, scenario_lines
from tbot_core.journal import records
from tbot_core.journal.store import Event
from tbot_core.rehearsal.scenario_judge import ObservedDay, ScenarioReport, judge
from tbot_core.testing.venue import (
    Cover,
    Held,
    Process,
    ProtectionFact,
    Quoted,
    SeenOrder,
    SeenRequest,
    ShownCover,
    ShownHeld,
    VenueScenario,
)

SYMBOL: Final = "AAPL"
TEN: Final = Decimal(10)
CLOSE: Final = 600.0
NOW: Final = dt.datetime(2026, 3, 3, 15, tzinfo=dt.UTC)
SCENARIO: Final = VenueScenario(name="a day", plan=lambda _venue, _kill: None)


def event(kind: str, cid: str | None = None, **payload: Any) -> Event:
    """An event of the journal."""
    return Event(seq=1, kind=kind, cid=cid, source=None, payload=payload, received=NOW, applied=NOW, hash="")


def seen(name: str, act: str, begins: float, ends: float | None, **more: Any) -> SeenOrder:
    """An order of the bot that was booked."""
    terms = {"symbol": SYMBOL, "buy": act == "entry", "own": True, **more}
    return SeenOrder(client_order_id=name, act=act, arrived_at=begins, ended_at=ends, **terms)


def request(at: float, act: str, name: str, *, failed: bool = False) -> SeenRequest:
    """An order request that arrived."""
    return SeenRequest(at=at, act=act, symbol=SYMBOL, client_order_id=name, failed=failed)


FACTS: Final[tuple[ProtectionFact, ...]] = (
    Process(at=0, runs=True),
    *(Quoted(at=float(at), symbol=SYMBOL) for at in range(0, 600, 5)),
    Held(at=100, symbol=SYMBOL, quantity=TEN),
    ShownHeld(at=100, symbol=SYMBOL, quantity=TEN),
    Cover(at=101, symbol=SYMBOL, quantity=TEN),
    Held(at=300, symbol=SYMBOL, quantity=Decimal(0)),
)
ORDERS: Final = (
    seen("in", "entry", 99, 100, filled=TEN),
    seen("stop", "stop", 101, 295, cancelled=True, cancelled_by_client=True),
    seen("out", "exit", 296, 300, filled=TEN),
)
REQUESTS: Final = (request(99, "entry", "in"), request(101, "stop", "stop"), request(296, "exit", "out"))
CLOSED: Final = event(records.SESSION_CLOSED, cash="100000")
FILLS: Final = (event("fill", "in", quantity="10"), event("fill", "out", quantity="10"))
SOUND: Final = ObservedDay(
    scenario=SCENARIO,
    closes_at=CLOSE,
    facts=FACTS,
    requests=REQUESTS,
    orders=ORDERS,
    holdings={},
    cash=Decimal(100_000),
    events=(*FILLS, CLOSED),
    alerts=(),
)


def test_a_sound_day_passes() -> None:
    """A position that was protected after a second, and closed."""
    found = judge(SOUND)
    assert found.violations == ()
    assert found.longest_bare_s == 1.0


HELD: Final = {"holdings": {SYMBOL: TEN}, "facts": FACTS[:-1]}
ENDED: Final = ShownCover(at=110, symbol=SYMBOL, quantity=Decimal(0))
SECOND: Final = seen("again", "stop", 200, 295)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"ended": "ValueError"}, "the run ended: ValueError", id="the run ended"),
        pytest.param({"events": FILLS}, "the session was not closed", id="not closed"),
        pytest.param({"facts": FACTS[:1], "orders": (), "events": (CLOSED,)}, "nothing was opened", id="no trade"),
        pytest.param(
            {"facts": (*FACTS, Held(at=400, symbol=SYMBOL, quantity=-TEN))},
            "a position turned to the other side",
            id="opposite",
        ),
        pytest.param(
            {"events": (*FILLS, event("fill", "in", quantity="1"), CLOSED)},
            "the journal has trades that the venue never made",
            id="phantom",
        ),
        pytest.param(
            {"events": (*FILLS, event(records.ADJUSTMENT), CLOSED)},
            "the journal has trades that the venue never made",
            id="booked as external",
        ),
        pytest.param({"events": (FILLS[0], CLOSED)}, "the venue has fills that the journal lacks", id="lost"),
        pytest.param(
            {"requests": REQUESTS[:2], "facts": FACTS[:-1]}, "a stop was cancelled without an exit", id="bare cancel"
        ),
        pytest.param(
            {"orders": (*ORDERS, SECOND)}, "two orders had one purpose at the same time", id="two stops at once"
        ),
        pytest.param(
            {"requests": (*REQUESTS[:2], request(290, "exit", "lost", failed=True), REQUESTS[2])},
            "two orders had one purpose at the same time",
            id="another id while the outcome is unknown",
        ),
        pytest.param({**HELD, "alerts": ("STUCK: 10 AAPL",)}, "held overnight, and not STUCK", id="not stuck"),
        pytest.param(
            {**HELD, "events": (*FILLS, event(records.STUCK), CLOSED)},
            "held overnight, and no critical alert",
            id="not paged",
        ),
        pytest.param({"cash": Decimal(99_999)}, "cash differs", id="cash"),
        pytest.param(
            {"facts": (*FACTS, Cover(at=110, symbol=SYMBOL, quantity=Decimal(0)), ENDED)},
            "AAPL was bare for 190.0 s",
            id="bare",
        ),
    ],
)
def test_each_way_to_break_the_contract_is_found(changes: dict[str, Any], words: str) -> None:
    """A day that is sound otherwise has that violation."""
    assert words in judge(attrs.evolve(SOUND, **changes)).violations


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            {"events": (*FILLS, event(records.ADJUSTMENT), CLOSED), "scenario": attrs.evolve(SCENARIO, foreign=True)},
            id="what others did",
        ),
        pytest.param({"orders": (*ORDERS, attrs.evolve(SECOND, replaces="stop"))}, id="a replacement"),
        pytest.param({"orders": (*ORDERS, attrs.evolve(SECOND, own=False))}, id="an order of another"),
        pytest.param(
            {"requests": (*REQUESTS[:2], request(290, "exit", "out", failed=True), REQUESTS[2])},
            id="the same id again",
        ),
        pytest.param(
            {
                "facts": FACTS[:1],
                "orders": (),
                "events": (CLOSED,),
                "scenario": attrs.evolve(SCENARIO, trades=False),
            },
            id="an entry that may be missed",
        ),
    ],
)
def test_what_the_contract_allows_is_no_violation(changes: dict[str, Any]) -> None:
    """Such a day passes."""
    assert judge(attrs.evolve(SOUND, **changes)).violations == ()


def test_the_table_names_each_scenario_and_counts_the_reasons() -> None:
    """With figures, what did not occur, and how many failed."""
    bare = ("AAPL was bare for 190.0 s",)
    reports = [
        ScenarioReport(name="one", longest_bare_s=190.0, held=True, stuck=True, violations=bare),
        ScenarioReport(name="two", held=True, stuck=True, paged=True, faults_met=False),
    ]
    lines = scenario_lines(reports, 12.0)
    assert lines[1].split()[:2] == ["one", "190.0"]
    assert lines[1].endswith("FAILED: AAPL was bare for 190.0 s")
    assert lines[2].endswith("passed (the fault did not occur)")
    assert lines[3:] == ["2 scenarios in 12 s, 1 failed", "    1 AAPL was bare"]
    document = scenario_document("alpaca", reports, 12.0)
    assert (document["failed"], document["reasons"]) == (1, {"AAPL was bare": 1})
