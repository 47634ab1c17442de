"""`tbot data import TABLE FILE`, and what enabled plugins warn of in `tbot check`."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from click.testing import CliRunner

from tbot_core import cli
from tbot_core.actions.checks import check_instance
from tbot_core.actions.plugin_checks import warning_findings
from tbot_core.actions.plugin_declarations import plugin_declarations
from tbot_core.contracts.settings import DeploymentSettings, StrategySettings
from tbot_core.engine.bootstrap import assemble
from tbot_core.instance import Instance, load_settings
from tbot_core.model.clock import SystemClock
from tbot_core.model.day_facts import DayFacts
from tbot_core.vault.categories import category_paths

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = "STRATEGY_SEQUENCE=open\nSTART_TIME_OPEN=14:30\nENABLE_BSM_FILTER=true\nRISK_FREE_RATE_SOURCE=dynamic\n"
RATES = "code,date,rate,source\nUS,2026-01-01,0.03,Federal Reserve\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance whose filters have tables."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / ".env_bot").write_text(SETTINGS)
    return folder


def write(folder: Path, text: str = RATES) -> str:
    """A file of rates."""
    path = folder / "new.csv"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("table", ["rates", "rates.csv"])
def test_a_valid_table_is_put_in_place(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str
) -> None:
    """For its owner alone; the path is printed."""
    place = home / "data" / "tables" / "rates.csv"
    assert cli.invoke(["data", "import", table, write(tmp_path), "--home", str(home)]) == 0
    assert capsys.readouterr().out.startswith(f"{place}: imported from {tmp_path / 'new.csv'}. ")
    assert place.read_text() == RATES
    assert [one.stat().st_mode & 0o777 for one in (place, *list(place.parents)[:2])] == [0o600, 0o700, 0o700]


def test_the_import_says_what_the_table_holds(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rates, codes and the newest date; one without the jurisdiction of the identity is imported all the same."""

    def imported() -> str:
        assert cli.invoke(["data", "import", "rates", write(tmp_path), "--home", str(home)]) == 0
        return capsys.readouterr().out

    assert "It has 1 rate of 1 code (US), the newest of 2026-01-01. A running bot" in imported()
    identity = json.dumps({"BOT_IDENTITY_STRING": "ACME_DE_PAPER_B01"})
    with CliRunner().isolation(identity):
        assert cli.invoke(["secrets", "set", "bot_identity", "--from-json", "-", "--home", str(home)]) == 0
    assert "of 2026-01-01; no rate of DE, the jurisdiction of this instance. " in imported()
    category_paths("bot_identity", Instance(home), DeploymentSettings()).file.write_bytes(b"damaged")
    assert "of 2026-01-01. A running bot" in imported()


def test_a_rate_of_the_future_is_not_imported(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file that was given is named, in the remedy too."""
    path = write(tmp_path, RATES.replace("2026", "2999"))
    assert cli.invoke(["data", "import", "rates", path, "--home", str(home)]) == 3
    said = capsys.readouterr().err
    assert f"{path}: the rate of US of 2999-01-01 is in the future. Correct {path}." in said
    assert not (home / "data" / "tables").exists()


def test_a_table_is_one_for_all_plugins_that_name_it(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two filters know funds: both use the imported ones, and the import names them."""
    (home / ".env_bot").write_text(f"{SETTINGS}ENABLE_FINNHUB_FUNDAMENTALS_FILTER=true\n")
    assert cli.invoke(["data", "import", "funds", write(tmp_path, "symbol,name\nZZZ,S&P\n"), "--home", str(home)]) == 0
    assert capsys.readouterr().out.endswith("from the next session (finnhub, price_volume).\n")
    assert (home / "data" / "tables" / "funds.csv").read_text() == "symbol,name\nZZZ,S&P\n"
    filters = assemble(home, "replay", SystemClock()).filters
    day = DayFacts.unknown(2)
    frame = StrategySettings(min_market_cap=Decimal(1))
    for name in ("price_volume", "finnhub"):
        checks = filters[name].screen(day, ("SPY", "ZZZ"), frame)
        assert {tuple(one.funds) for one in checks if one.funds is not None} == {(False, True)}


def test_an_invalid_table_changes_nothing(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The plugin's own words name the line of the file that was given; the table in use stays."""
    assert cli.invoke(["data", "import", "rates", write(tmp_path), "--home", str(home)]) == 0
    path = write(tmp_path, RATES.replace("0.03", "3"))
    assert cli.invoke(["data", "import", "rates", path, "--home", str(home)]) == 3
    said = capsys.readouterr().err
    assert f"{path} was not imported: {path}:2: 'US,2026-01-01,3,Federal Reserve': the rate '3' is not" in said
    assert (home / "data" / "tables" / "rates.csv").read_text() == RATES


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("other", "FILE"), 2, "No enabled plugin has a table other (tables: funds, rates)."),
        (("rates", "FILE", "FILE"), 2, "takes one path, or a table and one path."),
        (("FILE", "FILE"), 2, "takes one path."),
        (("rates", "absent.csv"), 2, "The path 'absent.csv' does not exist."),
        (("rates", "FOLDER"), 1, "is a folder."),
        (("rates", "FILE", "--replace", "--as-of", "2026-01-01"), 2, "--replace, --as-of does not apply to a table"),
    ],
)
def test_what_is_no_import_of_a_table_is_refused(
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    """An unknown table, a file that is none, and options of bars: nothing is written."""
    places = {"FILE": write(tmp_path), "FOLDER": str(tmp_path)}
    assert cli.invoke(["data", "import", *(places.get(one, one) for one in words), "--home", str(home)]) == code
    assert message in capsys.readouterr().err
    assert not (home / "data" / "tables").exists()


def warned(home: Path) -> list[tuple[str, str]]:
    """The level and sentence of each row of `tbot check` about rates."""
    return [(row.level, row.message) for row in check_instance(home) if "RISK_FREE" in row.message]


def test_check_shows_what_plugins_warn_of(home: Path) -> None:
    """The jurisdiction is that of the identity: without one the rate of the settings is used, with a warning."""
    ((level, message),) = warned(home)
    assert level == "warn"
    assert message.startswith("RISK_FREE_RATE_SOURCE=dynamic, but the bot has no identity")
    (home / ".env_bot").write_text(SETTINGS.replace("dynamic", "static"))
    assert warned(home) == []


def test_a_plugin_that_cannot_say_it_is_a_failure(home: Path) -> None:
    """An invalid table of the operator fails the check with the line; so does any error of the plugin."""
    folder = home / "data" / "tables"
    folder.mkdir(parents=True)
    (folder / "rates.csv").write_text("code\n")
    plugins = plugin_declarations(home)
    settings = load_settings(home, mode="replay", declared=plugins.declared)
    (row,) = warning_findings(settings, plugins)
    assert row.level == "fail"
    assert "rates.csv:1: the header is not 'code,date,rate,source'." in row.message

    def fails(*_: Any) -> list[str]:
        raise ZeroDivisionError("theirs")

    loaded = tuple(attrs.evolve(one, plugin=attrs.evolve(one.plugin, warnings=fails)) for one in plugins.loaded[:1])
    (row,) = warning_findings(settings, attrs.evolve(plugins, loaded=loaded))
    assert (row.level, "ZeroDivisionError: theirs" in row.message) == ("fail", True)
