"""`tbot run`: the door of the main job."""

from __future__ import annotations

import datetime as dt
import json
import os
import sqlite3
import sys
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core import cli
from tbot_core.cli.commands.run import create_demo_instance, exit_code, restart_command
from tbot_core.cli.run_options import RunOptions, hold_instance_lock, parse_run_options
from tbot_core.cli.run_text import plain_line
from tbot_core.engine.run_plan import RunOutcome
from tbot_core.reports.summary import SIMULATED_PRICES, RunSummary
from tbot_core.status.event_lines import EventLine
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Sequence

PAPER = "BROKER_NAME=PAPER\nSTRATEGY_SEQUENCE=open\n"
TRADE_KEYS = {
    *("strategy", "symbol", "side", "quantity", "entry_time", "entry_price"),
    *("exit_time", "exit_price", "fees", "pnl", "exit_reason"),
}


def run(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> tuple[str, str]:
    """What `tbot run` writes to standard output and to standard error."""
    assert cli.invoke(["run", *args]) == code
    captured = capsys.readouterr()
    return captured.out, captured.err


def document(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    """The one JSON document of a run."""
    return json.loads(run(capsys, *args, "--json")[0])


@pytest.mark.slow
def test_demo_trades_all_three_strategies_and_says_so_in_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three simulated sessions give one JSON document of the agreed keys; the banner goes to standard error."""
    out, err = run(capsys, "--demo", "--home", str(tmp_path / "new"), "--json")
    found = json.loads(out)
    assert (found["mode"], found["sessions"]) == ("demo", 3)
    assert {trade["strategy"] for trade in found["trades"]} == {"open", "mid", "close"}
    assert all(set(trade) == TRADE_KEYS for trade in found["trades"])
    assert list(found) == sorted(found)
    assert Path(found["report"]).is_file()
    assert "SIMULATED PRICES" in err


def test_demo_makes_an_instance_that_git_ignores(tmp_path: Path) -> None:
    """The demo's folder gets its settings and a .gitignore; settings that stand there are left as they are."""
    create_demo_instance(tmp_path / "deep" / "new")
    assert (tmp_path / "deep" / "new" / ".gitignore").read_text() == "*\n"
    settings = tmp_path / "deep" / "new" / ".env_bot"
    assert "BROKER_NAME=PAPER" in settings.read_text()
    settings.write_text(PAPER)
    create_demo_instance(tmp_path / "deep" / "new")
    assert settings.read_text() == PAPER


@pytest.mark.slow
def test_the_same_demo_twice_gives_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A finished run is begun anew and says the same; another seed says something else."""
    args = ("--demo", "--sessions", "1", "--home", str(tmp_path), "--json")
    first = run(capsys, *args)[0]
    assert run(capsys, *args)[0] == first
    assert json.loads(run(capsys, *args, "--seed", "1")[0])["trades"] != json.loads(first)["trades"]


@pytest.mark.slow
def test_a_finished_run_that_was_changed_is_kept_when_it_is_begun_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`tbot check` names it, the next run says so in one line and is as good as any, and then nothing is wrong."""
    args = ("--demo", "--sessions", "1", "--home", str(tmp_path), "--json")
    first = run(capsys, *args)[0]
    cli.invoke(["check", "--home", str(tmp_path)])
    output = capsys.readouterr().out
    assert "1 journal of simulated runs verified." in output
    assert "Nothing has been traded here yet" not in output
    (path,) = (tmp_path / "data" / "runs").glob("*.sqlite")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE events SET payload = payload || ' ' WHERE seq = 9")
    changed = path.read_bytes()
    cli.invoke(["check", "--home", str(tmp_path)])
    assert "event 9 breaks the hash chain after 8. Remove it" in capsys.readouterr().out
    again, said = run(capsys, *args)
    (line,) = [line for line in said.splitlines() if "journal.replaced" in line]
    assert "event 9 breaks the hash chain" in line
    assert again == first
    assert path.with_name(f"{path.name}.damaged").read_bytes() == changed
    assert "journal.replaced" not in run(capsys, *args)[1]


@pytest.mark.slow
def test_plain_lines_show_fills_exits_and_sessions_and_end_with_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Elsewhere than on a terminal each fill, exit and session is a line with both times, then come the tables."""
    out, _ = run(capsys, "--demo", "--sessions", "1", "--home", str(tmp_path))
    lines = out.splitlines()
    assert lines[0] == "tbot demo. SIMULATED PRICES: simulated market."
    assert SIMULATED_PRICES in lines
    assert any(line.startswith("09:30 (14:30 UTC)  Session 20") for line in lines)
    assert any("  [OPEN] " in line and " @ " in line for line in lines)
    assert any(" EXIT " in line for line in lines)
    assert any(line.startswith("16:00 (21:00 UTC)  Session ") and "closed" in line for line in lines)
    for head in ("Trades", "Net P&L by strategy", "Denials by reason (symbols x strategies)", "Near misses", "Notes"):
        assert head in lines
    assert "orders of the window have been sent" in out or "has been traded today" in out
    assert lines[-2].startswith("Report: ")
    assert lines[-1].startswith("Next:   tbot why ")
    assert lines[-1].endswith(f"--home {tmp_path}")


@pytest.mark.slow
def test_lines_and_tables_give_a_fill_the_same_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line of an entry or exit bears the time that the document gives it, the start of the bar that filled it."""
    args = ("--demo", "--sessions", "1", "--home", str(tmp_path))
    lines = run(capsys, *args)[0].splitlines()
    trades = document(capsys, *args)["trades"]
    assert trades
    for trade in trades:
        entered, left = (dt.datetime.fromisoformat(trade[name]) for name in ("entry_time", "exit_time"))
        action = "BUY" if trade["side"] == "long" else "SELL SHORT"
        head = f"[{trade['strategy'].upper()}] "
        entry = plain_line(EventLine(time=entered, text=f"{head}{action} ", weight="entry"))
        assert any(line.startswith(entry) and f" {trade['symbol']} @ " in line for line in lines)
        way_out = plain_line(EventLine(time=left, text=f"{head}EXIT {trade['symbol']} ", weight="exit"))
        assert any(line.startswith(way_out) for line in lines)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--replay", "2018-02-16.."), "date is missing"),
        (("--replay", "yesterday"), "Invalid date"),
        (("--replay", "2018-02-30..2018-03-01"), "Invalid date"),
        (("--replay", "2018-03-29..2018-02-16"), "is reversed"),
        (("--demo", "--replay", "2018-02-16..2018-02-16"), "exclude each other"),
        (("--replay", "2018-02-16..2018-02-16", "--sessions", "2"), "is for --demo"),
        (("--demo", "--once"), "live market"),
        (("--dry-run", "--demo"), "use other data"),
        (("--dry-run", "--replay", "2018-02-16..2018-02-16"), "use other data"),
        (("--dry-run", "--speed", "60"), "for simulations"),
        (("--dry-run", "--sessions", "2"), "is for --demo"),
        (("--speed", "60"), "for simulations"),
        (("--demo", "--speed", "fast"), "Invalid speed"),
        (("--demo", "--speed", "0"), "Invalid speed"),
        (("--demo", "--speed", "nan"), "Invalid speed"),
        (("--demo", "--seed", "-1"), "--seed"),
        (("--demo", "--sessions", "0"), "--sessions"),
    ],
)
def test_words_that_do_not_fit_are_usage_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: Sequence[str], words: str
) -> None:
    """Wrong dates, options and speeds exit 2 with a sentence, and make nothing."""
    _, err = run(capsys, *args, "--home", str(tmp_path / "new"), code=2)
    assert words in err
    assert not (tmp_path / "new").exists()


