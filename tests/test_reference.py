"""The generated pages of the reference say what the code says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import real_sessions
import reference
import strategy_pictures
from rehearsal_mutants import catalogue

from tbot_core.instance.registry import catalogue as catalogue_of_settings
from tbot_core.model import reasons
from tbot_core.rehearsal import faults
from tbot_core.trading import orders

if TYPE_CHECKING:
    from pathlib import Path


def test_the_page_of_reason_codes_is_in_step(root: Path) -> None:
    """docs/reference/reasons.md holds the table of the enum; `python tools/reference.py` renews it."""
    assert reference.reasons_table() in (root / "docs" / "reference" / "reasons.md").read_text(encoding="utf-8")


def test_the_page_of_orders_is_in_step(root: Path) -> None:
    """docs/reference/orders.md holds the transition table; `python tools/reference.py` renews it."""
    assert orders.transition_table() in (root / "docs" / "reference" / "orders.md").read_text(encoding="utf-8")


def test_the_page_of_security_codes_is_in_step(root: Path) -> None:
    """docs/reference/security-codes.md holds the table of the codes; `python tools/reference.py` renews it."""
    assert reference.vault_codes_table() in (root / "docs" / "reference" / "security-codes.md").read_text(
        encoding="utf-8"
    )


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_the_table_of_what_settings_trade_is_in_step(root: Path, shared: Path) -> None:
    """docs/getting-started.md shows what backtests of real sessions give; `python tools/real_sessions.py` renews it."""
    assert real_sessions.rendered(shared / "data") in (root / "docs" / "getting-started.md").read_text(encoding="utf-8")


def test_the_page_of_faults_is_in_step(root: Path) -> None:
    """docs/reference/faults.md holds the table of the simulation's faults; `python tools/reference.py` renews it."""
    assert faults.table() in (root / "docs" / "reference" / "faults.md").read_text(encoding="utf-8")


def test_each_attack_of_the_page_has_its_test(root: Path) -> None:
    """docs/reference/attacks.md names a test for each row, and each of them exists."""
    page = (root / "docs" / "reference" / "attacks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|.*\| `(test_\w+)` \|$", page, re.MULTILINE)
    folders = [root / "tests", *root.glob("plugins/*/*/tests")]
    texts = [file.read_text(encoding="utf-8") for folder in folders for file in folder.rglob("test_*.py")]
    assert len(rows) > 20
    assert [name for name in rows if not any(f"def {name}(" in text for text in texts)] == []


def test_the_page_of_mutants_is_in_step(root: Path) -> None:
    """docs/reference/mutants.md holds the table of the mutants; `python tools/reference.py` renews it."""
    assert catalogue.table() in (root / "docs" / "reference" / "mutants.md").read_text(encoding="utf-8")


def test_the_page_of_credentials_is_in_step(root: Path) -> None:
    """docs/reference/credentials.md holds the table of the fields; `python tools/reference.py` renews it."""
    page = (root / "docs" / "reference" / "credentials.md").read_text(encoding="utf-8")
    assert reference.credentials_table() in page
    assert "| login | each user | role | one of viewer, trader, admin | viewer |" in page


def test_every_reason_has_a_number_of_its_own_and_a_sentence() -> None:
    """Codes are distinct, and each says in a sentence what it means."""
    assert len(reasons.REASON_BY_CODE) == len(reasons.Reason)
    assert all(reason.sentence.endswith(".") for reason in reasons.Reason)


def test_every_variable_that_a_reason_names_is_a_setting() -> None:
    """What a sentence or a remedy names in capitals is a setting, and `{NAME}` stands for each strategy."""
    known = catalogue_of_settings(["open", "mid", "close"]).variables
    for reason in reasons.Reason:
        said = re.findall(reasons._VARIABLE, reason.sentence_for(["open", "mid"]))
        assert [name for name in said if name not in known] == [], reason.name
        for one in reason.remedy.settings:
            assert any(one.replace("{NAME}", name) in known for name in ("OPEN", "MID", "CLOSE")), reason.name
    high = reasons.Reason.MARKET_CAP_HIGH
    assert high.variables_for(["open", "mid"]) == ("MAX_MARKET_CAP_OPEN", "MAX_MARKET_CAP_MID")
    assert high.sentence_for(["open", "mid"]).endswith("above MAX_MARKET_CAP_OPEN or MAX_MARKET_CAP_MID.")
    assert high.sentence_for([]) == high.sentence
    assert reasons.Reason.BLOCKLISTED.variables_for(()) == ("BLOCKLIST",)
    assert reasons.Reason.VIX_UNKNOWN.variables_for(["open"]) == ()
    assert reasons.Reason.VIX_LOW.variables_for(["open", "close"], known) == ("STRAT_CLOSE_VIX_THRESHOLD",)


def test_every_reason_says_what_changes_it() -> None:
    """Settings or data or a command, else why nothing does; what its sentence names is among the settings."""
    for reason in reasons.Reason:
        one = reason.remedy
        kinds = [bool(one.settings or one.data), bool(one.command), bool(one.final)]
        assert kinds.count(True) == 1, reason.name
        assert one.text
        assert not one.final or one.final.endswith("."), reason.name
        assert not one.command or "`tbot " in one.command, reason.name
        if one.settings:
            assert set(re.findall(reasons._VARIABLE, reason.sentence)) <= set(one.settings), reason.name


def test_every_module_that_the_architecture_names_is_there(root: Path) -> None:
    """A path in docs/architecture.md, or the name at its end, is a module of the core or of a plugin, or a test."""
    page = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    folders = (root / "tbot_core", root / "plugins", root / "tests")
    modules = [f"/{path.relative_to(folder)}" for folder in folders for path in folder.rglob("*.py")]
    named = re.findall(r"`([\w/]+\.py)`", page)
    assert named
    assert [name for name in named if not any(module.endswith(f"/{name}") for module in modules)] == []


def test_every_setting_that_the_guide_names_is_known(root: Path) -> None:
    """docs/settings-guide.md names settings of the core, of the three strategies and of the known plugins."""
    page = (root / "docs" / "settings-guide.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", page))
    known = catalogue_of_settings(["open", "mid", "close"]).variables
    assert named >= {"TOTAL_ALLOCATION", "STRAT_OPEN_BUFFER", "SHORT_TYPE_MID"}
    assert sorted(named - known.keys()) == []


@pytest.mark.slow
def test_the_pictures_of_the_strategies_are_in_step(root: Path, tmp_path: Path) -> None:
    """docs/images shows trades of the demo as it is now; `python tools/strategy_pictures.py` draws them again."""
    charts = strategy_pictures.charts(tmp_path / "demo")
    assert {*charts} == {"open", "mid", "close"}
    for name, chart in charts.items():
        drawn = strategy_pictures.Picture(chart).svg(f"A trade of the strategy {name}")
        assert drawn == (root / "docs" / "images" / f"strategy-{name}.svg").read_text(encoding="utf-8")
