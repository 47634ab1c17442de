"""From files and options to checked, typed settings."""

from __future__ import annotations

from datetime import time
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from tbot_core.contracts.setting import declarations
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import SettingsError, VaultError
from tbot_core.instance import Instance, Settings, examine_settings, load_settings, read_settings_files
from tbot_core.instance.folder import IGNORE_FILES
from tbot_core.instance.loading import package_version
from tbot_core.instance.secret_paths import SecretPaths
from tbot_core.instance.sources import deployment_of
from tbot_core.model.window import Window

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.instance.findings import Mode

MODES: list[Mode] = ["replay", "demo", "backtest", "dry-run", "paper", "live"]


def write(home: Path, text: str = "STRATEGY_SEQUENCE=open\n", env: str | None = None) -> Path:
    """An instance with this trading configuration and global configuration."""
    (home / ".env_bot").write_text(text, encoding="utf-8", newline="")
    if env is not None:
        (home / ".env").write_text(env, encoding="utf-8")
    return home


def faults(home: Path, mode: Mode = "replay") -> list[str]:
    """What refuses to load."""
    return [str(finding) for finding in examine_settings(home, mode=mode).findings if finding.level == "fail"]


def warnings(found: Settings) -> list[str]:
    """What is worth knowing."""
    return [str(finding) for finding in found.warnings]


def test_both_samples_load_byte_for_byte(tmp_path: Path, shared: Path) -> None:
    """The user's own files are read as they are, with every value that they mean."""
    (tmp_path / ".env").write_bytes((shared / "reference" / "env.sample").read_bytes())
    (tmp_path / ".env_bot").write_bytes((shared / "reference" / "env_bot.sample").read_bytes())
    found = load_settings(tmp_path, mode="paper")
    assert found.strategies == ("open", "mid", "close")
    assert found.filters == ("price_volume", "finnhub", "black_scholes")
    assert (found.trading.broker_name, found.trading.sleep_time) == ("alpaca", 1.0)
    assert (found.risk.max_open_positions, found.risk.weights[0]) == (5, Decimal("0.4"))
    assert (found.entries.fractional, found.rebalance.rebalance_enabled) == (True, True)
    assert found.frames["close"].start_time == time(19, 30)
    assert found.frames["mid"].short_type == "InverseETF"
    assert found.frames["open"].max_market_cap == Decimal(10_000_000_000)
    assert found.simulation.slippage_stddev_pct == Decimal("0.1")
    assert found.deployment.session_timeout == 3000.0
    assert not any("Unknown setting" in warning for warning in warnings(found))


def test_every_key_of_the_samples_is_owned(tmp_path: Path, shared: Path) -> None:
    """Each variable of both samples is known with its file and line as origin."""
    known = 0
    for name, sample in ((".env", "env.sample"), (".env_bot", "env_bot.sample")):
        data = (shared / "reference" / sample).read_bytes()
        (tmp_path / name).write_bytes(data)
        for number, line in enumerate(data.decode().splitlines(), 1):
            key, equals, _ = line.strip().partition("=")
            if equals and not key.startswith("#") and not key.startswith("NOTIFY_ON"):
                found = examine_settings(tmp_path, mode="demo").values[key]
                assert str(found.origin) == f"{name}:{number}"
                known += 1
    assert known > 100


def test_a_small_file_holds_with_defaults_for_the_rest(tmp_path: Path) -> None:
    """What a file does not say has its default; the global configuration may be absent."""
    found = load_settings(write(tmp_path, "STRATEGY_SEQUENCE=Mid\nSTART_TIME_MID=15:30\n"), mode="replay")
    assert found.strategies == ("mid",)
    assert found.window("mid") == Window(start=60, analysis=20, breakout=10, monitoring=30)
    assert found.frames["mid"].enabled
    assert found.deployment.control_dir == "control"
    assert found.instance.home == tmp_path
    assert found.warnings == ()


def test_an_option_wins_over_the_file_over_the_default(tmp_path: Path) -> None:
    """Precedence: option, file, default; each value says where it comes from."""
    found = load_settings(
        write(tmp_path, "STRATEGY_SEQUENCE=open\nSEED=4\nMAX_TRADES=2\n"), mode="demo", overrides={"SEED": "9"}
    )
    assert (found.simulation.seed, found.risk.max_trades, found.risk.max_open_positions) == (9, 2, 5)
    origins = {key: str(found.values[key].origin) for key in ("SEED", "MAX_TRADES", "MAX_OPEN_POSITIONS")}
    assert origins == {"SEED": "option", "MAX_TRADES": ".env_bot:3", "MAX_OPEN_POSITIONS": "default"}
    assert [found.values[key].is_set for key in origins] == [True, True, False]


