"""The exit code of faults that are found together: by `tbot check`, and by the start that makes the same checks."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from tbot_core.actions.checks import CheckResult, SettingsExaminer, assert_start, control_folder_findings
from tbot_core.actions.plugin_declarations import PluginDeclarations
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import TbotError
from tbot_core.instance import Instance, read_settings_files, secrets
from tbot_core.instance.preflight import PreflightFinding

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.instance import Mode

ROWS = {
    "loose": PreflightFinding(level="fail", subject="requests", message="The folder is open.", exit_code=1),
    "secret": PreflightFinding(level="fail", subject="secrets", message="A secret is not valid.", exit_code=3),
    "login": PreflightFinding(level="warn", subject="broker", message="It does not answer.", exit_code=4),
    "sound": PreflightFinding(level="ok", subject="machine", message="It is sound.", exit_code=5),
}


@pytest.mark.parametrize(
    ("names", "strict", "code"),
    [
        ((), True, 0),
        (("sound",), True, 0),
        (("login", "sound"), False, 0),
        (("loose", "sound"), False, 1),
        (("loose", "secret"), False, 3),
        (("loose", "secret", "login", "sound"), False, 3),
        (("loose", "secret", "login", "sound"), True, 4),
    ],
)
def test_the_exit_code_of_a_check_is_the_highest_in_any_order(names: tuple[str, ...], strict: bool, code: int) -> None:
    """What is no failure does not count; a warning does where the check is strict."""
    for order in permutations(names):
        assert CheckResult(rows=tuple(ROWS[name] for name in order), strict=strict).code == code


def instance_with(home: Path, faults: tuple[str, ...]) -> Instance:
    """An instance whose files are encrypted, with these faults."""
    found, damaged = Instance(home), {"journal": "data/tbot.sqlite", "folder": "logs"}
    vault = secrets.open_instance_vault(found, DeploymentSettings())
    for category, text in (("env", "EXTENSIONS=none\n"), ("env_bot", "BROKER_NAME=PAPER\n")):
        secrets.encrypt_category(vault, category, text.encode())
    for fault in faults:
        if fault == "secret":
            secrets.encrypt_category(vault, "smtp", b"{}")
        else:
            (home / damaged[fault]).write_bytes(b"no database" * 100)
    return found


@pytest.mark.parametrize(
    ("faults", "code", "named"),
    [
        (("journal",), 1, ["tbot.sqlite"]),
        (("secret",), 3, ["TB-SEC-078"]),
        (("journal", "secret"), 3, ["tbot.sqlite", "TB-SEC-078"]),
        (("folder", "journal"), 1, ["tbot.sqlite"]),
        (("folder", "journal", "secret"), 3, ["tbot.sqlite", "TB-SEC-078"]),
    ],
)
def test_a_start_that_finds_several_faults_exits_as_the_check_does(
    tmp_path: Path, faults: tuple[str, ...], code: int, named: list[str]
) -> None:
    """With the highest code of those that end it, and it names each; a fault that ends no paper run does not count."""
    instance, warned = instance_with(tmp_path, faults), list[str]()
    sources = read_settings_files(instance)
    with pytest.raises(TbotError) as refused:
        assert_start(instance, sources, "paper", warn=warned.append)
    assert refused.value.exit_code == code
    assert [one for one in ("tbot.sqlite", "TB-SEC-078", "logs") if one in refused.value.message] == named


def test_a_fault_that_ends_no_paper_run_is_warned_of(tmp_path: Path) -> None:
    """Without others the run starts."""
    instance, warned = instance_with(tmp_path, ("folder",)), list[str]()
    assert_start(instance, read_settings_files(instance), "paper", warn=warned.append)
    assert [one for one in warned if "logs cannot be written to" in one]


@pytest.mark.parametrize(
    ("mode", "environment", "said"),
    [("paper", "production", True), ("paper", "development", False), ("replay", "production", False)],
)
def test_a_paper_start_says_what_live_trading_would_refuse(
    tmp_path: Path, mode: Mode, environment: str, said: bool
) -> None:
    """In production: plugins that are not approved, in one sentence, and files of loose modes with the remedy."""
    vault = secrets.open_instance_vault(Instance(tmp_path), DeploymentSettings())
    for category, text in (
        ("env", f"ENVIRONMENT={environment}\nEXTENSIONS=none\n"),
        ("env_bot", "BROKER_NAME=PAPER\n"),
    ):
        secrets.encrypt_category(vault, category, text.encode())
    vault.store.place("env").key.chmod(0o644)
    warned = list[str]()
    assert_start(Instance(tmp_path), read_settings_files(Instance(tmp_path)), mode, warn=warned.append)
    assert bool([one for one in warned if one.startswith("Live trading would refuse the plugins: There is no")]) is said
    assert bool([one for one in warned if "chmod 600" in one]) is said


def test_settings_are_examined_once_for_each_mode(tmp_path: Path) -> None:
    """Every row of a check judges the same examination, and invalid settings are none in each mode."""
    plugins = PluginDeclarations(installed=frozenset(), declared=(), failures=())
    (tmp_path / ".env_bot").write_text("MAX_TRADES=many\n")
    examiner = SettingsExaminer(tmp_path, plugins)
    assert examiner.examined("replay") is examiner.examined("replay")
    assert (examiner.settings("replay"), examiner.settings("paper"), examiner.start_mode()) == (None, None, "paper")


def test_a_file_in_place_of_the_control_folder_is_named_as_one(tmp_path: Path) -> None:
    """The remedy is to move it away; a mode would not make it a folder."""
    (tmp_path / "control").touch()
    (row,) = (one for one in control_folder_findings(Instance(tmp_path)) if one.level == "fail")
    assert (row.level, "move" in row.remedy, "chmod" in row.remedy) == ("fail", True, False)
