"""plugins.lock: every file of every enabled plugin, and what differs from it."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import shutil
import sys
from datetime import UTC, datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts.permissions import PluginNeeds
from tbot_core.errors import AccessError, PluginError
from tbot_core.plugins import lock
from tbot_core.plugins.discovery import EntryPointInfo, PluginListing, installed_plugins, mark_enabled
from tbot_core.plugins.distributions import (
    DistributionOrigin,
    distribution_origin,
    installed_distribution,
    keep_fingerprints,
    package_files,
    plugin_fingerprint,
)
from tbot_core.plugins.lock import LockApproval, LockDifference, PluginLock, read_private_bytecode
from tbot_core.system import environ, filesystem, processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

APPROVAL = LockApproval(approver="Ada", date=datetime(2026, 3, 2, 9, 30, tzinfo=UTC))

LATER = LockApproval(approver="Grace", date=datetime(2026, 4, 1, 8, 0, tzinfo=UTC))

NEEDS = {("strategy", "sound"): PluginNeeds(orders=True), ("strategy", "other"): PluginNeeds()}


def found(site: Path, *names: str) -> tuple[PluginListing, ...]:
    """What is installed in the site, with these strategies enabled."""
    importlib.invalidate_caches()
    return mark_enabled(installed_plugins(path=[str(site)]), {("strategy", name) for name in names})


def record(site: Path, name: str, *extra: str) -> None:
    """Write the RECORD of a fake distribution: its metadata, its package, and the given lines."""
    info = f"their_{name}-2.5.dist-info"
    lines = [f"{info}/METADATA,,", f"{info}/entry_points.txt,,", f"{info}/RECORD,,", f"their_{name}/__init__.py,,"]
    (site / info / "RECORD").write_text("\n".join([*lines, *extra]) + "\n")


@pytest.fixture
def approved(plant: Callable[..., EntryPointInfo], site: Path) -> PluginLock:
    """A lock of one enabled strategy, `sound`."""
    plant("sound")
    record(site, "sound")
    return lock.make_lock(found(site, "sound"), NEEDS, APPROVAL)


def test_every_file_is_hashed_even_when_no_record_lists_it(plant: Callable[..., EntryPointInfo], site: Path) -> None:
    """RECORD's files, also outside the package, and the package's own files are pinned; the interpreter's are not."""
    entry = plant("sound")
    (site / "bin").mkdir()
    (site / "bin" / "tool").write_text("tool")
    (site / "their_more.py").write_text("more")
    (site / "their_sound" / "deep").mkdir()
    (site / "their_sound" / "deep" / "data.csv").write_text("unlisted")
    (site / "their_sound" / "__pycache__").mkdir()
    (site / "their_sound" / "__pycache__" / "x.pyc").write_text("")
    record(site, "sound", "bin/tool,,", "their_more.py,,", "their_sound/__pycache__/x.pyc,,", "gone.txt,,")
    files = installed_distribution(entry).files
    assert list(files) == [
        "bin/tool",
        "their_more.py",
        "their_sound-2.5.dist-info/METADATA",
        "their_sound-2.5.dist-info/RECORD",
        "their_sound-2.5.dist-info/entry_points.txt",
        "their_sound/__init__.py",
        "their_sound/deep/data.csv",
    ]
    assert files["bin/tool"] == hashlib.sha256(b"tool").hexdigest()


def test_a_distribution_without_a_record_pins_metadata_and_package(plant: Callable[..., EntryPointInfo]) -> None:
    """What keeps no list of its files is pinned by what it says and what would be imported."""
    assert list(installed_distribution(plant("sound")).files) == [
        "METADATA",
        "entry_points.txt",
        "their_sound/__init__.py",
    ]


def test_a_plugin_may_be_one_module(plant: Callable[..., EntryPointInfo], site: Path) -> None:
    """A module without a package is a file of its own name."""
    entry = plant("sound")
    (site / "their_sound" / "__init__.py").rename(site / "their_sound.py")
    (site / "their_sound").rmdir()
    importlib.invalidate_caches()
    assert "their_sound.py" in installed_distribution(entry).files


def test_kept_files_are_hashed_as_they_were_read_first(plant: Callable[..., EntryPointInfo], site: Path) -> None:
    """While fingerprints are kept, the lock's hashes are those of the same reading; afterwards a change shows."""
    entry = plant("sound")
    with keep_fingerprints():
        plugin_fingerprint(entry)
        before = installed_distribution(entry).files
        (site / "their_sound" / "__init__.py").write_text("changed = True\n")
        assert installed_distribution(entry).files == before
    assert installed_distribution(entry).files != before


