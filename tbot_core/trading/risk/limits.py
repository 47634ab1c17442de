"""The limits of a session as amounts, and what an entry is compared with: for one order and for a whole backtest."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from tbot_core.model.reasons import Reason
from tbot_core.model.types import ATOMS_PER_DOLLAR
from tbot_core.trading.risk.sizing import Ratio, fraction_of, share_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tbot_core.contracts.settings import RiskSettings

Used: TypeAlias = tuple[Reason, int, int]
"""A count against its limit: the code of a denial, the count, the limit."""

Amount: TypeAlias = tuple[Reason, int, int, int]
"""An amount against its limit, in atoms: the code of a denial, used before an entry, the entry's part, allowed."""


EntryAmounts: TypeAlias = tuple[int, int]
"""An entry's worst case, and the buying power that it uses, in atoms."""

UsedAmounts: TypeAlias = tuple[int, int, int, int, int]
"""What is used before an entry, in atoms: of its symbol here, and externally; the gross exposure; the buying power of
working entries, and the most that it may be."""


# Looked up once: a backtest compares these with every session, and a member of an enumeration is found slowly.
_MAX_TRADES, _MAX_POSITIONS, _ORDER_RATE = Reason.MAX_TRADES, Reason.MAX_OPEN_POSITIONS, Reason.ORDER_RATE
_TRADE, _ORDER, _SYMBOL = Reason.TRADE_NOTIONAL, Reason.ORDER_NOTIONAL, Reason.SYMBOL_EXPOSURE
_GROSS, _POWER = Reason.GROSS_EXPOSURE, Reason.BUYING_POWER


@attrs.frozen(kw_only=True)
class Limits:
    """The limits of one session and one risk state as amounts; 0 = off where the setting defines that.

    `day_trades`: the largest number in five sessions; None: no rule is in force.
    """

    equity: int
    budget: int
    per_trade: int
    per_symbol: int
    per_index: int
    gross: int
    leverage: int
    order_notional: int
    daily_loss: int
    window_loss: int
    weights: tuple[Decimal, ...]
    weight_ratios: tuple[Ratio, ...]
    max_trades: int
    max_positions: int
    max_orders_per_minute: int
    max_consecutive_losses: int
    price_band: Decimal
    day_trades: int | None = None
    first_live_day: int = 0

    @classmethod
    def of(cls, risk: RiskSettings, equity_atoms: int, *, defense: bool, first_live_day: bool = False) -> Limits:
        """The limits of a session with this opening equity; defense reduces budget, trades and positions.

        On the first live day of an account FIRST_LIVE_DAY_MAX_ORDER_NOTIONAL is one of them.
        """
        return LimitFractions.of(risk, defense=defense, first_live_day=first_live_day).limits(equity_atoms)

    @functools.cached_property
    def entry_budgets(self) -> tuple[int, ...]:
        """The largest notional of a strategy's first, second... entry: its weight of the budget, at most the cap."""
        cap = self.entry_cap[0]
        return tuple([min(share_of(self.budget, weight), cap) for weight in self.weight_ratios])

    def counts(self, sent: int, positions: int, rate: int) -> tuple[Used, Used, Used]:
        """The counts that an entry adds one to: the code of a denial, the count before it, and the limit.

        `sent`: the strategy's entries of the session; `positions`: positions and working entries; `rate`: entries sent
        in the minute.
        """
        return (
            (_MAX_TRADES, sent, self.max_trades),
            (_MAX_POSITIONS, positions, self.max_positions),
            (_ORDER_RATE, rate, self.max_orders_per_minute),
        )

    def amounts(self, entry: EntryAmounts, used: UsedAmounts, index: Iterable[Amount] = ()) -> tuple[Amount, ...]:
        """What an entry adds to, in the order of the checks; `index` are the amounts of its symbol's indices."""
        (worst, power), (held, external, gross, working, allowed) = entry, used
        return (
            (_TRADE, held, worst, self.per_trade),
            *(((_ORDER, 0, worst, self.order_notional),) if self.order_notional else ()),
            (_SYMBOL, held + external, worst, self.per_symbol),
            *index,
            (_GROSS, gross, worst, self.gross),
            (_POWER, working, power, allowed),
        )

    def buying_power(self, elsewhere: int, cost: int, granted: int | None) -> int:
        """The buying power for all entries here: what MAX_LEVERAGE leaves, at most what the broker grants.

        `elsewhere`: what all except the working entries here uses; `cost`: of the positions here.
        """
        allowed = self.leverage - elsewhere
        return allowed if granted is None else min(allowed, granted - cost)

    @property
    def entry_cap(self) -> tuple[int, str]:
        """The largest notional that an entry is sized to, and the setting that decides."""
        if 0 < self.first_live_day < self.per_trade:
            return self.first_live_day, "FIRST_LIVE_DAY_MAX_ORDER_NOTIONAL"
        return self.per_trade, "MAX_RISK_PER_TRADE"


