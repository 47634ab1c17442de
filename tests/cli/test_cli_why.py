"""`tbot why`: decisions with their comparisons, and any minute worked out anew."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core import cli
from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.journal import records
from tbot_core.journal.store import NewEvent, open_journal, read_journal
from tbot_core.model.reasons import Reason
from tbot_core.status.why_text import figure_lines

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.journal.store import Event


TIME = dt.datetime(2026, 12, 1, 15, 0, tzinfo=dt.UTC)


def asked(capsys: pytest.CaptureFixture[str], home: Path, *args: str, code: int = 0) -> str:
    """What `tbot why` says."""
    assert cli.invoke(["why", *args, "--home", str(home)]) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def document(capsys: pytest.CaptureFixture[str], home: Path, *args: str) -> Any:
    """The answer for machines."""
    return json.loads(asked(capsys, home, *args, "--json"))


def decisions(home: Path) -> list[Event]:
    """Every decision of the demo, oldest first."""
    (file,) = (home / "data" / "runs").glob("*.sqlite")
    journal = read_journal(file)
    found = list(journal.events(kind=records.DECISION))
    journal.close()
    return found


@pytest.mark.first(1)
@pytest.mark.parametrize("allowed", [True, False])
def test_every_decision_is_explained_by_what_fired(
    traded: Path, capsys: pytest.CaptureFixture[str], allowed: bool
) -> None:
    """A decision, allowed or denied, is shown with its reason, its sentence, and a trigger of its minute that fires."""
    event = next(one for one in decisions(traded) if (one.payload["reason"] == "ALLOWED") is allowed)
    signal = event.payload["signal"]
    found = document(capsys, traded, signal["symbol"], "--date", signal["session"])
    assert event.payload["reason"] in {one["reason"] for one in found["decisions"]}
    minute = next(one for one in found["minutes"] if one["minute"] == signal["minute"])
    part = next(one for one in minute["strategies"] if one["strategy"] == signal["strategy"])
    assert [one["rule"] for one in part["comparisons"] if one["fires"]] == [signal["rule"]]
    assert part["filters"] == "ALLOWED"
    assert minute["bar"]["close"] == event.payload["price"]
    text = asked(capsys, traded, signal["symbol"], "--date", signal["session"])
    assert Reason[event.payload["reason"]].sentence in text
    assert " met" in text
    assert "SIMULATED PRICES" in text


def test_any_minute_is_worked_out_anew(traded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A minute in which nothing was decided shows what was compared, with values and levels, and that nothing fired."""
    symbol = decisions(traded)[0].payload["signal"]["symbol"]
    found = document(capsys, traded, symbol, "--at", "09:51", "--date", found_date(traded))
    (minute,) = found["minutes"]
    assert minute["minute"] == 20
    assert minute["time"].endswith("14:51:00+00:00")
    (part,) = [one for one in minute["strategies"] if one["comparisons"]]
    assert part["strategy"] == "open"
    assert all(one["value"] > 0 and one["level"] > 0 for one in part["comparisons"])
    assert "not in the entry phase" in asked(capsys, traded, symbol, "--at", "12:00")


def found_date(home: Path) -> str:
    """The first session of the demo."""
    session: str = decisions(home)[0].payload["signal"]["session"]
    return session


def test_a_moment_shows_the_position_and_orders_of_then(traded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two minutes after an allowed decision its position stands with a stop, and before it there was none."""
    (file,) = (traded / "data" / "runs").glob("*.sqlite")
    journal = read_journal(file)
    event = next(one for one in journal.events(kind="fill"))
    journal.close()
    symbol, when = event.payload["symbol"], event.applied
    then = document(capsys, traded, symbol, "--at", when.isoformat())
    assert then["position"]["stop"]
    assert {order["state"] for order in then["orders"]} >= {"filled"}
    before = document(capsys, traded, symbol, "--at", f"{when.date().isoformat()}T09:40")
    assert (before["position"], before["orders"]) == (None, [])


@pytest.mark.slow
def test_a_symbol_without_a_signal_shows_how_close_it_came(traded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no strategy had a signal, the closest approach to each trigger is named."""
    named = {one.payload["signal"]["symbol"] for one in decisions(traded)}
    symbols = document(capsys, traded, min(named))
    assert symbols["screening"]
    from tbot_broker_paper.companies import SYMBOLS

    quiet = next(symbol for symbol in SYMBOLS if symbol not in named)
    text = asked(capsys, traded, quiet)
    assert "No strategy gave a signal on it" in text
    assert "no trigger; closest to" in text


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("args", "words", "code"),
    [
        (("NOSUCH",), "NOSUCH is not among the 40 symbols", 2),
        (("TARNO", "--at", "09:30"), "outside of the session", 2),
        (("TARNO", "--at", "16:01"), "outside of the session", 2),
        (("TARNO", "--at", "25:99"), "Invalid time", 2),
        (("TARNO", "--date", "yesterday"), "Invalid date", 2),
        (("TARNO", "--date", "2011-01-03"), "has no session on 2011-01-03", 2),
        (("TARNO", "--run", "zzz"), "matches 0 runs", 2),
    ],
)
def test_questions_that_have_no_answer(
    traded: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], words: str, code: int
) -> None:
    """Unknown symbols, times outside of the session and runs that are not there get a sentence and exit 2."""
    assert words in asked(capsys, traded, *args, code=code)


