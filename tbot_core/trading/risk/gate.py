"""The risk engine: checks every limit of a session on the worst case before an entry is recorded.

Exposure is the cost of positions, plus working entries filled at their worst price, plus the worst case of external
holdings and orders. Amounts are integers of 1e-10 USD; limits refer to the session's opening equity. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, TypeAlias

import attrs

from tbot_core.contracts.settings import RiskSettings
from tbot_core.errors import PluginError
from tbot_core.model.reasons import Reason
from tbot_core.model.types import RiskState, Side, SignalId, dollars_of
from tbot_core.trading.price_grid import beyond_band
from tbot_core.trading.risk.exposure import (
    ExposureBook,
    RiskChange,
    external_in,
    impose_defense,
    index_factor,
    is_below_minimum,
    is_tradable,
    needs_defense,
    net_of,
    session_pnl,
    used_buying_power,
    working_buying_power,
)
from tbot_core.trading.risk.holds import WITHOUT_RULES
from tbot_core.trading.risk.limits import Amount, Used, first_over, symbol_denial
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from tbot_core.contracts import RiskCheck
    from tbot_core.model.types import Instrument, Order
    from tbot_core.trading.risk.limits import Limits
    from tbot_core.trading.risk.sizing import SizedEntry


@attrs.frozen(kw_only=True)
class Denial:
    """A denial by the risk engine with the compared figures, in dollars or as counts, or with a plugin's text."""

    reason: Reason
    value: object = None
    limit: object = None
    detail: str = ""


