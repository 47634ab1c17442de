"""requirements.lock and the members' metadata are in step."""

from __future__ import annotations

import re
import sys
import tomllib
from collections import defaultdict
from itertools import chain
from pathlib import Path
from typing import Any

import importlib_metadata
import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))


def pins() -> dict[str, list[Requirement]]:
    """The pins of the lock by name; a name has several where its version depends on the Python."""
    found: dict[str, list[Requirement]] = defaultdict(list)
    for line in LOCK.read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            pin = Requirement(line.rstrip("\\ "))
            found[canonicalize_name(pin.name)].append(pin)
    return dict(found)


def members() -> dict[str, dict[str, Any]]:
    """The pyproject of the core and of every plugin, by name."""
    paths = (ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/*/pyproject.toml")))
    stated = [tomllib.loads(path.read_text()) for path in paths]
    return {canonicalize_name(project["project"]["name"]): project for project in stated}


def direct() -> list[Requirement]:
    """What the members state: dependencies, extras, groups and what builds them; the members themselves apart."""
    texts: list[str] = []
    for stated in members().values():
        texts += stated["project"].get("dependencies", [])
        texts += chain(*stated["project"].get("optional-dependencies", {}).values())
        texts += chain(*stated.get("dependency-groups", {}).values())
        texts += stated["build-system"]["requires"]
    needs = [Requirement(text) for text in texts]
    return [need for need in needs if canonicalize_name(need.name) not in members()]


def machines() -> list[dict[str, str]]:
    """The marker environments of every Python and platform that tbot supports."""
    base = {key: str(value) for key, value in default_environment().items()}
    return [
        base
        | {"python_version": python, "python_full_version": f"{python}.9", "implementation_version": f"{python}.9"}
        | {"sys_platform": system, "platform_machine": machine, "platform_system": system.capitalize()}
        | {"extra": ""}
        for python in PYTHONS
        for system, machine in PLATFORMS
    ]


def holds(need: Requirement, machine: dict[str, str], extra: str = "") -> bool:
    """Whether a requirement applies on a machine."""
    return need.marker is None or need.marker.evaluate({**machine, "extra": extra})


def version_of(pin: Requirement) -> str:
    """The version that a pin names."""
    (specifier,) = pin.specifier
    return specifier.version


@pytest.mark.parametrize("machine", machines(), ids=lambda m: f"{m['python_version']}-{m['platform_machine']}")
def test_every_stated_need_has_one_pin_that_fits(machine: dict[str, str]) -> None:
    """On every Python and platform each stated dependency is met by exactly one pin."""
    locked, faults = pins(), []
    for need in direct():
        if holds(need, machine):
            found = [pin for pin in locked.get(canonicalize_name(need.name), []) if holds(pin, machine)]
            if len(found) != 1 or not need.specifier.contains(version_of(found[0])):
                faults.append(f"{need}: {[str(pin) for pin in found]}; run make lock")
    assert faults == []


def test_every_pin_is_needed_and_every_need_pinned() -> None:
    """Followed through what is installed here, the needs and the pins that apply here are the same names."""
    here = {**{key: str(value) for key, value in default_environment().items()}, "extra": ""}
    needed: set[str] = set()
    queue = [(canonicalize_name(need.name), extra) for need in direct() for extra in ("", *need.extras)]
    seen: set[tuple[str, str]] = set()
    while queue:
        name, extra = queue.pop()
        if (name, extra) not in seen:
            seen.add((name, extra))
            needed.add(name)
            for text in importlib_metadata.distribution(name).requires or ():
                need = Requirement(text)
                if holds(need, here, extra):
                    queue += [(canonicalize_name(need.name), part) for part in ("", *need.extras)]
    assert needed == {name for name, found in pins().items() if any(holds(pin, here) for pin in found)}


def test_the_lock_pins_by_hash_and_names_no_registry() -> None:
    """Each pin is one exact version with SHA-256 hashes, and the file holds no address and no option but hashes."""
    text = LOCK.read_text()
    assert "://" not in text
    assert set(re.findall(r"(?m)^ *(--[\w-]+)", text)) == {"--hash"}
    for block in re.split(r"\n(?=\S)", text.strip()):
        assert re.match(r"[\w.-]+==[\w.!+]+( ; [^\\]+)? \\\n", block), block
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block


def test_the_python_that_runs_is_a_supported_one() -> None:
    """The members all promise the same Pythons, and this is one of them."""
    assert {stated["project"]["requires-python"] for stated in members().values()} == {">=3.11,<3.14"}
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in PYTHONS
