"""What a plugin is created with: the hosts of the declaration, and of a rehearsal where the settings say so."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.contracts.credentials import SecretValue, hidden_field
from tbot_core.contracts.permissions import Host, PluginNeeds
from tbot_core.engine.plugin_context import plugin_context, plugin_secrets
from tbot_core.errors import PluginError, SettingsError
from tbot_core.instance import load_settings
from tbot_core.instance.secrets import encrypt_category, open_instance_vault
from tbot_core.model.clock import ManualClock
from tbot_core.plugins.discovery import installed_plugins
from tbot_core.plugins.loader import LoadedPlugin, PluginLoader
from tbot_core.plugins.network.connector import Connector, RequestBudgets
from tbot_core.vault.audit_log import log_entries, log_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tbot_core.contracts import Context
    from tbot_core.instance import Mode

HOSTS = {"api": Host("https://api.example.com"), "stream": Host("wss://stream.example.com")}


CHOSEN = {"api": Host("https://*", requests_per_minute=60)}


def made(home: Path, mode: Mode, hosts: Mapping[str, Host] = HOSTS, **texts: str) -> Context:
    """The context of a plugin with these hosts, in a run of this mode with these settings."""
    create_demo_instance(home)
    loaded = PluginLoader().load(next(one.entry for one in installed_plugins() if one.entry.name == "paper"))
    assert isinstance(loaded, LoadedPlugin)
    online = attrs.evolve(loaded, plugin=attrs.evolve(loaded.plugin, needs=PluginNeeds(hosts=hosts)))
    settings = load_settings(home, mode="paper")
    settings = attrs.evolve(settings, mode=mode, texts={**settings.texts, **texts})
    clock = ManualClock(dt.datetime(2026, 3, 3, 17, tzinfo=dt.UTC))
    return plugin_context(settings, clock, online, RequestBudgets(clock))


def test_a_host_may_be_played_on_this_machine(tmp_path: Path) -> None:
    """HOST_PLUGIN_NAME gives the address of one host; the other keeps that of the declaration."""
    connect = made(tmp_path, "paper", HOST_PAPER_API="http://127.0.0.1:8080").connect
    assert isinstance(connect, Connector)
    assert connect.addresses == {"api": "http://127.0.0.1:8080", "stream": ""}


@pytest.mark.parametrize("mode", ["paper", "live"])
def test_a_plugin_reaches_the_host_that_the_operator_chose(tmp_path: Path, mode: Mode) -> None:
    """As if it were declared, in live trading too; the declared limit on requests stays."""
    connect = made(tmp_path, mode, CHOSEN, HOST_PAPER_API="https://alerts.example.com").connect
    assert isinstance(connect, Connector)
    assert connect.hosts == {"api": Host("https://alerts.example.com", requests_per_minute=60)}
    assert connect.addresses == {"api": ""}


def test_a_host_that_the_operator_has_not_chosen_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    """A simulation reaches nothing and needs none; this machine is allowed in its place, but never in live trading."""
    with pytest.raises(SettingsError, match="HOST_PAPER_API is empty") as fault:
        made(tmp_path / "paper", "paper", CHOSEN)
    assert "HOST_PAPER_API=https://NAME" in (fault.value.remedy or "")
    assert isinstance(made(tmp_path / "replay", "replay", CHOSEN).connect, Connector)
    here = made(tmp_path / "here", "paper", CHOSEN, HOST_PAPER_API="http://127.0.0.1:1").connect
    assert isinstance(here, Connector)
    assert (here.addresses, here.hosts) == ({"api": "http://127.0.0.1:1"}, CHOSEN)
    with pytest.raises(SettingsError, match="live trading reaches the vendor itself"):
        made(tmp_path / "live", "live", CHOSEN, HOST_PAPER_API="http://127.0.0.1:1")


@attrs.frozen(kw_only=True)
class Session:
    """A broker's secrets."""

    token: SecretValue = hidden_field(doc="A token.")


@pytest.mark.parametrize("mode", ["paper", "replay"])
def test_a_plugin_stores_what_its_vendor_renewed(tmp_path: Path, mode: Mode) -> None:
    """In its own section, for the next start; a simulation stores nothing."""
    create_demo_instance(tmp_path)
    settings = attrs.evolve(load_settings(tmp_path, mode="paper"), mode=mode)
    vault = open_instance_vault(settings.instance, settings.deployment)
    encrypt_category(vault, "broker", json.dumps({"acme": {"token": "old"}, "other": {"x": "y"}}).encode())
    given = plugin_secrets(settings, "acme", {"broker": Session})
    if mode == "replay":
        with pytest.raises(PluginError):
            given.renew("broker", token="new")
        return
    given.renew("broker", token="new")
    assert given["broker"].token.reveal() == "new"
    assert vault.read_as(Session, "broker", "acme").token.reveal() == "new"
    last = [(it.action, it.outcome) for it in log_entries(log_path(settings.instance))]
    assert ("write", "ok") in last[-3:]


def test_the_pauses_of_two_installs_differ(tmp_path: Path) -> None:
    """Bots that lost a vendor together do not come back together; one install is the same after a restart."""

    def pause(home: Path) -> float:
        connect = made(home, "paper").connect
        assert isinstance(connect, Connector)
        return connect.retries.jitter()

    assert pause(tmp_path / "a") != pause(tmp_path / "b")
    for name, text in (("a", "one"), ("b", "other")):
        (tmp_path / name / "data").mkdir(exist_ok=True)
        (tmp_path / name / "data" / "install.id").write_text(text)
    one, again, other = (pause(tmp_path / name) for name in ("a", "a", "b"))
    assert one == again != other


def test_live_trading_reaches_the_vendor(tmp_path: Path) -> None:
    """A setting that was left from a rehearsal ends the start: no live order goes to a server of this machine."""
    with pytest.raises(SettingsError, match="HOST_PAPER_STREAM: live trading reaches the vendor itself"):
        made(tmp_path, "live", HOST_PAPER_STREAM="http://127.0.0.1:8080")
    assert isinstance(made(tmp_path / "other", "live").connect, Connector)
