"""Trials in child processes, and the records of what they showed."""

from __future__ import annotations

import datetime as dt
import json
import logging
import shutil
import sys
import types
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.errors import AccessError
from tbot_core.plugins import discovery, trial, trial_records
from tbot_core.plugins.discovery import EntryPointInfo, PluginListing
from tbot_core.plugins.distributions import keep_fingerprints, plugin_fingerprint
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import PluginLoader
from tbot_core.plugins.probe import TrialOutcome, probe_plugin
from tbot_core.plugins.trial_records import TrialRecords, record_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC)
OTHER = EntryPointInfo(kind="strategy", name="other", dist="d", version="1", target="json")


def failed(outcome: TrialOutcome) -> PluginFailure:
    """The outcome's failure."""
    assert outcome.failure is not None
    return outcome.failure


def test_a_sound_plugin_describes_itself(plant: Callable[..., EntryPointInfo]) -> None:
    """A trial gives summary, capabilities and each declared setting with kind, bounds, default and meaning."""
    outcome = probe_plugin(plant("sound"))
    assert outcome.failure is None
    assert outcome.description == {
        "summary": "A sample",
        "capabilities": ["another", "one"],
        "settings": [
            {
                "name": "STRAT_SAMPLE_DEPTH",
                "kind": "fraction",
                "allowed": "a fraction (0.02 is 2 %) from 0 to 1",
                "default": "0.1",
                "doc": "How deep, as a fraction.",
                "file": ".env_bot",
            }
        ],
        "tables": [],
        "needs": {"hosts": [], "orders": False, "own_network": False, "secrets": [], "subprocess": False},
        "matrix": {},
    }


def test_a_failure_comes_back_with_its_phase(plant: Callable[..., EntryPointInfo]) -> None:
    """What the loader finds in the child is the outcome, traceback included."""
    failure = failed(probe_plugin(plant("odd", "import no_such_library")))
    assert (failure.name, failure.phase) == ("odd", "import")
    assert "no_such_library" in failure.error
    assert "Traceback" in failure.trace


@pytest.mark.slow
def test_an_endless_plugin_is_ended(plant: Callable[..., EntryPointInfo]) -> None:
    """A plugin that never finishes costs its limit and no more, and children that it started end with it."""
    body = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'while True: pass'])\nwhile True: pass"
    failure = failed(probe_plugin(plant("endless", body), limit_s=0.5))
    assert failure.phase == "probe"
    assert failure.error == "it did not finish within 0.5 s and was stopped."


def test_what_was_sound_is_not_tried_again_while_its_files_are_the_same(
    plant: Callable[..., EntryPointInfo], site: Path
) -> None:
    """By this process; a failure is tried again, for it may have been fixed since."""
    entry = plant("steady")
    again = failed(probe_plugin(entry, limit_s=0)).error  # a trial without any time to it
    assert again.startswith("it did not finish within 0 s")
    outcome = probe_plugin(entry)
    assert outcome.failure is None
    assert probe_plugin(entry, limit_s=0) == outcome
    package = site / "their_steady" / "__init__.py"
    package.write_text(f"{package.read_text()}\n")
    assert failed(probe_plugin(entry, limit_s=0)).error == again


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "import os, sys\nsys.stderr.write('dying now\\n'); sys.stderr.flush()\nos._exit(9)",
            "code 9 and no result: dying now",
        ),
        ("import os\nos._exit(0)", "code 0 and no result."),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "code -9 and no result."),
    ],
)
def test_a_plugin_that_ends_its_process_is_a_failure(
    plant: Callable[..., EntryPointInfo], body: str, words: str
) -> None:
    """A child without an answer is reported by its exit code and its last words."""
    failure = failed(probe_plugin(plant("dying", body)))
    assert failure.phase == "probe"
    assert failure.error == f"its process ended with {words}"


def test_a_flood_of_output_does_no_harm(plant: Callable[..., EntryPointInfo]) -> None:
    """What a plugin prints while it is imported is neither kept nor mistaken for the answer."""
    body = "import sys\nfor _ in range(300): sys.stdout.write('x' * 10_000)\nraise ValueError('after the flood')"
    assert failed(probe_plugin(plant("loud", body))).error == "ValueError: after the flood"


@pytest.mark.parametrize("answer", ["[]", "{", '{"phase": 1}', '{"summary": ""}'])
def test_a_plugin_that_writes_the_answer_itself_gains_nothing_but_a_failure(
    plant: Callable[..., EntryPointInfo], answer: str
) -> None:
    """An answer that is none is a failure like a missing one."""
    body = f"import os, sys\nopen(sys.argv[2], 'w').write({answer!r})\nos._exit(0)"
    assert failed(probe_plugin(plant("forger", body))).phase == "probe"


def test_the_trial_reads_a_request_and_writes_an_answer(plant: Callable[..., EntryPointInfo], tmp_path: Path) -> None:
    """The child's program turns an entry in a file into an outcome in a file."""
    entry = plant("sound")
    (tmp_path / "request.json").write_text(json.dumps(attrs.asdict(entry)))
    trial.main([str(tmp_path / "request.json"), str(tmp_path / "answer.json")])
    assert json.loads((tmp_path / "answer.json").read_text())["summary"] == "A sample"


