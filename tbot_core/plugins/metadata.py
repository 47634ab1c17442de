"""The fields of a distribution's METADATA, as far as the list of plugins needs them.

The email package, which importlib-metadata parses them with, costs a short command more than everything else that it
does with plugins. Here plain fields are read, one or more lines each, up to the first empty line.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from importlib_metadata import Distribution

_FILES: Final = ("METADATA", "PKG-INFO")


def metadata_fields(dist: Distribution) -> Mapping[str, list[str]]:
    """Each field of the metadata with its values, names in lower case; none of a field that is not there.

    Metadata that are gone have no fields. Raises ValueError where they are no UTF-8.
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
