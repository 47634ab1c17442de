"""The questions of `tbot init`: each wrong answer is asked again, and the end is a whole instance or nothing."""

from __future__ import annotations

import io
import os
import pty
import select
import signal
import sys
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from tbot_core import cli
from tbot_core.actions.instance_creation import create_instance
from tbot_core.cli.setup_wizard import ask_person
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance import Instance, load_settings, secrets
from tbot_core.instance.folder import REHEARSAL_VARIABLE
from tbot_core.instance.identity import read_identity
from tbot_core.testing.canaries import canary, leaks, shows

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

pytestmark = pytest.mark.usefixtures("simulated_only")

KEY = canary("broker")


class Keyboard(io.BytesIO):
    """What a person types; it says that it is a terminal."""

    def isatty(self) -> bool:
        """As a terminal does."""
        return True


def typed(home: Path, *lines: str, address: str = "", end: str = "\n") -> Result:
    """The result of the questions, answered by these lines; the broker is reached at the address."""

    @click.command()
    def command() -> None:
        create_instance(Instance(home), ask_person(Instance(home), {"HOST_ACME_API": address}))

    keys = Keyboard(("\n".join(lines) + end).encode("utf-8", "surrogateescape"))
    if address:
        return CliRunner().invoke(command, [], input=keys)
    return CliRunner().invoke(cli.group, ["init", "--home", str(home)], input=keys, standalone_mode=False)


@pytest.mark.parametrize(
    ("wrong", "allowed", "place"),
    [
        ("tradestation", "Allowed: a number from 1 to 2, or a name: acme, paper.", 0),
        ("3", "Allowed: a number from 1 to 2, or a name: acme, paper.", 0),
        ("alpaca", "alpaca is not installed: install tbot-broker-alpaca", 0),
        ("demo", "Allowed: a number from 1 to 2, or a name: paper, live.", 1),
        ("acme", "Allowed: ENTITY_JURISDICTION_BROKER_BOTID", 2),
        ("A_US_PAPER_B01", "Allowed for the entity: 2 to 6 letters.", 2),
        ("ACME_USA12_PAPER_B01", "Allowed for the jurisdiction: 2 to 4 letters.", 2),
        ("ACME_US_PAPER-1_B01", "Allowed for the broker: 2 to 10 letters.", 2),
        ("ACME_US_PAPER_B", "Allowed for the bot id: 2 to 6 letters or digits.", 2),
        ("", "A value is needed. Allowed: one line of text.", 3),
        ("a\x07b", "Allowed: one line of text.", 3),
        ("x" * 5000, "Allowed: one line of text.", 3),
        ("acct?", "'acct?' is not allowed. Allowed: capitals.", 4),
        ("perhaps", "Allowed: yes, no or back.", 5),
    ],
)
def test_a_wrong_answer_is_asked_again_with_what_is_allowed(
    wrong: str, allowed: str, place: int, address: str, tmp_path: Path
) -> None:
    """Whatever is typed at whichever question, the next line is the same question, and the end a whole instance."""
    lines = ["acme", "paper", "ACME_US_PAPER_B01", KEY, "", "yes"]
    lines.insert(place, wrong)
    result = typed(tmp_path / "x", *lines, address=address)
    assert result.exit_code == 0, result.output
    assert allowed in " ".join(result.output.split())
    assert not shows(result.output)
    settings = load_settings(tmp_path / "x", mode="replay")
    assert settings.trading.broker_name == "acme"
    found = read_identity(Instance(tmp_path / "x"), DeploymentSettings())
    assert found is not None
    assert found.text == "ACME_US_PAPER_B01"
    assert leaks(tmp_path / "x") == ()


def test_the_credentials_are_tested_before_anything_is_made(address: str, tmp_path: Path) -> None:
    """A key that the broker refuses is said, and entered again; the account that answers is shown in the summary."""
    lines = ["acme", "", "", "wrong-key", "", "again", KEY, "", "yes"]
    result = typed(tmp_path / "x", *lines, address=address)
    assert result.exit_code == 0, result.output
    shown = " ".join(result.output.split())
    assert "The login failed: " in shown
    assert "It works: account A-1, margin, equity" in shown
    vault = secrets.open_instance_vault(Instance(tmp_path / "x"), DeploymentSettings())
    assert vault.read_section("broker", "acme")["api_key"].reveal() == KEY
    assert vault.read_section("broker", "acme")["mode"].reveal() == "paper"


def test_an_account_of_the_other_kind_is_a_failed_login(address: str, tmp_path: Path) -> None:
    """Live was chosen, and the account holds no live money; it is explained what arming is."""
    result = typed(tmp_path / "x", "acme", "?", "live", "", KEY, "", "quit", address=address)
    shown = " ".join(result.output.split())
    assert "The mode is live, but the account A-1 at acme holds no live money" in shown
    assert "tbot sends no order before you arm it with `tbot arm`" in shown
    assert not (tmp_path / "x").exists()


