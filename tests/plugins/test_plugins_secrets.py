"""A plugin's own class judges its credentials: when they are written, checked, and used by a start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tbot_core import cli
from tbot_core.actions.checks import assert_start, check_instance
from tbot_core.actions.secrets import put_values
from tbot_core.engine.bootstrap import assemble
from tbot_core.errors import VaultError
from tbot_core.instance import Instance, read_settings_files
from tbot_core.model.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tbot_core.plugins.discovery import EntryPointInfo

BROKER = '''
import attrs

from tbot_core.contracts import BrokerCapabilities, Plugin
from tbot_core.contracts.credentials import hidden_field, shown_field
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.permissions import PluginNeeds
from tbot_core.contracts.setting import text


@attrs.frozen(kw_only=True)
class Config:
    """No settings."""


@attrs.frozen(kw_only=True)
class Credentials:
    """Other fields than those that the core knows for a plugin of this name."""

    ticket: object = hidden_field(doc="A ticket.")
    desk: str = shown_field(text(), doc="A desk.")


class Broker:
    capabilities = BrokerCapabilities()


@hookimpl
def tbot_broker():
    return Plugin(
        name="tradier", summary="A broker", config=Config, create=lambda config, context: Broker(),
        needs=PluginNeeds(secrets={"broker": Credentials}),
    )
'''
GOOD = {"ticket": "t-1", "desk": "nine"}


@pytest.fixture
def home(tmp_path: Path, plant: Callable[..., EntryPointInfo], paper_instance: Callable[[Path], Path]) -> Path:
    """A paper instance beside an installed broker whose name the core knows with other fields."""
    plant("tradier", BROKER, kind="broker")
    home = tmp_path / "home"
    paper_instance(home)
    return home


def name_broker(home: Path, name: str) -> None:
    """Set BROKER_NAME."""
    put_values(home, "env_bot", {"BROKER_NAME": name})


def judged(home: Path) -> list[str]:
    """The failed rows of `tbot check` about secrets."""
    return [row.message for row in check_instance(home) if (row.level, row.subject) == ("fail", "secrets")]


def start(home: Path) -> None:
    """What a start of paper trading does before it connects."""
    instance = Instance.at(home)
    assert_start(instance, read_settings_files(instance), "paper")
    assemble(home, "paper", SystemClock()).check_secrets()


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_credentials_are_judged_by_the_plugins_own_class_before_it_is_enabled(home: Path) -> None:
    """What the plugin declares is accepted, what the core knows of that name is refused; check and start agree."""
    with pytest.raises(VaultError, match=r"(?s)TB-SEC-077 .*tradier\.api_key; known: ticket, desk.*lacks the field"):
        put_values(home, "broker", {"tradier": {"api_key": "k", "api_secret": "s"}})
    put_values(home, "broker", {"tradier": GOOD})
    assert judged(home) == []
    start(home)
    name_broker(home, "TRADIER")
    assert judged(home) == []
    start(home)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "code"), [(None, "TB-SEC-051"), ({"ibkr": {"port": "4002"}}, "TB-SEC-074")], ids=str
)
def test_missing_credentials_fail_the_check_as_they_fail_a_start(
    home: Path, content: dict[str, object] | None, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Check, start and command name the same fault, with exit code 3, before anything is connected."""
    if content is not None:
        put_values(home, "broker", content)
    assert judged(home) == []
    name_broker(home, "TRADIER")
    (row,) = judged(home)
    assert row.startswith(f"{code} broker: ")
    with pytest.raises(VaultError, match=code):
        start(home)
    capsys.readouterr()
    assert cli.invoke(["run", "--once", "--home", str(home)]) == 3
    assert code in capsys.readouterr().err


@pytest.mark.slow
def test_an_address_without_encryption_is_for_this_machine_only(
    tmp_path: Path, paper_instance: Callable[[Path], Path]
) -> None:
    """A key that is sent by http to another machine can be read on the way; a local gateway may use it."""
    home = tmp_path / "home"
    paper_instance(home)
    for address in (
        "https://api.example.invalid/v2",
        "http://127.0.0.1:4010",
        "http://localhost/v2",
        "http://[::1]:1/",
    ):
        put_values(home, "broker", {"tradier": {"access_token": "t", "base_url": address}})
    for address in (
        "http://api.example.invalid",
        "http://127.0.0.1.example.invalid",
        "http://localhost:1@example.invalid",
    ):
        with pytest.raises(
            VaultError, match=r"TB-SEC-079 broker: field tradier\.base_url .* on this machine also with"
        ):
            put_values(home, "broker", {"tradier": {"access_token": "t", "base_url": address}})
