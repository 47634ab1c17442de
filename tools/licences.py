"""Fails when an installed distribution's licence is not one that tbot may be used or built with.

What the members need at run time must bear a licence of RUNTIME (for one plugin, of its own list); what only tests and
checks need, one of TOOLS.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import importlib_metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[1]

RUNTIME: Final = frozenset(
    {"0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0"}
    | {"MPL-2.0", "PSF-2.0", "Zlib"}
)
TOOLS: Final = RUNTIME | {"GPL-2.0", "LGPL-2.1", "LGPL-3.0"}
OF_ONE_PLUGIN: Final = {"tbot-extension-backtrader": frozenset({"GPL-3.0"})}
"""A plugin that is a distribution of its own, imported by nothing, may carry its library's licence."""

WORDS: Final = (
    (r"any.osi", "MIT"),  # whichever the OSI approves, so this one too
    (r"apache", "Apache-2.0"),
    (r"\bmit\b", "MIT"),
    (r"mozilla|mpl", "MPL-2.0"),
    (r"bsd.3|3.clause", "BSD-3-Clause"),
    (r"bsd.2|2.clause", "BSD-2-Clause"),
    (r"\bbsd\b", "BSD"),
    (r"\bisc\b", "ISC"),
    (r"python software foundation|\bpsf", "PSF-2.0"),
    (r"lesser general public.*3|lgpl.?v?3", "LGPL-3.0"),
    (r"lesser general public|lgpl", "LGPL-2.1"),
    (r"general public.*3|gpl.?v?3", "GPL-3.0"),
    (r"general public|\bgpl", "GPL-2.0"),
)
"""How the older metadata names a licence; the first that is found counts."""


def main() -> int:
    """Print each licence that does not fit, and return 1 when there is one."""
    needed = {name: closure([name]) for name in members()}
    runtime = frozenset[str]().union(*needed.values())
    faults = []
    for distribution in importlib_metadata.distributions():
        name = canonicalize_name(distribution.name)
        allowed = RUNTIME if name in runtime else TOOLS
        users = {member for member, names in needed.items() if name in names}
        for member, more in OF_ONE_PLUGIN.items():
            if users and users <= {member}:
                allowed |= more
        licence = licence_of(distribution)
        if not fits(licence, allowed):
            use = "at run time" if name in runtime else "by tests and checks"
            faults.append(f"{name} {distribution.version}, used {use}, says its licence is {licence or 'nothing'}")
    for fault in sorted(faults):
        print(fault)
    print(f"licences: {len(runtime)} distributions at run time, {len(faults)} faults")
    return 1 if faults else 0


def members() -> list[str]:
    """The names of the core and of every plugin in the workspace."""
    paths = [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/*/pyproject.toml"))]
    return [canonicalize_name(tomllib.loads(path.read_text())["project"]["name"]) for path in paths]


def closure(names: list[str]) -> set[str]:
    """The installed distributions that these need, themselves among them, on this Python."""
    found: set[str] = set()
    queue: list[tuple[str, str]] = [(name, "") for name in names]
    seen: set[tuple[str, str]] = set()
    while queue:
        name, extra = queue.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        found.add(name)
        for text in importlib_metadata.distribution(name).requires or ():
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                queue += [(canonicalize_name(need.name), part) for part in ("", *need.extras)]
    return found


def licence_of(distribution: Any) -> str:
    """The licence as an SPDX expression where the metadata holds one, else as near as its words allow."""
    metadata = distribution.metadata
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression)
    classifiers = [text for text in metadata.get_all("Classifier", []) if text.startswith("License ::")]
    for text in (*classifiers, *(metadata.get("License") or "").splitlines()[:1]):
        for word, licence in WORDS:
            if re.search(word, text, re.IGNORECASE):
                return licence
    return ""


def fits(licence: str, allowed: frozenset[str]) -> bool:
    """Whether an SPDX expression can be met: one side of an OR, both of an AND; exceptions only add rights."""
    plain = re.sub(r"\s+WITH\s+[\w.+-]+|-only\b|-or-later\b", "", licence)
    tokens = re.findall(r"[()]|[\w.+-]+", plain)
    return bool(tokens) and _either(tokens, allowed) and not tokens


def _either(tokens: list[str], allowed: frozenset[str]) -> bool:
    met = _both(tokens, allowed)
    while tokens[:1] == ["OR"]:
        tokens.pop(0)
        met |= _both(tokens, allowed)
    return met


def _both(tokens: list[str], allowed: frozenset[str]) -> bool:
    met = _one(tokens, allowed)
    while tokens[:1] == ["AND"]:
        tokens.pop(0)
        met &= _one(tokens, allowed)
    return met


def _one(tokens: list[str], allowed: frozenset[str]) -> bool:
    # Takes what it reads off the tokens; a broken expression is met by nothing.
    token = tokens.pop(0) if tokens else ""
    if token != "(":  # noqa: S105  -- a parenthesis
        return token in allowed
    met = _either(tokens, allowed)
    return tokens[:1] == [")"] and bool(tokens.pop(0)) and met


if __name__ == "__main__":
    sys.exit(main())
