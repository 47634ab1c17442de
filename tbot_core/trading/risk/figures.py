"""The figures of a decision for its reader: how the entry was sized, and what each limit compared."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from tbot_core.model.reasons import Reason
from tbot_core.model.types import OrderType, dollars_of
from tbot_core.trading.risk.exposure import window_pnl
from tbot_core.trading.risk.gate import day_trades

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.model.types import Side, SignalId
    from tbot_core.trading.risk.exposure import ExposureBook
    from tbot_core.trading.risk.gate import RiskEngine
    from tbot_core.trading.risk.limits import Limits
    from tbot_core.trading.risk.sizing import SizedEntry


@attrs.frozen(kw_only=True)
class LimitFigures:
    """A limit at a decision: what was used before the order, what the order adds, and what is allowed.

    Dollars, counts or fractions; `reason` is the code of a denial by this limit.
    """

    reason: Reason
    used: Decimal
    order: Decimal
    allowed: Decimal


@attrs.frozen(kw_only=True)
class SizingFigures:
    """How an entry was sized: from the equity at the open to its quantity, in dollars and shares.

    `allocation` is the setting that gives the window its `window` budget; `weight` of it (None: none is left, or
    FIXED_QUANTITY is set) is the `share` of this order, and `cap` the most for one trade by the setting `capped_by`.
    `bound` is the setting that decided, or CONFIRMED. `reference` is the price before the limit's distance, `price` the
    worst one, `step` the quantity's step.
    """

    equity: Decimal
    allocation: str
    window: Decimal
    weight: Decimal | None
    share: Decimal
    cap: Decimal
    capped_by: str
    bound: str
    type: OrderType
    reference: Decimal
    price: Decimal
    step: Decimal
    quantity: Decimal


def limit_figures(
    gate: RiskEngine, book: tuple[ExposureBook, Limits], signal: SignalId, side: Side, sized: SizedEntry | None
) -> tuple[LimitFigures, ...]:
    """The limits that apply to an entry, in the order of their checks; `sized` is None for one that was not sized.

    `side` is that of the position.
    """
    exposure, limits = book
    found = [*_loss_figures(exposure, limits, signal), *_count_figures(gate, exposure, limits, signal)]
    if sized is not None and sized.units:
        away = Decimal(sized.distance) / max(1, sized.last_price)
        found.append(_figures(Reason.PRICE_BAND, Decimal(0), round(away, 6), limits.price_band))
        for reason, used, order, allowed in gate.amounts(exposure, limits, side, sized):
            found.append(_figures(reason, dollars_of(used), dollars_of(order), dollars_of(allowed)))
    return tuple(found)


def _loss_figures(exposure: ExposureBook, limits: Limits, signal: SignalId) -> Iterator[LimitFigures]:
    # What the session and the window have lost: an entry adds nothing to it.
    losses = (
        (Reason.DAILY_LOSS, exposure.pnl_atoms, limits.daily_loss),
        (Reason.WINDOW_LOSS, window_pnl(exposure, signal.strategy), limits.window_loss),
    )
    for reason, pnl, allowed in losses:
        yield _figures(reason, dollars_of(max(0, -pnl)), Decimal(0), dollars_of(allowed))
    if limits.max_consecutive_losses:
        row = Decimal(exposure.most_losses_in_row)
        yield _figures(Reason.CONSECUTIVE_LOSSES, row, Decimal(0), Decimal(limits.max_consecutive_losses))


def _count_figures(
    gate: RiskEngine, exposure: ExposureBook, limits: Limits, signal: SignalId
) -> Iterator[LimitFigures]:
    for reason, used, allowed in gate.counts(exposure, limits, signal):
        yield _figures(reason, Decimal(used), Decimal(1), Decimal(allowed))
    known = day_trades(exposure)
    if limits.day_trades is not None and known is not None:
        yield _figures(Reason.DAY_TRADES, Decimal(known), Decimal(1), Decimal(limits.day_trades))


def _figures(reason: Reason, used: Decimal, order: Decimal, allowed: Decimal) -> LimitFigures:
    return LimitFigures(reason=reason, used=used, order=order, allowed=allowed)
