"""What filters fetch before the bell: for whom, how long, and where it is found again."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import polars as pl
import pytest

from tbot_core.contracts import Check
from tbot_core.engine.session.fact_refresh import BATCH, FactRefresher, fact_sources
from tbot_core.errors import LoginNeeded, Unavailable
from tbot_core.journal import codec
from tbot_core.marketdata.store import manifest, reference
from tbot_core.marketdata.store.recorded_facts import RecordedFact, RecordedFacts, with_recorded
from tbot_core.model.clock import ManualClock, exchange_moment
from tbot_core.model.reasons import Reason
from tbot_core.system import filesystem
from tbot_core.testing.sessions import day
from tbot_core.testing.store import StoreFixture, exchange_sessions
from tbot_core.trading.verdicts import apply_checks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tbot_core.trading.universe import FactCoverage

SESSIONS = exchange_sessions("2019-12-02", "2019-12-20")
TODAY = SESSIONS[0]
NAMES = tuple(f"S{number:02}" for number in range(25))


@attrs.define(eq=False)
class Ratings:
    """A filter that fetches a rating for a week and a rank for a day; a symbol takes it `symbol_s` seconds."""

    clock: ManualClock
    symbol_s: float = 1.0
    faults: list[Exception] = attrs.field(factory=list)
    asked: list[tuple[str, ...]] = attrs.field(factory=list)
    facts: Mapping[str, int] = attrs.field(factory=lambda: {"rating": 7, "rank": 1})

    async def refresh(self, _day: dt.date, symbols: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """The number in the symbol's name is its rating; S03 is unknown, and no symbol has a rank but S01."""
        self.asked.append(tuple(symbols))
        self.clock.advance(self.symbol_s * len(symbols))
        if self.faults:
            raise self.faults.pop(0)
        found: dict[str, dict[str, float]] = {name: {"rating": float(name[1:])} for name in symbols if name != "S03"}
        return found | ({"S01": {"rating": 1.0, "rank": 4.0}} if "S01" in symbols else {})


@attrs.define(eq=False)
class Morning:
    """The morning of a session, from 08:00 New York, with a filter's server."""

    folder: Path
    clock: ManualClock = attrs.field(factory=lambda: ManualClock(exchange_moment(TODAY.date, dt.time(8))))
    events: list[tuple[str, Any]] = attrs.field(factory=list)
    waits: list[str] = attrs.field(factory=list)
    server: Ratings = attrs.Factory(lambda self: Ratings(self.clock), takes_self=True)

    def refresh(
        self, names: Sequence[str] = NAMES, candidates: Callable[[RecordedFacts], Sequence[str]] | None = None
    ) -> tuple[RecordedFacts, FactCoverage]:
        """Refresh the facts of these symbols, or of those that `candidates` returns."""
        refresher = FactRefresher(
            sources={"ratings": self.server},
            bars=self.folder,
            clock=self.clock,
            record=lambda fetched: self.events.append((fetched.kind, codec.write(fetched))),
        )
        wanted = candidates or (lambda _known: names)
        recorded, (coverage,) = asyncio.run(refresher.refresh(self.today, wanted, self.waits.append))
        return recorded, coverage

    @property
    def today(self) -> Any:
        """The session of the clock's day."""
        return next(one for one in SESSIONS if one.date == self.clock.now().date())


@pytest.fixture
def morning(tmp_path: Path) -> Morning:
    """A morning with an empty store."""
    return Morning(tmp_path)


def test_all_candidates_are_asked_for_in_batches_and_known_then(morning: Morning) -> None:
    """Ten at a time, in their order; each batch is an event, and what the vendor lacks is known to be unknown."""
    recorded, coverage = morning.refresh()
    assert morning.server.asked == [NAMES[:BATCH], NAMES[BATCH : 2 * BATCH], NAMES[2 * BATCH :]]
    assert (coverage.known, coverage.of, coverage.fault, coverage.is_enough) == (25, 25, "", True)
    found = recorded.at([TODAY.date], NAMES)
    np.testing.assert_array_equal(found["rating"][0, :5], [0.0, 1.0, 2.0, np.nan, 4.0])
    assert np.flatnonzero(~np.isnan(found["rank"][0])).tolist() == [1]
    assert [kind for kind, _ in morning.events] == ["facts"] * 3
    assert morning.events[0][1]["facts"] | {} == {
        **{name: {"rating": float(name[1:])} for name in NAMES[:BATCH]},
        "S01": {"rating": 1.0, "rank": 4.0},
        "S03": {},
    }


def test_what_was_fetched_is_not_fetched_again_until_it_ends(morning: Morning) -> None:
    """A second refresh asks for nothing; on the next day the rank has ended, and all is asked for again."""
    morning.refresh(NAMES[:3])
    morning.refresh(NAMES[:3])
    assert len(morning.server.asked) == 1
    morning.clock.advance(24 * 3600)
    morning.refresh(NAMES[:3])
    assert len(morning.server.asked) == 2


