"""`tbot config check|show|explain`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core import cli

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "STRATEGY_SEQUENCE=open\nBROKER_NAME=PAPER\nSEED=7\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance whose settings hold."""
    (tmp_path / ".env_bot").write_text(GOOD)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> str:
    """What `tbot config` writes to standard output, or to standard error where nothing is written there."""
    assert cli.invoke(["config", *args]) == code
    captured = capsys.readouterr()
    return captured.out or captured.err


def document(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> Any:
    """The one JSON document of a command."""
    return json.loads(said(capsys, *args, "--json", code=code))


@pytest.mark.slow
def test_check_passes_with_what_the_limits_add_up_to(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Settings that hold exit 0, and the planned worst day and the largest gross exposure are printed."""
    text = said(capsys, "check", "--home", str(home), "--mode", "replay")
    assert "Planned worst day: 0.04 % of equity" in text
    assert "largest gross exposure: 2 % of equity" in text
    assert "fail" not in text


@pytest.mark.slow
def test_check_lists_every_finding_and_exits_3(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each finding is a row with level, file and line; a failing one makes the exit code 3, in JSON too."""
    (home / ".env_bot").write_text(GOOD + "WEIGHTS=0.9,0.9\nSLEEP_TIME=0\nSEEED=1\n")
    text = said(capsys, "check", "--home", str(home), "--mode", "replay", code=3)
    assert "fail  .env_bot:5: SLEEP_TIME=0: allowed is a time span with its unit" in text
    assert "warn  .env_bot:6: Unknown setting SEEED; the nearest name is SEED." in text
    found = document(capsys, "check", "--home", str(home), "--mode", "replay", code=3)
    assert (found["mode"], found["passed"]) == ("replay", False)
    first = next(row for row in found["findings"] if row["where"] == ".env_bot:4")
    assert (first["level"], first["keys"]) == ("fail", ["WEIGHTS"])


@pytest.mark.slow
def test_check_lets_warnings_fail_when_it_is_strict(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A warning exits 0 without --strict, and 3 with it."""
    (home / ".env_bot").write_text(GOOD + "SEEED=1\n")
    said(capsys, "check", "--home", str(home), "--mode", "replay")
    said(capsys, "check", "--home", str(home), "--mode", "replay", "--strict", code=3)


def test_check_of_a_folder_that_is_not_there_says_only_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No row speaks of files and folders that cannot be."""
    assert cli.invoke(["check", "--home", str(tmp_path / "nowhere")]) == 3
    row, _outcome = capsys.readouterr().out.splitlines()
    assert row.startswith(f"fail  settings  {tmp_path / 'nowhere'} does not exist: `tbot init` creates")


def test_check_of_a_folder_without_an_instance_names_the_demo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing to check is a fault with a way to look."""
    assert "tbot run --demo" in said(capsys, "check", "--home", str(tmp_path), code=3)


def test_an_unreadable_file_is_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A settings file that cannot be read is one row, not a crash."""
    (tmp_path / ".env").mkdir()
    assert "Cannot read" in said(capsys, "check", "--home", str(tmp_path), "--mode", "replay", code=3)


@pytest.mark.slow
def test_show_says_every_value_and_where_it_comes_from(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All effective values, file and line or default, and the hash of what trades."""
    found = document(capsys, "show", "--home", str(home))
    assert found["settings"]["SEED"] == {"value": "7", "origin": ".env_bot:3", "owner": "core"}
    assert found["settings"]["MAX_TRADES"]["origin"] == "default"
    assert found["strategies"] == ["open"]
    assert len(found["settings_hash"]) == 64
    text = said(capsys, "show", "--home", str(home))
    assert "SEED " in text
    assert found["settings_hash"] in text


def test_show_refuses_settings_that_do_not_hold(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot hold is not shown as if it did."""
    (home / ".env_bot").write_text("SEED=x\n")
    assert ".env_bot:1: SEED=x: allowed is a whole number" in said(capsys, "show", "--home", str(home), code=3)


@pytest.mark.slow
def test_explain_says_meaning_allowed_default_and_value(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything about one variable, in any case of its name."""
    found = document(capsys, "explain", "seed", "--home", str(home))
    assert (found["name"], found["value"], found["origin"], found["default"]) == ("SEED", "7", ".env_bot:3", "0")
    assert (found["owner"], found["file"], found["acted_on"], found["note"]) == ("core", ".env_bot", True, "")


def test_explain_says_that_latency_does_not_change_one_minute_fills(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without an instance the default is explained."""
    text = said(capsys, "explain", "SIMULATED_LATENCY_MS", "--home", str(tmp_path))
    assert "SIMULATED_LATENCY_MS=500    (default)" in text
    assert "under 60,000 ms it does not change one-minute fills" in text


@pytest.mark.slow
def test_explain_says_aliases_what_has_no_effect_and_what_is_wrong(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An alias leads to its setting; a setting without effect and a refused value say so."""
    text = said(capsys, "explain", "ENABLE_FINNHUB_FUNDAMENTALS_FILTER", "--home", str(home))
    assert "ENABLE_FUNNHUB_FUNDAMENTALS_FILTER=false" in text
    assert "Aliases: ENABLE_FINNHUB_FUNDAMENTALS_FILTER." in text
    assert "Owner: filter finnhub." in text
    (home / ".env_bot").write_text(GOOD + "LOT_METHOD=average\n")
    text = said(capsys, "explain", "LOT_METHOD", "--home", str(home))
    assert "Accepted, no effect yet." in text
    assert ".env_bot:4: LOT_METHOD=average: allowed is one of fifo, lifo, hifo, specific." in text


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("TOTAL_ALOCATION", "The nearest names: TOTAL_ALLOCATION"),
        ("QWERTYUIOP", "`tbot config show` lists every setting"),
    ],
)
def test_explain_of_an_unknown_key_names_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, hint: str
) -> None:
    """An unknown key is wrong usage, exit code 2."""
    assert hint in said(capsys, "explain", key, "--home", str(tmp_path), code=2)


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "code"), [("open", 3), ("close", 3), ("mid", 0)])
def test_a_window_without_analysis_is_refused_where_the_strategy_needs_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], strategy: str, code: int
) -> None:
    """No bar makes no range, and no minute before is nothing to compare with; the VWAP is there without it."""
    key = f"{strategy.upper()}_ANALYSIS_TIME"
    (tmp_path / ".env_bot").write_text(f"BROKER_NAME=PAPER\nSTRATEGY_SEQUENCE={strategy}\n{key}=0\n")
    assert cli.invoke(["config", "check", "--home", str(tmp_path)]) == code
    refusal = f"{key}=0: allowed for strategy {strategy} is a whole number of minutes from 1 to 390."
    assert (refusal in capsys.readouterr().out) == bool(code)


KEY = "u3ep2BjC9Ir7UWZ4y0qvO_dwoBPY77ADYPB0zPbWb-U="


@pytest.mark.parametrize("name", ["BROKER_KEY_PATH", "ENV_BOT_PATH", "CONTROL_DIR"])
def test_no_command_shows_or_stores_a_key_in_place_of_a_path(
    home: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Plain or encrypted, the settings are refused with the name of the setting; no output and no file has the key."""
    (home / ".env").write_text(f"{name}={KEY}\n")
    asked = [
        ["init", "--adopt"],
        ["config", "check"],
        ["config", "show"],
        ["config", "explain", name],
        ["config", "diff"],
        ["check"],
        ["status"],
        ["kill"],
        ["config", "encrypt"],
        ["config", "check"],
        ["check"],
        ["secrets", "verify"],
        ["audit", "verify"],
    ]
    for words in asked:
        cli.invoke([*words, "--home", str(home)])
        captured = capsys.readouterr()
        assert KEY not in captured.out + captured.err, words
        if words == ["config", "check"]:
            assert f"{name} is shaped like a secret" in captured.out
    found = [
        path for path in home.rglob("*") if KEY in str(path) or (path.is_file() and KEY in path.read_text("latin1"))
    ]
    assert found in ([], [home / ".env"])
