"""A placeholder feed for a session that does not wait for its feed to respond: it sends nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.contracts import FeedCoverage, FeedQuality
from tbot_core.errors import Unavailable
from tbot_core.journal.projections.carryover import signalled_symbols

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import date, datetime

    from tbot_core.contracts import Bar, DailyBar, FeedMessage
    from tbot_core.errors import TbotError
    from tbot_core.journal.store import Event
    from tbot_core.model.calendar import Session

_QUALITY: Final = FeedQuality(coverage=FeedCoverage.CONSOLIDATED, halts=True)
"""With this quality a silent feed is only stale: no symbol counts as halted."""


class SilentFeed:
    """A live session with the symbols of its signals; each connection fails with `fault`."""

    def __init__(self, session: Session, symbols: tuple[str, ...], fault: TbotError) -> None:
        self.session = session
        self.symbols = symbols
        self.fault = fault

    @classmethod
    def of(cls, session: Session, since: Sequence[Event], fault: TbotError) -> SilentFeed:
        """The silent feed of a session, from the events since the last close."""
        return cls(session, signalled_symbols(since), fault)

    @property
    def quality(self) -> FeedQuality:
        """The placeholder quality."""
        return _QUALITY

    async def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:  # noqa: ARG002  whichever
        """Raise Unavailable: there is no connection."""
        empty: tuple[FeedMessage, ...] = ()
        for message in empty:
            yield message
        raise Unavailable(self.fault.message)

    async def daily(
        self,
        symbols: Sequence[str],  # noqa: ARG002
        first: date,  # noqa: ARG002
        last: date,  # noqa: ARG002
    ) -> Sequence[DailyBar]:
        """Raise Unavailable: there are no bars."""
        raise Unavailable(self.fault.message)

    async def history(
        self,
        symbols: Sequence[str],  # noqa: ARG002
        first: datetime,  # noqa: ARG002
        last: datetime,  # noqa: ARG002
    ) -> Sequence[Bar]:
        """Raise Unavailable: there are no bars."""
        raise Unavailable(self.fault.message)
