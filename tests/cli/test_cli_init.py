"""`tbot init` and `tbot check`: an instance that holds nothing in the clear, and what can be wrong with one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tbot_core import cli
from tbot_core.cli.commands.init import pin_plugins
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance import Instance, load_settings, secrets
from tbot_core.instance.identity import read_identity
from tbot_core.instance.plugin_settings import known_plugins
from tbot_core.testing.canaries import canary, leaks, shows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CANARY = canary("broker")
DOCUMENT = {
    "bot_identity": {"BOT_IDENTITY_STRING": "ACME_US_ALPACA_B01"},
    "broker": {"alpaca": {"api_key": CANARY, "api_secret": "s-123456", "mode": "paper"}},
    "env_bot": {"SEED": 9, "MIN_REL_VOLUME": "0.5"},
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A paper instance as `tbot init --paper` makes it."""
    assert cli.invoke(["init", "--paper", "--home", str(tmp_path / "x")]) == 0
    return tmp_path / "x"


def rows(capsys: pytest.CaptureFixture[str], home: Path, code: int = 0, *args: str) -> list[dict[str, Any]]:
    """The rows of `tbot check`."""
    capsys.readouterr()
    assert cli.invoke(["check", "--home", str(home), "--json", *args]) == code
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
    return found


def failing(capsys: pytest.CaptureFixture[str], home: Path, code: int = 3) -> list[str]:
    """The sentences of the rows that fail."""
    return [row["message"] for row in rows(capsys, home, code) if row["level"] == "fail"]