def test_a_later_session_reads_it_and_an_earlier_one_does_not(morning: Morning) -> None:
    """The store has it from the day of the refresh for as many days as it holds: never before."""
    morning.clock.advance(24 * 3600)
    morning.refresh(NAMES[:2])
    stored = reference.reference_facts(morning.folder).recorded
    days = [SESSIONS[0].date, SESSIONS[1].date, SESSIONS[2].date, dt.date(2019, 12, 9), dt.date(2019, 12, 10)]
    np.testing.assert_array_equal(stored.at(days, ["S01"])["rating"][:, 0], [np.nan, 1.0, 1.0, 1.0, np.nan])
    np.testing.assert_array_equal(stored.at(days, ["S01"])["rank"][:, 0], [np.nan, 4.0, np.nan, np.nan, np.nan])


def test_it_asks_only_for_those_that_what_is_known_leaves(morning: Morning) -> None:
    """The candidates are chosen anew after each batch: symbols that the facts deny make room for the next ones."""

    def three_best(known: RecordedFacts) -> list[str]:
        rating = known.at([TODAY.date], NAMES).get("rating", np.full((1, len(NAMES)), np.nan))[0]
        return [name for name, one in zip(NAMES, rating, strict=True) if not one < 4][:3]

    _, coverage = morning.refresh(candidates=three_best)
    assert morning.server.asked == [("S00", "S01", "S02"), ("S03", "S04", "S05")]
    assert (coverage.known, coverage.of) == (3, 3)


def test_it_ends_when_the_session_should_be_ready(morning: Morning) -> None:
    """At 09:00 with enough known; the rest is fetched in a later morning."""
    morning.server.symbol_s = 180.0
    _, coverage = morning.refresh()
    assert (coverage.known, coverage.of, coverage.is_enough) == (20, 25, True)
    assert morning.waits == []
    assert (
        coverage.text
        == "ratings: the facts of 20 of 25 symbols that may be entered are known; the rest takes about 15 minutes"
    )


def test_it_goes_on_and_says_so_while_too_little_is_known(morning: Morning) -> None:
    """After 09:00 it says how much is known and how long the rest takes."""
    morning.clock.advance(3600)
    morning.server.symbol_s = 20.0
    assert morning.refresh()[1].known == 20
    assert morning.waits == [
        "ratings: the facts of 10 of 25 symbols that may be entered are known; the rest takes about 5 minutes"
    ]


def test_it_ends_five_minutes_before_the_open(morning: Morning) -> None:
    """However little is known."""
    morning.server.symbol_s = 510.0
    _, coverage = morning.refresh()
    assert (coverage.known, coverage.of, coverage.is_enough, morning.waits) == (10, 25, False, [])


def test_after_the_open_it_takes_a_minute_at_most(morning: Morning) -> None:
    """A late start begins with the first candidates."""
    morning.clock.advance(4 * 3600)
    morning.server.symbol_s = 5.0
    assert morning.refresh()[1].known == 2 * BATCH


def test_a_failing_vendor_is_asked_four_times(morning: Morning) -> None:
    """With pauses that grow, or the vendor's own; one answer between counts anew."""
    busy = Unavailable("busy", retry_after_s=30.0)
    morning.server.faults = [busy, Unavailable("down"), TimeoutError()]
    assert morning.refresh(NAMES[:3])[1].known == 3
    assert morning.clock.monotonic() == pytest.approx(4 * 3 + 30 + 4 + 16)
    morning.server.faults = [Unavailable("down")] * 3 + [TimeoutError()]
    _, coverage = morning.refresh(NAMES)
    assert (coverage.known, coverage.fault) == (3, "no answer within 60 s")
    assert coverage.text == "ratings: the facts of 3 of 25 symbols that may be entered are known; no answer within 60 s"


def test_a_refused_key_ends_the_refresh_at_once(morning: Morning) -> None:
    """Asking again would not help."""
    morning.server.faults = [LoginNeeded("the key is refused")]
    _, coverage = morning.refresh()
    assert (coverage.fault, len(morning.server.asked)) == ("the key is refused", 1)
    assert not coverage.is_enough


