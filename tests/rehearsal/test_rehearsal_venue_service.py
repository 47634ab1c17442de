"""`tbot rehearse --broker NAME --serve`: the venue of a broker plugin at the real pace, for a rehearsal by a person."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest

from tbot_core import cli
from tbot_core.actions.alerts import channel_test
from tbot_core.actions.plugin_checks import alert_findings
from tbot_core.actions.plugin_declarations import plugin_declarations
from tbot_core.actions.secrets import put_values
from tbot_core.alerts.service import alert_delivery, alerts_beside, message_writer
from tbot_core.alerts.store import alerts_file
from tbot_core.cli.commands.status import channel_lines
from tbot_core.contracts import PluginNeeds, Urgency
from tbot_core.engine.rehearsal_run import assemble_rehearsal, host_addresses, rehearsal_clock
from tbot_core.engine.rehearsal_target import LEAD, RehearsalTarget, rehearsal_target, rehearsed_session
from tbot_core.errors import PluginError, SettingsError, Unavailable, UsageError
from tbot_core.instance import Instance, load_settings
from tbot_core.instance.folder import REHEARSAL_VARIABLE
from tbot_core.marketdata.history import add_reference_facts
from tbot_core.marketdata.store.reference import reference_facts
from tbot_core.model.clock import ManualClock
from tbot_core.plugins import discovery
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import LoadedPlugin, PluginLoader
from tbot_core.rehearsal import venue_service
from tbot_core.rehearsal.broker_rehearsal import broker_plugin
from tbot_core.rehearsal.demo_market import demo_market
from tbot_core.rehearsal.prices import SimulatedMarket
from tbot_core.rehearsal.venue_service import (
    Arrivals,
    OpenVenue,
    ServedDay,
    installed_offers,
    lose_streams,
    serve_venue,
    served_venues,
)
from tbot_core.status.alert_channels import channel_documents
from tbot_core.testing.scripted_mail_server import ScriptedMailServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tbot_core.engine.assembly import Assembly


@pytest.fixture(autouse=True)
def _no_wait_after_the_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venue_service, "AFTER_CLOSE_S", 0.0)


NOW = dt.datetime(2026, 3, 3, 3, 0, tzinfo=dt.UTC)


@pytest.mark.slow
@pytest.mark.usefixtures("loopback", "plugins")
def test_the_venue_trades_one_session_and_the_target_is_announced_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The market is that of the demo; by the venue's clock the session opens at the moment that was asked for."""
    targets: list[RehearsalTarget] = []
    traded: list[tuple[tuple[str, ...], dt.timedelta]] = []

    async def trade(market: SimulatedMarket, _venue: Any, session: Any, clock: Any) -> None:
        traded.append((market.symbols, session.open - clock.now()))

    monkeypatch.setattr(SimulatedMarket, "trade_at", trade)
    lines: list[tuple[str, ...]] = []
    serve_venue(
        broker_plugin("acme"), ServedDay(opens=dt.datetime.now(dt.UTC) + LEAD, seed=1), targets.append, lines.append
    )
    assert lines[0][0].startswith("The session has closed. The venue answers for another")
    [(symbols, left)] = traded
    assert symbols == demo_market(1).symbols
    assert dt.timedelta(seconds=60) < left <= LEAD
    assert targets[0].stream != targets[0].url