def test_a_folder_without_an_instance_points_to_the_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without settings the run refuses with exit 3 and names the demo."""
    _, err = run(capsys, "--home", str(tmp_path), code=3)
    assert "tbot run --demo" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("BROKER_NAME=OTHER\nSTRATEGY_SEQUENCE=open\n", "broker other"),
        ("BROKER_NAME=PAPER\nSTRATEGY_SEQUENCE=nosuch\n", "strategy nosuch"),
        (PAPER + "WEIGHTS=0.9,0.9\n", "WEIGHTS"),
        (PAPER + "SLEEP_TIME=0\n", "SLEEP_TIME"),
        (PAPER + "MAX_RISK_PER_TRADE=-1\n", "MAX_RISK_PER_TRADE"),
        (PAPER + "START_TIME_OPEN=23:00\n", "START_TIME_OPEN"),
    ],
)
def test_settings_that_cannot_be_used_exit_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: str, words: str
) -> None:
    """Unknown plugins and wrong values are named before anything but the lock is written."""
    (tmp_path / ".env_bot").write_text(settings)
    _, err = run(capsys, "--home", str(tmp_path), code=3)
    assert words in err
    assert {path.name for path in (tmp_path / "data").iterdir()} <= {"tbot.lock"}


@pytest.mark.slow
def test_a_replay_without_bars_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A range that has no stored bars is said in one sentence that names the range."""
    (tmp_path / ".env_bot").write_text(PAPER)
    _, err = run(capsys, "--replay", "2018-02-16..2018-02-20", "--home", str(tmp_path), code=1)
    assert "stored from 2018-02-16 to 2018-02-20" in err


