"""A journal that was damaged, cut short or written by a later version, as a person meets it: a sentence, exit 1."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tbot_core import cli
from tbot_core.instance import Instance
from tbot_core.instance.journal_chain import open_instance_journal
from tbot_core.journal import integrity, records
from tbot_core.journal.store import SCHEMA_VERSION, NewEvent
from tbot_core.testing.trades import session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMMANDS = (["run", "--once"], ["status"], ["audit", "verify"], ["why", "SYM"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, paper_instance: Callable[[Path], Path]) -> Path:
    """A paper instance whose process was killed: of its journal, a part is in the file and the rest in the log."""
    folder = tmp_path_factory.mktemp("made")
    home = folder / "living"
    paper_instance(home)
    with closing(open_instance_journal(Instance(home))) as journal:
        journal.append([_entry("x" * 1000) for _ in range(21)])
    with closing(open_instance_journal(Instance(home))) as journal:
        journal.append([_entry("no")])
        shutil.copytree(home, folder / "killed")
    return folder / "killed"


def _entry(words: str) -> NewEvent:
    return NewEvent(kind=records.REQUEST_REFUSED, payload={"name": "stop", "words": words}, time=session().open)


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """An instance of the test's own."""
    shutil.copytree(made, tmp_path / "x")
    return tmp_path / "x"


def said(home: Path, *words: str, code: int) -> str:
    """What a command says on both streams, in one line."""
    with CliRunner().isolation() as streams:
        got = cli.invoke([*words, "--home", str(home)])
        text = b" ".join((streams[0].getvalue() + streams[1].getvalue()).split()).decode()
    assert got == code, text
    return text


def files(home: Path) -> dict[str, bytes]:
    """What the journal's files hold; the index of the log is made anew at will."""
    journal, log, _, note = integrity.journal_files(home / "data" / "tbot.sqlite")
    return {path.name: path.read_bytes() for path in (journal, log, note) if path.exists() and path.stat().st_size}


def newer(path: Path) -> None:
    """A later version wrote it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def torn(path: Path) -> None:
    """A page of an index is overwritten."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'events_by_kind'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\x5a" * size)


def cut_off(path: Path) -> None:
    """The log is deleted, with the events that were not in the file yet."""
    integrity.journal_files(path)[1].unlink()


def gone(path: Path) -> None:
    """The whole journal is deleted; what it held is noted beside it."""
    for one in integrity.journal_files(path)[:3]:
        one.unlink(missing_ok=True)


DAMAGES = [
    (gone, "ends at event 0 but had 22 before: its file is an older one, or tbot.sqlite-wal"),
    (newer, f"has schema {SCHEMA_VERSION + 1}; this version supports {SCHEMA_VERSION}. Install the newer tbot."),
    (
        cut_off,
        (
            "ends at event 21 but had 22 before: its file is an older one, or tbot.sqlite-wal, the log beside it, "
            "was removed or"
        ),
    ),
]


@pytest.mark.first(1)
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("damage", "sentence"), DAMAGES, ids=["f82 a deleted journal", "f86 a newer schema", "f82 a deleted log"]
)
def test_f82_f86_a_journal_that_cannot_be_used_is_refused_and_left_as_it_is(
    home: Path, words: list[str], damage: Callable[[Path], None], sentence: str
) -> None:
    """For a run and for a reader: one sentence with the remedy, exit 1, no traceback, and no byte is changed."""
    damage(home / "data" / "tbot.sqlite")
    before = files(home)
    text = said(home, *words, code=1)
    assert sentence in text
    assert "Traceback" not in text
    assert files(home) == before


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["kill"], 0, "No bot is running; the kill takes effect from the next start"),
        (["defense", "on"], 0, "No bot is running; defense is on from the next start"),
        (["stop"], 1, "No bot is running; the stop takes effect at the next start"),
    ],
    ids=["kill", "defense", "stop"],
)
@pytest.mark.parametrize(("damage", "fault"), DAMAGES, ids=["deleted journal", "newer schema", "deleted log"])
def test_a_request_beside_a_journal_that_cannot_be_read_says_that_it_waits(
    home: Path, words: list[str], code: int, sentence: str, damage: Callable[[Path], None], fault: str
) -> None:
    """The answer comes first, then why what is held is unknown; a stop cannot say that nothing is left open."""
    damage(home / "data" / "tbot.sqlite")
    text = said(home, *words, code=code)
    assert text.startswith(sentence)
    assert f"The journal cannot be read, so the positions are unknown: The journal {home}" in text
    assert fault in text
    assert len(list((home / "control").iterdir())) == 1


