"""The newcomer's commands as the README prints them, in a fresh folder, by the installed command, without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias

import newcomer
import pytest

Steps: TypeAlias = dict[str, newcomer.Step]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder in which they run."""
    return tmp_path


@pytest.fixture
def steps(folder: Path) -> Steps:
    """Each command of the README with its result, run one after the other, by the words before its first option."""
    found = newcomer.run_commands(folder, newcomer.readme_commands())
    return {" ".join(step.command.split()[1:3]): step for step in found}


@pytest.mark.first(0)
@pytest.mark.timeout(600)
def test_the_commands_of_the_readme_do_what_it_says(steps: Steps, folder: Path) -> None:
    """Each ends with 0: the demo, the replay and the backtest trade, and nothing warns; `why` explains a trade."""
    assert {name: step.errors for name, step in steps.items() if step.code or not step.out} == {}
    assert set(steps) == {
        "run --demo",
        "init --paper",
        "data download",
        "run --replay",
        "backtest --from",
        "why SYMBOL",
        "plugins list",
        "plugins lock",
        "--help",
        "check --home",
        "status --home",
        "secrets show",
    }
    demo_trades_on_screen(steps["run --demo"], folder)
    no_check_warns(steps)
    backtest_trades_as_the_replay(steps["run --replay"], steps["backtest --from"])
    why_explains(steps["why SYMBOL"])
    assert "replay, SIMULATED PRICES, stored bars" in steps["status --home"].out


def demo_trades_on_screen(step: newcomer.Step, folder: Path) -> None:
    """Trades come as lines while it runs; then tables, and a report that is there."""
    assert step.first_trade_s is not None
    assert step.first_trade_s < step.seconds
    assert "Denials by reason" in step.out
    (report,) = (line.partition("Report: ")[2] for line in step.out.splitlines() if line.startswith("Report: "))
    assert Path(report).is_relative_to(folder)
    assert Path(report).is_file()


def no_check_warns(steps: Steps) -> None:
    """A new paper instance passes its check without a warning, and so it does after a replay."""
    assert ", 0 warnings." in steps["init --paper"].out
    *checks, outcome = steps["check --home"].out.splitlines()
    assert {line.split()[0] for line in checks} <= {"ok", "note"}
    assert ", 0 warnings." in outcome


def backtest_trades_as_the_replay(replay: newcomer.Step, backtest: newcomer.Step) -> None:
    """Both trade on the downloaded sessions, as often and to the same equity; the replay's report is there."""
    document = json.loads(replay.out)
    assert document["trades"]
    assert Path(document["report"]).is_file()
    equity = f"{float(document['equity_end']):,.2f}"
    last = f"{document['sessions']} sessions, {len(document['trades'])} trades, equity 100,000.00 to {equity}"
    assert last in backtest.out.splitlines()


def why_explains(step: newcomer.Step) -> None:
    """What was compared before the bell and at the signal, each limit, and what became of it."""
    for words in ("Before the opening bell", "decided at", "    limits ", "Position at the end of the session"):
        assert words in step.out


@pytest.mark.full
@pytest.mark.timeout(600)
def test_a_newcomer_trades_at_the_venue_of_alpaca_with_the_commands_of_its_page(folder: Path) -> None:
    """From an empty folder to the first fill; the broker is tested and the symbols are screened before it."""
    steps = list(newcomer.trade_at_venue(folder, "alpaca"))
    assert [step.command.split("tbot ")[1].split(" --")[0] for step in steps] == [
        "init",
        "broker test",
        "check",
        "screen",
        "data download",
        "run",
    ]
    assert [step.code for step in steps[:-1]] == [0] * 5
    tested, screened, downloaded, traded = steps[1].out, steps[3].out, steps[4].out, steps[5]
    assert {line.split()[0] for line in tested.splitlines()} == {"ok"}
    assert "A session has 30 of 41 symbols subscribed (" in screened
    assert "21 sessions from" in downloaded
    assert traded.first_trade_s is not None
    assert "REHEARSAL" in traded.out
