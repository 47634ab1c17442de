"""The clocks on recorded sessions: 16 stocks of 2018, the half day of Christmas Eve 2019."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tbot_core.cli import group
from tbot_core.journal import records
from tbot_core.journal.records import fill_of
from tbot_core.journal.store import NewEvent, open_journal, read_journal
from tbot_core.model.formatting import money_text
from tbot_core.model.types import atoms_of, dollars_of, ticks_of, units_of
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from pathlib import Path

SUITED = {
    "MAX_PRICE": "2000",
    "STRAT_OPEN_BUFFER": "0.002",
    "STRAT_MID_VWAP_THRESHOLD": "0.005",
    **{f"{side}_MARKET_CAP_{name}": "" for side in ("MIN", "MAX") for name in ("OPEN", "MID", "CLOSE")},
    **{f"SHORT_TYPE_{name}": "ShortSell" for name in ("OPEN", "MID", "CLOSE")},
    "ENABLE_FUNNHUB_FUNDAMENTALS_FILTER": "false",
    "ENABLE_BSM_FILTER": "false",
    "BROKER_NAME": "PAPER",
}


def invoke(*words: str) -> Any:
    """What a command prints as JSON."""
    result = CliRunner().invoke(group, words, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def instance(home: Path, shared: Path, bars: str, changes: dict[str, str]) -> Path:
    """An instance with the user's sample, some settings changed, and a set of recorded bars."""
    sample = filesystem.read_text(shared / "reference" / "env_bot.sample")
    lines = [line for line in sample.splitlines() if line.partition("=")[0] not in changes]
    filesystem.make_folder(home)
    filesystem.write_atomic(home / ".env_bot", "\n".join([*lines, *(f"{k}={v}" for k, v in changes.items())]).encode())
    for source in (f"bars/{bars}", "vix_daily.parquet"):
        result = CliRunner().invoke(group, ["data", "import", str(shared / "data" / source), "--home", str(home)])
        assert result.exit_code == 0, result.output
    return home


