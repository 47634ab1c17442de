"""Venues that fill from bars: what the core tells a broker without a market of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from decimal import Decimal
    from pathlib import Path

    from tbot_core.model.bars import MinuteSlice
    from tbot_core.model.calendar import Session


@runtime_checkable
class SimulatedVenue(Protocol):
    """A broker without a market of its own: it fills orders from the bars that the core passes to it.

    A client order id that is submitted again changes nothing, and a minute that is observed again fills nothing: after
    a restart the core repeats both. An entry ends after the first bar that could fill it.
    """

    def keep_books(self, path: Path, cash: Decimal | None) -> None:
        """Keep the account in this file from now on, and continue the account that it holds.

        Called once, before `connect`, for trading in real time; a simulation keeps nothing. `cash`, in dollars: that of
        a new account; None: the broker's own choice. Each later call is one transaction. Events of an open session are
        reported again. Raises BrokerError for a file that cannot be used.
        """

    def open_session(
        self, session: Session, symbols: tuple[str, ...], cash: Decimal, partial_volume: frozenset[str] = frozenset()
    ) -> None:
        """Start a session without working orders; an open session of that day in kept books goes on.

        `cash` is the cash of the account by the journal; kept books have their own. VOLUME_LIMIT does not apply to the
        symbols in `partial_volume`, whose volumes are a part of the tape.
        """

    def observe(self, minute: MinuteSlice) -> None:
        """Match working orders against a closed minute, before any decision on it; all minutes come in order."""

    def close_session(self) -> None:
        """End the session, unless it has ended: open positions are closed at their last price."""
