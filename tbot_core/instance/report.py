"""The content of `tbot config check`: every finding about an instance's settings, and the sum of its limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.contracts.setting import plain_decimal
from tbot_core.instance.findings import LEVELS, SettingsFinding, printable_value
from tbot_core.instance.loading import examine_settings
from tbot_core.instance.plugin_settings import off_by_filters
from tbot_core.instance.registry import CORE
from tbot_core.instance.required_plugins import missing_plugins
from tbot_core.instance.worst_day import planned_worst_day
from tbot_core.model.formatting import format_money, plural

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from decimal import Decimal
    from pathlib import Path

    from tbot_core.contracts.setting import DeclaredConfig
    from tbot_core.instance.findings import Mode
    from tbot_core.instance.loading import ExaminedSettings
    from tbot_core.instance.registry import EffectiveSetting
    from tbot_core.instance.settings import Settings
    from tbot_core.instance.sources import SettingsFiles

NOT_ACTED_ON = "accepted, no effect yet"


def settings_report(
    home: Path | str | None,
    *,
    mode: Mode,
    declared: Sequence[DeclaredConfig],
    installed: Collection[tuple[str, str]],
    sources: SettingsFiles | None = None,
) -> tuple[SettingsFinding, ...]:
    """Return every finding about the settings for a run in this mode with these plugins; failing ones first.

    `sources` are settings files that were read already.
    """
    return examined_report(examine_settings(home, mode=mode, declared=declared, sources=sources), mode, installed)


def examined_report(
    examined: ExaminedSettings, mode: Mode, installed: Collection[tuple[str, str]]
) -> tuple[SettingsFinding, ...]:
    """The findings of `settings_report` about settings that were examined for this mode."""
    found = [*examined.findings, *missing_plugins(examined.values, mode, installed), *_idle(examined.values)]
    if examined.settings is not None:
        found += _limits(examined.settings)
    return tuple(sorted(found, key=lambda finding: LEVELS.index(finding.level)))


def settings_without_effect(
    values: Mapping[str, EffectiveSetting], installed: Collection[tuple[str, str]]
) -> tuple[str, ...]:
    """The settings that are switched on without effect: not implemented, or the owner is not installed.

    Each with its value and location. Of an absent owner's settings only the switches count.
    """
    switched = {key: effective for key, effective in values.items() if effective.value is not False}
    idle = {key: one for key, one in switched.items() if _is_idle(one) or _is_orphan(one, installed)}
    return tuple(f"{key}={printable_value(one.text)} ({one.origin})" for key, one in idle.items())


def _is_idle(effective: EffectiveSetting) -> bool:
    return not effective.declaration.acted_on and effective.text != effective.declaration.default_text


def _is_orphan(effective: EffectiveSetting, installed: Collection[tuple[str, str]]) -> bool:
    kind, _, name = effective.owner.partition(" ")
    there = effective.owner == CORE or (kind, name) in installed
    return not there and effective.is_set and effective.value is True


def _idle(values: Mapping[str, EffectiveSetting]) -> Iterator[SettingsFinding]:
    # Settings without effect that a file changes.
    for key, effective in values.items():
        if _is_idle(effective):
            sentence = f"{key}={effective.text}: {NOT_ACTED_ON}."
            yield SettingsFinding(level="warn", message=sentence, keys=(key,), where=str(effective.origin))


def _limits(settings: Settings) -> Iterator[SettingsFinding]:
    planned = planned_worst_day(settings)
    count = len({effective.origin.file for effective in settings.values.values() if effective.is_set})
    strategies = ", ".join(settings.strategies) or "no strategy"
    given = sum(effective.is_set for effective in settings.values.values())
    where = f"{plural(given, 'setting')} of {plural(count, 'file')}"
    sentence = f"{where} set, all others use their defaults; {strategies} would run."
    yield SettingsFinding(level="ok", message=sentence)
    sentence = (
        f"Planned worst day: {format_share(planned.worst_day)} of equity, before slippage and fees; "
        f"largest gross exposure: {format_share(planned.gross)} of equity."
    )
    yield SettingsFinding(level="ok", message=sentence)
    if off := off_by_filters(settings.filters_off):
        yield SettingsFinding(level="ok", message=off, keys=("FILTERS",))
    if settings.mode == "live" and (cap := settings.risk.first_live_day_max_order_notional):
        sentence = f"On the first day that an account trades live, an entry is at most {format_money(cap)}."
        yield SettingsFinding(level="ok", message=sentence, keys=("FIRST_LIVE_DAY_MAX_ORDER_NOTIONAL",))
    for note in planned.notes:
        yield SettingsFinding(level="note", message=note, keys=(note.split(" ")[0],))


def format_share(fraction: Decimal) -> str:
    """Format a fraction of equity as a percentage."""
    return f"{plain_decimal(round(fraction * 100, 3))} %"
