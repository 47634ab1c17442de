"""`tbot plugins lock` and `verify`, what the list says of them, and live trading's refusal."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import py_compile
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.cli import invoke
from tbot_core.engine.bootstrap import assemble
from tbot_core.errors import PluginError, TbotError
from tbot_core.model.clock import SystemClock
from tbot_core.plugins import lock, trial_records
from tbot_core.plugins.distributions import plugin_fingerprint, startup_files
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.trial_records import record_failure
from tbot_core.system import environ, processes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tbot_core.plugins.discovery import EntryPointInfo

NEEDY = """
import attrs
from tbot_core.contracts import Plugin
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.permissions import Host, PluginNeeds
HOSTS = {"api": Host("https://a.example.invalid"), "own": Host("https://*")}
@attrs.frozen
class Config: pass
class Strategy:
    window = None
    def scan(self, bars, day, since=0): raise AssertionError
@hookimpl
def tbot_strategy():
    return Plugin(name="needy", summary="", config=Config, create=lambda config, context: Strategy(),
                  needs=PluginNeeds(hosts=HOSTS, subprocess=True))
"""


ABSENT = "CRITICAL_ALERT_CHANNEL=absent\nROUTINE_ALERT_CHANNEL=absent\n"


class Terminal(io.StringIO):
    """Standard input of a person who types these lines."""

    def isatty(self) -> bool:
        """A person sits there."""
        return True


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance that enables the strategy `sound`, and nothing else that is theirs."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / ".env").write_text("EXTENSIONS=none\n")
    (folder / ".env_bot").write_text("STRATEGY_SEQUENCE=sound\nBROKER_NAME=PAPER\nFILTERS=none\n")
    return folder


def run(home: Path, *words: str) -> int:
    """One command line of tbot plugins."""
    return invoke(["plugins", *words, "--home", str(home)])


def row(capsys: pytest.CaptureFixture[str], home: Path, name: str) -> dict[str, Any]:
    """What the JSON list says of a plugin."""
    capsys.readouterr()
    assert run(home, "list", "--json") == 0
    (found,) = [it for it in json.loads(capsys.readouterr().out)["plugins"] if it["name"] == name]
    return dict(found)


@pytest.mark.slow
def test_a_lock_is_written_and_matches_until_a_file_changes(
    plant: Callable[..., EntryPointInfo], site: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify: 1 without a lock, 0 right after it, 1 with a sentence for what differs; the list says the same."""
    plant("sound")
    plant("spare")
    assert run(home, "verify") == 1
    assert "There is no plugins.lock in" in capsys.readouterr().out
    assert row(capsys, home, "sound")["lock"] == "UNLISTED"
    assert run(home, "lock", "--yes", "--approver", "Ada") == 0
    text = capsys.readouterr().out
    assert "+ strategy sound: their-sound 2.5, origin unknown, 3 files\n    needs nothing\n" in text
    assert "plugins.lock is written: " in text
    assert run(home, "verify") == 0
    assert capsys.readouterr().out.startswith("plugins.lock matches: ")
    assert row(capsys, home, "sound")["lock"] == "locked"
    assert row(capsys, home, "spare")["lock"] == ""
    assert not (home / "data").exists()
    (home / "plugins.lock").chmod(0o620)
    assert run(home, "verify") == 1
    assert f"`chmod go-w {home / 'plugins.lock'}`" in capsys.readouterr().out
    (home / "plugins.lock").chmod(0o600)
    (site / "their_sound" / "__init__.py").write_text("changed = True")
    assert run(home, "verify") == 1
    assert capsys.readouterr().out.startswith("The strategy sound has a changed file: their_sound/__init__.py.\n")
    assert row(capsys, home, "sound")["lock"] == "CHANGED"