@pytest.mark.usefixtures("acme")
def test_a_rehearsal_offers_no_live_account(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode is not asked for, and it is said why."""
    monkeypatch.setenv(REHEARSAL_VARIABLE, address)
    result = typed(tmp_path / "x", "acme", "ACME_US_PAPER_B01", KEY, "", "yes", address=address)
    assert result.exit_code == 0, result.output
    assert "Account: paper, since TBOT_REHEARSAL is set" in " ".join(result.output.split())
    vault = secrets.open_instance_vault(Instance(tmp_path / "x"), DeploymentSettings())
    assert vault.read_section("broker", "acme")["mode"].reveal() == "paper"


@pytest.mark.usefixtures("acme", "loopback")
@pytest.mark.parametrize(("answer", "end"), [("yes", " 2 warnings."), ("no", "live trading imports no others.")])
def test_the_set_up_of_a_live_account_offers_to_approve_the_plugins(tmp_path: Path, answer: str, end: str) -> None:
    """A person sees what each may do; without an approval it is the next step, and no failure: the exit code is 0."""
    lines = ["acme", "live", "", KEY, "", "keep", "yes", answer]
    result = typed(tmp_path / "x", *lines)
    shown = " ".join(result.output.split())
    assert result.return_value == 0, result.output
    assert "+ broker acme: " in shown
    assert "Approve these plugins as they are?" in shown
    assert (tmp_path / "x" / "plugins.lock").exists() == (answer == "yes")
    assert shown.endswith(end)


@pytest.mark.usefixtures("acme", "loopback")
def test_credentials_that_cannot_be_tested_may_be_kept(tmp_path: Path) -> None:
    """The broker is not reached: the reason is said, and the instance is made with what was entered."""
    lines = ["acme", "", "", KEY, "", "keep", "yes"]
    result = typed(tmp_path / "x", *lines, address="http://127.0.0.1:9")
    assert result.exit_code == 0, result.output
    assert "Login failed: " in " ".join(result.output.split())
    vault = secrets.open_instance_vault(Instance(tmp_path / "x"), DeploymentSettings())
    assert vault.read_section("broker", "acme")["api_key"].reveal() == KEY


@pytest.mark.usefixtures("acme")
def test_what_cannot_be_created_is_said_at_the_summary(tmp_path: Path) -> None:
    """A setting that is not allowed: the login is not tried, and the summary can only be left."""
    lines = ["acme", "", "", KEY, "", "keep", "yes", "no"]
    result = typed(tmp_path / "x", *lines, address="nowhere")
    shown = " ".join(result.output.split())
    assert shown.count("HOST_ACME_API=nowhere: allowed is http://127.0.0.1:PORT") > 1
    assert "This cannot be created: " in shown
    assert "'yes' is not allowed. Allowed: no or back." in shown
    assert not (tmp_path / "x").exists()


def test_a_plugin_that_does_not_load_is_left_out_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are offered."""
    described = tmp_path / "site" / "tbot_broker_gone-0.1.0.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: tbot-broker-gone\nVersion: 0.1.0\n")
    (described / "entry_points.txt").write_text("[tbot.brokers]\ngone = no_such_module\n")
    monkeypatch.syspath_prepend(described.parent)
    result = typed(tmp_path / "x", "paper", "", "yes")
    assert "Left out: The broker gone" in " ".join(result.output.split())
    assert result.exit_code == 0


def test_a_folder_with_files_is_named(tmp_path: Path) -> None:
    """They stay, and it is said how another folder is chosen."""
    (tmp_path / "notes").write_text("mine")
    result = typed(tmp_path, "paper", "", "yes")
    assert result.exit_code == 0
    assert "The folder has files already: they stay as they are." in result.output
    assert (tmp_path / "notes").read_text() == "mine"


