"""The feed of a session that does not wait until its feed answers: it is there, and says nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.contracts import FeedCoverage, FeedQuality
from tbot_core.engine.live.ended_feed import EndedFeed
from tbot_core.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from tbot_core.contracts import Bar, FeedMessage
    from tbot_core.errors import TbotError
    from tbot_core.journal.store import Event
    from tbot_core.model.bars import DayFacts
    from tbot_core.model.calendar import Session

_QUALITY: Final = FeedQuality(coverage=FeedCoverage.CONSOLIDATED, halts=True)
"""Nothing is made of its silence but that it is silent: no symbol is taken to be halted for it."""


class SilentFeed:
    """A live session that has the symbols of its signals; each connection fails with `fault`, why it is not heard."""

    def __init__(self, session: Session, symbols: tuple[str, ...], day: DayFacts, fault: TbotError) -> None:
        self.session = session
        self.symbols = symbols
        self.day = day
        self.fault = fault

    @classmethod
    def of(cls, session: Session, since: Sequence[Event], fault: TbotError) -> SilentFeed:
        """That of a session, from the events since the last end."""
        bygone = EndedFeed.of(session, since)
        return cls(bygone.session, bygone.symbols, bygone.day, fault)

    @property
    def quality(self) -> FeedQuality:
        """It has declared nothing."""
        return _QUALITY

    async def news(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:  # noqa: ARG002  whichever
        """No connection; raises Unavailable."""
        nothing: tuple[FeedMessage, ...] = ()
        for news in nothing:
            yield news
        raise Unavailable(self.fault.message)

    async def history(  # whatever is asked for
        self,
        symbols: Sequence[str],  # noqa: ARG002
        first: datetime,  # noqa: ARG002
        last: datetime,  # noqa: ARG002
    ) -> Sequence[Bar]:
        """Nobody has the bars; raises Unavailable."""
        raise Unavailable(self.fault.message)
