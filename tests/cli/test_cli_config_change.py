"""`tbot config encrypt|edit|diff`."""

from __future__ import annotations

import datetime as dt
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core import cli
from tbot_core.errors import AccessError
from tbot_core.instance import load_settings, secrets
from tbot_core.instance.folder import Instance
from tbot_core.instance.sources import deployment_of, read_settings_files
from tbot_core.journal.records import RUN_STARTED
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.system import editor

if TYPE_CHECKING:
    from collections.abc import Callable

BOT = "STRATEGY_SEQUENCE=open\nBROKER_NAME=PAPER\nDAILY_LOSS_LIMIT=0.05\nSEED=7\n"
MOMENT = dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance with a plaintext trading configuration."""
    (tmp_path / ".env_bot").write_text(BOT)
    return tmp_path


def test_encrypting_removes_the_plaintext_and_changes_nothing_else(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same settings, from the encrypted file alone; a second time exits 2."""
    before = load_settings(home, mode="replay").fingerprint
    assert cli.invoke(["config", "encrypt", "--home", str(home)]) == 0
    assert not (home / ".env_bot").exists()
    assert load_settings(home, mode="replay").fingerprint == before
    assert cli.invoke(["config", "encrypt", "--home", str(home)]) == 2
    assert ".env_bot.enc: encrypted already" in capsys.readouterr().err


def test_nothing_to_encrypt_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without a plaintext, and one whose .env.enc cannot be read, are refused."""
    assert cli.invoke(["config", "encrypt", "--home", str(tmp_path)]) == 2
    assert "There is nothing to encrypt: there is no .env_bot." in capsys.readouterr().err
    (tmp_path / ".env.enc").write_bytes(b"x")
    assert cli.invoke(["config", "encrypt", "--home", str(tmp_path)]) == 3


def test_both_settings_files_are_encrypted(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """.env becomes .env.enc with its key, and each setting of both keeps its value."""
    (home / ".env").write_text("CONTROL_DIR=requests\nKEEP_PREV_DAYS=9\n")
    before = load_settings(home, mode="paper")
    assert cli.invoke(["config", "encrypt", "--home", str(home)]) == 0
    assert capsys.readouterr().out.count("the plaintext is deleted") == 2
    assert sorted(path.name for path in home.glob(".env*")) == [".env.enc", ".env_bot.enc"]
    after = load_settings(home, mode="paper")
    assert (after.deployment, after.fingerprint) == (before.deployment, before.fingerprint)


def test_an_interrupted_encryption_is_completed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A plaintext beside its equal encrypted form is removed; beside another it stays, and both are named."""
    assert cli.invoke(["config", "encrypt", "--home", str(home)]) == 0
    (home / ".env_bot").write_text(BOT)
    assert cli.invoke(["config", "encrypt", "--home", str(home)]) == 0
    assert not (home / ".env_bot").exists()
    (home / ".env_bot").write_text(BOT.replace("SEED=7", "SEED=8"))
    assert cli.invoke(["config", "encrypt", "--home", str(home)]) == 2
    assert ".env_bot and .env_bot.enc differ." in capsys.readouterr().err
    assert (home / ".env_bot").exists()


