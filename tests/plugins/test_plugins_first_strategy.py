"""The strategy and the extension of docs/plugins.md: their code keeps the contract of their kind."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest

from tbot_core.contracts import Context, Extension, Plugin
from tbot_core.contracts.setting import declarations
from tbot_core.model.clock import SystemClock
from tbot_core.model.window import Window
from tbot_core.plugins.discovery import GROUPS
from tbot_core.system import log
from tbot_core.testing.extension import ExtensionContract

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")


def _blocks(language: str, section: str) -> list[str]:
    _, _, text = PAGE.partition(f"\n## {section}\n")
    return re.findall(rf"```{language}\n(.*?)```", text.partition("\n## ")[0], re.DOTALL)


def _names(section: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "acme_streak"}
    code = "\n".join(_blocks("python", section))
    exec(compile(code, "docs/plugins.md", "exec", dont_inherit=True), names)
    return names


NAMES, EXTENSION = _names("A minimal strategy"), _names("An extension")


class TestDocumentedExtension(ExtensionContract):
    """The page's extension keeps the contract of extensions."""

    @pytest.fixture
    def extension(self) -> Extension:
        """The extension, with a log that is not read."""
        offer: Plugin = EXTENSION["tbot_extension"]()
        context = Context(clock=SystemClock(), log=log.logger("test"), data_dir=Path("nowhere"))
        made: Any = offer.create(offer.config(), context)
        assert isinstance(made, Extension)
        return made


TestDocumentedContract: type[Any] = NAMES["TestContract"]  # pytest collects the cases of the page's own test


def test_the_project_file_names_the_strategy() -> None:
    """The TOML of the page has the entry point by which the core finds the strategy, under the name that it offers."""
    (text,) = _blocks("toml", "A minimal strategy")
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
