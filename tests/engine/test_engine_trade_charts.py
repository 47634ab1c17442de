"""The charts of a run's trades: where their bars come from, and what a report says where they cannot be had."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest

from tbot_core.contracts import FeedRequest, FeedSession
from tbot_core.engine.assembly import SIMULATOR, Assembly, feed_source
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.trade_charts import BarSource, StoredBars, draw_stored_trades, draw_trades
from tbot_core.marketdata.bar_aggregator import BarAmendment, BarArrival
from tbot_core.marketdata.received_bars import RecordedMinute, RecordingHeader, SessionRecorder
from tbot_core.marketdata.store.store import BarStore
from tbot_core.model.bars import MinuteSlice
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import ExitReason, Side, Trade, stock
from tbot_core.model.window import Window
from tbot_core.reports.trade_levels import TradeLevels, key_of
from tbot_core.system import filesystem
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tbot_core.model.bars import Bars
    from tbot_core.model.day_facts import DayFacts
    from tbot_core.model.signals import Signals, Trigger
    from tbot_core.trading.proposals import ActiveStrategy

DAY = dt.date(2018, 7, 2)
(SESSION,) = exchange_sessions(f"{DAY}", f"{DAY}")
COLUMNS = ("open", "high", "low", "close", "volume", "vwap")
CLOCK = ManualClock(dt.datetime(2026, 1, 5, tzinfo=dt.UTC))
LEVELS = TradeLevels(minute=24, rule="breakout", stops=((SESSION.moment(25), Decimal("19.9")),))


@pytest.fixture
def assembly(tmp_path: Path) -> Assembly:
    """An instance with one session of two stocks that rise a cent a minute."""
    bench = StoreFixture(folder=tmp_path / "data")
    bench.folder.mkdir()
    bench.put(rising_bars("AAA", [SESSION], price=20.0), rising_bars("BBB", [SESSION], price=50.0))
    lines = ("STRATEGY_SEQUENCE=open", "FILTERS=none", "BROKER_NAME=PAPER", "STRAT_OPEN_BUFFER=0")
    filesystem.write_atomic(tmp_path / ".env_bot", "\n".join(lines).encode())
    return assemble(tmp_path, "replay", CLOCK)


def trade(symbol: str = "AAA", strategy: str = "open", day: dt.date = DAY) -> Trade:
    """A trade in the opening window."""
    (session,) = exchange_sessions(f"{day}", f"{day}")
    return Trade(
        strategy=strategy,
        instrument=stock(symbol),
        side=Side.LONG,
        quantity=Decimal(10),
        entry_time=session.moment(25),
        entry_price=Decimal("20.25"),
        exit_time=session.moment(50),
        exit_price=Decimal("20.50"),
        fees=Decimal(0),
        pnl=Decimal("2.50"),
        exit_reason=ExitReason.TIME,
    )


def request(assembly: Assembly, kind: Any = "replay") -> FeedRequest:
    """A request for the day's stored bars."""
    bars = assembly.settings.instance.bars
    return FeedRequest(kind=kind, first=DAY, last=DAY, bars=bars, calendar=assembly.calendar)


def stored(assembly: Assembly) -> StoredBars:
    """The stored bars of both stocks."""
    store = BarStore(folder=assembly.settings.instance.bars, calendar=assembly.calendar)
    return StoredBars(store=store, symbols=("AAA", "BBB"))


def draw(assembly: Assembly, source: BarSource, *trades: Trade) -> Any:
    """The charts of these trades of a run, with levels for each."""
    return asyncio.run(draw_trades(assembly, source, trades, {key_of(one): LEVELS for one in trades}))


def names(document: Any) -> list[tuple[str, str]]:
    """Kind and name of the lines of a chart."""
    return [(kind, name) for kind, name, *_ in document["l"]]


