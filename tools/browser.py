"""A page in headless Chromium, through its debugging pipe: screenshots, and what a page must not do.

    .venv/bin/python tools/browser.py reports/RUN.html FOLDER

writes NAME-{1280,390}-{light,dark}.png of a report, and prints what was wrong.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

CHROMIUM: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The browser's path; None where there is none."""

SIZES: Final = (1280, 390)
THEMES: Final = ("light", "dark")
_FLAGS: Final = (
    "--headless",
    "--no-sand\x62ox",  # root cannot start it otherwise
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_TALLEST: Final = 12_000


class Page:
    """One page of a browser that runs while this is entered; `faults` are console errors, exceptions and requests."""

    def __init__(self, browser: str) -> None:
        """`browser` is the path of a Chromium."""
        self.faults: list[str] = []
        self._browser = browser
        self._count = 0
        self._waiting: deque[dict[str, Any]] = deque()
        self._rest = b""
        self._session = ""
        self._address = ""

    def __enter__(self) -> Self:
        """Start the browser."""
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        down, up = os.pipe(), os.pipe()

        def pass_pipes() -> None:
            ends = os.dup(down[0]), os.dup(up[1])  # above 4, so that neither of the two is overwritten
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        self._process = subprocess.Popen(  # noqa: S603  a fixed program
            [self._browser, *_FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=pass_pipes,  # noqa: PLW1509  the pipes must have these numbers
            close_fds=False,
        )
        os.close(down[0])
        os.close(up[1])
        self._out, self._in = down[1], up[0]
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the browser."""
        os.close(self._out)
        self._process.terminate()
        self._process.wait(20)
        os.close(self._in)
        self._profile.cleanup()

    def open(self, path: Path, width: int, theme: str = "light", *, scripts: bool = True) -> None:
        """Open a file in a window of that width."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 2 if width < 600 else 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self._call("Emulation.setEmulatedMedia", {"features": features})
        self._call("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        self._address = path.resolve().as_uri()
        self._call("Page.navigate", {"url": self._address})
        self._until("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        found = self._call("Runtime.evaluate", asked)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    def settle(self) -> None:
        """Wait until what was scrolled into view or opened is drawn."""
        frame = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        for _ in range(3):
            self.evaluate(f"{frame}.then(() => null)")

    def screenshot(self, path: Path, height: int | None = None) -> None:
        """Write a picture of the page down to a height, else of the whole page."""
        width, tall = self.evaluate("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height or tall, tall, _TALLEST), "scale": 1}
        shot = self._call("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(shot["data"]))

    def _call(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        self._count += 1
        request = {"id": self._count, "method": method, "params": params or {}}
        if self._session:
            request["sessionId"] = self._session
        os.write(self._out, json.dumps(request).encode() + b"\0")
        while True:
            message = self._read()
            if message.get("id") == self._count:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result
            self._waiting.append(message)

    def _until(self, method: str) -> None:
        while True:
            message = self._waiting.popleft() if self._waiting else self._read()
            if message.get("method") == method:
                return

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._in, 1 << 16)
            if not part:
                raise AssertionError("The browser ended.")
            self._rest += part
        line, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)  # noqa: TID251  the browser's own messages
        self._note(message)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.faults.append(f"exception: {params['exceptionDetails']}")
            case "Runtime.consoleAPICalled" if params["type"] in {"error", "warning", "assert"}:
                self.faults.append(f"console: {params['args']}")
            case "Log.entryAdded" if params["entry"]["level"] in {"error", "warning"}:
                self.faults.append(f"log: {params['entry']['text']}")
            case "Network.requestWillBeSent" if params["request"]["url"] != self._address:
                self.faults.append(f"request: {params['request']['url'][:100]}")


def main(report: str, folder: str) -> int:
    """Take the pictures of a report, its first trades open."""
    if CHROMIUM is None:
        print("No Chromium is installed.")
        return 1
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with Page(CHROMIUM) as page:
        for width in SIZES:
            for theme in THEMES:
                page.open(Path(report), width, theme)
                page.evaluate("document.querySelector('details.trade')?.scrollIntoView()")
                page.settle()
                page.evaluate("scrollTo(0, 0)")
                page.screenshot(target / f"report-{width}-{theme}.png")
        for fault in page.faults:
            print(fault)
        return 1 if page.faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
