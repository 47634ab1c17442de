"""Third parties' plugins, built and installed as strangers do it: a strategy, and a key provider."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

from tbot_core.system import environ, filesystem, processes
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

SOURCES = [Path(__file__).with_name(name) for name in ("streak", "lockbox")]
BUILD = "import os, sys, uv_build; os.chdir(sys.argv[1]); print(uv_build.build_wheel(sys.argv[2]))"


def ended(*command: str | Path, **variables: str) -> processes.ProcessResult:
    """A command that has come to its end."""
    return processes.run_program(
        [str(part) for part in command],
        timeout_s=110,
        environment=environ.minimal_environment() | {"PIP_NO_INDEX": "1"} | variables,
    )


def done(*command: str | Path, **variables: str) -> str:
    """The output of a command that succeeds."""
    finished = ended(*command, **variables)
    assert finished.code == 0, finished.errors
    return finished.output


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `tbot` of a fresh environment that sees tbot-core, with the third parties' wheels installed by pip."""
    folder = tmp_path_factory.mktemp("stranger")
    scripts = sysconfig.get_path("scripts")
    path = f"{scripts}:{environ.minimal_environment()['PATH']}"
    wheels = []
    for source in SOURCES:
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        built = done(sys.executable, "-c", BUILD, folder / source.name, folder, PATH=path)
        wheels.append(folder / built.split()[-1])
    done(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    done(python, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", *wheels)
    # The environment of these tests is where tbot-core and its libraries are: the fresh one sees it as its own.
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "tbot.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    tbot = folder / "venv" / "bin" / "tbot"
    tbot.write_text(f"#!{python}\nimport sys\nfrom tbot_core.__main__ import main\nsys.exit(main())\n")
    tbot.chmod(0o755)
    return tbot


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_a_strangers_strategy_is_listed_like_any_other(installed: Path, tmp_path: Path) -> None:
    """The list names it with its distribution, and its sheet shows the setting that it declares."""
    rows = json.loads(done(installed, "plugins", "list", "--json", "--home", tmp_path))["plugins"]
    (row,) = [row for row in rows if row["name"] == "streak"]
    assert (row["kind"], row["distribution"], row["version"]) == ("strategy", "acme-streak", "0.3.1")
    assert (row["state"], row["reason"]) == ("available", "")
    facts = json.loads(done(installed, "plugins", "info", "streak", "--json", "--home", tmp_path))
    assert facts["origin"].endswith("acme_streak-0.3.1-py3-none-any.whl")
    assert [(it["name"], it["default"]) for it in facts["settings"]] == [("STREAK_LENGTH", "3")]


SETTINGS = """\
STRATEGY_SEQUENCE=streak
FILTERS=none
SHORT_TYPE_STREAK=ShortSell
START_TIME_STREAK=14:30
STREAK_ANALYSIS_TIME=10
STREAK_BREAKOUT_TIME=20
STREAK_MONITORING_TIME=30
STREAK_LENGTH=5
ENABLE_SLIPPAGE_MODEL=false
"""


@pytest.mark.slow
@pytest.mark.first(0)  # the tutorial's strategy trades in test_rehearsal_broker_day
def test_a_strangers_strategy_trades_a_session(installed: Path, tmp_path: Path) -> None:
    """By its own settings it enters at the first sign and leaves when its window ends, in a replay as in a backtest."""
    (tmp_path / ".env_bot").write_text(SETTINGS)
    filesystem.make_folder(tmp_path / "data")
    (session,) = exchange_sessions("2026-01-06", "2026-01-06")
    StoreFixture(folder=tmp_path / "data").put(rising_bars("ACME", [session]))
    replayed = done(installed, "run", "--replay", "2026-01-06..2026-01-06", "--json", "--home", tmp_path)
    (trade,) = json.loads(replayed)["trades"]
    tested = done(installed, "backtest", "--from", "2026-01-06", "--to", "2026-01-06", "--json", "--home", tmp_path)
    assert json.loads(tested)["trades"] == [trade]
    assert (trade["strategy"], trade["symbol"], trade["side"]) == ("streak", "ACME", "long")
    # Bar 10 is the first of the entry phase and closes at minute 11; the window ends at minute 60.
    assert dt.datetime.fromisoformat(trade["entry_time"]) == session.moment(11)
    assert dt.datetime.fromisoformat(trade["exit_time"]) == session.moment(60)
    rows = json.loads(done(installed, "plugins", "list", "--json", "--home", tmp_path))["plugins"]
    assert [row["name"] for row in rows if row["state"] == "active" and row["kind"] == "strategy"] == ["streak"]


KEYS = {"TBOT_KEY_PROVIDER": "plugin"}


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_a_strangers_keys_open_an_instance(installed: Path, tmp_path: Path) -> None:
    """Made, rotated and traded with under its keys alone; while it fails nothing opens, and no key file steps in."""
    home = tmp_path / "x"
    done(installed, "init", "--paper", "--home", home, **KEYS)
    box = home / "data" / "plugins" / "extension-lockbox"
    before = (box / "env_bot.cur").read_bytes()
    assert len(before) == 32
    assert not list(home.rglob("*.key"))
    assert "env_bot has the key" in done(installed, "secrets", "rotate", "env_bot", "--home", home, **KEYS)
    assert before == (box / "env_bot.prev").read_bytes() != (box / "env_bot.cur").read_bytes()
    assert "Every encrypted file opens" in done(installed, "secrets", "verify", "--home", home, **KEYS)
    (session,) = exchange_sessions("2026-01-06", "2026-01-06")
    StoreFixture(folder=home / "data").put(rising_bars("ACME", [session]))
    ran = done(installed, "run", "--replay", "2026-01-06..2026-01-06", "--json", "--home", home, **KEYS)
    assert json.loads(ran)["sessions"]
    (box / "shut").touch()
    for code, variables in (("TB-SEC-080", KEYS), ("TB-SEC-021", {})):
        failed = ended(installed, "secrets", "verify", "--home", home, **variables)
        assert (failed.code, failed.output.count(f"{code} ")) == (3, 3), failed
