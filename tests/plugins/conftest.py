"""Fake distributions: packages with their metadata in a folder that is searched for plugins."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest

from tbot_core.plugins.discovery import COMMANDS, GROUPS, EntryPointInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SOUND = """
from decimal import Decimal

import attrs

from tbot_core.contracts import Plugin
from tbot_core.contracts.setting import fraction, setting
from tbot_core.contracts.hooks import hookimpl
from tbot_core.model.window import Window


@attrs.frozen(kw_only=True)
class Config:
    window: Window
    depth: Decimal = setting("STRAT_SAMPLE_DEPTH", fraction(), default="0.1", doc="How deep, as a fraction.")

    def scan(self, bars, day, since=0):
        raise AssertionError


@hookimpl
def tbot_strategy():
    return Plugin(
        name="{name}", summary="A sample", config=Config, create=lambda config, context: config,
        capabilities=frozenset({{"one", "another"}}),
    )
"""


def write(folder: Path, entry: EntryPointInfo, body: str, *, group: str = "", points: str | None = None) -> None:
    """Write a distribution with one package into a folder, as an installer leaves it."""
    package = entry.target.partition(":")[0]
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text(body)
    info = folder / f"{entry.dist.replace('-', '_')}-{entry.version}.dist-info"
    info.mkdir()
    requires = "".join(f"Requires-Dist: {line}\n" for line in entry.requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {entry.dist}\nVersion: {entry.version}\n{requires}")
    section = group or (GROUPS | COMMANDS)[entry.kind]
    (info / "entry_points.txt").write_text(
        f"[{section}]\n{entry.name} = {entry.target}\n" if points is None else points
    )
    importlib.invalidate_caches()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is searched for distributions, in this process and in its children."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in [name for name in sys.modules if name.startswith("their_")]:
        del sys.modules[name]


@pytest.fixture
def plant(site: Path) -> Callable[..., EntryPointInfo]:
    """Install a fake distribution: `plant(name, body, **fields of the entry)`; `{name}` in the body is its name."""

    def install(name: str, body: str = SOUND, *, points: str | None = None, **fields: object) -> EntryPointInfo:
        given = {
            "kind": "strategy",
            "name": name,
            "dist": f"their-{name}",
            "version": "2.5",
            "target": f"their_{name}",
            "requires": ("tbot-core>=1,<2",),
        } | fields
        entry = EntryPointInfo(**given)  # type: ignore[arg-type]  # keywords of the test
        write(site, entry, body.format(name=name) if body is SOUND else body, points=points)
        return entry

    return install
