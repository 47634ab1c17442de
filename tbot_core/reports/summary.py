"""The result of a run as one document: comparable between replay, demo and backtest."""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Mapping, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final

import attrs

from tbot_core.errors import AccessError
from tbot_core.model.formatting import money_text, plural, round_to_cents
from tbot_core.model.types import Trade
from tbot_core.reports.advice import WHY, DenialAdvice
from tbot_core.reports.reliability import Reliability, ReliabilityReport, reliability_document, reliability_report

SIMULATED_PRICES: Final = "All or some prices are simulated: these figures say nothing about a real market."
"""What stands beside the figures of a run on simulated prices."""

_ROUNDED: Final = "Amounts are rounded to the cent: rows may add up to some cents more or less than their total."

_MARKET: Final = frozenset({"paper", "live"})
"""The modes that trade at a broker; trades of the other modes have only the agreed keys."""


@attrs.frozen(kw_only=True)
class RunSummary:
    """A run's result; money in dollars, `denials` by reason code. `notes` are caveats for readers.

    `simulated`: some of its prices come from a simulation. `brokers` are those of all sessions, the primary first;
    `strategies` those that the settings run, `variables` the names of all settings (None: unknown).
    `without_candidates`: by strategy the reasons that denied most before the bell in sessions where every symbol was
    denied, and in how many. `valued`: the last session was interrupted with `held` positions, which count at their last
    `marks` or `fills`; "" if it was closed. A backtest has `reliability`, and `walked`: how many sessions were walked
    minute by minute, by cause; the others were decided by their signals alone. `unwritten`: why its `report` could not
    be written.
    """

    mode: str
    sessions: int
    symbols: int
    equity_start: Decimal
    equity_end: Decimal
    trades: Sequence[Trade]
    denials: Mapping[str, int]
    settings_hash: str
    data_hash: str
    simulated: bool = False
    notes: Sequence[str] = ()
    report: str = ""
    unwritten: AccessError | None = None
    brokers: Sequence[str] = ()
    strategies: Sequence[str] = ()
    variables: Container[str] | None = None
    without_candidates: Mapping[str, Mapping[str, int]] = attrs.field(factory=dict)
    held: int = 0
    valued: str = ""
    reliability: Reliability | None = None
    walked: Mapping[str, int] = attrs.field(factory=dict)

    @property
    def pnl(self) -> Decimal:
        """Profit after fees."""
        return self.equity_end - self.equity_start

    @property
    def by_strategy(self) -> dict[str, tuple[int, int, Decimal]]:
        """Trades, those shown with a profit, and the profit of each strategy, by name."""
        return self._split(attrgetter("strategy"))

    @property
    def by_broker(self) -> dict[str, tuple[int, int, Decimal]]:
        """The same for each broker; empty with only one."""
        return self._split(attrgetter("broker")) if len(self.brokers) > 1 else {}

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """The count of each denial reason, most frequent first."""
        return sorted(self.denials.items(), key=lambda pair: (-pair[1], pair[0]))

    @property
    def caveats(self) -> list[str]:
        """The notes, sentences on strategies without candidates or trades, and one if rounded rows miss the total."""
        rounded = [_ROUNDED] if self._is_rounded else []
        without = self._advice.on_candidates(self.without_candidates, self.sessions)
        return [*self.notes, *without, *self._on_idle, *rounded]

    @property
    def _on_idle(self) -> list[str]:
        # Not of a day of paper or live trading, which often ends without a trade of some strategy.
        traded = {trade.strategy for trade in self.trades}
        idle = [name for name in self.strategies if name not in traded]
        return self._advice.on_idle(idle, self.sessions) if traded and self.mode not in _MARKET else []

    @property
    def _is_rounded(self) -> bool:
        # Whether the amounts of the trades, or those of the equity, as they are shown give another sum.
        exact = sum((trade.pnl for trade in self.trades), Decimal(0))
        rows = sum((round_to_cents(trade.pnl) for trade in self.trades), Decimal(0))
        change = round_to_cents(self.equity_end) - round_to_cents(self.equity_start)
        return rows != round_to_cents(exact) or change != round_to_cents(self.pnl)

    @property
    def other_caveats(self) -> list[str]:
        """Those that the report on a backtest's reliability does not state."""
        stated = self.reliability.notes if self.reliability else ()
        return [caveat for caveat in self.caveats if caveat not in stated]

    @functools.cached_property
    def reliability_report(self) -> ReliabilityReport | None:
        """How far the result of a backtest can be trusted; None for other runs."""
        known = self.reliability
        return None if known is None else reliability_report(known, self.trades, self.pnl)

    @property
    def gears(self) -> str:
        """For a backtest: how many sessions were decided in which way, and why; else ""."""
        if self.reliability is None:
            return ""
        walked = sum(self.walked.values())
        ways = [f"{self.sessions - walked:,} by their signals alone"] if walked < self.sessions else []
        if walked:
            causes = sorted(self.walked.items(), key=lambda pair: (-pair[1], pair[0]))
            ways.append(f"{walked:,} minute by minute ({', '.join(f'{count:,} {cause}' for cause, count in causes)})")
        return f"{plural(self.sessions, 'session')}: {', '.join(ways)}"

    def no_trade_advice(self, why: str = WHY, home: str = "") -> list[str]:
        """For a run without a trade what denied most, and what changes it; empty after a trade or without a session.

        `why` is the command that explains a symbol, `home` the option of the commands, with a blank before it.
        """
        return [] if self.trades or not self.sessions else self._advice.on_no_trade(self.reasons, why, home)

    @property
    def _advice(self) -> DenialAdvice:
        return DenialAdvice(strategies=self.strategies, variables=self.variables)

    def _split(self, part: Callable[[Trade], str]) -> dict[str, tuple[int, int, Decimal]]:
        found: dict[str, tuple[int, int, Decimal]] = {}
        for trade in self.trades:
            count, won, pnl = found.get(part(trade), (0, 0, Decimal(0)))
            found[part(trade)] = (count + 1, won + (round_to_cents(trade.pnl) > 0), pnl + trade.pnl)
        return dict(sorted(found.items()))

    def document(self) -> dict[str, Any]:
        """The summary for JSON; independent of the wall clock, and of paths except `report`."""
        return {
            "mode": self.mode,
            "simulated": self.simulated,
            "sessions": self.sessions,
            "symbols": self.symbols,
            "equity_start": money_text(self.equity_start),
            "equity_end": money_text(self.equity_end),
            "trades": [trade_document(trade, named=self.mode in _MARKET) for trade in self.trades],
            "denials": dict(sorted(self.denials.items())),
            "settings_hash": self.settings_hash,
            "data_hash": self.data_hash,
            "notes": [*self.caveats, *self.no_trade_advice()],
            "report": self.report,
            **self._of_backtest(),
        }

    def _of_backtest(self) -> dict[str, Any]:
        if self.reliability is None or (report := self.reliability_report) is None:
            return {}
        by_signals = self.sessions - sum(self.walked.values())
        return {
            "gears": {"by_signals": by_signals, "minute_by_minute": dict(sorted(self.walked.items()))},
            "reliability": reliability_document(self.reliability, report),
        }


def trade_document(trade: Trade, *, named: bool = True) -> dict[str, Any]:
    """A trade for JSON: times in UTC, ISO 8601; money in cents, prices and quantities exact, all as strings.

    `named` adds its broker.
    """
    return {
        "strategy": trade.strategy,
        "symbol": trade.symbol,
        "side": trade.side.word,
        "quantity": _plain(trade.quantity),
        "entry_time": trade.entry_time.isoformat(),
        "entry_price": _plain(trade.entry_price),
        "exit_time": trade.exit_time.isoformat(),
        "exit_price": _plain(trade.exit_price),
        "fees": money_text(trade.fees),
        "pnl": money_text(trade.pnl),
        "exit_reason": trade.exit_reason.value,
        **({"broker": trade.broker} if named else {}),
    }


def _plain(value: Decimal) -> str:
    return f"{value:f}"
