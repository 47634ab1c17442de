"""Readers of a store that an import changes meanwhile: they go on with what they named, or say that they cannot."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tbot_core.errors import DataError
from tbot_core.marketdata.store import manifest, parquet, reference
from tbot_core.marketdata.store.selection import select_symbols
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from pathlib import Path

FIRST, LAST = dt.date(2019, 11, 27), dt.date(2020, 1, 3)
WHOLE = exchange_sessions("2019-11-27", "2020-01-03")
VIX = "date,open,high,low,close\n2019-12-02,14,15,13,{}\n2019-12-03,14,15,13,14.5\n"


@pytest.fixture
def bench(tmp_path: Path) -> StoreFixture:
    """AAA and BBB from 2019-11-27 to 2020-01-03, three months of them, and two days of the VIX."""
    made = StoreFixture(folder=tmp_path)
    made.put(rising_bars("AAA", WHOLE), rising_bars("BBB", WHOLE, price=20.0))
    made.put_text(VIX.format(14.25), name="vix.csv")
    return made


def _january(bench: StoreFixture, **options: bool) -> None:
    # AAA at other prices in January, as an import of a second process writes them.
    bench.put(rising_bars("AAA", WHOLE[-2:], price=300.0), **options)


def test_bars_that_an_import_replaces_meanwhile_are_never_served_under_the_old_hash(bench: StoreFixture) -> None:
    """A range whose last month changes after its hash was taken ends in an error, before other prices are served."""
    store = bench.store
    select_symbols(store, FIRST, LAST, ())
    blocks = store.blocks(FIRST, LAST, ["AAA", "BBB"])
    next(blocks)
    _january(bench, replace=True)
    served = []
    with pytest.raises(DataError, match="The bars of 2020-01 changed while they were read") as caught:
        served += [block.month for block in blocks]
    assert "Try again" in caught.value.remedy
    assert "2020-01" not in served


def test_what_is_being_read_stays_as_it_was_named_where_its_files_do(bench: StoreFixture) -> None:
    """Another symbol that comes in, and one's manifest that goes away, leave the bars and their hash what they were."""
    store = bench.store
    named = store.data_hash(FIRST, LAST, ["AAA", "CCC"])
    bench.put(rising_bars("CCC", WHOLE[-2:], price=300.0))
    (bench.bars / "2019-12" / manifest.MANIFEST).unlink()
    assert store.data_hash(FIRST, LAST, ["AAA", "CCC"]) == named
    served = list(store.blocks(FIRST, LAST, ["AAA", "CCC"]))
    assert [block.month for block in served][-1] == "2020-01"
    assert all(np.isnan(block.bars.close[:, 1]).all() for block in served)
    assert not np.isnan(served[-1].bars.close[:, 0]).any()
    assert bench.store.data_hash(FIRST, LAST, ["AAA", "CCC"]) != named


def test_facts_from_elsewhere_are_those_that_the_hash_named(bench: StoreFixture) -> None:
    """A VIX that is corrected while a range is read is the next run's."""
    store = bench.store
    store.data_hash(FIRST, LAST, ["AAA"])
    bench.put_text(VIX.format(99), name="vix.csv", replace=True)
    days = (WHOLE[3].date, WHOLE[3].date)
    assert [block.day.vix[0, 0] for block in store.blocks(*days, ["AAA"])] == [14.25]
    assert [block.day.vix[0, 0] for block in bench.store.blocks(*days, ["AAA"])] == [99]


@pytest.mark.parametrize("stem", ["AAA", "daily"])
def test_a_reader_that_is_overtaken_must_start_again(bench: StoreFixture, stem: str) -> None:
    """A file that the newest manifest names no more is not damage; no new import is asked for."""
    month = manifest.read_month(bench.bars, "2020-01")
    assert month is not None
    _january(bench, replace=True)
    with pytest.raises(DataError, match=r"2020-01 changed while they were read: an import is or was running") as caught:
        parquet.read_daily(bench.bars, month) if stem == "daily" else parquet.read_bars(bench.bars, month, stem)
    assert caught.value.remedy == "Try again after the import."


def test_a_reader_of_facts_that_is_overtaken_must_start_again(
    bench: StoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The VIX goes away between the look at its name and the look into it."""
    old = manifest.read_facts(bench.bars)
    bench.put_text(VIX.format(99), name="vix.csv", replace=True)
    now = manifest.read_facts(bench.bars)
    manifests = iter([old, now])
    monkeypatch.setattr(manifest, "read_facts", lambda _folder: next(manifests))
    with pytest.raises(DataError, match="The facts of vix changed while they were read"):
        reference.read_table(bench.bars, manifest.VIX)