def test_the_process_environment_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the process changes no setting and is not interpolated."""
    monkeypatch.setenv("SEED", "9")
    found = load_settings(write(tmp_path, "STRATEGY_SEQUENCE=open\nFAILOVER_LOG_TAG=X\nSEED=1\n"), mode="demo")
    assert found.simulation.seed == 1
    assert faults(write(tmp_path, "SEED=${SEED}\n")) == [
        ".env_bot:1: SEED=${SEED}: allowed is a whole number from 0 to 4294967295."
    ]


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    """Files, values and rules: each fault has its line, and none hides another."""
    text = (
        "STRATEGY_SEQUENCE=open,open\n=x\nMAX_TRADES=-1\nWEIGHTS=0.9,0.9\n"
        "SLEEP_TIME=0\nSTART_TIME_OPEN=09:00\nNOVALUE\nMAX_GAP_PCT_OPEN=20\n"
    )
    with pytest.raises(SettingsError) as caught:
        load_settings(write(tmp_path, text, env="ENVIRONMENT=staging\n"), mode="replay")
    lines = caught.value.message.splitlines()
    assert [line.split(" ")[0] for line in lines] == [
        f"{file}:{line}:"
        for file, line in (
            (".env", 1),
            *((".env_bot", number) for number in range(1, 9)),
        )
    ]
    assert "allowed is one of production, development" in lines[0]
    assert "tbot config check" in caught.value.remedy
    assert caught.value.exit_code == 3


def test_a_page_of_faults_is_cut(tmp_path: Path) -> None:
    """Somebody's novel in place of a settings file gives a message that fits a screen buffer."""
    with pytest.raises(SettingsError) as caught:
        load_settings(write(tmp_path, "Once upon a time\n" * 300), mode="replay")
    assert caught.value.message.endswith("\nand 100 more faults.")


def test_a_missing_configuration_names_the_demo(tmp_path: Path) -> None:
    """A folder without an instance is one sentence with a way to look; a demo needs none."""
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path, mode="replay")
    assert "has no trading configuration .env_bot" in str(caught.value)
    assert "tbot run --demo" in str(caught.value)
    assert caught.value.remedy == ""
    assert load_settings(tmp_path, mode="demo", overrides={"STRATEGY_SEQUENCE": "open"}).strategies == ("open",)


def test_an_instance_that_is_not_there_is_said_to_be_that(tmp_path: Path) -> None:
    """A folder that does not exist and a file in its place are two faults, and neither is a missing configuration."""
    (tmp_path / "note").write_text("")
    for name, words in (("nowhere", "does not exist"), ("note", "is a file, but an instance is a folder")):
        with pytest.raises(SettingsError, match=words):
            load_settings(tmp_path / name, mode="replay")


@pytest.mark.parametrize("named", ["/", ".", "..", "a\0b", "control"])
def test_a_path_that_is_no_file_is_one_fault(tmp_path: Path, named: str) -> None:
    """ENV_BOT_PATH may hold anything: what is no file is refused with a sentence."""
    (tmp_path / "control").mkdir()
    (tmp_path / ".env").write_text(f"ENV_BOT_PATH={named}\n")
    assert faults(tmp_path)


def test_an_unreadable_configuration_is_a_settings_fault(tmp_path: Path) -> None:
    """What stands at the path and cannot be read is said with the system's reason, exit code 3."""
    (tmp_path / ".env_bot").mkdir()
    with pytest.raises(SettingsError, match="Cannot read") as caught:
        load_settings(tmp_path, mode="replay")
    assert caught.value.exit_code == 3
    (tmp_path / ".env").write_text(f"ENV_BOT_PATH={'x' * 5000}\n")
    with pytest.raises(SettingsError, match="allowed is a path"):
        load_settings(tmp_path, mode="replay")


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    """A file larger than any settings file is not read into memory."""
    (tmp_path / ".env_bot").write_bytes(b"#" * 300_000)
    assert "holds more than 262144 bytes" in faults(tmp_path)[0]


def test_the_global_configuration_names_the_other(tmp_path: Path) -> None:
    """ENV_BOT_PATH moves the trading configuration, relative to the instance; outside it warns."""
    (tmp_path / "bot").write_text("STRATEGY_SEQUENCE=open\n")
    (tmp_path / ".env").write_text("ENV_BOT_PATH=bot\nCONTROL_DIR=/elsewhere\n")
    found = load_settings(tmp_path, mode="replay")
    assert str(found.values["STRATEGY_SEQUENCE"].origin) == "bot:1"
    assert warnings(found) == [".env:2: CONTROL_DIR=/elsewhere is outside of the instance."]


def test_f105_live_refuses_plaintext(tmp_path: Path) -> None:
    """Live trading needs an encrypted trading configuration; every other mode reads the plaintext one."""
    write(tmp_path)
    for mode in MODES:
        sentence = "live trading does not accept a plaintext trading configuration: `tbot config encrypt` encrypts it."
        expected = [f".env_bot: {sentence}"]
        assert faults(tmp_path, mode) == (expected if mode == "live" else [])


