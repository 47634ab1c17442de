"""The plugins that the settings enable, read from the raw text without importing the settings classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.instance.folder import Instance

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

ALL_EXTENSIONS = ("extension", "*")
_ALWAYS_STANDARD = "price_volume"
_NO_FILTER = "none"
_TAKEN_AWAY = "-"
_ON = frozenset({"true", "yes", "on", "1"})


def raw_settings(home: Path | str | None = None) -> dict[str, str]:
    """The text of every key in both settings files; invalid lines are left out.

    For a key in both files the trading configuration takes precedence, except for EXTENSIONS. Empty without an
    instance. Opening an encrypted file is audited. Raises AccessError or VaultError for a file that cannot be read.
    """
    from tbot_core.instance.sources import read_settings_files

    return read_settings_files(Instance.at(home)).texts()


def plugins_enabled(texts: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """The (kind, name) of every enabled plugin; `("extension", "*")` means all installed ones.

    Without settings nothing is enabled.
    """
    if not texts:
        return frozenset()
    broker = texts.get("BROKER_NAME") or "paper"
    found: set[tuple[str, str]] = set()
    found |= _of("broker", (broker, texts.get("DATA_SOURCE", ""), *failover_brokers(texts)))
    found |= _of("strategy", running_strategies(texts))
    found |= _of("filter", applied_filters(split_names(texts.get("FILTERS", "")), texts))
    for key in ("CRITICAL_ALERT_CHANNEL", "ROUTINE_ALERT_CHANNEL"):
        found |= _of("alert", split_names(texts.get(key) or "console"))
    extensions = split_names(texts.get("EXTENSIONS", ""))
    found |= _of("extension", () if extensions == ("none",) else extensions or (ALL_EXTENSIONS[1],))
    return frozenset(found)


def failover_brokers(texts: Mapping[str, str]) -> tuple[str, ...]:
    """The brokers that entries may fail over to."""
    return split_names(texts.get("FAILOVER_BROKERS", "")) if _is_on(texts.get("FAILOVER_ENABLED", "")) else ()


def running_strategies(texts: Mapping[str, str]) -> tuple[str, ...]:
    """The strategies that run, in order: the override alone, else the sequence without disabled ones."""
    override = texts.get("STRATEGY_OVERRIDE", "").strip().lower()
    if override:
        return (override,)
    sequence = split_names(texts.get("STRATEGY_SEQUENCE", ""))
    return tuple(name for name in sequence if _is_on(texts.get(f"STRAT_{name.upper()}_ENABLED", "true")))


def applied_filters(filters: tuple[str, ...], texts: Mapping[str, str]) -> tuple[str, ...]:
    """The filters that apply: the standard ones that FILTERS does not take away, then those that it names.

    `filters` is the value of FILTERS, `texts` has the switches.
    """
    standard, away = _standard_filters(texts), filters_taken_away(filters, texts)
    named = (
        name for name in filters if name != _NO_FILTER and not name.startswith(_TAKEN_AWAY) and name not in standard
    )
    return (*(name for name in standard if name not in away), *named)


def filters_taken_away(filters: tuple[str, ...], texts: Mapping[str, str]) -> tuple[str, ...]:
    """The standard filters that the value of FILTERS takes away: those with `-` before the name, or with `none` all."""
    if _NO_FILTER not in filters and not any(name.startswith(_TAKEN_AWAY) for name in filters):
        return ()
    return tuple(
        name for name in _standard_filters(texts) if _NO_FILTER in filters or f"{_TAKEN_AWAY}{name}" in filters
    )


def _standard_filters(texts: Mapping[str, str]) -> tuple[str, ...]:
    # The filters that apply unless FILTERS takes them away: price_volume, and those whose switch is on.
    switched_on = {key for key, text in texts.items() if key.endswith("_FILTER") and _is_on(text)}
    if not switched_on:  # the usual case; avoids reading plugins.json
        return (_ALWAYS_STANDARD,)
    from tbot_core.instance.plugin_settings import filter_switches

    return (_ALWAYS_STANDARD, *(name for name, keys in filter_switches().items() if switched_on.intersection(keys)))


def split_names(text: str) -> tuple[str, ...]:
    """Names separated by commas, in lower case."""
    return tuple(part.strip().lower() for part in text.split(",") if part.strip())


def _is_on(text: str) -> bool:
    # Whether a switch is on.
    return text.strip().lower() in _ON


def _of(kind: str, names: Iterable[str]) -> set[tuple[str, str]]:
    return {(kind, name.strip().lower()) for name in names if name.strip()}
