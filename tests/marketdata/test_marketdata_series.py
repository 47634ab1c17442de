"""Daily series in the store: new days are added, a stored day stays, and what is not plausible is refused whole."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from tbot_core.contracts.series import RATES, VIX, DailyValue
from tbot_core.errors import DataError
from tbot_core.marketdata.history import add_reference_facts
from tbot_core.marketdata.store import reference
from tbot_core.marketdata.store.series import (
    ChangedValue,
    PublishedSeries,
    SeriesMerge,
    merge_series,
    source_of,
    stored_series,
)
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.system import filesystem
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


TODAY = dt.date(2026, 12, 2)
DAYS = [TODAY - dt.timedelta(days=back) for back in range(60, 0, -1)]
WEEKDAYS = [day for day in DAYS if day.weekday() < 5]
VALUES = [DailyValue(day=day, value=15.0 + number / 100) for number, day in enumerate(WEEKDAYS)]
THANKSGIVING = dt.date(2026, 11, 26)
FRACTIONS = [DailyValue(day=day, value=0.0364, code="US") for day in DAYS]


def merge(
    folder: Path, values: Sequence[DailyValue], name: str = VIX, source: str = "cboe", today: dt.date = TODAY
) -> SeriesMerge:
    """Merge a series as it is published on a day."""
    return merge_series(folder, ExchangeCalendar(), PublishedSeries(name=name, source=source, values=values), today)


def closes(folder: Path) -> dict[dt.date, float]:
    """The stored closes of the VIX."""
    return dict(reference.reference_facts(folder).vix)


def edited(values: Sequence[DailyValue], place: int, **changes: object) -> list[DailyValue]:
    """The values with another one in this place."""
    one = {"day": values[place].day, "value": values[place].value, "code": values[place].code, **changes}
    found = [*values]
    found[place] = DailyValue(**one)  # type: ignore[arg-type]
    return found


def test_new_days_are_added_with_their_source(tmp_path: Path) -> None:
    """Without holidays, on which the index is computed for a part of the day; the same series again adds nothing."""
    found = merge(tmp_path, VALUES)
    assert (found.added, found.changed, found.last) == (len(VALUES) - 1, (), WEEKDAYS[-1])
    assert closes(tmp_path) == {one.day: one.value for one in VALUES if one.day != THANKSGIVING}
    assert source_of(tmp_path, VIX, WEEKDAYS[-1], VALUES[-1].value) == "cboe"
    assert source_of(tmp_path, VIX, WEEKDAYS[-1], 1.0) == source_of(tmp_path, VIX, TODAY, 15.0) == ""
    assert merge(tmp_path, VALUES).added == 0


def test_the_value_of_today_is_left_out(tmp_path: Path) -> None:
    """It may not be the close; yesterday's file, without it, is normal."""
    merge(tmp_path, [*VALUES, DailyValue(day=TODAY, value=30.0)])
    assert TODAY not in closes(tmp_path)
    assert merge(tmp_path, VALUES).added == 0


def test_a_later_restatement_changes_no_stored_day(tmp_path: Path) -> None:
    """It is reported with both values, and new days are added all the same; a rounded value is the same one."""
    add_reference_facts(tmp_path, {VALUES[0].day: 15.0, VALUES[1].day: 44.0}, {})
    rounded = edited(VALUES, 0, value=15.004)
    found = merge(tmp_path, rounded)
    assert found.changed == (ChangedValue(day=VALUES[1].day, code="", stored=44.0, published=15.01),)
    stored = closes(tmp_path)
    assert (stored[VALUES[0].day], stored[VALUES[1].day], stored[VALUES[-1].day]) == (15.0, 44.0, VALUES[-1].value)
    assert source_of(tmp_path, VIX, VALUES[1].day, 44.0) == ""


def test_a_later_series_changes_no_earlier_day(tmp_path: Path) -> None:
    """The facts and the data hash of a stored session stay, whatever is published after it."""
    bench, sessions = StoreFixture(folder=tmp_path), exchange_sessions("2026-11-27", "2026-11-30")
    filesystem.make_folder(tmp_path)
    bench.put(rising_bars("AAA", sessions, price=100.0))
    before = [one.day for one in VALUES].index(sessions[0].date)
    merge(bench.bars, VALUES[: before + 1], today=sessions[-1].date)
    known = bench.store.data_hash(sessions[-1].date, sessions[-1].date, ["AAA"])
    assert bench.store.facts([sessions[-1]], ["AAA"]).session(0).vix.tolist() == [VALUES[before].value]
    assert merge(bench.bars, edited(VALUES, before, value=33.0)).changed
    assert bench.store.data_hash(sessions[-1].date, sessions[-1].date, ["AAA"]) == known