@pytest.mark.parametrize(("name", "category"), [(".env", "env"), (".env_bot", "env_bot")])
def test_an_encrypted_file_is_never_passed_over(tmp_path: Path, name: str, category: str) -> None:
    """An encrypted file counts even where it cannot be opened: a plaintext one beside it is not used in its place."""
    write(tmp_path)
    (tmp_path / f"{name}.enc").write_bytes(b"token")
    (tmp_path / f"{name}.enc").chmod(0o600)
    for mode in MODES:
        assert f"{name}.enc: TB-SEC-021 {category}: its key file storage/keys/" in "\n".join(faults(tmp_path, mode))


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        ("TOTAL_ALOCATION=1", "Unknown setting TOTAL_ALOCATION; the nearest name is TOTAL_ALLOCATION."),
        ("START_TIME_OPNE=14:30", "Unknown setting START_TIME_OPNE; the nearest name is START_TIME_OPEN."),
        ("seed=1", "Unknown setting seed; the nearest name is SEED."),
        ("QWERTYUIOP=hunter2", "Unknown setting QWERTYUIOP."),
        (
            "SIGNAL_MAX_AGE=2",
            (
                "SIGNAL_MAX_AGE is no longer a setting: a signal is acted on only while its bar is the latest closed "
                "one, live as in replay and backtest."
            ),
        ),
        ("QWERTYUIOP=", "Unknown setting QWERTYUIOP."),
        (
            "c2VjcmV0LXZhbHVl==",
            "The line is not KEY=value. It is not shown, since it may be a secret that ends with `=`.",
        ),
        ("CONTROL_DIR=x", "CONTROL_DIR belongs in .env and is ignored here."),
    ],
)
def test_a_key_that_is_not_used_warns(tmp_path: Path, line: str, warning: str) -> None:
    """An unknown key names the nearest known one and never its value; one of the other file says where it belongs."""
    found = load_settings(write(tmp_path, f"STRATEGY_SEQUENCE=open\n{line}\n"), mode="replay")
    assert warnings(found) == [f".env_bot:2: {warning}"]
    assert found.deployment.control_dir == "control"


def test_an_unknown_option_warns(tmp_path: Path) -> None:
    """An option for an unknown variable is reported too."""
    found = load_settings(write(tmp_path), mode="replay", overrides={"QWERTYUIOP": "1"})
    assert warnings(found) == ["option: Unknown setting QWERTYUIOP."]


def test_a_page_of_unknown_keys_is_not_compared_for_ever(tmp_path: Path) -> None:
    """The nearest name is looked for in the first fifty unknown keys only."""
    text = "STRATEGY_SEQUENCE=open\n" + "".join(f"TOTAL_ALLOCATIO{number}=1\n" for number in range(60))
    nearest = [
        warning for warning in warnings(load_settings(write(tmp_path, text), mode="replay")) if "nearest" in warning
    ]
    assert len(nearest) == 50


def test_an_alias_is_the_same_setting(tmp_path: Path) -> None:
    """Both spellings of the switch work; where both stand the last counts and says so."""
    text = "STRATEGY_SEQUENCE=open\nENABLE_FINNHUB_FUNDAMENTALS_FILTER=true\n"
    found = load_settings(write(tmp_path, text), mode="replay")
    assert (found.filters, found.warnings) == (("price_volume", "finnhub"), ())
    found = load_settings(write(tmp_path, text + "ENABLE_FUNNHUB_FUNDAMENTALS_FILTER=false\n"), mode="replay")
    assert found.filters == ("price_volume",)
    assert warnings(found) == [
        (
            ".env_bot:3: ENABLE_FUNNHUB_FUNDAMENTALS_FILTER is an alias of ENABLE_FINNHUB_FUNDAMENTALS_FILTER on "
            "line 2; this line takes precedence."
        )
    ]


@pytest.mark.parametrize(
    ("text", "strategies", "frames"),
    [
        ("STRATEGY_SEQUENCE=close,open", ("close", "open"), ["close", "open"]),
        ("STRATEGY_SEQUENCE=open,mid\nSTRAT_OPEN_ENABLED=false", ("mid",), ["open", "mid"]),
        ("STRATEGY_SEQUENCE=open,mid\nSTRATEGY_OVERRIDE=MID", ("mid",), ["open", "mid"]),
        ("STRATEGY_SEQUENCE=open\nSTRATEGY_OVERRIDE=close", ("close",), ["open", "close"]),
        ("STRATEGY_SEQUENCE=mine\nMINE_ANALYSIS_TIME=7", ("mine",), ["mine"]),
    ],
)
def test_sequence_override_and_switches_say_who_runs(
    tmp_path: Path, text: str, strategies: tuple[str, ...], frames: list[str]
) -> None:
    """The order of the sequence holds, a disabled one drops out, an override runs alone, any name counts."""
    found = load_settings(write(tmp_path, text), mode="replay")
    assert found.strategies == strategies
    assert list(found.frames) == frames
    assert found.warnings == ()


