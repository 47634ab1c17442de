"""The exchange's calendar as the settings define it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.model.calendar import ExchangeCalendar

if TYPE_CHECKING:
    from tbot_core.contracts.settings.trading import TradingSettings


def calendar_of(trading: TradingSettings) -> ExchangeCalendar:
    """The exchange calendar, reduced by TRADING_DAYS and CALENDAR_OVERRIDES."""
    return ExchangeCalendar(weekdays=frozenset(trading.trading_days), overrides=dict(trading.calendar_overrides))