@pytest.mark.slow
def test_a_new_lock_shows_what_changed_and_keeps_the_rest(
    plant: Callable[..., EntryPointInfo], site: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each difference has a line; approver and date of what did not change stay; nothing new is not written anew."""
    plant("sound")
    plant("needy", NEEDY)
    assert run(home, "lock", "--yes", "--approver", "Ada") == 0
    (home / ".env_bot").write_text("STRATEGY_SEQUENCE=needy\nBROKER_NAME=PAPER\nFILTERS=none\n")
    (site / "their_sound" / "new.py").write_text("")
    capsys.readouterr()
    assert run(home, "lock", "--yes", "--approver", "Grace", "--json") == 0
    written = capsys.readouterr()
    assert "+ strategy needy: their-needy 2.5, origin unknown, 3 files" in written.err
    chosen = "hosts a.example.invalid, the https host that the operator sets in HOST_NEEDY_OWN\n"
    assert f"    needs child processes; {chosen}" in written.err
    assert "- strategy sound: their-sound 2.5 is no longer enabled" in written.err
    document = json.loads(written.out)
    assert document["written"] is True
    approvers = {it["name"]: it["approver"] for it in document["plugins"]}
    assert approvers == {"console": "Ada", "paper": "Ada", "needy": "Grace"}
    before = (home / lock.FILE_NAME).read_bytes()
    assert run(home, "lock") == 0
    assert "plugins.lock matches already: 3 plugins, " in capsys.readouterr().out
    assert (home / lock.FILE_NAME).read_bytes() == before
    (site / "their_needy" / "new.py").write_text("")
    assert run(home, "lock", "--yes") == 0
    assert "~ The strategy needy has a new file: their_needy/new.py." in capsys.readouterr().out


def test_nothing_is_locked_without_a_word(
    plant: Callable[..., EntryPointInfo],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a terminal --yes is needed (exit 2); a person may refuse (exit 1) or agree."""
    plant("sound")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert run(home, "lock") == 2
    assert "Approve with --yes." in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert run(home, "lock") == 1
    assert not (home / lock.FILE_NAME).exists()
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert run(home, "lock") == 0
    assert (home / lock.FILE_NAME).exists()


def test_what_cannot_be_locked_is_said(
    plant: Callable[..., EntryPointInfo], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Absent, incompatible and broken plugins are warnings beside the lock of the others."""
    plant("broken", "import no_such_library")
    plant("old", requires=("tbot-core<1",))
    (home / ".env_bot").write_text("STRATEGY_SEQUENCE=broken,old,absent\nBROKER_NAME=PAPER\nFILTERS=none\n")
    assert run(home, "lock", "--yes", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [it["name"] for it in document["plugins"]] == ["console", "paper"]
    assert document["plugins"][1]["needs"]["orders"] is True
    said = "\n".join(document["warnings"])
    assert "The strategy absent is enabled but not installed, so it is not locked." in said
    assert "The strategy broken is not locked: it cannot be imported: ModuleNotFoundError" in said
    assert "The strategy old is not locked: It requires tbot-core<1" in said
    assert run(home, "verify", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert {(it["name"], it["what"]) for it in document["differences"]} == {("broken", "unlocked"), ("old", "unlocked")}


def test_verify_names_what_it_does_not_compare(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that Python runs at each start: no lock pins it, and it could change what the lock compares."""
    site = tmp_path / "site-packages"
    site.mkdir()
    for name in ("planted.pth", "sitecustomize.py", "other.py"):
        (site / name).write_text("")
    monkeypatch.setattr(sys, "path", [str(site), str(tmp_path / "gone" / "dist-packages"), str(tmp_path)])
    monkeypatch.delitem(sys.modules, "sitecustomize", raising=False)
    assert startup_files() == (str(site / "planted.pth"), str(site / "sitecustomize.py"))
    run(home, "verify", "--json")
    assert json.loads(capsys.readouterr().out)["startup_files"] == list(startup_files())
    run(home, "verify")
    said = capsys.readouterr().out.splitlines()
    assert said[-3:] == [
        "Not compared, though Python reads them at each start:",
        f"  {site / 'planted.pth'}",
        f"  {site / 'sitecustomize.py'}",
    ]
    monkeypatch.setattr(sys, "path", [])
    run(home, "verify")
    assert "Not compared" not in capsys.readouterr().out


def test_a_lock_needs_something_to_lock(
    plant: Callable[..., EntryPointInfo], home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No instance: exit 3; settings that enable nothing installed: exit 2; nothing but broken plugins: exit 3."""
    assert run(tmp_path, "lock", "--yes") == 3
    assert f"{tmp_path} is not an instance." in capsys.readouterr().err
    (home / ".env_bot").write_text("STRATEGY_SEQUENCE=absent\nBROKER_NAME=absent\nFILTERS=none\n" + ABSENT)
    assert run(home, "lock", "--yes") == 2
    assert "enable no installed plugin" in capsys.readouterr().err
    plant("broken", "import no_such_library")
    (home / ".env_bot").write_text("STRATEGY_SEQUENCE=broken\nBROKER_NAME=absent\nFILTERS=none\n" + ABSENT)
    assert run(home, "lock", "--yes") == 3
    assert "no_such_library" in capsys.readouterr().err
    assert not (home / lock.FILE_NAME).exists()


def test_a_record_of_these_files_saves_the_trial(
    plant: Callable[..., EntryPointInfo], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Needs that are recorded of exactly these files are taken as they are; a record without them is not enough."""
    entry = plant("sound")
    description = {"needs": {"hosts": ["api=https://h"], "orders": False, "secrets": [], "subprocess": False}}
    known = trial_records.TrialRecord(
        files=plugin_fingerprint(entry), seen="2026-03-02T09:30:00Z", description=description
    )
    key = "strategy/sound/their-sound"
    trial_records.write_records(home / "data", trial_records.TrialRecords(results={key: known}))
    assert run(home, "lock", "--yes") == 0
    assert "needs hosts h" in capsys.readouterr().out
    (home / lock.FILE_NAME).unlink()
    silent = trial_records.TrialRecord(files=known.files, seen=known.seen, description={"summary": "An older record"})
    trial_records.write_records(home / "data", trial_records.TrialRecords(results={key: silent}))
    assert run(home, "lock", "--yes") == 0
    assert "sound: their-sound 2.5, origin unknown, 3 files\n    needs nothing" in capsys.readouterr().out


def test_a_damaged_lock_is_an_error_to_verify_and_a_warning_otherwise(
    plant: Callable[..., EntryPointInfo], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list goes on without it, and a new lock takes every plugin as new."""
    plant("sound")
    (home / lock.FILE_NAME).write_text("{")
    assert run(home, "verify") == 3
    assert "plugins.lock cannot be read" in capsys.readouterr().err
    assert run(home, "list") == 0
    assert "The list cannot show which plugins are approved." in capsys.readouterr().err
    assert run(home, "lock", "--yes") == 0
    assert "So every plugin counts as new." in capsys.readouterr().err
    assert run(home, "verify") == 0


@pytest.mark.slow
def test_a_plugin_that_cannot_be_read_is_not_called_locked(
    plant: Callable[..., EntryPointInfo], site: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be compared is unknown to the list, and an error to verify."""
    plant("sound")
    plant("spare")
    assert run(home, "lock", "--yes") == 0
    (site / "their_sound" / "circle").symlink_to("circle")
    assert row(capsys, home, "sound")["lock"] == "UNKNOWN"
    assert row(capsys, home, "spare")["lock"] == ""
    assert run(home, "verify") == 1
    assert "Cannot read" in capsys.readouterr().err


def test_a_name_almost_that_of_a_known_plugin_is_warned_of(
    plant: Callable[..., EntryPointInfo], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list and the lock both name the distribution and the one that it looks like."""
    plant("sound", dist="tbot-strategy-oben")
    sentence = "The name of the distribution tbot-strategy-oben is similar to tbot-strategy-open"
    assert run(home, "list") == 0
    assert sentence in capsys.readouterr().err
    assert run(home, "lock", "--yes") == 0
    assert sentence in capsys.readouterr().err


def test_the_list_shows_strangers_in_red_on_a_terminal(
    plant: Callable[..., EntryPointInfo],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A person sees at once what was not approved, with its hash and origin; a file gets no colour."""
    entry = plant("sound")
    assert run(home, "list") == 0
    (line,) = [it for it in capsys.readouterr().out.splitlines() if " sound " in it]
    assert line.split()[5:] == ["UNLISTED", plugin_fingerprint(entry)[:12], "unknown"]
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert run(home, "list") == 0
    assert "\x1b[31m\x1b[1mUNLISTED" in terminal.getvalue()


@pytest.mark.slow
def test_f91_failures_in_runs_are_counted_and_shown_with_where_a_plugin_runs(
    plant: Callable[..., EntryPointInfo],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A call that failed is counted and remembered; the sheet says in whose process it failed."""
    entry, data = plant("sound"), home / "data"
    record_failure(data, entry, PluginFailure.said(entry, "run", "too early"), SystemClock().now())
    assert run(home, "list", "--probe") == 0
    assert row(capsys, home, "sound")["failures"] == 0
    for _ in range(2):
        record_failure(data, entry, PluginFailure.said(entry, "run", "scan: it hangs"), SystemClock().now())
    facts = row(capsys, home, "sound")
    assert (facts["failures"], facts["isolation"], facts["state"]) == (2, "in process", "active")
    assert facts["last_crash"].endswith("Z: it failed in a run: scan: it hangs")
    assert run(home, "list", "--probe") == 0
    assert row(capsys, home, "sound")["failures"] == 2
    monkeypatch.setenv("TBOT_PLUGINS_ISOLATE", "sound")
    assert run(home, "info", "sound") == 0
    said = capsys.readouterr().out
    assert "runs          in a worker process of its own" in said
    assert "failures      2 in runs; last: 20" in said


def test_a_failure_that_cannot_be_recorded_ends_nothing(plant: Callable[..., EntryPointInfo], home: Path) -> None:
    """The run goes on; what was recorded before is as it was."""
    entry = plant("sound")
    assert run(home, "list", "--probe") == 0
    before = (home / "data" / "plugins.json").read_bytes()
    failure = PluginFailure.said(entry, "run", "scan: it hangs")
    record_failure(home / "data" / "plugins.json", entry, failure, SystemClock().now())
    assert (home / "data" / "plugins.json").read_bytes() == before


@pytest.mark.slow
def test_the_last_crash_stays_known(
    plant: Callable[..., EntryPointInfo], site: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plugin that was fixed says when it last failed, and how."""
    plant("sound", "import no_such_library")
    assert run(home, "list", "--probe") == 0
    crash = row(capsys, home, "sound")["last_crash"]
    assert "Z: it cannot be imported: ModuleNotFoundError" in crash
    (site / "their_sound" / "__init__.py").write_text(NEEDY.replace("needy", "sound"))
    assert run(home, "list", "--probe") == 0
    repaired = row(capsys, home, "sound")
    assert (repaired["state"], repaired["reason"], repaired["last_crash"]) == ("active", "", crash)
    assert repaired["needs"]["subprocess"] is True
    assert run(home, "list") == 0
    assert f"last crash {crash}" in capsys.readouterr().out
    assert run(home, "info", "sound") == 0
    said = capsys.readouterr().out
    assert "needs         child processes; hosts a.example.invalid, the https host that the operator sets in" in said
    assert "  HOST_SOUND_OWN=\n      The https host (own) of the plugin sound, which the operator chooses" in said


def test_live_trading_imports_nothing_that_is_not_approved(
    plant: Callable[..., EntryPointInfo], site: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a lock, and with a changed file, the refusal comes before any plugin runs; approved ones are imported."""
    monkeypatch.setattr(sys, "pycache_prefix", None)
    plant("sound")
    with pytest.raises(PluginError, match="no plugin is approved"):
        assemble(home, "live", SystemClock())
    assert run(home, "lock", "--yes") == 0
    source = (site / "their_sound" / "__init__.py").read_text()
    (site / "their_sound" / "__init__.py").write_text(f"{source}\n# changed")
    with pytest.raises(PluginError, match="has a changed file") as caught:
        assemble(home, "live", SystemClock())
    assert caught.value.exit_code == 3
    assert "their_sound" not in sys.modules
    assert sys.pycache_prefix is None
    (site / "their_sound" / "__init__.py").write_text(source)
    with pytest.raises(TbotError) as caught_later:
        assemble(home, "live", SystemClock())
    assert "approved" not in caught_later.value.message
    assert "their_sound" in sys.modules
    assert sys.pycache_prefix == str(home / "data" / "bytecode")


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_bytecode_that_was_not_compiled_from_the_source_does_not_run_live(
    plant: Callable[..., EntryPointInfo], site: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forged file in __pycache__ is read neither while it is verified nor when the plugin is imported."""
    monkeypatch.setattr(sys, "pycache_prefix", None)  # a live start in this process has moved it
    plant("sound")
    assert run(home, "lock", "--yes") == 0
    source = site / "their_sound" / "__init__.py"
    honest = source.read_bytes()
    forged = b"raise SystemExit('forged')" + b"\n" * (len(honest) - 26)
    moment = source.stat()
    source.write_bytes(forged)
    os.utime(source, ns=(moment.st_atime_ns, moment.st_mtime_ns))
    py_compile.compile(str(source), importlib.util.cache_from_source(str(source)))
    source.write_bytes(honest)
    os.utime(source, ns=(moment.st_atime_ns, moment.st_mtime_ns))
    code = (
        "import sys; from tbot_core.engine.bootstrap import assemble; from tbot_core.model.clock import SystemClock\n"
        "try: assemble(sys.argv[1], sys.argv[2], SystemClock())\n"
        "except Exception as fault: print(fault)\n"
        "print(hasattr(sys.modules.get('their_sound'), 'Config'))"
    )
    variables = environ.minimal_environment() | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for mode, runs in (("live", "True"), ("paper", "False")):
        ended = processes.run_program(
            [sys.executable, "-c", code, str(home), mode], timeout_s=60, environment=variables
        )
        assert ended.output.splitlines()[-1] == runs, ended.output + ended.errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "warned"), [("ENVIRONMENT=production", True), ("", True), ("ENVIRONMENT=development", False)]
)
def test_paper_trading_in_production_warns(
    plant: Callable[..., EntryPointInfo], site: Path, home: Path, environment: str, warned: bool
) -> None:
    """One note says what live trading would refuse, and how many more there are; development says nothing."""
    plant("sound")
    (home / ".env").write_text(f"{environment}\nEXTENSIONS=none\n")
    prefix = "Live trading would refuse the plugins: "
    notes = [it for it in assemble(home, "paper", SystemClock()).notes if it.startswith(prefix)]
    assert len(notes) == warned
    assert run(home, "lock", "--yes") == 0
    assert not [it for it in assemble(home, "paper", SystemClock()).notes if it.startswith(prefix)]
    (site / "their_sound" / "b.py").write_text("")
    (site / "their_sound" / "c.py").write_text("")
    notes = [it for it in assemble(home, "paper", SystemClock()).notes if it.startswith(prefix)]
    expected = f"{prefix}The strategy sound has a new file: their_sound/b.py. 1 more: `tbot plugins verify` shows all."
    assert notes == ([expected] if warned else [])
