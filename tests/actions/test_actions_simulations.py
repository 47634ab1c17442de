"""Backtests and replays as processes of their own: one at a time, with their end recorded after their caller."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tbot_core.actions import simulations
from tbot_core.actions.simulations import (
    ImportRequest,
    ReceivedFile,
    SimulationRequest,
    cancel_simulation,
    receive_file,
    simulation_document,
    simulation_documents,
    start_simulation,
)
from tbot_core.errors import AccessError, UsageError
from tbot_core.instance import Instance
from tbot_core.journal import records
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = dt.datetime(2026, 11, 24, 15, 0, tzinfo=dt.UTC)
FORM = {"kind": "backtest", "first": "2018-01-16", "last": "2018-01-19"}
RESULT = {"trades": [{}, {}], "sessions": 4, "report": "reports/abc.html"}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An instance; what still runs in it at the end is interrupted."""
    place = tmp_path / "bot"
    place.mkdir()
    (place / ".env_bot").write_text("BROKER_NAME=PAPER\n")
    yield place
    for one in simulation_documents(place):
        cancel_simulation(place, one["id"], "test", NOW)
        ended(place)


def started(home: Path, code: str, seconds: int = 0, **fields: str) -> str:
    """Start a program of Python in place of the command line."""
    request = SimulationRequest.of_texts(FORM | fields)
    return start_simulation(home, request, "anna", NOW + dt.timedelta(seconds=seconds), (sys.executable, "-c", code))


