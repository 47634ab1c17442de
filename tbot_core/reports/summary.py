"""The result of a run as one document: comparable between replay, demo and backtest."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final

import attrs

from tbot_core.model.formatting import money_text
from tbot_core.model.types import Trade
from tbot_core.reports.advice import WHY, DenialAdvice

_MARKET: Final = frozenset({"paper", "live"})
"""The modes that trade at a broker; trades of the other modes have only the agreed keys."""


@attrs.frozen(kw_only=True)
class Doubt:
    """The result of the same backtest under a less friendly assumption, which `words` name; money in dollars."""

    words: str
    trades: int
    pnl: Decimal


@attrs.frozen(kw_only=True)
class RunSummary:
    """A run's result; money in dollars, `denials` by reason code. `notes` are caveats for readers.

    `brokers` are those of all sessions, the primary first; `strategies` those that the settings run, `variables` the
    names of all settings (None: unknown). `without_candidates`: by strategy the reasons that denied most before the
    bell in sessions where every symbol was denied, and in how many. `valued`: the last session was interrupted with
    `held` positions, which count at their last `marks` or `fills`; "" if it was closed. A backtest has `doubts`, and
    `walked`: how many sessions were walked minute by minute, by cause; the others were decided by their signals alone.
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
    notes: Sequence[str] = ()
    report: str = ""
    brokers: Sequence[str] = ()
    strategies: Sequence[str] = ()
    variables: Container[str] | None = None
    without_candidates: Mapping[str, Mapping[str, int]] = attrs.field(factory=dict)
    held: int = 0
    valued: str = ""
    doubts: Sequence[Doubt] = ()
    walked: Mapping[str, int] = attrs.field(factory=dict)

    @property
    def pnl(self) -> Decimal:
        """Profit after fees."""
        return self.equity_end - self.equity_start

    @property
    def by_strategy(self) -> dict[str, tuple[int, int, Decimal]]:
        """Trades, winners and profit of each strategy, by name."""
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
        """The notes, and a sentence for each strategy that lacked candidates."""
        return [*self.notes, *self._advice.on_candidates(self.without_candidates, self.sessions)]

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
            found[part(trade)] = (count + 1, won + (trade.pnl > 0), pnl + trade.pnl)
        return dict(sorted(found.items()))

    def document(self) -> dict[str, Any]:
        """The summary for JSON; independent of the wall clock, and of paths except `report`."""
        return {
            "mode": self.mode,
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
            **({"doubts": [_doubt(one) for one in self.doubts]} if self.doubts else {}),
        }


def _doubt(one: Doubt) -> dict[str, Any]:
    return {"assumption": one.words, "trades": one.trades, "pnl": money_text(one.pnl)}


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
