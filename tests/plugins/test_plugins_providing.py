"""Keys from a plugin: the first answer counts, and nothing takes the place of one that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tbot_core.clock import SystemClock
from tbot_core.errors import PluginError, VaultError
from tbot_core.plugins.providing import key_provider
from tbot_core.policy import Deployment
from tbot_core.settings import Instance, access, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tbot_core.plugins.catalogue import Entry

BODY = """
import attrs

from tbot_core.contracts import Plugin
from tbot_core.hookspecs import hookimpl

HELD = {}


@attrs.frozen(kw_only=True)
class Config:
    pass


class Keys:
    capabilities = frozenset({"put"})

    def get_key(self, category, slot):
        return HELD.get((category, slot))

    def put_key(self, category, slot, key):
        HELD[category, slot] = bytes(key)


@hookimpl
def tbot_extension():
    name = __name__.removeprefix("their_")
    return Plugin(name=name, summary="Keys", config=Config, create=lambda config, context: config)
"""
ANSWERING = BODY + "\n\n@hookimpl\ndef tbot_key_provider(context):\n    return ANSWER\n"


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keys come from plugins in these tests, and no provider outlives its test."""
    monkeypatch.setenv("TBOT_KEY_PROVIDER", "plugin")
    access.forget()
    yield
    access.forget()


def test_settings_open_with_the_keys_of_a_plugin(plant: Callable[..., Entry], tmp_path: Path) -> None:
    """A plugin's keys encrypt and open, no key file is made; extensions that answer None or nothing are passed over."""
    plant("first", BODY, kind="extension")
    plant("second", ANSWERING.replace("ANSWER\n", "None\n"), kind="extension")
    plant("third", ANSWERING.replace("ANSWER\n", "Keys()\n"), kind="extension")
    home = tmp_path / "x"
    access.keep(access.vault(Instance(home), Deployment()), "env_bot", b"STRATEGY_SEQUENCE=open\nSEED=7\n")
    assert load(home, mode="replay").simulation.seed == 7
    assert not list(home.rglob("*.key"))


def test_no_plugin_that_provides_is_an_error(plant: Callable[..., Entry], tmp_path: Path) -> None:
    """The environment asked for a plugin's keys: key files do not step in."""
    plant("first", BODY, kind="extension")
    assert key_provider(tmp_path, SystemClock()) is None
    with pytest.raises(VaultError, match="TB-SEC"):
        access.vault(Instance(tmp_path), Deployment())


@pytest.mark.parametrize("answer", ["1 / 0", "'a key'"])
def test_a_plugin_that_fails_is_named(plant: Callable[..., Entry], tmp_path: Path, answer: str) -> None:
    """An answer that raises, or is no provider, stops whoever wants secrets."""
    plant("faulty", ANSWERING.replace("ANSWER\n", f"{answer}\n"), kind="extension")
    with pytest.raises(PluginError, match="faulty"):
        key_provider(tmp_path, SystemClock())