def test_a_second_source_adds_what_the_first_lacks(tmp_path: Path) -> None:
    """Each day keeps the name of the source that added it."""
    merge(tmp_path, VALUES[:-1])
    assert merge(tmp_path, VALUES, source="fred").added == 1
    assert source_of(tmp_path, VIX, VALUES[-1].day, VALUES[-1].value) == "fred"
    assert merge(tmp_path, VALUES).added == 0


def test_rates_have_a_code_and_all_days(tmp_path: Path) -> None:
    """Those of two jurisdictions are stored side by side, and the VIX is not touched."""
    both = [*FRACTIONS, *(DailyValue(day=day, value=-0.005, code="CH") for day in DAYS)]
    assert merge(tmp_path, both, RATES, "bank").added == 2 * len(DAYS)
    found = stored_series(tmp_path, RATES)
    assert (len(found), found[0]) == (2 * len(DAYS), (DailyValue(day=DAYS[0], value=-0.005, code="CH"), "bank"))
    restated = edited(FRACTIONS, 3, value=0.037)
    assert [one.code for one in merge(tmp_path, restated, RATES, "other").changed] == ["US"]
    assert closes(tmp_path) == {}


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        (VIX, [], "it has no value"),
        (VIX, [*VALUES, DailyValue(day=TODAY + dt.timedelta(days=1), value=16.0)], "2026-12-03 is in the future"),
        (VIX, edited(VALUES, -1, day=dt.date(2026, 11, 29)), "2026-11-29 is a day of a weekend"),
        (VIX, edited(VALUES, 5, value=0.0), "0 of 2026-10-12 is not above 0 and at most 200"),
        (VIX, edited(VALUES, 5, value=-16.2), "-16.2 of 2026-10-12 is not above 0"),
        (VIX, edited(VALUES, 5, value=float("nan")), "nan of 2026-10-12 is not above 0"),
        (VIX, edited(VALUES, 5, value=float("inf")), "inf of 2026-10-12 is not above 0"),
        (VIX, edited(VALUES, 5, value=20_000.0), "20000 of 2026-10-12 is not above 0 and at most 200"),
        (RATES, edited(FRACTIONS, 0, value=3.64), "3.64 of 2026-10-03 is not a fraction from -0.1 to 1"),
        (VIX, VALUES[::-1], "2026-11-30 follows 2026-12-01, but the oldest day comes first, each once"),
        (VIX, [*VALUES[:3], *VALUES[2:]], "2026-10-07 follows 2026-10-07"),
        (VIX, VALUES[:-7], "it ends on 2026-11-20, more than a week ago"),
        (VIX, [*VALUES[:-10], VALUES[-1]], "it has no value between 2026-11-17 and 2026-12-01, more than a week"),
    ],
)
def test_a_series_that_is_not_plausible_is_refused_whole(
    tmp_path: Path, name: str, values: list[DailyValue], words: str
) -> None:
    """Each fault has its own sentence, with the day and the value, and nothing is written."""
    with pytest.raises(DataError) as refused:
        merge(tmp_path, values, name)
    assert f"The series {name} of cboe was refused: {words}" in refused.value.message
    assert refused.value.remedy == "Nothing was stored."
    assert not filesystem.exists(tmp_path / "facts.json")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (VALUES[30:], "it has 11 days, but 41 of it are stored: a part is missing"),
        ([DailyValue(day=one.day, value=one.value + 5) for one in VALUES], "41 of 41 stored days have another value"),
    ],
)
def test_a_part_of_the_file_and_another_series_are_refused(
    tmp_path: Path, values: list[DailyValue], words: str
) -> None:
    """Fewer days than this source has supplied, and values that differ on most days; the store is unchanged."""
    merge(tmp_path, VALUES)
    before = closes(tmp_path)
    with pytest.raises(DataError) as refused:
        merge(tmp_path, values)
    assert words in refused.value.message
    assert closes(tmp_path) == before


def test_the_real_history_is_plausible(tmp_path: Path, shared: Path) -> None:
    """The closes of the VIX since 1990: all are added, the holidays among them left out."""
    import polars as pl

    table = pl.read_parquet(shared / "data" / "vix_daily.parquet")
    values = [DailyValue(day=day, value=close) for day, close in table.select("date", "close").iter_rows()]
    today = values[-1].day + dt.timedelta(days=1)
    found = PublishedSeries(name=VIX, source="cboe", values=values)
    added = merge_series(tmp_path, ExchangeCalendar(), found, today)
    assert (added.changed, added.last) == ((), values[-1].day)
    assert 9_000 < added.added < len(values)