@pytest.mark.parametrize(
    ("config", "phase", "words"),
    [
        ("class Config:\n    depth: int", "config", "The fields depth of its config have no value."),
        ("class Config:\n    depth: int = attrs.field(factory=lambda: 1 / 0)", "config", "ZeroDivisionError"),
        ("class Config:\n    depth: int = 1", "create", "lacks scan, window"),
    ],
)
def test_a_config_that_defaults_cannot_make_is_a_failure(
    plant: Callable[..., EntryPointInfo],
    tmp_path: Path,
    config: str,
    phase: str,
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every field needs a default or a setting, except a strategy's window; the object is created and checked."""
    body = (
        "import attrs\nfrom tbot_core.contracts import Plugin\nfrom tbot_core.contracts.hooks import hookimpl\n"
        f"@attrs.frozen(kw_only=True)\n{config}\n@hookimpl\ndef tbot_strategy():\n"
        "    return Plugin(name='odd', summary='', config=Config, create=lambda config, context: config)\n"
    )
    with caplog.at_level(logging.INFO):
        outcome = trial.try_plugin(plant("odd", body), tmp_path)
    assert isinstance(outcome, PluginFailure)
    assert outcome.phase == phase
    assert words in outcome.error


def test_the_trial_passes_a_failed_load_on(plant: Callable[..., EntryPointInfo], tmp_path: Path) -> None:
    """What cannot be loaded is not created."""
    outcome = trial.try_plugin(plant("odd", "raise ValueError"), tmp_path)
    assert isinstance(outcome, PluginFailure)
    assert outcome.phase == "import"


def outcome_of(entry: EntryPointInfo, error: str = "") -> TrialOutcome:
    """A failure with this error, or a description."""
    if error:
        return TrialOutcome(entry=entry, failure=PluginFailure.said(entry, "import", error))
    return TrialOutcome(entry=entry, description={"summary": "fine", "capabilities": [], "settings": []})


def test_a_recorded_failure_shows_in_the_next_list(plant: Callable[..., EntryPointInfo], tmp_path: Path) -> None:
    """What was written is read back: the plugin is broken with the reason and the moment it was seen."""
    bad, good = plant("bad"), plant("good")
    known = trial_records.with_outcomes(TrialRecords(), [outcome_of(bad, "ImportError: x"), outcome_of(good)], NOW)
    trial_records.write_records(tmp_path / "data", known)
    read = trial_records.read_records(tmp_path / "data")
    assert read == known
    listings = (PluginListing(entry=bad, state="active", enabled=True), PluginListing(entry=good))
    assert trial_records.apply_records(listings, read) == (
        PluginListing(
            entry=bad,
            state="broken",
            enabled=True,
            reason="it cannot be imported: ImportError: x",
            seen="2026-01-05T14:30:00Z",
        ),
        PluginListing(entry=good),
    )


def test_a_record_counts_only_for_the_files_that_were_tried(plant: Callable[..., EntryPointInfo], site: Path) -> None:
    """A changed, added or removed file, or other metadata, makes the record count no more; a cache file does not."""
    entry = plant("bad")
    known = trial_records.with_outcomes(TrialRecords(), [outcome_of(entry, "ImportError: x")], NOW)
    package = site / "their_bad"
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "cached.pyc").write_bytes(b"x")
    assert known.of(entry) is not None
    (package / "more").mkdir()
    assert known.of(entry) is not None
    (package / "more" / "added.py").write_text("")
    assert known.of(entry) is None
    shutil.rmtree(package / "more")
    assert known.of(entry) is not None
    assert known.of(attrs.evolve(entry, version="2.6")) is None
    (package / "__init__.py").write_text("mended = True")
    assert known.of(entry) is None


def test_a_duplicate_keeps_its_own_state(plant: Callable[..., EntryPointInfo]) -> None:
    """What metadata refuses is not made broken by a record."""
    entry = plant("bad")
    known = trial_records.with_outcomes(TrialRecords(), [outcome_of(entry, "ImportError: x")], NOW)
    listing = PluginListing(entry=entry, state="duplicate", reason="twice")
    assert trial_records.apply_records([listing], known) == (listing,)


