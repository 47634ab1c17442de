"""The publisher and the installation date of a plugin's distribution, if the installer recorded them.

The date of a release and its attestation are known only to the index.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tbot_core.plugins.distributions import distribution_origin, find_distribution
from tbot_core.plugins.metadata import metadata_fields
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tbot_core.plugins.discovery import EntryPointInfo, PluginListing

COOL_DOWN: Final = timedelta(days=3)
"""How long a release must be available to others before it is trusted."""

_CLAIMS: Final = ("maintainer", "maintainer-email", "author", "author-email")


def publisher(entry: EntryPointInfo) -> str:
    """The publisher that the distribution claims, unproven; empty without one."""
    dist = find_distribution(entry)
    known = {} if dist is None else metadata_fields(dist)
    return next((claim for name in _CLAIMS for claim in known.get(name, ()) if claim), "")


def installed_since(entry: EntryPointInfo) -> datetime | None:
    """When the entry's distribution was installed, an upper bound of its release date; None if unknown."""
    dist = find_distribution(entry)
    for file in (dist and dist.files) or ():
        if file.name == "RECORD":
            return datetime.fromtimestamp(filesystem.modified(Path(str(file.locate()))), UTC)
    return None


def cool_down_warnings(listings: Iterable[PluginListing], now: datetime) -> Iterator[str]:
    """A warning for each distribution of an index that may still be in its cool-down."""
    entries = {listing.entry.dist: listing.entry for listing in listings}
    for entry in entries.values():
        moment = installed_since(entry) if distribution_origin(entry).kind == "index" else None
        if moment is not None and now - moment < COOL_DOWN:
            yield (
                f"{entry.dist} {entry.version} was installed less than {COOL_DOWN.days} days ago: unless its "
                "release is older, there was little time to find faults in it."
            )
