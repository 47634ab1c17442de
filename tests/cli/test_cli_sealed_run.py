"""A run from encrypted files alone: the demo's market, replayed settings, and nothing secret anywhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core import cli
from tbot_core.actions import control_requests
from tbot_core.actions.checks import check_instance
from tbot_core.actions.plugins import list_plugins
from tbot_core.contracts.credentials import SecretValue, hidden_field, shown_field
from tbot_core.contracts.setting import integer, text
from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.plugin_context import plugin_secrets
from tbot_core.errors import PluginError, VaultError
from tbot_core.instance import Instance, load_settings
from tbot_core.instance.journal_chain import open_instance_journal
from tbot_core.journal import records
from tbot_core.journal.store import NewEvent
from tbot_core.system import filesystem
from tbot_core.testing.canaries import canary, shows
from tbot_core.vault.audit_log import log_entries

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CANARY = canary("broker")
DOCUMENT: dict[str, Any] = {
    "bot_identity": {"BOT_IDENTITY_STRING": "ACME_US_PAPER_B01"},
    "env_bot": {"BROKER_NAME": "PAPER"},
    "broker": {"paper": {"token": CANARY}, "other": {"token": "not for you"}},
    "smtp": {"host": "mail.example", "sender": "bot@mail.example", "password": canary("smtp")},
}


@attrs.frozen(kw_only=True)
class Token:
    """What the paper broker would be given."""

    token: SecretValue = hidden_field(doc="A token.")


@attrs.frozen(kw_only=True)
class Mail:
    """What a mail channel would be given."""

    host: str = shown_field(text(), doc="A host.")
    sender: str = shown_field(text(), doc="A sender.")
    port: int = shown_field(integer(), default="25", doc="A port.")
    password: SecretValue | None = hidden_field(doc="A password.", optional=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance with a planted secret."""
    (tmp_path / "in.json").write_text(json.dumps(DOCUMENT))
    home = tmp_path / "x"
    assert cli.invoke(["init", "--from-json", str(tmp_path / "in.json"), "--home", str(home)]) == 0
    (tmp_path / "in.json").unlink()
    return home


def test_all_rows_of_a_check_judge_the_settings_as_opened_once(home: Path) -> None:
    """So no row is about another version of the file than the others, and the audit log has one line of it."""
    log = home / "data" / "audit.log"
    before = len([*log_entries(log)])
    check_instance(home)
    opened = [one.category for one in [*log_entries(log)][before:] if one.action == "decrypt"]
    assert opened.count("env_bot") == 1


