"""The sum of the limits: planned worst day, largest gross exposure, and limits that cannot bind."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.instance.settings import Settings

_BEYOND: Final = "only gaps and slippage can reach it"


@attrs.frozen(kw_only=True)
class WorstDay:
    """Upper bounds as fractions of session-start equity: `worst_day` is the loss when every trade ends at its stop.

    `notes` are sentences about limits that cannot bind. Gaps beyond a stop are not included.
    """

    worst_day: Decimal
    gross: Decimal
    notes: tuple[str, ...]


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
