"""What a run is told of its feed's quality, and which feeds it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import DELAYED, Broker, Feed, FeedLabel, FeedQuality, SupportsDailyVix
from tbot_core.engine.bootstrap import feed_source
from tbot_core.errors import SettingsError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator

    from tbot_core.contracts import FeedRequest, FeedSession, LiveSession
    from tbot_core.instance import Settings

_LIVE: Final = "live"


def check_feed_fit(quality: FeedQuality, settings: Settings) -> None:
    """Raise SettingsError for a feed that must not be traded live on."""
    if settings.mode == _LIVE and quality.coverage == DELAYED:
        name = settings.trading.data_source or settings.trading.broker_name
        raise SettingsError(
            f"The feed of {name} is delayed, and delayed prices are never traded live.",
            "Name a feed in real time in DATA_SOURCE, or give the broker's section mode=paper.",
        )


def label_feed(feed: Feed, quality: FeedQuality | None, *further: str) -> Feed:
    """The feed with a label that says what a person must know of its quality, and what `further` says."""
    notes = further if quality is None else (*quality.notes, *further)
    return LabelledFeed(inner=feed, notes=notes) if notes else feed


@attrs.frozen(kw_only=True, eq=False)
class LabelledFeed:
    """A feed with more notes on its label than it has itself."""

    inner: Feed
    notes: tuple[str, ...]

    @property
    def label(self) -> FeedLabel:
        """The feed's own label, and the notes."""
        return attrs.evolve(self.inner.label, notes=(*self.inner.label.notes, *self.notes))

    def sessions(self) -> AsyncIterator[FeedSession | LiveSession]:
        """The feed's sessions."""
        return self.inner.sessions()


class BarsOnlyBroker:
    """What simulated fills need of a broker: its bars and its index. There is no way to hand it an order."""

    def __init__(self, broker: Broker, name: str) -> None:
        """Raises PluginError where the broker of that name serves no bars."""
        self._source = feed_source(broker, name)
        self._index = broker if isinstance(broker, SupportsDailyVix) else None
        self.close = broker.close

    def feed(self, request: FeedRequest) -> Feed:
        """The feed that fits the request."""
        return self._source.feed(request)

    async def vix_close(self, day: dt.date) -> float | None:
        """The VIX's close of an exchange day; None where the broker does not know it."""
        return None if self._index is None else await self._index.vix_close(day)