def ended(home: Path) -> None:
    """Wait until the process has ended: its lock is free then."""
    with (home / "data" / "simulations" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


WAITS = "import signal; signal.pause()"
PRINTS = f"print({json.dumps(json.dumps(RESULT))})"


def test_its_result_is_what_the_command_line_printed(home: Path) -> None:
    """With the number of its trades; the request, the user and the time stay with it."""
    name = started(home, PRINTS, symbols="spy, qqq", strategy="open", seed="7")
    ended(home)
    found = simulation_document(home, name)
    assert (found["state"], found["result"]["trades"], found["actor"]) == ("done", 2, "anna")
    assert found["request"]["symbols"] == ["SPY", "QQQ"]
    assert (found["request"]["strategy"], found["request"]["seed"]) == ("open", 7)
    assert [one["id"] for one in simulation_documents(home)] == [name]


def test_a_download_ends_with_sentences(home: Path) -> None:
    """Those of the command line, also where a part could not be stored, which it reports by its exit code."""
    document = {
        "source": "acme", "first": "2018-01-16", "last": "2018-01-19", "sessions": 4, "symbols": ["AAA"], "unknown": [],
        "downloaded": 4, "skipped": 0, "bars": 1560, "invalid": 0, "refused": ["BBB: why"], "facts": 0,
        "rehearsal_store": None,
    }  # fmt: skip
    name = started(home, f"print({json.dumps(json.dumps(document))}); raise SystemExit(1)", kind="download")
    ended(home)
    found = simulation_document(home, name)
    assert (found["state"], found["request"]["kind"]) == ("done", "download")
    assert found["result"]["sentences"] == [
        "acme: 4 sessions from 2018-01-16 to 2018-01-19, 1 symbol: 1,560 bars added.",
        "not stored: BBB: why. `tbot data import --replace` replaces a month whole.",
    ]


def test_only_one_runs_at_a_time(home: Path) -> None:
    """Another is refused while one runs, and leaves no trace."""
    name = started(home, WAITS)
    assert simulation_document(home, name)["state"] == "running"
    with pytest.raises(UsageError, match="Another backtest, replay, download or import runs"):
        started(home, PRINTS, 1)
    assert [one["id"] for one in simulation_documents(home)] == [name]


def test_a_replay_does_not_begin_beside_a_bot(home: Path) -> None:
    """Its refusal says what can run beside it; a backtest does."""
    with filesystem.hold_lock(Instance(home).lock):
        with pytest.raises(UsageError, match="a replay needs the instance for itself"):
            started(home, PRINTS, kind="replay")
        started(home, PRINTS, kind="backtest")
    ended(home)


def test_a_cancelled_one_is_interrupted_and_says_so(home: Path) -> None:
    """Once: what has ended is not cancelled again; then another may start, and the first stays cancelled."""
    name = started(home, WAITS)
    assert cancel_simulation(home, name, "anna", NOW)
    ended(home)
    assert not cancel_simulation(home, name, "anna", NOW)
    assert simulation_document(home, name)["state"] == "cancelled"
    started(home, WAITS, 1)
    assert [one["state"] for one in simulation_documents(home)] == ["running", "cancelled"]


def test_a_failed_one_shows_its_last_words(home: Path) -> None:
    """What it wrote to standard error; one that was killed has none, and says so."""
    name = started(home, "import sys; print('part of'); sys.exit('tbot: no bars')")
    ended(home)
    found = simulation_document(home, name)
    assert (found["state"], found["errors"], found["result"]) == ("failed", ["tbot: no bars"], None)
    silent = started(home, """import sys; print('[]'); print('{"event": "x"}', file=sys.stderr)""", 1)
    ended(home)
    assert "kill -9" in simulation_document(home, silent)["errors"][0]


def test_the_progress_is_that_of_its_file(home: Path) -> None:
    """A backtest writes it; before the first session there is none."""
    name = started(home, WAITS)
    assert simulation_document(home, name)["progress"] is None
    simulations.write_progress(home / "data" / "simulations" / f"{name}.progress", 3, 9)
    assert simulation_document(home, name)["progress"] == {"done": 3, "of": 9}
    simulations.write_progress(home / "data" / "simulations" / f"{name}.progress", 3, 9, ["The VIX is unknown."])
    assert simulation_document(home, name)["progress"] == {"done": 3, "of": 9, "notes": ["The VIX is unknown."]}


def test_the_progress_of_a_replay_is_that_of_its_journal(home: Path) -> None:
    """The closed sessions of the run that has changed since the start; none before there is one."""
    name = started(home, WAITS, kind="replay")
    assert simulation_document(home, name)["progress"] is None
    folder = home / "data" / "runs"
    folder.mkdir()
    journal = open_journal(folder / "abc.sqlite")
    journal.append([NewEvent(kind=records.SESSION_CLOSED, payload={}, time=NOW)])
    assert simulation_document(home, name)["progress"] == {"done": 1, "of": None}
    journal.append([NewEvent(kind=records.RUN_STARTED, payload={"notes": ["The VIX is unknown."]}, time=NOW)])
    journal.close()
    assert simulation_document(home, name)["progress"] == {"done": 1, "of": None, "notes": ["The VIX is unknown."]}


def test_the_command_line_gets_each_field_as_its_own_option(tmp_path: Path) -> None:
    """So that no text of a form is read as another option."""
    backtest = SimulationRequest.of_texts(FORM | {"symbols": "A,B", "seed": "1", "strategy": "mid"})
    assert backtest.arguments(tmp_path, tmp_path / "p") == [
        "backtest",
        "--from=2018-01-16",
        "--to=2018-01-19",
        f"--progress={tmp_path / 'p'}",
        "--symbols=A,B",
        "--strategy=mid",
        "--seed=1",
        f"--home={tmp_path}",
        "--json",
    ]
    replay = SimulationRequest.of_texts(FORM | {"kind": "replay"}).arguments(tmp_path, tmp_path / "p")
    assert replay == ["run", "--replay=2018-01-16..2018-01-19", "--speed=max", f"--home={tmp_path}", "--json"]
    bars = SimulationRequest.of_texts(FORM | {"kind": "download", "symbols": "A"}).arguments(tmp_path, tmp_path / "p")
    days = ["--from=2018-01-16", "--to=2018-01-19", f"--progress={tmp_path / 'p'}"]
    assert bars == ["data", "download", *days, "--symbols=A", f"--home={tmp_path}", "--json"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "drill"}, "neither a backtest nor a replay nor a download"),
        ({"kind": "download", "strategy": "open"}, "neither a strategy nor a seed"),
        ({"kind": "download", "seed": "1"}, "neither a strategy nor a seed"),
        ({"kind": "replay", "strategy": "open"}, "all strategies"),
        ({"first": "soon"}, "soon"),
        ({"last": "2018-01-01"}, "2018-01-01"),
        ({"symbols": "A;B"}, "A;B"),
        ({"strategy": "magic"}, "not installed"),
        ({"seed": "-1"}, "Invalid seed"),
        ({"seed": "99999999999"}, "Invalid seed"),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, str], words: str) -> None:
    """Before anything is started."""
    with pytest.raises(UsageError) as fault:
        SimulationRequest.of_texts(FORM | fields)
    assert words in str(fault.value)


