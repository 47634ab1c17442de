"""The environments of other engines: made by uv from the pins of engines.toml, kept beside the repository's own.

An engine that cannot be installed is left out with the installer's reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_PINS = "pins.json"


@dataclass(frozen=True)
class Environments:
    """Environments below a folder, one for each name of `stated`."""

    folder: Path
    stated: Mapping[str, Any]

    def python(self, name: str) -> Path | str:
        """The interpreter of an environment, made unless it is there with these pins; else why it cannot be made."""
        place, pins = self.folder / name, json.dumps(self.stated[name], sort_keys=True)
        interpreter, kept = place / "bin" / "python", place / _PINS
        if kept.is_file() and kept.read_text(encoding="utf-8") == pins and interpreter.exists():
            return interpreter
        for command in (
            ["venv", "--quiet", "--clear", "--python", self.stated[name]["python"], f"{place}"],
            ["pip", "install", "--quiet", "--python", f"{interpreter}", *self.stated[name]["packages"]],
        ):
            if reason := _uv(command):
                return reason
        kept.write_text(pins, encoding="utf-8")
        return interpreter


def _uv(arguments: list[str]) -> str:
    # "" or the reason of a failure.
    uv = Path(sys.executable).with_name("uv")
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    try:
        done = subprocess.run(  # noqa: S603 - the uv of this environment
            [f"{uv}", *arguments], env=environment, capture_output=True, text=True, check=False
        )
    except OSError as fault:
        return f"uv does not run: {fault}"
    if not done.returncode:
        return ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return " ".join(lines[:2]) or f"uv ended with {done.returncode}"
