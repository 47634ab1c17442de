"""The web page as a person has it: `tbot web` in a child process, and Chromium in front of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from playwright.sync_api import Browser

CHROMIUM: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The browser's path; None where there is none."""

WIDTHS: Final = {"desktop": 1280, "phone": 390}
PHONE: Final[dict[str, Any]] = {
    "viewport": {"width": WIDTHS["phone"], "height": 844},
    "is_mobile": True,
    "has_touch": True,
}
PATIENCE_MS: Final = 60_000
"""How long a page may take on a busy machine."""

_TBOT: Final = str(Path(sys.executable).with_name("tbot"))
_STARTS_S: Final = 120.0
_ENDS_S: Final = 30.0


class Child:
    """A command of tbot in a child process while this is entered; `said` is what it has printed."""

    def __init__(self, *words: str, environment: Mapping[str, str] | None = None) -> None:
        """`environment` is added to that of this process."""
        self._words = words
        self._environment = {**os.environ, **(environment or {})}

    def __enter__(self) -> Self:
        """Start it."""
        self._out = tempfile.TemporaryFile()
        self.process = subprocess.Popen(  # noqa: S603  -- a fixed program
            [_TBOT, *self._words],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            env=self._environment,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, as Ctrl-C does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(_ENDS_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._out.close()

    @property
    def said(self) -> str:
        """What it has printed up to now."""
        return os.pread(self._out.fileno(), 1 << 20, 0).decode(errors="replace")

    def awaited(self, pattern: str) -> str:
        """What the group of a pattern is, once the command has printed it; raises AssertionError where it ends."""
        limit = time.monotonic() + _STARTS_S
        while (found := re.search(pattern, self.said)) is None:
            if self.process.poll() is not None or time.monotonic() > limit:
                raise AssertionError(f"tbot {' '.join(self._words)} did not print {pattern}: {self.said[-2000:]}")
            time.sleep(0.05)
        return found.group(1)


class Page(Child):
    """The page of a folder: `url` is its address, `link` the path that makes its first admin, "" where there is one."""

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None) -> None:
        """`environment` is added to that of this process."""
        port = free_port()
        super().__init__("web", "--home", str(home), "--port", str(port), environment=environment)
        self.url = f"http://127.0.0.1:{port}"

    def __enter__(self) -> Self:
        """Start it, and wait until it answers."""
        super().__enter__()
        self.awaited("(The page is at )")
        while not self._answers():
            time.sleep(0.05)
        found = re.search(r"(/first-run\?link=\S+)", self.said)
        self.link = found.group(1) if found else ""
        return self

    def _answers(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", int(self.url.rpartition(":")[2]))) == 0


@contextmanager
def venue(seed: int, opened_minutes: int) -> Iterator[str]:
    """The venue of Alpaca, whose session opened so many minutes ago: the value of TBOT_REHEARSAL."""
    words = ("rehearse", "--broker", "alpaca", "--serve", "--first-seed", str(seed), f"--opens-in=-{opened_minutes}")
    with Child(*words) as child:
        yield child.awaited(r"TBOT_REHEARSAL='([^']+)'")


def free_port() -> int:
    """A port of this machine that nothing listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium; it needs CHROMIUM."""
    with sync_playwright() as driver:
        # Root cannot start it with its own confinement.
        browser = driver.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=os.geteuid() != 0)
        try:
            yield browser
        finally:
            browser.close()
