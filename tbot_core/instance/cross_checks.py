"""Rules that relate several settings; each yields findings independently."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.contracts import settings
from tbot_core.contracts.setting import plain_decimal
from tbot_core.errors import SettingsError
from tbot_core.instance.findings import Mode, SettingsFinding
from tbot_core.instance.plugin_settings import filter_switches, known_plugins
from tbot_core.instance.registry import EffectiveSetting
from tbot_core.model.calendar import FULL_SESSION_MINUTES
from tbot_core.model.window import Window, check_windows, named_window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.instance.findings import Level

_STRATEGY_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SIMULATED_BROKER = "paper"
_ON_PAPER = frozenset({"dry-run", "paper"})
_SATURDAY = 5


@attrs.frozen(kw_only=True)
class SettingsDraft:
    """The input of the rules: typed groups, frames of the named strategies, and every value with its origin."""

    mode: Mode
    version: str
    groups: Mapping[str, Any]
    frames: Mapping[str, settings.StrategySettings]
    strategies: tuple[str, ...]
    filters: tuple[str, ...]
    filters_off: tuple[str, ...]
    values: Mapping[str, EffectiveSetting]

    def finding(self, level: Level, sentence: str, *keys: str) -> SettingsFinding:
        """Create a finding about these variables; its location is that of the first one set in a file."""
        given = [self.values[key] for key in keys if key in self.values and self.values[key].is_set]
        where = str(given[0].origin) if given else ""
        return SettingsFinding(level=level, message=sentence, keys=keys, where=where)

    def text(self, key: str) -> str:
        """`KEY=value` for a message."""
        return f"{key}={self.values[key].text}"


def standard_window(strategy: str, frame: settings.StrategySettings) -> Window:
    """The window on a standard-time day; raises SettingsError if it fits no session."""
    named = named_window(strategy, frame)
    check_windows([named], "exchange")
    return Window(
        start=named.standard_start,
        analysis=frame.analysis_minutes,
        breakout=frame.breakout_minutes,
        monitoring=frame.monitoring_minutes,
    )


def cross_check_findings(draft: SettingsDraft) -> tuple[SettingsFinding, ...]:
    """Return the findings of all rules, in order."""
    rules = (
        _version,
        _environment,
        _budget,
        _strategies,
        _windows,
        _pairs,
        _simulation,
        _plugins,
        _shorts,
        _days,
    )
    return tuple(finding for rule in rules for finding in rule(draft))


def _version(draft: SettingsDraft) -> Iterator[SettingsFinding]:
    tag = draft.groups["general"].version_tag
    if tag is None:
        return
    written, ours = tag.removeprefix("v").split("."), draft.version.removeprefix("v").split(".")
    if written[0] != ours[0]:
        sentence = f"VERSION_TAG={tag}: the file is for major version {written[0]}, this is tbot {draft.version}."
        yield draft.finding("fail", sentence, "VERSION_TAG")
    elif written != ours:
        sentence = f"VERSION_TAG={tag}: this is tbot {draft.version}; the file is still valid."
        yield draft.finding("warn", sentence, "VERSION_TAG")


def _environment(draft: SettingsDraft) -> Iterator[SettingsFinding]:
    if draft.mode == "live" and draft.groups["deployment"].environment == "development":
        yield draft.finding("fail", "ENVIRONMENT=development does not allow live trading.", "ENVIRONMENT")


def _budget(draft: SettingsDraft) -> Iterator[SettingsFinding]:
    risk, simulation = draft.groups["risk"], draft.groups["simulation"]
    total = sum(risk.weights)
    if total > 1:
        yield draft.finding(
            "fail", f"{draft.text('WEIGHTS')}: the sum is {plain_decimal(total)}, at most 1 is allowed.", "WEIGHTS"
        )
    if risk.max_trades > len(risk.weights) and not simulation.fixed_quantity:
        sentence = (
            f"MAX_TRADES={risk.max_trades} is more than the {len(risk.weights)} weights of WEIGHTS: "
            "each order needs one, or FIXED_QUANTITY in a simulation."
        )
        yield draft.finding("fail", sentence, "MAX_TRADES", "WEIGHTS")
    if risk.defense_mode_total_allocation > risk.total_allocation:
        sentence = "DEFENSE_MODE_TOTAL_ALLOCATION is larger than TOTAL_ALLOCATION: defense would raise the budget."
        yield draft.finding("warn", sentence, "DEFENSE_MODE_TOTAL_ALLOCATION", "TOTAL_ALLOCATION")


def _strategies(draft: SettingsDraft) -> Iterator[SettingsFinding]:
    trading = draft.groups["trading"]
    sequence = trading.strategy_sequence
    for name in dict.fromkeys(name for name in sequence if sequence.count(name) > 1):
        sentence = f"{draft.text('STRATEGY_SEQUENCE')}: {name} is listed more than once."
        yield draft.finding("fail", sentence, "STRATEGY_SEQUENCE")
    for name in sequence:
        if _STRATEGY_NAME.fullmatch(name) is None:
            sentence = (
                f"{draft.text('STRATEGY_SEQUENCE')}: {name} is not a valid strategy name (letters, digits and _)."
            )
            yield draft.finding("fail", sentence, "STRATEGY_SEQUENCE")
    override = trading.strategy_override
    if override and not draft.frames[override].enabled:
        key = f"STRAT_{override.upper()}_ENABLED"
        sentence = f"STRATEGY_OVERRIDE={override}: {draft.text(key)} disables it."
        yield draft.finding("fail", sentence, "STRATEGY_OVERRIDE", key)
    if not draft.strategies and any(one.is_set for one in draft.values.values()):
        yield draft.finding("warn", "No strategy is enabled: nothing will be traded.", "STRATEGY_SEQUENCE")


def _windows(draft: SettingsDraft) -> Iterator[SettingsFinding]:
    anchor, flatten = draft.groups["trading"].time_anchor, draft.groups["exits"].flatten_before_close
    for name, frame in draft.frames.items():
        keys = (f"START_TIME_{name.upper()}", f"{name.upper()}_ANALYSIS_TIME", f"{name.upper()}_BREAKOUT_TIME")
        named = named_window(name, frame)
        try:
            check_windows([named], anchor)
        except SettingsError as error:
            yield draft.finding("fail", f"{error.message} {error.remedy}", keys[0], "TIME_ANCHOR")
            continue
        end = named.standard_start + frame.analysis_minutes + frame.breakout_minutes
        if end > FULL_SESSION_MINUTES - flatten:
            sentence = (
                f"{draft.text(keys[0])}: the entry phase ends {end} minutes after the bell, flattening starts "
                f"{FULL_SESSION_MINUTES - flatten} minutes after it: the window would be skipped in every session."
            )
            yield draft.finding("fail", sentence, *keys, "FLATTEN_BEFORE_CLOSE")
    if anchor == "utc" and not all(frame.start_time.tzinfo for frame in draft.frames.values()):
        sentence = "TIME_ANCHOR=utc: relative to the bell, start times shift by one hour with daylight saving time."
        yield draft.finding("warn", sentence, "TIME_ANCHOR")


def _pairs(draft: SettingsDraft) -> Iterator[SettingsFinding]:
    pairs = [("MIN_PRICE", "MAX_PRICE")]
    pairs += [(f"MIN_MARKET_CAP_{name.upper()}", f"MAX_MARKET_CAP_{name.upper()}") for name in draft.frames]
    for low, high in pairs:
        least, most = draft.values[low].value, draft.values[high].value
        if least is not None and most is not None and least > most:
            yield draft.finding("fail", f"{draft.text(low)} is more than {draft.text(high)}.", low, high)


def _simulation(draft: SettingsDraft) -> Iterator[SettingsFinding]:
    trading, simulation = draft.groups["trading"], draft.groups["simulation"]
    market = draft.mode == "live" or (draft.mode in _ON_PAPER and trading.broker_name != _SIMULATED_BROKER)
    if market and simulation.fixed_quantity:
        sentence = f"{draft.text('FIXED_QUANTITY')} is for simulations only: set it to 0."
        yield draft.finding("fail", sentence, "FIXED_QUANTITY")
    if draft.mode != "live" and trading.vix_source == "live":
        used = (
            "the value that the live session recorded for that day, else "
            if draft.mode in {"replay", "backtest"}
            else ""
        )
        sentence = f"VIX_SOURCE=live is for live trading only: here {used}the previous close is used."
        yield draft.finding("warn", sentence, "VIX_SOURCE")


def _plugins(draft: SettingsDraft) -> Iterator[SettingsFinding]:
    names = draft.values["EXTENSIONS"].value
    if len(set(names)) < len(names) or ("none" in names and len(names) > 1):
        sentence = f"{draft.text('EXTENSIONS')}: a name is repeated, or combined with none."
        yield draft.finding("fail", sentence, "EXTENSIONS")
    yield from _filters(draft)
    for one in known_plugins():
        for key in one.acts_on if one.name not in draft.filters else ():
            if draft.values[key].value != draft.values[key].declaration.default:
                sentence = f"{draft.text(key)}: no effect without the filter {one.name}, which is not on."
                yield draft.finding("warn", sentence, key)
    failover = draft.groups["failover"]
    if failover.failover_enabled and not failover.failover_brokers:
        sentence = "FAILOVER_ENABLED=true without FAILOVER_BROKERS: there is no failover."
        yield draft.finding("warn", sentence, "FAILOVER_ENABLED", "FAILOVER_BROKERS")
    if failover.failover_enabled and failover.failover_brokers:
        yield from _failover(draft)


def _filters(draft: SettingsDraft) -> Iterator[SettingsFinding]:
    names, written, switches = draft.values["FILTERS"].value, draft.text("FILTERS"), filter_switches()
    away = {name.removeprefix("-") for name in names if name.startswith("-")}
    known = [one.name for one in known_plugins() if one.kind == "filter" and one.checks]
    if len(set(names)) < len(names):
        yield draft.finding("fail", f"{written}: a name is repeated.", "FILTERS")
    for name in sorted(away.difference(known)):
        sentence = f"{written}: {name} cannot be taken away, only a standard filter can ({', '.join(known)})."
        yield draft.finding("fail", sentence, "FILTERS")
    for name in sorted(away.union(draft.filters_off).intersection(names)):
        yield draft.finding("fail", f"{written}: {name} is named and taken away.", "FILTERS")
    for name in draft.filters_off:
        if name in switches:
            switch = switches[name][0]
            yield draft.finding(
                "warn", f"{draft.text(switch)}: no effect, since {written} takes {name} away.", switch, "FILTERS"
            )


def _shorts(draft: SettingsDraft) -> Iterator[SettingsFinding]:
    types = {name: draft.frames[name].short_type for name in draft.strategies if name in draft.frames}
    for name, short_type in types.items():
        if short_type in {"InverseETF", "LongPut"}:
            setting = f"SHORT_TYPE_{name.upper()}"
            sentence = f"{setting}={short_type}: not available, so all short signals of {name} are denied. "
            yield draft.finding("warn", f"{sentence}{setting}=ShortSell sells short at the broker.", setting)
    for one in known_plugins():
        if (
            one.kind == "filter"
            and one.name in draft.filters
            and one.short_type
            and one.short_type not in types.values()
        ):
            sentence = f"No SHORT_TYPE_* is {one.short_type}, so the filter {one.name} has nothing to judge."
            yield draft.finding("warn", sentence, one.switch)


def _failover(draft: SettingsDraft) -> Iterator[SettingsFinding]:
    trading, names = draft.groups["trading"], draft.groups["failover"].failover_brokers
    text = draft.text("FAILOVER_BROKERS")
    if trading.broker_name in names or len(set(names)) < len(names):
        sentence = f"{text}: list each broker once; BROKER_NAME, {trading.broker_name}, is always the first one."
        yield draft.finding("fail", sentence, "FAILOVER_BROKERS", "BROKER_NAME")
    if _SIMULATED_BROKER in names:
        sentence = f"{text}: {_SIMULATED_BROKER} is a simulator and cannot take over from a broker."
        yield draft.finding("fail", sentence, "FAILOVER_BROKERS")
    elif trading.broker_name == _SIMULATED_BROKER:
        sentence = f"{text}: {_SIMULATED_BROKER} never fails, so failover has no effect."
        yield draft.finding("warn", sentence, "FAILOVER_BROKERS", "BROKER_NAME")
    elif trading.data_source in {"", trading.broker_name}:
        sentence = f"The bars come from {trading.broker_name} too: if it is down, no other broker gets entries either."
        yield draft.finding("warn", sentence, "FAILOVER_ENABLED", "DATA_SOURCE")


def _days(draft: SettingsDraft) -> Iterator[SettingsFinding]:
    if max(draft.groups["trading"].trading_days) >= _SATURDAY:
        sentence = f"{draft.text('TRADING_DAYS')}: the exchange is closed on Saturday and Sunday."
        yield draft.finding("warn", sentence, "TRADING_DAYS")
