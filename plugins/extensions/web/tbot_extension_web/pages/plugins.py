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
    found = await call.compute(_described, call.site.home, f"{place['kind']}/{place['name']}")
    every: list[Any] = [found, *_documents(found["duplicates"])]
    return call.page("plugin.html", every=[{**one, **_readable(one)} for one in every])


def _listed(home: Path) -> dict[str, Any]:
    rows, warnings = list_plugins(home, settings=_settings(home))
    try:
        document, lines, as_approved = verify_plugins(home)
    except TbotError as fault:
        document, lines, as_approved = {"differences": [], "startup_files": []}, [fault.message], False
    files = _documents(document["startup_files"])
    count = len(_documents(document["differences"])) or 1
    approval = {"lines": lines[:count], "files": files, "as_approved": as_approved}
    return {"rows": rows, "warnings": warnings, "approval": approval}


def _described(home: Path, name: str) -> dict[str, object]:
    return describe_plugin(name, home, settings=_settings(home))


def _settings(home: Path) -> Mapping[str, str] | None:
    # The texts of the settings, also of encrypted ones; None where they cannot be read, and the list says so.
    try:
        return read_settings_files(Instance.at(home)).known_texts()
    except TbotError:
        return None


def _documents(found: object) -> list[Any]:
    return list(found) if isinstance(found, list) else []


def _readable(one: Mapping[str, Any]) -> dict[str, Any]:
    # What it needs as a sentence, and a broker's capabilities as pairs, those of others as words.
    declared = one["capabilities"]
    return {
        "needs_words": PluginNeeds.of(one["needs"]).sentence(one["name"]) if one["needs"] else "not recorded",
        "matrix": list(declared.items()) if isinstance(declared, Mapping) else [],
        "words": [] if isinstance(declared, Mapping) else list(declared),
    }
