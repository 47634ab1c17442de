"""Extensions: what runs beside trading, and the journal as they follow it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import date, datetime
from typing import Any, Protocol, runtime_checkable

import attrs

from tbot_core.model.types import Trade


@attrs.frozen(kw_only=True)
class ClosedTrade:
    """A closed trade with what a ledger needs.

    `id` is unique in the journal, and stays when a broker corrects a fill. `session`: the exchange day on which it was
    closed. `mode`: live, paper or rehearsal. `identity` is that of the bot, "" without one; `account` that of the
    broker, as it reports it. `cancelled`: the broker withdrew its fills, so it never took place; the terms are those
    that were known before.
    """

    id: str
    trade: Trade
    session: date
    mode: str
    identity: str
    account: str
    cancelled: bool = False


@attrs.frozen(kw_only=True)
class JournalEntry:
    """An event of the journal: its sequence number and kind, the client order id, and when it was applied (UTC).

    `trades` are those that it closed, corrected or cancelled.
    """

    seq: int
    kind: str
    time: datetime
    payload: Mapping[str, Any]
    cid: str | None = None
    trades: tuple[ClosedTrade, ...] = ()


class JournalCursor(Protocol):
    """The journal as an extension follows it: the events after the last confirmed one, in order, as they are written.

    The iteration ends when the run has ended and each of its events was given. The confirmed position is durable: it
    holds across restarts and a kill. What was given and not confirmed is given again.
    """

    @property
    def at_end(self) -> bool:
        """Whether the journal holds no event after the one that was given last."""

    def __aiter__(self) -> AsyncIterator[JournalEntry]:
        """Iterate over the events; it waits for each."""

    async def confirm(self, entry: JournalEntry) -> None:
        """Confirm this entry and all before it: once this has returned, they are never given again.

        Raises AccessError if the position cannot be stored, ValueError for an entry that was not given.
        """


@runtime_checkable
class Extension(Protocol):
    """What an extension keeps alive during paper and live trading.

    It runs in the event loop of trading: slow operations must be awaited and never block; code that runs half a second
    between two waits is interrupted, which is a failure.
    """

    async def start(self, journal: JournalCursor) -> None:
        """Work beside trading until the journal's iteration ends or the call is cancelled.

        It may raise anything: the failure is recorded, and it is called again after a pause, with the events after the
        last confirmed one. When it returns, the extension has nothing more to do in this run.
        """

    async def stop(self) -> None:
        """Release what `start` opened. It is called after each `start`, however that ended; at most two seconds."""
