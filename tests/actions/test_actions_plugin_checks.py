"""`tbot check` says what is stored of the facts that filters fetch."""

from __future__ import annotations

import datetime as dt
import sys
from typing import TYPE_CHECKING

import pytest

from tbot_core import cli
from tbot_core.actions.assembly import action_clock
from tbot_core.actions.plugin_checks import fact_findings, market_cap_findings, vix_findings
from tbot_core.actions.plugin_declarations import plugin_declarations
from tbot_core.instance import Instance, load_settings
from tbot_core.instance.folder import REHEARSAL_VARIABLE
from tbot_core.marketdata.history import add_reference_facts
from tbot_core.marketdata.store import manifest, reference
from tbot_core.marketdata.store.recorded_facts import RecordedFact
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.system import environ, processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tbot_core.instance.preflight import PreflightFinding

NOV_23, NOV_27 = dt.date(2026, 11, 23), dt.date(2026, 11, 27)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance with a filter that fetches."""
    (tmp_path / ".env_bot").write_text("STRATEGY_SEQUENCE=open\nENABLE_FINNHUB_FUNDAMENTALS_FILTER=true\n")
    return tmp_path


def found(findings: Callable[..., Iterable[PreflightFinding]], home: Path) -> list[tuple[str, str]]:
    """Level and sentence of each row."""
    plugins = plugin_declarations(home)
    settings = load_settings(home, mode="replay", declared=plugins.declared)
    return [(row.level, str(row)) for row in findings(settings, plugins)]


def rows(home: Path) -> list[tuple[str, str]]:
    """Level and sentence of each row about facts."""
    return found(fact_findings, home)


def test_without_facts_it_says_when_they_come(home: Path) -> None:
    """Neither a key nor a network is needed."""
    assert rows(home) == [("ok", "finnhub: no facts are stored; `tbot run` fetches them before the bell.")]


def test_symbols_with_facts_are_counted(home: Path) -> None:
    """Those of which at least one number is known, and the newest day; facts of others do not count."""
    facts = [("pe_ratio", "AAPL", NOV_23, 30.0), ("market_cap", "AAPL", NOV_27, 1e9), ("pe_ratio", "F", NOV_23, 8.0)]
    facts += [("pe_ratio", "XYZ", NOV_23, float("nan")), ("rating", "ZZZ", NOV_27, 1.0)]
    stored = [
        RecordedFact(name=name, symbol=symbol, first=day, last=day, value=value) for name, symbol, day, value in facts
    ]
    reference.add_fetched(Instance.at(home).bars, stored)
    assert rows(home) == [("ok", "finnhub: facts of 2 symbols are stored, the newest of 2026-11-27.")]


def test_damaged_facts_fail(home: Path) -> None:
    """As they would stop a morning's refresh."""
    bars = Instance.at(home).bars
    bars.mkdir(parents=True)
    (bars / manifest.FACTS).write_text("{")
    ((level, words),) = rows(home)
    assert level == "fail"
    assert "is damaged" in words


def test_without_such_a_filter_there_is_no_row(home: Path) -> None:
    """Filters that fetch nothing."""
    (home / ".env_bot").write_text("STRATEGY_SEQUENCE=open\n")
    assert rows(home) == []


def test_a_filter_that_cannot_be_created_has_its_own_row(home: Path) -> None:
    """Its faulty table of funds stops a start; here nothing is said twice."""
    folder = Instance.at(home).tables
    folder.mkdir(parents=True)
    (folder / "funds.csv").write_text("wrong")
    assert rows(home) == []


LIMITED = "BROKER_NAME=alpaca\nSTRATEGY_SEQUENCE=open\nMIN_MARKET_CAP_OPEN=1000000000\n"


def cap_rows(home: Path, text: str) -> list[tuple[str, str]]:
    """Level and sentence of each row about capitalisations."""
    (home / ".env_bot").write_text(text)
    return found(market_cap_findings, home)


@pytest.mark.parametrize(("missing", "words"), [("pass", "every stock passes"), ("reject", "no stock passes")])
def test_limits_of_capitalisation_without_a_source_are_a_warning(home: Path, missing: str, words: str) -> None:
    """It names the limits and says what FILTER_MISSING_DATA makes of them."""
    ((level, said),) = cap_rows(home, f"{LIMITED}FILTER_MISSING_DATA={missing}\n")
    assert level == "warn"
    assert "MIN_MARKET_CAP_OPEN: nothing supplies capitalisations, as alpaca has none." in said
    assert f"With FILTER_MISSING_DATA={missing} {words} these limits." in said