def test_without_a_run_there_is_nothing_to_explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An instance in which nothing ran says so, and how to get a run; a folder that is none exits 3."""
    assert "is not an instance" in asked(capsys, tmp_path, "TARNO", code=3)
    create_demo_instance(tmp_path)
    assert "No run is recorded" in asked(capsys, tmp_path, "TARNO", code=1)


def test_the_journal_answers_alone_when_settings_are_gone(
    traded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the run's cannot be used a note names the present ones; without either the journal's part is shown."""
    home = tmp_path / "copy"
    shutil.copytree(traded, home)
    event = decisions(home)[0]
    symbol, settings = event.payload["signal"]["symbol"], home / ".env_bot"
    (path,) = (home / "data" / "runs").glob("*.sqlite")
    with closing(sqlite3.connect(path)) as database, database:  # as of a version that had another strategy
        database.execute("UPDATE events SET payload = replace(payload, '\"open,mid,close\"', '\"gone\"')")
    assert "Settings or tables of the run can no longer be used" not in document(capsys, traded, symbol)["note"]
    settings.write_text(settings.read_text() + "MAX_GAP_PCT_OPEN=0.09\n")
    assert "Settings or tables of the run can no longer be used" in document(capsys, home, symbol)["note"]
    settings.write_text("BROKER_NAME=PAPER\nSTRATEGY_SEQUENCE=nosuch\n")
    found = document(capsys, home, symbol)
    assert found["minutes"] == []
    assert "Only the journal is shown" in found["note"]
    assert "decided at" in asked(capsys, home, symbol)


