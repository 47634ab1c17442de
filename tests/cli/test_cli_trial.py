"""`--set NAME=VALUE`: a setting that is changed for one backtest, replay or demo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.shell_completion import ShellComplete

from tbot_core import cli
from tbot_core.instance.folder import Instance
from tbot_core.instance.loading import load_settings, with_trial
from tbot_core.instance.sources import read_settings_files
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DAY = "2018-07-02"
BACKTEST = ("backtest", "--from", DAY, "--to", DAY)
REPLAY = ("run", "--replay", DAY)
DEMO = ("run", "--demo", "--sessions", "1")
LINES = ("STRATEGY_SEQUENCE=open,mid", "FILTERS=none", "BROKER_NAME=PAPER", "STRAT_OPEN_BUFFER=0", "VOLUME_LIMIT=0")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance with one session of a stock that rises a cent a minute, and a strategy that buys it."""
    bench = StoreFixture(folder=tmp_path / "data")
    bench.folder.mkdir()
    bench.put(rising_bars("AAA", exchange_sessions(DAY, DAY), price=20.0))
    (tmp_path / ".env_bot").write_text("\n".join(LINES))
    return tmp_path


def asked(capsys: pytest.CaptureFixture[str], *words: str, home: Path, code: int = 0) -> tuple[str, str]:
    """What a command with these words writes to standard output and to standard error."""
    capsys.readouterr()
    assert cli.invoke([*words, "--home", str(home)]) == code
    return capsys.readouterr()


def document(capsys: pytest.CaptureFixture[str], *words: str, home: Path) -> Any:
    """The document of a simulation."""
    return json.loads(asked(capsys, *words, "--json", home=home)[0])


