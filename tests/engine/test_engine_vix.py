"""Where the VIX's close of the session before comes from, and that an older one is none."""

from __future__ import annotations

import asyncio
import datetime as dt
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import polars as pl
import pytest

from tbot_core.contracts import BrokerCapabilities, Check, FeedRequest, InstrumentRules, Plugin
from tbot_core.contracts.series import VIX, DailyValue
from tbot_core.contracts.setting import NoSettings
from tbot_core.contracts.settings import StrategySettings
from tbot_core.engine.session.universe_selection import universe_selector
from tbot_core.engine.session.vix import VixSources, known_vix, strategies_without_vix
from tbot_core.errors import PluginError, Unavailable
from tbot_core.marketdata.store import manifest, reference
from tbot_core.marketdata.store.series import PublishedSeries, merge_series
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.day_facts import DayFacts
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import ExitRules
from tbot_core.model.window import Window
from tbot_core.plugins.call_guard import CallGuard
from tbot_core.plugins.discovery import EntryPointInfo
from tbot_core.plugins.loader import LoadedPlugin
from tbot_core.rehearsal.bot import ScriptedStrategy
from tbot_core.rehearsal.world import DAY, World
from tbot_core.system import filesystem
from tbot_core.testing.trades import rules
from tbot_core.trading.proposals import ActiveStrategy
from tbot_core.trading.universe import VixClose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tbot_core.contracts import SupportsDailyVix

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


def facts(
    world: World,
    folder: Path,
    *brokers: object,
    vix: float = float("nan"),
    others: tuple[SupportsDailyVix, ...] = (),
) -> DayFacts:
    """What is known before the bell of the world's session, whose feed says this VIX itself."""
    day = attrs.evolve(world.universe().day, vix=np.array([vix]))
    sources = VixSources(calendar=world.calendar, brokers=brokers, bars=folder, others=others)
    found = asyncio.run(sources.add_vix(day, world.session))
    found = asyncio.run(sources.add_kinds(found, world.market.symbols))
    np.testing.assert_array_equal(found.previous_close, day.previous_close)
    return found


class Register(Broker):
    """A broker that knows what is a fund."""

    capabilities = BrokerCapabilities(daily_vix=True, instruments=True)

    async def instruments(self, symbols: Sequence[str]) -> list[InstrumentRules]:
        """The first one is a fund, and the others are stocks."""
        return [InstrumentRules(symbol=one, kind="stock" if number else "fund") for number, one in enumerate(symbols)]


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
    schema = reference.SCHEMAS[manifest.VIX]
    row = {name: [day if name == "date" else value] for name in schema}
    reference.write_table(folder, manifest.VIX, pl.DataFrame(row, schema=schema))


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


class Offer:
    """A filter that knows the VIX; it may not answer, or fail."""

    def __init__(self, value: float | None, fault: Exception | None = None) -> None:
        self.value, self.fault = value, fault

    async def vix_close(self, _day: dt.date) -> float | None:
        """The close of any day."""
        if self.fault is not None:
            raise self.fault
        return self.value


@pytest.mark.parametrize("fault", [Unavailable("no way"), PluginError("It failed."), TimeoutError()])
def test_filters_and_extensions_are_asked_after_the_brokers_and_before_the_stored_file(
    world: World, tmp_path: Path, fault: Exception
) -> None:
    """One that fails or does not answer is passed over."""
    stored(tmp_path, BEFORE, 21.0)
    offers = Offer(1.0, fault), Offer(None), Offer(19.5)
    assert known_vix(facts(world, tmp_path, Broker(None), others=offers)) == 19.5
    assert known_vix(facts(world, tmp_path, Broker(18.25), others=offers)) == 18.25
    assert known_vix(facts(world, tmp_path, others=offers[:2])) == 21.0


def extension(name: str, made: object) -> tuple[LoadedPlugin, object]:
    """An extension of a run."""
    entry = EntryPointInfo(kind="extension", name=name, target="acme", dist="acme", version="1", requires=())
    offered = Plugin(name=name, summary="An index", config=NoSettings, create=lambda _config, _context: made)
    return LoadedPlugin(entry=entry, plugin=offered, subject=object()), made


