"""What is checked of a strategy's answer before anything is made of it."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest

from tbot_core.errors import PluginError
from tbot_core.model.bars import Bars
from tbot_core.model.signals import ExitRules, Signals
from tbot_core.model.window import Window
from tbot_core.plugins.guarded import checked_signals
from tbot_core.testing.sessions import SessionDraft, day
from tbot_core.testing.trades import NONE

WINDOW = Window(start=0, analysis=20, breakout=10, monitoring=30)
BARS = SessionDraft("A", "B", minutes=29).bars()


def two_signals(**second: Any) -> Signals:
    """A long signal of minute 25 at 100 USD for each of two symbols; of the second, what differs."""
    whole = {"row": 1, "minute": 25, "side": 1, "price": 100.0, "strength": 0.01, "stop": NONE, "target": NONE}
    columns = {name: np.array([value, second.get(name, value)]) for name, value in whole.items()}
    rows = np.array([0, second.get("row", 1)])
    del columns["row"]
    return Signals(cells=(rows,), rule=np.zeros(2, dtype=np.intp), rules=("breakout",), exits=ExitRules(), **columns)


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"side": 0}, "a side other than 1 and -1"),
    ({"minute": 19}, "a minute outside of the entry phase"),
    ({"minute": 30}, "a minute outside of the entry phase"),
    ({"minute": 29}, "a minute that has not closed yet"),
    ({"price": 0.0}, "a price that is not positive"),
    ({"price": NONE}, "a price that is not positive"),
    ({"price": np.inf}, "a price that is not positive"),
    ({"strength": NONE}, "a strength that is not finite"),
    ({"stop": 100.0}, "a stop that is not a price on the losing side"),
    ({"side": -1, "stop": 99.0}, "a stop that is not a price on the losing side"),
    ({"stop": -1.0}, "a stop that is not a price on the losing side"),
    ({"side": -1, "stop": np.inf}, "a stop that is not a price on the losing side"),
    ({"target": 99.0}, "a target on the losing side"),
    ({"side": -1, "target": 101.0}, "a target on the losing side"),
    ({"target": np.inf}, "a target on the losing side"),
    ({"row": 0}, "a symbol that has a signal already"),
]


@pytest.mark.parametrize(("fault", "sentence"), FAULTS)
def test_insane_signals_name_the_broken_strategy(fault: dict[str, Any], sentence: str) -> None:
    """A strategy that returns what no market gives is a broken plugin, said with what, how many and the first."""
    with pytest.raises(PluginError, match="Strategy open returned") as refused:
        checked_signals(two_signals(**fault), "open", WINDOW, BARS, 0)
    assert f"returned 1 signal(s) with {sentence}; the first: " in refused.value.message
    assert "tbot plugins check open" in refused.value.remedy


def test_the_first_insane_signal_is_named_by_symbol_session_and_minute() -> None:
    """The earliest, whatever the order of the rows; without known dates the session is left out."""
    columns = {"side": 1, "price": 100.0, "strength": 0.01, "stop": NONE, "target": 99.0}
    signals = Signals(
        cells=(np.array([1, 0, 0]), np.array([0, 1, 0])),
        minute=np.array([21, 25, 26]),
        rule=np.zeros(3, dtype=np.intp),
        rules=("breakout",),
        exits=ExitRules(),
        **{name: np.full(3, value) for name, value in columns.items()},
    )
    dates = np.array([["2026-03-02"], ["2026-03-03"]], dtype="datetime64[D]")
    bars = Bars({"close": np.full((29, 2, 2), 100.0)}, ("A", "B"))
    facts = attrs.evolve(day(2), date=dates)
    for known, words in ((facts, "B on 2026-03-02, minute 25"), (None, "B, minute 25")):
        with pytest.raises(PluginError, match=f"3 signal.* losing side; the first: {words} of the session"):
            checked_signals(signals, "open", WINDOW, bars, 0, day=known)


def test_a_target_at_the_price_and_levels_that_are_unknown_are_sane() -> None:
    """NaN is no level; the VWAP may be the close itself."""
    found = two_signals(target=100.0)
    assert checked_signals(found, "open", WINDOW, BARS, 0) is found
