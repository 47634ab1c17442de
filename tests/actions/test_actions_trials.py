"""A message by an alert channel whose secrets are not stored yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.actions.trials import try_channel
from tbot_core.contracts.permissions import Host, PluginNeeds
from tbot_core.instance.folder import REHEARSAL_VARIABLE
from tbot_core.plugins import discovery
from tbot_core.plugins.loader import PluginLoader

if TYPE_CHECKING:
    from tbot_core.plugins.loader import LoadedPlugin


def channel(name: str) -> LoadedPlugin:
    """An installed channel, loaded."""
    (loaded,), failed = PluginLoader().offers({("alert", name)}, discovery.installed_plugins())
    assert not failed
    return loaded


def test_a_channel_that_accepts_the_message_passes() -> None:
    """With the words of the service, or that it was accepted."""
    found = try_channel(channel("console"), {}, "ACME_US_PAPER_B01")
    assert (found.what, found.passed) == ("console", True)
    assert found.words


def test_the_host_that_the_operator_chooses_is_among_the_settings() -> None:
    """Without it the test says which setting names it."""
    console = channel("console")
    needs = PluginNeeds(hosts={"service": Host("https://*")})
    hook = attrs.evolve(console, plugin=attrs.evolve(console.plugin, needs=needs))
    absent = try_channel(hook, {}, "")
    assert (absent.passed, absent.words[:29]) == (False, "HOST_CONSOLE_SERVICE is empty")
    assert try_channel(hook, {}, "", {"HOST_CONSOLE_SERVICE": "https://alerts.example.com"}).passed


def test_secrets_that_are_not_allowed_are_named_and_not_shown() -> None:
    """Nothing is sent then."""
    found = try_channel(channel("email"), {"smtp": {"host": "a host", "password": "canary"}}, "")
    assert not found.passed
    assert "host" in found.words
    assert "canary" not in found.words


@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize("name", ["email", "pagerduty"])
def test_in_a_rehearsal_the_message_goes_to_its_server_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """To the one on this machine; a channel without one stays silent, and the test says so."""
    smtp = {"host": "mail.example.com", "user": "me@example.com", "password": "canary"}
    secrets = {"smtp": smtp} if name == "email" else {"alert": {"routing_key": "a" * 32}}
    monkeypatch.setenv(REHEARSAL_VARIABLE, f"http://127.0.0.1:1?alert.{name}=2")
    found = try_channel(channel(name), secrets, "")
    assert (found.passed, "127.0.0.1" in found.words, "example.com" in found.words) == (False, True, False)
    monkeypatch.setenv(REHEARSAL_VARIABLE, "http://127.0.0.1:1")
    silent = try_channel(channel(name), secrets, "")
    assert (silent.passed, silent.words) == (
        False,
        "It stays silent in this rehearsal: it has no server on this machine.",
    )


@pytest.mark.usefixtures("loopback")
def test_a_service_that_cannot_be_reached_is_a_failure() -> None:
    """With its words."""
    secrets = {"host": "127.0.0.1", "port": "1", "security": "none", "user": "me@example.com", "password": "canary"}
    found = try_channel(channel("email"), {"smtp": secrets}, "")
    assert not found.passed
    assert "127.0.0.1" in found.words
    assert "canary" not in found.words