def test_init_says_that_the_simulated_market_is_invented(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And how real prices are traded with paper money; an instance at a broker reads nothing of it."""
    assert cli.invoke(["init", "--paper", "--home", str(tmp_path / "x")]) == 0
    said = capsys.readouterr().out
    assert "The market of the broker paper is invented" in said
    assert "BROKER_NAME=ALPACA, and mode=paper" in said
    keys = {"api_key": "k-123456", "api_secret": "s-123456", "mode": "paper"}
    (tmp_path / "in.json").write_text(json.dumps({"env_bot": {"BROKER_NAME": "ALPACA"}, "broker": {"alpaca": keys}}))
    cli.invoke(["init", "--from-json", str(tmp_path / "in.json"), "--home", str(tmp_path / "y")])
    assert "is invented" not in capsys.readouterr().out


def test_init_closes_folders_that_exist(tmp_path: Path) -> None:
    """Others can change nothing in an instance that is made in a loose folder."""
    home = tmp_path / "x"
    (home / "data").mkdir(parents=True)
    (home / "storage/keys").mkdir(parents=True)
    for path in (home, home / "data", home / "storage/keys"):
        path.chmod(0o777)
    assert cli.invoke(["init", "--paper", "--home", str(home)]) == 0
    assert [(home / name).stat().st_mode & 0o777 for name in ("", "data", "storage/keys")] == [0o755, 0o700, 0o700]


def test_a_paper_instance_holds_only_encrypted_files(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No plaintext settings, keys and secrets for their owner alone, and a check without a warning."""
    assert not (home / ".env").exists()
    assert not (home / ".env_bot").exists()
    for path in (*(home / "storage" / "keys").iterdir(), home / ".env_bot.enc", home / ".env.enc"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert (home / "storage" / "keys").stat().st_mode & 0o777 == 0o700
    assert all(b"STRATEGY_SEQUENCE" not in path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert load_settings(home, mode="paper").trading.broker_name == "paper"
    assert {row["level"] for row in rows(capsys, home, 0, "--strict")} == {"note", "ok"}


def test_a_paper_instance_approves_what_it_uses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`init --paper` pins the plugins of its settings and says so; with a warning about one it pins none."""
    home = tmp_path / "x"
    assert cli.invoke(["init", "--paper", "--home", str(home)]) == 0
    said = capsys.readouterr().out
    assert "Approved the 9 plugins of its settings as they are installed now." in said
    assert said.endswith(", 0 warnings.\n")
    (home / "plugins.lock").unlink()
    vault = secrets.open_instance_vault(Instance(home), DeploymentSettings())
    absent = "BROKER_NAME=PAPER\nFILTERS=price_volume,absent\n"
    secrets.encrypt_category(vault, "env_bot", absent.encode())
    pin_plugins(home)
    assert "The filter absent is enabled but not installed" in capsys.readouterr().out
    assert not (home / "plugins.lock").exists()


def test_what_stands_is_never_overwritten(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second init exits 2 and changes no file."""
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert cli.invoke(["init", "--paper", "--home", str(home)]) == 2
    assert "is an instance already" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}


def test_values_come_from_a_document(tmp_path: Path) -> None:
    """--from-json - takes settings and secrets from standard input, into encrypted files alone."""
    result = CliRunner().invoke(
        cli.group, ["init", "--from-json", "-", "--home", str(tmp_path)], input=json.dumps(DOCUMENT)
    )
    assert result.exit_code == 0
    assert not shows(result.output)
    found = load_settings(tmp_path, mode="replay")
    assert (found.simulation.seed, found.texts["MIN_REL_VOLUME"]) == (9, "0.5")
    vault = secrets.open_instance_vault(Instance(tmp_path), DeploymentSettings())
    assert vault.read_section("broker", "alpaca")["api_key"].reveal() == CANARY
    assert leaks(tmp_path) == ()


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ("{", "in.json: invalid JSON at line 1, column 2."),
        ('{"broker": 1}', "must be a JSON object"),
        ('{"brokr": {}}', "Unknown categories: brokr"),
        ('{"bot_identity": {"BOT_IDENTITY_STRING": "acme"}}', "is not ENTITY_JURISDICTION"),
        ('{"smtp": {"port": 25, "colour": "red"}}', "lacks the field host"),
        ('{"smtp": {"port": 25, "colour": "red"}}', "unknown field colour; known: host"),
        ('{"env_bot": {"SEED": "1\\n2"}}', "contains a line break"),
        ('{"env_bot": {"MAX_TRADES": "many"}}', "MAX_TRADES=many"),
        ('{"env": {"KEEP_PREV_DAYS": "many"}}', "KEEP_PREV_DAYS=many"),
        ('{"smtp": {"port": 25}}', "Correct the JSON input; nothing was created."),
        ('{"broker": {"ALPACA": {"api_key": "k"}, "alpaca": {}}}', "in other spelling: ALPACA and alpaca."),
        ('{"alert": {"Slack": {}, "slack": {}}}', "Correct the JSON input; nothing was created."),
        ('{"screener_api": {"Finnhub": {}, "FINNHUB": {}}}', "in other spelling: Finnhub and FINNHUB."),
        ('{"env_bot": {"MAX_TRADES": "many"}}', "Correct the JSON input; nothing was created."),
    ],
)
def test_a_document_that_is_wrong_makes_nothing(
    tmp_path: Path, document: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be taken is said before anything is written."""
    (tmp_path / "in.json").write_text(document)
    home = tmp_path / "x"
    assert cli.invoke(["init", "--from-json", str(tmp_path / "in.json"), "--home", str(home)]) in {2, 3}
    assert sentence in capsys.readouterr().err
    assert not home.exists()


def test_a_short_secret_is_named(tmp_path: Path) -> None:
    """By `init` and by `secrets set`, without the value: it is redacted only where it stands alone."""
    short = DOCUMENT | {"broker": {"alpaca": {"api_key": CANARY, "api_secret": "qx7z"}}}
    for words, given in (
        (("init", "--from-json", "-"), short),
        (("secrets", "set", "broker", "--from-json", "-"), short["broker"]),
    ):
        done = CliRunner().invoke(cli.group, [*words, "--home", str(tmp_path)], input=json.dumps(given))
        assert "broker alpaca.api_secret has fewer than 8 characters" in done.stderr
        assert "qx7z" not in done.output


def test_an_init_that_was_refused_can_be_repeated(tmp_path: Path) -> None:
    """An invalid setting leaves no instance behind, so that the corrected document makes it."""
    home, file = tmp_path / "x", tmp_path / "in.json"
    made = ["init", "--from-json", str(file), "--home", str(home)]
    file.write_text('{"env_bot": {"TOTAL_ALLOCATION": "5"}}')
    assert cli.invoke(made) == 3
    file.write_text('{"env_bot": {"TOTAL_ALLOCATION": "0.5"}}')
    assert cli.invoke(made) == 0


@pytest.mark.parametrize("other", [("--from-env",), ("--from-json", "-")])
def test_paper_excludes_the_other_sources(
    tmp_path: Path, other: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """--paper asks nothing and reads nothing: with another source it is wrong usage."""
    assert cli.invoke(["init", "--paper", *other, "--home", str(tmp_path / "x")]) == 2
    assert f"--paper and {other[0]} exclude each other." in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_vendors_variables_are_taken_over_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--from-env puts them under the plugins' names and fields, and says what it leaves; it refuses where it cannot."""
    prefixes = tuple(prefix for one in known_plugins() for prefix in one.environment)
    for name in [name for name in os.environ if name.startswith(prefixes)]:
        monkeypatch.delenv(name)
    home = tmp_path / "x"
    made = ["init", "--from-env", "--home", str(home)]
    assert cli.invoke(made) == 2
    monkeypatch.setenv("APCA_API_KEY_ID", CANARY)
    monkeypatch.setenv("FINNHUB_API_KEY", "f-key-123456")
    assert cli.invoke(made) == 3
    assert "lacks the field alpaca.api_secret" in capsys.readouterr().err
    monkeypatch.setenv("ALPACA_API_SECRET_KEY", "s-123456")
    monkeypatch.setenv("ALPACA_API_KEY", "another")
    assert cli.invoke(made) == 2
    assert "APCA_API_KEY_ID and another variable both set alpaca.api_key" in capsys.readouterr().err
    assert not home.exists()
    monkeypatch.setenv("ALPACA_API_KEY", CANARY)
    monkeypatch.setenv("IB_INSECURE", "yes")
    monkeypatch.setenv("APCA_API_BASE_URL", "https://api.alpaca.markets")
    assert cli.invoke(made) == 0
    said = capsys.readouterr().out
    assert "IB_INSECURE is ignored" in said
    assert "alpaca: mode is paper, its default. ALPACA_MODE sets it; APCA_API_BASE_URL does not." in said
    assert said.count("mode is") == 1
    vault = secrets.open_instance_vault(Instance(home), DeploymentSettings())
    assert vault.read_section("broker", "alpaca")["api_key"].reveal() == CANARY
    assert vault.read_section("screener_api", "finnhub")["api_key"].reveal() == "f-key-123456"
    found = read_identity(Instance(home), DeploymentSettings())
    assert found is not None
    assert found.text.startswith("TBOT_US_ALPACA_")
    monkeypatch.setenv("ALPACA_MODE", "live")
    cli.invoke(["init", "--from-env", "--home", str(tmp_path / "y")])
    assert "mode is" not in capsys.readouterr().out


def _edited(home: Path) -> None:
    log = home / "data" / "audit.log"
    log.write_bytes(log.read_bytes().replace(b'"seq":2', b'"seq":3', 1))


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("harm", "sentence", "code"),
    [
        (lambda home: (home / ".env_bot").write_text("SEED=1\n"), "The plaintext .env_bot is stored beside", 3),
        (lambda home: (home / "storage/secrets/x.json").write_text("{}"), "x.json is a plaintext file of secrets", 3),
        (lambda home: (home / "storage/keys/bot_identity.key").unlink(), "TB-SEC-021 bot_identity", 3),
        (
            lambda home: (home / "storage/keys/smtp.key").write_bytes((home / "storage/keys/env.key").read_bytes()),
            "TB-SEC-038 smtp",
            3,
        ),
        (_edited, "TB-SEC-096 audit", 3),
        (lambda home: (home / "data/tbot.sqlite").write_bytes(b"no database" * 100), "tbot.sqlite", 1),
    ],
)
def test_each_harm_is_a_failing_row(
    home: Path, harm: Callable[[Path], object], sentence: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plaintext beside, keys missing or shared, logs that were changed: one failing row each, with its exit code."""
    for suffix in ("-wal", "-shm"):
        (home / f"data/tbot.sqlite{suffix}").unlink(missing_ok=True)
    harm(home)
    assert any(sentence in message for message in failing(capsys, home, code))


def test_a_key_that_git_tracks_fails(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A key in the index of the folder's own repository is named."""
    for args in (["init", "-q"], ["add", "-f", "storage/keys/env.key"]):
        subprocess.run(["git", "-C", str(home), *args], check=True)
    assert failing(capsys, home) == ["git tracks storage/keys/env.key."]


@pytest.mark.slow
def test_a_plaintext_instance_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Plaintext settings, no ignore files, no identity: warnings that exit 0, and nothing is made."""
    (tmp_path / ".env_bot").write_text("STRATEGY_SEQUENCE=open\nBROKER_NAME=PAPER\n")
    said = " ".join(row["message"] for row in rows(capsys, tmp_path) if row["level"] == "warn")
    for part in (".env_bot is plaintext", ".scpignore does not exclude", "has no identity"):
        assert part in said
    assert not (tmp_path / "storage").exists()


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_run_needs_nothing_in_the_clear(home: Path) -> None:
    """`tbot run` in a process of its own starts from encrypted files, hardened, and says what the range lacks."""
    entry = "import sys; from tbot_core.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", entry, "run", "--replay", "2018-02-16..2018-02-16", "--home", str(home)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no bars" in done.stderr.lower() or "bars" in done.stderr.lower()


def test_paper_trading_does_not_begin_with_a_damaged_log(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rows of the check hold at a start too: exit 3, and the code of what is wrong."""
    _edited(home)
    assert cli.invoke(["run", "--once", "--home", str(home)]) == 3
    assert "TB-SEC-096" in capsys.readouterr().err


def test_a_check_ends_with_its_outcome(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last line says passed with the warnings, or failed, as they count with --strict."""
    (tmp_path / ".env_bot").write_text("BROKER_NAME=PAPER\nSEEED=1\n")
    for words, code, outcome in (([], 0, "passed: "), (["--strict"], 3, "failed: ")):
        capsys.readouterr()
        assert cli.invoke(["check", "--home", str(tmp_path), *words]) == code
        assert capsys.readouterr().out.splitlines()[-1].startswith(f"`tbot check` {outcome}")


def test_a_fresh_instance_does_not_warn_about_its_own_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What init wrote is supported and used: nothing about the settings is to be explained."""
    assert cli.invoke(["init", "--paper", "--home", str(tmp_path / "new")]) == 0
    assert "warn  settings" not in capsys.readouterr().out
