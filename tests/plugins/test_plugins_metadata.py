"""What a distribution says of itself, read without the email package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from importlib_metadata import Distribution

from tbot_core.plugins.metadata import metadata_fields

if TYPE_CHECKING:
    from pathlib import Path

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