@pytest.fixture(scope="module")
def spring(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    """The 2018 set under the settings that suit it."""
    return instance(tmp_path_factory.mktemp("spring") / "home", shared, "us300_2018", SUITED)


@pytest.fixture(scope="module")
def replayed(spring: Path) -> Any:
    """A replay of the whole set."""
    return invoke("run", "--replay", "2018-02-16..2018-03-29", "--json", "--home", str(spring))


@pytest.mark.slow
def test_a_replay_covers_the_set_and_every_strategy_trades(replayed: Any) -> None:
    """29 sessions of 16 symbols are traded, by all three strategies."""
    assert (replayed["sessions"], replayed["symbols"]) == (29, 16)
    assert {trade["strategy"] for trade in replayed["trades"]} == {"open", "mid", "close"}


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_the_backtest_of_the_set_gives_the_same_trades(spring: Path, replayed: Any) -> None:
    """A backtest of the range gives the replay's trades, denials and equity."""
    tested = invoke("backtest", "--from", "2018-02-16", "--to", "2018-03-29", "--json", "--home", str(spring))
    for key in ("trades", "denials", "equity_start", "equity_end", "sessions", "settings_hash", "data_hash"):
        assert tested[key] == replayed[key], key


def test_unknown_volume_denies_the_first_five_sessions(replayed: Any) -> None:
    """While fewer than five sessions are known FILTER_MISSING_DATA=reject denies every symbol of every window."""
    assert replayed["denials"]["VOLUME_UNKNOWN"] == 5 * 16 * 3
    assert min(trade["entry_time"] for trade in replayed["trades"])[:10] == "2018-02-26"


def test_a_low_vix_closes_the_close_strategy(replayed: Any) -> None:
    """On 2018-03-12 the previous close of the VIX, 14.64, lies under 15: nothing is entered late in the day."""
    entered = {trade["entry_time"][:10] for trade in replayed["trades"] if trade["strategy"] == "close"}
    assert "2018-03-12" not in entered
    assert replayed["denials"]["VIX_LOW"] == 16


def test_daylight_saving_moves_no_window_against_the_bell(replayed: Any) -> None:
    """Entries of the open strategy lie 20 to 33 minutes after the bell, before and after 2018-03-11."""
    entered = [
        dt.datetime.fromisoformat(trade["entry_time"]) for trade in replayed["trades"] if trade["strategy"] == "open"
    ]
    summer = [moment.date() >= dt.date(2018, 3, 11) for moment in entered]
    assert set(summer) == {False, True}
    for moment, late in zip(entered, summer, strict=True):
        after = moment - moment.replace(hour=13 if late else 14, minute=30)
        assert dt.timedelta(minutes=21) <= after <= dt.timedelta(minutes=33)


def test_cash_and_positions_are_equity_at_each_event(spring: Path, replayed: Any) -> None:
    """Counted from cash and from payments alike, equity agrees at every fill, and each night is flat."""
    (path,) = sorted((spring / "data" / "runs").glob("*.sqlite"))
    journal = read_journal(path)
    cash = opening = 0
    held: Counter[str] = Counter()
    marks: dict[str, int] = {}
    paid = 0
    for event in journal.events():
        if event.kind == records.SESSION_OPENED:
            cash = opening = atoms_of(Decimal(event.payload["equity"]))
            held, paid = Counter(), 0
        fill = fill_of(event.cid or "", event.payload)
        if fill is not None:
            signed, ticks = (1 if fill.buy else -1) * units_of(fill.quantity), ticks_of(float(fill.price))
            fees = atoms_of(fill.fees)
            held[fill.symbol] += signed
            marks[fill.symbol] = ticks
            cash -= signed * ticks + fees
            paid += signed * ticks + fees
            worth = sum(units * marks[symbol] for symbol, units in held.items())
            assert cash + worth == opening + worth - paid
        if event.kind == records.SESSION_CLOSED:
            assert not +held
            assert event.payload["open"] == []
            assert atoms_of(Decimal(event.payload["equity"])) == cash == atoms_of(Decimal(event.payload["cash"]))
    assert replayed["equity_end"] == money_text(dollars_of(cash))
    journal.close()


@pytest.mark.slow
def test_a_half_day_has_no_late_window(tmp_path: Path, shared: Path) -> None:
    """On 2019-12-24 the close window is outside the session, open and mid trade, nothing does after 13:00."""
    changes = {
        **SUITED,
        "STRAT_OPEN_BUFFER": "0.0005",
        "STRAT_MID_VWAP_THRESHOLD": "0.001",
        "FILTER_MISSING_DATA": "pass",
        "MIN_VOLUME_THRESHOLD": "0",
    }
    home = instance(tmp_path / "home", shared, "yahoo_2019_12", changes)
    found = invoke("run", "--replay", "2019-12-24..2019-12-24", "--json", "--home", str(home))
    close = dt.datetime(2019, 12, 24, 18, tzinfo=dt.UTC)
    assert found["denials"]["WINDOW_OUTSIDE_SESSION"] == found["symbols"]
    assert {trade["strategy"] for trade in found["trades"]} == {"open", "mid"}
    for trade in found["trades"]:
        ended = dt.datetime.fromisoformat(trade["exit_time"])
        assert ended < close or (ended == close and trade["exit_reason"] == "NO_MARKET"), trade


@pytest.mark.slow
def test_what_a_live_day_saw_of_the_vix_counts_in_replay_and_backtest(tmp_path: Path, shared: Path) -> None:
    """With VIX_SOURCE=live: by its journal 2018-03-12 had 18, and on 2018-03-13 it was unknown; both clocks obey it."""
    home = instance(tmp_path / "home", shared, "us300_2018", SUITED | {"VIX_SOURCE": "live"})
    filesystem.make_folder(home / "data")
    with closing(open_journal(home / "data" / "tbot.sqlite")) as journal:
        for day, value in (("2018-03-12", 18.0), ("2018-03-13", None)):
            reading = {"session": day, "strategy": "close", "value": value, "time": None, "candidates": 0}
            journal.append(
                [NewEvent(kind=records.VIX, payload=reading, time=dt.datetime.fromisoformat(f"{day}T19:00+00:00"))]
            )
    replayed = invoke("run", "--replay", "2018-03-12..2018-03-13", "--json", "--home", str(home))
    tested = invoke("backtest", "--from", "2018-03-12", "--to", "2018-03-13", "--json", "--home", str(home))
    for key in ("trades", "denials", "equity_end"):
        assert tested[key] == replayed[key], key
    assert "VIX_LOW" not in replayed["denials"]
    assert replayed["denials"]["VIX_UNKNOWN"] == 16
