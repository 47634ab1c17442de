"""Rotations in real processes: killed after each system call, repaired by the next, while a reader reads on."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

CHILD = """
import json, os, signal, sys
from pathlib import Path

from tbot_core.vault.audit_log import AuditLog, open_vault
from tbot_core.model.clock import SystemClock
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.system.secure_files import FileSystemCalls
from tbot_core.instance import Instance
from tbot_core.vault import rotation
from tbot_core.vault.categories import AUDIT
from tbot_core.vault.store import SecretStore

home, step, TWO = Path(sys.argv[1]), int(sys.argv[2]), ("login", "smtp")

class Mortal(FileSystemCalls):
    # The disk, never waited for; after so many calls the process is killed.
    left = None

for name in ("folder", "open", "status", "read", "seek", "write", "sync", "truncate", "lock", "rename", "remove"):
    def call(self, *args, name=name):
        done = None if name == "sync" else getattr(FileSystemCalls, name)(self, *args)
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return done
    setattr(Mortal, name, call)

def store(left=None):
    system = Mortal()
    system.left = left
    given = dict(instance=Instance(home), deployment=DeploymentSettings(), clock=SystemClock(), strict=True)
    return SecretStore(system=system, **given)

def vault(left=None):
    return open_vault(store(left), "test")

def texts():
    found = {}
    for category in TWO:
        with store().load(category) as opened:
            found[category] = bytes(opened.view)
    return found

def forked(deed):
    process = os.fork()
    if not process:
        deed()
        os._exit(0)
    return process

def read_on():
    reads = 0
    while not (home / "enough").exists():
        assert texts() == TEXT
        reads += 1
    (home / "reads").write_text(str(reads))

for folder in ("storage/keys", "storage/secrets", "data"):
    (home / folder).mkdir(parents=True, mode=0o700)
TEXT = {category: category.encode() * 100 for category in TWO}
vault().make_key(AUDIT)
for category in TWO:
    vault().make_key(category)
    vault().write(category, TEXT[category])
reader = forked(read_on)
DEEDS = {
    "resume": rotation.resume_rotation,
    "abort": rotation.withdraw_rotation,
    "rotate": rotation.rotate_categories,
}
MENDS = (["resume"], ["abort"], ["resume", "abort", "rotate"], ["abort", "rotate"])
calls = kills = 0
while True:
    _, status = os.waitpid(forked(lambda: rotation.rotate_categories(vault(calls), TWO)), 0)
    if not os.WIFSIGNALED(status):
        break
    assert texts() == TEXT, calls
    for deed in MENDS[kills % len(MENDS)]:
        DEEDS[deed](vault(), TWO)
        assert texts() == TEXT, (calls, deed)
    for category in TWO:
        assert store().key(category, "next") is None, calls
        assert store().load(category).key_id == store().key(category).name, calls
    calls, kills = calls + step, kills + 1
(home / "enough").touch()
_, ended = os.waitpid(reader, 0)
print(json.dumps({
    "calls": calls, "kills": kills, "exit": os.WEXITSTATUS(status), "reader": ended,
    "reads": int((home / "reads").read_text()), "lines": AuditLog(store=store(), actor="").verify().count,
    "left": sorted(path.name for path in (home / "storage").rglob("*") if path.name.startswith(".")),
}))
"""


@pytest.mark.first(0)  # over 1.5 seconds
@pytest.mark.parametrize(
    "step",
    [pytest.param(11, marks=pytest.mark.slow), pytest.param(1, marks=[pytest.mark.full, pytest.mark.timeout(600)])],
)
def test_f75_cp23_cp24_f103_a_rotation_killed_after_a_system_call_loses_nothing(step: int, tmp_path: Path) -> None:
    """SIGKILL after each call, of the audit log's too: resumed, aborted, begun anew; the reader never fails.

    At the end a rotation passes, the log's chain fits, and no half file is left. `make test` takes every eleventh call.
    """
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        command = [sys.executable, "-W", "error", "-c", CHILD, f"{folder}/x", str(step)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["exit"], said["reader"], said["left"]) == (0, 0, [])
    assert said["calls"] > 200
    assert said["reads"] > said["kills"]
    assert said["lines"] > said["kills"]
