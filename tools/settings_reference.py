"""Renders the reference of every variable from the declarations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.contracts import settings
from tbot_core.contracts.setting import declarations
from tbot_core.instance.plugin_settings import known_plugins
from tbot_core.instance.registry import GROUPS, group_doc, group_title
from tbot_core.instance.report import NOT_ACTED_ON

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tbot_core.contracts.setting import SettingDeclaration

_INTRODUCTION = """\
# Settings

Every variable of `.env` and `.env_bot`: its meaning, allowed values and default. This page is generated from the
declarations by `python tools/reference.py`. `tbot config explain KEY` shows one variable and its value in an instance.

A file has one `KEY=value` per line; `#` starts a comment; values may be quoted; `${...}` is not expanded; of a repeated
key the last line counts. Fractions are parts of 1 (0.02 is 2 %), percentages are written as such (0.15 is 0.15 %).
Variables named *_PCT are fractions or percentages, as the column "allowed" of each says.
"""


def render() -> str:
    """Render the page as Markdown."""
    parts = [_INTRODUCTION]
    for title, config in GROUPS.items():
        parts.append(f"## {group_title(title)}\n\n{group_doc(config)}\n\n{_table(declarations(config))}")
    each = settings.StrategySettings
    parts.append(f"## Each strategy\n\n{group_doc(each)}\n\n{_table(declarations(each))}")
    for plugin in known_plugins():
        if plugin.settings:
            title = f"## {plugin.kind.capitalize()} {plugin.name}"
            doc = f"Settings that the {plugin.kind} {plugin.name} reads."
            parts.append(f"{title}\n\n{doc}\n\n{_table(plugin.settings)}")
    return "\n".join(parts)


def _table(declared: Mapping[str, SettingDeclaration]) -> str:
    rows = ["| variable | default | allowed | meaning |", "|---|---|---|---|", *map(_row, declared.values())]
    return "\n".join(rows) + "\n"


def _row(one: SettingDeclaration) -> str:
    default = f"`{one.default_text}`" if one.default_text else "empty"
    return f"| `{one.name}` | {default} | {_cell(one.kind.allowed)} | {_cell(' '.join(_meaning(one)))} |"


def _meaning(one: SettingDeclaration) -> Iterator[str]:
    yield one.doc
    if one.file == ".env" and one.name == "EXTENSIONS":
        yield "File: `.env`."
    if one.aliases:
        yield f"Aliases: {', '.join(f'`{alias}`' for alias in one.aliases)}."
    if not one.acted_on:
        yield f"{NOT_ACTED_ON.capitalize()}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
