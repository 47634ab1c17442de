"""The operator's tables of plugins: a new one is checked by its plugin and put in place; what a plugin warns of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from tbot_core.actions.plugin_declarations import plugin_declarations
from tbot_core.engine.plugin_context import plugin_context
from tbot_core.errors import AccessError, SettingsError, TbotError, UsageError
from tbot_core.instance import load_settings
from tbot_core.instance.identity import jurisdiction_of, read_identity
from tbot_core.instance.preflight_subject import PreflightFinding
from tbot_core.model.clock import SystemClock
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import build_plugin
from tbot_core.plugins.network.connector import RequestBudgets
from tbot_core.system import filesystem
from tbot_core.system.foreign_exceptions import assert_failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.actions.plugin_declarations import PluginDeclarations
    from tbot_core.contracts import Context
    from tbot_core.instance import Instance, Settings
    from tbot_core.plugins.loader import LoadedPlugin


def import_table(instance: Instance, table: str, path: Path) -> str:
    """Put a file in place as a table, once each enabled plugin that names it was built with it; returns what was done.

    `table`: the table's name, with or without its ending. Raises UsageError for a name that no enabled plugin has,
    SettingsError for a file that one of these refuses, and AccessError for one that cannot be read.
    """
    plugins = plugin_declarations(instance.home)
    tables = sorted({name for one in plugins.loaded for name in one.plugin.tables})
    name = next((one for one in tables if table in {one, Path(one).stem}), "")
    if not name:
        known = ", ".join(Path(one).stem for one in tables) or "none"
        message = f"No enabled plugin has a table {table} (tables: {known})."
        raise UsageError(message, "The settings enable plugins; `tbot plugins list` shows them.")
    settings = load_settings(instance.home, mode="replay", declared=plugins.declared)
    if filesystem.is_folder(path):
        raise AccessError(f"{path} is a folder.", "Name the file of the table.")
    data, words = filesystem.read_bytes(path), [f"imported from {path}."]
    readers = [one for one in plugins.loaded if name in one.plugin.tables]
    with filesystem.scratch_folder() as folder:
        filesystem.write_atomic(folder / name, data)
        words += [_tried(settings, one, folder / name, path) for one in readers]
    for folder in (instance.data, instance.tables):
        filesystem.make_folder(folder)  # each private, as `tbot init` makes them
    filesystem.write_atomic(instance.table(name), data)
    said = " ".join(filter(None, dict.fromkeys(words)))
    used = ", ".join(one.entry.name for one in readers)
    return f"{instance.table(name)}: {said} A running bot uses it from the next session ({used})."


def _tried(settings: Settings, loaded: LoadedPlugin, copy: Path, path: Path) -> str:
    # What the plugin says of the new table, "" for nothing; raises SettingsError if it refuses it.
    context = attrs.evolve(_context(settings, loaded), tables_dir=copy.parent, jurisdiction=_jurisdiction(settings))
    made = build_plugin(loaded, settings.plugin_config(loaded.plugin.config), context)
    described = made if isinstance(made, PluginFailure) else _described(copy.name, loaded, context)
    if isinstance(described, PluginFailure):
        # The plugin's words, about the file that was given instead of the copy that it read.
        words = described.error.replace(str(copy), str(path))
        raise SettingsError(f"{path} was not imported: {words}", "The table in use is unchanged.")
    return described


def _described(name: str, loaded: LoadedPlugin, context: Context) -> str | PluginFailure:
    # What the plugin says of the new table; "" if it describes none.
    if loaded.plugin.describe_table is None:
        return ""
    try:
        return loaded.plugin.describe_table(name, context)
    except BaseException as fault:  # noqa: BLE001  -- the border of a plugin
        assert_failure(fault)
        return PluginFailure.of(loaded.entry, "create", fault)


def _jurisdiction(settings: Settings) -> str:
    # That of the identity; "" without one, or where it cannot be read.
    try:
        identity = read_identity(settings.instance, settings.deployment)
    except TbotError:
        return ""
    return jurisdiction_of(identity.text if identity else "")


def warning_findings(settings: Settings, plugins: PluginDeclarations) -> Iterator[PreflightFinding]:
    """What the enabled plugins warn of, and a failure for each that cannot say it, as with an invalid table."""
    warned = [one for one in plugins.loaded if one.plugin.warnings is not None]
    try:
        identity = read_identity(settings.instance, settings.deployment) if warned else None
    except TbotError:
        return  # each of these faults has its own row
    for one in warned:
        yield from _findings(settings, one, jurisdiction_of(identity.text if identity else ""))


def _findings(settings: Settings, loaded: LoadedPlugin, jurisdiction: str) -> Iterator[PreflightFinding]:
    subject, warnings = "plugins", loaded.plugin.warnings
    try:
        context = attrs.evolve(_context(settings, loaded), jurisdiction=jurisdiction)
        config = settings.plugin_config(loaded.plugin.config)
        sentences = tuple(warnings(config, context)) if warnings else ()
    except BaseException as fault:  # noqa: BLE001  -- the border of a plugin
        assert_failure(fault)
        words = PluginFailure.of(loaded.entry, "create", fault).sentence
        yield PreflightFinding(level="fail", subject=subject, message=words)
        return
    for sentence in sentences:
        yield PreflightFinding(level="warn", subject=subject, message=sentence)


def _context(settings: Settings, loaded: LoadedPlugin) -> Context:
    clock = SystemClock()
    return plugin_context(settings, clock, loaded, RequestBudgets(clock))
