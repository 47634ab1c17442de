"""`tbot run --dry-run` at the door: which lock, which credentials, which log, and what is asked of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tbot_core import cli
from tbot_core.actions.assembly import uses_live_credentials
from tbot_core.cli import run_display
from tbot_core.cli.commands.run import create_demo_instance, feed_request
from tbot_core.cli.run_options import RunOptions, hold_dry_run_lock
from tbot_core.engine.bootstrap import assemble, data_source_name
from tbot_core.errors import PluginError
from tbot_core.instance import Instance, read_settings_files
from tbot_core.model.clock import SystemClock
from tbot_core.system import filesystem, log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def live(tmp_path: Path, paper_instance: Callable[[Path], Path]) -> Path:
    """An instance whose broker's section says live, and whose plugins are not approved."""
    home = tmp_path / "x"
    paper_instance(home)
    with CliRunner().isolation(json.dumps({"alpaca": {"mode": "live", "api_key": "k" * 20, "api_secret": "s" * 40}})):
        assert cli.invoke(["secrets", "set", "broker", "--from-json", "-", "--home", str(home)]) == 0
    (home / ".env_bot").write_text("BROKER_NAME=ALPACA\n")
    (home / ".env_bot.enc").unlink()
    (home / "plugins.lock").unlink()
    return home


def test_a_dry_run_goes_on_beside_a_trading_bot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It leaves the instance's lock to the bot, and says whose source it shares; nothing is said of a simulation."""
    create_demo_instance(tmp_path)
    lock = Instance.at(tmp_path).lock
    with filesystem.hold_lock(lock), hold_dry_run_lock(tmp_path):
        assert filesystem.lock_holder(Instance.at(tmp_path).dry_run_lock) is not None
    assert "trades here: a dry run beside it uses the same data source" in capsys.readouterr().err
    with filesystem.hold_lock(lock, "simulation"), hold_dry_run_lock(tmp_path):
        pass
    with hold_dry_run_lock(tmp_path):
        pass
    assert capsys.readouterr().err == ""


def test_a_second_dry_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both would write into one file: exit 1, and the first one is named."""
    create_demo_instance(tmp_path)
    with filesystem.hold_lock(Instance.at(tmp_path).dry_run_lock):
        assert cli.invoke(["run", "--dry-run", "--once", "--home", str(tmp_path)]) == 1
    assert "is in use by another tbot, process" in capsys.readouterr().err


def test_a_folder_without_an_instance_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is made; the run names the demo with exit 3."""
    assert cli.invoke(["run", "--dry-run", "--home", str(tmp_path)]) == 3
    assert "tbot run --demo" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_live_credentials_are_kept_as_for_a_live_run(live: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run of a live instance needs no arming, but plugins that were approved; on paper it needs neither."""
    capsys.readouterr()
    assert cli.invoke(["run", "--dry-run", "--once", "--home", str(live)]) == 3
    assert "Live trading imports only approved plugins" in capsys.readouterr().err
    (live / ".env_bot").write_text("BROKER_NAME=ALPACA\nDATA_SOURCE=PAPER\n")
    assert not uses_live_credentials(live, read_settings_files(Instance.at(live)))
    (live / ".env_bot").write_text("BROKER_NAME=ALPACA\nDATA_SOURCE=TRADIER\n")
    assert not uses_live_credentials(live, read_settings_files(Instance.at(live)))
    (live / ".env_bot").write_text("BROKER_NAME=PAPER\nDATA_SOURCE=ALPACA\n")
    with pytest.raises(PluginError):
        uses_live_credentials(live, read_settings_files(Instance.at(live)))


def test_approved_plugins_may_observe_a_live_account(live: Path) -> None:
    """What stands in plugins.lock as it is passes, and the run stays a dry one."""
    (live / ".env_bot").write_text("BROKER_NAME=PAPER\nDATA_SOURCE=ALPACA\n")
    assert cli.invoke(["plugins", "lock", "--yes", "--home", str(live)]) == 0
    assert uses_live_credentials(live, read_settings_files(Instance.at(live)))


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        ({}, "paper"),
        ({"BROKER_NAME": " ALPACA "}, "alpaca"),
        ({"BROKER_NAME": "ALPACA", "DATA_SOURCE": "Tradier"}, "tradier"),
        ({"DATA_SOURCE": ""}, "paper"),
    ],
)
def test_bars_come_from_the_data_source_else_from_the_broker(texts: dict[str, str], name: str) -> None:
    """In any case, and without either from the simulator."""
    assert data_source_name(texts) == name


@pytest.mark.slow
def test_a_dry_run_logs_into_a_folder_of_its_own(tmp_path: Path) -> None:
    """Two processes never move one file into backups."""
    create_demo_instance(tmp_path)
    options = RunOptions(mode="dry-run", home=tmp_path)
    assembly = assemble(tmp_path, "dry-run", SystemClock())
    try:
        run_display.make_display(options, assembly, SystemClock(), as_json=True)
        log.logger(__name__).warning("a line")
    finally:
        log.close()
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["dry-run"]
    assert (tmp_path / "logs" / "dry-run" / "tbot.log").exists()
    assert feed_request(options, assembly).kind == "live"
