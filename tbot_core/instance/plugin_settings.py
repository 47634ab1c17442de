"""Settings and secrets of plugins that are not installed, from `plugins.json`, so that a file loads without them.

The declaration of an installed plugin takes precedence. The file has for each kind and name of a plugin the fields of
`KnownPlugin`, all of them optional. `settings` are the variables of .env_bot, each with the arguments of
`tbot_core.contracts.setting.declare`; `secrets` are the fields of the plugin's section in each category, with those of
`tbot_core.contracts.credentials.SecretField`. Their kind is a function of `tbot_core.contracts.setting`, or `several`,
with its arguments (words, least, most, pattern, allowed), or a name in `kinds`. absent: the value may be empty, in
these words. hidden: the value is a secret; its kind is line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import attrs

from tbot_core.contracts import setting
from tbot_core.contracts.credentials import SecretField, list_of
from tbot_core.contracts.setting import SettingDeclaration, SettingKind, declare, optional
from tbot_core.model import json_document
from tbot_core.system import filesystem

_FILE: Final = Path(__file__).with_name("plugins.json")
_ARGUMENTS: Final = ("least", "most", "pattern", "allowed")


@attrs.frozen(kw_only=True)
class KnownPlugin:
    """A plugin of the project, installed or not.

    `settings` by variable, `secrets` by category and field. `environment`: prefixes of the vendor's own environment
    variables. `switch`: the setting that makes the filter a standard one. `acts_on`: settings of the core that
    have an effect only with this filter. `short_type`: the value of SHORT_TYPE_* whose signals alone the filter judges;
    "" for all signals. `checks`: what a filter checks that is a standard one, always or by its switch, in words.
    """

    kind: str
    name: str
    settings: Mapping[str, SettingDeclaration]
    secrets: Mapping[str, Mapping[str, SecretField]]
    environment: tuple[str, ...] = ()
    switch: str = ""
    acts_on: tuple[str, ...] = ()
    short_type: str = ""
    checks: str = ""


@cache
def known_plugins() -> tuple[KnownPlugin, ...]:
    """Every plugin of the data file, in its order."""
    document = json_document.parse_json(filesystem.read_text(_FILE))
    shared = document.pop("kinds")
    return tuple(
        _plugin(kind, name, table, shared) for kind, named in document.items() for name, table in named.items()
    )


def filter_switches() -> dict[str, tuple[str, ...]]:
    """The filters with a switch: the names of that setting, the canonical one first."""
    return {
        plugin.name: (plugin.switch, *plugin.settings[plugin.switch].aliases)
        for plugin in known_plugins()
        if plugin.kind == "filter" and plugin.switch
    }


def off_by_filters(taken_away: Iterable[str]) -> str:
    """A sentence that names the standard filters that FILTERS takes away, with their checks; "" without one."""
    checks = {plugin.name: plugin.checks for plugin in known_plugins() if plugin.kind == "filter"}
    named = ", ".join(f"{name} ({checks[name]})" for name in taken_away)
    return f"Off by FILTERS: {named}." if named else ""


def invented_market_note() -> str:
    """What the market of the built-in broker is, and how real prices are traded with paper money."""
    accounts = (
        plugin.name
        for plugin in known_plugins()
        if plugin.kind == "broker" and "mode" in plugin.secrets.get("broker", {})
    )
    return (
        "The market of the broker paper is invented: its companies and prices exist on this machine alone. Real prices "
        f"with paper money come from a broker's paper account: BROKER_NAME={next(accounts).upper()}, and mode=paper "
        "beside its credentials."
    )


def _plugin(kind: str, name: str, table: dict[str, Any], shared: Mapping[str, dict[str, Any]]) -> KnownPlugin:
    settings, secrets = table.pop("settings", {}), table.pop("secrets", {})
    return KnownPlugin(
        kind=kind,
        name=name,
        settings={variable: declare(variable, **_typed(row, shared)) for variable, row in settings.items()},
        secrets={
            category: {field: _entry(field, row, shared) for field, row in fields.items()}
            for category, fields in secrets.items()
        },
        environment=tuple(table.pop("environment", ())),
        acts_on=tuple(table.pop("acts_on", ())),
        **table,
    )


def _entry(name: str, row: dict[str, Any], shared: Mapping[str, dict[str, Any]]) -> SecretField:
    typed = _typed({"kind": "line", **row}, shared)
    return SecretField(name=name, default_text=typed.pop("default", None), **typed)


def _typed(row: Mapping[str, Any], shared: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    # The row with a kind object in place of the kind's name and arguments.
    rest = {**row, **shared.get(row["kind"], {})}
    given = {name: rest.pop(name) for name in _ARGUMENTS if name in rest}
    name, words = rest.pop("kind"), rest.pop("words", ())
    kind: SettingKind[Any] = (list_of if name == "several" else getattr(setting, name))(*words, **given)
    if "absent" in rest:
        kind = optional(kind, zero=rest.pop("zero", False), absent=rest.pop("absent"))
    if "permits" in rest:
        rest["permits"] = setting.Permits(**rest["permits"] | {"texts": tuple(rest["permits"].get("texts", ()))})
    return {**rest, "kind": kind, "aliases": tuple(rest.get("aliases", ()))}