@attrs.frozen(kw_only=True)
class RiskEngine:
    """The risk checks; `indices` maps each index to its instruments' signed leverage.

    `shortable`: the broker allows short sales of every symbol of which it does not report otherwise.
    """

    risk: RiskSettings
    once_a_day: bool
    shortable: bool = False
    indices: Mapping[str, Mapping[str, Decimal]] = attrs.field(factory=dict)

    def before_sizing(
        self, exposure: ExposureBook, limits: Limits, signal: SignalId, instrument: Instrument
    ) -> Denial | None:
        """Check risk state, latches, positions and counts.

        The signal's symbol must be free, and what is traded in its place.
        """
        denial = _first(self._entry_blocks(exposure, limits, signal, instrument.symbol))
        if denial is not None:
            return denial
        traded = self.once_a_day and signal.symbol in exposure.traded
        busy = exposure.is_busy(signal.symbol) or (instrument.is_proxy and exposure.is_barred(instrument))
        found = symbol_denial(busy=busy, traded=traded)
        if found is not None:
            return Denial(reason=found)
        for reason, used, most in self.counts(exposure, limits, signal):
            if used >= most:
                return Denial(reason=reason, value=used, limit=most)
        return _day_trade_denial(exposure, limits)

    def counts(self, exposure: ExposureBook, limits: Limits, signal: SignalId) -> tuple[Used, ...]:
        """The counts that an entry adds one to: the code of a denial, the count before it, and the limit."""
        rate = exposure.sent_at[1] if exposure.sent_at[0] == signal.minute else 0
        return limits.counts(exposure.sent.get(signal.strategy, 0), exposure.position_count, rate)

    def before_top_up(
        self, exposure: ExposureBook, limits: Limits, signal: SignalId, instrument: Instrument
    ) -> Denial | None:
        """Check risk state, latches and rate: a top-up opens no position and does not count in MAX_TRADES."""
        *_, (reason, rate, most) = self.counts(exposure, limits, signal)
        checks = (
            *self._entry_blocks(exposure, limits, signal, instrument.symbol),
            (exposure.current_state >= RiskState.DEFENSE, Reason.DEFENSE, None, None),
            (rate >= most, reason, rate, most),
        )
        return _first(checks) or _day_trade_denial(exposure, limits)

    def _entry_blocks(
        self, exposure: ExposureBook, limits: Limits, signal: SignalId, symbol: str
    ) -> tuple[_Check, ...]:
        # The checks of both entries and top-ups; `symbol` is what is traded.
        state = exposure.current_state
        return (
            (self.risk.disable_all_trades, Reason.TRADING_DISABLED, None, None),
            (state is RiskState.HALTED, Reason.HALTED, None, None),
            (exposure.daily_loss, Reason.DAILY_LOSS, None, None),
            (not exposure.armed, Reason.NOT_ARMED, None, None),
            (state is RiskState.EXIT_ONLY, Reason.EXIT_ONLY, None, None),
            (
                bool(limits.max_consecutive_losses) and exposure.most_losses_in_row >= limits.max_consecutive_losses,
                Reason.CONSECUTIVE_LOSSES,
                exposure.most_losses_in_row,
                limits.max_consecutive_losses,
            ),
            (exposure.equity_jump, Reason.EQUITY_JUMP, None, None),
            (signal.strategy in exposure.window_loss, Reason.WINDOW_LOSS, None, None),
            (
                exposure.is_frozen(symbol) or not is_tradable(exposure, symbol),
                Reason.INSTRUMENT_FROZEN,
                None,
                None,
            ),
            (exposure.holds.has(symbol, *WITHOUT_RULES), Reason.RULES_UNKNOWN, None, None),
        )

    def after_sizing(self, exposure: ExposureBook, limits: Limits, side: Side, planned: SizedEntry) -> Denial | None:
        """Check the worst case of a sized entry: alone, with its symbol, its index, and all exposure.

        `side` is that of the position. A top-up and the position that it adds to count as one trade.
        """
        symbol = planned.instrument.symbol
        if not planned.units or is_below_minimum(exposure, symbol, planned.units, planned.worst_atoms):
            return Denial(reason=Reason.QUANTITY_TOO_SMALL)
        if beyond_band(planned.distance, planned.last_price, limits.price_band):
            away = Decimal(planned.distance) / max(1, planned.last_price)
            return Denial(reason=Reason.PRICE_BAND, value=round(away, 6), limit=limits.price_band)
        if side is Side.SHORT and (reason := self.short_denial(exposure, symbol)) is not None:
            return Denial(reason=reason)
        over = first_over(self.amounts(exposure, limits, side, planned))
        if over is None:
            return None
        reason, used, order, allowed = over
        return Denial(reason=reason, value=dollars_of(used + order), limit=dollars_of(allowed))

    def amounts(self, exposure: ExposureBook, limits: Limits, side: Side, planned: SizedEntry) -> list[Amount]:
        """The amounts that a sized entry adds to, in atoms: code of a denial, used before it, its part, allowed.

        A limit that is off is left out.
        """
        worst, instrument = planned.worst_atoms, planned.instrument
        held = sum([position.cost_atoms for position in exposure.portfolio.in_symbol(instrument.symbol)])
        power, working = planned.power_atoms(side), working_buying_power(exposure)
        symbol = held, external_in(exposure, instrument.symbol)
        used = (*symbol, exposure.gross(), working, available_buying_power(exposure, limits))
        index = self._index_amounts(exposure, limits, instrument, side * worst)
        available = exposure.funds.available_atoms(exposure.portfolio)
        cash = [] if available is None else [(Reason.UNSETTLED_CASH, working, power, available)]
        return [*limits.amounts((worst, power), used, index), *cash]

    def short_denial(self, exposure: ExposureBook, symbol: str) -> Reason | None:
        """Why a symbol cannot be sold short at this broker, None if it can; unknown means deny."""
        if not exposure.funds.margin:
            return Reason.CASH_LONG_ONLY
        if exposure.funds.shorting_allowed is False:
            return Reason.SHORTING_NOT_ALLOWED
        rules = exposure.instrument_rules.get(symbol)
        reported = None if rules is None else rules.may_be_shorted
        return None if (self.shortable if reported is None else reported) else Reason.NOT_SHORTABLE

    def _index_amounts(
        self, exposure: ExposureBook, limits: Limits, instrument: Instrument, signed: int
    ) -> list[Amount]:
        found = []
        for members in self.indices.values():
            if (factor := index_factor(instrument, members)) is not None:
                atoms = int(signed * factor)
                net = net_of(exposure, members, 1 if atoms > 0 else -1)
                found.append((Reason.INDEX_EXPOSURE, net, abs(atoms), limits.per_index))
        return found


_Check: TypeAlias = tuple[bool, Reason, object, object]


def _first(checks: Iterable[_Check]) -> Denial | None:
    # The first check that denies.
    for denied, reason, value, limit in checks:
        if denied:
            return Denial(reason=reason, value=value, limit=limit)
    return None


def available_buying_power(exposure: ExposureBook, limits: Limits) -> int:
    """The buying power for all entries here: MAX_LEVERAGE over all brokers, at most this broker's limit."""
    elsewhere = used_buying_power(exposure) - working_buying_power(exposure)
    return limits.buying_power(elsewhere, exposure.portfolio.cost_atoms, exposure.funds.power_limit_atoms)


