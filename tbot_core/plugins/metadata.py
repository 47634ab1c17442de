"""Parses the METADATA of a distribution, as far as the list of plugins needs it.

The email package, which importlib.metadata uses, would take most of a short command's time. This parser reads plain
fields of one or more lines up to the first empty line.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from importlib_metadata import Distribution

_FILES: Final = ("METADATA", "PKG-INFO")


def metadata_fields(dist: Distribution) -> Mapping[str, list[str]]:
    """Each field with its values, names in lower case; empty for a missing field.

    Missing metadata have no fields. Raises ValueError for text that is not UTF-8.
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    name = ""
    for line in _text(dist).split("\n"):
        if line[:1] in {" ", "\t"} and name:
            found[name][-1] += f"\n{line}"
            continue
        name, colon, value = line.partition(":")
        if not colon:
            break
        name = name.lower()
        found[name].append(value.strip())
    return found


def _text(dist: Distribution) -> str:
    return next(filter(None, map(dist.read_text, _FILES)), "")