def test_only_the_latest_are_kept(home: Path) -> None:
    """The files of older ones go; a name that is none is unknown."""
    for second in range(4):
        started(home, PRINTS, second)
        ended(home)
    simulations.remove_older(home, 2)
    assert [one["id"] for one in simulation_documents(home)] == ["20261124T150003", "20261124T150002"]
    assert not list((home / "data" / "simulations").glob("20261124T150000.*"))
    for name in ("20261124T150000", "../../etc/passwd", "lock"):
        with pytest.raises(UsageError, match="no backtest, replay, download or import"):
            simulation_document(home, name)


@pytest.mark.slow
def test_it_outlives_the_process_that_started_it(home: Path) -> None:
    """As when the page is killed: another process sees it run, and may cancel it."""
    code = (
        "import datetime as dt, os, sys; from pathlib import Path\n"
        "from tbot_core.actions.simulations import SimulationRequest, start_simulation\n"
        f"request = SimulationRequest.of_texts({FORM!r})\n"
        f"now = dt.datetime.fromisoformat({NOW.isoformat()!r})\n"
        f"start_simulation(Path({str(home)!r}), request, 'anna', now, (sys.executable, '-c', {WAITS!r}))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    (found,) = simulation_documents(home)
    assert found["state"] == "running"
    assert cancel_simulation(home, found["id"], "anna", NOW)
    ended(home)
    assert simulation_document(home, found["id"])["state"] == "cancelled"


def uploads(home: Path) -> list[str]:
    """The names of the files of imports that are there."""
    folder = home / "data" / "uploads"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def imported(home: Path, code: str, seconds: int = 0, name: str = "Bars of May.csv.GZ") -> str:
    """Start a program in place of the command line, for a file that has arrived."""
    with receive_file(home, name, 9) as (file, write):
        write(b"the bytes")
        request = ImportRequest.of_texts(file, {})
        moment = NOW + dt.timedelta(seconds=seconds)
        return start_simulation(home, request, "anna", moment, (sys.executable, "-c", code))


def test_an_arriving_file_is_private_and_has_no_name_of_its_sender(home: Path) -> None:
    """Its ending alone is of the name; without an import it is gone, as is one that a crash has left."""
    (home / "data" / "uploads").mkdir(parents=True)
    (home / "data" / "uploads" / "left.part.csv").write_text("by a crash")
    with receive_file(home, "C:\\x\\../AAPL.CSV", 5) as (file, write):
        write(b"12")
        write(b"345")
        assert (file.path.read_bytes(), file.path.stat().st_mode & 0o777) == (b"12345", 0o600)
        assert (file.path.parent, file.stem, file.suffix) == (home / "data" / "uploads", "AAPL", ".csv")
        assert uploads(home) == [file.path.name]
        assert "AAPL" not in file.path.name
        with pytest.raises(UsageError, match="Another file arrives"), receive_file(home, "b.csv", 1):
            pass
    assert uploads(home) == []


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("bars.xlsx", 1, r"name bars\.xlsx ends in none of \.parquet, \.csv"),
        ("bars\n.sh", 1, r"'bars\\n\.sh' ends in none"),
        ("", 1, "ends in none"),
        ("bars.csv", 10**18, r"MB free, too few for a file of 1,000,000,000,000 MB"),
    ],
)
def test_a_file_that_cannot_be_received_is_refused_before_its_first_byte(
    home: Path, name: str, size: int, words: str
) -> None:
    """One of another kind, and one that the disk does not hold."""
    with pytest.raises((UsageError, AccessError), match=words), receive_file(home, name, size):
        pass
    assert uploads(home) == []


