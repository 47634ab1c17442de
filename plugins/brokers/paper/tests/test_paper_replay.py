"""The replay feed: stored sessions in order, as they were stored, with what they lack said."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tbot_broker_paper import Config
from tbot_broker_paper.broker import PaperBroker

from tbot_core.contracts import FeedRequest, FeedSession, SupportsPartialVolume
from tbot_core.contracts.feed import ExtraFacts
from tbot_core.errors import DataError
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Leg, Order, OrderType, SignalId
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.contracts import Feed
    from tbot_core.model.bars import MinuteSlice

NOW = dt.datetime(2026, 1, 7, 17, 0, tzinfo=dt.UTC)
FIRST, LAST = dt.date(2025, 11, 26), dt.date(2025, 12, 2)
SESSIONS = exchange_sessions("2025-11-26", "2025-12-02")


def _broker() -> PaperBroker:
    return PaperBroker(Config(enable_slippage_model=False), ManualClock(NOW))


def _bench(folder: Path, **options: Any) -> StoreFixture:
    bench = StoreFixture(folder=folder)
    bench.put(rising_bars("BBB", SESSIONS, price=50), rising_bars("AAA", SESSIONS, price=20), **options)
    return bench


def _feed(bench: StoreFixture, broker: PaperBroker | None = None, **wanted: Any) -> Feed:
    request = FeedRequest(kind="replay", first=FIRST, last=LAST, bars=bench.bars, **wanted)
    return (broker or _broker()).feed(request)


def _shown(feed: Feed) -> list[tuple[FeedSession, list[MinuteSlice]]]:
    async def walk() -> list[tuple[FeedSession, list[MinuteSlice]]]:
        whole = [one async for one in feed.sessions() if isinstance(one, FeedSession)]
        return [(one, [minute async for minute in one.minutes()]) for one in whole]

    return asyncio.run(walk())


def test_sessions_come_in_order_across_months_and_half_days(tmp_path: Path) -> None:
    """A half day between two whole days stands in its place, with its own length and its bars."""
    shown = _shown(_feed(_bench(tmp_path)))
    assert [one.session for one, _ in shown] == list(SESSIONS)
    assert [len(minutes) for _, minutes in shown] == [390, 210, 390, 390]
    for one, minutes in shown:
        assert one.symbols == ("AAA", "BBB")
        assert [minute.index for minute in minutes] == list(range(one.session.minutes))
        assert np.allclose(minutes[7].open, [20.07, 50.07])
        assert minutes[7].volume.tolist() == [107, 107]
    assert shown[1][0].day.previous_close.tolist() == [23.9, 53.9]
    assert shown[2][0].day.vix.shape == (1,)


def test_minutes_are_rows_of_the_store_s_arrays(tmp_path: Path) -> None:
    """A minute is a contiguous view, not a copy."""
    ((_, minutes), *_) = _shown(_feed(_bench(tmp_path)))
    assert minutes[0].close.flags.c_contiguous
    assert minutes[0].close.base is not None
    assert minutes[0].close.base is minutes[1].close.base


def test_the_label_says_what_the_bars_are(tmp_path: Path) -> None:
    """Real prices without quotes; raw and consolidated bars need no further word; the hash is the store's."""
    bench = _bench(tmp_path)
    label = _feed(bench).label
    assert (label.name, label.simulated, label.quotes) == ("stored bars", False, False)
    assert len(label.notes) == 1
    assert "have no quotes" in label.notes[0]
    assert label.data_hash == bench.store.data_hash(FIRST, LAST, ("AAA", "BBB"))


def test_what_is_absent_adjusted_or_partial_is_said(tmp_path: Path) -> None:
    """Notes name a symbol without bars, an adjustment, and volumes that are a part of the tape."""
    notes = " ".join(_feed(_bench(tmp_path, adjustment="split", volume="partial"), symbols=("ZZZ", "AAA")).label.notes)
    assert "split" in notes
    assert "VOLUME_LIMIT is off" in notes
    assert "ZZZ" in notes


@pytest.mark.parametrize(("volume", "expected"), [("consolidated", Decimal(10)), ("partial", Decimal(500))])
def test_partial_volume_does_not_cap_fills(tmp_path: Path, volume: str, expected: Decimal) -> None:
    """A tenth of a bar's volume fills where volumes are whole, everything where they are a part of the tape."""
    broker = _broker()
    ((one, minutes), *_) = _shown(_feed(_bench(tmp_path, volume=volume), broker))
    assert isinstance(one, SupportsPartialVolume)
    broker.open_session(one.session, one.symbols, Decimal(100_000), one.partial_volume)
    broker.observe(minutes[0])
    order = Order(
        client_order_id="a",
        signal=SignalId(session=FIRST, strategy="open", symbol="AAA", minute=0, rule="breakout"),
        leg=Leg.ENTRY,
        buy=True,
        quantity=Decimal(500),
        type=OrderType.MARKET,
    )
    asyncio.run(broker.submit(order, SendPermit(order, never_refuse)))
    broker.observe(minutes[1])
    (fill,) = [event.fill for event in asyncio.run(broker.poll()) if event.fill]
    assert fill.quantity == expected


def test_typical_volume_comes_when_asked_for(tmp_path: Path) -> None:
    """The fact is absent unless the request wants it, and it changes the hash."""
    bench = _bench(tmp_path)
    plain, full = _feed(bench), _feed(bench, extra_facts=ExtraFacts(typical_volume=True))
    assert _shown(plain)[-1][0].day.typical_volume is None
    assert _shown(full)[-1][0].day.typical_volume is not None
    assert plain.label.data_hash != full.label.data_hash


@pytest.mark.parametrize("symbols", [(), ("ZZZ",)])
def test_nothing_to_serve_is_said_at_once(tmp_path: Path, symbols: tuple[str, ...]) -> None:
    """A range without any bars of the wanted symbols raises before the first session is asked for."""
    bench = StoreFixture(folder=tmp_path) if not symbols else _bench(tmp_path)
    with pytest.raises(DataError, match=r"No bars of (any symbol|ZZZ) are stored from 2025-11-26 to 2025-12-02"):
        _feed(bench, symbols=symbols)
