"""Settings as values: plugins' configs, and the fingerprint."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.contracts import settings
from tbot_core.contracts.setting import DeclaredConfig, declarations, fraction, integer, names, setting
from tbot_core.errors import SettingsError
from tbot_core.instance import examine_settings, load_settings
from tbot_core.instance.registry import GROUPS
from tbot_core.model.window import Window

if TYPE_CHECKING:
    from pathlib import Path


def write(home: Path, text: str) -> Path:
    """An instance with this trading configuration."""
    (home / ".env_bot").write_text(text)
    return home


@attrs.frozen(kw_only=True)
class Mine:
    """A third party's settings."""

    window: Window
    edge: float = setting("MINE_EDGE", fraction(of=float), default="0.1", doc="A distance.")
    stop_loss_pct: float = setting("STOP_LOSS_PCT", fraction(of=float), default="0.5", doc="The core's.")
    gap: Decimal = setting("MAX_GAP_PCT_{NAME}", fraction(most="0.5"), default="0.1", doc="The core's.")
    plain: int = 4


MINE = DeclaredConfig(kind="strategy", name="mine", config=Mine)


def test_a_plugins_config_is_filled_from_the_settings(tmp_path: Path) -> None:
    """Its own variables, the core's that it declares too, those of its name, and its window; in its own types."""
    text = "STRATEGY_SEQUENCE=mine\nMINE_EDGE=0.25\nSTOP_LOSS_PCT=0.03\nSTART_TIME_MINE=14:40\nMAX_GAP_PCT_MINE=0.2\n"
    found = load_settings(write(tmp_path, text), mode="replay", declared=[MINE])
    window = Window(start=10, analysis=20, breakout=10, monitoring=30)
    config = found.plugin_config(Mine, "mine")
    assert config == Mine(window=window, edge=0.25, stop_loss_pct=0.03, gap=Decimal("0.2"))
    assert isinstance(config.stop_loss_pct, float)
    assert found.values["MINE_EDGE"].owner == "strategy mine"
    other = attrs.evolve(window, start=70)
    assert found.plugin_config(Mine, "mine", window=other).window == other
    assert found.warnings == ()


def test_the_cores_default_holds_for_a_plugin_that_reads_the_cores_setting(tmp_path: Path) -> None:
    """STOP_LOSS_PCT means one thing, whatever default a plugin declares beside the core's."""
    found = load_settings(write(tmp_path, "STRATEGY_SEQUENCE=mine"), mode="replay", declared=[MINE])
    assert found.plugin_config(Mine, "mine").stop_loss_pct == 0.02


def test_a_plugins_variables_are_checked_like_the_cores(tmp_path: Path) -> None:
    """Its own kind, and a stricter one beside the core's, refuse with file and line."""
    write(tmp_path, "STRATEGY_SEQUENCE=mine\nMINE_EDGE=2\nMAX_GAP_PCT_MINE=0.9\n")
    found = examine_settings(tmp_path, mode="replay", declared=[MINE]).findings
    assert [str(finding) for finding in found] == [
        ".env_bot:2: MINE_EDGE=2: allowed is a fraction (0.02 is 2 %) from 0 to 1.",
        ".env_bot:3: MAX_GAP_PCT_MINE=0.9: allowed for strategy mine is a fraction (0.02 is 2 %) from 0 to 0.5.",
    ]


@attrs.frozen(kw_only=True)
class Drawing:
    """Settings of a plugin that draws by the core's seed."""

    seed: int = setting("SEED", integer(least=0, most=2**32 - 1), default="0", doc="The core's.")


def test_what_all_who_read_a_variable_say_alike_is_said_once(tmp_path: Path) -> None:
    """The core and a plugin that allow the same refuse a value in one line."""
    write(tmp_path, "SEED=-1\n")
    drawing = DeclaredConfig(kind="broker", name="drawing", config=Drawing)
    found = examine_settings(tmp_path, mode="replay", declared=[drawing]).findings
    assert [str(finding) for finding in found if finding.level == "fail"] == [
        ".env_bot:1: SEED=-1: allowed is a whole number from 0 to 4294967295."
    ]


@attrs.frozen(kw_only=True)
class Late:
    """Settings of a plugin that was not announced."""

    edge: Decimal = setting("LATE_EDGE", fraction(), default="0.1", doc="A distance.")
    symbols: tuple[str, ...] = setting("LATE_SYMBOLS", names(), default="A", doc="Symbols.")


def test_a_config_that_was_not_announced_is_filled_and_checked_too(tmp_path: Path) -> None:
    """A class that `load` did not know reads the same files, and says all its faults at once."""
    found = load_settings(write(tmp_path, "STRATEGY_SEQUENCE=open\nLATE_EDGE=0.3\n"), mode="replay")
    assert found.plugin_config(Late) == Late(edge=Decimal("0.3"))
    found = load_settings(tmp_path, mode="replay", overrides={"LATE_EDGE": "3", "LATE_SYMBOLS": ",,"})
    with pytest.raises(SettingsError) as caught:
        found.plugin_config(Late)
    assert caught.value.message.splitlines() == [
        "LATE_EDGE=3: allowed is a fraction (0.02 is 2 %) from 0 to 1.",
        "LATE_SYMBOLS=,,: allowed is names separated by commas.",
    ]


BASE = "STRATEGY_SEQUENCE=open,mid\nSTART_TIME_MID=15:30\n"