def test_stored_bars_have_the_lines_of_the_strategy(assembly: Assembly) -> None:
    """The opening range is drawn with its bars; a trigger without a buffer is the range itself, and drawn once."""
    found = draw(assembly, BarSource(request=request(assembly)), trade())
    (document,) = found.documents.values()
    assert found.missing == ""
    assert names(document) == [("base", "opening range high"), ("base", "opening range low")]
    high, low = (line[4] for line in document["l"])
    assert (low, high) == ([1995], [2024])  # of 20 bars that open a cent higher each, from 20.00 on, 5 cents around


def test_a_level_beyond_its_base_is_drawn_for_the_side_of_the_trade(tmp_path: Path, assembly: Assembly) -> None:
    """With a buffer the level of the trade's side is a line of its own."""
    path = tmp_path / ".env_bot"
    filesystem.write_atomic(path, path.read_bytes().replace(b"BUFFER=0", b"BUFFER=0.001"))
    buffered = assemble(tmp_path, "replay", CLOCK)
    (document,) = draw(buffered, BarSource(request=request(assembly)), trade()).documents.values()
    assert names(document)[-1] == ("trigger", "breakout trigger")
    assert len(names(document)) == 3


async def record(folder: Path, source: FeedSession) -> None:
    """Record a session as it is received, with the bars of minute 30 a minute late."""
    header = RecordingHeader(session=SESSION, symbols=source.symbols, day=source.day)
    recorder, before = SessionRecorder.open(folder, header), None
    async for minute in source.minutes():
        late: tuple[BarAmendment, ...] = ()
        kept = minute
        if minute.index == 30:
            kept = MinuteSlice(index=30, **dict.fromkeys(COLUMNS, np.full(2, np.nan)))
        if minute.index == 31 and before is not None:
            late = tuple(amendment(before, row) for row in range(2))
        recorder.append(RecordedMinute(minute=kept, late=late, at=CLOCK.now()))
        before = minute


def amendment(minute: MinuteSlice, row: int) -> BarAmendment:
    """The bar of a row that was missing."""
    values = np.array([getattr(minute, name)[row] for name in COLUMNS])
    return BarAmendment(minute=minute.index, row=row, values=values, arrival=BarArrival.LATE)


async def first_session(assembly: Assembly, asked: FeedRequest) -> FeedSession:
    """The first session of the simulator's feed."""
    async for source in feed_source(assembly.broker(), SIMULATOR).feed(asked).sessions():
        if isinstance(source, FeedSession):
            return source
    raise AssertionError


def test_received_bars_draw_the_same_chart(tmp_path: Path, assembly: Assembly) -> None:
    """A run in real time reads what it received, late bars among it."""
    folder = tmp_path / "received"
    asyncio.run(record(folder, asyncio.run(first_session(assembly, request(assembly)))))
    stored = draw(assembly, BarSource(request=request(assembly)), trade())
    received = draw(assembly, BarSource(request=request(assembly, "live"), received=folder), trade())
    assert received.documents == stored.documents


def test_a_demo_reads_its_feed_once_more(assembly: Assembly) -> None:
    """The sessions of a simulated feed come again; one without a trade is passed over."""
    asked = FeedRequest(kind="demo", first=DAY, sessions=2, seed=1, calendar=assembly.calendar)
    feed = feed_source(assembly.broker(), SIMULATOR).feed(asked)
    symbol = asyncio.run(first_session(assembly, asked)).symbols[0]
    found = draw(assembly, BarSource(request=asked, feed=feed), trade(symbol))
    assert found.missing == ""
    assert draw(assembly, BarSource(request=asked), trade(symbol)).documents == {}


