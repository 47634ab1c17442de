"""Plugins: what is installed, what is in use, what each may do, and whether it is as it was approved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tbot_core.actions.plugin_lock import verify_plugins
from tbot_core.actions.plugins import describe_plugin, list_plugins
from tbot_core.contracts.permissions import PluginNeeds
from tbot_core.errors import TbotError
from tbot_core.instance import Instance, read_settings_files

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.responses import Response

    from tbot_extension_web.call import Call


async def show(call: Call) -> Response:
    """Every installed plugin with its state, and the state of the lock."""
    return call.page("plugins.html", **await call.compute(_listed, call.site.home))


async def show_one(call: Call) -> Response:
    """A plugin with its capabilities and settings; one that was never tried is tried in a process of its own."""
    place = call.request.path_params
    found = await call.compute(describe_plugin, f"{place['kind']}/{place['name']}", call.site.home)
    every: list[Any] = [found, *_documents(found["duplicates"])]
    return call.page("plugin.html", every=[{**one, **_readable(one)} for one in every])


def _listed(home: Path) -> dict[str, Any]:
    try:
        settings: Mapping[str, str] | None = read_settings_files(Instance.at(home)).known_texts()
    except TbotError:
        settings = None  # the list says what it lacks
    rows, warnings = list_plugins(home, settings=settings)
    try:
        document, lines, as_approved = verify_plugins(home)
    except TbotError as fault:
        document, lines, as_approved = {"differences": [], "startup_files": []}, [fault.message], False
    files = _documents(document["startup_files"])
    count = len(_documents(document["differences"])) or 1
    approval = {"lines": lines[:count], "files": files, "as_approved": as_approved}
    return {"rows": rows, "warnings": warnings, "approval": approval}


def _documents(found: object) -> list[Any]:
    return list(found) if isinstance(found, list) else []


def _readable(one: Mapping[str, Any]) -> dict[str, Any]:
    # What it needs as a sentence, and a broker's capabilities as pairs, those of others as words.
    declared = one["capabilities"]
    return {
        "needs_words": PluginNeeds.of(one["needs"]).sentence if one["needs"] else "not recorded",
        "matrix": list(declared.items()) if isinstance(declared, Mapping) else [],
        "words": [] if isinstance(declared, Mapping) else list(declared),
    }
