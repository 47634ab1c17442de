"""`tbot plugins`, and the commands that plugins bring."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.actions.checks import check_instance
from tbot_core.actions.plugins import plugin_listings
from tbot_core.cli import invoke
from tbot_core.cli.commands.plugins import list_lines
from tbot_core.cli.options import print_progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tbot_core.plugins.discovery import EntryPointInfo


def documents(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    """The plugins of the fake distributions, by name, that the JSON list holds."""
    rows = json.loads(capsys.readouterr().out)["plugins"]
    return {row["name"]: row for row in rows if row["distribution"].startswith("their-")}


@pytest.mark.slow
def test_every_fault_is_named_by_a_probe_and_by_the_list_afterwards(
    plant: Callable[..., EntryPointInfo], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Import errors, wrong signatures, duplicates and foreign ranges end in a state with its reason, and exit 0."""
    plant("sound")
    plant("broken", "import no_such_library")
    plant("unfit", "from tbot_core.contracts.hooks import hookimpl\n@hookimpl\ndef tbot_strategy(taste): pass")
    plant("old", requires=("tbot-core<1",))
    plant("twin", dist="their-first", target="their_twin_a")
    plant("twin", dist="their-second", target="their_twin_b")
    home = str(tmp_path / "home")
    assert invoke(["plugins", "list", "--probe", "--json", "--home", home]) == 0
    probed = documents(capsys)
    states = {name: row["state"] for name, row in probed.items()}
    assert states == {
        "sound": "available",
        "broken": "broken",
        "unfit": "broken",
        "old": "incompatible",
        "twin": "duplicate",
    }
    assert "No module named 'no_such_library'" in probed["broken"]["reason"]
    assert "taste" in probed["unfit"]["reason"]
    assert probed["broken"]["seen"].endswith("Z")
    assert probed["sound"]["summary"] == "A sample"
    assert invoke(["plugins", "list", "--json", "--home", home]) == 0
    assert documents(capsys) == probed