@pytest.mark.parametrize("kind", ["replay", "live", "demo"])
def test_bars_that_cannot_be_had_are_missed_in_one_sentence(tmp_path: Path, assembly: Assembly, kind: str) -> None:
    """Without its bars a trade has no chart, and the report says why; it never fails."""
    source = {
        "replay": BarSource(request=attrs.evolve(request(assembly), bars=tmp_path / "none")),
        "live": BarSource(request=request(assembly, "live"), received=tmp_path / "none"),
        "demo": BarSource(request=request(assembly, "demo")),
    }[kind]
    found = draw(assembly, source, trade(), trade("BBB"))
    assert found.documents == {}
    assert found.missing.startswith("2 trades have no price chart: ")
    assert ("No bars of AAA, BBB are stored" in found.missing) == (kind == "replay")
    assert ("the bars are no longer stored." in found.missing) == (kind != "replay")


def test_stored_trades_without_bars_are_missed_too(tmp_path: Path, assembly: Assembly) -> None:
    """A backtest's charts are missed with the same words; a request without a store has none."""
    gone = attrs.evolve(stored(assembly), store=BarStore(folder=tmp_path / "none", calendar=assembly.calendar))
    assert "1 trade has no price chart: No bars of AAA" in draw_stored_trades(assembly, gone, [trade()], {}).missing
    without = BarSource(request=attrs.evolve(request(assembly), bars=None))
    assert "no longer stored" in draw(assembly, without, trade()).missing


def test_a_trade_of_a_symbol_or_strategy_that_is_gone_is_drawn_as_far_as_possible(assembly: Assembly) -> None:
    """A strategy that the settings no longer run has bars without lines; a symbol without bars has no chart."""
    trades = [trade(strategy="other"), trade("CCC")]
    found = draw_stored_trades(assembly, stored(assembly), trades, {})
    ((key, document),) = found.documents.items()
    assert key == key_of(trades[0])
    assert document["l"] == []
    assert found.missing == "1 trade has no price chart: the bars are no longer stored."


@attrs.frozen
class Broken:
    """A strategy whose triggers fail."""

    window: Window

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:
        """It is not called."""
        raise NotImplementedError

    def triggers(self, bars: Bars, day: DayFacts) -> Sequence[Trigger]:  # noqa: ARG002
        """Fail."""
        message = "boom"
        raise ZeroDivisionError(message)


def test_a_strategy_that_fails_costs_its_charts_and_nothing_else(assembly: Assembly) -> None:
    """What only shows something never ends a run: the report names the fault."""
    (active,) = assembly.entrants(SESSION)
    broken = attrs.evolve(active, strategy=Broken(active.window))
    placed: dict[tuple[Window, ...], tuple[ActiveStrategy, ...]] = dict.fromkeys(assembly._placed, (broken,))
    failing = attrs.evolve(assembly, placed=placed)
    found = draw_stored_trades(failing, stored(assembly), [trade()], {key_of(trade()): LEVELS})
    assert found.documents == {}
    assert found.missing == "1 trade has no price chart: ZeroDivisionError: boom"


def test_a_running_price_is_drawn_over_the_whole_chart(tmp_path: Path, assembly: Assembly) -> None:
    """The VWAP, from which `mid` measures, is shown before its window's entry phase and after it."""
    path = tmp_path / ".env_bot"
    filesystem.write_atomic(path, path.read_bytes().replace(b"SEQUENCE=open", b"SEQUENCE=mid"))
    reverting = assemble(tmp_path, "replay", CLOCK)
    (active,) = reverting.entrants(SESSION)
    entered = SESSION.moment(active.window.entry + 1)
    held = attrs.evolve(trade(strategy="mid"), entry_time=entered, exit_time=SESSION.moment(active.window.leave))
    levels = {key_of(held): attrs.evolve(LEVELS, minute=active.window.entry, rule="reversion")}
    (document,) = draw_stored_trades(reverting, stored(assembly), [held], levels).documents.values()
    assert names(document) == [("base", "VWAP"), ("trigger", "reversion trigger")]
    (_, _, start, stop, _), (_, _, begins, ends, _) = document["l"]
    assert start == document["m"] < begins == active.window.entry
    assert stop == document["m"] + len(document["b"]) // 4 > ends
