"""The catalogue: what metadata says, without an import, and how metadata are parsed."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import importlib_metadata
import pytest
from importlib_metadata import Distribution

from tbot_core.plugins.discovery import (
    EntryPointInfo,
    PluginListing,
    installed_commands,
    installed_plugins,
    mark_enabled,
    metadata_fields,
    version_fits,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CORE = importlib_metadata.version("tbot-core")


def found(site: Path) -> dict[tuple[str, str], PluginListing]:
    """The plugins of the folder by distribution and name."""
    return {(it.entry.dist, it.entry.name): it for it in installed_plugins(path=[str(site)])}


def test_a_plugin_is_found_and_not_imported(site: Path, plant: Callable[..., EntryPointInfo]) -> None:
    """An installed plugin is listed as available, although its package would fail."""
    entry = plant("quiet", "raise AssertionError")
    assert installed_plugins(path=[str(site)]) == (PluginListing(entry=entry),)
    assert entry.target not in sys.modules


def test_the_list_is_sorted_by_kind_and_name(site: Path, plant: Callable[..., EntryPointInfo]) -> None:
    """Plugins stand in the order of kind and name, wherever they were found."""
    plant("b_one")
    plant("a_two", kind="filter")
    plant("a_one")
    plant("z", kind="alert")
    assert [(it.entry.kind, it.entry.name) for it in installed_plugins(path=[str(site)])] == [
        ("alert", "z"),
        ("filter", "a_two"),
        ("strategy", "a_one"),
        ("strategy", "b_one"),
    ]


def test_an_installation_and_a_removal_are_seen_by_a_process_that_runs(
    site: Path, plant: Callable[..., EntryPointInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read of sys.path is kept only until a folder of it changes."""
    monkeypatch.syspath_prepend(site)
    before = installed_plugins()
    entry = plant("late")
    os.utime(site, ns=(1, 1))
    assert set(installed_plugins()) - set(before) == {PluginListing(entry=entry)}
    shutil.rmtree(site / f"{entry.dist.replace('-', '_')}-{entry.version}.dist-info")
    os.utime(site, ns=(2, 2))
    assert installed_plugins() == before


