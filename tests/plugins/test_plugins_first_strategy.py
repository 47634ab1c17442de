"""The strategy of docs/plugins.md: its package is found and its code keeps the contract."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import attrs

from tbot_core.contracts import Context, Plugin
from tbot_core.contracts.setting import declarations
from tbot_core.model.clock import SystemClock
from tbot_core.model.window import Window
from tbot_core.plugins.discovery import GROUPS
from tbot_core.system import log

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


NAMES: dict[str, Any] = {"__name__": "acme_streak"}
exec(compile("\n".join(_blocks("python")), "docs/plugins.md", "exec", dont_inherit=True), NAMES)


TestDocumentedContract: type[Any] = NAMES["TestContract"]  # pytest collects the cases of the page's own test


def test_the_project_file_names_the_strategy() -> None:
    """The TOML of the page has the entry point by which the core finds the strategy, under the name that it offers."""
    (text,) = _blocks("toml")
    project = tomllib.loads(text)["project"]
    offer = NAMES["tbot_strategy"]()
    assert isinstance(offer, Plugin)
    assert project["entry-points"][GROUPS["strategy"]] == {offer.name: NAMES["__name__"]}
    assert any(one.startswith("tbot-core>=") for one in project["dependencies"])


def test_the_offer_creates_the_strategy_from_its_settings() -> None:
    """`create` builds the strategy with the window and the declared setting of its config."""
    offer: Plugin = NAMES["tbot_strategy"]()
    assert [one.name for one in declarations(offer.config).values()] == ["STREAK_LENGTH"]
    window = Window(start=0, analysis=5, breakout=60, monitoring=30)
    context = Context(clock=SystemClock(), log=log.logger("test"), data_dir=Path("nowhere"))
    strategy: Any = offer.create(offer.config(window=window), context)
    assert strategy.window == window
    assert {one.name for one in attrs.fields(offer.config)} == {"window", "length"}