@pytest.mark.parametrize(("category", "command"), [("env", "set"), ("env_bot", "set"), ("env_bot", "rekey")])
def test_a_secret_never_shadows_plaintext_settings(
    home: Path, category: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An encrypted file of one value beside a plaintext one would hide all others: refused, with the remedy."""
    (home / ".env").write_text("KEEP_PREV_DAYS=9\n")
    document = home / "values.json"
    document.write_text('{"SEED": "3"}')
    assert cli.invoke(["secrets", command, category, "--from-json", str(document), "--home", str(home)]) == 2
    captured = capsys.readouterr().err
    assert f".{category} is plaintext" in captured
    assert "`tbot config encrypt`" in captured
    assert not list(home.glob("*.enc"))


def scripted(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """An editor that runs this code on `path`."""
    script = folder / "editor.py"
    script.write_text(f"import pathlib, sys\npath = pathlib.Path(sys.argv[1])\n{code}\n")
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")


@pytest.mark.slow
def test_an_edit_is_checked_and_shown_in_money(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A changed limit is written, and said in USD of equity; the text never leaves memory."""
    seen = home / "seen"
    code = f"pathlib.Path({str(seen)!r}).write_text(str(path))"
    scripted(home, monkeypatch, f"{code}\npath.write_text(path.read_text().replace('0.05', '0.08'))")
    assert cli.invoke(["config", "edit", "--home", str(home)]) == 2
    assert cli.invoke(["config", "encrypt", "--home", str(home)]) == 0
    assert cli.invoke(["config", "edit", "--home", str(home)]) == 0
    out = capsys.readouterr().out
    assert "DAILY_LOSS_LIMIT 5" in out
    assert "3,000" in out
    assert "more a day" in out
    assert str(load_settings(home, mode="replay").risk.daily_loss_limit) == "0.08"
    opened = Path(seen.read_text())
    assert opened.is_relative_to(editor.MEMORY)
    assert not opened.parent.exists()


@pytest.mark.slow
def test_an_edit_that_does_not_hold_changes_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Text with a fault, an editor that fails and one that changes nothing leave the file as it was."""
    assert cli.invoke(["config", "encrypt", "--home", str(home)]) == 0
    before = (home / ".env_bot.enc").read_bytes()
    for code, exit_code in (("path.write_text('SEED=x')", 3), ("sys.exit(4)", 1), ("pass", 0)):
        scripted(home, monkeypatch, code)
        assert cli.invoke(["config", "edit", "--home", str(home)]) == exit_code
        assert (home / ".env_bot.enc").read_bytes() == before
    assert "SEED=x: allowed is" in capsys.readouterr().err


@pytest.mark.slow
def test_an_edit_is_judged_with_the_plugins_that_it_enables(
    home: Path, install: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A value that the plugin does not allow is refused in the edit that enables it; one that it allows is saved."""
    install("judging", "filter")
    assert cli.invoke(["config", "encrypt", "--home", str(home)]) == 0
    before = (home / ".env_bot.enc").read_bytes()
    more = "FILTERS=price_volume,judging\\nJUDGING_MIN_CLOSE="
    for value, exit_code in (("low", 3), ("7", 0)):
        scripted(home, monkeypatch, f"path.write_text(path.read_text() + '{more}{value}\\n')")
        assert cli.invoke(["config", "edit", "--home", str(home)]) == exit_code
        assert ((home / ".env_bot.enc").read_bytes() == before) is (exit_code == 3)
    captured = capsys.readouterr()
    assert "JUDGING_MIN_CLOSE=low: allowed is" in captured.err
    assert "JUDGING_MIN_CLOSE 5 -> 7" in captured.out


@pytest.mark.slow
def test_the_editor_opens_on_a_file_that_is_invalid(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its faults are shown first, and stand at the top of the text; the corrected text is saved without them."""
    assert cli.invoke(["config", "encrypt", "--home", str(home)]) == 0
    vault = secrets.open_instance_vault(Instance(home), deployment_of(read_settings_files(Instance(home)).env.parsed))
    vault.write("env_bot", BOT.replace("SEED=7", "SEED=x").encode())
    scripted(home, monkeypatch, "pass")
    assert cli.invoke(["config", "edit", "--home", str(home)]) == 0
    captured = capsys.readouterr()
    assert "The file is invalid now:\n.env_bot.enc:4: SEED=x: allowed is" in captured.err
    assert captured.out.splitlines()[-1] == "No value was changed."
    code = "text = path.read_text()\nassert text.startswith('#! ')\npath.write_text(text.replace('SEED=x', 'SEED=1'))"
    scripted(home, monkeypatch, code)
    assert cli.invoke(["config", "edit", "--home", str(home)]) == 0
    assert "SEED x -> 1" in capsys.readouterr().out
    with vault.read("env_bot") as opened:
        assert bytes(opened.view).decode() == BOT.replace("SEED=7", "SEED=1")


@pytest.mark.slow
@pytest.mark.parametrize("env", ["KEEP_PREV_DAYS=x", "no setting"])
def test_each_of_two_invalid_files_is_corrected_by_itself(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], env: str
) -> None:
    """The fault of the other file is named with the command that edits it, and holds up no edit."""
    (home / ".env").write_text("KEEP_PREV_DAYS=9\n")
    assert cli.invoke(["config", "encrypt", "--home", str(home)]) == 0
    vault = secrets.open_instance_vault(Instance(home), deployment_of(read_settings_files(Instance(home)).env.parsed))
    vault.write("env_bot", BOT.replace("SEED=7", "SEED=x").encode())
    vault.write("env", f"{env}\n".encode())
    scripted(home, monkeypatch, "path.write_text(path.read_text().replace('SEED=x', 'MAX_TRADES=x'))")
    assert cli.invoke(["config", "edit", "--home", str(home)]) == 3
    said = capsys.readouterr().err
    assert "The file is invalid now:\n.env_bot.enc:4: SEED=x" in said
    assert "tbot: line 4 of the new text: MAX_TRADES=x" in said
    fix = "assert '.env.enc' not in path.read_text()\npath.write_text(path.read_text().replace('SEED=x', 'SEED=1')"
    scripted(home, monkeypatch, f"{fix}.replace('{env}', ''))")
    for command, other in ((["secrets", "edit", "env"], "SEED=x"), (["config", "edit"], "")):
        assert cli.invoke([*command, "--home", str(home)]) == 0
        said = capsys.readouterr().err
        assert ("tbot: as before, a start fails: .env_bot.enc:4: SEED=x: allowed is" in said) is bool(other)
        assert ("`tbot config edit` edits it." in said) is bool(other)
    vault.write("env", f"{env}\n".encode())
    scripted(home, monkeypatch, "path.write_text(path.read_text().replace('SEED=1', 'SEED=2'))")
    assert cli.invoke(["config", "edit", "--home", str(home)]) == 0
    captured = capsys.readouterr()
    assert "SEED 1 -> 2" in captured.out
    assert captured.err.startswith("tbot: as before, a start fails: .env.enc:1: ")
    assert "`tbot secrets edit env` edits it." in captured.err


@pytest.mark.slow
def test_what_the_next_start_would_refuse_is_not_saved(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By an edit and by `config set` alike: a channel that is not installed, or has no secrets; with them it is."""
    assert cli.invoke(["config", "encrypt", "--home", str(home)]) == 0
    before = (home / ".env_bot.enc").read_bytes()
    for channel, said in (("consolex", "did you mean console?"), ("pagerduty", "`tbot secrets set alert`")):
        scripted(home, monkeypatch, f"path.write_text(path.read_text() + 'ROUTINE_ALERT_CHANNEL={channel}\\n')")
        for command in (["edit"], ["set", f"ROUTINE_ALERT_CHANNEL={channel}"]):
            assert cli.invoke(["config", *command, "--home", str(home)]) == 3
            err = capsys.readouterr().err
            assert "The next start would fail: " in err
            assert said in err
    assert (home / ".env_bot.enc").read_bytes() == before
    (home / "keys.json").write_text(json.dumps({"pagerduty": {"routing_key": "0" * 32}}))
    assert cli.invoke(["secrets", "set", "alert", "--from-json", str(home / "keys.json"), "--home", str(home)]) == 0
    assert cli.invoke(["config", "edit", "--home", str(home)]) == 0
    captured = capsys.readouterr()
    assert "ROUTINE_ALERT_CHANNEL console -> pagerduty" in captured.out
    assert "ROUTINE_ALERT_CHANNEL permits more: Alerts go to others" in captured.out
    assert "pagerduty" not in captured.err


@pytest.mark.slow
def test_unknown_keys_are_named_at_the_save(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the edit that adds them, with the nearest name; the text is saved."""
    assert cli.invoke(["config", "encrypt", "--home", str(home)]) == 0
    scripted(home, monkeypatch, "path.write_text(path.read_text() + 'SEEED=8\\n')")
    assert cli.invoke(["config", "edit", "--home", str(home)]) == 0
    assert ".env_bot.enc:5: Unknown setting SEEED; the nearest name is SEED." in capsys.readouterr().err
    scripted(home, monkeypatch, "path.write_text(path.read_text().replace('SEEED', 'SEED'))")
    assert cli.invoke(["config", "edit", "--home", str(home)]) == 0
    assert "Unknown setting" not in capsys.readouterr().err


@pytest.mark.slow
def test_the_settings_of_a_plugin_are_set_with_the_one_that_enables_it(
    home: Path, install: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """In one command, as the tutorial does; without what enables it the setting is unknown."""
    install("deciding", "filter")
    assert cli.invoke(["config", "encrypt", "--home", str(home)]) == 0
    asked = ["config", "set", "DECIDING_MIN_CLOSE=7", "--home", str(home)]
    assert cli.invoke(asked) == 2
    assert cli.invoke([*asked, "FILTERS=deciding"]) == 0
    assert "DECIDING_MIN_CLOSE 5 -> 7" in capsys.readouterr().out


@pytest.mark.slow
def test_a_setting_is_changed_by_its_name(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its line alone, said with its effect and with what permits more; what is no assignment or unknown exits 2."""
    assert cli.invoke(["config", "encrypt", "--home", str(home)]) == 0

    def output_of(*assignments: str, code: int = 0) -> str:
        capsys.readouterr()
        assert cli.invoke(["config", "set", *assignments, "--home", str(home)]) == code
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    assert "SEED is given twice." in output_of("SEED=8", "MAX_TRADES=3", "SEED=9", code=2)
    assert "tbot: line 4 of the new text: SEED=x: allowed is" in output_of("SEED=x", code=3)
    out = output_of("DAILY_LOSS_LIMIT=0.08", "SEED=9")
    assert "up to 3,000.00 USD more a day" in out
    assert "DAILY_LOSS_LIMIT permits more: More can be lost in a session." in out
    assert load_settings(home, mode="replay").simulation.seed == 9
    assert output_of("SEED=9") == "No value was changed.\n"
    assert "SEED is not NAME=VALUE" in output_of("SEED", code=2)
    assert "Unknown setting 'SEEED'" in output_of("SEEED=1", code=2)
    assert "SEED=x: allowed is" in output_of("SEED=x", code=3)


def test_an_edit_without_an_instance_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without settings is no instance."""
    assert cli.invoke(["config", "edit", "--home", str(tmp_path / "none")]) == 3
    assert f"{tmp_path / 'none'} has no trading configuration" in capsys.readouterr().err


def test_without_memory_or_editor_nothing_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder on a disk, a system that does not say what is memory, and a program that is not there, are refused."""
    with pytest.raises(AccessError, match="not a file system in memory"):
        editor.edit("x", b"", folder=tmp_path)
    with pytest.raises(AccessError, match="not a file system in memory"):
        editor.edit("x", b"", mounts=tmp_path / "none")
    monkeypatch.setenv("VISUAL", "/no/such/editor")
    with pytest.raises(AccessError, match="The editor could not be started"):
        editor.edit("x", b"secret")


@pytest.mark.slow
def test_diff_says_what_changed_since_another_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each value that differs from the file's, and none when nothing does."""
    other = home / "other"
    other.write_text(BOT.replace("0.05", "0.03").replace("SEED=7", "SEED=8"))
    assert cli.invoke(["config", "diff", "--from", str(other), "--home", str(home), "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["changes"]}
    assert (found["SEED"]["before"], found["SEED"]["after"]) == ("8", "7")
    assert "more a day" in found["DAILY_LOSS_LIMIT"]["sentence"]
    assert cli.invoke(["config", "diff", "--from", str(home / ".env_bot"), "--home", str(home)]) == 0
    assert "No value differs." in capsys.readouterr().out


@pytest.mark.slow
def test_the_money_of_a_change_is_that_of_paper_trading(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A share is shown in USD of the last known equity of paper, not of another run; without one, of its first cash."""
    other = home / "other"
    other.write_text(BOT.replace("0.05", "0.03"))

    def output_of() -> str:
        assert cli.invoke(["config", "diff", "--from", str(other), "--home", str(home)]) == 0
        return capsys.readouterr().out

    instance = Instance(home)
    record(instance.runs / "demo.sqlite", NewEvent(kind=RUN_STARTED, payload={"equity": "7000000"}, time=MOMENT))
    assert "up to 2,000.00 USD more a day" in output_of()
    record(instance.journal)
    assert "up to 2,000.00 USD more a day" in output_of()
    record(instance.journal, NewEvent(kind=RUN_STARTED, payload={"equity": "250000"}, time=MOMENT))
    assert "up to 5,000.00 USD more a day" in output_of()


def record(path: Path, *entries: NewEvent) -> None:
    """Append to the journal at a path, which is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(open_journal(path)) as journal:
        journal.append(entries)


@pytest.mark.slow
def test_diff_says_what_changed_since_the_last_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Since the defaults where nothing ran; since the run's own settings afterwards, with the money of each limit."""

    def output_of() -> dict[str, Any]:
        capsys.readouterr()
        assert cli.invoke(["config", "diff", "--home", str(home), "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found | {"changes": {one["name"]: one for one in found["changes"]}}

    first = output_of()
    assert first["since"] == "the defaults (nothing has run yet)"
    assert (first["changes"]["SEED"]["before"], first["changes"]["SEED"]["after"]) == ("0", "7")
    assert cli.invoke(["run", "--demo", "--sessions", "1", "--home", str(home), "--json"]) == 0
    assert output_of()["changes"] == {}
    (home / ".env_bot").write_text(f"{BOT}STOP_LOSS_PCT=0.03\n".replace("0.05", "0.08"))
    after = output_of()
    assert after["since"].startswith("the demo run of ")
    assert after["changes"].keys() == {"DAILY_LOSS_LIMIT", "STOP_LOSS_PCT"}
    assert after["changes"]["DAILY_LOSS_LIMIT"]["sentence"].endswith("up to 3,000.00 USD more a day")
    assert after["worst_day"].startswith("planned worst day ")
    assert after["worst_day"].endswith("USD more, if every stop is hit")
    assert cli.invoke(["config", "diff", "--home", str(home)]) == 0
    assert capsys.readouterr().out.startswith("Since the demo run of ")


def test_the_encrypted_form_may_lie_elsewhere(home: Path) -> None:
    """ENV_BOT_PATH and ENV_KEY_PATH of a plaintext .env are followed when encrypting."""
    (home / ".env").write_text("ENV_BOT_PATH=bot\nENV_KEY_PATH=keys/bot.key\n")
    (home / ".env_bot").rename(home / "bot")
    assert cli.invoke(["config", "encrypt", "--home", str(home)]) == 0
    assert (home / "bot.enc").is_file()
    opened = secrets.open_instance_vault(Instance(home), deployment_of(read_settings_files(Instance(home)).env.parsed))
    assert opened.store.place("env_bot").key == home / "keys" / "bot.key"
