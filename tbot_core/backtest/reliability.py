"""What a backtest knows about the reliability of its result: its variants, its costs, its symbols and their facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tbot_core.contracts import SupportsRefresh
from tbot_core.marketdata.store.recorded_facts import MARKET_CAP, RecordedFacts
from tbot_core.model.types import dollars_of
from tbot_core.reports.figures import TradingDay
from tbot_core.reports.reliability import MOST_DAYS, FactUse, Reliability, UnknownFacts, Variant
from tbot_core.trading.slippage import Slippage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.backtest.results import TestedSession
    from tbot_core.backtest.trials import BeforeBell
    from tbot_core.engine.assembly import Assembly
    from tbot_core.marketdata.store.selection import SymbolSelection
    from tbot_core.marketdata.store.store import BarStore


def reliability_of(
    assembly: Assembly,
    data: tuple[BarStore, SymbolSelection],
    tested: Sequence[TestedSession],
    variants: Sequence[Variant],
    *,
    named: bool,
) -> Reliability:
    """What readers of a backtest have to know; `named`: the caller chose the symbols."""
    (store, selected), settings = data, assembly.settings
    return Reliability(
        variants=variants,
        slippage=Slippage.of(settings.simulation),
        days=[
            TradingDay(
                open=one.session.open,
                close=one.session.close,
                opening=dollars_of(one.opening_atoms),
                closing=dollars_of(one.equity_atoms),
            )
            for one in tested
        ],
        chosen="--symbols" if named else "UNIVERSE" if settings.trading.universe else "stored",
        symbols=len(selected.symbols),
        facts={name: _use(name, store.recorded_facts, selected.symbols, tested) for name in _facts(assembly)},
        kinds=selected.kinds,
        notes=(*selected.notes_on_kinds, *selected.notes_on_gaps),
    )


def unknown_facts(before: BeforeBell, tested: Sequence[TestedSession]) -> UnknownFacts | None:
    """What passed the checks of these sessions without a known fact; None if nothing did."""
    if not before.unknown:
        return None
    known = (one.session.date for one in tested if one.session.date not in before.unsure)
    return UnknownFacts(signals=before.unknown, first_known=min(known, default=None))


def _use(name: str, recorded: RecordedFacts, symbols: tuple[str, ...], tested: Sequence[TestedSession]) -> FactUse:
    days = [one.session.date for one in tested]
    ages = recorded.ages(name, days, symbols)
    known = ages[~np.isnan(ages)]
    counts = np.bincount(np.searchsorted(MOST_DAYS, known), minlength=len(MOST_DAYS) + 1).tolist()
    return FactUse(first_days=recorded.first_days(name, symbols, days[-1]), ages=(*counts, ages.size - known.size))


def _facts(assembly: Assembly) -> set[str]:
    # The facts about symbols that filters compare: what they fetch, and capitalisations if a strategy limits them.
    found = {name for one in assembly.filters.values() if isinstance(one, SupportsRefresh) for name in one.facts}
    frames = (assembly.settings.frames[name] for name in assembly.settings.strategies)
    if assembly.filters and any(one.min_market_cap or one.max_market_cap for one in frames):
        found.add(MARKET_CAP)
    return found