def day_trades(exposure: ExposureBook) -> int | None:
    """The day trades of five sessions if all positions and working entries are closed today; None: unknown."""
    portfolio, before = exposure.portfolio, exposure.funds.day_trades
    ours = portfolio.count_opened_today((*portfolio.closed, *portfolio.positions.values()))
    ours += len(exposure.new_entries) + exposure.topped_up
    return None if before is None else before + ours


def _day_trade_denial(exposure: ExposureBook, limits: Limits) -> Denial | None:
    # An entry is closed on the same day, so that it must leave room for one more day trade.
    if limits.day_trades is None:
        return None
    after = day_trades(exposure)
    if after is not None and after < limits.day_trades:
        return None
    return Denial(reason=Reason.DAY_TRADES, value=after, limit=limits.day_trades)


def plugin_denial(checks: Sequence[tuple[str, RiskCheck]], order: Order) -> Denial | None:
    """The first denial of the plugins' risk checks; a check that raises PluginError denies the order."""
    for name, check in checks:
        try:
            words = check(order)
        except PluginError as fault:
            return Denial(reason=Reason.RISK_CHECK_FAILED, detail=f"{name}: {fault.message}")
        if words is not None:
            return Denial(reason=Reason.RISK_CHECK_DENIED, detail=f"{name}: {words}")
    return None


def loss_limit_breached(exposure: ExposureBook, limits: Limits) -> bool:
    """Whether the marks exceed a loss limit, or half of the daily one, that is not latched yet."""
    windows, level = session_pnl(exposure), loss_level(exposure, limits)
    return (level is not None and sum(windows.values()) <= level) or bool(_lost_windows(exposure, limits, windows))


def loss_level(exposure: ExposureBook, limits: Limits) -> int | None:
    """The session's profit in atoms at which a loss limit has its next effect; None if it had its last one."""
    if needs_defense(exposure):
        return -limits.daily_loss // 2
    return None if exposure.daily_loss else -limits.daily_loss


def review_loss_limits(exposure: ExposureBook, limits: Limits) -> list[RiskChange]:
    """Compare the profit of session and windows with their limits; sets latches, which are never cleared.

    Half of the daily limit switches defense on at all brokers to the session's end; the whole sets the daily loss
    latch. The returned changes begin with those since the last review.
    """
    changes, exposure.pending_changes = exposure.pending_changes, []
    windows = session_pnl(exposure)
    pnl = sum(windows.values())
    if not exposure.daily_loss and pnl <= -limits.daily_loss:
        exposure.latch("daily_loss")
        changes.append(_change("daily loss latch", "DAILY_LOSS_LIMIT reached", pnl, -limits.daily_loss))
    if 2 * pnl <= -limits.daily_loss and needs_defense(exposure):
        impose_defense(exposure)
        changes.append(_change(RiskState.DEFENSE.word, StateCause.HALF_LOSS.value, pnl, -limits.daily_loss // 2))
    for strategy, lost in sorted(_lost_windows(exposure, limits, windows).items()):
        exposure.latch("window_loss", strategy)
        changes.append(
            _change(f"window loss latch of {strategy}", "WINDOW_LOSS_LIMIT reached", lost, -limits.window_loss)
        )
    return [*changes, *count_losses(exposure, limits)]


def _lost_windows(exposure: ExposureBook, limits: Limits, windows: Mapping[str, int]) -> dict[str, int]:
    # The profit of each window that exceeds its loss limit and has no latch yet.
    lost = {one: windows.get(one, 0) for one in exposure.sent if windows.get(one, 0) <= -limits.window_loss}
    return {one: pnl for one, pnl in lost.items() if one not in exposure.window_loss}


def count_losses(exposure: ExposureBook, limits: Limits) -> list[RiskChange]:
    """Compare consecutive losing trades with their limit, which needs no price; sets the latch."""
    if exposure.losing_run or not 0 < limits.max_consecutive_losses <= exposure.most_losses_in_row:
        return []
    exposure.latch("losing_run")
    counts = Decimal(exposure.most_losses_in_row), Decimal(limits.max_consecutive_losses)
    cause = "MAX_CONSECUTIVE_LOSSES reached"
    return [RiskChange(what="losing run latch", cause=cause, value=counts[0], limit=counts[1])]


def _change(what: str, cause: str, value: int, limit: int) -> RiskChange:
    return RiskChange(what=what, cause=cause, value=dollars_of(value), limit=dollars_of(limit))
