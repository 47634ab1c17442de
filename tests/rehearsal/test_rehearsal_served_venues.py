"""A rehearsal at the venues of filters and alert channels: they are reached there, and nothing else is."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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
from tbot_core.engine.rehearsal_target import LEAD, RehearsalTarget, rehearsal_target
from tbot_core.errors import SettingsError, Unavailable, UsageError
from tbot_core.instance import Instance, load_settings
from tbot_core.instance.folder import REHEARSAL_VARIABLE
from tbot_core.marketdata.history import add_reference_facts
from tbot_core.marketdata.store.reference import reference_facts
from tbot_core.plugins import discovery
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import LoadedPlugin, PluginLoader
from tbot_core.rehearsal.served_venues import Arrivals, OpenVenue, installed_offers, served_venues
from tbot_core.status.alert_channels import channel_documents
from tbot_core.testing.scripted_mail_server import ScriptedMailServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tbot_core.engine.assembly import Assembly

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
    told: list[str] = []
    channel_test(home, notify=told.append)
    assert told[-1] == "No alerts by pagerduty, apprise, email in this rehearsal: it has no server on this machine."
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