def test_check_fails_where_the_journal_is_gone(home: Path) -> None:
    """It is no instance in which nothing was traded yet."""
    gone(home / "data" / "tbot.sqlite")
    assert "ends at event 0 but had 22 before" in said(home, "check", code=1)


@pytest.mark.parametrize("words", [COMMANDS[0], COMMANDS[2]], ids=" ".join)
def test_f81_a_damaged_page_stops_a_start_and_a_verification(home: Path, words: list[str]) -> None:
    """Where the pages are looked through, the sentence says how the journal is restored."""
    torn(home / "data" / "tbot.sqlite")
    text = said(home, *words, code=1)
    assert "is damaged: " in text
    assert "Restore it from a backup." in text
    assert "Traceback" not in text


def test_f82_a_log_that_is_put_back_loses_nothing(home: Path, tmp_path: Path) -> None:
    """Refused without its log, whole with it; without the index of the log as well."""
    log, index = integrity.journal_files(home / "data" / "tbot.sqlite")[1:3]
    kept = log.rename(tmp_path / "kept")
    said(home, "audit", "verify", code=1)
    kept.rename(log)
    index.unlink(missing_ok=True)
    assert "22" in said(home, "audit", "verify", code=0)


def test_a_damaged_simulation_is_made_again(home: Path) -> None:
    """The remedy for the journal of a replay, which nothing else depends on, is to delete it and run it again."""
    shutil.rmtree(home / "data" / "runs", ignore_errors=True)
    (home / "data" / "runs").mkdir()
    (home / "data" / "runs" / "abc.sqlite").write_bytes(b"nonsense " * 1000)
    output = said(home, "why", "SYM", "--run", "abc", code=1)
    assert "abc.sqlite is damaged" in output
    assert "Delete it and start that run again." in output
    assert "backup" not in output


def test_a_damaged_key_has_its_own_remedy(home: Path) -> None:
    """Where no setting is wrong, the allowed values of settings are not offered as the remedy."""
    (home / "storage" / "keys" / "env.key").write_bytes(b"short")
    output = said(home, "config", "show", code=3)
    assert "tbot secrets rekey env_bot" in output
    assert "allowed values" not in output


def altered(path: Path, change: str) -> None:
    """Change an event behind the journal's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE events SET {change} WHERE seq = 5")


def test_status_names_the_damage_of_a_journal_that_can_still_be_read(home: Path) -> None:
    """An event that somebody changed is named with the remedy beside what the journal shows; exit 1."""
    altered(home / "data" / "tbot.sqlite", "payload = replace(payload, '\"words\"', '\"words\" ')")
    (home / "data" / "tbot.sqlite-verified").unlink()  # what the last start verified is not verified again
    text = said(home, "status", code=1)
    assert "was changed: event 5 breaks the hash chain after 4. Restore it from a backup" in text
    assert "instance" in text
    assert "was changed: event 5" in said(home, "status", "--json", code=1)


def test_status_names_the_damage_where_the_events_mean_nothing_any_more(home: Path) -> None:
    """An event of another form is the same sentence, without a traceback."""
    altered(home / "data" / "tbot.sqlite", "kind = 'session_opened', payload = '{}'")
    text = said(home, "status", code=1)
    assert "was changed: event 5 breaks the hash chain after 4." in text
    assert "Traceback" not in text


@pytest.mark.parametrize("suffix", ["", "-wal", "-anchor"])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_pipe_in_the_place_of_a_journals_file_is_refused(home: Path, words: list[str], suffix: str) -> None:
    """No command waits forever for a writer."""
    path = home / "data" / f"tbot.sqlite{suffix}"
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    text = said(home, *words, code=1)
    assert f"cannot be used: tbot.sqlite{suffix} is a pipe, a socket or a device." in text
