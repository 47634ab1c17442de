"""The style and the script of the report, each in one element whose hash the page's security policy names."""

from __future__ import annotations

import base64
import hashlib
import json
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


def head(title: str, facts: str) -> str:
    """The page's head with the element of its facts: nothing is loaded, only this page's style and script apply."""
    policy = f"default-src 'none'; script-src {_hash(_script())}; style-src {_hash(_style())}"
    return (
        '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{facts}\n"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{escape(title)}</title>\n'
        f"<style>{_style()}</style>"
    )


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