def test_an_extension_supplies_the_vix(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After the brokers; one that fails is logged and passed over, and one without the method is not asked."""
    trading = SimpleNamespace(data_source="", broker_name="acme")
    assembly: Any = SimpleNamespace(
        settings=SimpleNamespace(instance=SimpleNamespace(bars=tmp_path), trading=trading),
        calendar=ExchangeCalendar(),
        clock=None,
        rules=lambda _venue: rules(filters={}),
        entrants=None,
        call_guard=CallGuard(strict=False),
        extensions=(
            extension("hooks", object()),
            extension("broken", Offer(None, ValueError("no"))),
            extension("index", Offer(16.5)),
        ),
    )
    made = universe_selector(assembly, FeedRequest(kind="live"), BrokerCapabilities(), [Broker(None)])
    day = DayFacts.unknown(1)
    found = asyncio.run(made.vix.add_vix(day, ExchangeCalendar().next(DAY)))
    assert known_vix(found) == 16.5
    assert "extension/broken" in caplog.text


@pytest.mark.parametrize(
    ("brokers", "others", "own", "source"),
    [
        ((Broker(18.25),), (Offer(19.5),), 17.5, "acme"),
        ((Broker(None), Broker(18.25)), (Offer(19.5),), float("nan"), "Broker"),
        ((Broker(None),), (Offer(19.5),), float("nan"), "Offer"),
        ((), (Offer(None),), float("nan"), "cboe"),
    ],
)
def test_the_source_of_the_vix_is_named_in_the_order_of_the_search(
    world: World, tmp_path: Path, brokers: tuple[Broker, ...], others: tuple[Offer, ...], own: float, source: str
) -> None:
    """The data source, another broker, a filter or extension, then the store with the source of the download."""
    found = PublishedSeries(name=VIX, source="cboe", values=[DailyValue(day=BEFORE, value=21.0)])
    merge_series(tmp_path, ExchangeCalendar(), found, BEFORE + dt.timedelta(days=1))
    sources = VixSources(calendar=world.calendar, brokers=brokers, bars=tmp_path, others=others)
    day = attrs.evolve(world.universe().day, vix=np.array([own]))
    known = sources.close_of(asyncio.run(sources.add_vix(day, world.session)), world.session, "acme")
    assert known is not None
    value = known_vix(facts(world, tmp_path, *brokers, vix=own, others=others))
    assert (known.day, known.source, known.value) == (BEFORE, source, value)


def test_an_imported_close_is_a_stored_one_and_an_unknown_one_has_no_source(world: World, tmp_path: Path) -> None:
    """As READY and `tbot status` say it."""
    sources = VixSources(calendar=world.calendar, brokers=(), bars=tmp_path)
    day = attrs.evolve(world.universe().day, vix=np.array([float("nan")]))
    assert sources.close_of(asyncio.run(sources.add_vix(day, world.session)), world.session, "acme") is None
    stored(tmp_path, BEFORE, 21.0)
    known = sources.close_of(asyncio.run(sources.add_vix(day, world.session)), world.session, "acme")
    assert known == VixClose(value=21.0, day=BEFORE, source="stored")


class WithVix(ScriptedStrategy):
    """A strategy that needs the VIX."""

    def screen(self, day: DayFacts) -> Sequence[Check]:
        """Unknown denies."""
        value = np.broadcast_to(day.vix, day.previous_close.shape)
        low, unknown = Reason.VIX_LOW, Reason.VIX_UNKNOWN
        return [Check(name="vix", value=value, low=15.0, below=low, above=low, unknown=unknown, required=True)]


@pytest.mark.parametrize(("vix", "silent"), [(float("nan"), ("needs",)), (10.0, ())])
def test_the_strategies_that_an_unknown_vix_silences_are_named(
    world: World, vix: float, silent: tuple[str, ...]
) -> None:
    """Not those that need none, and not for a VIX that is low."""
    window = Window(start=1, analysis=1, breakout=2, monitoring=2)
    entrants = [
        ActiveStrategy(
            name=name,
            rank=0,
            strategy=make(window=window, calls=(), exits=ExitRules(leave=window.leave), distance=0.02),
            frame=StrategySettings(),
        )
        for name, make in (("needs", WithVix), ("other", ScriptedStrategy))
    ]
    universe = world.universe()
    universe = attrs.evolve(universe, day=attrs.evolve(universe.day, vix=np.array([vix])))
    assert strategies_without_vix(entrants, rules(filters={}), universe, 390) == silent


@pytest.mark.parametrize("older", [BEFORE - dt.timedelta(days=1), BEFORE - dt.timedelta(days=3), DAY])
def test_f08_a_stale_vix_is_unknown_also_after_a_holiday(world: World, tmp_path: Path, older: dt.date) -> None:
    """Only the close of just the session before counts; after a holiday that is the one before the holiday."""
    stored(tmp_path, older, 21.0)
    assert known_vix(facts(world, tmp_path)) is None
    before = ExchangeCalendar().session(dt.date(2026, 11, 25))
    after = ExchangeCalendar().session(dt.date(2026, 11, 27))  # Thanksgiving lies between
    assert before is not None
    assert after is not None
    stored(tmp_path, before.date, 22.0)
    day = attrs.evolve(world.universe().day, vix=np.array([np.nan]))
    sources = VixSources(calendar=ExchangeCalendar(), brokers=(), bars=tmp_path)
    assert known_vix(asyncio.run(sources.add_vix(day, after))) == 22.0


@pytest.mark.parametrize("others", [set[int](), {2}, {0, 1, 2, 3, 4}])
@pytest.mark.parametrize(
    ("today", "before"),
    [
        (dt.date(2026, 1, 6), dt.date(2026, 1, 5)),
        (dt.date(2026, 1, 9), dt.date(2026, 1, 8)),
        (dt.date(2026, 1, 20), dt.date(2026, 1, 16)),  # a Tuesday after a holiday
    ],
)
def test_the_session_before_is_the_exchanges_not_the_bots(
    world: World, tmp_path: Path, others: set[int], today: dt.date, before: dt.date
) -> None:
    """The VIX is of the exchange's last session, whether or not TRADING_DAYS excludes that weekday."""
    calendar = ExchangeCalendar(weekdays=frozenset({today.weekday(), *others}))
    session = calendar.session(today)
    assert session is not None
    day = attrs.evolve(world.universe().day, vix=np.array([np.nan]))
    sources = VixSources(calendar=calendar, brokers=(Broker(17.0, before),), bars=tmp_path)
    assert known_vix(asyncio.run(sources.add_vix(day, session))) == 17.0


def test_an_older_one_is_unknown(world: World, tmp_path: Path) -> None:
    """Neither a broker's nor the stored close of two sessions before stands for yesterday's; a damaged file is none."""
    older = BEFORE - dt.timedelta(days=1)
    stored(tmp_path, older, 21.0)
    assert known_vix(facts(world, tmp_path, Broker(22.0, older))) is None
    (table,) = tmp_path.glob("vix-*.parquet")
    table.write_bytes(b"nothing")
    assert known_vix(facts(world, tmp_path)) is None