def test_limits_of_capitalisation_with_a_source_are_silent(home: Path) -> None:
    """A filter that fetches them, imported fundamentals, a simulated market; and where nothing is limited."""
    assert cap_rows(home, f"{LIMITED}ENABLE_FINNHUB_FUNDAMENTALS_FILTER=true\n") == []
    assert cap_rows(home, LIMITED.replace("alpaca", "paper")) == []
    assert cap_rows(home, LIMITED.replace("1000000000", "0")) == []
    assert cap_rows(home, f"{LIMITED}FILTERS=none\n") == []
    file = home / "fundamentals.csv"
    file.write_text("symbol,as_of,market_cap\nAAPL,2026-11-23,3000000000000\n")
    assert cli.invoke(["data", "import", str(file), "--home", str(home)]) == 0
    assert cap_rows(home, LIMITED) == []


SHOWN = """
import sys
from pathlib import Path
from tbot_core.actions import plugin_checks
from tbot_core.actions.plugin_declarations import plugin_declarations
from tbot_core.instance import load_settings
home = Path(sys.argv[1])
plugins = plugin_declarations(home)
settings = load_settings(home, mode="replay", declared=plugins.declared)
for findings in (plugin_checks.fact_findings, plugin_checks.market_cap_findings, plugin_checks.vix_findings):
    print(*findings(settings, plugins), sep="\\n")
print("polars" in sys.modules)
"""


@pytest.mark.slow
@pytest.mark.first(0)
@pytest.mark.parametrize("filters", ["", "FILTERS=finnhub\n"])
def test_where_no_facts_are_stored_polars_is_not_imported(home: Path, filters: str) -> None:
    """To import it would take a third of the time of `tbot check`."""
    (home / ".env_bot").write_text(LIMITED + filters)
    done = processes.run_program(
        [sys.executable, "-c", SHOWN, str(home)], timeout_s=60, environment=environ.minimal_environment()
    )
    *said, is_imported = done.output.splitlines()
    assert is_imported == "False", done.errors
    assert ("nothing supplies capitalisations" if not filters else "finnhub: no facts are stored") in "".join(said)


CLOSING = "BROKER_NAME=alpaca\nSTRATEGY_SEQUENCE=open,close\n"


def vix_rows(home: Path, text: str = CLOSING, extensions: str = "none") -> list[tuple[str, str]]:
    """Level and sentence of each row about the VIX."""
    (home / ".env_bot").write_text(text)
    (home / ".env").write_text(f"EXTENSIONS={extensions}\n")
    return found(vix_findings, home)


@pytest.fixture
def rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rehearsal of the exchange's next session; its venue has no VIX."""
    monkeypatch.setenv(REHEARSAL_VARIABLE, "http://127.0.0.1:1")


@pytest.mark.usefixtures("rehearsed")
def test_an_unknown_vix_is_a_warning_where_a_strategy_needs_it(home: Path) -> None:
    """It names the day and the strategy, and how to supply it; an imported close of that day is enough."""
    ((level, said),) = vix_rows(home)
    assert level == "warn"
    calendar = ExchangeCalendar().every_weekday
    before = calendar.previous(ExchangeCalendar().current(action_clock().now()).date).date
    assert said.startswith(f"VIX close of {before} unknown: no entries by close. `tbot data import FILE`")
    for day, rows in ((calendar.previous(before).date, 1), (before, 0)):
        add_reference_facts(Instance.at(home).bars, {day: 20.5}, {})
        assert len(vix_rows(home)) == rows


@pytest.mark.usefixtures("rehearsed")
@pytest.mark.parametrize(("extensions", "rows"), [("", 0), ("fred", 0), ("web", 1)])
def test_an_enabled_extension_that_publishes_the_vix_is_enough(home: Path, extensions: str, rows: int) -> None:
    """Its series is downloaded before the session; EXTENSIONS empty enables all installed ones."""
    assert len(vix_rows(home, extensions=extensions)) == rows


@pytest.mark.usefixtures("rehearsed")
@pytest.mark.parametrize(
    "text",
    [
        CLOSING.replace("open,close", "open"),
        CLOSING.replace("alpaca", "paper"),
        f"{CLOSING}VIX_SOURCE=live\n",
    ],
)
def test_no_warning_of_the_vix_where_it_is_not_needed_or_comes_otherwise(home: Path, text: str) -> None:
    """No strategy screens by it, a simulated market has its own, and a live value counts."""
    assert vix_rows(home, text) == []


def test_a_broker_that_declares_the_vix_is_not_asked_for_it(home: Path) -> None:
    """A check of the instance needs no network."""
    assert vix_rows(home) == []
