"""The trial of one plugin in its own process: `python -m tbot_core.plugins.trial REQUEST ANSWER`.

The plugin may print, exit, hang or crash: the result is a file, and the starting process limits the time.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.contracts import Broker, Context
from tbot_core.contracts.network import host_settings
from tbot_core.contracts.permissions import CHOSEN
from tbot_core.contracts.setting import declarations
from tbot_core.errors import PluginError
from tbot_core.model import json_document
from tbot_core.model.clock import SystemClock
from tbot_core.model.window import Window
from tbot_core.plugins.discovery import EntryPointInfo
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import PluginLoader, build_plugin
from tbot_core.plugins.network.connector import Connector, RequestBudgets
from tbot_core.system import filesystem, log
from tbot_core.system.foreign_exceptions import assert_failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tbot_core.contracts import Plugin


@attrs.frozen(kw_only=True)
class SettingDescription:
    """One variable that a plugin declares, as text."""

    name: str
    kind: str
    allowed: str
    default: str
    doc: str
    file: str


@attrs.frozen(kw_only=True)
class PluginDescription:
    """The description of a valid plugin; `needs` as `PluginNeeds.document` writes them.

    `matrix` has the capabilities of a broker as text; another plugin has none.
    """

    summary: str
    capabilities: tuple[str, ...]
    settings: tuple[SettingDescription, ...]
    tables: tuple[str, ...]
    needs: dict[str, object]
    matrix: dict[str, str]


def try_plugin(entry: EntryPointInfo, folder: Path) -> PluginDescription | PluginFailure:
    """Load the plugin and create it with its defaults; `folder` becomes its data folder."""
    loaded = PluginLoader().load(entry)
    if isinstance(loaded, PluginFailure):
        return loaded
    try:
        config = default_config(loaded.plugin.config)
    except BaseException as fault:  # noqa: BLE001  -- the border of plugin load: the class may be anything
        assert_failure(fault)
        return PluginFailure.of(entry, "config", fault)
    clock, hosts = SystemClock(), loaded.plugin.needs.hosts
    connector = Connector(plugin=f"{entry.kind} {entry.name}", hosts=hosts, clock=clock, budgets=RequestBudgets(clock))
    context = Context(clock=clock, log=log.logger(f"plugin.{entry.name}"), data_dir=folder, connect=connector)
    made = build_plugin(loaded, config, context)
    if isinstance(made, PluginFailure):
        return made
    return describe_offer(loaded.plugin, made.capabilities.matrix if isinstance(made, Broker) else None)


def default_config(config: type[Any]) -> object:
    """The config of an empty settings file; a strategy's field `window` gets a default window.

    Raises PluginError for a field without a value.
    """
    bare = {field.name for field in attrs.fields(config) if field.init and field.default is attrs.NOTHING}
    given = {"window": Window(start=0, analysis=15, breakout=60, monitoring=60)} if "window" in bare else {}
    if bare - given.keys():
        names = ", ".join(sorted(bare - given.keys()))
        raise PluginError(
            f"The fields {names} of its config have no value.", "Declare each with setting(), or give a default."
        )
    return config(**given)


def series_word(name: str) -> str:
    """The capability of a plugin that publishes this daily series."""
    return f"series {name}"


def describe_offer(plugin: Plugin, matrix: Mapping[str, str] | None = None) -> PluginDescription:
    """Describe an offer, with a broker's capabilities.

    Its settings are those that its config declares, and those of hosts that the operator chooses.
    """
    hosts = {name: host.url for name, host in plugin.needs.hosts.items() if host.url == CHOSEN}
    settings = tuple(
        SettingDescription(
            name=declaration.name,
            kind=declaration.kind.name,
            allowed=declaration.kind.allowed,
            default=declaration.default_text,
            doc=declaration.doc,
            file=declaration.file,
        )
        for declaration in (*declarations(plugin.config).values(), *host_settings(plugin.name, hosts).values())
    )
    return PluginDescription(
        summary=plugin.summary,
        capabilities=tuple(sorted((*plugin.capabilities, *map(series_word, plugin.series)))),
        settings=settings,
        tables=plugin.tables,
        needs=plugin.needs.document,
        matrix=dict(matrix or {}),
    )


def main(arguments: Sequence[str]) -> None:
    """Read the entry from the first file, try it beside that file, and write the answer to the second."""
    request, answer = map(Path, arguments)
    outcome = try_plugin(entry_of(json_document.parse_json(filesystem.read_text(request))), request.parent)
    filesystem.write_atomic(answer, json.dumps(attrs.asdict(outcome)).encode())


def entry_of(document: dict[str, Any]) -> EntryPointInfo:
    """The inverse of `attrs.asdict` for an entry."""
    return EntryPointInfo(**document | {"requires": tuple(document["requires"])})


if __name__ == "__main__":
    main(sys.argv[1:])
