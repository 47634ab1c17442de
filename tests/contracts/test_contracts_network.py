"""What a plugin may declare as a host."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tbot_core.contracts.network import host_settings
from tbot_core.contracts.permissions import Host
from tbot_core.contracts.setting import DeclaredConfig, SettingDeclaration
from tbot_core.instance.registry import catalogue


@pytest.mark.parametrize("url", ["https://api.example.com", "https://api.example.com:8443/v2", "wss://a.example/v1/x"])
def test_a_host_is_an_encrypted_address(url: str) -> None:
    """Scheme, host, port and path."""
    assert Host(url).url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com", "api.example.com", "https://", "https://user@a.example", "https://a.example?key=1",
        "https://a.example#x", "https://a.example/a b", "ftp://a.example", "", None, 7,
        "https://*.example.com", "https://*:8443", "https://*/v2", "https://me@*", "https://*/", "wss://*",
    ],
)  # fmt: skip
def test_anything_else_is_refused(url: Any) -> None:
    """In the clear, with a user, a query or a fragment, or no address at all."""
    with pytest.raises(TypeError, match=r"url m(?:ust be|ay leave only)"):
        Host(url)
    with pytest.raises(ValueError, match="requests_per_minute"):
        Host("https://a.example", requests_per_minute=-1)


def test_each_host_has_a_setting() -> None:
    """HOST_PLUGIN_NAME points it to this machine, and nowhere else; it is no part of the settings hash."""
    [(host, setting)] = host_settings("example", {"trading": "https://api.example.com"}).items()
    assert (host, setting.name, setting.default_text) == ("trading", "HOST_EXAMPLE_TRADING", "")
    assert not setting.changes_trades
    for there in ("", "http://127.0.0.1:8080", "http://localhost:1/v2", "http://[::1]:80"):
        assert setting.kind.parse(there) == there
    for elsewhere in (
        "http://10.0.0.1:8080",
        "https://api.example.com",
        "http://127.0.0.1.example.com",
        "http://127.0.0.1:1@a.example",
    ):
        with pytest.raises(ValueError, match=re.escape(elsewhere)):
            setting.kind.parse(elsewhere)


@pytest.mark.parametrize(
    "address",
    [
        "https://alerts.example.com", "https://Alerts.Example.com:8443", "https://a", "https://a-1.b2", "https://10.0.0.7",
        "https://xn--bcher-kva.example:1", "https://a.example:65535", "https://localhost.example.com",
        "", "http://127.0.0.1:8080", "http://localhost:1/v2",
    ],
)  # fmt: skip
def test_the_setting_of_a_host_that_the_operator_chooses_is_an_https_host(address: str) -> None:
    """By name or IPv4 address, with a port or without; or as for any host an address on this machine, or nothing."""
    assert chosen().kind.parse(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "http://alerts.example.com", "http://10.0.0.7", "wss://a.example", "alerts.example.com", "https://", "https://*",
        "https://me@a.example", "https://me:secret@a.example", "https://a.example/", "https://a.example/v2/../..",
        "https://a.example?x=1", "https://a.example#x", "https://a.example:0", "https://a.example:65536",
        "https://a.example:", "https://a.example.", "https://-a.example", "https://a-.example", "https://a..example",
        "https://a_b.example", "https://a.example\n", "https://a.example https://b.example", "HTTPS://a.example",
        "https://b\u00fccher.example", "https://a.example%2f", "https://a.example\\@b.example",
        "https://localhost", "https://LocalHost:8443", "https://a.localhost", "https://127.0.0.1", "https://127.1.2.3:1",
        "https://0.0.0.0", "https://2130706433", "https://0x7f000001", "https://127.1", "https://010.0.0.1",
        "https://999.0.0.1", "https://[::1]", "https://[fd00::1]", "https://a.1", f"https://{'a' * 64}.example",
        "http://127.0.0.1:1@a.example",
    ],
)  # fmt: skip
def test_nothing_else_is_a_host_that_the_operator_chooses(address: str) -> None:
    """In the clear, with a path, a user or a query, an address that reads as two hosts, or this machine by https."""
    with pytest.raises(ValueError, match=r"."):
        chosen().kind.parse(address)


def test_another_host_of_the_operators_choice_permits_more_and_ends_the_arming() -> None:
    """Any change asks for the password on the page, and is a change of the settings hash, which live trading armed."""
    one = chosen()
    assert (one.name, one.default_text, one.changes_trades, one.kind.empty) == ("HOST_HOOK_SERVICE", "", True, True)
    assert "to another host" in one.permits.reason(one.kind, "https://a.example", "https://b.example")
    assert one.permits.reason(one.kind, "", "https://b.example")


def chosen() -> SettingDeclaration:
    """The setting of a host that the operator chooses."""
    return host_settings("hook", {"service": "https://*"})["service"]


def test_the_settings_know_the_host_of_a_plugin() -> None:
    """The variable belongs to the plugin, as those that it declares itself."""
    declared = DeclaredConfig(kind="broker", name="example", hosts={"trading": "https://api.example.com"})
    known = catalogue((), [declared]).variables["HOST_EXAMPLE_TRADING"]
    assert (known.owner, known.declaration.default_text) == ("broker example", "")