def test_a_package_that_is_not_there_has_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an absent package nor a built-in module names a file, and a module without a spec is none either."""
    monkeypatch.setitem(sys.modules, "their_specless", ModuleType("their_specless"))
    assert not list(package_files("their_absent"))
    assert not list(package_files("sys"))
    assert not list(package_files("their_specless"))


def test_a_distribution_that_vanished_is_named(plant: Callable[..., EntryPointInfo], site: Path) -> None:
    """What is uninstalled between the list and the hash is an error with its name, and of unknown origin."""
    entry = plant("sound")
    shutil.rmtree(site / "their_sound-2.5.dist-info")
    importlib.invalidate_caches()
    with pytest.raises(PluginError, match=r"their-sound 2\.5 is no longer installed"):
        installed_distribution(entry)
    assert distribution_origin(entry) == DistributionOrigin(kind="unknown")


@pytest.mark.parametrize(
    ("note", "expected", "words"),
    [
        (None, DistributionOrigin(kind="index"), "unknown"),
        (
            {"url": "file:///src", "dir_info": {"editable": True}},
            DistributionOrigin(kind="editable", url="file:///src"),
            "file:///src (editable)",
        ),
        (
            {"url": "https://example.invalid/a.whl", "archive_info": {}},
            DistributionOrigin(kind="direct", url="https://example.invalid/a.whl"),
            "https://example.invalid/a.whl",
        ),
        (
            {"url": "https://ada:word@example.invalid/r", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}},
            DistributionOrigin(kind="direct", url="https://example.invalid/r", commit="c0ffee"),
            "https://example.invalid/r at c0ffee",
        ),
        ({}, DistributionOrigin(kind="unknown"), "unknown"),
        ([], DistributionOrigin(kind="unknown"), "unknown"),
    ],
)
def test_the_origin_is_that_of_the_metadata(
    plant: Callable[..., EntryPointInfo], site: Path, note: object, expected: DistributionOrigin, words: str
) -> None:
    """Index, address or folder, without a user's password; a damaged note is unknown."""
    entry = plant("sound")
    if note is not None:
        (site / "their_sound-2.5.dist-info" / "direct_url.json").write_text(json.dumps(note))
    assert distribution_origin(entry) == expected
    assert (distribution_origin(entry).words, distribution_origin(entry).sentence) == (words, words)
    (site / "their_sound-2.5.dist-info" / "INSTALLER").write_text("uv\n")
    assert distribution_origin(entry) == attrs.evolve(expected, installer="uv")
    assert distribution_origin(entry).sentence == f"{words}, installed by uv"


def test_a_lock_comes_back_as_it_was_written(approved: PluginLock, tmp_path: Path) -> None:
    """Reading gives what was written, in text that is the same each time; no file is no lock."""
    assert lock.read_lock(tmp_path) is None
    lock.write_lock(tmp_path, approved)
    text = (tmp_path / lock.FILE_NAME).read_text()
    assert lock.read_lock(tmp_path) == approved
    lock.write_lock(tmp_path, approved)
    assert (tmp_path / lock.FILE_NAME).read_text() == text
    (one,) = json.loads(text)["plugins"]
    assert (one["approver"], one["date"]) == ("Ada", "2026-03-02T09:30:00Z")
    assert one["needs"] == {"hosts": [], "orders": True, "own_network": False, "secrets": [], "subprocess": False}
    assert one["entry_points"] == ["tbot.strategies: sound = their_sound"]


