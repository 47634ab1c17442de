"""Checks that the plugins needed by the settings are installed."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from tbot_core.instance.enabled_plugins import applied_filters, failover_brokers, running_strategies, split_names
from tbot_core.instance.findings import SettingsFinding, printable_value
from tbot_core.instance.plugin_settings import filter_switches
from tbot_core.instance.registry import CORE, strategy_of
from tbot_core.plugins.typosquats import distribution_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from tbot_core.instance.findings import Mode
    from tbot_core.instance.registry import EffectiveSetting

_NEAR = 0.8
_MARKET_MODES = frozenset({"dry-run", "paper", "live"})
_Missing = tuple[tuple[str, str], SettingsFinding]  # the plugin's kind and name, and what is said about it


def missing_plugins(
    values: Mapping[str, EffectiveSetting], mode: Mode, installed: Collection[tuple[str, str]]
) -> tuple[SettingsFinding, ...]:
    """Return findings about plugins that the settings name and that are not installed, one for each plugin.

    An unknown strategy always fails. In market modes every missing plugin fails; in other modes the broker and data
    source are not checked, and a missing filter warns. Variables of any other missing owner warn.
    """
    names = {kind: sorted(name for other, name in installed if other == kind) for kind, _ in installed}
    found = [*_strategies(values, names.get("strategy", [])), *_filters(values, mode, names.get("filter", []))]
    if mode in _MARKET_MODES:
        brokers = ("BROKER_NAME", "DATA_SOURCE", *(["FAILOVER_BROKERS"] if failover_brokers(_texts(values)) else []))
        found += _named(values, "broker", brokers, names.get("broker", []))
        found += _named(values, "alert", ("CRITICAL_ALERT_CHANNEL", "ROUTINE_ALERT_CHANNEL"), names.get("alert", []))
    known = [*installed, *(plugin for plugin, _ in found)]
    return (*(finding for _, finding in found), *_owners(values, known))


def needed_plugin(owner: str, installed: Collection[tuple[str, str]]) -> str:
    """A sentence on what belongs to a plugin that is not installed; "" for the core, and for an installed plugin.

    `owner` is that of a setting: `core`, or kind and name as in `broker paper`.
    """
    kind, _, name = owner.partition(" ")
    if owner == CORE or (kind, name) in installed:
        return ""
    return f"Needs plugin {distribution_of(kind, name) or owner}, which is not installed."


def _strategies(values: Mapping[str, EffectiveSetting], installed: list[str]) -> Iterator[_Missing]:
    texts = _texts(values)
    key = "STRATEGY_OVERRIDE" if texts["STRATEGY_OVERRIDE"] else "STRATEGY_SEQUENCE"
    for name in running_strategies(texts):
        if name not in installed:
            yield _absent([values[key]], "strategy", name, installed)


def _filters(values: Mapping[str, EffectiveSetting], mode: Mode, installed: list[str]) -> Iterator[_Missing]:
    texts = _texts(values)
    for name in applied_filters(split_names(texts["FILTERS"]), texts):
        if name not in installed:
            switch = None if name in split_names(texts["FILTERS"]) else filter_switches().get(name)
            effective = values["FILTERS" if switch is None else switch[0]]
            if mode in _MARKET_MODES:
                yield _absent([effective], "filter", name, installed)
            else:
                sentence = f"The filter {name} is not installed: it is not applied.{_install('filter', name)}"
                keys = (effective.declaration.name,)
                yield ("filter", name), SettingsFinding(level="warn", message=sentence, keys=keys)


def _named(
    values: Mapping[str, EffectiveSetting], kind: str, keys: tuple[str, ...], installed: list[str]
) -> Iterator[_Missing]:
    naming: dict[str, list[str]] = {}
    for key in keys:
        effective = values[key]
        for name in split_names(effective.text) if effective.declaration.acted_on else ():
            if name not in installed:
                naming.setdefault(name, []).append(key)
    for name, several in naming.items():
        yield _absent([values[key] for key in several], kind, name, installed)


def _absent(named: Sequence[EffectiveSetting], kind: str, name: str, installed: list[str]) -> _Missing:
    # `named`: the settings that name the plugin.
    near = get_close_matches(name, installed, n=1, cutoff=_NEAR)
    there = f"installed: {', '.join(installed)}" if installed else "none is installed"
    hint = f"; did you mean {near[0]}?" if near else f".{_install(kind, name)}"
    noun = "alert channel" if kind == "alert" else kind
    sentence = f"{', '.join(map(_assignment, named))}: no {noun} {printable_value(name)} is installed ({there}){hint}"
    where = str(named[0].origin) if named[0].is_set else ""
    keys = tuple(one.declaration.name for one in named)
    return (kind, name), SettingsFinding(level="fail", message=sentence, keys=keys, where=where)


def _assignment(effective: EffectiveSetting) -> str:
    key = effective.declaration.name
    return f"{key}={printable_value(effective.written or effective.text)}" if effective.text else key


def _install(kind: str, name: str) -> str:
    # The remedy for a plugin that the project has made; the distribution of any other is not known.
    distribution = distribution_of(kind, name)
    return f" Install {distribution}." if distribution else ""


def _owners(values: Mapping[str, EffectiveSetting], known: Collection[tuple[str, str]]) -> Iterator[SettingsFinding]:
    # `known`: the plugins that are installed or reported already.
    waiting: dict[tuple[str, str], list[str]] = {}
    running_ones = running_strategies(_texts(values))
    for key, effective in values.items():
        strategy = strategy_of(key)
        framed = effective.owner == CORE and strategy is not None and strategy not in running_ones
        kind, _, name = (f"strategy {strategy}" if framed else effective.owner).partition(" ")
        if effective.is_set and kind != CORE and (kind, name) not in known:
            waiting.setdefault((kind, name), []).append(key)
    for (kind, name), keys in waiting.items():
        where = str(values[keys[0]].origin)
        sentence = f"{', '.join(keys)}: no effect, the {kind} {name} is not installed.{_install(kind, name)}"
        yield SettingsFinding(level="warn", message=sentence, keys=tuple(keys), where=where)


def _texts(values: Mapping[str, EffectiveSetting]) -> dict[str, str]:
    return {key: effective.text for key, effective in values.items()}
