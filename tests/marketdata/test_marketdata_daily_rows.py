"""Daily rows as arrays: made of the Parquet file of record once, and never anything else than it."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tbot_core.errors import AccessError
from tbot_core.marketdata.store import manifest, parquet
from tbot_core.marketdata.store.daily_rows import DailyRows, read_daily
from tbot_core.system import filesystem
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from pathlib import Path

SESSIONS = exchange_sessions("2019-12-02", "2019-12-04")
COLUMNS = ("date", "bars", "high", "low", "close", "volume")


@pytest.fixture
def bench(tmp_path: Path) -> StoreFixture:
    """Two symbols in one month; one of them begins a session later."""
    made = StoreFixture(folder=tmp_path)
    made.put(rising_bars("BBB", SESSIONS), rising_bars("AAA", SESSIONS[1:], price=20.0))
    return made


def month(bench: StoreFixture) -> manifest.MonthManifest:
    """The manifest of the month."""
    found = manifest.read_month(bench.bars, "2019-12")
    assert found is not None
    return found


def kept(bench: StoreFixture) -> list[Path]:
    """The files of daily rows."""
    return sorted(bench.bars.glob("*/days-*.block"))


def of_record(bench: StoreFixture) -> DailyRows:
    """The rows of the Parquet file."""
    return DailyRows.of(parquet.read_daily(bench.bars, month(bench)))


def same(one: DailyRows, other: DailyRows) -> bool:
    """Whether both have the same symbols and rows, to the bit."""
    return one.names == other.names and one.table.tobytes() == other.table.tobytes()


def test_the_rows_are_those_of_the_parquet_file(bench: StoreFixture) -> None:
    """Each column has its values, in the order of the file; the symbols are places among the sorted names."""
    frame, rows = parquet.read_daily(bench.bars, month(bench)), of_record(bench)
    assert rows.names == ("AAA", "BBB")
    assert [rows.names[code] for code in rows.table["code"]] == frame["symbol"].to_list()
    for name in COLUMNS:
        assert rows.table[name].tolist() == frame[name].to_list()
    assert rows.table["digest"].tolist() == frame["digest"].to_list()
    assert rows.days == {dt.date(2019, 12, day) for day in (2, 3, 4)}


def test_they_are_kept_and_the_parquet_file_is_not_read_again(bench: StoreFixture) -> None:
    """The first reading makes one private file; later ones need no other."""
    made = read_daily(bench.bars, month(bench))
    assert same(made, of_record(bench))
    assert [path.stat().st_mode & 0o777 for path in kept(bench)] == [0o600]
    (bench.bars / "2019-12" / month(bench).daily).unlink()
    assert same(read_daily(bench.bars, month(bench)), made)


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "foreign", "folder"])
def test_a_damaged_file_is_made_again(bench: StoreFixture, damage: str) -> None:
    """Whatever is wrong with it, the rows are those of the Parquet file."""
    made = read_daily(bench.bars, month(bench))
    (path,) = kept(bench)
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        changed = bytes([*data[:-9], data[-9] ^ 1, *data[-8:]])
        path.write_bytes({"cut": data[:-8], "changed": changed, "empty": b"", "foreign": b"PAR1"}[damage])
    assert same(read_daily(bench.bars, month(bench)), made)
    if damage != "folder":
        assert kept(bench)[0].read_bytes() == data


def test_rows_that_cannot_be_kept_are_read_from_the_parquet_file(
    bench: StoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is only read, or a full disk, serves the same."""

    def refused(path: Path, *_data: object) -> None:
        raise AccessError(f"Cannot write {path}.", "")

    monkeypatch.setattr(filesystem, "write_atomic", refused)
    assert same(read_daily(bench.bars, month(bench)), of_record(bench))
    assert kept(bench) == []


def test_an_import_removes_them(bench: StoreFixture) -> None:
    """With the month's old manifest its daily rows go; the new ones are served."""
    before = read_daily(bench.bars, month(bench))
    bench.put(rising_bars("CCC", SESSIONS))
    assert kept(bench) == []
    assert read_daily(bench.bars, month(bench)).names == (*before.names, "CCC")


def test_bars_that_were_read_before_are_served_without_polars(bench: StoreFixture) -> None:
    """The second reading of a range, with its facts and its hash, loads no polars."""
    days = SESSIONS[0].date, SESSIONS[-1].date
    (before,) = bench.store.blocks(*days, ("AAA", "BBB"))
    program = (
        "import datetime as dt, sys; from pathlib import Path; from tbot_core.marketdata.store.store import BarStore; "
        "from tbot_core.model.calendar import ExchangeCalendar; "
        f"store = BarStore(folder=Path({f'{bench.bars}'!r}), calendar=ExchangeCalendar()); "
        f"days = dt.date.fromisoformat('{days[0]}'), dt.date.fromisoformat('{days[1]}'); "
        "(block,) = store.blocks(*days, store.symbols(*days)); assert 'polars' not in sys.modules; "
        "print(store.data_hash(*days, store.symbols(*days)), float(block.bars.close[0, 1, -1]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    hashed = bench.store.data_hash(*days, ("AAA", "BBB"))
    assert done.stdout.split() == [hashed, f"{float(before.bars.close[0, 1, -1])}"]
    assert np.isnan(before.bars.close[0, 0, 0])