@pytest.mark.slow
@pytest.mark.usefixtures("loopback", "plugins")
def test_what_the_venue_has_seen_is_reported_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a person interrupts it; a venue that does not report has nothing to say."""
    acme, targets = broker_plugin("acme"), list[tuple[str, ...]]()

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
            serve_venue(plugin, ServedDay(opens=NOW), lambda _target: None, targets.append)
    assert targets == [(), ("3 requests",)]


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


OPENS = dt.datetime(2026, 3, 3, 3, 0, tzinfo=dt.UTC) + LEAD

SETTINGS = {
    "BROKER_NAME": "ACME",
    "STRATEGY_SEQUENCE": "open",
    "FILTERS": "finnhub",
    "ENABLE_FUNNHUB_FUNDAMENTALS_FILTER": "true",
    "CRITICAL_ALERT_CHANNEL": "pagerduty,apprise",
    "ROUTINE_ALERT_CHANNEL": "email",
}

SECRETS: Mapping[str, Mapping[str, Any]] = {
    "broker": {"acme": {"api_key": "a-key"}},
    "screener_api": {"finnhub": {"api_key": "the-key-of-an-account"}},
    "smtp": {"host": "mail.example.com", "user": "bot@example.com", "password": "x", "recipients": "me@example.com"},
    "alert": {"pagerduty": {"routing_key": "0" * 32}, "apprise": {"urls": "json://127.0.0.1:9/x"}},
}


@pytest.fixture
def home(plugins: Any, tmp_path: Path, paper_instance: Callable[[Path], Path]) -> Path:
    """An instance whose plugins reach out; one of its channels has no venue that a rehearsal can serve."""
    del plugins
    home = tmp_path / "home"
    paper_instance(home)
    for category, values in SECRETS.items():
        put_values(home, category, dict(values))
    put_values(home, "env_bot", SETTINGS)
    return home


@contextmanager
def served() -> Iterator[tuple[asyncio.Runner, Mapping[str, OpenVenue], RehearsalTarget]]:
    """The venues of the installed plugins, and the target that leads to them."""
    with (
        asyncio.Runner() as runner,
        served_venues(installed_offers(), runner, rehearsal_clock(OPENS), pytest.fail) as venues,
    ):
        ports = {name: one.ports for name, one in venues.items()}
        yield runner, venues, RehearsalTarget(url="http://127.0.0.1:1", opens=OPENS, ports=ports)


@pytest.mark.slow
@pytest.mark.usefixtures("loopback")
def test_channels_and_filters_are_reached_at_their_venues(home: Path) -> None:
    """With the instance's credentials; what arrives is shown once, and stored data are the rehearsal's own.

    The imported VIX comes along.
    """
    add_reference_facts(Instance(home).bars, {OPENS.date(): 14.5}, {})
    with served() as (runner, venues, target):
        assembly, arrivals = assemble_rehearsal(rehearsal_target(target.text, OPENS), home, "paper"), Arrivals(venues)
        assert {"alert.email", "alert.pagerduty", "filter.finnhub"} <= venues.keys()
        assert "alert.apprise" not in venues
        runner.run(assembly.closing(reach(assembly)))
        lines = arrivals.poll()
    assert [one.partition(":")[0] for one in lines] == ["alert.email", "alert.pagerduty"]
    assert "trigger: [REHEARSAL TBOT_US_PAPER_" in lines[1]
    assert arrivals.poll() == []
    own = assembly.settings.instance
    assert reference_facts(own.bars).vix == {OPENS.date(): 14.5}
    for place in (alerts_file(own), own.journal, own.bars, own.plugin_data("alert", "email").parent):
        assert place.parent == home / "data" / "runs"


async def reach(assembly: Assembly) -> None:
    """Send an alert of each urgency, and fetch facts of a company."""
    writer, delivery = message_writer(assembly), alert_delivery(assembly)
    for urgency in Urgency:
        await delivery.send(writer.compose_test(urgency, assembly.clock.now()))
    fetching: Any = assembly.filters["finnhub"]
    assert (await fetching.refresh(OPENS.date(), ["AAA"]))["AAA"]


@pytest.mark.slow
def test_the_actions_say_that_a_channel_without_a_server_is_silent(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A test of the channel does not deny that the settings name it; the check warns of it, and the status shows it."""
    monkeypatch.setenv(REHEARSAL_VARIABLE, f"http://127.0.0.1:1?opens={OPENS:%Y%m%dT%H%M%S}")
    assert cli.invoke(["alerts", "test", "apprise", "--home", str(home)]) == 4
    assert "apprise stays silent in this rehearsal: it has no server on this machine." in capsys.readouterr().err
    targets: list[str] = []
    channel_test(home, notify=targets.append)
    assert targets[-1] == "No alerts by pagerduty, apprise, email in this rehearsal: it has no server on this machine."
    plugins = plugin_declarations(home)
    named = load_settings(home, mode="paper", declared=plugins.declared)
    (found,) = (row for row in alert_findings(named, plugins) if "apprise" in row.message)
    words = "Alert channel apprise: it stays silent in this rehearsal: it has no server on this machine."
    assert (found.level, found.message) == ("warn", words)
    settings = load_settings(home, mode="paper")
    (shown,) = (one for one in channel_documents(settings, home / "none", ["apprise"]) if one["name"] == "apprise")
    (line,) = channel_lines([shown])
    assert line.endswith("apprise  critical: silent in this rehearsal: it has no server on this machine")


@pytest.mark.slow
def test_a_channel_without_a_venue_is_silent_and_named(home: Path) -> None:
    """Without any server there are no alerts, and the filter is refused before it is connected."""
    assembly = assemble_rehearsal(RehearsalTarget(url="http://127.0.0.1:1", opens=OPENS), home, "paper")
    named = assembly.settings.notifications
    assert (named.critical_alert_channel, named.routine_alert_channel) == ((), ())
    assert [one for one in assembly.notes if "in this rehearsal" in one] == [
        "No alerts by apprise, email, pagerduty in this rehearsal: it has no server on this machine.",
        (
            "Not reached in this rehearsal: extension cboe, extension fred, filter finnhub: it has no server on this "
            "machine."
        ),
    ]
    assert assembly.silent_channels == ("pagerduty", "apprise", "email")
    fetching: Any = assembly.filters["finnhub"]
    with pytest.raises(Unavailable, match=r"https://finnhub\.io/api/v1 has none"):
        asyncio.run(fetching.refresh(OPENS.date(), ["AAA"]))

    async def work() -> str:
        return "done"

    with alerts_beside(assembly, assembly.clock) as with_alerts:
        assert asyncio.run(with_alerts(work())) == "done"
    assert not alerts_file(assembly.settings.instance).exists()