def test_fingerprints_cover_what_an_entry_point_may_name(
    plant: Callable[..., EntryPointInfo], site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single module, an absent one, a built-in and one that was made at run time have a fingerprint each."""
    monkeypatch.setitem(sys.modules, "their_made", types.ModuleType("their_made"))
    (site / "their_file.py").write_text("a = 1")
    targets = ("their_file", "their_nothing", "sys", "their_odd.part:plugin", "their_made")
    prints = [plugin_fingerprint(attrs.evolve(OTHER, target=target)) for target in targets]
    assert len(set(prints)) == len(targets)
    (site / "their_file.py").write_text("a = 2")
    assert plugin_fingerprint(attrs.evolve(OTHER, target="their_file")) != prints[0]
    plant("odd")
    assert plugin_fingerprint(attrs.evolve(OTHER, target="their_odd.part:plugin")) != prints[3]


def test_a_file_that_cannot_be_read_matches_no_record(plant: Callable[..., EntryPointInfo], site: Path) -> None:
    """An unreadable package has no fingerprint, so nothing recorded speaks for it."""
    entry = plant("bad")
    known = trial_records.with_outcomes(TrialRecords(), [outcome_of(entry, "ImportError: x")], NOW)
    (site / "their_bad" / "dangling.py").symlink_to(site / "nowhere")
    assert plugin_fingerprint(entry) == ""
    assert known.of(entry) is None


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff",
        b"[]",
        b"{}",
        b'{"format": 2, "results": {}}',
        b'{"format": 1, "results": []}',
        b'{"format": 1, "results": {"k": {}}}',
        b'{"format": 1, "results": {"k": {"files": 1, "seen": ""}}}',
        b'{"format": 1, "results": {"k": {"files": "", "seen": "", "description": []}}}',
    ],
)
def test_a_damaged_file_is_a_warning_and_set_aside(tmp_path: Path, content: bytes) -> None:
    """A file that cannot be read counts as no records; the next write keeps it beside and begins anew."""
    path = tmp_path / "plugins.json"
    path.write_bytes(content)
    read = trial_records.read_records(tmp_path)
    assert dict(read.results) == {}
    assert read.warning.startswith(f"{path} cannot be read (")
    assert path.read_bytes() == content
    trial_records.write_records(tmp_path, trial_records.with_outcomes(read, [outcome_of(OTHER)], NOW))
    assert (tmp_path / "plugins.json.damaged").read_bytes() == content
    again = trial_records.read_records(tmp_path)
    assert again.warning == ""
    assert again.of(OTHER) is not None


def test_records_need_no_instance(tmp_path: Path) -> None:
    """Without a file there are no records and no warning; a folder that cannot be written is an AccessError."""
    assert trial_records.read_records(tmp_path / "data") == TrialRecords()
    (tmp_path / "data").write_text("")
    with pytest.raises(AccessError):
        trial_records.write_records(tmp_path / "data", TrialRecords())


def test_a_run_records_what_it_saw_and_writes_only_news(plant: Callable[..., EntryPointInfo], tmp_path: Path) -> None:
    """Loaded plugins are recorded as sound and failed ones with their fault; the same again leaves the file alone."""
    plant("good")
    plant("unmade")
    plant("bad", "import no_such_library")
    plant("old", requires=("tbot-core<1",))
    listings = discovery.installed_plugins()
    wanted = [("strategy", name) for name in ("good", "unmade", "bad", "old", "absent")]
    loaded, failures = PluginLoader().offers(wanted, listings)
    (unmade,) = (it.entry for it in loaded if it.entry.name == "unmade")
    failures += (PluginFailure.said(unmade, "create", "no room"),)
    record_run(tmp_path, loaded, failures, listings, NOW)
    known = trial_records.read_records(tmp_path)
    states = {
        it.entry.name: it.state
        for it in trial_records.apply_records(listings, known)
        if it.entry.dist.startswith("their-")
    }
    assert states == {"good": "available", "unmade": "broken", "bad": "broken", "old": "incompatible"}
    assert sorted(known.results) == [
        "strategy/bad/their-bad",
        "strategy/good/their-good",
        "strategy/unmade/their-unmade",
    ]
    record_run(tmp_path, loaded, failures, listings, NOW + dt.timedelta(days=1))
    assert trial_records.read_records(tmp_path) == known
    record_run(tmp_path, loaded, failures[:-1], listings, NOW + dt.timedelta(days=1))
    again = trial_records.read_records(tmp_path)
    assert again.results["strategy/unmade/their-unmade"].error == ""
    assert again.results["strategy/unmade/their-unmade"].seen == "2026-01-06T14:30:00Z"
    assert again.results["strategy/bad/their-bad"].seen == "2026-01-05T14:30:00Z"


def test_a_trial_and_a_run_describe_a_plugin_alike(plant: Callable[..., EntryPointInfo], tmp_path: Path) -> None:
    """What a trial recorded is no news to a run."""
    entry = plant("good")
    trial_records.write_records(tmp_path, trial_records.with_outcomes(TrialRecords(), [probe_plugin(entry)], NOW))
    known = trial_records.read_records(tmp_path)
    loaded, failures = PluginLoader().offers([("strategy", "good")], discovery.installed_plugins())
    record_run(tmp_path, loaded, failures, discovery.installed_plugins(), NOW + dt.timedelta(days=1))
    assert trial_records.read_records(tmp_path) == known


def test_a_kept_fingerprint_is_that_of_the_first_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While fingerprints are kept, the files of a plugin are read once; afterwards a change shows."""
    monkeypatch.syspath_prepend(tmp_path)
    place = tmp_path / "their_kept_file.py"
    place.write_text("")
    entry = attrs.evolve(OTHER, target="their_kept_file")
    with keep_fingerprints():
        first = plugin_fingerprint(entry)
        place.write_text("changed = True\n")
        assert plugin_fingerprint(entry) == first
    assert plugin_fingerprint(entry) != first