def test_a_third_partys_strategy_reads_its_standard_variables(tmp_path: Path) -> None:
    """A strategy NAME has the nine standard variables with NAME in theirs."""
    text = (
        "STRATEGY_SEQUENCE=gap_up\nSTART_TIME_GAP_UP=16:00\nGAP_UP_ANALYSIS_TIME=1\nGAP_UP_BREAKOUT_TIME=2\n"
        "GAP_UP_MONITORING_TIME=3\nSHORT_TYPE_GAP_UP=ShortSell\nMAX_GAP_PCT_GAP_UP=0.5\nMIN_MARKET_CAP_GAP_UP=0\n"
        "MAX_MARKET_CAP_GAP_UP=\nSTRAT_GAP_UP_ENABLED=yes\n"
    )
    found = load_settings(write(tmp_path, text), mode="replay")
    frame = found.frames["gap_up"]
    assert found.window("gap_up") == Window(start=90, analysis=1, breakout=2, monitoring=3)
    assert (frame.short_type, frame.max_gap_pct) == ("ShortSell", Decimal("0.5"))
    assert (frame.min_market_cap, frame.max_market_cap) == (None, None)
    assert found.warnings == ()


def test_the_version_is_the_packages() -> None:
    """VERSION.md of the package states one version."""
    assert package_version().removeprefix("v").count(".") == 2


@profile(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=200)
    | st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "ENV_BOT_PATH",
                    "STRATEGY_SEQUENCE",
                    "STRATEGY_OVERRIDE",
                    "WEIGHTS",
                    "START_TIME_OPEN",
                    "FILTERS",
                    "VERSION_TAG",
                ]
            ),
            st.text(alphabet="open,mid.019:-_/ Aé\0\"'#", max_size=12),
        ),
        max_size=6,
    ).map(lambda pairs: "\n".join(f"{key}={value}" for key, value in pairs).encode())
)
def test_any_bytes_give_settings_or_one_settings_error(tmp_path: Path, data: bytes) -> None:
    """Whatever stands in the file: settings, or a SettingsError, and never anything else."""
    for name in (".env", ".env_bot"):
        (tmp_path / name).write_bytes(data)
    examined = examine_settings(tmp_path, mode="replay")
    if examined.settings is None:
        with pytest.raises(SettingsError, match=r"\S"):
            load_settings(tmp_path, mode="replay")
    else:
        assert load_settings(tmp_path, mode="replay") == examined.settings


PATHS = [one.name for one in declarations(DeploymentSettings).values() if one.kind.name == "path"]
SHAPES = [
    "u3ep2BjC9Ir7UWZ4y0qvO_dwoBPY77ADYPB0zPbWb-U=",
    "tbot1.VEJPVEVOQwEBu3ep2BjC9Ir7UWZ4y0qvO_dwoBPY77ADYPB0zPbWb-U",
    "-----BEGIN PRIVATE KEY-----MC4CAQAwBQYDK2VwBCIEIFq1",
    "AKIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI7K7MDENGxbPxRfiCYEXAMPLE4KEY9",
]


@pytest.mark.parametrize("shape", SHAPES, ids=["key", "token", "PEM", "key id", "random"])
def test_a_secret_in_place_of_a_path_is_refused_and_not_shown(tmp_path: Path, shape: str) -> None:
    """In each setting that is a path: the fault names setting and line, and no value, path or ignore file has it."""
    lines = "".join(f"{name}='{shape}'\n" for name in PATHS)
    home = write(tmp_path, env=lines)
    assert faults(home) == [
        f".env:{line}: {name} is shaped like a secret, which is not shown; allowed is a path, relative to the instance."
        for line, name in enumerate(PATHS, 1)
    ]
    found = examine_settings(home, mode="paper")
    assert shape not in repr(found)
    paths = SecretPaths(Instance(home), deployment_of(read_settings_files(Instance(home)).env.parsed))
    paths.write_ignore_files()
    assert all(shape not in (home / name).read_text() for name in IGNORE_FILES)


def test_a_secret_in_place_of_the_path_of_the_first_key_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable of the environment is named, and its value nowhere."""
    monkeypatch.setenv("TBOT_ENV_ENC_KEY_PATH", SHAPES[0])
    with pytest.raises(VaultError, match="TBOT_ENV_ENC_KEY_PATH is shaped like a secret") as caught:
        SecretPaths(Instance(tmp_path), DeploymentSettings()).write_ignore_files()
    assert SHAPES[0] not in str(caught.value)
    assert not any(tmp_path.iterdir())
