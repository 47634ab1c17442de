"""The closed trades of a journal, with the changes that brokers make to them later."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import ClosedTrade
from tbot_core.journal import records
from tbot_core.journal.projections.book import SessionBook

if TYPE_CHECKING:
    from tbot_core.journal.projection import JournalEvent


@attrs.define(kw_only=True)
class ClosedTrades:
    """The closed trades of the current session; `changed`: those that the last event closed, corrected or cancelled."""

    changed: tuple[ClosedTrade, ...] = ()
    _book: SessionBook = attrs.field(factory=SessionBook)
    _known: dict[str, ClosedTrade] = attrs.field(factory=dict)

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event."""
        self._book.apply(event)
        self.changed = ()
        if event.kind in {records.RUN_STARTED, records.SESSION_OPENED}:
            self._known = {}
        elif "execution_id" in event.payload:  # a fill, its correction, or an adjustment
            self.changed = self._compare()

    def _compare(self) -> tuple[ClosedTrade, ...]:
        before, self._known = self._known, self._closed()
        gone = [attrs.evolve(one, cancelled=True) for key, one in before.items() if key not in self._known]
        return (*gone, *(one for key, one in self._known.items() if before.get(key) != one))

    def _closed(self) -> dict[str, ClosedTrade]:
        # The closed positions of the session as trades, by id; several of one signal are numbered.
        found: dict[str, ClosedTrade] = {}
        book, times, accounts = self._book, Counter[str](), records.accounts_of(self._book.session)
        for position in book.portfolio.closed:
            signal, broker = position.signal, book.broker(position.signal)
            times[signal.text] += 1
            key = signal.text if times[signal.text] == 1 else f"{signal.text}/{times[signal.text]}"
            found[key] = ClosedTrade(
                id=key,
                trade=position.to_trade(broker),
                session=date.fromisoformat(book.session["date"]),
                mode=str(book.run.get("mode", "")).lower(),
                identity=str(book.run.get("identity", "")),
                account=accounts.get(broker) or accounts.get("", ""),
            )
        return found