@pytest.mark.parametrize("rejects", [True, False])
def test_what_has_ended_does_not_judge_a_day_whose_refresh_failed(morning: Morning, *, rejects: bool) -> None:
    """The rank of the day before is unknown, as FILTER_MISSING_DATA decides; a rating for a week still counts."""
    morning.refresh(NAMES[:3])
    morning.clock.advance(24 * 3600)
    morning.server.faults = [LoginNeeded("the key is refused")] * 999
    recorded, coverage = morning.refresh(NAMES[:3])
    assert (coverage.known, coverage.fault) == (0, "the key is refused")
    assert [kind for kind, _ in morning.events] == ["facts"]
    today = recorded.at([morning.today.date], NAMES[:3])
    np.testing.assert_array_equal(today["rating"][0], [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(today["rank"][0], [np.nan] * 3)
    denied: Any = {
        "low": 0.5,
        "below": Reason.FILTER_DENIED,
        "above": Reason.FILTER_DENIED,
        "unknown": Reason.FILTER_UNKNOWN,
    }
    checks = [("ratings", Check(name=name, value=today[name], **denied)) for name in ("rank", "rating")]
    reasons = np.zeros((1, 3), dtype=np.int64)
    apply_checks(reasons, checks, missing_rejects=rejects)
    unknown = [Reason.FILTER_UNKNOWN] * 3
    assert reasons[0].tolist() == (unknown if rejects else [Reason.FILTER_DENIED, Reason.ALLOWED, Reason.ALLOWED])


def test_a_refresh_that_failed_is_tried_again_while_too_little_is_known(morning: Morning) -> None:
    """After 09:00 it says why, and tries again each minute, up to five minutes before the open."""
    morning.clock.advance(3600)
    morning.server.faults = [LoginNeeded("the key is refused")] * 2
    _, coverage = morning.refresh()
    assert (coverage.known, coverage.fault) == (20, "")
    assert (
        morning.waits[:2]
        == ["ratings: the facts of 0 of 25 symbols that may be entered are known; the key is refused"] * 2
    )
    morning.server.faults = [LoginNeeded("the key is refused")] * 99
    again = Morning(morning.folder / "other", server=morning.server, clock=morning.clock)
    _, coverage = again.refresh()
    assert (coverage.known, len(again.waits) > 9) == (0, True)
    assert again.clock.now() <= TODAY.open - dt.timedelta(minutes=4)


def test_what_cannot_be_stored_is_used_and_journaled(morning: Morning) -> None:
    """Another process holds the store: the session has the facts all the same."""
    with filesystem.hold_lock(morning.folder / manifest.LOCK):
        recorded, coverage = morning.refresh(NAMES[:2])
    assert (coverage.known, len(morning.events)) == (2, 1)
    assert recorded.at([TODAY.date], ["S01"])["rating"].tolist() == [[1.0]]
    assert reference.reference_facts(morning.folder).recorded.at([TODAY.date], ["S01"]) == {}


def test_filters_that_fetch_nothing_are_no_sources(morning: Morning) -> None:
    """Those without `refresh`, and those that declare no facts."""
    idle = Ratings(morning.clock, facts={})
    filters: Any = {"plain": object(), "idle": idle, "ratings": morning.server}
    assert list(fact_sources(filters)) == ["ratings"]


def test_a_capitalisation_that_the_source_of_bars_knows_stays() -> None:
    """A recorded one fills what is unknown, and is no further fact."""
    known = [
        RecordedFact(name="market_cap", symbol=name, first=TODAY.date, last=None, value=5e9) for name in ("A", "B")
    ]
    found = with_recorded(day(2, market_cap=[1e9, np.nan]), RecordedFacts(known), TODAY.date, ("A", "B"))
    assert (found.market_cap.tolist(), found.recorded) == ([1e9, 5e9], {})
    assert found.date.tolist() == [TODAY.date]
    unknown = with_recorded(day(1), RecordedFacts(), TODAY.date, ("A",))
    assert np.isnan(unknown.market_cap).all()


def test_imported_fundamentals_are_facts_from_the_day_after(tmp_path: Path) -> None:
    """Of an import and a refresh the later one counts; an import has no end."""
    bench = StoreFixture(folder=tmp_path)
    filesystem.make_folder(bench.bars)
    rows = [{"symbol": "A", "as_of": TODAY.date, "pe_ratio": 12.0, "market_cap": 3e9}]
    table = pl.DataFrame(rows, schema=reference.SCHEMAS[manifest.FUNDAMENTALS])
    reference.write_table(bench.bars, manifest.FUNDAMENTALS, table)
    fetched = RecordedFact(name="pe_ratio", symbol="A", first=SESSIONS[2].date, last=SESSIONS[2].date, value=11.0)
    reference.add_fetched(bench.bars, [fetched])
    facts = bench.store.facts(SESSIONS[:4], ["A"])
    np.testing.assert_array_equal(facts.fact("pe_ratio")[:, 0], [np.nan, 12.0, 11.0, np.nan])
    np.testing.assert_array_equal(facts.market_cap[:, 0], [np.nan, 3e9, 3e9, 3e9])
    assert facts.date[:, 0].tolist() == [one.date for one in SESSIONS[:4]]
    assert np.isnan(facts.fact("unheard")).all()
