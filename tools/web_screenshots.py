"""Takes a picture of each page of the web page, as a person meets it, for docs/web.md.

    .venv/bin/python tools/web_screenshots.py SAMPLES [FOLDER]

SAMPLES has env.sample and env_bot.sample; FOLDER is docs/images by default. The way is that of the browser tests.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
from web_browser import CHROMIUM, PATIENCE_MS, WIDTHS, chromium
from web_walk import PLAIN, Place, whole_way

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext
    from playwright.sync_api import Page as Tab

FOLDER: Final = Path(__file__).parents[1] / "docs" / "images"
HEIGHTS: Final = {"desktop": 720, "phone": 844}
LEFT_OUT: Final = frozenset({"secrets-token", "account-codes", "plugins-broker-alpaca", "report"})
"""Pages with a secret that is shown once, or with a folder of this machine."""

PLACE: Final = Path(tempfile.gettempdir()) / "tbot"
"""Where the instance of the pictures is while they are taken: its path is on them."""

_DRAWN_MS: Final = 150
LARGEST: Final = 150_000
"""Bytes of a picture."""


@attrs.define(eq=False)
class Pictures:
    """Takes the pictures of the pages that it looks at into a folder, one for each width."""

    folder: Path
    taken: list[Path] = attrs.field(factory=list)
    secrets: dict[str, tuple[str, ...]] = attrs.field(factory=dict, repr=False, kw_only=True)

    def watch(self, context: BrowserContext, *, scripts: bool = True) -> Tab:  # noqa: ARG002  -- as any watcher
        """A new tab."""
        context.set_default_timeout(PATIENCE_MS)
        return context.new_page()

    def look(self, tab: Tab, name: str) -> None:
        """Take the page's pictures; the tab keeps its size."""
        if name in LEFT_OUT or name.startswith(PLAIN):
            return
        tab.bring_to_front()  # one behind another is not drawn
        size = tab.viewport_size
        for place, width in WIDTHS.items():
            tab.set_viewport_size({"width": width, "height": HEIGHTS[place]})
            tab.wait_for_timeout(_DRAWN_MS)
            path = self.folder / f"web-{name}-{width}.png"
            tab.screenshot(path=path, scale="css", animations="disabled")
            self.taken.append(path)
        if size is not None:
            tab.set_viewport_size(size)

    def settle(self, tab: Tab) -> None:
        """Nothing: a page is looked at where it has a name."""


def main(samples: str, folder: str = str(FOLDER)) -> int:
    """Take the pictures, and name those that are too large."""
    if CHROMIUM is None:
        print("No Chromium is installed.")
        return 1
    pictures = Pictures(Path(folder))
    if PLACE.exists():
        print(f"{PLACE} exists: remove it first.")
        return 1
    PLACE.mkdir(mode=0o700)
    try:
        with chromium() as browser:
            place = Place(browser=browser, home=PLACE / "my-bot", samples=Path(samples))
            whole_way(place, lambda _origin: pictures)
    finally:
        shutil.rmtree(PLACE)
    large = sorted({path.name for path in pictures.taken if path.stat().st_size > LARGEST})
    print(
        f"{len(set(pictures.taken))} pictures in {folder}.", *(f"Larger than {LARGEST:,} bytes: {it}." for it in large)
    )
    return 1 if large else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