@pytest.mark.slow
def test_a_filter_that_opens_connections_itself_is_refused() -> None:
    """It cannot be kept from a real service."""
    found = load("filter", "finnhub")
    alone = attrs.evolve(found, plugin=attrs.evolve(found.plugin, needs=PluginNeeds(own_network=True)))
    with pytest.raises(SettingsError, match="The filter finnhub opens its connections itself"):
        host_addresses(alone, RehearsalTarget(url="http://127.0.0.1:1", opens=OPENS))


def load(kind: str, name: str) -> LoadedPlugin:
    """An installed plugin, imported."""
    [entry] = [one.entry for one in discovery.installed_plugins() if (one.entry.kind, one.entry.name) == (kind, name)]
    loaded = PluginLoader().load(entry)
    assert isinstance(loaded, LoadedPlugin)
    return loaded


@pytest.mark.parametrize("port", ["0", "99999", "x", "1-", "1-0", ""])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    """With the parameter; a parameter of another form is unknown."""
    with pytest.raises(UsageError, match=f"alert.email={port} is not a port"):
        rehearsal_target(f"http://127.0.0.1:1?alert.email={port}", OPENS)
    with pytest.raises(UsageError, match=r"strategy.open is unknown in the address; known: opens, stream, and"):
        rehearsal_target("http://127.0.0.1:1?strategy.open=1", OPENS)


def test_a_plugin_may_have_another_port_for_websockets() -> None:
    """The text of the target has both, and gives the same target."""
    target = RehearsalTarget(url="http://127.0.0.1:1", opens=OPENS, ports={"filter.a": (2, 3), "alert.b": (4, 4)})
    assert target.text.endswith("&filter.a=2-3&alert.b=4")
    assert rehearsal_target(target.text, OPENS) == target
    assert target.addresses("filter", "a") == ("http://127.0.0.1:2", "http://127.0.0.1:3")
    assert target.addresses("alert", "c") == ("", "")


@attrs.frozen
class Venue:
    """A venue that has received these lines."""

    lines: list[str]
    server: ScriptedMailServer = attrs.field(factory=ScriptedMailServer)

    def received(self) -> list[str]:
        """The lines."""
        return self.lines


def test_a_venue_that_cannot_say_what_arrived_is_left_out() -> None:
    """The others are shown."""

    class Broken(Venue):
        def received(self) -> list[str]:
            raise LookupError("gone")

    venues = {
        "alert.a": OpenVenue(venue=Broken([]), ports=(1, 1)),
        "alert.b": OpenVenue(venue=Venue(["x"]), ports=(2, 2)),
    }
    arrivals = Arrivals(venues)
    assert arrivals.poll() == ["alert.a: no longer shown (LookupError: gone)", "alert.b: x"]
    assert arrivals.poll() == []


def test_a_broken_plugin_or_venue_is_reported_and_the_others_are_served() -> None:
    """A venue of another form is not served."""

    @contextmanager
    def opened(_runner: object, _clock: object) -> Iterator[object]:
        yield Venue(["one"])

    def broken(_runner: object, _clock: object) -> AbstractContextManager[object]:
        raise OSError("no port is free")

    @contextmanager
    def ownless() -> Iterator[object]:
        yield Venue(["two"])

    @contextmanager
    def other(_runner: object, _clock: object) -> Iterator[object]:
        yield object()

    forms: dict[str, Any] = {"email": opened, "sms": broken, "slack": other, "console": None, "pagerduty": ownless}
    offers: list[LoadedPlugin | PluginFailure] = []
    for name, venue in forms.items():
        loaded = load("alert", name)
        offers.append(attrs.evolve(loaded, plugin=attrs.evolve(loaded.plugin, venue=venue)))
    offers.append(PluginFailure(kind="alert", name="acme", dist="", version="", phase="import", error="x"))
    said: list[str] = []
    with asyncio.Runner() as runner, served_venues(offers, runner, rehearsal_clock(OPENS), said.append) as venues:
        assert set(venues) == {"alert.email"}
        assert Arrivals(venues).poll() == ["alert.email: one"]
    assert [one.partition(":")[0] for one in said] == ["Not served", "Not served"]
    assert "no port is free" in said[0]
