"""What is said of a plugin's publisher, and of a distribution that was installed a moment ago."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tbot_core.cli import invoke
from tbot_core.plugins import discovery
from tbot_core.plugins.distributions import cool_down_warnings, installed_since, publisher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tbot_core.plugins.discovery import EntryPointInfo, PluginListing

NOW = datetime(2026, 11, 24, 14, 30, tzinfo=UTC)


def noted(site: Path, age: timedelta, *, name: str = "sound", more: str = "") -> None:
    """The note that an installer leaves of the distribution, this long before now."""
    info = site / f"their_{name}-2.5.dist-info"
    record = info / "RECORD"
    record.write_text(f"their_{name}/__init__.py,,\n{info.name}/METADATA,,\n{info.name}/RECORD,,\n")
    os.utime(record, (moment := (NOW - age).timestamp(), moment))
    if more:
        metadata = info / "METADATA"
        metadata.write_text(f"{metadata.read_text()}{more}\n")


def listings(name: str) -> list[PluginListing]:
    """The listing of one planted plugin."""
    return [it for it in discovery.installed_plugins() if it.entry.name == name]


def test_the_publisher_is_the_distributions_own_word(plant: Callable[..., EntryPointInfo], site: Path) -> None:
    """Maintainer before author, nothing where it is silent or gone."""
    silent, named = plant("sound"), plant("other")
    noted(site, timedelta(), name="other", more="Author: Ann\nMaintainer-email: Acme <acme@example.invalid>")
    assert publisher(silent) == ""
    assert publisher(named) == "Acme <acme@example.invalid>"
    for path in sorted(site.glob("their_sound-2.5.dist-info/*")):
        path.unlink()
    (site / "their_sound-2.5.dist-info").rmdir()
    assert (publisher(silent), installed_since(silent)) == ("", None)


def test_what_was_installed_lately_is_warned_of(plant: Callable[..., EntryPointInfo], site: Path) -> None:
    """Under three days; later, and where the time is unknown, there is nothing to say."""
    entry = plant("sound")
    assert list(cool_down_warnings(listings("sound"), NOW)) == []
    noted(site, timedelta(days=2, hours=23))
    assert installed_since(entry) == NOW - timedelta(days=2, hours=23)
    (warning,) = cool_down_warnings(listings("sound") * 2, NOW)
    assert warning.startswith("their-sound 2.5 was installed less than 3 days ago")
    noted(site, timedelta(days=3))
    assert list(cool_down_warnings(listings("sound"), NOW)) == []


def test_what_is_no_release_of_an_index_has_no_cool_down(plant: Callable[..., EntryPointInfo], site: Path) -> None:
    """A folder or a repository of one's own is as old as its owner says."""
    plant("sound")
    noted(site, timedelta(hours=1))
    (site / "their_sound-2.5.dist-info" / "direct_url.json").write_text('{"url": "file:///mine", "dir_info": {}}')
    assert list(cool_down_warnings(listings("sound"), NOW)) == []


@pytest.mark.slow
def test_lock_and_info_say_it(
    plant: Callable[..., EntryPointInfo], site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The approver is warned; the sheet names the publisher and does not pretend to know of attestations."""
    plant("sound")
    noted(site, timedelta(), more="Author: Ann")
    record = site / "their_sound-2.5.dist-info" / "RECORD"
    os.utime(record)
    (tmp_path / ".env_bot").write_text("STRATEGY_SEQUENCE=sound\nBROKER_NAME=PAPER\nFILTERS=none\n")
    assert invoke(["plugins", "lock", "--yes", "--home", str(tmp_path)]) == 0
    assert "their-sound 2.5 was installed less than 3 days ago" in capsys.readouterr().err
    assert invoke(["plugins", "info", "sound", "--home", str(tmp_path)]) == 0
    assert "publisher     Ann, by its own claim; attestation unknown" in capsys.readouterr().out
    assert invoke(["plugins", "list", "--json", "--home", str(tmp_path)]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["plugins"]}
    assert (rows["sound"]["publisher"], rows["sound"]["attested"]) == ("Ann", None)