def test_an_import_gets_the_file_and_each_field_as_its_own_option(tmp_path: Path) -> None:
    """What is not given is left to the command; the file's name is the symbol where it is one."""
    file = ReceivedFile(path=tmp_path / "a.part.csv", stem="brk.b")
    last = [f"--progress={tmp_path / '1.progress'}", f"--home={tmp_path}", "--json"]
    path = f"{tmp_path / 'data' / 'uploads' / '1_.csv'}"
    usual = ["data", "import", path, "--adjustment=raw", "--volume=consolidated", "--symbol=BRK.B", *last]
    assert ImportRequest.of_texts(file, {}).arguments(tmp_path, tmp_path / "1.progress") == usual
    fields = {
        "adjustment": "split", "volume": "partial", "zone": " UTC", "as_of": "2024-03-01", "symbol": "qqq",
        "replace": "yes",
    }  # fmt: skip
    given = ImportRequest.of_texts(file, fields).arguments(tmp_path, tmp_path / "1.progress")
    options = ["--adjustment=split", "--volume=partial", "--zone=UTC", "--as-of=2024-03-01", "--symbol=QQQ"]
    assert given == ["data", "import", path, *options, "--replace", *last]
    assert ImportRequest.of_texts(ReceivedFile(path=file.path, stem="my bars"), {}).symbol == ""


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("adjustment", "--home=/", "Unknown adjustment --home=/"),
        ("volume", "loud", "Use consolidated or partial"),
        ("zone", "Mars", "'Mars' is not a time zone"),
        ("zone", "America", "'America' is not a time zone"),
        ("zone", "a" * 5000, "is not a time zone"),
        ("as_of", "soon", "soon"),
        ("symbol", "A;B", "A;B is not a symbol"),
    ],
)
def test_a_bad_field_of_an_import_is_named(tmp_path: Path, field: str, text: str, words: str) -> None:
    """Before anything is started."""
    with pytest.raises(UsageError) as fault:
        ImportRequest.of_texts(ReceivedFile(path=tmp_path / "a.csv", stem="A"), {field: text})
    assert words in str(fault.value)


FOUND = {"file": "20261124T150000_.csv.gz", "kind": "bars", "symbols": ["AAA"], "first": "2018-01-16"}
COUNTED = dict.fromkeys(("unchanged", "replaced", "dropped", "repeated", "rounded", "holidays"), 0)
IMPORTED = {"files": [{**FOUND, "last": "2018-01-19", "added": 9, **COUNTED}], "refused": [], "added": 9, "replaced": 0}


def test_an_import_reads_the_file_and_ends_without_it(home: Path) -> None:
    """Its result names the file as its sender does."""
    prints = f"import sys; assert open(sys.argv[3]).read() == 'the bytes'; print({json.dumps(json.dumps(IMPORTED))})"
    name = imported(home, prints)
    ended(home)
    found = simulation_document(home, name)
    assert (found["state"], found["request"]["file"]) == ("done", "Bars of May.csv.gz")
    assert found["result"]["sentences"] == [
        "Bars of May.csv.gz: bars of AAA, 2018-01-16 to 2018-01-19: 9 added.",
        "1 file read: 9 rows added, 0 replaced.",
    ]
    simulations.remove_older(home)  # as at the next start; the thread that waited for its end may not have run yet
    assert uploads(home) == []


def test_a_refused_file_is_a_failure_with_its_reasons(home: Path) -> None:
    """As the command says them, which exits with 1."""
    document = json.dumps(IMPORTED | {"files": [], "refused": [{"file": "x", "reason": "why"}]})
    code = f"import sys; print({document!r}); sys.exit('refused: 20261124T150000_.csv.gz: price 0 (1, first: line 2).')"
    name = imported(home, code)
    ended(home)
    found = simulation_document(home, name)
    assert (found["state"], found["result"]) == ("failed", None)
    assert found["errors"] == ["refused: Bars of May.csv.gz: price 0 (1, first: line 2)."]


def test_the_file_of_an_import_stays_while_it_is_read(home: Path) -> None:
    """Whatever else arrives or is started; one that finds another running is gone."""
    name = imported(home, WAITS)
    simulations.remove_older(home)
    with pytest.raises(UsageError, match="Another backtest, replay, download or import runs"):
        imported(home, WAITS, 1)
    with receive_file(home, "a.csv", 1) as (file, _):
        simulations.remove_older(home)
        assert uploads(home) == sorted([f"{name}_.csv.gz", file.path.name])
    assert uploads(home) == [f"{name}_.csv.gz"]
