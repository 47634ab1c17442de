"""What the store serves: blocks, sessions, symbols, and the hash that names them."""

from __future__ import annotations

import datetime as dt
import json
import tempfile
from pathlib import Path

import attrs
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbot_core.contracts.feed import ExtraFacts
from tbot_core.errors import DataError
from tbot_core.marketdata.store import parquet
from tbot_core.marketdata.store.selection import select_symbols
from tbot_core.marketdata.store.store import BarBlock, BarStore
from tbot_core.model.bars import FIELDS
from tbot_core.model.calendar import ClosedDay, ExchangeCalendar
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars, walk_sessions

ENTRY_OF_NO_KIND = {"file": "f", "sha256": "s", "adjustment": "none", "volume": "partial", "sources": []}


def day(text: str) -> dt.date:
    """An ISO date."""
    return dt.date.fromisoformat(text)


@pytest.fixture
def bench(tmp_path: Path) -> StoreFixture:
    """An empty store."""
    return StoreFixture(folder=tmp_path)


@pytest.fixture
def december(bench: StoreFixture) -> StoreFixture:
    """Two symbols from 2019-11-27 to 2020-01-03, with the half days 2019-11-29 and 2019-12-24."""
    whole = exchange_sessions("2019-11-27", "2020-01-03")
    bench.put(rising_bars("AAA", whole), rising_bars("BBB", whole[3:], price=20.0))
    return bench


def test_blocks_are_a_month_and_a_session_length_each(december: StoreFixture) -> None:
    """Half days are blocks of their own, and within a month the block that begins first comes first."""
    blocks = list(december.store.blocks(day("2019-11-01"), day("2020-01-31"), ["BBB", "AAA"]))
    shapes = [(it.month, it.sessions[0].minutes, len(it.sessions), it.bars.symbols) for it in blocks]
    both = ("AAA", "BBB")
    assert shapes == [
        ("2019-11", 390, 1, both),
        ("2019-11", 210, 1, both),
        ("2019-12", 390, 20, both),
        ("2019-12", 210, 1, both),
        ("2020-01", 390, 2, both),
    ]


def test_walking_blocks_goes_by_date(december: StoreFixture) -> None:
    """A half day comes between the full days around it, though its block comes after theirs."""
    store = december.store
    walked = [
        block.sessions[index].date
        for block, index in walk_sessions(store.blocks(day("2019-11-01"), day("2020-01-31"), ["AAA"]))
    ]
    assert walked == [session.date for session in exchange_sessions("2019-11-27", "2020-01-03")]


def test_bars_stand_in_their_session_minute_and_symbol(december: StoreFixture) -> None:
    """Authors see (session, symbol, minute), memory holds (minute, session, symbol) without a gap."""
    block = next(december.store.blocks(day("2019-12-02"), day("2019-12-31"), ["AAA", "BBB"]))
    assert block.bars.open.shape == (20, 2, 390)
    assert np.array_equal(block.bars.open[7, 0], np.round(100 + np.arange(390) / 100, 4))
    assert np.array_equal(block.bars.volume[7, 1], 100.0 + np.arange(390))
    assert np.isnan(block.bars.open[0, 1]).all()
    for name in FIELDS:
        assert block.bars.field(name).flags.c_contiguous
        assert block.bars.field(name).dtype == np.float64
    assert np.isnan(block.bars.field("vwap")).all()


def test_a_symbol_without_bars_keeps_its_place(december: StoreFixture) -> None:
    """Every block has all the symbols that were asked for; one that has none is NaN in all of them."""
    blocks = [*december.store.blocks(day("2019-11-27"), day("2019-12-06"), ["AAA", "MMM", "BBB"])]
    assert sum(len(block.sessions) for block in blocks) == 7
    for block in blocks:
        assert block.bars.symbols == ("AAA", "BBB", "MMM")
        assert not np.isnan(block.bars.close[:, 0]).all()
        assert np.isnan(block.bars.close[:, 2]).all()


