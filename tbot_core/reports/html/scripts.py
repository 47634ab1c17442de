"""The style and the script of the report, each in one element whose hash the page's security policy names."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER: Final = Path(__file__).parent
VENDOR: Final = FOLDER / "vendor"
_STYLES: Final = (VENDOR / "uPlot.min.css", FOLDER / "report.css")
_SCRIPTS: Final = (VENDOR / "uPlot.iife.min.js", FOLDER / "report.js")

HEAD_BYTES: Final = 1_000
"""Within how many bytes a report says whether its prices are simulated."""

_PRICES: Final = re.compile(rb'<meta name="tbot-prices" content="(simulated|market)">')


def head(title: str, *, simulated: bool) -> str:
    """The page's head: nothing is loaded, and only the style and the script of this page apply."""
    policy = f"default-src 'none'; script-src {_hash(_script())}; style-src {_hash(_style())}"
    return (
        '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="tbot-prices" content="{"simulated" if simulated else "market"}">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{escape(title)}</title>\n'
        f"<style>{_style()}</style>"
    )


def says_simulated(start: bytes) -> bool | None:
    """Whether a report says in its first bytes that its prices are simulated; None where it does not say."""
    found = _PRICES.search(start)
    return None if found is None else found[1] == b"simulated"


def data_and_script(document: Mapping[str, Any]) -> str:
    """The points of the charts, which are data and not run, and the script that draws them."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="data">{text}</script>\n<script>{_script()}</script>'


def _style() -> str:
    return "\n".join(filesystem.read_text(path) for path in _STYLES)


def _script() -> str:
    # The licence of the library asks to be part of each copy.
    licence = filesystem.read_text(VENDOR / "uPlot.LICENSE")
    return "\n".join((f"/*! uPlot\n{licence}*/", *(filesystem.read_text(path) for path in _SCRIPTS)))


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
