"""The filter's comparisons, all before the open, and the facts that it fetches for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.contracts import Check
from tbot_core.marketdata.funds import flag_funds
from tbot_core.model.reasons import Reason
from tbot_filter_finnhub import Config, parse
from tbot_filter_finnhub.client import COMPANY_DAYS, EARNINGS_DAYS, CompanyReader

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from tbot_core.contracts.settings import StrategySettings
    from tbot_core.model.bars import Array, Flags
    from tbot_core.model.day_facts import DayFacts, MarketView
    from tbot_core.model.signals import Signals

LAST_DAY: Final = 2.0
"""So many weekdays before a report is the last day with entries."""


@attrs.frozen(kw_only=True, eq=False)
class FinnhubFilter:
    """The filter; `funds` have no fundamentals, so nothing is compared for them."""

    config: Config
    reader: CompanyReader
    funds: frozenset[str] = frozenset()

    @property
    def facts(self) -> Mapping[str, int]:
        """The facts that it fetches, with the days for which they hold; dates of reports with EARNINGS_BLACKOUT."""
        company = dict.fromkeys((parse.PE_RATIO, parse.DEBT_TO_EQUITY, parse.MARKET_CAP), COMPANY_DAYS)
        return company | ({parse.EARNINGS_DATE: EARNINGS_DAYS} if self.config.earnings_blackout else {})

    async def refresh(self, day: dt.date, symbols: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """Fetch the facts of these symbols; listed funds have none."""
        return await self.reader.refresh(day, [symbol for symbol in symbols if symbol not in self.funds])

    def screen(self, day: DayFacts, symbols: tuple[str, ...], _frame: StrategySettings) -> Sequence[Check]:
        """P/E and debt to equity against their limits; with EARNINGS_BLACKOUT the weekdays to the next report."""
        fund, config = flag_funds(day, symbols, self.funds), self.config
        checks = [
            _at_most(
                "P/E", day.fact(parse.PE_RATIO), config.max_pe_ratio, f"MAX_PE_RATIO={config.max_pe_ratio:g}", fund
            ),
            _at_most(
                "debt to equity",
                day.fact(parse.DEBT_TO_EQUITY),
                config.max_debt_equity,
                f"MAX_DEBT_EQUITY={config.max_debt_equity:g}",
                fund,
            ),
        ]
        return [*checks, _earnings(day, fund)] if config.earnings_blackout else checks

    def judge(self, _signals: Signals, _market: MarketView, _frame: StrategySettings) -> Sequence[Check]:
        """Nothing more at the signal."""
        return ()


def _at_most(name: str, value: Array, most: float, limit: str, fund: Flags) -> Check:
    return Check(
        name=name,
        value=value,
        high=most,
        below=Reason.SCREEN_DENIED,
        above=Reason.SCREEN_DENIED,
        unknown=Reason.SCREEN_UNKNOWN,
        words=f"{name} is above {limit}, or unknown.",
        funds=fund,
    )


def _earnings(day: DayFacts, fund: Flags) -> Check:
    # The weekdays from the session to the report: 0 on its day, 1 on the weekday before; without a bound once it has
    # passed.
    reports = day.fact(parse.EARNINGS_DATE)
    today = np.broadcast_to(day.date, reports.shape)
    known = ~np.isnat(today) & ~np.isnan(reports)
    weekdays = np.full(reports.shape, np.nan)
    weekdays[known] = np.busday_count(today[known], reports[known].astype("datetime64[D]"))
    passed = known & (reports < today.astype(np.float64))
    return Check(
        name="days to earnings",
        value=weekdays,
        low=np.where(passed, -np.inf, LAST_DAY),
        below=Reason.SCREEN_DENIED,
        above=Reason.SCREEN_DENIED,
        unknown=Reason.SCREEN_UNKNOWN,
        words="EARNINGS_BLACKOUT: a report is due today or on the next weekday, or its date is unknown.",
        funds=fund,
    )