@pytest.mark.parametrize("command", [BACKTEST, REPLAY], ids=["backtest", "replay"])
def test_a_setting_is_changed_for_one_run(
    home: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    """It decides as the same line of the file would, with the same hash; the file is not changed."""
    plain = document(capsys, *command, home=home)
    tried = document(capsys, *command, "--set", "TOTAL_ALLOCATION=0.05", home=home)
    assert plain["trades"][0]["quantity"] != tried["trades"][0]["quantity"]
    assert "Set for this run: TOTAL_ALLOCATION=0.05." in tried["notes"]
    assert not any("Set for" in note for note in plain["notes"])
    (home / ".env_bot").write_text("\n".join((*LINES, "TOTAL_ALLOCATION=0.05")))
    written = document(capsys, *command, home=home)
    assert (written["settings_hash"], written["trades"]) == (tried["settings_hash"], tried["trades"])
    assert written["settings_hash"] != plain["settings_hash"]


def test_a_trial_is_explained_by_its_own_settings(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`tbot why` of a run has the settings of that run, whatever is in the file then."""
    document(capsys, *REPLAY, "--set", "START_TIME_OPEN=14:45", home=home)
    (run,) = (one.stem for one in (home / "data" / "runs").iterdir() if one.suffix == ".sqlite")
    for lines in (LINES, (*LINES, "START_TIME_OPEN=15:00")):
        (home / ".env_bot").write_text("\n".join(lines))
        found = document(capsys, "why", "AAA", "--run", run[:8], home=home)
        starts = {one["strategy"]: one["window"]["start"] for one in found["screening"]}
        assert (found["note"], starts["open"]) == ("", 15)


@pytest.mark.parametrize("command", [BACKTEST, REPLAY, DEMO], ids=["backtest", "replay", "demo"])
def test_banner_and_report_name_what_was_set(
    home: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    """Each setting is in one sentence, below the source of the prices and in the report."""
    sets = ("--set", "TOTAL_ALLOCATION=0.05", "--set", "MAX_TRADES=2")
    said = asked(capsys, *command, *sets, home=home)[0]
    words = "Set for this run: MAX_TRADES=2, TOTAL_ALLOCATION=0.05."
    assert f"  {words}" in said.splitlines()[1:5]
    report = next(line for line in said.splitlines() if line.startswith("Report: ")).removeprefix("Report: ")
    assert words in Path(report).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (["MAX_TRADE=1"], 3, "--set: Unknown setting MAX_TRADE; the nearest name is MAX_TRADES."),
        (["MAX_TRADES=many"], 3, "--set: MAX_TRADES=many: allowed is a whole number from 0 to 1000."),
        (["MAX_TRADES="], 3, "--set: MAX_TRADES=: allowed is a whole number from 0 to 1000."),
        (["CONTROL_DIR=other"], 3, "--set: CONTROL_DIR belongs in .env"),
        (["MAX_TRADES"], 2, "--set MAX_TRADES is not NAME=VALUE."),
        (["=3"], 2, "is not NAME=VALUE."),
        (["MAX_TRADES=1", "MAX_TRADES=2"], 2, "--set MAX_TRADES is given twice."),
    ],
)
@pytest.mark.parametrize("command", [BACKTEST, REPLAY], ids=["backtest", "replay"])
def test_what_cannot_be_set_is_refused(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    given: Sequence[str],
    code: int,
    words: str,
) -> None:
    """An unknown name and a value that is not allowed exit with 3, as in the file; a word without a value with 2."""
    sets = [word for one in given for word in ("--set", one)]
    assert words in asked(capsys, *command, *sets, home=home, code=code)[1]


@pytest.mark.parametrize("words", [(), ("--once",), ("--dry-run",)])
def test_a_bot_is_not_started_with_it(home: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    """The market is traded with the settings of the files alone: exit 2, and the command that changes them."""
    said = asked(capsys, "run", *words, "--set", "MAX_TRADES=1", home=home, code=2)[1]
    assert "--set is for --demo and --replay: `tbot config set` changes the settings of a bot." in said


@pytest.mark.parametrize("name", ["ENABLE_FUNNHUB_FUNDAMENTALS_FILTER", "ENABLE_FINNHUB_FUNDAMENTALS_FILTER"])
@pytest.mark.parametrize("written", ["ENABLE_FUNNHUB_FUNDAMENTALS_FILTER", "ENABLE_FINNHUB_FUNDAMENTALS_FILTER"])
def test_it_replaces_a_line_under_any_name(home: Path, name: str, written: str) -> None:
    """The file's line of the same setting counts for nothing, and neither does its other name."""
    (home / ".env_bot").write_text("\n".join((*LINES, f"{written}=true")))
    files = with_trial(read_settings_files(Instance.at(home)), {name: "false"})
    settings = load_settings(home, mode="replay", sources=files)
    held = settings.values["ENABLE_FUNNHUB_FUNDAMENTALS_FILTER"]
    assert (held.text, str(held.origin), settings.warnings) == ("false", "--set", ())
    assert files.texts().keys().isdisjoint({"ENABLE_FINNHUB_FUNDAMENTALS_FILTER"})


def test_a_plugins_setting_is_known_once_the_plugin_is(
    home: Path, capsys: pytest.CaptureFixture[str], install: Callable[..., Any]
) -> None:
    """A strategy that only `--set` enables has its settings from there; while it does not run they are unknown."""
    install("acme", "strategy")
    runs = ("--set", "STRATEGY_SEQUENCE=acme", "--set")
    tried = document(capsys, *BACKTEST, *runs, "STRAT_ACME_LENGTH=5", home=home)
    assert "Set for this run: STRATEGY_SEQUENCE=acme, STRAT_ACME_LENGTH=5." in tried["notes"]
    refused = asked(capsys, *BACKTEST, *runs, "STRAT_ACME_LENGTH=99", home=home, code=3)[1]
    assert "--set: STRAT_ACME_LENGTH=99: allowed is" in refused
    unknown = asked(capsys, *BACKTEST, "--set", "STRAT_ACME_LENGTH=5", home=home, code=3)[1]
    assert "--set: Unknown setting STRAT_ACME_LENGTH" in unknown


def test_an_option_of_its_own_wins(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--seed` and `--strategy` decide also where `--set` names their setting."""
    sets = ("--set", "SEED=7", "--set", "STRATEGY_OVERRIDE=mid")
    tried = document(capsys, *BACKTEST, *sets, "--seed", "9", "--strategy", "open", home=home)
    assert (
        tried["settings_hash"]
        == document(capsys, *BACKTEST, "--seed", "9", "--strategy", "open", home=home)["settings_hash"]
    )
    assert not any("Set for" in note for note in tried["notes"])


@pytest.mark.parametrize(("begun", "names"), [("MAX_TRADE", {"MAX_TRADES="}), ("control_d", set()), ("nothing", set())])
def test_a_shell_completes_the_names(begun: str, names: set[str]) -> None:
    """The names of the trading configuration are offered, each with the sign that follows it."""
    found = ShellComplete(cli.group, {}, "tbot", "_TBOT_COMPLETE").get_completions(["backtest", "--set"], begun)
    assert {one.value for one in found} >= names
    assert bool(found) is bool(names)


@pytest.mark.parametrize("speed", [(), ("--speed", "max"), ("--speed", "100000")])
def test_a_replay_of_one_day(home: Path, capsys: pytest.CaptureFixture[str], speed: tuple[str, ...]) -> None:
    """`--replay DATE` trades that session, at any speed, as the range of this day does."""
    one = document(capsys, *REPLAY, *speed, home=home)
    assert one["sessions"] == 1
    assert one == document(capsys, "run", "--replay", f"{DAY}..{DAY}", home=home)


@pytest.mark.parametrize(("day", "words"), [("2018-07-03", "`tbot data list`"), ("2018-07-04", "Independence Day")])
def test_a_replay_of_a_day_without_bars(home: Path, capsys: pytest.CaptureFixture[str], day: str, words: str) -> None:
    """A session that is not stored, and a holiday, exit with 1: no run is recorded."""
    assert words in asked(capsys, "run", "--replay", day, home=home, code=1)[1]
    assert not [*(home / "data").glob("runs/*.sqlite")]
