"""The packages of the tutorials, installed, and the journals that tests of invariants write by hand."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.actions.plugin_development import KINDS, write_plugin

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The tutorials' packages, installed for this process and its children; the broker's package."""
    before, folder = list(sys.path), tmp_path_factory.mktemp("site")
    for kind, name in (("broker", "acme"), ("strategy", "streak")):
        made = write_plugin(kind, name, folder / kind)
        described = made.folder / f"{made.distribution.replace('-', '_')}-0.1.0.dist-info"
        described.mkdir()
        needs = f"Name: {made.distribution}\nVersion: 0.1.0\nRequires-Dist: tbot-core>=1,<2\n"
        (described / "METADATA").write_text(f"Metadata-Version: 2.1\n{needs}")
        (described / "entry_points.txt").write_text(f"[tbot.{KINDS[kind][0]}]\n{name} = tbot_{kind}_{name}\n")
        sys.path.insert(0, str(made.folder))
    importlib.invalidate_caches()
    yield importlib.import_module("tbot_broker_acme")
    sys.path[:] = before
    for name in [one for one in sys.modules if one.startswith(("tbot_broker_acme", "tbot_strategy_streak"))]:
        del sys.modules[name]


@pytest.fixture
def script(request: pytest.FixtureRequest) -> Iterator[Any]:
    """An empty journal: the `Script` of the test's module."""
    one = request.module.Script()
    yield one
    one.story.world.loop.finish()
