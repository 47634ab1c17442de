"""Keys from a plugin: the first answer counts, and nothing takes the place of one that fails."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tbot_core.contracts.permissions import PluginNeeds
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import PluginError, VaultError
from tbot_core.instance import Instance, load_settings, read_settings_files, secrets
from tbot_core.model.clock import SystemClock
from tbot_core.plugins import discovery, lock
from tbot_core.plugins.key_providers import key_provider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tbot_core.plugins.discovery import EntryPointInfo

BODY = """
import attrs

from tbot_core.contracts import Plugin
from tbot_core.contracts.hooks import hookimpl

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
KEPT = """

HELD.update({(name, "cur"): bytes(range(start, start + 32)) for start, name in enumerate(("audit", "env_bot"))})
"""
ANSWERING = BODY + "\n\n@hookimpl\ndef tbot_key_provider(context):\n    return ANSWER\n"


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Keys come from plugins in these tests, and no provider outlives its test.
    monkeypatch.setenv("TBOT_KEY_PROVIDER", "plugin")
    secrets.forget_passphrases()
    yield
    secrets.forget_passphrases()


def test_settings_open_with_the_keys_of_a_plugin(plant: Callable[..., EntryPointInfo], tmp_path: Path) -> None:
    """A plugin's keys encrypt and open, no key file is made; extensions that answer None or nothing are passed over."""
    plant("first", BODY, kind="extension")
    plant("second", ANSWERING.replace("ANSWER\n", "None\n"), kind="extension")
    plant("third", ANSWERING.replace("ANSWER\n", "Keys()\n"), kind="extension")
    home = tmp_path / "x"
    secrets.encrypt_category(
        secrets.open_instance_vault(Instance(home), DeploymentSettings()),
        "env_bot",
        b"STRATEGY_SEQUENCE=open\nSEED=7\n",
    )
    assert load_settings(home, mode="replay").simulation.seed == 7
    assert not list(home.rglob("*.key"))


def test_no_plugin_that_provides_is_an_error(plant: Callable[..., EntryPointInfo], tmp_path: Path) -> None:
    """The environment asked for a plugin's keys: key files do not step in."""
    plant("first", BODY, kind="extension")
    assert key_provider(tmp_path, SystemClock()) is None
    with pytest.raises(VaultError, match="TB-SEC"):
        secrets.open_instance_vault(Instance(tmp_path), DeploymentSettings())


@pytest.mark.parametrize("answer", ["1 / 0", "'a key'"])
def test_a_plugin_that_fails_is_named(plant: Callable[..., EntryPointInfo], tmp_path: Path, answer: str) -> None:
    """An answer that raises, or is no provider, stops whoever wants secrets."""
    plant("faulty", ANSWERING.replace("ANSWER\n", f"{answer}\n"), kind="extension")
    with pytest.raises(PluginError, match="faulty"):
        key_provider(tmp_path, SystemClock())


def test_live_asks_those_alone_that_were_approved(
    plant: Callable[..., EntryPointInfo], site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a lock, and with a changed file, nothing is imported; what the lock does not name is never imported."""
    monkeypatch.setattr(sys, "pycache_prefix", None)
    plant("chosen", ANSWERING.replace("ANSWER\n", "Keys()\n") + KEPT, kind="extension")
    instance = Instance(tmp_path / "x")
    secrets.encrypt_category(
        secrets.open_instance_vault(instance, DeploymentSettings()), "env_bot", b"STRATEGY_SEQUENCE=open\nSEED=7\n"
    )
    plant("stranger", "1 / 0", kind="extension")
    assert refused(instance).startswith("Live trading imports only approved plugins:\n")
    approve(instance.home, "chosen")
    source = site / "their_chosen" / "__init__.py"
    text = source.read_text()
    source.write_text(f"{text}\n# changed")
    assert "The extension chosen has a changed file: their_chosen/__init__.py." in refused(instance)
    assert sys.pycache_prefix is None
    source.write_text(text)
    assert read_settings_files(instance, live=True).texts()["SEED"] == "7"
    assert "their_chosen" in sys.modules
    assert "their_stranger" not in sys.modules
    assert sys.pycache_prefix == str(instance.data / "bytecode")


def refused(instance: Instance) -> str:
    """Why live trading opens nothing; no extension was imported to tell."""
    secrets.forget_passphrases()
    for name in [name for name in sys.modules if name.startswith("their_")]:
        del sys.modules[name]
    with pytest.raises(PluginError) as caught:
        read_settings_files(instance, live=True)
    assert not [name for name in sys.modules if name.startswith("their_")]
    return caught.value.message


def approve(home: Path, name: str) -> None:
    """Write a lock of one extension."""
    listings = discovery.mark_enabled(discovery.installed_plugins(), {("extension", name)})
    approval = lock.LockApproval(approver="me", date=datetime(2026, 11, 24, tzinfo=UTC))
    lock.write_lock(home, lock.make_lock(listings, {("extension", name): PluginNeeds()}, approval))
