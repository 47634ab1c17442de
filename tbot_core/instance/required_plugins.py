"""Checks that the plugins needed by the settings are installed."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from tbot_core.instance.enabled_plugins import applied_filters, running_strategies, split_names
from tbot_core.instance.findings import SettingsFinding, printable_value
from tbot_core.instance.plugin_settings import filter_switches
from tbot_core.instance.registry import CORE, strategy_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from tbot_core.instance.findings import Mode
    from tbot_core.instance.registry import EffectiveSetting

_NEAR = 0.8
_MARKET_MODES = frozenset({"dry-run", "paper", "live"})


def missing_plugins(
    values: Mapping[str, EffectiveSetting], mode: Mode, installed: Collection[tuple[str, str]]
) -> tuple[SettingsFinding, ...]:
    """Return findings about plugins that the settings name and that are not installed.

    An unknown strategy always fails. In market modes every missing plugin fails; in other modes the broker and data
    source are not checked, and a missing filter warns. Variables of a missing owner warn.
    """
    names = {kind: sorted(name for other, name in installed if other == kind) for kind, _ in installed}
    found = [*_strategies(values, names.get("strategy", [])), *_filters(values, mode, names.get("filter", []))]
    if mode in _MARKET_MODES:
        found += _named(values, "broker", ("BROKER_NAME", "DATA_SOURCE"), names.get("broker", []))
        found += _named(values, "alert", ("CRITICAL_ALERT_CHANNEL", "ROUTINE_ALERT_CHANNEL"), names.get("alert", []))
    return (*found, *_owners(values, installed))


def _strategies(values: Mapping[str, EffectiveSetting], installed: list[str]) -> Iterator[SettingsFinding]:
    texts = _texts(values)
    key = "STRATEGY_OVERRIDE" if texts["STRATEGY_OVERRIDE"] else "STRATEGY_SEQUENCE"
    for name in running_strategies(texts):
        if name not in installed:
            yield _absent(values[key], "strategy", name, installed)


def _filters(values: Mapping[str, EffectiveSetting], mode: Mode, installed: list[str]) -> Iterator[SettingsFinding]:
    texts = _texts(values)
    for name in applied_filters(split_names(texts["FILTERS"]), texts):
        if name not in installed:
            switch = None if texts["FILTERS"] else filter_switches().get(name)
            effective = values["FILTERS" if switch is None else switch[0]]
            if mode in _MARKET_MODES:
                yield _absent(effective, "filter", name, installed)
            else:
                sentence = f"The filter {name} is not installed: it is not applied."
                yield SettingsFinding(level="warn", message=sentence, keys=(effective.declaration.name,))


def _named(
    values: Mapping[str, EffectiveSetting], kind: str, keys: tuple[str, ...], installed: list[str]
) -> Iterator[SettingsFinding]:
    for key in keys:
        effective = values[key]
        if effective.declaration.acted_on and effective.text and effective.text not in installed:
            yield _absent(effective, kind, effective.text, installed)


def _absent(effective: EffectiveSetting, kind: str, name: str, installed: list[str]) -> SettingsFinding:
    key = effective.declaration.name
    near = get_close_matches(name, installed, n=1, cutoff=_NEAR)
    there = f"installed: {', '.join(installed)}" if installed else "none is installed"
    text = f"{key}={printable_value(effective.written or effective.text)}" if effective.text else key
    hint = f"; did you mean {near[0]}?" if near else "."
    noun = "alert channel" if kind == "alert" else kind
    sentence = f"{text}: no {noun} {printable_value(name)} is installed ({there}){hint}"
    return SettingsFinding(
        level="fail", message=sentence, keys=(key,), where=str(effective.origin) if effective.is_set else ""
    )


def _owners(
    values: Mapping[str, EffectiveSetting], installed: Collection[tuple[str, str]]
) -> Iterator[SettingsFinding]:
    waiting: dict[str, list[str]] = {}
    running_ones = running_strategies(_texts(values))
    for key, effective in values.items():
        strategy = strategy_of(key)
        framed = effective.owner == CORE and strategy is not None and strategy not in running_ones
        owner = f"strategy {strategy}" if framed else effective.owner
        kind, _, name = owner.partition(" ")
        if effective.is_set and owner != CORE and (kind, name) not in installed:
            waiting.setdefault(owner, []).append(key)
    for owner, keys in waiting.items():
        kind, _, name = owner.partition(" ")
        where = str(values[keys[0]].origin)
        sentence = f"{', '.join(keys)}: accepted, but the plugin {name} ({kind}) is not installed."
        yield SettingsFinding(level="warn", message=sentence, keys=tuple(keys), where=where)


def _texts(values: Mapping[str, EffectiveSetting]) -> dict[str, str]:
    return {key: effective.text for key, effective in values.items()}
