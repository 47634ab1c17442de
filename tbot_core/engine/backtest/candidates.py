"""The signals of all strategies in a block's sessions as columns, in the order of their decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from tbot_core.engine.backtest.resolve import Outcomes, resolve
from tbot_core.trading.proposals import JudgedSignals
from tbot_core.trading.risk.sizing import short_margin

if TYPE_CHECKING:
    from tbot_core.model.bars import Bars, Index
    from tbot_core.trading.fill_costs import FillCosts
    from tbot_core.trading.proposals import Proposal, TradingRules

_OUTCOMES: Final = tuple(one.name for one in attrs.fields(Outcomes) if one.name != "stops")
_SIGNALS: Final = ("minute", "side")


@attrs.frozen(kw_only=True, eq=False)
class Candidates:
    """The candidates of a block: one value per signal in each column, sessions in order, then by `sort_key`.

    `part` and `number` say which signal of which strategy it is. `code` is the reason of a check that denied it.
    `worst_price` and `power_price` are the prices in ticks at which its worst case and buying power are counted.
    The other columns are those of `Outcomes`. `bounds`: the first candidate of each session, and their number.
    """

    parts: Sequence[JudgedSignals]
    outcomes: Sequence[Outcomes]
    columns: dict[str, list[Any]]
    bounds: list[int]
    symbols: tuple[str, ...]

    def session(self, index: int) -> range:
        """The candidates of a session."""
        return range(self.bounds[index], self.bounds[index + 1])

    def proposals(self, index: int) -> list[Proposal]:
        """The proposals of a session."""
        part, number = self.columns["part"], self.columns["number"]
        return [self.parts[part[at]].proposals([number[at]])[0] for at in self.session(index)]


def candidates_of(
    parts: Sequence[JudgedSignals], rules: TradingRules, costs: FillCosts, bars: Bars, sessions: int
) -> Candidates:
    """Resolve and sort the signals of a block's strategies."""
    outcomes = [resolve(one, rules, costs, bars) for one in parts]
    joined = {name: _join([getattr(one, name) for one in outcomes]) for name in _OUTCOMES}
    joined |= {name: _join([getattr(one.signals, name) for one in parts]) for name in _SIGNALS}
    joined["part"] = _join([np.full(len(one.signals), at) for at, one in enumerate(parts)])
    joined["number"] = _join([np.arange(len(one.signals)) for one in parts])
    joined["rank"] = _join([np.full(len(one.signals), one.active.rank) for one in parts])
    joined["row"] = _join([one.signals.cells[-1] for one in parts])
    joined["code"] = _join([one.verdicts.reasons for one in parts])
    joined["worst_price"] = np.maximum(joined["limit"], joined["price"])
    short = np.maximum(joined["worst_price"], short_margin(joined["price"]))
    joined["power_price"] = np.where(joined["side"] > 0, joined["worst_price"], short)
    session, strength = _join([one.sessions for one in parts]), _join([one.signals.strength for one in parts])
    order = np.lexsort((joined["row"], joined["rank"], -strength, joined["minute"], session))
    return Candidates(
        parts=parts,
        outcomes=outcomes,
        columns={name: column[order].tolist() for name, column in joined.items()},
        bounds=np.searchsorted(session[order], np.arange(sessions + 1)).tolist(),
        symbols=bars.symbols,
    )


def _join(columns: Sequence[Any]) -> Index:
    return np.concatenate(columns) if columns else np.empty(0, dtype=np.int64)
