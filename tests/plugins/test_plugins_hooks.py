"""The hooks and their reference."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from tbot_core.contracts import hooks
from tbot_core.plugins.discovery import GROUPS
from tbot_core.plugins.loader import PluginLoader

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "hooks.md"
HOOKS = {name: value for name, value in vars(hooks).items() if name.startswith("tbot_")}


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_the_reference_shows_each_hook_with_its_exact_arguments(name: str) -> None:
    """docs/reference/hooks.md holds the hook's name with the arguments of its specification."""
    arguments = ", ".join(inspect.signature(HOOKS[name]).parameters)
    assert f"`{name}({arguments})`" in REFERENCE.read_text()


def test_the_reference_shows_no_other_hook() -> None:
    """Whatever the reference writes like a hook is one."""
    shown = set(re.findall(r"`(tbot_\w+)\(", REFERENCE.read_text()))
    assert shown == set(HOOKS)


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_each_specification_says_what_a_plugin_must_know(name: str) -> None:
    """Arguments, moment, caller and the meaning of the returned value stand in the docstring, each argument by name."""
    text = inspect.getdoc(HOOKS[name]) or ""
    assert all(f"{part}: " in text for part in ("Arguments", "Moment", "Caller", "Returned value"))
    assert all(f"`{argument}`" in text for argument in inspect.signature(HOOKS[name]).parameters)


def test_each_kind_has_a_group_and_an_offer_hook() -> None:
    """Kinds, groups of entry points and offer hooks belong together one to one."""
    assert hooks.OFFERS.keys() == GROUPS.keys()
    assert all(HOOKS[hook].__name__ == f"tbot_{kind}" for kind, hook in hooks.OFFERS.items())


def test_the_manager_knows_exactly_these_hooks() -> None:
    """What is specified can be called, and nothing else."""
    assert {name for name in vars(PluginLoader().manager.hook) if not name.startswith("_")} == set(HOOKS)


def test_the_references_example_is_a_plugin() -> None:
    """The code of the reference runs, its offer is one, and what it says of secrets is sound."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", REFERENCE.read_text(), re.DOTALL))
    names: dict[str, Any] = {"__name__": "sample"}
    exec(compile(code, str(REFERENCE), "exec", dont_inherit=True), names)
    offer = names["tbot_extension"]
    assert callable(offer)
    assert offer().name == "sample"
    assert names["NEEDS"].document["secrets"] == ["broker"]
