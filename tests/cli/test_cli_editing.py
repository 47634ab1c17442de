"""`tbot config edit` and `tbot secrets edit`: a text with faults is edited again, or discarded."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tbot_core import cli
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance import Instance, load_settings, secrets

if TYPE_CHECKING:
    from pathlib import Path

KEY = "k-123456"


class Keyboard(io.BytesIO):
    """What a person types; it says that it is a terminal."""

    def isatty(self) -> bool:
        """As a terminal does."""
        return True


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A paper instance with a broker's credentials."""
    (tmp_path / "in.json").write_text(json.dumps({"broker": {"other": {"key": KEY}}, "env_bot": {"SEED": 1}}))
    made = ["init", "--from-json", str(tmp_path / "in.json"), "--home", str(tmp_path / "x")]
    assert cli.invoke(made) == 0
    return tmp_path / "x"


def edited(home: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], typed: str, *steps: str) -> tuple[int, str]:
    """The exit code and the output of an edit at a terminal; each opening of the editor runs the next step on `text`.

    What each saw is in the files `seen.0`, `seen.1`, ...
    """
    script = home.parent / "editor.py"
    script.write_text(
        "import pathlib, sys\n"
        f"folder, steps = pathlib.Path({str(home.parent)!r}), {steps!r}\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "text, number = path.read_text(), len(list(folder.glob('seen.*')))\n"
        "(folder / f'seen.{number}').write_text(text)\n"
        "path.write_text(eval(steps[number]))\n"
    )
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")
    with CliRunner().isolation(Keyboard(typed.encode())) as streams:
        code = cli.invoke([*args, "--home", str(home)])
        shown = streams[0].getvalue().decode() + streams[1].getvalue().decode()
    assert KEY not in shown
    return code, shown


def test_faults_stand_at_the_top_when_the_editor_opens_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was typed is kept, the faults are comments that are not saved, and each line keeps its number."""
    wrong = "text.replace('SEED=1', 'SEED=x').replace('MAX_TRADES=4', 'MAX_TRADES=3')"
    code, shown = edited(home, monkeypatch, ["config", "edit"], "edit\n", wrong, "text.replace('SEED=x', 'SEED=2')")
    assert code == 0, shown
    assert "SEED=x: allowed is" in shown
    first, again = (home.parent / f"seen.{number}" for number in range(2))
    head, _, rest = again.read_text().partition("# The settings")
    assert all(line.startswith("#! ") for line in head.splitlines())
    assert "SEED=x: allowed is" in head
    assert f"# The settings{rest}" == first.read_text().replace("SEED=1", "SEED=x").replace("TRADES=4", "TRADES=3")
    settings = load_settings(home, mode="paper")
    assert (settings.simulation.seed, settings.risk.max_trades) == (2, 3)
    with secrets.open_instance_vault(Instance(home), DeploymentSettings()).read("env_bot") as opened:
        assert b"#!" not in bytes(opened.view)


def test_secrets_are_edited_again_without_comments(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON has none: the faults are shown before the editor opens with the text of before."""
    code, shown = edited(home, monkeypatch, ["secrets", "edit", "broker"], "\n", "text[:-1]", "text + '}'")
    assert code == 0, shown
    assert "TB-SEC-071 broker" in shown
    assert (home.parent / "seen.1").read_text() == (home.parent / "seen.0").read_text()[:-1]


@pytest.mark.parametrize(("typed", "code"), [("discard\n", 1), ("", 1)])
def test_an_edit_may_be_discarded(typed: str, code: int, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a word, or by the end of the input: nothing is written."""
    before = {path: path.read_bytes() for path in home.rglob("*.enc")}
    got, shown = edited(home, monkeypatch, ["config", "edit"], typed, "text.replace('SEED=1', 'SEED=x')")
    assert got == code
    assert "Nothing was saved" in shown
    assert "nothing was changed" in shown
    assert before == {path: path.read_bytes() for path in home.rglob("*.enc")}


def test_a_text_that_is_put_back_changes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The faults at its top do not count."""
    steps = ("text.replace('SEED=1', 'SEED=x')", "text.replace('SEED=x', 'SEED=1')")
    code, shown = edited(home, monkeypatch, ["config", "edit"], "edit\n", *steps)
    assert code == 0
    assert load_settings(home, mode="paper").simulation.seed == 1
    assert "edit again" in shown.lower()
