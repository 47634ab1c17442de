"""Mornings of the bot with the filter: the vendor's limit of requests, a cold start over days, and point in time."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
from tbot_filter_finnhub import NEEDS, Config, FinnhubCredentials, create
from tbot_filter_finnhub.venue import KEY, PER_MINUTE, FundamentalsServer, company

from tbot_core.contracts.settings import StrategySettings
from tbot_core.engine.session.fact_refresh import BATCH, FactRefresher
from tbot_core.journal import codec
from tbot_core.model.clock import ManualClock, exchange_moment
from tbot_core.system import filesystem
from tbot_core.system.secret import Secret
from tbot_core.testing.scripted_server import ScriptedServer, context
from tbot_core.testing.store import StoreFixture, exchange_sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.trading.universe import FactCoverage

pytestmark = pytest.mark.usefixtures("loopback")

SESSIONS = exchange_sessions("2019-12-02", "2019-12-20")
NAMES = tuple(f"S{number:03}" for number in range(500))


@attrs.define(eq=False)
class Mornings:
    """A bot's folder over several mornings; the vendor knows every symbol."""

    folder: Path
    clock: ManualClock = attrs.field(factory=lambda: ManualClock(exchange_moment(SESSIONS[0].date, dt.time(8))))
    events: list[tuple[str, Any]] = attrs.field(factory=list)
    blackout: bool = False
    vendor: FundamentalsServer = attrs.Factory(
        lambda self: FundamentalsServer(self.clock, others=lambda _symbol: company()), takes_self=True
    )

    def refresh(self, session: int, hour: dt.time, symbols: Sequence[str] = NAMES) -> Any:
        """The coverage of a morning whose refresh begins at this hour, New York, in a new process."""
        day = SESSIONS[session]
        self.clock.advance_to(exchange_moment(day.date, hour))

        async def main() -> tuple[FactCoverage, ...]:
            async with ScriptedServer(self.vendor.answer) as server:
                given = context(
                    server,
                    hosts=NEEDS.hosts,
                    secrets={"screener_api": FinnhubCredentials(api_key=Secret(KEY))},
                    clock=self.clock,
                    folder=self.folder,
                )
                refresher = FactRefresher(
                    sources={"finnhub": create(Config(earnings_blackout=self.blackout), given)},
                    bars=self.folder,
                    clock=self.clock,
                    record=lambda fetched: self.events.append((fetched.kind, codec.write(fetched))),
                )
                try:
                    return (await refresher.refresh(day, lambda _known: symbols, lambda _words: None))[1]
                finally:
                    await given.connect.close()

        (coverage,) = asyncio.run(main())
        return coverage


@pytest.fixture
def mornings(tmp_path: Path) -> Mornings:
    """A bot without any fact."""
    return Mornings(tmp_path)


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_500_candidates_never_exceed_60_requests_in_any_minute(mornings: Mornings) -> None:
    """A cold start of 500 symbols takes 12 minutes, one request each; the vendor refuses none."""
    coverage = mornings.refresh(0, dt.time(8))
    assert (coverage.known, coverage.of, coverage.fault) == (500, 500, "")
    assert (len(mornings.vendor.times), mornings.vendor.refused) == (500, 0)
    assert mornings.vendor.busiest_minute <= PER_MINUTE
    assert mornings.clock.monotonic() / 60 == pytest.approx(12, abs=0.5)


@pytest.mark.slow
def test_a_cold_start_goes_on_over_several_mornings(mornings: Mornings) -> None:
    """Each begins late and fetches for a minute; nothing is fetched twice, and each says how far it is."""
    found = [mornings.refresh(session, dt.time(9, 40), NAMES[:120]) for session in range(3)]
    known = [one.known for one in found]
    assert known[0] in range(40, 70)
    assert known == sorted({*known})
    assert known[-1] == 120
    assert [one.is_enough for one in found] == [False, True, True]
    asked = [symbol for _, payload in mornings.events for symbol in payload["facts"]]
    assert len(asked) == len({*asked}) == len(mornings.vendor.times) == 120
    counted = f"{known[0]} of 120 symbols that may be entered"
    assert found[0].text == f"finnhub: the facts of {counted} are known; the rest takes about 2 minutes"
    assert len(mornings.events[0][1]["facts"]) == BATCH
    assert mornings.vendor.busiest_minute <= PER_MINUTE


def test_facts_of_companies_hold_for_a_week_and_dates_for_three_days(mornings: Mornings) -> None:
    """With EARNINGS_BLACKOUT each symbol is asked for again when its date has ended; without it after seven days."""
    mornings.vendor.reports = {"ZZZ": SESSIONS[-1].date}
    for session in range(8):
        mornings.refresh(session, dt.time(8), NAMES[:3])
    assert [payload["session"] for _, payload in mornings.events] == ["2019-12-02", "2019-12-09"]
    other = Mornings(mornings.folder / "other", blackout=True)
    filesystem.make_folder(other.folder)
    other.vendor.reports = {"S001": dt.date(2019, 12, 6), "ZZZ": dt.date(2019, 12, 12)}
    for session in range(6):
        other.refresh(session, dt.time(8), NAMES[:3])
    assert [payload["session"] for _, payload in other.events] == ["2019-12-02", "2019-12-05", "2019-12-09"]


def test_point_in_time_a_backtest_before_the_refresh_does_not_see_it(tmp_path: Path) -> None:
    """The store has the facts from their morning on, until they end: before and after the filter denies as unknown."""
    bench = StoreFixture(folder=tmp_path)
    filesystem.make_folder(bench.bars)
    there = Mornings(bench.bars, blackout=True)
    there.vendor.companies = {"S000": company(pe=80.0), "S001": company(), "S002": company(debt=None)}
    there.vendor.reports = {"S001": SESSIONS[4].date}
    there.refresh(2, dt.time(8), NAMES[:3])
    facts = bench.store.facts(SESSIONS[:6], NAMES[:3])
    np.testing.assert_array_equal(facts.fact("pe_ratio")[:, 0], [np.nan, np.nan, 80, 80, 80, 80])
    np.testing.assert_array_equal(facts.market_cap[:, 1], [np.nan, np.nan, 5e9, 5e9, 5e9, 5e9])
    server: Any = ScriptedServer()
    server.url = ""
    subject = create(Config(earnings_blackout=True), context(server, hosts=NEEDS.hosts, folder=tmp_path))
    ratio, debt, earnings = subject.screen(facts, NAMES[:3], StrategySettings())
    assert np.isnan(ratio.value[:2]).all()
    assert (ratio.value[2:, 0] > ratio.high).all()  # type: ignore[operator]  # it has a bound
    assert np.isnan(debt.value[:, 2]).all()
    np.testing.assert_array_equal(earnings.value[:, 1], [np.nan, np.nan, 2, 1, 0, np.nan])
