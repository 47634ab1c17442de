"""`tbot plugins new` and `check`: packages that work before the first edit, and the contract of installed plugins."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.actions import plugin_development
from tbot_core.actions.plugin_development import KINDS, install_commands, write_plugin
from tbot_core.cli import invoke
from tbot_core.contracts.permissions import PluginNeeds
from tbot_core.errors import AccessError, PluginError, UsageError
from tbot_core.plugins.discovery import EntryPointInfo, installed_plugins
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import LoadedPlugin, PluginLoader
from tbot_core.plugins.probe import probe_plugin
from tbot_core.testing.contract import demand, run_cases
from tbot_core.testing.plugin_check import PluginCheck, check_plugin

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_passes_its_own_tests(kind: str, tmp_path: Path) -> None:
    """In a process of its own, with the settings of its own pyproject.toml, and ruff finds no fault in it."""
    made = write_plugin(kind, "my_first", tmp_path / "new")
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=made.folder,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select=E,F,W", "--line-length=120", "."],
        cwd=made.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.slow
@pytest.mark.first(1)
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_passes_its_trial(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is imported, offered and created as `tbot plugins list --probe` does it."""
    made = write_plugin(kind, "my_first", tmp_path / "new")
    monkeypatch.syspath_prepend(made.folder)
    entry = EntryPointInfo(
        kind=kind, name="my_first", target=f"tbot_{kind}_my_first", dist=made.distribution, version="0.1.0", requires=()
    )
    outcome = probe_plugin(entry)
    assert outcome.failure is None


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("broker", "BROKER_NAME=acme"),
        ("filter", "FILTERS=acme"),
        ("strategy", "STRATEGY_SEQUENCE=acme"),
        ("alert", "HOST_ACME_SERVICE=https://NAME"),
    ],
)
def test_the_readme_of_a_new_plugin_says_how_to_enable_it(kind: str, line: str, tmp_path: Path) -> None:
    """By the line of the settings that it needs."""
    made = write_plugin(kind, "acme", tmp_path / "new")
    assert f"`{line}`" in (made.folder / "README.md").read_text()