def test_a_folder_that_cannot_be_looked_at_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Imports do the same with such a part of the search path."""
    before = installed_plugins()
    monkeypatch.syspath_prepend("x" * 5000)
    assert installed_plugins() == before


def test_a_name_offered_twice_is_refused_for_both(site: Path, plant: Callable[..., EntryPointInfo]) -> None:
    """Two distributions of one name are both duplicates, and each reason names the two."""
    plant("twin", dist="first")
    plant("twin", dist="second", target="their_other_twin")
    twins = installed_plugins(path=[str(site)])
    assert len(twins) == 2
    for listing in twins:
        assert listing.state == "duplicate"
        assert listing.reason == "Several distributions provide it: first 2.5 and second 2.5. Uninstall all but one."


def test_kinds_may_share_a_name(site: Path, plant: Callable[..., EntryPointInfo]) -> None:
    """A strategy and a filter of the same name are no duplicates."""
    plant("both", dist="first")
    plant("both", dist="second", kind="filter", target="their_both_filter")
    assert {it.state for it in installed_plugins(path=[str(site)])} == {"available"}


def test_a_core_out_of_range_makes_a_plugin_incompatible(site: Path, plant: Callable[..., EntryPointInfo]) -> None:
    """The reason quotes the range and the core that is installed."""
    plant("old", requires=("tbot-core<1",))
    (listing,) = installed_plugins(path=[str(site)])
    assert listing.state == "incompatible"
    assert listing.reason == f"It requires tbot-core<1, but tbot-core {CORE} is installed."


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "Loud"}, "Its name 'Loud' must match"),
        ({"points": "[tbot.strategies]\nodd = no-module\n"}, "'no-module' is not module:object"),
        ({"requires": ("tbot-core>=one",)}, "Its requirement of tbot-core cannot be read"),
        ({"points": "[tbot.strategies]\nodd\n"}, "Its entry_points.txt cannot be read"),
    ],
)
def test_metadata_that_cannot_be_used_is_broken(
    site: Path, plant: Callable[..., EntryPointInfo], fields: dict[str, object], words: str
) -> None:
    """A bad name, target, requirement or file is a fault of that plugin alone, and says which."""
    plant("fine")
    plant(str(fields.pop("name", "odd")), dist="odd", target="their_odd", **fields)
    assert found(site)["their-fine", "fine"].state == "available"
    (broken,) = [listing for (dist, _), listing in found(site).items() if dist == "odd"]
    assert broken.state == "broken"
    assert words in broken.reason


def test_other_peoples_damage_is_passed_over(site: Path, plant: Callable[..., EntryPointInfo]) -> None:
    """Metadata without a name, and an entry_points.txt that is no text, hide no plugin and are not ours to report."""
    plant("fine")
    for name, content in (("empty", b"[tbot.strategies]\nx = y\n"), ("binary", b"\xff\xfe[tbot.strategies]")):
        (site / f"{name}-1.dist-info").mkdir()
        (site / f"{name}-1.dist-info" / "entry_points.txt").write_bytes(content)
    assert list(found(site)) == [("their-fine", "fine")]


@pytest.mark.parametrize("metadata", [b"\xff\xfe", b"Version: 1\n", b"Name: odd\n", b"Name: odd\nVersion:\n", b""])
def test_metadata_that_do_not_say_what_they_are_of_are_passed_over(
    site: Path, plant: Callable[..., EntryPointInfo], metadata: bytes
) -> None:
    """No text, no name, or no version: what an uninstall left hides no plugin and is not ours to report."""
    plant("fine")
    info = site / "odd-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_bytes(metadata)
    (info / "entry_points.txt").write_text("[tbot.strategies]\nx = y\n")
    assert list(found(site)) == [("their-fine", "fine")]


def test_the_first_on_the_path_counts(site: Path, tmp_path: Path, plant: Callable[..., EntryPointInfo]) -> None:
    """Of a distribution found twice only the one that would be imported is listed."""
    plant("fine", version="3")
    older = tmp_path / "older" / "their_fine-1.dist-info"
    older.mkdir(parents=True)
    (older / "METADATA").write_text("Metadata-Version: 2.1\nName: their-fine\nVersion: 1\n")
    (older / "entry_points.txt").write_text("[tbot.strategies]\ngone = gone\n")
    listed = installed_plugins(path=[str(site), str(older.parent)])
    assert [(it.entry.name, it.entry.version) for it in listed] == [("fine", "3")]


def test_enabled_plugins_are_active(site: Path, plant: Callable[..., EntryPointInfo]) -> None:
    """What the settings name is active if it can be used, and marked as enabled in any state."""
    plant("used")
    plant("spare")
    plant("web", kind="extension")
    plant("old", requires=("tbot-core<1",))
    wanted = {("strategy", "used"), ("strategy", "old"), ("extension", "*")}
    states = {it.entry.name: (it.state, it.enabled) for it in mark_enabled(installed_plugins(path=[str(site)]), wanted)}
    assert states == {
        "used": ("active", True),
        "spare": ("available", False),
        "web": ("active", True),
        "old": ("incompatible", True),
    }


def test_commands_that_reuse_a_name_of_tbot_are_duplicates(site: Path, plant: Callable[..., EntryPointInfo]) -> None:
    """A plugin's command is listed; one called like a command of the core is refused with the reason."""
    plant("report-day", kind="command", target="their_report:command")
    plant("status", kind="command", target="their_status:command")
    listed = {it.entry.name: it for it in installed_commands(reserved={"status"}, path=[str(site)])}
    assert listed["report-day"].state == "available"
    assert listed["status"].state == "duplicate"
    assert listed["status"].reason == "their-status 2.5 uses the name of a command of tbot."
    assert installed_plugins(path=[str(site)]) == ()


