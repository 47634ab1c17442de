"""`tbot rehearse --broker NAME --serve`: the venue of a broker plugin at the real pace, for a rehearsal by a person."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest

from tbot_core import cli
from tbot_core.engine.rehearsal_target import LEAD, RehearsalTarget, rehearsal_target, rehearsed_session
from tbot_core.errors import PluginError
from tbot_core.model.clock import ManualClock
from tbot_core.rehearsal import venue_service
from tbot_core.rehearsal.broker_rehearsal import broker_plugin
from tbot_core.rehearsal.demo_market import demo_market
from tbot_core.rehearsal.prices import SimulatedMarket
from tbot_core.rehearsal.venue_service import ServedDay, lose_streams, serve_venue

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _no_wait_after_the_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venue_service, "AFTER_CLOSE_S", 0.0)


NOW = dt.datetime(2026, 3, 3, 3, 0, tzinfo=dt.UTC)


@pytest.mark.slow
@pytest.mark.usefixtures("loopback", "plugins")
def test_the_venue_trades_one_session_and_the_target_is_announced_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The market is that of the demo; by the venue's clock the session opens at the moment that was asked for."""
    told: list[RehearsalTarget] = []
    traded: list[tuple[tuple[str, ...], dt.timedelta]] = []

    async def trade(market: SimulatedMarket, _venue: Any, session: Any, clock: Any) -> None:
        traded.append((market.symbols, session.open - clock.now()))

    monkeypatch.setattr(SimulatedMarket, "trade_at", trade)
    lines: list[tuple[str, ...]] = []
    serve_venue(
        broker_plugin("acme"), ServedDay(opens=dt.datetime.now(dt.UTC) + LEAD, seed=1), told.append, lines.append
    )
    assert lines[0][0].startswith("The session has closed. The venue answers for another")
    [(symbols, left)] = traded
    assert symbols == demo_market(1).symbols
    assert dt.timedelta(seconds=60) < left <= LEAD
    assert told[0].stream != told[0].url


@pytest.mark.slow
@pytest.mark.usefixtures("loopback", "plugins")
def test_what_the_venue_has_seen_is_reported_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a person interrupts it; a venue that does not report has nothing to say."""
    acme, told = broker_plugin("acme"), list[tuple[str, ...]]()

    async def interrupted(*_given: Any) -> None:
        raise KeyboardInterrupt

    @contextmanager
    def reporting(*place: Any) -> Iterator[Any]:
        assert acme.venue is not None
        with acme.venue(*place) as opened:
            venue: Any = opened
            venue.summary = lambda: ["3 requests"]
            yield venue

    monkeypatch.setattr(SimulatedMarket, "trade_at", interrupted)
    for plugin in (acme, attrs.evolve(acme, venue=reporting)):
        with pytest.raises(KeyboardInterrupt):
            serve_venue(plugin, ServedDay(opens=NOW), lambda _target: None, told.append)
    assert told == [(), ("3 requests",)]


@pytest.mark.slow
@pytest.mark.usefixtures("loopback", "plugins")
def test_the_command_of_the_rehearsal_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As text to copy, and as a document."""

    async def trade(*_given: Any) -> None:
        pass

    monkeypatch.setattr(SimulatedMarket, "trade_at", trade)
    assert cli.invoke(["rehearse", "--broker", "acme", "--serve"]) == 0
    lines = capsys.readouterr().out.splitlines()
    [command] = [one.strip() for one in lines if one.startswith("  export TBOT_REHEARSAL='http://127.0.0.1:")]
    assert rehearsal_target(command.split("'")[1], NOW).text == command.split("'")[1]
    assert cli.invoke(["rehearse", "--broker", "acme", "--serve", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    target = rehearsal_target(document["rehearsal"], NOW)
    assert dt.datetime.fromisoformat(document["opens"]) == target.opens


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    "options",
    [
        ("--serve",),
        ("--broker", "acme", "--serve", "--seeds", "2"),
        ("--serve", "--fault", "F2"),
        ("--serve", "--outage", "1..2"),
        ("--broker", "acme", "--serve", "--session", "2018-03-20", "--half-spread", "1"),
    ],
)
def test_a_venue_is_served_for_one_broker_without_faults(
    options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Other options are refused."""
    assert cli.invoke(["rehearse", *options]) == 2
    assert "--serve needs --broker NAME, and excludes" in capsys.readouterr().err


def test_a_broker_whose_venue_trades_no_day_is_refused() -> None:
    """Paper has a venue for its contract only."""
    with pytest.raises(PluginError, match="cannot trade a whole day"):
        serve_venue(broker_plugin("paper"), ServedDay(opens=NOW), lambda _target: None)


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("text", ["x", "3", "5..3", "3..x"])
def test_an_outage_is_a_range_of_minutes(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Another text is refused, and the option without --serve."""
    assert cli.invoke(["rehearse", "--broker", "acme", "--serve", "--outage", text]) == 2
    assert f"--outage {text} is not a range of minutes" in capsys.readouterr().err
    assert cli.invoke(["rehearse", "--broker", "acme", "--outage", "3..4"]) == 2
    assert "--opens-in and --outage are for --serve" in capsys.readouterr().err


@attrs.define
class Streams:
    """A server that notes what it answers to new WebSockets when its open ones are closed."""

    refuse_sockets: int = 0
    closed: list[int] = attrs.field(factory=list)

    async def drop_sockets(self) -> None:
        """Note it."""
        self.closed.append(self.refuse_sockets)


@pytest.mark.parametrize(("outage", "closed"), [(range(26, 29), [503]), (range(0), [])])
def test_streams_are_lost_in_the_minutes_of_an_outage(outage: range, closed: list[int]) -> None:
    """Open ones are closed and new ones refused; afterwards they can be opened again."""
    session, server = rehearsed_session(NOW), Streams()
    clock, given = ManualClock(session.open), cast("Any", server)
    asyncio.run(lose_streams(given, session, clock, outage))
    assert (server.closed, server.refuse_sockets) == (closed, 0)
    assert clock.now() == session.moment(outage.stop)