def test_the_clock_change_moves_no_bar_against_the_bell(bench: StoreFixture) -> None:
    """The first bar of each session stands at minute 0 before and after 2018-03-11."""
    bench.put(rising_bars("AAA", exchange_sessions("2018-03-08", "2018-03-13")))
    (block,) = bench.store.blocks(day("2018-03-01"), day("2018-03-31"), ["AAA"])
    assert block.bars.open[:, 0, 0].tolist() == [100.0] * 4
    assert not np.isnan(block.bars.open).any()


def test_a_feeds_own_vwap_is_served(bench: StoreFixture) -> None:
    """The average of a bar comes back where the source had one; a zero of a feed that has none does not."""
    frame = rising_bars("AAA", exchange_sessions("2019-12-02", "2019-12-02"), minutes=3)
    bench.put(frame.with_columns(vwap=pl.Series([100.011, 0.0, None])))
    (block,) = bench.store.blocks(day("2019-12-02"), day("2019-12-02"), ["AAA"])
    assert block.bars.field("vwap")[:2, 0, 0].tolist() == pytest.approx([100.011, np.nan], nan_ok=True)


def test_symbols_and_sessions_are_those_with_bars(december: StoreFixture) -> None:
    """A range names what has a bar in it, and nothing else."""
    store = december.store
    assert store.symbols(day("2019-11-27"), day("2019-11-29")) == ("AAA",)
    assert store.symbols(day("2019-11-27"), day("2019-12-03")) == ("AAA", "BBB")
    assert store.symbols(day("2018-01-01"), day("2018-12-31")) == ()
    (only,) = store.sessions(day("2019-11-01"), day("2019-12-03"), ["BBB"])
    assert only.date == day("2019-12-03")
    assert [session.date for session in store.sessions(day("2019-11-01"), day("2019-11-30"))] == [
        day("2019-11-27"),
        day("2019-11-29"),
    ]


def test_an_empty_store_has_nothing(bench: StoreFixture) -> None:
    """A folder that does not exist is a store without bars; reading it makes nothing."""
    assert bench.store.symbols(day("2019-01-01"), day("2019-12-31")) == ()
    assert bench.store.sessions(day("2019-01-01"), day("2019-12-31")) == ()
    assert bench.store.kinds(day("2019-01-01"), day("2019-12-31"), ["AAA"]) == ()
    assert not bench.bars.exists()


@pytest.mark.parametrize(
    ("symbols", "words"),
    [
        (["MMM"], "No bars of MMM"),
        ([], "No bars of any symbol"),
        (list("ABCDEFG"), "No bars of A, B, C, D, E, ... are"),
    ],
)
def test_a_range_without_bars_is_refused_at_once(december: StoreFixture, symbols: list[str], words: str) -> None:
    """Nothing is served in silence: the call itself fails, and names what it looked for."""
    with pytest.raises(DataError, match=words):
        december.store.blocks(day("2019-12-01"), day("2019-12-31"), symbols)
    with pytest.raises(DataError, match="are stored from 2019-12-01 to 2019-12-31"):
        december.store.data_hash(day("2019-12-01"), day("2019-12-31"), symbols)


@pytest.mark.parametrize(
    ("first", "last", "words", "remedy"),
    [
        ("2019-11-28", "2019-11-28", "The market is closed on 2019-11-28 (Thanksgiving", "`tbot calendar`"),
        ("2019-11-30", "2019-12-01", "The market is closed from 2019-11-30 to 2019-12-01 (weekend).", "`tbot cal"),
        (
            "2018-01-02",
            "2018-01-02",
            "No bars of any symbol are stored from 2018-01-02",
            "from 2019-11-27 to 2020-01-03.",
        ),
        ("1999-01-02", "1999-01-04", "No bars of any symbol are stored from 1999-01-02 to", "Stored are sessions"),
    ],
)
def test_an_empty_range_says_whether_the_market_was_closed(
    december: StoreFixture, first: str, last: str, words: str, remedy: str
) -> None:
    """A range of closed days names why, any other the sessions that are stored."""
    with pytest.raises(DataError) as caught:
        december.store.data_hash(day(first), day(last), [])
    assert words in caught.value.message
    assert remedy in caught.value.remedy


