"""requirements.lock, requirements-dev.lock and the members' metadata are in step."""

from __future__ import annotations

import functools
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
LOCKS = {name: ROOT / name for name in ("requirements.lock", "requirements-dev.lock")}
TOOLS = "dev"
"""The group of what only tests and checks need; every other group is needed to run or to install tbot."""

PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))


def pins(*locks: str) -> dict[str, list[Requirement]]:
    """The pins of these locks, or of both, by name; a name has several where its version depends on the Python."""
    found: dict[str, list[Requirement]] = defaultdict(list)
    for lock in locks or LOCKS:
        for line in LOCKS[lock].read_text().splitlines():
            if line and not line.startswith((" ", "#")):
                pin = Requirement(line.rstrip("\\ "))
                found[canonicalize_name(pin.name)].append(pin)
    return dict(found)


@functools.cache
def members() -> dict[str, dict[str, Any]]:
    """The pyproject of the core and of every plugin, by name."""
    paths = (ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/*/pyproject.toml")))
    stated = [tomllib.loads(path.read_text()) for path in paths]
    return {canonicalize_name(project["project"]["name"]): project for project in stated}


def direct(*, tools: bool = True) -> list[Requirement]:
    """What the members state: dependencies, extras, groups and what builds them; the members themselves apart.

    `tools`: with what only tests and checks need.
    """
    texts: list[str] = []
    for stated in members().values():
        texts += stated["project"].get("dependencies", [])
        texts += chain(*stated["project"].get("optional-dependencies", {}).values())
        groups = stated.get("dependency-groups", {})
        texts += chain(*(needs for name, needs in groups.items() if tools or name != TOOLS))
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


@pytest.mark.parametrize(("tools", "locks"), [(False, ["requirements.lock"]), (True, list(LOCKS))])
def test_every_pin_is_needed_and_every_need_pinned(*, tools: bool, locks: list[str]) -> None:
    """Followed through what is installed here, the needs and the pins that apply here are the same names.

    Without the tools they are those of the first lock alone.
    """
    here = {**{key: str(value) for key, value in default_environment().items()}, "extra": ""}
    needed = {name for name, _ in followed(direct(tools=tools), here)}
    assert needed == {name for name, found in pins(*locks).items() if any(holds(pin, here) for pin in found)}


def followed(needs: list[Requirement], machine: dict[str, str]) -> set[tuple[str, str]]:
    """Each distribution that these need through what is installed here, once by itself and once with each extra."""
    queue = [(canonicalize_name(need.name), extra) for need in needs for extra in ("", *need.extras)]
    seen: set[tuple[str, str]] = set()
    while queue:
        name, extra = queue.pop()
        if (name, extra) not in seen:
            seen.add((name, extra))
            for text in importlib_metadata.distribution(name).requires or ():
                need = Requirement(text)
                if holds(need, machine, extra):
                    queue += [(canonicalize_name(need.name), part) for part in ("", *need.extras)]
    return seen


def test_no_name_is_pinned_in_both_locks() -> None:
    """Both are installed at once, and pip refuses a name that is given twice."""
    assert pins("requirements.lock").keys() & pins("requirements-dev.lock").keys() == set()


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_by_hash_and_names_no_registry(lock: str) -> None:
    """Each pin is one exact version with SHA-256 hashes, and the file holds no address and no option but hashes."""
    text = LOCKS[lock].read_text()
    assert "://" not in text
    assert set(re.findall(r"(?m)^ *(--[\w-]+)", text)) == {"--hash"}
    for block in re.split(r"\n(?=\S)", text.strip()):
        assert re.match(r"[\w.-]+(\[[\w,-]+\])?==[\w.!+]+( ; [^\\]+)? \\\n", block), block
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block


def test_the_python_that_runs_is_a_supported_one() -> None:
    """The members all promise the same Pythons, and this is one of them."""
    assert {stated["project"]["requires-python"] for stated in members().values()} == {">=3.11,<3.14"}
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in PYTHONS
