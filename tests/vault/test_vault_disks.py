"""Real disks that are full or read-only: a small one is mounted for a process of its own, where that is allowed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.vault.error_codes import VaultErrorCode

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = "old", "n" * 300_000

CHILD = """
import json, os, subprocess, sys
from pathlib import Path

from tbot_core.errors import TbotError
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance import Instance, secrets as instance_secrets

home, old, new = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) * "n"
secrets = home / "storage" / "secrets"

def mount(*args):
    subprocess.run(["mount", *map(str, args)], check=True)

def told(deed):
    try:
        deed()
    except TbotError as error:
        return error.message.split()[0]
    return "done"

def fill(left):
    disk = os.statvfs(home)
    with (home / f"ballast{left}").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - left)

def tried():
    code = told(lambda: vault.write("smtp", json.dumps({"host": new}).encode()))
    return [code, vault.read_section("smtp")["host"].reveal() == old, [path.name for path in secrets.iterdir()]]

mount("-t", "tmpfs", "-o", "size=1m,mode=700", "none", home)
vault = instance_secrets.open_instance_vault(Instance(home), DeploymentSettings())
instance_secrets.encrypt_category(vault, "smtp", json.dumps({"host": old}).encode())
said = {}
mount("--bind", secrets, secrets)
mount("-o", "remount,bind,ro", secrets)
said["read-only"] = tried()
subprocess.run(["umount", secrets], check=True)
fill(65_536)
said["nearly full"] = tried()
fill(0)
said["full"] = [vault.read_section("smtp")["host"].reveal() == old for _ in range(100)]
for path in home.glob("ballast*"):
    path.unlink()
said["room"] = told(lambda: vault.write("smtp", json.dumps({"host": new}).encode()))
said["new"] = vault.read_section("smtp")["host"].reveal() == new
print(json.dumps(said))
"""


@pytest.fixture
def said(tmp_path: Path) -> Any:
    """What a process prints that mounts a megabyte for itself alone; skips where it may not."""
    alone = ["unshare", "--mount"]
    may = shutil.which("unshare") and shutil.which("mount")
    probe = [*alone, "mount", "-t", "tmpfs", "-o", "size=4k", "none", str(tmp_path)]
    if not may or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here; the failures are injected in other tests")
    command = [*alone, sys.executable, "-c", CHILD, str(tmp_path), OLD, str(len(NEW))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_real_disk_that_refuses_leaves_the_old_file(said: Any) -> None:
    """Full after a part was written, or read-only: the code, the old content, and no leftover; with room it goes on."""
    names = ["smtp_credentials.json.enc"]
    assert said["read-only"] == [VaultErrorCode.FILE_READ_ONLY.text, True, names]
    assert said["nearly full"] == [VaultErrorCode.FILE_FULL.text, True, names]
    assert (said["room"], said["new"]) == ("done", True)


@pytest.mark.slow
def test_a_full_disk_stops_no_reader(said: Any) -> None:
    """A hundred openings on a disk without a free byte: each is in the audit log's reserve."""
    assert said["full"] == [True] * 100