def _altered(document: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> str:
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.update(format=2),
        lambda it: it.pop("plugins"),
        lambda it: it["plugins"][0].pop("files"),
        lambda it: it["plugins"][0].update(more=1),
        lambda it: it["plugins"][0].update(version=2),
        lambda it: it["plugins"][0]["files"].update(odd=None),
        lambda it: it["plugins"][0]["origin"].update(url=None),
        lambda it: it["plugins"][0].update(needs=[]),
        lambda it: it["plugins"][0]["needs"].update(orders="no"),
    ],
)
def test_a_damaged_lock_is_refused(
    approved: PluginLock, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    """A lock that is not whole never counts as one: the error names the file, and what to do."""
    lock.write_lock(tmp_path, approved)
    path = tmp_path / lock.FILE_NAME
    path.write_text(_altered(json.loads(path.read_text()), change))
    with pytest.raises(PluginError, match=r"plugins\.lock cannot be read") as caught:
        lock.read_lock(tmp_path)
    assert "tbot plugins lock" in caught.value.remedy
    path.write_text("{")
    with pytest.raises(PluginError):
        lock.read_lock(tmp_path)


def test_only_enabled_plugins_with_known_needs_are_locked(plant: Callable[..., EntryPointInfo], site: Path) -> None:
    """What is not in use is not pinned, nor what does not state its needs."""
    for name in ("sound", "other", "silent", "spare"):
        plant(name)
    made = lock.make_lock(found(site, "sound", "other", "silent"), NEEDS, APPROVAL)
    assert [it.key for it in made.plugins] == [("strategy", "other"), ("strategy", "sound")]
    assert made.of("strategy", "silent") is None


def test_what_did_not_change_keeps_its_approval(plant: Callable[..., EntryPointInfo], site: Path) -> None:
    """A later lock names its own approver only for what is new or different."""
    plant("sound")
    plant("other")
    before = lock.make_lock(found(site, "sound", "other"), NEEDS, APPROVAL)
    (site / "their_other" / "new.py").write_text("")
    after = lock.make_lock(found(site, "sound", "other"), NEEDS, LATER, previous=before)
    assert {it.name: (it.approver, it.date) for it in after.plugins} == {
        "sound": ("Ada", "2026-03-02T09:30:00Z"),
        "other": ("Grace", "2026-04-01T08:00:00Z"),
    }
    (change,) = lock.lock_changes(before, after)
    assert (change.name, change.what, change.detail) == ("other", "file_added", "their_other/new.py")


def test_what_is_as_it_was_approved_differs_in_nothing(approved: PluginLock, site: Path) -> None:
    """Compiled bytecode is no difference, and a plugin that is no longer enabled is none either."""
    (site / "their_sound" / "__pycache__").mkdir()
    (site / "their_sound" / "__pycache__" / "x.pyc").write_text("x")
    assert lock.verify_lock(approved, found(site, "sound")) == ()
    assert lock.verify_lock(approved, found(site)) == ()


def _edit(site: Path) -> None:
    (site / "their_sound" / "__init__.py").write_text("wrong = True")


def _add(site: Path) -> None:
    (site / "their_sound" / "added.py").write_text("")


def _drop(site: Path) -> None:
    (site / "their_sound" / "__init__.py").unlink()


@pytest.mark.parametrize(
    ("deed", "what", "detail"),
    [
        (_edit, "file_changed", "their_sound/__init__.py"),
        (_add, "file_added", "their_sound/added.py"),
        (_drop, "file_removed", "their_sound/__init__.py"),
    ],
)
def test_each_touched_file_is_named(
    approved: PluginLock, site: Path, deed: Callable[[Path], None], what: str, detail: str
) -> None:
    """Changed, added and removed files are one difference each."""
    deed(site)
    (difference,) = lock.verify_lock(approved, found(site, "sound"))
    assert (difference.kind, difference.name, difference.what, difference.detail) == ("strategy", "sound", what, detail)
    assert difference.sentence.startswith("The strategy sound ")
    assert difference.sentence.endswith(f"file: {detail}.")


def test_metadata_that_changed_is_said_with_both_values(approved: PluginLock, site: Path) -> None:
    """Version, origin and entry points are named beside the files that hold them."""
    info = site / "their_sound-2.5.dist-info"
    (info / "METADATA").write_text((info / "METADATA").read_text().replace("Version: 2.5", "Version: 2.6"))
    (info / "entry_points.txt").write_text(
        "[tbot.strategies]\nsound = their_sound\n[tbot.commands]\nevil = their_sound"
    )
    (info / "direct_url.json").write_text('{"url": "file:///tmp/evil"}')
    differences = {it.what: it.detail for it in lock.verify_lock(approved, found(site, "sound"))}
    assert differences["version"] == "2.5 was approved, now it is 2.6"
    assert differences["origin"] == "unknown was approved, now it is file:///tmp/evil"
    assert differences["entry_points"].endswith(
        "now it is tbot.commands: evil = their_sound, tbot.strategies: sound = their_sound"
    )
    assert set(differences) == {"version", "origin", "entry_points", "file_changed"}


def test_a_package_of_the_same_name_that_imports_would_find_first_is_a_change(
    approved: PluginLock, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would run counts, not what the installer once wrote."""
    listings = found(site, "sound")
    shadow = tmp_path / "shadow" / "their_sound"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").write_text("evil = True")
    monkeypatch.syspath_prepend(str(shadow.parent))
    (difference,) = lock.verify_lock(approved, listings)
    assert (difference.what, difference.detail) == ("file_changed", "their_sound/__init__.py")


def test_an_enabled_stranger_is_unlocked_and_an_unused_one_is_nothing(
    approved: PluginLock, plant: Callable[..., EntryPointInfo], site: Path
) -> None:
    """Only what is in use needs approval."""
    plant("other")
    assert lock.verify_lock(approved, found(site, "sound")) == ()
    assert lock.verify_lock(approved, found(site, "sound", "other")) == (
        LockDifference(kind="strategy", name="other", what="unlocked", detail="their-other 2.5"),
    )


def test_a_locked_plugin_that_is_gone_is_missing(approved: PluginLock, site: Path) -> None:
    """An uninstalled plugin is a difference as long as the lock names it."""
    shutil.rmtree(site / "their_sound-2.5.dist-info")
    (difference,) = lock.verify_lock(approved, found(site, "sound"))
    assert difference.sentence == "The strategy sound is locked but not installed: their-sound 2.5."


def test_a_name_that_another_distribution_offers_is_not_the_approved_one(
    approved: PluginLock, plant: Callable[..., EntryPointInfo], site: Path
) -> None:
    """Neither a second offer of the name nor a replacement by another distribution passes."""
    plant("sound", dist="their-evil", target="their_evil")
    (twin,) = lock.verify_lock(approved, found(site, "sound"))
    assert twin.what == "distribution"
    assert twin.detail == "their-sound was approved, but their-evil 2.5 and their-sound 2.5 provides it"
    shutil.rmtree(site / "their_sound-2.5.dist-info")
    (other,) = lock.verify_lock(approved, found(site, "sound"))
    assert other.detail == "their-sound was approved, but their-evil 2.5 provides it"


def test_changes_between_locks_name_what_came_and_what_went(plant: Callable[..., EntryPointInfo], site: Path) -> None:
    """New plugins, dropped ones, and other needs are what an approver must see."""
    plant("sound")
    plant("other")
    before = lock.make_lock(found(site, "sound"), NEEDS, APPROVAL)
    after = lock.make_lock(found(site, "sound", "other"), NEEDS, APPROVAL)
    assert lock.lock_changes(before, before) == ()
    assert [(it.name, it.what) for it in lock.lock_changes(before, after)] == [("other", "unlocked")]
    assert [(it.name, it.what) for it in lock.lock_changes(after, before)] == [("other", "missing")]
    greedy = lock.make_lock(found(site, "sound"), {("strategy", "sound"): PluginNeeds(subprocess=True)}, APPROVAL)
    (needs,) = lock.lock_changes(before, greedy)
    assert needs.sentence == (
        "The strategy sound has other permissions: order authority was approved, now it is child processes."
    )


def test_objections_are_of_what_is_in_use(
    approved: PluginLock, plant: Callable[..., EntryPointInfo], site: Path, tmp_path: Path
) -> None:
    """Without a lock everything is refused; with one, what differs and is enabled; a damaged one is an objection."""
    assert lock.lock_objections(tmp_path, ()) == (
        f"There is no {tmp_path / lock.FILE_NAME}, so no plugin is approved.",
    )
    lock.write_lock(tmp_path, approved)
    assert lock.lock_objections(tmp_path, found(site, "sound")) == ()
    plant("other")
    _edit(site)
    assert lock.lock_objections(tmp_path, found(site, "other")) == (
        "The strategy other is not locked: their-other 2.5.",
    )
    assert lock.lock_objections(tmp_path, found(site, "sound")) == (
        "The strategy sound has a changed file: their_sound/__init__.py.",
    )
    (tmp_path / lock.FILE_NAME).write_text("{")
    (damaged,) = lock.lock_objections(tmp_path, found(site, "sound"))
    assert "cannot be read" in damaged


def test_a_file_that_cannot_be_read_is_never_passed_over(approved: PluginLock, site: Path, tmp_path: Path) -> None:
    """What cannot be hashed cannot be the approved file."""
    lock.write_lock(tmp_path, approved)
    (site / "their_sound" / "circle").symlink_to("circle")
    with pytest.raises(AccessError):
        lock.verify_lock(approved, found(site, "sound"))
    (objection,) = lock.lock_objections(tmp_path, found(site, "sound"))
    assert "circle" in objection


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o620, 0o602])
def test_a_lock_that_others_may_write_approves_nothing(
    approved: PluginLock, site: Path, tmp_path: Path, mode: int
) -> None:
    """Who may write it approves plugins; reading it harms nothing."""
    lock.write_lock(tmp_path, approved)
    (tmp_path / lock.FILE_NAME).chmod(mode)
    objections = lock.lock_objections(tmp_path, found(site, "sound"))
    assert [f"chmod go-w {tmp_path / lock.FILE_NAME}" in one for one in objections] == ([True] if mode & 0o022 else [])
    if objections:
        with pytest.raises(PluginError, match="Other users may write to"):
            lock.require_locked(tmp_path, found(site, "sound"))


def test_a_lock_of_another_user_or_behind_a_link_approves_nothing(
    approved: PluginLock, site: Path, tmp_path: Path
) -> None:
    """The linked file may be anybody's, and be exchanged."""
    lock.write_lock(tmp_path, approved)
    path = tmp_path / lock.FILE_NAME
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert lock.lock_objections(tmp_path, found(site, "sound")) == (
        f"{path} is a symbolic link: put the file itself in its place.",
    )
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    path.unlink()
    (tmp_path / "elsewhere").rename(path)
    os.chown(path, 12345, 12345)
    (objection,) = lock.lock_objections(tmp_path, found(site, "sound"))
    assert "belongs to another user" in objection


def test_a_refusal_is_bounded() -> None:
    """Twenty sentences are said, and how many more there are."""
    assert str(lock.unlocked_error(["One."])).startswith("Live trading imports only approved plugins:\nOne.")
    lines = lock.unlocked_error([f"Sentence {number}." for number in range(25)]).message.splitlines()
    assert lines[-2:] == ["Sentence 19.", "and 5 more differences."]


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    # What this process reads and writes comes back; warnings are kept from the screen.
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    with caplog.at_level(logging.INFO):
        yield


def test_bytecode_is_kept_in_a_folder_of_its_owner(tmp_path: Path) -> None:
    """It is created with mode 0700, and closed where it was open."""
    folder = tmp_path / "data/bytecode"
    read_private_bytecode(tmp_path)
    assert (sys.pycache_prefix, sys.dont_write_bytecode) == (str(folder), False)
    folder.chmod(0o777)
    read_private_bytecode(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["", "data"])
def test_a_folder_that_others_can_replace_is_not_used(tmp_path: Path, name: str) -> None:
    """Nothing is read from it, and nothing is written to it."""
    (tmp_path / "data").mkdir()
    (tmp_path / name).chmod(0o770)
    read_private_bytecode(tmp_path)
    assert (sys.pycache_prefix, sys.dont_write_bytecode) == (filesystem.NOWHERE, True)


@pytest.mark.parametrize("name", ["data/bytecode", "data/bytecode/planted.pyc"])
def test_a_folder_with_something_of_another_user_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """The log says which folder to remove."""
    (tmp_path / "data/bytecode").mkdir(parents=True)
    (tmp_path / "data/bytecode/planted.pyc").write_text("")
    user = os.geteuid() + 1
    if os.geteuid() == 0:
        os.chown(tmp_path / name, 12345, 12345)
        user = 0
    read_private_bytecode(tmp_path, user=user)
    assert sys.pycache_prefix == filesystem.NOWHERE
    assert f"rm -r {tmp_path / 'data/bytecode'}" in caplog.text


def test_without_a_folder_python_compiles_each_module_anew(tmp_path: Path) -> None:
    """A module is imported, and no bytecode of it is left anywhere."""
    (tmp_path / "mine.py").write_text("print('compiled')\n")
    code = f"import sys; sys.pycache_prefix = {filesystem.NOWHERE!r}; sys.dont_write_bytecode = True; import mine"
    environment = environ.minimal_environment() | {"PYTHONPATH": str(tmp_path)}
    done = processes.run_program([sys.executable, "-c", code], timeout_s=30, environment=environment)
    assert (done.output, done.errors) == ("compiled\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]
