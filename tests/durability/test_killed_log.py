"""A log that is rotated by a process which is killed: each line is there, once, and the next process goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CHILD = """
import json, os, shutil, signal, sys
from pathlib import Path

from tbot_core.system import log

folder, most = Path(sys.argv[1]), int(sys.argv[2])
OLDER = 3

def forked(home, first, doom):
    # Ten lines, the first of which turns the file over, in a process that dies at so many of the system's calls.
    ends, begins = os.pipe()
    process = os.fork()
    if process:
        os.close(begins)
        with open(ends, "rb") as told:
            written = len(told.read())
        return os.waitpid(process, 0)[1], written
    log.configure("info", "json", home / "logs", screen=False)
    left = doom

    def heard(event, _):
        nonlocal left
        if event in {"os.rename", "open", "os.remove"}:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(heard)
    for number in range(first, first + 10):
        log.logger("test").info("line", number=number)
        os.write(begins, b".")
    os._exit(0)

def full(home):
    # A file so full that the next line turns it over, and earlier ones beside it.
    backups = home / "backups"
    (home / "logs").mkdir(parents=True)
    backups.mkdir()
    for number in range(1, OLDER + 1):
        (backups / f"tbot.log.{number}").write_text(json.dumps({"older": number}) + chr(10))
    line = json.dumps({"filler": "x" * 980}) + chr(10)
    (home / "logs" / "tbot.log").write_text(line * (log.FILE_BYTES // len(line) + 1))

ends, killed = [], 0
for doom in range(1, most + 1):
    home = folder / str(doom)
    full(home)
    status, written = forked(home, 0, doom)
    killed += status == signal.SIGKILL
    again, more = forked(home, 100, 0)
    lines = [
        json.loads(line)
        for path in [*(home / "logs").iterdir(), *(home / "backups").iterdir()]
        for line in path.read_text().splitlines()
    ]
    numbers = sorted(line["number"] for line in lines if "number" in line)
    older = sorted(line["older"] for line in lines if "older" in line)
    ends.append(dict(again=again, lost=[one for one in (*range(written), *range(100, 110)) if numbers.count(one) != 1],
        older=older, filler=sum("filler" in line for line in lines)))
    shutil.rmtree(home)
print(json.dumps(dict(ends=ends, killed=killed)))
"""
CALLS = 6


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_f75_cp30_a_rotation_of_the_log_that_is_killed_loses_no_line(tmp_path: Path) -> None:
    """SIGKILL before each rename and opening of a rotation: whole lines, each once, in the old and the new files."""
    command = [sys.executable, "-W", "error", "-c", CHILD, str(tmp_path), str(CALLS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["killed"] == CALLS
    for end in said["ends"]:
        assert (end["again"], end["lost"], end["older"]) == (0, [], [1, 2, 3])
        assert end["filler"] > 10_000