@attrs.frozen(kw_only=True)
class LimitFractions:
    """What the limits of every session with these settings follow from: fractions of the equity, and the rest."""

    fractions: Mapping[str, Ratio]
    allocation: Ratio
    budget: Ratio
    window_loss: Ratio
    others: Mapping[str, Any]

    @classmethod
    def of(cls, risk: RiskSettings, *, defense: bool, first_live_day: bool = False) -> LimitFractions:
        """Of the settings, see `Limits.of`."""
        allocation = risk.defense_mode_total_allocation if defense else risk.total_allocation

        def count(limit: int) -> int:
            return int(limit * risk.defense_mode_trade_limit_pct // 100) if defense else limit

        fractions = {
            "per_trade": risk.max_risk_per_trade,
            "per_symbol": risk.symbol_share,
            "per_index": risk.max_index_exposure,
            "gross": risk.max_gross_exposure,
            "leverage": risk.max_leverage,
            "daily_loss": risk.daily_loss_limit,
        }
        others = {
            "order_notional": fraction_of(ATOMS_PER_DOLLAR, risk.max_order_notional),
            "weights": risk.weights,
            "weight_ratios": tuple(weight.as_integer_ratio() for weight in risk.weights),
            "max_trades": count(risk.max_trades),
            "max_positions": count(risk.max_open_positions),
            "max_orders_per_minute": risk.max_orders_per_minute,
            "max_consecutive_losses": risk.max_consecutive_losses,
            "price_band": risk.price_band_pct,
            "first_live_day": fraction_of(ATOMS_PER_DOLLAR, risk.first_live_day_max_order_notional * first_live_day),
        }
        return cls(
            fractions={name: fraction.as_integer_ratio() for name, fraction in fractions.items()},
            allocation=risk.total_allocation.as_integer_ratio(),
            budget=min(allocation, risk.total_allocation).as_integer_ratio(),
            window_loss=risk.window_loss_limit.as_integer_ratio(),
            others=others,
        )

    def limits(self, equity_atoms: int) -> Limits:
        """The limits of a session with this opening equity."""
        return Limits(
            equity=equity_atoms,
            budget=share_of(equity_atoms, self.budget),
            window_loss=share_of(share_of(equity_atoms, self.allocation), self.window_loss),
            **dict[str, Any]({name: share_of(equity_atoms, ratio) for name, ratio in self.fractions.items()}),
            **self.others,
        )


def symbol_denial(*, busy: bool, traded: bool) -> Reason | None:
    """Why a symbol takes no entry: it has a position or a working order, or it was traded before; None if it may."""
    if busy:
        return Reason.ALREADY_HELD
    return Reason.SYMBOL_TRADED if traded else None


def first_over(amounts: Iterable[Amount]) -> Amount | None:
    """The first amount whose limit an entry would exceed; None if it exceeds none."""
    for one in amounts:
        if one[1] + one[2] > one[3]:
            return one
    return None
