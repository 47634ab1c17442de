"""The plugin trades simulated days at the venue, and the venue says what it saw."""

from __future__ import annotations

import re
import runpy
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from tbot_broker_alpaca.venue import open_venue

from tbot_core.cli.commands.rehearse import command
from tbot_core.testing.venue import (
    BrokerUnderTest,
    FailingVenue,
    MovesLiveFeed,
    PartlyFillingVenue,
    ReportingVenue,
    SharedVenue,
    SplittingVenue,
    TradingVenue,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.first(0)  # over two seconds
@pytest.mark.slow
@pytest.mark.usefixtures("loopback")
def test_a_day_with_faults_and_a_restart_violates_nothing() -> None:
    """Orders fill, the venue and the journal agree, and less than half of the rate limit is used."""
    done = CliRunner().invoke(command, ["--broker", "alpaca", "--seeds", "1", "--first-seed", "5"])
    assert done.exit_code == 0, done.output
    assert re.match(r"1 session, \d+ orders, [1-9]\d* fills, 1 crash and restart\n", done.stdout)
    assert "The venue of seed 5:\n" in done.stdout
    assert re.search(r"\n\d+ requests; \d+ orders: .*\d+ filled\n", done.stdout)
    most = [int(text) for text in re.findall(r": at most (\d+) of 200 requests in one minute", done.stdout)]
    assert len(most) == 2
    assert max(most) < 100
    assert done.stdout.endswith("0 violations\n")


@pytest.mark.first(0)  # over two seconds
@pytest.mark.slow
@pytest.mark.usefixtures("loopback")
def test_five_positions_and_thirty_symbols_use_less_than_half_of_the_rate_limit(root: Path) -> None:
    """G9: while five positions are held for half an hour, in no minute more than 100 of 200 requests of a host."""
    benchmark = runpy.run_path(str(root / "benchmarks" / "requests_per_minute.py"))

    def few_days(venue: Any) -> None:
        venue.venue.market.past_days = 4

    found = benchmark["figures"]("alpaca", few_days)
    assert found[0] == "30 symbols, 5 positions"
    hosts = dict(re.findall(r"^(\w+): at most (\d+) of 200 requests in one minute", "\n".join(found), re.MULTILINE))
    assert set(hosts) == {"trading", "data"}
    assert max(map(int, hosts.values())) < 100
    assert benchmark["HELD_MINUTES"] > 30


@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize("live", [True, False])
def test_the_venue_plays_the_paper_host_or_the_live_one(*, live: bool) -> None:
    """G14: the account's number says which, and the plugin believes it where the host agrees."""
    with open_venue(live=live) as venue:
        account = venue.wait(venue.broker.connect())
        assert account.live is live
        assert account.account_id.startswith("PA") is not live


@pytest.mark.usefixtures("loopback")
def test_the_venue_has_every_protocol_of_the_kit() -> None:
    """So every case of the contract applies that the plugin claims."""
    with open_venue() as venue:
        base: BrokerUnderTest = venue
        assert base.symbol in venue.feed_symbols
        for protocol in (FailingVenue, MovesLiveFeed, PartlyFillingVenue, SharedVenue, SplittingVenue, TradingVenue):
            assert isinstance(venue, protocol), protocol
        assert isinstance(venue, ReportingVenue)
        assert venue.summary()[0] == "0 requests; 0 orders: none"


@pytest.mark.usefixtures("loopback")
def test_the_symbols_of_a_rehearsal_replace_the_venues_own() -> None:
    """The account has the cash of the rehearsal, and the halt of a symbol is its asset's."""
    with open_venue() as venue:
        venue.list_symbol("KO", Decimal(60), 5_000_000, Decimal(25_000))
        venue.list_symbol("F", Decimal(12), 5_000_000, Decimal(25_000))
        assert sorted(venue.venue.market.listings) == ["F", "KO"]
        assert venue.wait(venue.broker.account()).cash == 25_000
        venue.halt("KO")
        venue.trade("KO", Decimal(61))
        assert venue.venue.market.listings["KO"].price == 61
