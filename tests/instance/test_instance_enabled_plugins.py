"""Which plugins the settings enable."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tbot_core import instance
from tbot_core.instance import plugins_enabled, raw_settings
from tbot_core.system import processes

if TYPE_CHECKING:
    from pathlib import Path


def test_nothing_is_enabled_without_an_instance(tmp_path: Path) -> None:
    """A folder without settings enables no plugin."""
    assert raw_settings(tmp_path) == {}
    assert plugins_enabled({}) == frozenset()


def test_every_kind_is_read_from_its_variables() -> None:
    """Broker in any case, data source, enabled strategies, filters by their switches, channels, all extensions."""
    texts = {
        "BROKER_NAME": "ALPACA",
        "DATA_SOURCE": "tradier",
        "STRATEGY_SEQUENCE": "open, Mid,close",
        "STRAT_MID_ENABLED": "false",
        "ENABLE_FINNHUB_FUNDAMENTALS_FILTER": "yes",
        "ENABLE_BSM_FILTER": "true",
        "CRITICAL_ALERT_CHANNEL": "pagerduty, Slack",
    }
    assert plugins_enabled(texts) == {
        ("broker", "alpaca"),
        ("broker", "tradier"),
        ("strategy", "open"),
        ("strategy", "close"),
        ("filter", "price_volume"),
        ("filter", "finnhub"),
        ("filter", "black_scholes"),
        ("alert", "pagerduty"),
        ("alert", "slack"),
        ("alert", "console"),
        ("extension", "*"),
    }


@pytest.mark.parametrize(
    ("texts", "kind", "names"),
    [
        ({"STRATEGY_SEQUENCE": "open", "STRATEGY_OVERRIDE": "MID"}, "strategy", {"mid"}),
        ({"FILTERS": "spread, Mine"}, "filter", {"price_volume", "spread", "mine"}),
        ({"FILTERS": "price_volume"}, "filter", {"price_volume"}),
        ({"FILTERS": "mine", "ENABLE_BSM_FILTER": "on"}, "filter", {"price_volume", "black_scholes", "mine"}),
        ({"FILTERS": "finnhub"}, "filter", {"price_volume", "finnhub"}),
        ({"FILTERS": "-price_volume, mine", "ENABLE_BSM_FILTER": "on"}, "filter", {"black_scholes", "mine"}),
        ({"FILTERS": "-black_scholes", "ENABLE_BSM_FILTER": "on"}, "filter", {"price_volume"}),
        ({"FILTERS": "none, mine", "ENABLE_BSM_FILTER": "on"}, "filter", {"mine"}),
        ({"FILTERS": "none"}, "filter", set()),
        ({"EXTENSIONS": "web,metrics"}, "extension", {"web", "metrics"}),
        ({"EXTENSIONS": "none"}, "extension", set()),
        ({"SEED": "1"}, "broker", {"paper"}),
        ({"SEED": "1"}, "filter", {"price_volume"}),
    ],
)
def test_a_list_replaces_what_holds_without_it(texts: dict[str, str], kind: str, names: set[str]) -> None:
    """The override runs alone, a list of names replaces the default one, and `none` is none.

    FILTERS names filters beside the standard ones, which a minus takes away, and `none` all of them.
    """
    assert {name for other, name in plugins_enabled(texts) if other == kind} == names


def test_both_files_are_read_and_extensions_only_from_the_global_one(tmp_path: Path) -> None:
    """`.env` names the trading configuration, and alone says which extensions are enabled."""
    (tmp_path / ".env").write_text("ENV_BOT_PATH=bot.txt\nEXTENSIONS=web\nSEED=1\n")
    (tmp_path / "bot.txt").write_text("BROKER_NAME=PAPER\nEXTENSIONS=dask\nSEED=2\n=broken\n")
    assert raw_settings(tmp_path) == {
        "ENV_BOT_PATH": "bot.txt",
        "EXTENSIONS": "web",
        "SEED": "2",
        "BROKER_NAME": "PAPER",
    }


@pytest.mark.parametrize("code", ["cli.invoke(['--help'])", "cli.invoke(['plugins', 'list', '--home', sys.argv[1]])"])
def test_listing_plugins_does_not_load_the_settings_themselves(tmp_path: Path, code: str) -> None:
    """The list and the help import none of the declarations, and nothing heavy; the list of plugins is not read."""
    (tmp_path / ".env_bot").write_text("STRATEGY_SEQUENCE=open\nENABLE_BSM_FILTER=false\n")
    code = (
        f"import sys\nfrom tbot_core import cli\nassert {code} == 0\n"
        "heavy = {'tbot_core.contracts.settings', 'tbot_core.contracts.setting', 'tbot_core.instance.plugin_settings',"
        " 'tomllib', 'numpy', 'polars', 'asyncio'}\nprint(sorted(heavy & set(sys.modules)))"
    )
    finished = processes.run_program([sys.executable, "-c", code, str(tmp_path)], timeout_s=30, environment={})
    assert finished.output.splitlines()[-1] == "[]", finished.errors


def test_a_name_that_is_not_offered_is_an_attribute_error() -> None:
    """The package offers its public names and no others."""
    assert all(hasattr(instance, name) for name in instance.__all__)
    absent = "absent"
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        getattr(instance, absent)
