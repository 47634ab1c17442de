"""The note beside a journal: what was there and is gone is missed, what is whole never is."""

from __future__ import annotations

import datetime as dt
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.errors import JournalError
from tbot_core.journal import integrity
from tbot_core.journal.store import Journal, NewEvent, open_journal, read_journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ONE = [NewEvent(kind="risk", payload={}, time=dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC))]
OPENERS = [open_journal, read_journal]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal with three events, open for writing."""
    with closing(open_journal(tmp_path / "run.sqlite")) as found:
        for _ in range(3):
            found.append(ONE)
        yield found


def killed(journal: Journal, folder: Path) -> Path:
    """A copy of a journal's files as a killed process leaves them."""
    folder.mkdir()
    for path in integrity.journal_files(journal.path):
        shutil.copy(path, folder)
    return folder / journal.path.name


def last(journal: Path) -> Path:
    """The file that holds the note."""
    return integrity.journal_files(journal)[-1]


def test_the_note_says_how_many_events_are_written(journal: Journal) -> None:
    """After each append, in one line that never grows shorter."""
    journal.append([])
    assert last(journal.path).read_text() == f"{3:020}\n"
    journal.append(ONE * 2)
    assert last(journal.path).read_text() == f"{5:020}\n"
    assert integrity.noted_event_count(journal.path) == 5
    assert last(journal.path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("opener", OPENERS)
def test_f82_a_log_that_was_removed_is_missed(journal: Journal, tmp_path: Path, opener: Any) -> None:
    """Of a killed process the log holds what counts: without it nothing is opened, put back it is all there."""
    path = killed(journal, tmp_path / "killed")
    log = integrity.journal_files(path)[1]
    kept = log.rename(tmp_path / "kept")
    before = path.read_bytes()
    with pytest.raises(
        JournalError, match=r"run\.sqlite ends at event 0 but had 3 before: .*run\.sqlite-wal, the log beside it, was"
    ):
        opener(path)
    assert path.read_bytes() == before
    kept.rename(log)
    with closing(opener(path)) as found:
        assert found.verify() == journal.head


@pytest.mark.parametrize("opener", OPENERS)
def test_f82_an_index_of_the_log_that_was_removed_is_made_anew(journal: Journal, tmp_path: Path, opener: Any) -> None:
    """The SHM file holds nothing of its own."""
    path = killed(journal, tmp_path / "killed")
    integrity.journal_files(path)[2].unlink()
    with closing(opener(path)) as found:
        assert found.verify() == journal.head


@pytest.mark.parametrize("opener", OPENERS)
def test_a_file_that_is_gone_is_missed_and_no_other_is_made(journal: Journal, tmp_path: Path, opener: Any) -> None:
    """The log beside it, of which a new file knows nothing, stays as it is."""
    path = killed(journal, tmp_path / "killed")
    path.unlink()
    log = integrity.journal_files(path)[1].read_bytes()
    with pytest.raises(JournalError, match="ends at event 0 but had 3 before"):
        opener(path)
    assert not path.exists()
    assert integrity.journal_files(path)[1].read_bytes() == log


@pytest.mark.parametrize("opener", OPENERS)
def test_an_older_file_is_missed_until_the_note_is_removed(journal: Journal, opener: Any) -> None:
    """As the remedy says: without the note the journal goes on from what it holds."""
    journal.close()
    old = journal.path.read_bytes()
    with closing(open_journal(journal.path)) as again:
        again.append(ONE)
    journal.path.write_bytes(old)
    with pytest.raises(JournalError, match=r"ends at event 3 but had 4 before: .* remove .*run\.sqlite-anchor"):
        opener(journal.path)
    last(journal.path).unlink()
    with closing(opener(journal.path)) as found:
        assert found.head[0] == 3


def test_a_journal_that_somebody_else_closed_is_whole(journal: Journal, tmp_path: Path) -> None:
    """Another program that moves the log of a killed process into the file, and removes it, takes nothing away."""
    path = killed(journal, tmp_path / "killed")
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert not integrity.journal_files(path)[1].exists()
    with closing(open_journal(path)) as found:
        assert found.verify() == journal.head


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(21))


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [Path.unlink, _zeros, _folder])
def test_an_empty_note_stops_no_run(journal: Journal, spoil: Callable[[Path], None]) -> None:
    """Gone, zeros after a power cut, unreadable and unwritable: the journal is opened and written all the same."""
    spoil(last(journal.path))
    journal.append(ONE)
    journal.close()
    with closing(open_journal(journal.path)) as found:
        assert found.head[0] == 4


def test_a_journal_in_memory_has_no_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written beside what is no file."""
    monkeypatch.chdir(tmp_path)
    with closing(open_journal(Path(":memory:"))) as found:
        found.append(ONE)
    assert list(tmp_path.iterdir()) == []
