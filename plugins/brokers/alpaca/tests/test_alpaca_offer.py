"""What the plugin declares before anything is connected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest
from tbot_broker_alpaca import Config, Credentials, quality, tbot_broker

from tbot_core.contracts.credentials import secret_fields
from tbot_core.contracts.setting import declarations
from tbot_core.instance.plugin_settings import known_plugins

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        ("iex", "single venue, at most 30 symbols"),
        ("sip", "consolidated, any number of symbols"),
    ],
)
def test_the_feed_declares_its_plan(feed: str, words: str) -> None:
    """IEX is one venue and thirty symbols, SIP is all of both."""
    assert quality(Config(data_feed=feed)).words.startswith(words)


def test_only_its_own_hosts_are_reached() -> None:
    """Each host is Alpaca's, and those for requests share the vendor's limit of 200 a minute."""
    hosts = tbot_broker().needs.hosts.values()
    assert all(host.url.endswith(".alpaca.markets") for host in hosts)
    assert {host.requests_per_minute for host in hosts if host.url.startswith("https")} == {200}


def test_the_core_declares_the_same_while_it_is_not_installed() -> None:
    """Settings and secrets load alike with the plugin and without it."""
    (known,) = (one for one in known_plugins() if (one.kind, one.name) == ("broker", "alpaca"))
    assert described({one.name: one for one in declarations(Config).values()}) == described(known.settings)
    assert described(secret_fields(Credentials)) == described(known.secrets["broker"])


def described(fields: Mapping[str, Any]) -> dict[str, dict[str, object]]:
    """Each declaration, its kind by what it allows."""
    texts = {name: attrs.asdict(one, recurse=False) for name, one in fields.items()}
    return {name: one | {"kind": one["kind"].allowed} for name, one in texts.items()}