def test_without_any_broker_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked."""
    described = tmp_path / "site" / "tbot_core-1.0.0.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: tbot-core\nVersion: 1.0.0\n")
    monkeypatch.setattr(sys, "path", [str(described.parent)])
    result = typed(tmp_path / "x", "paper")
    assert "No broker is installed." in str(result.exception)


def test_one_can_go_back_to_the_first_question(address: str, tmp_path: Path) -> None:
    """From the summary to the broker: each question is asked again, and the last answers count."""
    there = ["acme", "paper", "ACME_US_PAPER_B01", KEY, ""]
    back = ["back", "<", "<", "BACK", "<", "<"]
    result = typed(tmp_path / "x", *there, *back, "paper", "ACME_US_PAPER_B02", "yes", address=address)
    assert result.exit_code == 0, result.output
    assert "This is the first question." in result.output
    assert load_settings(tmp_path / "x", mode="replay").trading.broker_name == "paper"
    found = read_identity(Instance(tmp_path / "x"), DeploymentSettings())
    assert found is not None
    assert found.text == "ACME_US_PAPER_B02"


def test_a_question_mark_explains_each_question(address: str, tmp_path: Path) -> None:
    """Before any answer; nothing that is asked is left without an explanation."""
    lines = ["acme", "paper", "ACME_US_PAPER_B01", KEY, "", "yes"]
    result = typed(tmp_path / "x", *(one for line in lines for one in ("?", line)), address=address)
    assert result.exit_code == 0, result.output
    shown = " ".join(result.output.split())
    for part in (
        "holds the account and receives the orders",
        "offer a paper account beside the live one",
        "Four parts, joined by underscores",
        "Key of the account. Allowed: one line of text. It is required.",
        "The account. Allowed: capitals. Enter leaves it out.",
        "yes creates the folder",
    ):
        assert part in shown


@pytest.mark.parametrize("count", range(3))
def test_the_end_of_the_input_creates_nothing(count: int, tmp_path: Path) -> None:
    """Ctrl-D at any question: it is said, exit 130, and no file exists."""
    result = typed(tmp_path / "x", *["paper", "ACME_US_PAPER_B01"][:count], end="\n" if count else "")
    assert result.return_value == 130
    assert "Nothing was created." in result.output
    assert not (tmp_path / "x").exists()


def test_no_at_the_summary_creates_nothing(tmp_path: Path) -> None:
    """As Ctrl-C does."""
    result = typed(tmp_path / "x", "", "", "no")
    assert result.return_value == 130
    assert "Nothing was created." in result.output
    assert not (tmp_path / "x").exists()


def test_without_a_terminal_the_three_other_ways_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoken: Any
) -> None:
    """Standard input is a pipe: exit 2, and nothing is asked."""
    spoken(None)
    assert cli.invoke(["init", "--home", str(tmp_path / "x")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    for way in ("--paper", "--from-json FILE", "--from-env"):
        assert way in said.err
    assert not (tmp_path / "x").exists()


def test_a_folder_that_cannot_be_written_is_named_before_the_first_question(tmp_path: Path) -> None:
    """What lies in its way is a file."""
    (tmp_path / "file").touch()
    result = typed(tmp_path / "file" / "x", "", "", "yes")
    assert "Cannot write to" in str(result.exception)
    assert "Broker" not in result.output


def in_terminal(home: Path, keys: list[bytes], *, kill: bool = False) -> tuple[int, str]:
    """The exit code of `tbot init` at a terminal of its own, and all that was shown there.

    Each of `keys` is typed once a question stands there; the last one again if nothing follows, since an interrupt just
    before a reading begins is received only after it. `kill`: the process is killed at the question after them.
    """
    process, terminal = pty.fork()
    if not process:
        sys.stdin, sys.stdout, sys.stderr = (open(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w")))  # noqa: SIM115, PTH123
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = 99
        try:
            code = cli.invoke(["init", "--home", str(home)])
            sys.stdout.flush()
        finally:
            os._exit(code)
    shown, last, rest = b"", keys[-1] if keys else b"", iter(keys)
    while True:
        if not select.select([terminal], [], [], 2.0)[0] and not kill:
            os.write(terminal, last)
        try:
            read = os.read(terminal, 10_000)
        except OSError:
            break
        shown += read
        if shown.endswith(b": "):  # the blank comes once hidden input is no longer echoed
            key = next(rest, b"" if kill else last)
            if kill and not key:
                os.kill(process, signal.SIGKILL)
            os.write(terminal, key)
            shown += b"\n"
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), shown.decode(errors="replace")


@pytest.mark.parametrize("key", [b"\x03", b"\x04"])
@pytest.mark.parametrize("before", [[], [b"acme\n", b"\n", b"\n"]])
@pytest.mark.usefixtures("acme")
def test_ctrl_c_and_ctrl_d_at_a_terminal_create_nothing(key: bytes, before: list[bytes], tmp_path: Path) -> None:
    """At the first question and at a hidden one: one sentence, exit 130, no file, and no traceback."""
    code, shown = in_terminal(tmp_path / "x", [*before, key])
    assert code == 130
    assert shown.rstrip().endswith("Nothing was created.")
    assert "Traceback" not in shown
    assert not (tmp_path / "x").exists()


@pytest.mark.usefixtures("acme")
def test_a_hidden_value_is_not_shown_at_a_terminal(tmp_path: Path) -> None:
    """The terminal echoes the other answers only; bytes that are no text are asked for again."""
    code, shown = in_terminal(
        tmp_path / "x", [b"\xff\xfe\n", b"acme\n", b"1\n", b"\n", f"{KEY}\n".encode(), b"A-1?\n", b"\x03"]
    )
    assert code == 130
    assert "Allowed: UTF-8 text." in shown
    assert "A-1?" in shown
    assert KEY not in shown


@pytest.mark.parametrize("answers", range(5))
@pytest.mark.usefixtures("acme")
def test_a_kill_at_any_question_leaves_nothing(answers: int, tmp_path: Path) -> None:
    """SIGKILL while a question stands there: no folder exists, and the next attempt begins as the first did."""
    code, _ = in_terminal(tmp_path / "x", [b"acme\n", b"1\n", b"\n", f"{KEY}\n".encode()][:answers], kill=True)
    assert code == -signal.SIGKILL
    assert not (tmp_path / "x").exists()
    assert typed(tmp_path / "x", "paper", "", "yes").exit_code == 0
    assert load_settings(tmp_path / "x", mode="replay").trading.broker_name == "paper"