def test_settings_make_plugins_active(
    plant: Callable[..., EntryPointInfo], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A strategy of the sequence is active, another one available; one that is broken stays broken, and enabled."""
    plant("used")
    plant("spare")
    plant("old", requires=("tbot-core<1",))
    (tmp_path / ".env_bot").write_text("STRATEGY_SEQUENCE=used,old\n")
    assert invoke(["plugins", "list", "--json", "--home", str(tmp_path)]) == 0
    rows = documents(capsys)
    assert {name: (row["state"], row["enabled"]) for name, row in rows.items()} == {
        "used": ("active", True),
        "spare": ("available", False),
        "old": ("incompatible", True),
    }


def test_the_list_for_a_person_has_a_line_for_each(
    plant: Callable[..., EntryPointInfo], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each line holds state, kind, name, distribution, and the reason of a fault with when it was seen."""
    plant("old", requires=("tbot-core<1",))
    plant("broken", "import no_such_library")
    assert invoke(["plugins", "list", "--probe", "--home", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["STATE", "KIND", "NAME", "DISTRIBUTION", "LOCK", "HASH", "ORIGIN"]
    (old,) = [line for line in lines if " old " in line]
    assert old.split()[:5] == ["incompatible", "strategy", "old", "their-old", "2.5"]
    assert "It requires tbot-core<1" in old
    (broken,) = [line for line in lines if " broken " in line]
    assert "no_such_library" in broken
    assert "(seen " in broken


@pytest.mark.slow
def test_a_person_at_a_terminal_sees_what_is_tried(
    plant: Callable[..., EntryPointInfo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial may take its ten seconds, so each is announced on a terminal, and nowhere else."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    plant("sound")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    plugin_listings(tmp_path, probing=True, progress=print_progress)
    assert "Trying strategy sound ...\n" in terminal.getvalue()


def test_nothing_installed_is_said() -> None:
    """A list without plugins is a sentence for a person."""
    assert list(list_lines(())) == ["No plugins are installed."]


def test_a_damaged_record_and_unreadable_settings_are_warnings(
    plant: Callable[..., EntryPointInfo], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list is written all the same, with exit 0, and standard error says what is unknown."""
    plant("spare")
    (tmp_path / ".env_bot").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "plugins.json").write_text("{")
    assert invoke(["plugins", "list", "--json", "--home", str(tmp_path)]) == 0
    written = capsys.readouterr()
    assert "The list cannot show which plugins are active." in written.err
    assert "the recorded results of plugins are unknown" in written.err
    assert "spare" in written.out


def test_a_probe_that_cannot_be_recorded_still_shows(
    plant: Callable[..., EntryPointInfo], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder that cannot be written the outcome is shown, and a warning says that it is not kept."""
    plant("broken", "import no_such_library")
    (tmp_path / "data").write_text("")
    listings, _, warnings = plugin_listings(tmp_path, probing=True)
    assert [it.state for it in listings if it.entry.name == "broken"] == ["broken"]
    assert [warning for warning in warnings if warning.endswith("The results are not recorded.")]
    assert capsys.readouterr().err == ""


def test_info_tries_a_plugin_that_no_record_speaks_of(
    plant: Callable[..., EntryPointInfo], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Distribution, origin, files, requirements and declared settings are shown, and nothing is written."""
    plant("sound")
    assert invoke(["plugins", "info", "sound", "--json", "--home", str(tmp_path / "home")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert len(facts["files_hash"]) == 12
    assert (facts["distribution"], facts["version"], facts["origin"]) == ("their-sound", "2.5", "unknown")
    assert (facts["state"], facts["capabilities"], facts["requires"]) == (
        "available",
        ["another", "one"],
        ["tbot-core>=1,<2"],
    )
    assert [setting["name"] for setting in facts["settings"]] == ["STRAT_SAMPLE_DEPTH"]
    assert not (tmp_path / "home").exists()
    assert invoke(["plugins", "info", "strategy/sound", "--home", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "strategy sound: A sample" in text
    assert "capabilities  another, one" in text
    assert (
        "STRAT_SAMPLE_DEPTH=0.1\n      How deep, as a fraction. Allowed: a fraction (0.02 is 2 %) from 0 to 1." in text
    )


def test_info_and_check_show_the_capabilities_of_a_broker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each of them in `info`, those that are there in one row of `check`; a run's record keeps what a trial found."""
    assert invoke(["init", "--paper", "--home", str(tmp_path)]) == 0
    capsys.readouterr()
    assert invoke(["plugins", "info", "broker/paper", "--json", "--home", str(tmp_path)]) == 0
    matrix = json.loads(capsys.readouterr().out)["capabilities"]
    assert (matrix["feed"], matrix["prices"], matrix["quantity_step"]) == ("yes", "no", "0.000001")
    assert invoke(["plugins", "info", "broker/paper", "--home", str(tmp_path)]) == 0
    assert "  capabilities\n" in (text := capsys.readouterr().out)
    assert ["feed", "yes"] in [line.split() for line in text.splitlines()]
    (row,) = [row for row in check_instance(tmp_path) if row.subject == "broker"]
    assert (row.level, "feed=yes" in row.message, "prices" in row.message) == ("ok", True, False)


def test_info_of_a_faulty_plugin_says_what_is_wrong(
    plant: Callable[..., EntryPointInfo], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plugin that cannot be used has a sheet as well: the fault instead of its settings."""
    plant("broken", "import no_such_library")
    plant("old", requires=("tbot-core<1",))
    for name, words in (("broken", "no_such_library"), ("old", "It requires tbot-core<1")):
        assert invoke(["plugins", "info", name, "--home", str(tmp_path)]) == 0
        assert words in capsys.readouterr().out


def test_info_of_a_name_that_is_used_twice_shows_both(
    plant: Callable[..., EntryPointInfo], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each distribution has its sheet, and both are said to be refused."""
    plant("twin", dist="their-first", target="their_twin_a")
    plant("twin", dist="their-second", target="their_twin_b")
    assert invoke(["plugins", "info", "twin", "--json", "--home", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [found["distribution"], *(one["distribution"] for one in found["duplicates"])] == [
        "their-first",
        "their-second",
    ]
    assert invoke(["plugins", "info", "twin", "--home", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("  distribution")] == ["their-first", "their-second"]
    assert lines[-1] == "Both are refused."


def test_info_of_an_unknown_or_ambiguous_name_is_wrong_usage(
    plant: Callable[..., EntryPointInfo], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, with the nearest name or the spellings that distinguish the kinds."""
    plant("sound")
    plant("shared", dist="their-a")
    plant("shared", dist="their-b", kind="filter", target="their_shared_filter")
    assert invoke(["plugins", "info", "soundd", "--home", str(tmp_path)]) == 3
    assert capsys.readouterr().err == "tbot: Unknown plugin soundd.\n      Did you mean sound?\n"
    assert invoke(["plugins", "info", "nudos", "--home", str(tmp_path)]) == 3
    assert "Did you mean" not in capsys.readouterr().err
    assert invoke(["plugins", "info", "zzzzz", "--home", str(tmp_path)]) == 3
    assert "`tbot plugins list` shows all plugins." in capsys.readouterr().err
    assert invoke(["plugins", "info", "shared", "--home", str(tmp_path)]) == 2
    assert "Say filter/shared or strategy/shared." in capsys.readouterr().err


COMMAND = """
import click
@click.command()
@click.argument("day")
def command(day):
    click.echo(f"the report of {day}")
"""


def test_a_plugin_brings_a_command(plant: Callable[..., EntryPointInfo], capsys: pytest.CaptureFixture[str]) -> None:
    """It stands in the help with its distribution, unimported, and runs when it is called."""
    plant("report-day", COMMAND, kind="command", target="their_report:command")
    plant("broken-day", "import no_such_library", kind="command", target="their_broken:command")
    assert invoke(["--help"]) == 0
    text = capsys.readouterr().out
    assert "report-day  From their-report-day 2.5." in text
    assert "broken-day" in text
    assert invoke(["report-day", "Friday"]) == 0
    assert capsys.readouterr().out == "the report of Friday\n"
    assert invoke(["broken-day"]) == 3
    assert "No module named 'no_such_library'" in capsys.readouterr().err


def test_a_command_that_is_none_is_refused(
    plant: Callable[..., EntryPointInfo], capsys: pytest.CaptureFixture[str]
) -> None:
    """An entry point that names something else is a plugin's failure, exit 3."""
    plant("report-day", "command = 'text'", kind="command", target="their_report:command")
    assert invoke(["report-day"]) == 3
    assert "their_report:command is not a click command." in capsys.readouterr().err


def test_a_command_with_a_name_of_tbot_is_refused_aloud(
    plant: Callable[..., EntryPointInfo], capsys: pytest.CaptureFixture[str]
) -> None:
    """The core's command keeps its name, and the help says on standard error whose was refused."""
    plant("plugins", COMMAND, kind="command", target="their_plugins:command")
    assert invoke(["--help"]) == 0
    written = capsys.readouterr()
    assert written.err == ("tbot: command plugins is refused: their-plugins 2.5 uses the name of a command of tbot.\n")
    assert "From their-plugins" not in written.out
    assert invoke(["plugins", "list"]) == 0
    assert "Friday" not in capsys.readouterr().out
