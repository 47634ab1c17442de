"""Where the VIX's close of the session before comes from, and that an older one is none."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

import attrs
import numpy as np
import polars as pl
import pytest

from tbot_core.contracts import BrokerCapabilities, Instrument
from tbot_core.engine.session.vix import VixSources, known_vix
from tbot_core.errors import Unavailable
from tbot_core.marketdata.store import reference
from tbot_core.rehearsal.world import DAY, World
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tbot_core.model.day_facts import DayFacts

BEFORE = DAY - dt.timedelta(days=1)


class Broker:
    """A broker that has the index: of one day, of none, or it does not answer."""

    capabilities = BrokerCapabilities(daily_vix=True)

    def __init__(self, value: float | None, day: dt.date = BEFORE, *, silent: bool = False) -> None:
        self.value, self.day, self.silent = value, day, silent

    async def vix_close(self, day: dt.date) -> float | None:
        """The close of a day."""
        if self.silent:
            raise Unavailable("no way")
        return self.value if day == self.day else None


@pytest.fixture
def world() -> Iterator[World]:
    """A world whose feed has a VIX of its own."""
    made = World(6, (), rates={})
    yield made
    made.loop.finish()


def facts(world: World, folder: Path, *brokers: object, vix: float = float("nan")) -> DayFacts:
    """What is known before the bell of the world's session, whose feed says this VIX itself."""
    day = attrs.evolve(world.universe().day, vix=np.array([vix]))
    sources = VixSources(calendar=world.calendar, brokers=brokers, bars=folder)
    found = asyncio.run(sources.add_vix(day, world.session))
    found = asyncio.run(sources.add_kinds(found, world.market.symbols))
    np.testing.assert_array_equal(found.previous_close, day.previous_close)
    return found


class Register(Broker):
    """A broker that knows what is a fund."""

    capabilities = BrokerCapabilities(daily_vix=True, instruments=True)

    async def instruments(self, symbols: Sequence[str]) -> list[Instrument]:
        """The first one is a fund, and the others are stocks."""
        return [Instrument(symbol=one, kind="stock" if number else "fund") for number, one in enumerate(symbols)]


def test_a_broker_says_which_symbols_are_funds(world: World, tmp_path: Path) -> None:
    """Beside the VIX, whichever source that has; without such a broker nothing is said."""
    told = facts(world, tmp_path, Register(17.0), vix=12.0)
    assert told.fund is not None
    assert told.fund.tolist() == [1.0] + [0.0] * (len(world.market.symbols) - 1)
    assert told.vix.ravel()[0] == 12.0
    assert facts(world, tmp_path, Broker(17.0)).fund is None


def stored(folder: Path, day: dt.date, value: float) -> None:
    """A stored close."""
    filesystem.make_folder(folder)
    schema = reference.SCHEMAS[reference.VIX]
    row = {name: [day if name == "date" else value] for name in schema}
    reference.write_table(folder, reference.VIX, pl.DataFrame(row, schema=schema))


def test_the_feeds_own_counts_first(world: World, tmp_path: Path) -> None:
    """No other broker is asked."""
    assert known_vix(facts(world, tmp_path, Broker(99.0, silent=True), vix=17.5)) == 17.5


def test_then_an_enabled_broker_that_has_the_index(world: World, tmp_path: Path) -> None:
    """The first that knows it; one that does not answer, and one without the index, are passed over."""
    stored(tmp_path, BEFORE, 30.0)
    brokers = object(), Broker(1.0, silent=True), Broker(None), Broker(18.25)
    assert known_vix(facts(world, tmp_path, *brokers)) == 18.25


def test_then_the_stored_file(world: World, tmp_path: Path) -> None:
    """Of just the session before."""
    stored(tmp_path, BEFORE, 21.0)
    assert known_vix(facts(world, tmp_path, Broker(None))) == 21.0


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_what_is_no_figure_is_unknown(world: World, tmp_path: Path, value: float) -> None:
    """A broker may say anything."""
    assert known_vix(facts(world, tmp_path, Broker(value))) is None


def test_an_older_one_is_unknown(world: World, tmp_path: Path) -> None:
    """Neither a broker's nor the stored close of two sessions before stands for yesterday's; a damaged file is none."""
    older = BEFORE - dt.timedelta(days=1)
    stored(tmp_path, older, 21.0)
    assert known_vix(facts(world, tmp_path, Broker(22.0, older))) is None
    (table,) = tmp_path.glob("vix-*.parquet")
    table.write_bytes(b"nothing")
    assert known_vix(facts(world, tmp_path)) is None