def test_an_empty_store_says_how_to_fill_it(bench: StoreFixture) -> None:
    """Without any bars the error names no sessions, but the commands that store some."""
    with pytest.raises(DataError) as caught:
        select_symbols(bench.store, day("2019-11-27"), day("2019-11-27"), ())
    assert caught.value.remedy.startswith("See `tbot data list`; `tbot data download`")


def test_the_owners_calendar_leaves_days_out(december: StoreFixture) -> None:
    """TRADING_DAYS and closures cut what is served, not what the facts look back on."""
    calendar = ExchangeCalendar(overrides={day("2019-12-05"): ClosedDay(reason="storm")}, weekdays=[2, 3])
    store = attrs.evolve(december.store, calendar=calendar)
    (block,) = store.blocks(day("2019-12-02"), day("2019-12-11"), ["AAA"])
    assert [session.date.day for session in block.sessions] == [4, 11]
    assert block.day.previous_close[0, 0] == pytest.approx(103.9)


def test_the_hash_names_content_and_facts(december: StoreFixture, tmp_path: Path) -> None:
    """The same bars imported otherwise give the same hash; another bar, fact, symbol or range gives another."""
    first, last = day("2019-12-02"), day("2019-12-31")
    known = december.store.data_hash(first, last, ["AAA", "BBB"])
    (tmp_path / "other").mkdir()
    other = StoreFixture(folder=tmp_path / "other")
    whole = exchange_sessions("2019-11-27", "2020-01-03")
    other.put(pl.concat([rising_bars("BBB", whole[3:], price=20.0), rising_bars("AAA", whole)]))
    assert other.store.data_hash(first, last, ["BBB", "AAA"]) == known
    assert december.store.data_hash(first, last, ["AAA"]) != known
    assert december.store.data_hash(first, day("2019-12-30"), ["AAA", "BBB"]) != known
    assert december.store.data_hash(first, last, ["AAA", "BBB"], extra=ExtraFacts(typical_volume=True)) != known
    other.put_text("date,open,high,low,close\n2019-12-02,14,15,13,14.5\n", name="vix.csv")
    assert other.store.data_hash(first, last, ["AAA", "BBB"]) != known


def test_the_hash_sees_a_changed_bar_and_a_changed_look_back(december: StoreFixture) -> None:
    """One cent in one bar changes the hash, also where only the facts of the range depend on it."""
    inside, after = [
        december.store.data_hash(day(first), day(last), ["AAA"])
        for first, last in (("2019-12-02", "2019-12-06"), ("2019-12-09", "2019-12-13"))
    ]
    bar = rising_bars("AAA", exchange_sessions("2019-12-06", "2019-12-06"), price=50.0)[-1:]
    december.put(bar, replace=True)
    assert december.store.data_hash(day("2019-12-02"), day("2019-12-06"), ["AAA"]) != inside
    assert december.store.data_hash(day("2019-12-09"), day("2019-12-13"), ["AAA"]) != after


def test_kinds_are_reported(bench: StoreFixture) -> None:
    """The banner's words on adjustment and volume come from the imports."""
    bench.put(rising_bars("AAA", exchange_sessions("2019-12-02", "2019-12-02")), adjustment="split", volume="partial")
    bench.put(rising_bars("BBB", exchange_sessions("2019-12-02", "2019-12-02")))
    both = bench.store.kinds(day("2019-12-02"), day("2019-12-02"), ["AAA", "BBB"])
    assert both == (("raw", "consolidated"), ("split", "partial"))
    assert bench.store.kinds(day("2019-12-02"), day("2019-12-02"), ["BBB"]) == (("raw", "consolidated"),)
    assert bench.store.adjusted(day("2019-12-02"), day("2019-12-02"), ["AAA", "BBB"]) == ("AAA (split)",)


def stored_file(bench: StoreFixture, stem: str) -> Path:
    """The one stored file whose name begins so."""
    (path,) = bench.bars.glob(f"*/{stem}-*.parquet")
    return path


