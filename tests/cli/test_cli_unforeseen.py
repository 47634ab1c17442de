"""What comes from outside and is not what it should be ends a command with a sentence, and never as a fault of tbot."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tbot_core import cli
from tbot_core.cli.crash_report import CrashReporter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEEP = b"[" * 200_000
DIGITS = b'{"format": ' + b"9" * 5000 + b"}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, paper_instance: Callable[[Path], Path]) -> Path:
    """A paper instance; tests copy it."""
    home = tmp_path_factory.mktemp("made") / "instance"
    paper_instance(home)
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """A paper instance of one's own."""
    shutil.copytree(made, tmp_path / "x")
    return tmp_path / "x"


def said(home: Path, *args: str, typed: str = "") -> tuple[int, str]:
    """The exit code of a command and what it says on both streams."""
    with CliRunner().isolation(typed) as streams:
        code = cli.invoke([*args, "--home", str(home)])
        return code, (streams[0].getvalue() + streams[1].getvalue()).decode()


@pytest.mark.first(1)
@pytest.mark.parametrize("content", [DEEP, DIGITS], ids=["deep", "digits"])
@pytest.mark.parametrize(
    ("file", "command", "code"),
    [
        ("data/audit.log", "audit verify", 1),
        ("data/audit.log", "secrets show", 0),
        ("data/audit.log", "secrets rotate broker", 3),
        ("data/audit.log", "check", 3),
        ("data/plugins.json", "plugins list", 0),
        ("plugins.lock", "plugins verify", 3),
        ("plugins.lock", "check", 0),
        ("data/plugins-lost.json", "status", 0),
        ("data/gauges.json", "status", 0),
        ("data/bars/facts.json", "data list", 1),
        ("data/bars/2018-02/manifest.json", "data list", 1),
        ("data/bars/2018-02/manifest.json", "data verify", 1),
        ("data/splits.csv", "check", 3),
        ("control/arm-1.json", "status", 1),
    ],
)
def test_a_file_that_is_no_json_ends_in_a_sentence(
    home: Path, file: str, command: str, code: int, content: bytes
) -> None:
    """Each with its exit code, whether it is nested without end or holds a number with too many digits."""
    path = home / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content + b"\n")
    path.chmod(0o600)
    got, words = said(home, *command.split())
    assert got == code, words
    assert len(words) < 10_000


@pytest.mark.parametrize(
    ("category", "values", "words"),
    [
        ("network", '{"host": "\\ud800"}', "TB-SEC-079 network: field host"),
        ("broker", '{"alpaca": {"api_key": "\\udc00"}}', "TB-SEC-079 broker: field alpaca.api_key"),
        ("bot_identity", '{"BOT_IDENTITY_STRING": "\\ud800"}', "TB-SEC-079 bot_identity: field BOT_IDENTITY_STRING"),
        ("env_bot", '{"SEED": "\\ud800"}', "TB-SEC-079 env_bot: field SEED"),
        ("network", '{"\\ud800": "x"}', "TB-SEC-070 network: the content of its file"),
        ("network", f'{{"hosts": "{"[" * 200_000}"}}', "TB-SEC-07"),
        ("network", f'{{"hosts": {"[" * 200_000}', "Standard input: "),
    ],
    ids=["field", "section", "identity", "settings", "name", "deep text", "deep"],
)
def test_secrets_that_cannot_be_written_down_are_refused(home: Path, category: str, values: str, words: str) -> None:
    """With a code and the field, without the value; what was held stays."""
    before = {path: path.read_bytes() for path in (home / "storage").rglob("*") if path.is_file()}
    code, output = said(home, "secrets", "set", category, "--from-json", "-", typed=values)
    assert words in output
    assert (code, "ud800" in output, "[[[" in output) == (2 if "Standard input" in words else 3, False, False)
    assert {path: path.read_bytes() for path in (home / "storage").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("values", "code", "words"),
    [
        ('{"broker": {"alpaca": {"api_key": "\\ud800"}}}', 3, "TB-SEC-079 broker: field alpaca.api_key"),
        ('{"\\ud800": {}}', 2, "The document must be a JSON object"),
        ('{"broker":' + "[" * 200_000, 2, "Standard input: "),
    ],
)
def test_an_instance_is_not_made_of_what_cannot_be_written_down(
    tmp_path: Path, values: str, code: int, words: str
) -> None:
    """Nothing is made then."""
    got, output = said(tmp_path / "x", "init", "--from-json", "-", typed=values)
    assert (got, words in output) == (code, True)
    assert not (tmp_path / "x").exists()


def test_secrets_of_emoji_and_names_of_other_scripts_are_kept(home: Path) -> None:
    """Pairs in JSON are text like any other."""
    document = json.dumps({"alpaca": {"api_key": "k\U0001f600", "api_secret": "s-é"}})
    assert said(home, "secrets", "set", "broker", "--from-json", "-", typed=document)[0] == 0


class Wordless(Exception):
    """A failure that cannot even say what it is."""

    def __str__(self) -> str:
        """Fails too."""
        raise ZeroDivisionError


@pytest.mark.parametrize("fault", [RecursionError("maximum recursion depth"), Wordless()])
def test_the_last_hook_raises_nothing(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """Where settings cannot be opened for the same reason that ended the command, the hint alone is given."""

    def fails(_home: Path) -> dict[str, str]:
        raise fault

    monkeypatch.setattr("tbot_core.instance.enabled_plugins.raw_settings", fails)
    unforeseen = CrashReporter()
    unforeseen.home = home
    unforeseen.report(type(fault), fault, None)
    unforeseen.flush_to_log()
    text = capsys.readouterr().err
    assert text.startswith(f"tbot: {type(fault).__name__}: ")
    assert "TBOT_DEBUG=1" in text
    assert "Traceback" not in text


def test_the_last_hook_is_silent_where_standard_error_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A standard error that is full or closed adds no second failure."""

    def fails(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("click.echo", fails)
    CrashReporter().report(ValueError, ValueError("x"), None)
