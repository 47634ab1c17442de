"""The check of an installed plugin: read from one file, run, and written to another."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.plugins import discovery
from tbot_core.plugins.loader import LoadedPlugin, PluginLoader
from tbot_core.plugins.network.connector import Connector
from tbot_core.testing import plugin_check

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_the_entry_is_read_and_the_outcome_written(tmp_path: Path) -> None:
    """As the child process of `tbot plugins check` does it."""
    entry = next(
        one.entry for one in discovery.installed_plugins() if (one.entry.kind, one.entry.name) == ("alert", "console")
    )
    request, answer = tmp_path / "request", tmp_path / "answer"
    request.write_text(json.dumps(attrs.asdict(entry)))
    plugin_check.main([str(request), str(answer)])
    assert json.loads(answer.read_text())["missing"] == ""


def test_a_plugin_is_closed_after_each_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was given to connect with is closed, whatever the case found."""
    closed: list[str] = []

    async def close(self: Connector) -> None:
        closed.append(self.plugin)

    monkeypatch.setattr(Connector, "close", close)
    entry = next(
        one.entry for one in discovery.installed_plugins() if (one.entry.kind, one.entry.name) == ("strategy", "open")
    )
    loaded = PluginLoader().load(entry)
    assert isinstance(loaded, LoadedPlugin)

    def broken(_subject: object) -> None:
        raise AssertionError

    results = plugin_check._run((broken, lambda _subject: None), loaded, tmp_path, lambda made: made)
    assert [one.outcome for one in results] == ["failed", "passed"]
    assert closed == ["strategy open"] * 2


def test_a_venue_without_a_broker_declares_nothing() -> None:
    """Its cases fail with the reason; the matrix is empty."""

    def failing() -> nullcontext[object]:
        raise KeyError("venue")

    assert plugin_check._capabilities(lambda: nullcontext(object())) == {}
    assert plugin_check._capabilities(failing) == {}
