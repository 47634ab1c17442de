"""The tutorials show what `tbot plugins new` writes."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import pytest

from tbot_core.actions.plugin_development import write_plugin

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", ["broker", "strategy"])
def test_each_block_of_code_is_a_part_of_the_package(kind: str, root: Path, tmp_path: Path) -> None:
    """Word for word, so that the page cannot differ from what is tested."""
    page = (root / "docs" / "tutorials" / f"first-{kind}.md").read_text()
    made = write_plugin(kind, "acme", tmp_path / "acme")
    sources = [(made.folder / place).read_text() for place in made.files]
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", page, re.DOTALL)
    assert blocks
    assert [block for block in blocks if not any(block in source for source in sources)] == []


def test_the_broker_has_at_most_315_lines(tmp_path: Path) -> None:
    """Without its tests; and an entry point names it."""
    made = write_plugin("broker", "acme", tmp_path / "acme")
    sources = [place for place in made.files if place.startswith("tbot_broker_acme/") and "venue" not in place]
    assert sum(len((made.folder / place).read_text().splitlines()) for place in sources) <= 315
    project = tomllib.loads((made.folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {"tbot.brokers": {"acme": "tbot_broker_acme"}}
