"""An instance is made completely or not at all: after an error, Ctrl-C, and a kill at any file operation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tbot_core import cli
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import AccessError
from tbot_core.instance import Instance, read_settings_files
from tbot_core.instance.creation_marker import creation, undo_creation
from tbot_core.instance.folder import CREATION_MARKER

CHILD = """
import json, os, signal, shutil, sys
from pathlib import Path

from tbot_core import cli
from tbot_core.actions.instance_creation import create_instance, checked_contents
from tbot_core.instance import Instance, load_settings
from tbot_core.instance.creation_marker import undo_creation
from tbot_core.system import processes

place, step = Path(sys.argv[1]), int(sys.argv[2])
EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod"}

def entries(folder):
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*"))

def forked(deed):
    process = os.fork()
    if not process:
        deed()
        os._exit(0)
    return os.waitpid(process, 0)[1]

def mortal(home, left):
    # The process is killed at the file operation number `left` in the folder.
    def hook(event, given):
        nonlocal left
        if event in EVENTS and str(given[0]).startswith(str(place)):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    create_instance(Instance(home), contents)

os.fsync = lambda handle: None
contents = checked_contents(Instance(place / "first"), {"smtp": {"host": "mail.example", "sender": "a@b.example"}}, "")
create_instance(Instance(place / "first"), contents)
WHOLE = entries(place / "first")
ops = kills = undone = whole = 0
for kind in ("absent", "used"):
    ops = 0
    while True:
        home = place / kind / "x"
        shutil.rmtree(place / kind, ignore_errors=True)
        if kind == "used":
            (home / "data/bars").mkdir(parents=True)
            (home / "notes").write_text("mine")
            (home / ".gitignore").write_text("mine\\n")
        before = entries(home) if kind == "used" else []
        status = forked(lambda: mortal(home, ops))
        if not os.WIFSIGNALED(status):
            break
        kills += 1
        if undo_creation(Instance(home)):
            undone += 1
            assert entries(home) == before if home.exists() else not before, (kind, ops, entries(home), before)
        elif (home / ".env_bot.enc").exists():
            whole += 1
            assert set(WHOLE) <= set(entries(home)), (kind, ops)
            load_settings(home, mode="paper")
            ops += step
            continue
        create_instance(Instance(home), contents)
        assert set(WHOLE) <= set(entries(home)) <= {*WHOLE, *before}, (kind, ops, entries(home))
        load_settings(home, mode="paper")
        if kind == "used":
            assert (home / "notes").read_text() == "mine" and "mine" in (home / ".gitignore").read_text()
        ops += step
print(json.dumps({"kills": kills, "undone": undone, "whole": whole, "ops": ops}))
"""


@pytest.mark.first(0)  # over 1.5 seconds
@pytest.mark.parametrize(
    "step",
    [pytest.param(17, marks=pytest.mark.slow), pytest.param(1, marks=[pytest.mark.full, pytest.mark.timeout(600)])],
)
def test_an_instance_killed_while_it_is_made_is_undone_and_made_again(step: int, tmp_path: Path) -> None:
    """SIGKILL at each file operation, in an absent folder and in a used one: nothing of the user's is lost.

    `make test` takes every seventeenth operation.
    """
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        command = [sys.executable, "-W", "error", "-c", CHILD, folder, str(step)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["ops"] > 100
    assert said["undone"] * step > 150


def interrupted(home: Path, *files: str) -> Instance:
    """An instance whose creation ended with its process, after it had written the files."""
    instance, process = Instance(home), os.fork()
    if not process:
        made = creation(instance, DeploymentSettings())
        made.__enter__()
        for name in files:
            instance.path(name).write_text("half")
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0
    return instance


@pytest.fixture
def unfinished(tmp_path: Path) -> Instance:
    """An instance whose creation was interrupted."""
    return interrupted(tmp_path / "deep" / "x", "storage/keys/env.key", "storage/keys/.env.key.new")


def test_settings_of_an_unfinished_instance_are_not_read(unfinished: Instance) -> None:
    """Every command that needs them names the remedy."""
    fault = read_settings_files(unfinished).env.fault
    assert fault is not None
    assert "is not completely made" in fault.message
    assert "Run `tbot init` again" in fault.remedy
    assert cli.invoke(["config", "show", "--home", str(unfinished.home)]) == 3


def test_init_begins_anew_after_an_interruption(unfinished: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    """Without help, and it says that it removed what was there."""
    assert cli.invoke(["init", "--paper", "--home", str(unfinished.home)]) == 0
    assert "what it had made was removed" in capsys.readouterr().out
    assert not unfinished.path(CREATION_MARKER).exists()
    assert not unfinished.path("storage/keys/.env.key.new").exists()


def test_undoing_removes_the_folders_that_were_made_and_no_others(unfinished: Instance, tmp_path: Path) -> None:
    """The folder of the instance and those above it go if they are empty; a file of the user keeps its folder."""
    (unfinished.path("logs/mine")).write_text("mine")
    assert undo_creation(unfinished)
    assert [one.name for one in unfinished.home.rglob("*")] == ["logs", "mine"]
    (unfinished.path("logs/mine")).unlink()
    assert not undo_creation(unfinished)
    with pytest.raises(KeyboardInterrupt), creation(Instance(tmp_path / "deeper" / "y"), DeploymentSettings()):
        raise KeyboardInterrupt
    assert not (tmp_path / "deeper").exists()


def test_files_that_were_there_belong_to_the_user(tmp_path: Path) -> None:
    """Keys, a journal and an audit log that existed before are not removed, with all that belongs to them."""
    kept = ("storage/keys/smtp.key", "data/tbot.sqlite", "data/audit.log")
    for name in kept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    interrupted(tmp_path, "data/tbot.sqlite-wal", "data/audit.anchors")
    assert undo_creation(Instance(tmp_path))
    left = {str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*") if one.is_file()}
    assert left == {*kept, "data/tbot.sqlite-wal", "data/audit.anchors"}


def test_a_creation_that_goes_on_is_not_undone(tmp_path: Path) -> None:
    """Another `tbot init` in the same folder is refused, and what was made stays."""
    with creation(Instance(tmp_path / "x"), DeploymentSettings()):
        with pytest.raises(AccessError, match="Another process is making the instance"):
            undo_creation(Instance(tmp_path / "x"))
        assert cli.invoke(["init", "--paper", "--home", str(tmp_path / "x")]) == 1
        assert (tmp_path / "x" / "storage" / "keys").is_dir()
    assert not (tmp_path / "x" / CREATION_MARKER).exists()


@pytest.mark.parametrize(
    ("text", "mode", "sentence"),
    [
        ("{", 0o600, "does not hold the paths of what was made"),
        ("[]", 0o600, "does not hold the paths of what was made"),
        ("{}", 0o600, "does not hold the paths of what was made"),
        ('{"files": 1}', 0o600, "does not hold the paths of what was made"),
        ('{"files": [], "replaced": [], "folders": []}', 0o666, "others can change it"),
    ],
)
def test_a_marker_that_cannot_be_trusted_removes_nothing(text: str, mode: int, sentence: str, tmp_path: Path) -> None:
    """One that others can change, or that holds no paths, is refused with a remedy."""
    marker = tmp_path / CREATION_MARKER
    marker.write_text(text)
    os.chmod(marker, mode)  # noqa: PTH101
    with pytest.raises(AccessError, match=sentence) as refused:
        undo_creation(Instance(tmp_path))
    assert refused.value.remedy == "Remove it, or choose another --home."
