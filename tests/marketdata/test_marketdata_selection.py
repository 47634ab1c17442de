"""Which bars a run gets, and what is said of them."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.contracts.feed import ExtraFacts
from tbot_core.errors import DataError
from tbot_core.marketdata.store.selection import select_symbols
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from pathlib import Path

DAY = dt.date(2018, 7, 2)


def bench(folder: Path, **options: Any) -> StoreFixture:
    """A store with one session of AAA."""
    made = StoreFixture(folder=folder)
    made.put(rising_bars("AAA", exchange_sessions(f"{DAY}", f"{DAY}")), **options)
    return made


def test_without_wanted_symbols_every_stored_one_is_chosen(tmp_path: Path) -> None:
    """What is stored is chosen, and whole raw bars need no word but that they have no quotes."""
    made = bench(tmp_path)
    chosen = select_symbols(made.store, DAY, DAY, ())
    assert (chosen.symbols, chosen.absent, chosen.partial_volume) == (("AAA",), (), frozenset())
    assert [note.split(":")[0] for note in chosen.label.notes] == ["Stored bars have no quotes"]
    assert chosen.label.data_hash == made.store.data_hash(DAY, DAY, ("AAA",))


@pytest.mark.parametrize(("wanted", "said"), [(0, False), (2, False), (3, True)])
def test_days_that_strategies_read_and_that_are_not_stored_are_said(tmp_path: Path, wanted: int, *, said: bool) -> None:
    """Two sessions lie before the first one; a strategy that reads three is blind at first."""
    made = StoreFixture(folder=tmp_path)
    made.put(rising_bars("AAA", exchange_sessions("2018-06-28", f"{DAY}")))
    notes = " ".join(select_symbols(made.store, DAY, DAY, (), extra=ExtraFacts(daily_bars=wanted)).label.notes)
    assert ("read up to 3 sessions before each one; stored before the first: 2." in notes) is said
    assert ("stored before the first" in notes) is said


def test_what_is_adjusted_partial_or_absent_is_said(tmp_path: Path) -> None:
    """Notes name adjustments, partial volumes, and wanted symbols without bars, which are left out."""
    chosen = select_symbols(
        bench(tmp_path, adjustment="split", volume="partial").store, DAY, DAY, ("ZZZ", "AAA", "AAA")
    )
    assert (chosen.symbols, chosen.absent, chosen.partial_volume) == (("AAA",), ("ZZZ",), frozenset({"AAA"}))
    notes = " ".join(chosen.label.notes)
    assert "Prices of AAA (split) are adjusted: what was traded is unknown" in notes
    assert "Volumes of AAA are a part of the tape: VOLUME_LIMIT is off there, and MIN_VOLUME_THRESHOLD limits" in notes
    assert "No bars are stored for ZZZ." in notes


def test_partial_volume_is_a_fact_of_each_symbol(tmp_path: Path) -> None:
    """Only the symbols whose volumes are a part of the tape are named, and only where they are requested."""
    made = bench(tmp_path, volume="partial")
    days = exchange_sessions(f"{DAY}", f"{DAY}")
    made.put(rising_bars("BBB", days), rising_bars("CCC", days))
    chosen = select_symbols(made.store, DAY, DAY, ())
    assert (chosen.symbols, chosen.partial_volume) == (("AAA", "BBB", "CCC"), frozenset({"AAA"}))
    assert select_symbols(made.store, DAY, DAY, ("BBB",)).partial_volume == frozenset()


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ("2018-07-03", "the session of 2018-07-03"),
        ("2018-07-06", "3 sessions from 2018-07-03 to 2018-07-06"),
    ],
)
def test_the_sessions_of_a_range_that_are_not_stored_are_said(tmp_path: Path, last: str, words: str) -> None:
    """A request for a week reports that a part of it was not traded; what the exchange did not trade is no gap."""
    chosen = select_symbols(bench(tmp_path).store, DAY, dt.date.fromisoformat(last), ())
    assert f"No bars are stored for {words}: no trading there." in chosen.label.notes


def test_of_several_gaps_the_longest_is_named(tmp_path: Path) -> None:
    """With the number of sessions without bars in the whole range."""
    made = bench(tmp_path)
    made.put(rising_bars("AAA", exchange_sessions("2018-07-05", "2018-07-05")))
    chosen = select_symbols(made.store, DAY, dt.date(2018, 7, 31), ())
    (note,) = chosen.notes_on_gaps
    assert note == (
        "No bars are stored for 19 sessions of the range: no trading there. "
        "The longest of the 2 gaps is 18 sessions from 2018-07-06 to 2018-07-31."
    )
    assert note in chosen.label.notes


@pytest.mark.parametrize(
    ("wanted", "words"),
    [((), "any symbol"), (("Z",), "Z"), (tuple("UVWXYZ"), "U, V, W, X, Y, ...")],
)
def test_a_range_without_bars_is_refused(tmp_path: Path, wanted: tuple[str, ...], words: str) -> None:
    """None of the wanted symbols, or nothing at all, is stored: the sentence names at most five."""
    store = bench(tmp_path).store if wanted else StoreFixture(folder=tmp_path).store
    with pytest.raises(DataError, match=f"No bars of {words} are stored from 2018-07-02 to 2018-07-02"):
        select_symbols(store, DAY, DAY, wanted)