@pytest.mark.parametrize("damage", ["rubbish", "cut", "foreign", "empty"])
@pytest.mark.parametrize("stem", ["AAA", "daily"])
def test_a_damaged_file_is_named(bench: StoreFixture, stem: str, damage: str) -> None:
    """Bytes that are not those that were stored are never served, whatever they are."""
    bench.put(rising_bars("AAA", exchange_sessions("2019-12-02", "2019-12-03")))
    path = stored_file(bench, stem)
    data = path.read_bytes()
    foreign = parquet.parquet_bytes(pl.DataFrame({"a": [1]}))
    path.write_bytes({"rubbish": b"rubbish", "cut": data[:-20], "foreign": foreign, "empty": b""}[damage])
    with pytest.raises(DataError, match=f"{stem}-.*is corrupt"):
        list(bench.store.blocks(day("2019-12-02"), day("2019-12-03"), ["AAA"]))


def test_a_missing_file_is_named(bench: StoreFixture) -> None:
    """A file that the manifest names and that is gone is said to be missing."""
    bench.put(rising_bars("AAA", exchange_sessions("2019-12-02", "2019-12-03")))
    stored_file(bench, "AAA").unlink()
    with pytest.raises(DataError, match="is missing"):
        list(bench.store.blocks(day("2019-12-02"), day("2019-12-03"), ["AAA"]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 2}',
        '{"format": 1, "daily": "d", "daily_sha256": "s", "symbols": {"A": {}}}',
        '{"format": 1, "daily": "d", "daily_sha256": "s", "symbols": {"A": ["adjustment"]}}',
        json.dumps({"format": 1, "daily": "d", "daily_sha256": "s", "symbols": {"A": ENTRY_OF_NO_KIND}}),
    ],
)
def test_a_manifest_that_cannot_be_understood_is_named(bench: StoreFixture, text: str) -> None:
    """A damaged manifest, or a newer tbot's, is refused with its path."""
    bench.put(rising_bars("AAA", exchange_sessions("2019-12-02", "2019-12-03")))
    (bench.bars / "2019-12" / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json is damaged or of a newer tbot"):
        bench.store.symbols(day("2019-12-02"), day("2019-12-03"))


def test_a_corrupt_table_of_facts_is_named(december: StoreFixture) -> None:
    """A VIX that is not the one that was imported decides nothing."""
    december.put_text("date,open,high,low,close\n2019-12-02,14,15,13,14.5\n", name="vix.csv")
    (vix,) = december.bars.glob("vix-*.parquet")
    vix.write_bytes(vix.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"vix-\w+\.parquet is corrupt"):
        list(december.store.blocks(day("2019-12-02"), day("2019-12-06"), ["AAA"]))


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2, "tables": {}}', '{"format": 1, "tables": {"x": {}}}'])
def test_a_damaged_manifest_of_facts_is_named(december: StoreFixture, text: str) -> None:
    """Facts are refused rather than taken as unknown."""
    (december.bars / "facts.json").write_text(text)
    with pytest.raises(DataError, match=r"facts\.json is damaged or of a newer tbot"):
        list(december.store.blocks(day("2019-12-02"), day("2019-12-06"), ["AAA"]))


def test_bars_after_an_early_close_that_became_known_are_left_out(bench: StoreFixture) -> None:
    """A closure that the owner adds afterwards hides bars that were stored before."""
    bench.put(rising_bars("AAA", exchange_sessions("2019-12-02", "2019-12-04")))
    calendar = ExchangeCalendar(overrides={day("2019-12-03"): ClosedDay(reason="storm")})
    store = BarStore(folder=bench.bars, calendar=calendar)
    (block,) = store.blocks(day("2019-12-02"), day("2019-12-04"), ["AAA"])
    assert [session.date.day for session in block.sessions] == [2, 4]
    assert not np.isnan(block.bars.close).any()


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["AA", "B.B", "C-1"]),
        st.integers(0, 4),
        st.integers(-5, 395),
        st.integers(1, 10**9),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
        st.integers(0, 10**12),
    ),
    unique_by=lambda row: row[:3],
    min_size=1,
    max_size=30,
)


