"""The content of `tbot config check`: every finding about an instance's settings, and the sum of its limits.

The sum is the planned worst day, the largest gross exposure, and the limits that cannot bind.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts.setting import plain_decimal
from tbot_core.instance.cross_checks import missing_plugins
from tbot_core.instance.findings import LEVELS, SettingsFinding, printable_value
from tbot_core.instance.plugin_settings import off_by_filters
from tbot_core.instance.registry import CORE
from tbot_core.model.formatting import format_money, plural

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from tbot_core.instance.findings import Mode
    from tbot_core.instance.loading import ExaminedSettings
    from tbot_core.instance.registry import EffectiveSetting
    from tbot_core.instance.settings import Settings

NOT_ACTED_ON = "accepted, no effect yet"
_BEYOND: Final = "only gaps and slippage can reach it"


@attrs.frozen(kw_only=True)
class WorstDay:
    """Upper bounds as fractions of session-start equity: `worst_day` is the loss when every trade ends at its stop.

    `notes` are sentences about limits that cannot bind. Gaps beyond a stop are not included.
    """

    worst_day: Decimal
    gross: Decimal
    notes: tuple[str, ...]


def examined_report(
    examined: ExaminedSettings, mode: Mode, installed: Collection[tuple[str, str]]
) -> tuple[SettingsFinding, ...]:
    """Return every finding about examined settings for a run in this mode with these plugins; failing ones first."""
    findings = [*examined.findings, *missing_plugins(examined.values, mode, installed), *_idle(examined.values)]
    if examined.settings is not None:
        findings += _limits(examined.settings)
    return tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level)))


def settings_without_effect(
    values: Mapping[str, EffectiveSetting], installed: Collection[tuple[str, str]]
) -> tuple[str, ...]:
    """The settings that are switched on without effect: not implemented, or the owner is not installed.

    Each with its value and location. Of an absent owner's settings only the switches count.
    """
    switched = {key: effective for key, effective in values.items() if effective.value is not False}
    idle = {key: one for key, one in switched.items() if _is_idle(one) or _is_orphan(one, installed)}
    return tuple(f"{key}={printable_value(one.text)} ({one.origin})" for key, one in idle.items())


def format_share(fraction: Decimal) -> str:
    """Format a fraction of equity as a percentage."""
    return f"{plain_decimal(round(fraction * 100, 3))} %"


def planned_worst_day(settings: Settings) -> WorstDay:
    """Compute the bounds of one session under these settings, before slippage and fees."""
    risk, windows = settings.risk, len(settings.strategies)
    trades = _trades(settings)
    everything = sorted(trades * windows, reverse=True)
    at_once = sum(everything[: risk.max_open_positions], Decimal(0))
    gross = min(at_once, risk.max_gross_exposure, risk.max_leverage)
    stops = sum(everything, Decimal(0)) * _stop(settings)
    return WorstDay(
        worst_day=min(stops, risk.daily_loss_limit),
        gross=gross,
        notes=tuple(_notes(settings, everything, at_once, stops)),
    )


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


def _trades(settings: Settings) -> list[Decimal]:
    # The largest notional of each order of one window; for a fixed quantity only the cap is known.
    risk, cap = settings.risk, settings.risk.symbol_share
    if settings.simulation.fixed_quantity:
        return [min(risk.max_risk_per_trade, cap)] * risk.max_trades
    return [min(share, cap) for share in risk.order_shares]


def _stop(settings: Settings) -> Decimal:
    # The stop's distance as a fraction; with STOP_ATR it is unknown before the open, so at most the whole price.
    return Decimal(1) if settings.exits.stop_atr else settings.exits.stop_loss_pct


def _notes(settings: Settings, trades: list[Decimal], at_once: Decimal, stops: Decimal) -> Iterator[str]:
    risk = settings.risk
    largest = max(trades, default=Decimal(0))
    window_stops = sum(_trades(settings), Decimal(0)) * _stop(settings)
    for name, binds, reason in (
        (
            "DAILY_LOSS_LIMIT",
            stops >= risk.daily_loss_limit,
            f"all trades together lose less at their stops; {_BEYOND}",
        ),
        (
            "WINDOW_LOSS_LIMIT",
            window_stops >= risk.window_loss_limit * risk.total_allocation,
            f"a window's trades together lose less at their stops; {_BEYOND}",
        ),
        ("MAX_GROSS_EXPOSURE", at_once >= risk.max_gross_exposure, "the open positions together are smaller"),
        ("MAX_LEVERAGE", at_once >= risk.max_leverage, "the open positions together are smaller"),
        ("MAX_OPEN_POSITIONS", len(trades) > risk.max_open_positions, "a session has no more trades"),
        ("MAX_RISK_PER_TRADE", largest >= risk.max_risk_per_trade, "no trade's budget reaches it"),
    ):
        if not binds:
            yield f"{name} is not reached with these settings: {reason}."
