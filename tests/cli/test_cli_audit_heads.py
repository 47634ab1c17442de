"""`tbot audit verify` with a head from a log that was kept elsewhere: what no chain shows by itself."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core import cli
from tbot_core.actions.audit import accept_chain, acceptance_lines
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance import Instance
from tbot_core.instance.folder import SIMULATION
from tbot_core.instance.journal_chain import note_head, open_instance_journal
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.journal.store import NewEvent
from tbot_core.system import filesystem
from tbot_core.vault.audit_log import anchor_path, log_entries, log_head, log_path

if TYPE_CHECKING:
    from pathlib import Path

EVENT = NewEvent(kind="risk", payload={}, time=dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC))


def heads(home: Path) -> tuple[str, str]:
    """The heads of the secrets log and of the journal, after an event of each."""
    instance = Instance(home)
    with closing(open_instance_journal(instance)) as journal:
        journal.append([EVENT])
        count, digest = journal.head
    open_instance_vault(instance, DeploymentSettings()).note("open", "smtp", "ok")
    return log_head(log_path(instance)).text, f"{count}:{digest}"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance with an audit log and a keyed journal."""
    instance = Instance(tmp_path / "x")
    open_instance_vault(instance, DeploymentSettings())
    heads(instance.home)
    return instance.home


def verified(capsys: pytest.CaptureFixture[str], home: Path, secrets: str, journal: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the document of the verification."""
    args = ["audit", "verify", f"--secrets-head={secrets}", f"--journal-head={journal}", "--json"]
    code = cli.invoke([*args, "--home", str(home)])
    return code, json.loads(capsys.readouterr().out)


def test_a_head_of_before_is_found_again(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both chains may have gone on since."""
    secrets, journal = heads(home)
    heads(home)
    assert verified(capsys, home, secrets, journal)[0] == 0


def test_older_copies_are_refused(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both chains are whole, with their keys and marks; only the heads show that they are of yesterday."""
    shutil.copytree(home, tmp_path / "yesterday")
    secrets, journal = heads(home)
    assert cli.invoke(["audit", "verify", "--home", str(tmp_path / "yesterday")]) == 0
    capsys.readouterr()
    code, document = verified(capsys, tmp_path / "yesterday", secrets, journal)
    assert code == 1
    assert "TB-SEC-097" in document["secrets"]["fault"]
    assert "does not have the event 2 of the given head" in document["journals"][0]["fault"]


@pytest.mark.parametrize("stored", [False, True])
def test_another_history_of_the_same_length_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str], *, stored: bool
) -> None:
    """The hash counts, not the number, also where the instance has a head of its own at that place."""
    secrets, journal = heads(home)
    other = "f" * 64
    if stored:
        assert verified(capsys, home, secrets, journal)[0] == 0
        assert secrets in anchor_path(Instance(home)).read_text().splitlines()
    code, document = verified(
        capsys, home, f"{secrets.partition(':')[0]}:{other}", f"{journal.partition(':')[0]}:{other}"
    )
    assert code == 1
    assert "TB-SEC-098" in document["secrets"]["fault"]
    assert "does not have the event 2" in document["journals"][0]["fault"]


def test_files_that_are_gone_are_a_fault_where_a_head_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without one an instance in which nothing happened is intact, and a folder that is none has nothing to verify."""
    assert cli.invoke(["audit", "verify", "--home", str(tmp_path)]) == 3
    (tmp_path / "data").mkdir()
    assert cli.invoke(["audit", "verify", "--home", str(tmp_path)]) == 0
    capsys.readouterr()
    code, document = verified(capsys, tmp_path, f"1:{'a' * 64}", f"1:{'a' * 64}")
    assert code == 1
    assert document["secrets"]["verified"] is False
    assert "There is no journal at" in document["journals"][0]["fault"]


@pytest.mark.parametrize("text", ["1", "x:abc", "0:abc", "1:", f"{'9' * 19}:abc"])
def test_what_is_no_head_is_wrong_usage(home: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    """The sentence says where heads are found."""
    assert cli.invoke(["audit", "verify", "--secrets-head", text, "--home", str(home)]) == 2
    assert "chain.heads" in capsys.readouterr().err


def test_an_older_journal_is_accepted_by_command(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is known is shown before the question; the acceptance has its actor, and a second one finds nothing."""
    note_head(Instance(home), (1, "a" * 64))
    for path in (home / "data").glob("tbot.sqlite*"):
        path.unlink()
    assert cli.invoke(["audit", "accept", "--home", str(home)]) == 2
    assert "it ends at event 0: 1 event or more are missing" in capsys.readouterr().out
    assert cli.invoke(["audit", "accept", "--yes", "--home", str(home)]) == 0
    assert "Accepted: the audit log now has the journal up to event 0." in capsys.readouterr().out
    assert [one.action for one in log_entries(log_path(Instance(home)))][-1] == "accept"
    assert cli.invoke(["audit", "accept", "--home", str(home), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done == {"accepted": False, "head": None, "keyed_from": 1, "pending": ""}


def test_a_simulation_is_not_asked_to_compare_again(home: Path) -> None:
    """It has a journal of its own, and accepts no requests."""
    note_head(Instance(home), (1, "a" * 64))
    for path in (home / "data").glob("tbot.sqlite*"):
        path.unlink()
    with filesystem.hold_lock(Instance(home).lock, SIMULATION):
        assert accept_chain(home)["pending"] == ""


def test_a_bot_that_has_not_recorded_an_acceptance_is_named() -> None:
    """The acceptance holds all the same: the next start compares by itself."""
    said = "Process 7 has not recorded the request within 5 s."
    lines = [*acceptance_lines({"accepted": True, "head": "3:abc", "keyed_from": 1, "pending": said})]
    assert lines[1] == said


def test_a_lost_log_is_accepted_by_command(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Until then the journal is refused, with the command in the remedy."""
    log_path(Instance(home)).unlink()
    (home / "data/audit.anchors").unlink(missing_ok=True)
    assert cli.invoke(["audit", "verify", "--home", str(home)]) == 1
    assert "tbot audit accept" in capsys.readouterr().out
    assert cli.invoke(["audit", "accept", "--home", str(home)]) == 0
    assert "Accepted: the audit log now says that the chain of the journal is keyed from event 1 on" in (
        capsys.readouterr().out
    )
    assert cli.invoke(["audit", "accept", "--home", str(home)]) == 0
    assert "Nothing to accept: " in capsys.readouterr().out
    assert cli.invoke(["audit", "accept", "--home", str(home / "nowhere")]) == 3
    assert "is not an instance" in capsys.readouterr().err
    assert cli.invoke(["audit", "verify", "--home", str(home)]) == 0
