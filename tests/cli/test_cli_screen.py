"""`tbot screen` on the simulator, and what it prints of symbols that do not pass."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core import cli
from tbot_core.cli.commands.decisions import screen_document, screen_lines
from tbot_core.engine.screening import ScreenedSymbols
from tbot_core.model.reasons import Reason
from tbot_core.testing.sessions import day
from tbot_core.testing.trades import session
from tbot_core.trading.universe import Universe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, paper_instance: Callable[[Path], Path]) -> Path:
    """A paper instance."""
    home = tmp_path_factory.mktemp("screen") / "x"
    paper_instance(home)
    return home


def test_the_simulator_is_screened_for_each_strategy(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each strategy has a line, each symbol a row with close, volume and capitalisation."""
    assert cli.invoke(["screen", "--home", str(home)]) == 0
    said = capsys.readouterr().out
    assert "40 symbols of paper" in said
    assert "A session has 40 of 40 symbols subscribed." in said
    for name in ("[OPEN]", "[MID]", "[CLOSE]"):
        assert f"{name} 40 symbols pass" in said
    assert cli.invoke(["screen", "--strategy", "MID", "--home", str(home), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [*found["passed"]] == ["mid"]
    assert len(found["symbols"]) == 40
    assert {"close", "left_out", "mean_volume", "market_cap", "reasons", "symbol"} == {*found["symbols"][0]}


def test_an_unknown_strategy_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage names the strategies that are enabled."""
    assert cli.invoke(["screen", "--strategy", "other", "--home", str(home)]) == 2
    assert "Enabled: open, mid, close." in capsys.readouterr().err


def screened(count: int = 3) -> ScreenedSymbols:
    """Symbols of which the second is denied, and the third has unknown facts; a limit leaves one out."""
    symbols = tuple(f"S{number:02}" for number in range(count))
    volume = [1000.0, 500.0, math.nan, *([10.0] * (count - 3))]
    facts = day(count, previous_close=20.0, average_volume=volume, market_cap=3e9)
    reasons = (None, Reason.VOLUME_LOW, *([None] * (count - 2)))
    universe = Universe(
        symbols=symbols[:1],
        day=facts,
        cut=symbols[2:3],
        denied={"VOLUME_LOW": symbols[1:2]},
        limit=1,
        limited_by="UNIVERSE_MAX",
        not_offered={"not tradable": 2},
    )
    return ScreenedSymbols(
        source="acme", session=session(), symbols=symbols, day=facts, reasons={"s": reasons}, universe=universe
    )


def test_what_passes_is_listed_by_dollar_volume_and_the_rest_with_all() -> None:
    """A denied symbol is counted by its reason, and has a row with --all only; what a session leaves out says why."""
    lines = list(screen_lines(screened(), ("s",), everything=False))
    assert lines[1] == "[S] 2 symbols pass; symbols denied: VOLUME_LOW 1"
    left_out = "symbols left out: not tradable 2, VOLUME_LOW 1, UNIVERSE_TRUNCATED 1)."
    assert lines[2] == f"A session has 1 of 5 symbols subscribed (UNIVERSE_MAX, 1; {left_out}"
    assert [line.split()[0] for line in lines[4:]] == ["S00", "S02"]
    assert "-" in lines[5].split()
    whole = list(screen_lines(screened(), ("s",), everything=True))
    assert [line.split()[-2:] for line in whole[4:]] == [
        ["passes", "yes"],
        ["VOLUME_LOW", "VOLUME_LOW"],
        ["passes", "UNIVERSE_TRUNCATED"],
    ]


def test_a_long_list_is_cut_and_says_so() -> None:
    """Forty symbols are shown; the document has every one."""
    found = screened(60)
    lines = list(screen_lines(found, ("s",), everything=False))
    assert lines[-1] == "and 19 more that pass; --all lists every symbol."
    assert len(screen_document(found, ("s",))["symbols"]) == 60


def test_without_a_symbol_that_passes_there_is_no_table() -> None:
    """The counts by reason are all there is to say."""
    found = screened()
    lines = list(screen_lines(found, (), everything=False))
    assert len(lines) == 2


def test_symbols_of_the_universe_that_are_not_offered_are_named() -> None:
    """A misspelt one is seen at once."""
    found = attrs.evolve(screened(), unknown=("APPL", "XYZQ"))
    assert "UNIVERSE has symbols that acme does not offer: APPL, XYZQ." in list(
        screen_lines(found, ("s",), everything=False)
    )
    assert screen_document(found, ("s",))["unknown"] == ["APPL", "XYZQ"]
    assert not any("does not offer" in line for line in screen_lines(screened(), ("s",), everything=False))
