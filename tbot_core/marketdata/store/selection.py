"""The bars that a run uses: symbols of a range, which of them are stored, and notes about their quality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import FeedLabel
from tbot_core.contracts.feed import NO_EXTRA_FACTS, ExtraFacts
from tbot_core.marketdata.store.daily_facts import look_back_sessions
from tbot_core.marketdata.store.store import NO_BARS, BarStore
from tbot_core.model.calendar import SessionGap

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

_NO_QUOTES: Final = "Stored bars have no quotes: nothing is denied for a missing or old quote, or for a wide spread."
_FEW_DAYS: Final = (
    "Strategies read up to {} sessions before each one; stored before the first: {}. What needs more is unknown there, "
    "and gives no signal. `tbot data download --from DATE --to DATE` or `tbot data import` stores them."
)
_PARTIAL: Final = (
    "Volumes of {} are a part of the tape: VOLUME_LIMIT is off there, and MIN_VOLUME_THRESHOLD limits the mean of that "
    "part."
)
_ADJUSTED: Final = (
    "Prices of {} are adjusted: what was traded is unknown, and limits on price follow FILTER_MISSING_DATA there."
)


@attrs.frozen(kw_only=True)
class SymbolSelection:
    """Symbols with bars in a range, sorted; the requested ones without (`absent`), and the (adjustment, volume) pairs.

    `gaps` are those of the range: sessions in which none of the symbols has a bar, and which are not traded.
    `adjusted`: the symbols whose prices are adjusted in some month, each with the kinds of adjustment, as in `NVDA
    (split)`. `partial_volume`: the symbols whose volumes are a part of the tape. `simulated`: some of the bars come
    from a simulation. `data_hash` identifies the served bars and facts. `daily_bars` are the sessions that strategies
    read before each one, `days_before` how many of them have bars before the first session.
    """

    symbols: tuple[str, ...]
    absent: tuple[str, ...]
    gaps: tuple[SessionGap, ...]
    kinds: tuple[tuple[str, str], ...]
    adjusted: tuple[str, ...]
    partial_volume: frozenset[str]
    data_hash: str
    simulated: bool = False
    daily_bars: int = 0
    days_before: int = 0

    @property
    def notes_on_days(self) -> tuple[str, ...]:
        """That strategies which read the days before are blind at first, where too few are stored."""
        if self.days_before >= self.daily_bars:
            return ()
        return (_FEW_DAYS.format(self.daily_bars, self.days_before),)

    @property
    def notes_on_kinds(self) -> tuple[str, ...]:
        """What follows from the adjustment of the prices and from volumes that are a part of the tape."""
        notes = ((_ADJUSTED, ", ".join(self.adjusted)), (_PARTIAL, ", ".join(sorted(self.partial_volume))))
        return tuple(sentence.format(names) for sentence, names in notes if names)

    @property
    def notes_on_gaps(self) -> tuple[str, ...]:
        """Which sessions of the range have no bars, and are not traded; the longest gap where there are several."""
        if not self.gaps:
            return ()
        longest, count = max(self.gaps, key=lambda one: one.count), sum(gap.count for gap in self.gaps)
        if len(self.gaps) == 1:
            return (f"{NO_BARS} are stored for {longest}: no trading there.",)
        rest = f"The longest of the {len(self.gaps):,} gaps is {longest}."
        return (f"{NO_BARS} are stored for {count:,} sessions of the range: no trading there. {rest}",)

    @property
    def label(self) -> FeedLabel:
        """A label for these prices; notes describe adjustments and limitations."""
        notes = [_NO_QUOTES, *self.notes_on_days, *self.notes_on_kinds]
        if self.absent:
            notes.append(absence_note(self.absent))
        notes.extend(self.notes_on_gaps)
        return FeedLabel(
            name="stored bars", simulated=self.simulated, quotes=False, notes=tuple(notes), data_hash=self.data_hash
        )


def absence_note(symbols: Iterable[str]) -> str:
    """The sentence on symbols without a bar in a range."""
    return f"No bars are stored for {', '.join(symbols)}."


def select_symbols(
    store: BarStore, first: dt.date, last: dt.date, wanted: Iterable[str], *, extra: ExtraFacts = NO_EXTRA_FACTS
) -> SymbolSelection:
    """Select the requested symbols of a range, or all stored ones; raises DataError when none has a bar in it.

    `extra` facts will be served, too.
    """
    stored = store.symbols(first, last)
    symbols = tuple(sorted(set(wanted))) or stored
    absent = tuple(symbol for symbol in symbols if symbol not in set(stored))
    present = tuple(symbol for symbol in symbols if symbol not in set(absent))
    if not present:
        raise store.absence(first, last, absent)
    return SymbolSelection(
        symbols=present,
        absent=absent,
        gaps=store.gaps(first, last, present),
        kinds=store.kinds(first, last, present),
        adjusted=store.adjusted(first, last, present),
        partial_volume=store.partial_volume(first, last, present),
        data_hash=store.data_hash(first, last, present, extra=extra),
        simulated=store.is_simulated(first, last, present),
        daily_bars=extra.daily_bars,
        days_before=_stored_before(store, first, present, extra.daily_bars),
    )


def _stored_before(store: BarStore, first: dt.date, symbols: Iterable[str], wanted: int) -> int:
    # How many of the sessions before a day have a bar of one of the symbols.
    before = look_back_sessions(store.calendar, first, wanted) if wanted else ()
    if not before:
        return 0
    missing = sum(gap.count for gap in store.gaps(before[0].date, before[-1].date, symbols))
    return len(before) - missing
