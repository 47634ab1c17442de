"""Rules that relate several settings, and the plugins that settings need; each yields findings independently."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from difflib import get_close_matches
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.contracts import settings
from tbot_core.contracts.setting import plain_decimal
from tbot_core.errors import SettingsError
from tbot_core.instance.enabled_plugins import applied_filters, failover_brokers, running_strategies, split_names
from tbot_core.instance.findings import Mode, SettingsFinding, printable_value
from tbot_core.instance.plugin_settings import filter_switches, known_plugins
from tbot_core.instance.registry import CORE, EffectiveSetting, strategy_of
from tbot_core.model.calendar import FULL_SESSION_MINUTES
from tbot_core.model.window import check_windows, named_window, standard_window
from tbot_core.plugins.typosquats import distribution_of
from tbot_core.trading.positions.rebalance_rules import next_check

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from tbot_core.instance.findings import Level

_STRATEGY_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SIMULATED_BROKER = "paper"
_ON_PAPER = frozenset({"dry-run", "paper"})
_SATURDAY = 5
_DAYLIGHT_MINUTES = 60
_NEAR = 0.8
_MARKET_MODES = frozenset({"dry-run", "paper", "live"})
_Missing = tuple[tuple[str, str], SettingsFinding]  # the plugin's kind and name, and what is said about it


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


def cross_check_findings(draft: SettingsDraft) -> tuple[SettingsFinding, ...]:
    """Return the findings of all rules, in order."""
    rules = (
        _version,
        _environment,
        _budget,
        _exposure,
        _rebalance,
        _notifier,
        _strategies,
        _windows,
        _pairs,
        _simulation,
        _plugins,
        _shorts,
        _days,
    )
    return tuple(finding for rule in rules for finding in rule(draft))


def missing_plugins(
    values: Mapping[str, EffectiveSetting], mode: Mode, installed: Collection[tuple[str, str]]
) -> tuple[SettingsFinding, ...]:
    """Return findings about plugins that the settings name and that are not installed, one for each plugin.

    An unknown strategy always fails. In market modes every missing plugin fails; in other modes the broker and data
    source are not checked, and a missing filter warns. Variables of any other missing owner warn.
    """
    names = {kind: sorted(name for other, name in installed if other == kind) for kind, _ in installed}
    found = [
        *_missing_strategies(values, names.get("strategy", [])),
        *_missing_filters(values, mode, names.get("filter", [])),
    ]
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


def _exposure(draft: SettingsDraft) -> Iterator[SettingsFinding]:
    # Orders are sized to their budget, and denied where a limit is smaller: only the k-th order that is sent makes the
    # next one smaller, so that a first one which does not fit is denied for ever.
    risk = draft.groups["risk"]
    shares = [one for one in risk.order_shares if one]
    if draft.groups["simulation"].fixed_quantity or not shares or not draft.strategies:
        return
    keys = ("TOTAL_ALLOCATION", "WEIGHTS", "MAX_RISK_PER_TRADE")
    most = risk.symbol_share
    if over := [one for one in shares if one > most]:
        sentence = (
            f"An order of {_percent(over[0])} of equity is above MAX_SYMBOL_EXPOSURE={plain_decimal(most)}: it is "
            f"denied (SYMBOL_EXPOSURE), and so is each one after it in the window{_unless_rounded(over[0], most)}."
        )
        yield draft.finding("note", sentence, "MAX_SYMBOL_EXPOSURE", *keys)
    for setting, code, limit in (
        ("MAX_GROSS_EXPOSURE", "GROSS_EXPOSURE", risk.max_gross_exposure),
        ("MAX_LEVERAGE", "BUYING_POWER", risk.max_leverage),
    ):
        fitting = sum(total <= limit for total in accumulate(shares))
        if fitting >= min(len(shares), risk.max_open_positions):
            continue
        if fitting:
            sentence = (
                f"{setting}={plain_decimal(limit)}: {fitting} of the {len(shares)} positions of a window fit at once; "
                f"the next entry is denied ({code}) until one is closed."
            )
        else:
            sentence = (
                f"{setting}={plain_decimal(limit)}: no position fits. The first order of a window is "
                f"{_percent(shares[0])} of equity, so that every entry is denied ({code})"
                f"{_unless_rounded(shares[0], limit)}."
            )
        yield draft.finding("note", sentence, setting, *keys)


def _unless_rounded(share: Decimal, limit: Decimal) -> str:
    # Rounding down to whole shares leaves more than half of a budget, or nothing.
    return ", unless rounding to whole shares makes it small enough" if share < 2 * limit else ""


def _percent(share: Decimal) -> str:
    return f"{plain_decimal(round(share * 100, 3))} %"


def _rebalance(draft: SettingsDraft) -> Iterator[SettingsFinding]:
    policy, exits = draft.groups["rebalance"], draft.groups["exits"]
    if not policy.rebalance_enabled or not draft.strategies:
        return
    idle = [name for name in draft.strategies if name in draft.frames and not _is_checked(draft, name)]
    if idle:
        which = "any strategy" if len(idle) == len(draft.strategies) else ", ".join(idle)
        sentence = (
            f"{draft.text('REBALANCE_CHECK_INTERVAL')}: no check meets a position of {which}: each is opened and "
            "closed between two checks, which are counted from the opening bell."
        )
        keys = ("REBALANCE_CHECK_INTERVAL", "REBALANCE_ENABLED")
        windows = [f"{name.upper()}_{phase}_TIME" for name in idle for phase in ("ANALYSIS", "BREAKOUT", "MONITORING")]
        yield draft.finding("note", sentence, *keys, *(f"START_TIME_{name.upper()}" for name in idle), *windows)
    if policy.rebalance_threshold >= exits.stop_loss_pct and not exits.stop_atr:
        up = ", and only a short one topped up" if policy.rebalance_top_up else ""
        sentence = (
            f"{draft.text('REBALANCE_THRESHOLD')} is not below STOP_LOSS_PCT={plain_decimal(exits.stop_loss_pct)}: a "
            f"position that loses so much is closed at its stop before, so that only a long one that gains more is "
            f"trimmed{up}."
        )
        yield draft.finding("note", sentence, "REBALANCE_THRESHOLD", "REBALANCE_ENABLED", "STOP_LOSS_PCT")


def _is_checked(draft: SettingsDraft, name: str) -> bool:
    # Whether a check meets a position of a strategy whose entries fill in the minute after their signal. Exits of a
    # minute come first, so that one with the last exit meets none.
    anchor, frame = draft.groups["trading"].time_anchor, draft.frames[name]
    try:
        window = standard_window(name, frame)
    except (SettingsError, ValueError):
        return True  # it has a finding of its own
    moved = (0,) if named_window(name, frame).keeps_distance(anchor) else (0, _DAYLIGHT_MINUTES)
    last = FULL_SESSION_MINUTES - draft.groups["exits"].flatten_before_close
    for later in moved:
        held = range(window.entry + 1 + later, min(window.leave + later, last) - 1)
        if next_check(draft.groups["rebalance"], held) < held.stop:
            return True
    return False


def _notifier(draft: SettingsDraft) -> Iterator[SettingsFinding]:
    policy, risk = draft.groups["rebalance"], draft.groups["risk"]
    if not policy.enable_rebalance_notifier or draft.groups["simulation"].fixed_quantity or not draft.strategies:
        return
    windows = len(draft.strategies)
    largest = sorted(risk.order_shares * windows, reverse=True)[: risk.max_open_positions]
    gross = min(sum(largest, Decimal(0)), risk.max_gross_exposure, risk.max_leverage)
    planned = risk.total_allocation * windows
    sold = gross if any(draft.frames[name].short_type == "ShortSell" for name in draft.strategies) else Decimal(0)
    furthest = max(planned + sold, gross - planned)
    if 100 * furthest <= policy.rebalance_trigger_pct:
        sentence = (
            f"{draft.text('REBALANCE_TRIGGER_PCT')} is not reached: with these settings the cash share is at most "
            f"{plain_decimal(round(100 * furthest, 3))} percentage points from its target, before profit and loss."
        )
        keys = ("REBALANCE_TRIGGER_PCT", "ENABLE_REBALANCE_NOTIFIER", "TOTAL_ALLOCATION", "WEIGHTS")
        yield draft.finding("note", sentence, *keys)


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
    if not draft.strategies and any(setting.is_set for setting in draft.values.values()):
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
    for plugin in known_plugins():
        for key in plugin.acts_on if plugin.name not in draft.filters else ():
            if draft.values[key].value != draft.values[key].declaration.default:
                sentence = f"{draft.text(key)}: no effect without the filter {plugin.name}, which is not on."
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
    known = [plugin.name for plugin in known_plugins() if plugin.kind == "filter" and plugin.checks]
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
    for plugin in known_plugins():
        if (
            plugin.kind == "filter"
            and plugin.name in draft.filters
            and plugin.short_type
            and plugin.short_type not in types.values()
        ):
            sentence = f"No SHORT_TYPE_* is {plugin.short_type}, so the filter {plugin.name} has nothing to judge."
            yield draft.finding("warn", sentence, plugin.switch)


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


def _missing_strategies(values: Mapping[str, EffectiveSetting], installed: list[str]) -> Iterator[_Missing]:
    texts = _texts(values)
    key = "STRATEGY_OVERRIDE" if texts["STRATEGY_OVERRIDE"] else "STRATEGY_SEQUENCE"
    for name in running_strategies(texts):
        if name not in installed:
            yield _absent([values[key]], "strategy", name, installed)


def _missing_filters(values: Mapping[str, EffectiveSetting], mode: Mode, installed: list[str]) -> Iterator[_Missing]:
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
    keys = tuple(setting.declaration.name for setting in named)
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