def test_symbols_that_are_not_simulated_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The demo lists what it simulates when it is asked for something else."""
    _, err = run(capsys, "--demo", "--symbols", "aapl", "--home", str(tmp_path), code=1)
    assert "does not list AAPL" in err


def test_a_folder_that_cannot_be_written_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the instance cannot be written the run says so in a sentence and changes nothing."""
    (tmp_path / ".env_bot").write_text(PAPER)
    (tmp_path / "data").write_text("in the way")
    _, err = run(capsys, "--demo", "--home", str(tmp_path), code=1)
    assert str(tmp_path / "data") in err


def test_a_second_run_in_the_same_instance_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While another holds the instance, the run names the holder."""
    with filesystem.hold_lock(tmp_path / "data" / "tbot.lock"):
        _, err = run(capsys, "--demo", "--home", str(tmp_path), code=1)
    assert "is in use by another tbot, process" in err


def test_a_second_run_is_refused_although_the_lock_file_was_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Removing the lock file of a running bot starts no second one, and the first is named."""
    (tmp_path / ".env_bot").write_text(PAPER)
    with hold_instance_lock(tmp_path):
        for one in (tmp_path / "data").glob("tbot.lock*"):
            one.unlink()
        _, err = run(capsys, "--demo", "--home", str(tmp_path), code=1)
    assert f"is in use by another tbot, process {os.getpid()}" in err


def test_symbols_are_taken_once_in_capitals() -> None:
    """Symbols come in any case and are asked for once each."""
    options = parse_run_options(
        demo=True,
        replay=None,
        symbols=" tarno,KORVA,tarno,",
        speed="max",
        seed=None,
        sessions=None,
        once=False,
        home=None,
    )
    assert options.symbols == ("TARNO", "KORVA")
    assert (options.home, options.sessions, options.rate) == (Path("tbot-demo"), 3, 0.0)


@pytest.mark.slow
def test_only_the_symbols_asked_for_are_traded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --symbols nothing else is looked at."""
    found = document(capsys, "--demo", "--symbols", "TARNO,KORVA", "--home", str(tmp_path))
    assert found["symbols"] == 2
    assert {trade["symbol"] for trade in found["trades"]} <= {"TARNO", "KORVA"}


@pytest.mark.parametrize(
    ("mode", "stopped", "left", "expected"),
    [
        ("demo", False, (), 0),
        ("demo", True, ("AAA",), 130),
        ("replay", True, (), 130),
        ("paper", True, (), 0),
        ("paper", True, ("AAA",), 1),
        ("dry-run", True, ("AAA",), 1),
        ("dry-run", True, (), 0),
    ],
)
def test_exit_codes_of_a_run_that_was_stopped(mode: Any, stopped: bool, left: tuple[str, ...], expected: int) -> None:
    """A stopped simulation exits 130; paper and dry runs exit 1 if anything is left open, else 0."""
    summary = RunSummary(
        mode=mode,
        sessions=0,
        symbols=0,
        equity_start=Decimal(0),
        equity_end=Decimal(0),
        trades=(),
        denials={},
        settings_hash="",
        data_hash="",
    )
    outcome = RunOutcome(summary=summary, journal=Path("x"), stopped=stopped, open=left)
    assert exit_code(RunOptions(mode=mode, home=Path()), outcome) == expected


def test_the_watchdog_starts_the_same_run_again(tmp_path: Path) -> None:
    """Instance, symbols, seed and conditions are those of the run that it had to end."""
    bare = RunOptions(mode="paper", home=tmp_path)
    assert restart_command(bare) == (sys.executable, "-P", "-m", "tbot_core", "run", f"--home={tmp_path}")
    whole = attrs.evolve(bare, symbols=("AAA", "BBB"), seed=0, once=True, allow_shared_key=True)
    assert restart_command(whole)[6:] == ("--symbols=AAA,BBB", "--seed=0", "--once", "--allow-shared-key")