@pytest.mark.parametrize(
    "text",
    [
        BASE + "# a comment\nTOTAL_ALLOCATION=0.020\n",
        BASE + "DEBUG_LOG_LEVEL=quiet\nNOTIFY_ON_FILL=false\nAPI_TIMEOUT=10\n",
        BASE + "BROKER_NAME=ibkr\n",
        BASE + "FILTERS=price_volume\n",
        BASE + "START_TIME_CLOSE=19:00\nMAX_PE_RATIO=3\nLOT_METHOD=lifo\n",
        "START_TIME_MID=15:30\nSTRATEGY_SEQUENCE=open,mid,close\nSTRAT_CLOSE_ENABLED=0\n",
    ],
)
def test_the_fingerprint_ignores_what_no_decision_depends_on(tmp_path: Path, text: str) -> None:
    """Spelling, logs, alerts, a simulation's broker, what does not run, and what nothing acts on."""
    first = load_settings(write(tmp_path, BASE), mode="replay").fingerprint
    assert load_settings(write(tmp_path, text), mode="backtest").fingerprint == first
    assert len(first) == 64


@pytest.mark.parametrize(
    "text",
    [
        BASE + "TOTAL_ALLOCATION=0.03\n",
        BASE + "SEED=1\n",
        BASE + "START_TIME_OPEN=14:31\n",
        BASE + "STRAT_OPEN_BUFFER=0.03\n",
        BASE + "MAX_PRICE=7\n",
        BASE + "FILTERS=none\n",
        "STRATEGY_SEQUENCE=mid,open\nSTART_TIME_MID=15:30\n",
    ],
)
def test_the_fingerprint_distinguishes_settings_that_trade_differently(tmp_path: Path, text: str) -> None:
    """Budgets, seed, windows, thresholds, filters, and the order of strategies."""
    first = load_settings(write(tmp_path, BASE), mode="replay").fingerprint
    assert load_settings(write(tmp_path, text), mode="replay").fingerprint != first


def test_the_fingerprint_knows_the_tables_that_running_plugins_decide_by(tmp_path: Path) -> None:
    """The content of a file that is there; none at all, and one of a filter that does not run, change nothing."""
    offer = DeclaredConfig(kind="filter", name="price_volume", tables=("funds.csv",))
    home = write(tmp_path, BASE)

    def fingerprint_of(*declared: DeclaredConfig, text: str = BASE) -> str:
        return load_settings(write(home, text), mode="replay", declared=declared).fingerprint

    plain, off = fingerprint_of(), fingerprint_of(text=BASE + "FILTERS=none\n")
    assert fingerprint_of(offer) == plain
    folder = home / "data" / "tables"
    folder.mkdir(parents=True)
    hashes = []
    for content in ("symbol,name\nSPY,A\n", "symbol,name\nAMD,B\n"):
        (folder / "funds.csv").write_text(content)
        hashes.append(fingerprint_of(offer))
    assert len({plain, *hashes}) == 3
    assert fingerprint_of() == plain
    assert fingerprint_of(offer, text=BASE + "FILTERS=none\n") == off


def test_the_fingerprint_knows_the_operators_index_funds(tmp_path: Path) -> None:
    """They decide by which limit a fund counts."""
    home = write(tmp_path, BASE)
    shipped = load_settings(home, mode="replay")
    (home / "data" / "tables").mkdir(parents=True)
    (home / "data" / "tables" / "index_funds.csv").write_text("index,symbol,leverage\nS&P 500,SH,-1\n")
    own = load_settings(home, mode="replay")
    assert own.fingerprint != shipped.fingerprint
    assert (shipped.tables, [*own.tables]) == ({}, ["index_funds.csv"])


def test_the_broker_counts_where_it_is_asked(tmp_path: Path) -> None:
    """On paper the broker's name is part of what decisions depend on."""
    first = load_settings(write(tmp_path, BASE), mode="paper").fingerprint
    assert load_settings(write(tmp_path, BASE + "BROKER_NAME=ibkr\n"), mode="paper").fingerprint != first


def test_no_setting_without_effect_is_read(root: Path) -> None:
    """A setting that `tbot config explain` reports as without effect has a field that no module reads."""
    sources = [
        (path, path.read_text(encoding="utf-8"))
        for folder in ("tbot_core", "plugins")
        for path in sorted((root / folder).rglob("*.py"))
        if "tests" not in path.parts
    ]
    groups = [*GROUPS.values(), settings.StrategySettings]
    idle = [field for group in groups for field, one in declarations(group).items() if not one.acted_on]
    assert "lot_method" in idle
    found = [
        f"{field} is read in {path.relative_to(root)}"
        for field in idle
        for path, text in sources
        if re.search(rf"\.{field}\b", text)
    ]
    assert found == []


def test_the_fingerprint_covers_a_host_that_the_operator_chooses(tmp_path: Path) -> None:
    """Live trading that was armed with another one is disarmed; the address of a rehearsal is no part of it."""
    home = write(tmp_path, BASE)
    given = {"service": "https://*", "fixed": "https://b.example"}
    hook = DeclaredConfig(kind="alert", name="hook", hosts=given)

    def found(**texts: str) -> str:
        return load_settings(home, mode="paper", declared=[hook], overrides=texts).fingerprint

    one = found(HOST_HOOK_SERVICE="https://a.example")
    assert one != found(HOST_HOOK_SERVICE="https://c.example")
    assert one == found(HOST_HOOK_SERVICE="https://a.example", HOST_HOOK_FIXED="http://127.0.0.1:1")