@pytest.mark.parametrize(("kind", "name"), [("broker", "paper"), ("strategy", "open")])
def test_the_name_of_an_installed_plugin_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    """Both would be refused as duplicates; the same name for another kind is free."""
    with pytest.raises(UsageError, match=f"The {kind} {name} is installed already, by the distribution tbot-{kind}"):
        write_plugin(kind, name, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    write_plugin("filter", name, tmp_path / "new")


def test_a_keyword_is_named_as_one(tmp_path: Path) -> None:
    """The letters are fine, the word is not."""
    with pytest.raises(UsageError, match="is not allowed: it is a keyword of Python"):
        write_plugin("filter", "class", tmp_path / "new")


@pytest.mark.parametrize("name", ["", "x", "Acme", "my-first", "1st", "class", "a" * 33])
def test_a_name_that_no_plugin_may_have_is_refused(name: str, tmp_path: Path) -> None:
    """It must be a word of Python in lower case; nothing is written."""
    with pytest.raises(UsageError, match="is not allowed"):
        write_plugin("filter", name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    """A folder that holds something, or a file, is refused; an empty folder is filled."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    for there, words in (("full", "exists and is not empty"), ("full/mine", "is a file")):
        with pytest.raises(AccessError, match=words):
            write_plugin("filter", "acme", tmp_path / there)
    (tmp_path / "empty").mkdir()
    assert write_plugin("filter", "acme", tmp_path / "empty").folder == tmp_path / "empty"


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("broker", "BROKER_NAME=my_own"),
        ("strategy", "START_TIME_MY_OWN"),
        ("filter", "FILTERS=my_own"),
        ("alert", "ROUTINE_ALERT_CHANNEL=my_own"),
        ("extension", "EXTENSIONS"),
    ],
)
def test_the_readme_says_how_to_enable_it(kind: str, setting: str, tmp_path: Path) -> None:
    """With the setting as it is written in the settings file."""
    made = write_plugin(kind, "my_own", tmp_path / "new")
    readme = (made.folder / "README.md").read_text()
    assert setting in readme
    assert "{" not in readme
    assert kind != "filter" or "beside the standard\nfilters" in readme


@pytest.mark.parametrize(
    ("installed", "found", "commands"),
    [
        ({"pip"}, "/bin/uv", ["PYTHON -m pip install -e 'my own'"]),
        ({"pip", "uv_build"}, None, ["PYTHON -m pip install --no-build-isolation -e 'my own'"]),
        ({"uv_build"}, "/bin/uv", ["/bin/uv pip install --python PYTHON --no-build-isolation -e 'my own'"]),
        (set(), None, ["PYTHON -m ensurepip", "PYTHON -m pip install -e 'my own'"]),
    ],
)
def test_the_command_installs_for_the_python_that_runs_tbot(
    installed: set[str], found: str | None, commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the pip of this Python, else with uv; without both, pip comes first."""
    monkeypatch.setattr(plugin_development, "find_spec", lambda name: name if name in installed else None)
    monkeypatch.setattr("shutil.which", lambda _name: found)
    python = shlex.quote(sys.executable)
    assert install_commands("my own") == [one.replace("PYTHON", python) for one in commands]


def test_the_command_says_what_to_run_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder is named after the distribution; JSON lists the files."""
    monkeypatch.chdir(tmp_path)
    assert invoke(["plugins", "new", "strategy", "acme"]) == 0
    said = capsys.readouterr().out
    assert "pip install" in said
    assert "-e tbot-strategy-acme\n" in said
    assert f"{sys.executable} -m pytest tbot-strategy-acme\n" in said
    assert invoke(["plugins", "new", "alert", "acme", "--dir", "here", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["folder"] == "here"
    assert "tbot_alert_acme/__init__.py" in listed["files"]
    assert all((tmp_path / "here" / place).exists() for place in listed["files"])


INSTALLED = [listing.entry for listing in installed_plugins() if listing.entry.kind != "command"]
EXAMPLES = [*{one.kind: one for one in INSTALLED}.values(), *(one for one in INSTALLED if one.kind == "broker")]


@pytest.mark.slow
@pytest.mark.first(2)
@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize(
    "entry",
    # Each plugin's own tests run its contract; here one of each kind is enough, and the brokers, which have a venue.
    [one if one in EXAMPLES else pytest.param(one, marks=pytest.mark.full) for one in INSTALLED],
    ids=lambda entry: f"{entry.kind}/{entry.name}",
)
def test_every_built_in_plugin_passes_its_contract(entry: EntryPointInfo, tmp_path: Path) -> None:
    """With default settings, as a stranger's plugin must."""
    loaded = PluginLoader().load(entry)
    assert isinstance(loaded, LoadedPlugin)
    found = check_plugin(loaded, tmp_path)
    assert [case for case in found.cases if case.outcome == "failed"] == []
    assert bool(found.cases) or entry.kind == "extension"  # the page offers hooks alone
    assert bool(found.capabilities) == (entry.kind == "broker")


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_the_contract_is_run_in_a_process_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """`tbot plugins check` prints each case with its promise, and the capabilities of a broker."""
    assert invoke(["plugins", "check", "paper"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"broker paper: \d+ cases with default settings: \d+ passed, 0 failed, \d+ not claimed\.", said)
    assert "  b04  passed       A market order is acknowledged, then filled" in said
    assert "  f05  passed       Minute bars of three sessions in one call" in said
    assert "  brackets             yes" in said
    assert invoke(["plugins", "check", "price_volume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"passed": 10, "not claimed": 3}
    assert invoke(["plugins", "check", "nosuch"]) == 3
    assert "Unknown plugin nosuch" in capsys.readouterr().err


def test_a_case_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With the reason, the traceback of an error, once, and exit code 1."""

    def broken(_subject: object) -> None:
        """It does what it promises."""
        raise KeyError("cash")

    def refused(_subject: object) -> None:
        """It keeps its word."""
        demand(condition=False, words="it did not")

    broken.__name__, refused.__name__ = "b01_broken", "b02_refused"
    cases = run_cases((broken, refused), nullcontext)
    cases += tuple(attrs.evolve(one, number="b03") for one in cases[:1])
    document = attrs.asdict(PluginCheck(cases=cases))
    monkeypatch.setattr(plugin_development, "run_apart", lambda *_given, **_more: document)
    assert invoke(["plugins", "check", "paper"]) == 1
    said = capsys.readouterr().out
    assert "broker paper: 3 cases with default settings: 0 passed, 3 failed, 0 not claimed." in said
    assert "b01  FAILED       It does what it promises.\n                    KeyError: 'cash'" in said
    assert said.count('raise KeyError("cash")') == 1
    assert "b03  FAILED       It does what it promises.\n                    KeyError: 'cash'" in said
    assert "with the traceback of b01" in said
    assert "b02  FAILED       It keeps its word.\n                    it did not" in said


def test_a_plugin_that_cannot_be_checked_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a venue, with a broken import, or when it does not end."""
    venueless = attrs.asdict(PluginCheck(missing="The plugin offers no venue (Plugin.venue)."))
    monkeypatch.setattr(plugin_development, "run_apart", lambda *_given, **_more: venueless)
    assert invoke(["plugins", "check", "paper"]) == 1
    assert "broker paper: The plugin offers no venue" in capsys.readouterr().out
    failure = attrs.asdict(PluginFailure.said(INSTALLED[0], "import", "no module named httpx"))
    monkeypatch.setattr(plugin_development, "run_apart", lambda *_given, **_more: failure)
    assert invoke(["plugins", "check", "paper"]) == 3
    said = capsys.readouterr().err
    assert f"The {INSTALLED[0].kind} {INSTALLED[0].name}" in said
    assert "no module named httpx" in said

    def endless(*_given: object, **_more: object) -> None:
        raise PluginError("it did not finish within 300 s and was stopped.")

    monkeypatch.setattr(plugin_development, "run_apart", endless)
    assert invoke(["plugins", "check", "paper"]) == 3
    assert "was not run to its end: it did not finish within 300 s" in capsys.readouterr().err


def test_a_plugin_without_what_its_kind_needs_is_not_checked(tmp_path: Path) -> None:
    """A broker without a venue; an extension that reaches outside, or has nothing but hooks."""
    loaded = PluginLoader().load(next(entry for entry in INSTALLED if entry.kind == "broker"))
    assert isinstance(loaded, LoadedPlugin)
    venueless = attrs.evolve(loaded, plugin=attrs.evolve(loaded.plugin, venue=None))
    assert "offers no venue" in check_plugin(venueless, tmp_path).missing
    outside = attrs.evolve(venueless, entry=attrs.evolve(loaded.entry, kind="extension"))
    outside = attrs.evolve(outside, plugin=attrs.evolve(outside.plugin, needs=PluginNeeds(own_network=True)))
    assert "reaches outside and offers no venue" in check_plugin(outside, tmp_path).missing
    at_venue = attrs.evolve(outside.plugin, venue=lambda: nullcontext(object()))
    assert check_plugin(attrs.evolve(outside, plugin=at_venue), tmp_path).cases[0].outcome == "failed"
    plain = attrs.evolve(outside.plugin, needs=PluginNeeds(), create=lambda config, _context: config)
    assert "offers hooks alone" in check_plugin(attrs.evolve(outside, plugin=plain), tmp_path).missing


def test_a_plugin_that_cannot_be_created_fails_each_case(tmp_path: Path) -> None:
    """The reason is that of its `create`."""
    loaded = PluginLoader().load(next(entry for entry in INSTALLED if entry.name == "price_volume"))
    assert isinstance(loaded, LoadedPlugin)

    def create(_config: object, _context: object) -> object:
        raise ValueError("no table")

    broken = attrs.evolve(loaded, plugin=attrs.evolve(loaded.plugin, create=create))
    found = check_plugin(broken, tmp_path)
    assert {case.outcome for case in found.cases} == {"failed"}
    assert "no table" in found.cases[0].words
