"""The signals of all strategies in a block's sessions, each with its outcome, in the order of their decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import attrs
import numpy as np

from tbot_core.engine.backtest.resolve import OUTCOMES, resolve
from tbot_core.model.bars import Array
from tbot_core.trading.proposals import JudgedSignals
from tbot_core.trading.risk.sizing import short_margin

if TYPE_CHECKING:
    from tbot_core.model.bars import Bars
    from tbot_core.model.types import SignalId
    from tbot_core.trading.fill_costs import FillCosts
    from tbot_core.trading.proposals import Proposal, TradingRules


class Candidate(NamedTuple):
    """A signal and what becomes of it if it is entered, in integers: ticks, units, minutes; see `Outcomes`.

    `part` and `number` say which signal of which strategy it is, `code` is the reason of a check that denied it.
    `worst_price` and `power_price` are the prices at which its worst case and its buying power are counted.
    """

    part: int
    number: int
    code: int
    rank: int
    row: int
    minute: int
    side: int
    worst_price: int
    power_price: int
    price: int
    limit: int
    stop: int
    target: int
    ended: int
    filled: bool
    paid: int
    exit_minute: int
    got: int
    slips: bool
    leg: int
    reason: int
    units: int
    worst: int
    key: int
    checked: bool


_SIGNALS: Final = ("minute", "side")


@attrs.frozen(kw_only=True, eq=False)
class SignalSource:
    """The signals of a block's strategies, in the order of `part`; `stops` are those of their `Outcomes`."""

    parts: Sequence[JudgedSignals]
    stops: Sequence[Array | None]
    symbols: tuple[str, ...]

    def signal(self, one: Candidate) -> SignalId:
        """The identity of a candidate's signal."""
        return self.parts[one.part].signal(one.number)


@attrs.frozen(kw_only=True, eq=False)
class Candidates:
    """The candidates of a block: sessions in order, each sorted by `sort_key`.

    `bounds`: the place of the first candidate of each session, and their number.
    """

    source: SignalSource
    rows: Sequence[Candidate]
    bounds: Sequence[int]

    def session(self, index: int) -> Sequence[Candidate]:
        """The candidates of a session."""
        return self.rows[self.bounds[index] : self.bounds[index + 1]]

    def proposals(self, index: int) -> list[Proposal]:
        """The proposals of a session."""
        return [self.source.parts[one.part].proposal(one.number) for one in self.session(index)]


def candidates_of(
    parts: Sequence[JudgedSignals], rules: TradingRules, costs: FillCosts, bars: Bars, sessions: int
) -> Candidates:
    """Resolve and sort the signals of a block's strategies."""
    outcomes = [resolve(one, rules, costs, bars) for one in parts]
    joined = {name: _join([getattr(one, name) for one in outcomes]) for name in OUTCOMES}
    joined |= {name: _join([getattr(one.signals, name) for one in parts]) for name in _SIGNALS}
    joined |= {
        "part": _join([np.full(len(one.signals), at) for at, one in enumerate(parts)]),
        "number": _join([np.arange(len(one.signals)) for one in parts]),
        "rank": _join([np.full(len(one.signals), one.active.rank) for one in parts]),
        "row": _join([one.signals.cells[-1] for one in parts]),
        "code": _join([one.verdicts.reasons for one in parts]),
        "worst_price": np.maximum(joined["limit"], joined["price"]),
    }
    short = np.maximum(joined["worst_price"], short_margin(joined["price"]))
    joined["power_price"] = np.where(joined["side"] > 0, joined["worst_price"], short)
    session, strength = _join([one.sessions for one in parts]), _join([one.signals.strength for one in parts])
    order = np.lexsort((joined["row"], joined["rank"], -strength, joined["minute"], session))
    columns = [joined[name][order].tolist() for name in Candidate._fields]
    return Candidates(
        source=SignalSource(parts=parts, stops=[one.stops for one in outcomes], symbols=bars.symbols),
        rows=[Candidate._make(one) for one in zip(*columns, strict=True)],
        bounds=np.searchsorted(session[order], np.arange(sessions + 1)).tolist(),
    )


def _join(columns: Sequence[Any]) -> Any:
    return np.concatenate(columns) if columns else np.empty(0, dtype=np.int64)
