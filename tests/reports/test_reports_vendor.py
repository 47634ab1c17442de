"""The library that draws the charts is the published one, unchanged, and its licence goes with it."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tbot_core.reports import html

ROOT = Path(__file__).parents[2]
BUILD = "import os, sys, uv_build; os.chdir(sys.argv[1]); print(uv_build.build_wheel(sys.argv[2]))"
README = (html.VENDOR / "README.md").read_text(encoding="utf-8")


def test_each_third_party_file_has_the_hash_that_is_written_down() -> None:
    """A file that was changed, added or left out is found."""
    written = dict(re.findall(r"\| `(\S+)` \|.*\| `([0-9a-f]{64})` \|", README))
    there = {path.name: path for path in html.VENDOR.iterdir() if path.name != "README.md"}
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in there.items()} == written


@pytest.mark.slow
def test_the_wheel_contains_what_a_report_is_made_of(tmp_path: Path) -> None:
    """An installed tbot-core writes the same report: style, script, library and licence are in its wheel."""
    command = [sys.executable, "-c", BUILD, str(ROOT), str(tmp_path)]
    environment = {**os.environ, "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"}
    built = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    with zipfile.ZipFile(tmp_path / built.stdout.split()[-1]) as wheel:
        names = set(wheel.namelist())
    for path in (*html.VENDOR.iterdir(), html.FOLDER / "report.js", html.FOLDER / "report.css"):
        assert path.relative_to(ROOT).as_posix() in names


def test_version_licence_and_integrity_are_stated() -> None:
    """Their list names the files to renew, and the version is that of the file itself."""
    assert re.search(r"sha512-[A-Za-z0-9+/]{86}==", README)
    assert "1.6.32" in README
    assert "uPlot (v1.6.32)" in (html.VENDOR / "uPlot.iife.min.js").read_text(encoding="utf-8")[:80]


def test_each_report_has_the_licence_of_what_it_contains() -> None:
    """The MIT licence asks that its text is part of every copy."""
    licence = (html.VENDOR / "uPlot.LICENSE").read_text(encoding="utf-8")
    assert licence in html.data_and_script({})
    assert "Copyright (c) 2022 Leon Sorokin" in licence


def test_data_cannot_end_its_element() -> None:
    """Text that looks like markup is escaped in the data of the charts."""
    page = html.data_and_script({"days": ["</script><script>alert(1)</script>"]})
    assert page.count("</script>") == 2
