"""Each setting of the two sample files is measured by two runs, and the page of the reference says what they show."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import sample_settings
from sample_settings import TRIALS, differences, rows, sample_values, silent
from setting_runs import Bench

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = 110
QUICK = ("MAX_TRADES", "TOTAL_ALLOCATION", "STRAT_CLOSE_VIX_THRESHOLD", "SHORT_TYPE_MID", "SLIPPAGE_MEAN_PCT")


def page_rows(root: Path) -> dict[str, str]:
    """The rows of the page by setting; a setting that has two rows fails."""
    page = (root / "docs" / "reference" / "sample-settings.md").read_text(encoding="utf-8")
    found = re.findall(r"^(\| `([A-Z_]+)` \|.*)$", page, re.MULTILINE)
    assert len({name for _, name in found}) == len(found)
    return {name: row for row, name in found}


def test_the_table_has_one_row_for_each_setting_of_the_samples(root: Path, shared: Path) -> None:
    """110 settings, each once, in the order of the files and with the value that the file has."""
    values, found = sample_values(shared / "reference"), page_rows(root)
    assert len(values) == SETTINGS
    assert [*found] == [*values]
    for name, value in values.items():
        assert f"| `{name}` | {f'`{value}`' if value else 'empty'} |" in found[name]


def test_each_setting_is_tried_once_with_another_value(root: Path) -> None:
    """One trial for each row of the page."""
    names = [trial.name for trial in TRIALS]
    assert len(names) == len({*names}) == SETTINGS
    assert {*names} == page_rows(root).keys()


def test_a_row_without_a_difference_waits_for_something(root: Path) -> None:
    """What changes nothing is named with what it waits for."""
    idle = [row for row in page_rows(root).values() if "| nothing" in row]
    assert idle
    assert [row for row in idle if "; waits for " not in row] == []


def test_differences_begin_with_what_the_setting_is_about() -> None:
    """Trades, then denials for this setting, then its strategy; a failure alone where the run or a check fails."""
    before = {"exit code": "0", "profit, USD": "1", "trades of mid": "2", "denials MAX_TRADES": "0", "trades": "9"}
    after = {"exit code": "0", "profit, USD": "2", "trades of mid": "1", "denials MAX_TRADES": "7", "trades": "8"}
    assert [*differences("MAX_TRADES", before, after)][:2] == ["trades 9 → 8", "denials MAX_TRADES 0 → 7"]
    assert [*differences("MID_ANALYSIS_TIME", before, after)][:2] == ["trades 9 → 8", "trades of mid 2 → 1"]
    ended = {"exit code": "3", "message": "MID is unknown."}
    assert [*differences("MAX_TRADES", before, ended)] == ["exit code 0 → 3", "message: MID is unknown"]
    assert [*differences("X", {"warn: a.": "said"}, {"fail: b.": "said"})] == ["new: fail: b"]
    assert [*differences("X", {"note: a.": "said"}, {"warn: b.": "said"})] == ["new: warn: b", "no longer: note: a"]
    assert [*differences("X", before, before)] == []


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_rows_of_backtests_are_in_step(root: Path, shared: Path, tmp_path: Path) -> None:
    """Some settings, tried again, change what the page says; `python tools/sample_settings.py` renews it."""
    page = page_rows(root)
    trials = tuple(trial for trial in TRIALS if trial.name in QUICK)
    found = [*rows(Bench(folder=tmp_path, samples=shared / "reference"), trials)]
    assert silent(found) == []
    assert {row.trial.name: row.text for row in found} == {name: page[name] for name in QUICK}


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("loopback")
@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")
def test_the_page_is_in_step(root: Path, shared: Path) -> None:
    """docs/reference/sample-settings.md holds what the tool measures; `python tools/sample_settings.py` renews it."""
    page = (root / "docs" / "reference" / "sample-settings.md").read_text(encoding="utf-8")
    assert sample_settings.rendered(shared / "reference") == page
