"""The filter's settings and its pure comparisons."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import attrs
import numpy as np

from tbot_core.contracts import Check
from tbot_core.contracts.setting import Permits, choice, fraction, integer, number, optional, setting
from tbot_core.errors import SettingsError
from tbot_core.marketdata.funds import flag_funds
from tbot_core.model.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.contracts.settings import StrategySettings
    from tbot_core.model.bars import Array, Flags, Index, Quotes
    from tbot_core.model.day_facts import DayFacts, MarketView
    from tbot_core.model.signals import Signals

FRESH_S = 10.0

# A ratio of prices is compared on 12 decimals, so that exactly 3 % is not more than 3 %.
_DECIMALS = 12


@attrs.frozen(kw_only=True)
class Config:
    """The filter's limits; prices in USD, volumes in shares."""

    min_price: float = setting(
        "MIN_PRICE",
        number(least=0, most=1_000_000),
        default="1",
        doc="Smallest close of a signal bar in USD.",
        permits=Permits("smaller"),
    )
    max_price: float | None = setting(
        "MAX_PRICE",
        optional(number(least=0, most=1_000_000), zero=True, absent="0 or empty for none"),
        default="",
        doc="Largest close of a signal bar in USD; 0 or empty for no limit.",
        permits=Permits("larger", ("",)),
    )
    min_volume: int = setting(
        "MIN_VOLUME_THRESHOLD",
        integer(least=0, most=10**12),
        default="0",
        doc="Smallest mean volume, in shares, of up to 20 previous sessions (0 = off).",
        permits=Permits("smaller"),
    )
    min_relative_volume: float = setting(
        "MIN_REL_VOLUME",
        number(least=0, most=1000),
        default="0",
        doc="Smallest session volume as a multiple of the mean of the same minutes of previous sessions (0 = off).",
        permits=Permits("smaller"),
    )
    gap_reference: str = setting(
        "GAP_REFERENCE",
        choice("current", "previous_close"),
        default="current",
        doc="Which move MAX_GAP_PCT limits: from today's open to the last price (current), or from the previous close "
        "to today's open (previous_close).",
    )
    max_spread_pct: Decimal = setting(
        "MAX_SPREAD_PCT",
        fraction(),
        default="0.003",
        doc="Largest spread at entry, as a fraction of the mid price.",
    )

    def __attrs_post_init__(self) -> None:
        """Raises SettingsError if MIN_PRICE is above MAX_PRICE."""
        if self.max_price is not None and self.min_price > self.max_price:
            raise SettingsError(
                f"MIN_PRICE={self.min_price:g} is above MAX_PRICE={self.max_price:g}.",
                "Raise MAX_PRICE, lower MIN_PRICE, or leave MAX_PRICE empty.",
            )


