"""`tbot rehearse --broker NAME`: days of an installed broker with faults of its server, and what is found in them."""

from __future__ import annotations

import importlib
import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from click.testing import CliRunner

from tbot_core import cli
from tbot_core.cli.commands.rehearse import command
from tbot_core.errors import BrokerError, PluginError
from tbot_core.plugins import discovery
from tbot_core.rehearsal.broker_rehearsal import alert_settings, broker_plugin, rehearse_broker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.contracts import BrokerEvent

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loopback", "plugins")]


@pytest.mark.first(0)
def test_the_days_of_the_tutorials_broker_violate_nothing() -> None:
    """Their figures, faults and time are printed."""
    done = CliRunner().invoke(command, ["--broker", "acme", "--seeds", "2"])
    assert done.exit_code == 0, done.output
    assert re.match(r"2 sessions, \d+ orders, \d+ fills, 2 crashes and restarts\n", done.stdout)
    assert "OUTAGE x1" in done.stdout
    assert "The simulated days took " in done.stdout
    assert done.stdout.endswith("0 violations\n")


@pytest.mark.first(0)
def test_the_figures_are_a_document_too() -> None:
    """And no day is begun after the time."""
    done = CliRunner().invoke(command, ["--broker", "acme", "--seeds", "9", "--minutes", "0.0001", "--json"])
    found = json.loads(done.stdout)
    assert (found["broker"], found["sessions"], found["violations"]) == ("acme", 1, [])


def test_what_is_not_a_rehearsable_broker_is_refused(plugins: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named."""
    assert cli.invoke(["rehearse", "--broker", "nosuch"]) == 3
    assert "The broker nosuch is not installed" in capsys.readouterr().err
    assert cli.invoke(["rehearse", "--broker", "acme", "--fault", "F2"]) == 2
    with pytest.raises(PluginError, match="cannot trade a whole day"):
        rehearse_broker(attrs.evolve(broker_plugin("paper"), name="paper"), 0)
    assert broker_plugin("acme").name == plugins.tbot_broker().name
    assert cli.invoke(["rehearse", "--broker", "paper"]) == 3
    assert "testing-kit.md" in capsys.readouterr().err


@pytest.mark.first(0)
@pytest.mark.parametrize(
    ("channels", "chosen"), [(["acme", "console"], "console"), (["pager", "acme"], "acme"), ([], None)]
)
def test_a_rehearsal_uses_an_installed_alert_channel(channels: list[str], chosen: str | None) -> None:
    """The console, or another one; without any it says what to install."""
    console = next(one for one in discovery.installed_plugins() if one.entry.kind == "alert")
    installed = [attrs.evolve(console, entry=attrs.evolve(console.entry, name=name)) for name in channels]
    installed += [one for one in discovery.installed_plugins() if one.entry.kind == "broker"]
    if chosen is None:
        with pytest.raises(PluginError, match="needs an alert channel"):
            alert_settings(installed)
    else:
        assert {*alert_settings(installed).values()} == {chosen}


@pytest.mark.first(0)  # over two seconds
def test_an_order_that_is_sent_again_is_found(plugins: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server received it twice."""
    broker = importlib.import_module(f"{plugins.__name__}.broker").AcmeBroker
    sound = broker.submit

    async def submit(self: Any, order: Any, permit: Any) -> None:
        await sound(self, order, permit)
        with suppress(BrokerError):
            await self._http.send("POST", "/orders", json={"client_id": order.client_order_id, "quantity": "1"})

    monkeypatch.setattr(broker, "submit", submit)
    violations = rehearse_broker(plugins.tbot_broker(), 2).report.violations
    assert any(words.startswith("TWICE: POST /orders with ") for words in violations)


@pytest.mark.first(0)
def test_a_fill_that_is_not_reported_is_found(plugins: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The books and the venue differ at the end, or something unknown is held."""
    broker = importlib.import_module(f"{plugins.__name__}.broker").AcmeBroker
    poll, snapshot = broker.poll, broker.snapshot

    async def no_fills(self: Any) -> Sequence[BrokerEvent]:
        return [one for one in await poll(self) if one.fill is None]

    async def unknown(_self: Any, _cid: str) -> None:
        return None

    async def empty(self: Any, since: Any) -> Any:
        return attrs.evolve(await snapshot(self, since), orders=())

    monkeypatch.setattr(broker, "poll", no_fills)
    monkeypatch.setattr(broker, "find", unknown)
    monkeypatch.setattr(broker, "snapshot", empty)
    violations = rehearse_broker(plugins.tbot_broker(), 0).report.violations
    assert any(words.startswith(("HELD: ", "BOOKS: ")) for words in violations)
