"""The results of a backtest's sessions; trades and levels are made when somebody looks at them."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Generic, TypeVar, overload

import attrs

from tbot_core.backtest.outcomes import REASONS
from tbot_core.backtest.session_walk import SessionResult
from tbot_core.backtest.vectorised import Candidate, Candidates, VectorisedResult
from tbot_core.engine.assembly import SIMULATOR
from tbot_core.model.calendar import Session
from tbot_core.model.reasons import REASON_BY_CODE
from tbot_core.model.types import Side, Trade, dollars_of, price_of, quantity_of
from tbot_core.reports.timeline import SessionTimeline
from tbot_core.reports.trade_levels import LevelRecorder, TradeKey, TradeLevels

if TYPE_CHECKING:
    from collections.abc import Mapping


T = TypeVar("T")

_SIDES: Final = {int(side): side for side in Side}
_OF_TRADES: Final = ("part", "row", "side", "ended", "exit_minute", "reason")


class Lazy(Sequence[T], Generic[T]):
    """A sequence of `count` items that `make` returns when one is looked at, once."""

    def __init__(self, count: int, make: Callable[[], Sequence[T]]) -> None:
        self._count, self._make = count, make
        self._made: Sequence[T] | None = None

    def __len__(self) -> int:
        """The number of items; makes none."""
        return self._count

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        """An item, or some."""
        return self._all()[index]

    def __iter__(self) -> Iterator[T]:
        """All items in their order."""
        return iter(self._all())

    def _all(self) -> Sequence[T]:
        if self._made is None:
            self._made = self._make()
        return self._made


@attrs.frozen(kw_only=True, eq=False)
class WalkedSession:
    """A session that was walked minute by minute, because of `cause`."""

    session: Session
    opening_atoms: int
    walked: SessionResult
    cause: str

    @property
    def equity_atoms(self) -> int:
        """The equity at its end."""
        return self.walked.equity_atoms

    @functools.cached_property
    def trades(self) -> Sequence[Trade]:
        """Its trades, in the order of their closing."""
        return Lazy(len(self.walked.positions), lambda: [one.to_trade(SIMULATOR) for one in self.walked.positions])

    @property
    def profits(self) -> list[int]:
        """The profit of each closed position in atoms, in any order."""
        return [one.pnl_atoms for one in self.walked.positions]

    @property
    def denials(self) -> Counter[str]:
        """How many candidates each reason denied, by its name."""
        return self.walked.denials

    @property
    def levels(self) -> Mapping[TradeKey, TradeLevels]:
        """The levels of its allowed signals."""
        return self.walked.levels


@attrs.frozen(kw_only=True, eq=False)
class VectorisedSession:
    """A session that was decided by its candidates alone; `cause` is ""."""

    session: Session
    opening_atoms: int
    candidates: Candidates
    result: VectorisedResult
    cause: str = ""

    @property
    def equity_atoms(self) -> int:
        """The equity at its end."""
        return self.result.equity_atoms

    @functools.cached_property
    def trades(self) -> Sequence[Trade]:
        """Its trades, in the order of their closing."""
        return Lazy(len(self.result.fills), self._trades)

    @property
    def profits(self) -> list[int]:
        """The profit of each closed position in atoms, in any order."""
        return [profit for *_, profit in self.result.fills]

    @property
    def denials(self) -> Counter[str]:
        """How many candidates each reason denied, by its name."""
        if not self.result.denials:
            return Counter()
        counts = Counter(self.result.denials)
        return Counter({REASON_BY_CODE[code].name: count for code, count in counts.items()})

    @property
    def levels(self) -> Mapping[TradeKey, TradeLevels]:
        """The levels of its allowed signals."""
        recorder = LevelRecorder()
        for place in self.result.allowed:
            self._record(recorder, self.candidates.rows[place])
        return recorder.levels

    def _trades(self) -> list[Trade]:
        values, session, moment, end = self.candidates.values, self.session, self.session.moment, self.session.minutes
        parts, rows, sides, entries, exits, reasons = (values(name) for name in _OF_TRADES)
        names, symbols = [one.active.name for one in self.candidates.source.parts], self.candidates.source.symbols
        closing = self.candidates.closing
        fills = sorted([(closing[fill[0]], fill) for fill in self.result.fills])
        return [
            Trade(
                strategy=names[parts[place]],
                symbol=symbols[rows[place]],
                side=_SIDES[sides[place]],
                quantity=quantity_of(units),
                entry_time=moment(entries[place]),
                entry_price=price_of(paid),
                exit_time=session.close if exits[place] == end else moment(exits[place]),
                exit_price=price_of(got),
                fees=dollars_of(fee_atoms),
                pnl=dollars_of(pnl_atoms),
                exit_reason=REASONS[reasons[place]],
                broker=SIMULATOR,
            )
            for _, (place, units, paid, got, fee_atoms, pnl_atoms) in fills
        ]

    def _record(self, recorder: LevelRecorder, one: Candidate) -> None:
        # The planned levels of a signal; then those of its orders, which rest within the bar.
        source, number = self.candidates.source, one.number
        judged, stops = source.parts[one.part], source.stops[one.part]
        signal, sent = judged.signal(number), self.session.moment(one.minute + 1)
        planned = judged.signals.stop.item(number), judged.signals.target.item(number)
        recorder.decided(signal, sent, judged.signals.side.item(number), *planned)
        if one.target:
            recorder.target_placed(signal, price_of(one.target))
        if judged.signals.exits.trigger == "close":
            return
        recorder.stop_placed(signal, sent, price_of(one.stop))
        if stops is None or not one.filled:
            return
        for column, level in enumerate(stops[: one.exit_minute - one.ended + 1, number].tolist()):
            if column and level == level:  # noqa: PLR0124 - not NaN
                recorder.stop_placed(signal, self.session.moment(one.ended + column), price_of(int(level)))


TestedSession = VectorisedSession | WalkedSession


def timeline_of(tested: TestedSession) -> SessionTimeline:
    """A session for the report."""
    session = tested.session
    return SessionTimeline(
        date=session.date.isoformat(),
        open=session.open,
        close=session.close,
        opening=dollars_of(tested.opening_atoms),
        closing=dollars_of(tested.equity_atoms),
        closed=True,
        trades=tested.trades,
        primary=SIMULATOR,
    )
