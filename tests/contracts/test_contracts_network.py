"""What a plugin may declare as a host."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tbot_core.contracts.network import host_settings
from tbot_core.contracts.permissions import Host
from tbot_core.contracts.setting import DeclaredConfig
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
    ],
)  # fmt: skip
def test_anything_else_is_refused(url: Any) -> None:
    """In the clear, with a user, a query or a fragment, or no address at all."""
    with pytest.raises(TypeError, match="url must be"):
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


def test_the_settings_know_the_host_of_a_plugin() -> None:
    """The variable belongs to the plugin, as those that it declares itself."""
    declared = DeclaredConfig(kind="broker", name="example", hosts={"trading": "https://api.example.com"})
    known = catalogue((), [declared]).variables["HOST_EXAMPLE_TRADING"]
    assert (known.owner, known.declaration.default_text) == ("broker example", "")