def test_a_decision_shows_its_sizing_and_every_limit(traded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An allowed entry has budget, price and quantity, and each limit with what is used, added and allowed."""
    event = next(one for one in decisions(traded) if one.payload["reason"] == "ALLOWED")
    symbol, date = (event.payload["signal"][name] for name in ("symbol", "session"))
    found = document(capsys, traded, symbol, "--date", date)
    decision = next(one for one in found["decisions"] if one["reason"] == "ALLOWED")
    (entry, *_) = (one for one in found["orders"] if one["leg"] == "entry")
    assert decision["sizing"]["quantity"] == entry["quantity"]
    text = asked(capsys, traded, symbol, "--date", date)
    for words in ("budget of the window", "TOTAL_ALLOCATION", "MAX_GROSS_EXPOSURE", "BUYING_POWER", "WEIGHTS"):
        assert words in text
    assert max(len(line) for line in "\n".join(figure_lines(decision)).splitlines()) <= 80


def test_a_denial_by_a_limit_shows_which_one(traded: Path) -> None:
    """The limit that denied is not met, all others are; without figures in the journal that is said."""
    event = next(one for one in decisions(traded) if one.payload["reason"] == "MAX_TRADES")
    lines = list(figure_lines(event.payload))
    (line,) = [one for one in lines if one.endswith("not met")]
    assert line.split() == ["MAX_TRADES", "4", "1", "4", "not", "met"]
    assert lines[-1] == "    not sized: denied before"
    old = {name: value for name, value in event.payload.items() if name not in {"sizing", "limits"}}
    assert list(figure_lines(old)) == ["    sizing and limits: the journal of this run has no figures of them"]
    assert list(figure_lines(old | {"reason": "PRICE_LOW"})) == []


@pytest.mark.parametrize(
    ("bound", "weight", "step", "words"),
    [
        ("FIXED_QUANTITY", None, "1", "FIXED_QUANTITY"),
        ("MAX_RISK_PER_TRADE", "0.4", "1", "50.00 / 10.00, whole shares"),
        ("WEIGHTS", "0.4", "0.000001", "40.00 / 10.00, step 0.000001"),
    ],
)
def test_the_quantity_is_explained_by_what_bound_it(bound: str, weight: str | None, step: str, words: str) -> None:
    """The share of the window or the most for one trade, divided by the worst price; or the fixed quantity."""
    sizing = {
        "equity": "1000",
        "allocation": "TOTAL_ALLOCATION",
        "window": "100",
        "weight": weight,
        "share": "40",
        "cap": "50",
        "bound": bound,
        "type": "market" if weight is None else "limit",
        "reference": "9",
        "price": "10",
        "step": step,
        "quantity": "5",
    }
    text = "\n".join(figure_lines({"reason": "ALLOWED", "sizing": sizing, "limits": []}))
    assert words in text
    assert ("share of this order" in text) is (weight is not None)
    assert ("worst price of a market order" in text) is (weight is None)


def with_newer_run(home: Path, name: str, **changes: object) -> None:
    """Add the journal of a newer run with a changed request to an instance."""
    file = min((home / "data" / "runs").glob("*.sqlite"), key=lambda path: path.stat().st_mtime)
    with closing(read_journal(file)) as journal:
        found = [journal.last_event(kind) for kind in (records.RUN_STARTED, records.SESSION_OPENED)]
    started, opened = (one.payload for one in found if one is not None)
    payloads = [
        (records.RUN_STARTED, {**started, "run_id": name, "request": {**started["request"], **changes}}),
        (records.SESSION_OPENED, opened),
    ]
    with closing(open_journal(file.with_name(f"{name}.sqlite"))) as journal:
        journal.append([NewEvent(kind=kind, payload=payload, time=TIME) for kind, payload in payloads])


def test_the_newest_run_that_has_the_symbol_answers(
    traded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A newer run without the symbol is passed over; if none has it, the error says how many were asked."""
    home = tmp_path / "copy"
    shutil.copytree(traded, home)
    symbol = decisions(home)[0].payload["signal"]["symbol"]
    first = document(capsys, home, symbol)["run"]
    with_newer_run(home, "newer", symbols=["ZOLTA" if symbol != "ZOLTA" else "TARNO"])
    assert document(capsys, home, symbol)["run"] == first
    with_newer_run(home, "twice", symbols=["ZOLTA" if symbol != "ZOLTA" else "TARNO"])  # the same again is not asked
    open_journal(home / "data" / "tbot.sqlite").close()
    assert document(capsys, home, symbol)["run"] == first
    assert "not among the 1 symbols" in asked(capsys, home, symbol, "--run", "newer", code=2)
    said = asked(capsys, home, "NOSUCH", code=2)
    assert "The other 1 run did not have it either." in said
    said = asked(capsys, home, symbol, "--at", "09:30", code=2)
    assert "09:30 New York is outside of the session of" in said
    assert "did not have it" not in said


def test_a_backtest_keeps_no_journal_and_says_so(
    traded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the name of its report, with the command that keeps one."""
    home = tmp_path / "copy"
    shutil.copytree(traded, home)
    (home / "reports" / "0123456789ab.html").write_text("")
    said = asked(capsys, home, "TARNO", "--run", "01234567", code=2)
    assert "0123456789ab is the report of a backtest, which keeps no journal." in said
    assert "`tbot run --replay FROM..TO` of the same days" in said


def test_a_run_whose_bars_are_gone_answers_last(
    traded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What its journal alone says is shown only if no other run has the symbol."""
    home = tmp_path / "copy"
    shutil.copytree(traded, home)
    symbol = decisions(home)[0].payload["signal"]["symbol"]
    first = document(capsys, home, symbol)["run"]
    days = {"first": "2018-02-16", "last": "2018-02-16"}
    with_newer_run(home, "newer", kind="replay", **days)
    assert document(capsys, home, symbol)["run"] == first
    alone = document(capsys, home, "NOSUCH")
    assert (alone["run"], alone["note"].endswith("Only the journal is shown.")) == ("newer", True)


def test_a_dry_run_answers_where_nothing_else_has_run(
    traded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The empty journal that `tbot init` makes does not hide it; without any session that is said."""
    home = tmp_path / "copy"
    shutil.copytree(traded, home)
    symbol = decisions(home)[0].payload["signal"]["symbol"]
    open_journal(home / "data" / "tbot.sqlite").close()
    (file,) = (home / "data" / "runs").glob("*.sqlite")
    dry = file.rename(file.with_name("dry-20260302.sqlite"))
    assert document(capsys, home, symbol)["run"] == dry.stem
    dry.unlink()
    assert "has no session yet" in asked(capsys, home, symbol, code=1)
