"""Which installed plugins the settings need: unknown strategies and brokers, filters that are not there, owners."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from tbot_core.instance.enabled_plugins import applied, running, split
from tbot_core.instance.findings import Finding, shown
from tbot_core.instance.plugin_settings import filter_switches
from tbot_core.instance.registry import CORE, strategy_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from tbot_core.instance.effective import Effective
    from tbot_core.instance.findings import Mode

_NEAR = 0.8
_MARKET_MODES = frozenset({"dry-run", "paper", "live"})


def needs(values: Mapping[str, Effective], mode: Mode, installed: Collection[tuple[str, str]]) -> tuple[Finding, ...]:
    """What the settings name and is not installed, by (kind, name).

    An unknown strategy always fails. The running market fails for every enabled plugin; elsewhere the broker and the
    data source are not asked for, and an absent filter is warned of. Variables whose owner is absent are warned of.
    """
    names = {kind: sorted(name for other, name in installed if other == kind) for kind, _ in installed}
    found = [*_strategies(values, names.get("strategy", [])), *_filters(values, mode, names.get("filter", []))]
    if mode in _MARKET_MODES:
        found += _named(values, "broker", ("BROKER_NAME", "DATA_SOURCE"), names.get("broker", []))
        found += _named(values, "alert", ("CRITICAL_ALERT_CHANNEL", "ROUTINE_ALERT_CHANNEL"), names.get("alert", []))
    return (*found, *_owners(values, installed))


def _strategies(values: Mapping[str, Effective], installed: list[str]) -> Iterator[Finding]:
    texts = _texts(values)
    key = "STRATEGY_OVERRIDE" if texts["STRATEGY_OVERRIDE"] else "STRATEGY_SEQUENCE"
    for name in running(texts):
        if name not in installed:
            yield _absent(values[key], "strategy", name, installed)


def _filters(values: Mapping[str, Effective], mode: Mode, installed: list[str]) -> Iterator[Finding]:
    texts = _texts(values)
    for name in applied(split(texts["FILTERS"]), texts):
        if name not in installed:
            switch = None if texts["FILTERS"] else filter_switches().get(name)
            effective = values["FILTERS" if switch is None else switch[0]]
            if mode in _MARKET_MODES:
                yield _absent(effective, "filter", name, installed)
            else:
                sentence = f"The filter {name} is not installed: it is not applied."
                yield Finding(level="warn", message=sentence, keys=(effective.declaration.name,))


def _named(
    values: Mapping[str, Effective], kind: str, keys: tuple[str, ...], installed: list[str]
) -> Iterator[Finding]:
    for key in keys:
        effective = values[key]
        if effective.declaration.acted_on and effective.text and effective.text not in installed:
            yield _absent(effective, kind, effective.text, installed)


def _absent(effective: Effective, kind: str, name: str, installed: list[str]) -> Finding:
    key = effective.declaration.name
    near = get_close_matches(name, installed, n=1, cutoff=_NEAR)
    there = f"installed: {', '.join(installed)}" if installed else "none is installed"
    said = f"{key}={shown(effective.written or effective.text)}" if effective.text else key
    hint = f"; did you mean {near[0]}?" if near else "."
    sentence = f"{said}: no {kind} {shown(name)} is installed ({there}){hint}"
    return Finding(level="fail", message=sentence, keys=(key,), where=str(effective.origin) if effective.given else "")


def _owners(values: Mapping[str, Effective], installed: Collection[tuple[str, str]]) -> Iterator[Finding]:
    waiting: dict[str, list[str]] = {}
    running_ones = running(_texts(values))
    for key, effective in values.items():
        strategy = strategy_of(key)
        framed = effective.owner == CORE and strategy is not None and strategy not in running_ones
        owner = f"strategy {strategy}" if framed else effective.owner
        kind, _, name = owner.partition(" ")
        if effective.given and owner != CORE and (kind, name) not in installed:
            waiting.setdefault(owner, []).append(key)
    for owner, keys in waiting.items():
        kind, _, name = owner.partition(" ")
        where = str(values[keys[0]].origin)
        sentence = f"{', '.join(keys)}: read and checked; needs plugin {name} ({kind}), which is not installed."
        yield Finding(level="warn", message=sentence, keys=tuple(keys), where=where)


def _texts(values: Mapping[str, Effective]) -> dict[str, str]:
    return {key: effective.text for key, effective in values.items()}
