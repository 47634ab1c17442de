"""Write docs/reference/settings.md from the declarations of the settings."""

from __future__ import annotations

from pathlib import Path

from tbot_core.settings.reference import render

if __name__ == "__main__":
    page = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"
    page.write_text(render(), encoding="utf-8")
    print(f"{page} is written.")
