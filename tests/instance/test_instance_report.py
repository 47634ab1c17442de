"""What a check reports beyond faults: plugins that are needed, settings without effect, and what limits add up to."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from settings_reference import render

from tbot_core.contracts.setting import declarations
from tbot_core.errors import SettingsError
from tbot_core.instance import examine_settings, load_settings
from tbot_core.instance.cross_checks import missing_plugins, needed_plugin
from tbot_core.instance.plugin_settings import known_plugins
from tbot_core.instance.registry import GROUPS
from tbot_core.instance.report import examined_report, planned_worst_day
from tbot_core.plugins import discovery
from tbot_core.plugins.loader import PluginLoader

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.instance import Settings
    from tbot_core.instance.findings import Mode, SettingsFinding
    from tbot_core.instance.plugin_settings import KnownPlugin

ALL = {
    ("broker", "paper"),
    ("strategy", "open"),
    ("strategy", "mid"),
    ("filter", "price_volume"),
    ("alert", "console"),
}


def loaded(home: Path, text: str, mode: Mode = "replay") -> Settings:
    """Settings from this text."""
    (home / ".env_bot").write_text(text)
    return load_settings(home, mode=mode)


def findings(home: Path) -> tuple[SettingsFinding, ...]:
    """What a check for a replay with the plugins of ALL reports."""
    return examined_report(examine_settings(home, mode="replay"), "replay", ALL)


def refused(found: Settings, mode: Mode) -> list[str]:
    """What keeps a run in this mode from starting with the plugins of ALL."""
    return [str(finding) for finding in missing_plugins(found.values, mode, ALL) if finding.level == "fail"]


def test_nothing_is_needed_that_is_installed(tmp_path: Path) -> None:
    """With every enabled plugin installed there is nothing to say, in any mode."""
    for mode in ("replay", "paper"):
        found = loaded(tmp_path, "STRATEGY_SEQUENCE=open,mid\nSTRAT_OPEN_BUFFER=0.1\n")
        assert missing_plugins(found.values, mode, ALL) == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "STRATEGY_SEQUENCE=opener",
            (
                ".env_bot:1: STRATEGY_SEQUENCE=opener: no strategy opener is installed (installed: mid, open); "
                "did you mean open?"
            ),
        ),
        (
            "STRATEGY_SEQUENCE=mid\nSTRATEGY_OVERRIDE=x",
            ".env_bot:2: STRATEGY_OVERRIDE=x: no strategy x is installed (installed: mid, open).",
        ),
        (
            "STRATEGY_SEQUENCE=nope",
            ".env_bot:1: STRATEGY_SEQUENCE=nope: no strategy nope is installed (installed: mid, open).",
        ),
    ],
)
def test_an_unknown_strategy_is_refused_in_every_mode(tmp_path: Path, text: str, sentence: str) -> None:
    """There is no day without its strategy; the sentence has the names that are there."""
    found = loaded(tmp_path, text)
    for mode in ("replay", "backtest", "dry-run", "paper", "live"):
        assert sentence in refused(found, mode)


@pytest.mark.parametrize("mode", ["replay", "paper"])
def test_variables_of_a_strategy_that_is_not_installed_say_what_they_need(tmp_path: Path, mode: Mode) -> None:
    """They are read and checked, and one line names them all; a strategy that runs is refused already."""
    text = "STRATEGY_SEQUENCE=open\nSTART_TIME_FOO=14:40\nFOO_ANALYSIS_TIME=3\nSTART_TIME_OPEN=14:30\n"
    found = missing_plugins(loaded(tmp_path, text).values, mode, ALL)
    words = "START_TIME_FOO, FOO_ANALYSIS_TIME: no effect, the strategy foo is not installed."
    assert [str(one) for one in found if "FOO" in one.message] == [f".env_bot:2: {words}"]
    assert not [one for one in found if "START_TIME_OPEN" in one.message]
    with pytest.raises(SettingsError, match="FOO_ANALYSIS_TIME=x: allowed is"):
        loaded(tmp_path, text.replace("=3", "=x"))
    there = missing_plugins(loaded(tmp_path, text).values, mode, {*ALL, ("strategy", "foo")})
    assert not [one for one in there if "FOO" in one.message]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("BROKER_NAME=nobody", "BROKER_NAME=nobody: no broker nobody is installed (installed: paper)."),
        ("DATA_SOURCE=nobody", "DATA_SOURCE=nobody: no broker nobody is installed (installed: paper)."),
        (
            "FAILOVER_BROKERS=nobody\nFAILOVER_ENABLED=true",
            "FAILOVER_BROKERS=nobody: no broker nobody is installed (installed: paper).",
        ),
        ("FILTERS=mine", "FILTERS=mine: no filter mine is installed (installed: price_volume)."),
        ("BROKER_NAME=NoBody", "BROKER_NAME=NoBody: no broker nobody is installed (installed: paper)."),
        ("ENABLE_BSM_FILTER=1", "ENABLE_BSM_FILTER=1: no filter black_scholes is installed"),
    ],
)
def test_paper_refuses_an_absent_plugin_and_a_replay_goes_on(tmp_path: Path, text: str, sentence: str) -> None:
    """An absent plugin that is enabled stops paper and live; elsewhere no broker is asked for."""
    found = loaded(tmp_path, f"STRATEGY_SEQUENCE=open\n{text}\n")
    assert any(line.startswith(f".env_bot:2: {sentence}") for line in refused(found, "paper"))
    assert refused(found, "replay") == []
    lines = [str(finding) for finding in missing_plugins(found.values, "replay", ALL)]
    assert any("is not applied" in line for line in lines) is ("ilter" in sentence)


def test_an_absent_default_filter_is_named_without_a_line(tmp_path: Path) -> None:
    """Without any plugin, the message says that none is there."""
    found = loaded(tmp_path, "STRATEGY_SEQUENCE=\n")
    (finding, broker, channel) = missing_plugins(found.values, "paper", set())
    there = "is installed (none is installed). Install tbot-"
    assert str(finding) == f"FILTERS: no filter price_volume {there}filter-price-volume."
    assert str(broker) == f"BROKER_NAME=paper: no broker paper {there}broker-paper."
    named = "CRITICAL_ALERT_CHANNEL=console, ROUTINE_ALERT_CHANNEL=console: no alert channel console"
    assert str(channel) == f"{named} {there}alert-console."


def test_variables_of_absent_plugins_name_their_owner(tmp_path: Path) -> None:
    """A file loads without the plugins that its variables belong to; one line a plugin says which are waiting."""
    found = loaded(tmp_path, "STRATEGY_SEQUENCE=open\nMAX_PE_RATIO=9\nMAX_DEBT_EQUITY=1\nRBAC_ENABLED=true\n")
    assert [str(finding) for finding in missing_plugins(found.values, "replay", ALL)] == [
        (
            ".env_bot:2: MAX_PE_RATIO, MAX_DEBT_EQUITY: no effect, the filter finnhub is not installed. "
            "Install tbot-filter-finnhub."
        ),
        ".env_bot:4: RBAC_ENABLED: no effect, the extension web is not installed. Install tbot-extension-web.",
    ]


@pytest.mark.parametrize("mode", ["replay", "paper"])
def test_an_absent_plugin_is_reported_once(tmp_path: Path, mode: Mode) -> None:
    """A filter that is switched on and not installed has one finding; its other variables have none of their own."""
    found = loaded(tmp_path, "STRATEGY_SEQUENCE=open\nENABLE_FUNNHUB_FUNDAMENTALS_FILTER=true\nMAX_PE_RATIO=9\n")
    (finding,) = missing_plugins(found.values, mode, ALL)
    assert finding.message.endswith("Install tbot-filter-finnhub.")


def test_a_check_puts_faults_first_and_says_what_has_no_effect(tmp_path: Path) -> None:
    """Failing findings lead; a setting that nothing acts on is said when a file changes it."""
    (tmp_path / ".env_bot").write_text("STRATEGY_SEQUENCE=open\nLOT_METHOD=lifo\nLEDGER_EXPORT_MODE=off\nX=1\n")
    found = findings(tmp_path)
    assert [finding.level for finding in found[:3]] == ["warn", "warn", "note"]
    assert str(found[1]) == ".env_bot:2: LOT_METHOD=lifo: accepted, no effect yet."
    (tmp_path / ".env_bot").write_text("STRATEGY_SEQUENCE=nobody\nWEIGHTS=2\nLOT_METHOD=lifo\n")
    found = findings(tmp_path)
    assert [finding.level for finding in found] == ["fail", "fail", "warn"]


def test_a_check_prints_the_planned_worst_day(tmp_path: Path) -> None:
    """Four trades of 0.8, 0.4, 0.4 and 0.4 % of equity with a stop of 2 %: 0.04 % a window, 2 % of exposure."""
    (tmp_path / ".env_bot").write_text("STRATEGY_SEQUENCE=open,mid\nSTRAT_MID_ENABLED=false\n")
    found = findings(tmp_path)
    assert [str(finding) for finding in found if finding.level == "ok"] == [
        "2 settings of 1 file set, all others use their defaults; open would run.",
        "Planned worst day: 0.04 % of equity, before slippage and fees; largest gross exposure: 2 % of equity.",
    ]
    assert (found[0].level, found[0].keys) == ("note", ("DAILY_LOSS_LIMIT",))


@pytest.mark.parametrize(
    ("owner", "sentence"),
    [
        ("core", ""),
        ("broker paper", ""),
        ("strategy foo", "Needs plugin strategy foo, which is not installed."),
        ("filter finnhub", "Needs plugin tbot-filter-finnhub, which is not installed."),
    ],
)
def test_what_belongs_to_a_plugin_that_is_not_installed_says_so(owner: str, sentence: str) -> None:
    """By the distribution where the project has made it."""
    assert needed_plugin(owner, {("broker", "paper")}) == sentence


def test_a_check_names_the_standard_filters_that_are_taken_away(tmp_path: Path) -> None:
    """With what they check; settings that take none away say nothing."""
    words = "Off by FILTERS: price_volume (price, volume, gap, market capitalisation and spread checks)"
    for text, off in (("mine", []), ("mine,-price_volume", [f"{words}."]), ("none\nENABLE_BSM_FILTER=1", [words])):
        (tmp_path / ".env_bot").write_text(f"STRATEGY_SEQUENCE=open\nFILTERS={text}\n")
        found = findings(tmp_path)
        said = [one.message for one in found if one.level == "ok" and one.keys == ("FILTERS",)]
        assert [one[: len(words) + 1].rstrip(",") for one in said] == off
        assert not said or ("black_scholes (" in said[0]) is ("BSM" in text)


@pytest.mark.parametrize(
    ("text", "worst_day", "gross", "silent"),
    [
        ("TOTAL_ALLOCATION=0.5\nMAX_RISK_PER_TRADE=0.1", "0.008", "0.1", "MAX_GROSS_EXPOSURE"),
        ("FIXED_QUANTITY=10\nMAX_TRADES=9\nWEIGHTS=1", "0.0045", "0.1", "MAX_OPEN_POSITIONS"),
        ("STOP_ATR=2\nTOTAL_ALLOCATION=0.1", "0.05", "0.085", "DAILY_LOSS_LIMIT"),
        ("STOP_ATR=2\nTOTAL_ALLOCATION=0.1", "0.05", "0.085", "WINDOW_LOSS_LIMIT"),
        ("TOTAL_ALLOCATION=1\nMAX_RISK_PER_TRADE=0.2\nMAX_SYMBOL_EXPOSURE=0.1", "0.008", "0.1", "MAX_GROSS_EXPOSURE"),
        ("MAX_LEVERAGE=0.01", "0.0004", "0.01", "MAX_LEVERAGE"),
        ("MAX_OPEN_POSITIONS=1", "0.0004", "0.008", "MAX_OPEN_POSITIONS"),
        ("TOTAL_ALLOCATION=0.2", "0.002", "0.1", "MAX_RISK_PER_TRADE"),
    ],
)
def test_the_plan_is_bounded_by_every_limit(tmp_path: Path, text: str, worst_day: str, gross: str, silent: str) -> None:
    """Each limit caps the figures where it binds, and is noted only where it cannot."""
    planned = planned_worst_day(loaded(tmp_path, f"STRATEGY_SEQUENCE=open\n{text}\n"))
    assert (planned.worst_day, planned.gross) == (Decimal(worst_day), Decimal(gross))
    assert not any(note.startswith(silent) for note in planned.notes)


def test_without_a_strategy_nothing_is_at_risk(tmp_path: Path) -> None:
    """No strategy: no loss, no exposure, and the check says so."""
    planned = planned_worst_day(loaded(tmp_path, "SEED=1\n"))
    assert (planned.worst_day, planned.gross) == (Decimal(0), Decimal(0))
    found = findings(tmp_path)
    assert any("no strategy would run" in str(finding) for finding in found)


def test_the_reference_page_is_in_step(root: Path) -> None:
    """docs/reference/settings.md is what the declarations say; `python tools/reference.py` renews it."""
    assert (root / "docs" / "reference" / "settings.md").read_text(encoding="utf-8") == render()


def test_the_reference_page_holds_every_variable() -> None:
    """No variable of the core or of its table of plugins is left out."""
    page = render()
    declared = [declarations(config).values() for config in GROUPS.values()]
    for declaration in itertools.chain(*declared, *(plugin.settings.values() for plugin in known_plugins())):
        assert f"| `{declaration.name}` |" in page


@pytest.mark.parametrize(
    "plugin", [it for it in known_plugins() if it.settings], ids=lambda plugin: f"{plugin.kind}-{plugin.name}"
)
def test_the_cores_table_agrees_with_the_plugins_own_declarations(plugin: KnownPlugin) -> None:
    """With or without its plugin, a variable has the same name, bounds and default, and permits more by one change."""
    listings = [
        it for it in discovery.installed_plugins() if (it.entry.kind, it.entry.name) == (plugin.kind, plugin.name)
    ]
    if not listings:
        pytest.skip(f"the {plugin.kind} {plugin.name} is not installed")
    (loaded,), failures = PluginLoader().offers([(plugin.kind, plugin.name)], listings)
    assert failures == ()
    own = {one.name: one for one in declarations(loaded.plugin.config).values()}
    for one in plugin.settings.values():
        mine = own[one.name]
        assert (mine.kind.allowed, mine.default_text, mine.permits) == (one.kind.allowed, one.default_text, one.permits)
