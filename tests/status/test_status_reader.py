"""A status that is read again and again says what a first reading says, at the cost of what is new."""

from __future__ import annotations

import datetime as dt
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core import cli
from tbot_core.errors import JournalError
from tbot_core.journal.store import Journal
from tbot_core.status.instance import StatusReader, status_document

if TYPE_CHECKING:
    from pathlib import Path

NOW = dt.datetime(2026, 11, 24, 15, 0, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a demo of three sessions; tests only read it."""
    home = tmp_path_factory.mktemp("demo") / "instance"
    assert cli.invoke(["run", "--demo", "--sessions", "3", "--home", str(home), "--json"]) == 0
    return home


class Growing:
    """An instance whose journal has the first events of a demo's."""

    def __init__(self, traded: Path, home: Path) -> None:
        (self._source,) = (traded / "data" / "runs").glob("*.sqlite")
        self.home, self.path = home, home / "data" / "runs" / self._source.name
        self.path.parent.mkdir(parents=True)
        (home / ".env_bot").write_bytes((traded / ".env_bot").read_bytes())
        with closing(sqlite3.connect(self._source)) as source:
            (self.events,) = source.execute("SELECT count(*) FROM events").fetchone()

    def cut(self, events: int, change: str = "") -> None:
        """Have so many events, with a change by SQL."""
        self.path.unlink(missing_ok=True)
        with closing(sqlite3.connect(self._source)) as source, closing(sqlite3.connect(self.path)) as copy:
            source.backup(copy)
            copy.execute("DELETE FROM events WHERE seq > ?", (events,))
            if change:
                copy.execute(change)
            copy.commit()

    def first(self) -> Any:
        """What a first reading says."""
        return lasting(status_document(self.home, NOW))


def lasting(document: Any) -> Any:
    """The document without what changes on the machine meanwhile: space, and the times of files."""
    return {name: one for name, one in document.items() if name not in {"disk_free_bytes", "runs", "ran_until"}}


@pytest.fixture
def growing(traded: Path, tmp_path: Path) -> Growing:
    """The demo as it grew."""
    return Growing(traded, tmp_path / "bot")


@pytest.mark.slow
def test_each_reading_says_what_a_first_one_says(growing: Growing) -> None:
    """As the journal grows through three sessions, and when one with fewer events takes its place."""
    reader = StatusReader(growing.home)
    steps = [*range(1, growing.events, growing.events // 25), growing.events]
    for events in [*steps, growing.events // 2, growing.events]:
        growing.cut(events)
        assert lasting(reader.read(NOW)) == growing.first()


@pytest.mark.slow
def test_a_reading_takes_only_what_is_new(growing: Growing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that were read are neither read nor verified again, and the pages of the file are checked once."""
    starts: list[int] = []
    checks: list[Journal] = []
    events, check = Journal.events, Journal.check

    def noted(journal: Journal, after: int = 0, **kind: Any) -> Any:
        if not kind:
            starts.append(after)
        return events(journal, after, **kind)

    def checked(journal: Journal) -> None:
        checks.append(journal)
        check(journal)

    reader = StatusReader(growing.home)
    growing.cut(growing.events - 1)
    reader.read(NOW)
    monkeypatch.setattr(Journal, "events", noted)
    monkeypatch.setattr(Journal, "check", checked)
    growing.cut(growing.events)
    reader.read(NOW)
    assert starts[0] == growing.events - 1
    assert checks == []


@pytest.mark.slow
def test_what_is_damaged_meanwhile_is_said_and_what_is_restored_is_read(growing: Growing) -> None:
    """A changed event that is new is in `attention`; one that fits nothing is the journal's fault; then it goes on."""
    reader, half = StatusReader(growing.home), growing.events // 2
    growing.cut(half)
    reader.read(NOW)
    growing.cut(growing.events, f"UPDATE events SET applied = '2020-01-01T00:00:00+00:00' WHERE seq = {half + 5}")
    assert reader.read(NOW)["attention"] == growing.first()["attention"] != []
    growing.cut(growing.events, f"UPDATE events SET payload = '{{}}' WHERE seq > {half}")  # a number
    for _ in range(2):
        with pytest.raises(JournalError):
            reader.read(NOW)
    growing.cut(growing.events)
    assert lasting(reader.read(NOW)) == growing.first()