@pytest.mark.slow
@settings(max_examples=40)
@given(rows=ROWS, files=st.integers(1, 3))
def test_what_is_imported_is_what_blocks_hold(rows: list[tuple[str, int, int, int, int, int, int]], files: int) -> None:
    """Every bar of regular hours comes back bit for bit, and nothing else does, over however many files it came."""
    week = exchange_sessions("2019-12-23", "2019-12-30")
    table = [
        (
            week[at].moment(minute),
            symbol,
            ticks / 1e4,
            (ticks + up) / 1e4,
            max(1, ticks - down) / 1e4,
            ticks / 1e4,
            shares,
        )
        for symbol, at, minute, ticks, up, down, shares in rows
    ]
    frame = pl.DataFrame(
        table, schema=["ts", "symbol", "open", "high", "low", "close", "volume"], orient="row"
    ).with_columns(pl.col("ts").dt.cast_time_unit("us"))
    expected = {
        (row[1], row[0]): row[2:] for row in table if any(session.open <= row[0] < session.close for session in week)
    }
    with tempfile.TemporaryDirectory() as folder:
        bench = StoreFixture(folder=Path(folder))
        bench.put(*(frame[start::files] for start in range(files)))
        found = dict(_cells(bench.store)) if expected else {}
    assert found == expected


def _prices(ticks: int, up: int, down: int) -> tuple[int, ...]:
    return ticks, ticks + up, max(1, ticks - down), ticks


def _cells(store: BarStore) -> list[tuple[tuple[str, dt.datetime], tuple[float, ...]]]:
    cells = []
    for block, index in walk_sessions(store.blocks(day("2019-12-01"), day("2019-12-31"), ["AA", "B.B", "C-1"])):
        for column, symbol in enumerate(block.bars.symbols):
            for minute in np.flatnonzero(~np.isnan(block.bars.close[index, column])):
                moment = block.sessions[index].moment(int(minute))
                cells.append(((symbol, moment), _values(block, index, column, int(minute))))
    return cells


def _values(block: BarBlock, *at: int) -> tuple[float, ...]:
    return tuple(float(getattr(block.bars, name)[at]) for name in FIELDS)


def test_daily_closes_end_with_the_last_stored_session(december: StoreFixture) -> None:
    """Oldest first, at most so many, up to a day; a symbol without bars, and a day before the first, has none."""
    store = december.store
    closes = store.closes("AAA", day("2020-01-31"), 3)
    assert [date for date, _ in closes] == [day("2019-12-31"), day("2020-01-02"), day("2020-01-03")]
    assert [close for _, close in closes] == [103.9, 103.9, 103.9]
    assert store.closes("AAA", day("2019-12-24"), 2)[-1] == (day("2019-12-24"), 102.1)
    assert len(store.closes("AAA", day("2020-01-31"), 100)) == len(exchange_sessions("2019-11-27", "2020-01-03"))
    assert store.closes("CCC", day("2020-01-31"), 3) == store.closes("AAA", day("2019-11-26"), 3) == ()


def test_daily_closes_stop_at_a_gap_and_at_another_kind_of_prices(bench: StoreFixture) -> None:
    """What lies before a session without bars, or before prices of another adjustment, is left out."""
    bench.put(rising_bars("AAA", exchange_sessions("2019-11-26", "2019-11-29")))
    bench.put(rising_bars("AAA", exchange_sessions("2019-12-02", "2019-12-03")), adjustment="split")
    assert [date.day for date, _ in bench.store.closes("AAA", day("2019-12-31"), 9)] == [2, 3]
    bench.put(rising_bars("BBB", exchange_sessions("2019-12-02", "2019-12-03")))
    bench.put(rising_bars("BBB", exchange_sessions("2019-12-05", "2019-12-06")))
    assert [date.day for date, _ in bench.store.closes("BBB", day("2019-12-31"), 9)] == [5, 6]