@attrs.frozen(kw_only=True)
class PriceVolume:
    """The filter; `funds` are the symbols exempt from limits of market capitalisation."""

    config: Config
    funds: frozenset[str] = frozenset()

    @property
    def needs(self) -> frozenset[str]:
        """The optional daily facts that it uses."""
        return frozenset({"typical_volume"} if self.config.min_relative_volume else ())

    def screen(self, day: DayFacts, symbols: tuple[str, ...], frame: StrategySettings) -> Sequence[Check]:
        """Mean volume and market capitalisation, each if it has a limit; the likely price is the close before.

        Where prices are adjusted and have a limit, the symbol's price is unknown.
        """
        checks = [self._price(self._raw(day.previous_close, day.adjusted), likely=True)]
        if day.adjusted is not None and self._limits_price:
            checks.append(
                Check(
                    name="raw price",
                    value=np.where(day.adjusted, np.nan, 0.0),
                    below=Reason.PRICE_UNKNOWN,
                    above=Reason.PRICE_UNKNOWN,
                    unknown=Reason.PRICE_UNKNOWN,
                )
            )
        if self.config.min_volume:
            checks.append(
                Check(
                    name="average volume",
                    value=day.average_volume,
                    low=float(self.config.min_volume),
                    below=Reason.VOLUME_LOW,
                    above=Reason.VOLUME_LOW,
                    unknown=Reason.VOLUME_UNKNOWN,
                )
            )
        if frame.min_market_cap or frame.max_market_cap:
            checks.append(self._market_cap(day, symbols, frame))
        return checks

    def judge(self, signals: Signals, market: MarketView, frame: StrategySettings) -> Sequence[Check]:
        """Price and gap; spread if the source has quotes; relative volume if it has a limit."""
        adjusted = None if market.day.adjusted is None else market.day.adjusted[signals.cells]
        checks = [self._price(self._raw(signals.price, adjusted)), self._gap(signals, market, frame)]
        if market.quotes is not None:
            checks += self._spread(signals.cells[-1], market.quotes)
        if self.config.min_relative_volume:
            checks.append(self._relative_volume(signals, market))
        return checks

    @property
    def _limits_price(self) -> bool:
        return bool(self.config.min_price or self.config.max_price)

    def _raw(self, price: Array, adjusted: Flags | None) -> Array:
        # The prices, unknown where they are adjusted; as they are if there is no limit to compare them with.
        return price if adjusted is None or not self._limits_price else np.where(adjusted, np.nan, price)

    def _price(self, price: Array, *, likely: bool = False) -> Check:
        return Check(
            name="price",
            value=price,
            low=self.config.min_price,
            high=self.config.max_price,
            below=Reason.PRICE_LOW,
            above=Reason.PRICE_HIGH,
            unknown=Reason.FILTER_UNKNOWN,
            likely=likely,
        )

    def _market_cap(self, day: DayFacts, symbols: tuple[str, ...], frame: StrategySettings) -> Check:
        return Check(
            name="market capitalisation",
            value=day.market_cap,
            low=float(frame.min_market_cap) if frame.min_market_cap else None,
            high=float(frame.max_market_cap) if frame.max_market_cap else None,
            below=Reason.MARKET_CAP_LOW,
            above=Reason.MARKET_CAP_HIGH,
            unknown=Reason.MARKET_CAP_UNKNOWN,
            funds=flag_funds(day, symbols, self.funds),
        )

    def _gap(self, signals: Signals, market: MarketView, frame: StrategySettings) -> Check:
        opened = market.bars.first_open[signals.cells]
        if self.config.gap_reference == "current":
            ratio = signals.price / opened
        else:
            ratio = opened / market.day.previous_close[signals.cells]
        return Check(
            name="gap",
            value=_compared(np.abs(ratio - 1)),
            high=float(frame.max_gap_pct),
            below=Reason.GAP_LARGE,
            above=Reason.GAP_LARGE,
            unknown=Reason.GAP_UNKNOWN,
        )

    def _spread(self, rows: Index, quotes: Quotes) -> Sequence[Check]:
        bid, ask = quotes.bid[rows], quotes.ask[rows]
        two_sided = (bid > 0) & (ask >= bid)
        width = np.divide(ask - bid, (ask + bid) / 2, out=np.full(len(rows), np.nan), where=two_sided)
        age = Check(
            name="quote age",
            value=np.where(two_sided, quotes.age_s[rows], np.nan),
            high=FRESH_S,
            below=Reason.NO_QUOTE,
            above=Reason.NO_QUOTE,
            unknown=Reason.NO_QUOTE,
            required=True,
        )
        spread = Check(
            name="spread",
            value=_compared(width),
            high=float(self.config.max_spread_pct),
            below=Reason.SPREAD_WIDE,
            above=Reason.SPREAD_WIDE,
            unknown=Reason.NO_QUOTE,
            required=True,
        )
        return (age, spread)

    def _relative_volume(self, signals: Signals, market: MarketView) -> Check:
        cells = (*signals.cells, signals.minute)
        value = np.full(len(signals), np.nan)
        if market.day.typical_volume is not None and len(signals):
            so_far = market.bars.so_far("volume", 0, int(signals.minute.max()) + 1)[cells]
            typical = market.day.typical_volume[cells]
            np.divide(so_far, typical, out=value, where=typical > 0)
        return Check(
            name="relative volume",
            value=_compared(value),
            low=self.config.min_relative_volume,
            below=Reason.REL_VOLUME_LOW,
            above=Reason.REL_VOLUME_LOW,
            unknown=Reason.REL_VOLUME_UNKNOWN,
        )


def _compared(ratio: Array) -> Array:
    rounded: Array = np.round(ratio, _DECIMALS)
    return rounded