def test_a_run_trades_from_encrypted_files_and_leaks_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The demo runs on the encrypted settings, the journal names the bot, and no file or stream holds the secret."""
    assert cli.invoke(["run", "--demo", "--sessions", "1", "--home", str(home), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["mode"] == "demo"
    assert not (home / ".env_bot").exists()
    held = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert b"ACME_US_PAPER_B01" in held
    assert not shows(held + captured.out.encode() + captured.err.encode())


@pytest.mark.slow
def test_status_on_a_read_only_disk_shows_what_it_can(
    home: Path, mounted: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings that cannot be opened there are named, and the run is shown with its own; no request can be made."""
    assert cli.invoke(["run", "--demo", "--sessions", "1", "--home", str(home), "--json"]) == 0
    disk = mounted("40m")
    there = shutil.copytree(home, disk / "x")
    control.prepare_folder(there / "control")
    filesystem.write_atomic(there / "data" / "control-folder", b"1\ncontrol\n")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    capsys.readouterr()
    assert cli.invoke(["status", "--home", str(there), "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown["equity"] is not None
    assert shown["attention"][0].startswith("The settings cannot be used: ")
    assert "TB-SEC-095" in shown["attention"][0]
    assert "Shown are the settings of the demo run" in shown["attention"][0]
    assert cli.invoke(["kill", "--home", str(there)]) == 1
    said = capsys.readouterr().err
    assert "the file control/kill cannot be made either. No bot is running." in said
    assert "touch" not in said
    assert control_requests.without_request(Instance.at(there), ControlVerb.STOP, 7).endswith(
        "`kill -TERM 7` has the same effect as `tbot stop`."
    )


def test_a_plugin_is_handed_its_own_section_and_no_other(home: Path) -> None:
    """Only the declared categories, each as its class; nothing by default, and no settings, users or unknown ones."""
    settings = load_settings(home, mode="paper")
    assert plugin_secrets(settings, "paper", {}) == {}
    found = plugin_secrets(settings, "paper", {"broker": Token, "smtp": Mail})
    assert set(found) == {"broker", "smtp"}
    assert found["broker"].token.reveal() == CANARY
    assert (found["smtp"].host, found["smtp"].port) == ("mail.example", 25)
    assert found["smtp"].password.reveal() == canary("smtp")
    assert CANARY not in repr(found)
    with pytest.raises(VaultError, match=r"TB-SEC-074 broker: .* no section stranger"):
        plugin_secrets(settings, "stranger", {"broker": Token})
    with pytest.raises(VaultError, match=r"(?s)TB-SEC-077 smtp: .* host; known: token.*lacks the field token"):
        plugin_secrets(settings, "paper", {"smtp": Token})
    for category, schema in (("env_bot", Token), ("login", Token), ("nothing", Token), ("broker", None)):
        with pytest.raises(PluginError, match=f"cannot receive secrets of {category}"):
            plugin_secrets(settings, "paper", {category: schema})


def test_a_category_that_is_not_there_is_fatal_outside_simulations(home: Path) -> None:
    """Paper refuses with the code, a replay does without."""
    assert plugin_secrets(load_settings(home, mode="replay"), "paper", {"alert": Token}) == {}
    with pytest.raises(VaultError, match="TB-SEC-051 alert"):
        plugin_secrets(load_settings(home, mode="paper"), "paper", {"alert": Token})


def test_listing_plugins_opens_no_secret(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The list of an encrypted instance writes no line to the audit log, and says where states are to be had."""
    before = (home / "data" / "audit.log").read_bytes()
    assert cli.invoke(["plugins", "list", "--home", str(home)]) == 0
    shown = capsys.readouterr()
    assert "`tbot check` shows what is enabled" in shown.err
    assert "active " not in shown.out
    assert (home / "data" / "audit.log").read_bytes() == before


def test_the_list_of_an_encrypted_instance_shows_what_the_last_run_had_enabled(home: Path) -> None:
    """From its journal, and says so; no secret is opened."""
    settings = {"BROKER_NAME": "paper", "STRATEGY_SEQUENCE": "mid", "FILTERS": "none"}
    with closing(open_instance_journal(Instance(home))) as journal:
        started = {"mode": "paper", "settings": settings, "equity": "100000"}
        journal.append([NewEvent(kind=records.RUN_STARTED, payload=started, time=datetime(2026, 11, 24, tzinfo=UTC))])
    before = (home / "data" / "audit.log").read_bytes()
    rows, (warning,) = list_plugins(home)
    active = {(one["kind"], one["name"]) for one in rows if one["state"] == "active"}
    assert {("broker", "paper"), ("strategy", "mid")} <= active
    assert not active & {("strategy", "open"), ("filter", "price_volume")}
    assert "active is what the paper run of 20" in warning
    assert (home / "data" / "audit.log").read_bytes() == before


def test_a_start_opens_each_settings_file_once(home: Path) -> None:
    """A start opens each settings file once; any other file once to be proven, and once for its use."""
    log = home / "data" / "audit.log"
    before = len(list(log_entries(log)))
    cli.invoke(["run", "--replay", "2018-02-16..2018-02-16", "--home", str(home)])
    opened = [(it.action, it.category, it.outcome) for it in list(log_entries(log))[before:]]
    assert [it[1] for it in opened[:2]] == ["env", "env_bot"]
    assert Counter(opened) == {
        ("decrypt", "env", "ok"): 1,
        ("decrypt", "env_bot", "ok"): 1,
        ("decrypt", "broker", "ok"): 1,
        ("decrypt", "smtp", "ok"): 1,
        ("decrypt", "bot_identity", "ok"): 2,
    }


def test_a_failing_start_opens_nothing_once_more(home: Path) -> None:
    """What a failure is logged with is what was read, if anything was."""
    (home / "storage/keys/env.key").unlink()
    log = home / "data" / "audit.log"
    before = len(list(log_entries(log)))
    entry = "import sys; from tbot_core.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", entry, "run", "--once", "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "TB-SEC-021 env_bot" in done.stderr
    opened = Counter((it.action, it.category) for it in list(log_entries(log))[before:])
    assert (opened["decrypt", "env"], opened["deny", "env_bot"]) == (1, 1)


def test_a_second_process_opens_no_secret(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The lock comes before the settings: while another process holds it, nothing is opened and nothing is logged."""
    log = home / "data" / "audit.log"
    before = log.read_bytes()
    with filesystem.hold_lock(Instance.at(home).lock):
        assert cli.invoke(["run", "--once", "--home", str(home)]) == 1
    assert "in use by another tbot" in capsys.readouterr().err
    assert log.read_bytes() == before