@pytest.mark.parametrize(
    ("requirement", "version", "expected"),
    [
        ("tbot-core>=1,<2", "1.0.0", True),
        ("tbot-core>=1,<2", "2.0", False),
        ("tbot-core >= 1.2 , < 2", "1.1.9", False),
        ("tbot-core<=1.0", "1.0.0", True),
        ("tbot-core==1.0", "1.0.0", True),
        ("tbot-core!=1.0", "1.0.0", False),
        ("tbot-core>1.0", "1.0.1", True),
        ("tbot-core", "7", True),
        ("tbot-core~=1.2", "1.3", True),
        ("tbot-core==1.*", "2.0", False),
        ("tbot-core (>=1)", "1.0", True),
        ("tbot-core>=1", "1.0rc1", False),
        ("tbot-core<1; extra == 'old'", "1.0", True),
        ("tbot-core<1; python_version > '3'", "1.0", False),
        ("tbot_core>=1", "1.0", True),
    ],
)
def test_ranges_are_read_as_installers_read_them(requirement: str, version: str, expected: bool) -> None:
    """Plain ranges, rare forms and markers decide as the packaging standard says."""
    assert version_fits(requirement, version) is expected


def test_only_requirements_of_the_core_count(site: Path, plant: Callable[..., EntryPointInfo]) -> None:
    """A distribution whose name begins like the core's is another one, and no requirement at all fits any core."""
    plant("fine", requires=("tbot-core-extras<1", "attrs>=1"))
    (listing,) = installed_plugins(path=[str(site)])
    assert listing.state == "available"
    assert listing.entry.requires == ()


NAMES = ("Name", "Version", "Requires-Dist", "Maintainer", "Maintainer-email", "Author", "Author-email", "Classifier")


def dist_of(folder: Path, text: str, *, name: str = "METADATA") -> Distribution:
    """A distribution that left this text."""
    info = folder / "their_vane-1.dist-info"
    info.mkdir()
    (info / name).write_text(text, encoding="utf-8")
    return Distribution.at(info)


def test_every_field_of_what_is_installed_reads_as_importlib_metadata_reads_it() -> None:
    """Of each distribution beside the tests, the fields that the list needs and more."""
    dists = list(Distribution.discover())
    assert len(dists) > 50
    for dist in dists:
        found = metadata_fields(dist)
        for name in NAMES:
            whole = [str(it).strip() for it in dist.metadata.get_all(name) or ()]
            assert found.get(name.lower(), []) == whole, (dist.name, name)


def test_a_value_of_several_lines_is_one_and_the_description_is_no_field(tmp_path: Path) -> None:
    """The first empty line ends the fields."""
    found = metadata_fields(dist_of(tmp_path, "Name: their-vane\nLicense: as\n        is\n\nVersion: 2\n"))
    assert dict(found) == {"name": ["their-vane"], "license": ["as\n        is"]}


def test_a_line_that_is_no_field_ends_the_fields(tmp_path: Path) -> None:
    """What stands behind it belongs to no field."""
    assert dict(metadata_fields(dist_of(tmp_path, "Name: their-vane\nno field\nVersion: 2\n"))) == {
        "name": ["their-vane"]
    }


def test_the_last_field_needs_no_line_behind_it(tmp_path: Path) -> None:
    """Metadata may end with it."""
    assert dict(metadata_fields(dist_of(tmp_path, "Name: their-vane\nVersion: 2"))) == {
        "name": ["their-vane"],
        "version": ["2"],
    }


def test_metadata_that_are_gone_have_no_fields(tmp_path: Path) -> None:
    """As an uninstall that broke off leaves them."""
    assert dict(metadata_fields(dist_of(tmp_path, "", name="RECORD"))) == {}


def test_older_installers_call_the_file_otherwise(tmp_path: Path) -> None:
    """PKG-INFO holds the same fields."""
    assert metadata_fields(dist_of(tmp_path, "Name: their-vane\n", name="PKG-INFO"))["name"] == ["their-vane"]
