"""The notes on a feed's quality for a run, and the feeds that it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import Broker, BrokerCapabilities, Feed, FeedCoverage, FeedLabel, FeedQuality
from tbot_core.contracts.abilities import DAILY_VIX, INSTRUMENTS
from tbot_core.engine.bootstrap import feed_source
from tbot_core.errors import SettingsError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator, Sequence

    from tbot_core.contracts import FeedRequest, FeedSession, Instrument, LiveSession
    from tbot_core.instance import Settings

_LIVE: Final = "live"


def check_feed_fit(quality: FeedQuality, settings: Settings) -> None:
    """Raise SettingsError for a feed that live trading must not use."""
    if settings.mode == _LIVE and quality.coverage == FeedCoverage.DELAYED:
        name = settings.trading.data_source or settings.trading.broker_name
        raise SettingsError(
            f"The feed of {name} is delayed; live trading never uses delayed prices.",
            "Set DATA_SOURCE to a real-time feed, or mode=paper in the broker's section.",
        )


def label_feed(feed: Feed, quality: FeedQuality | None, *further: str) -> Feed:
    """The feed with notes on its quality, and the `further` notes, in its label."""
    notes = further if quality is None else (*quality.notes, *further)
    return LabelledFeed(inner=feed, notes=notes) if notes else feed


@attrs.frozen(kw_only=True, eq=False)
class LabelledFeed:
    """A feed with further notes on its label."""

    inner: Feed
    notes: tuple[str, ...]

    @property
    def label(self) -> FeedLabel:
        """The feed's own label with the notes added."""
        return attrs.evolve(self.inner.label, notes=(*self.inner.label.notes, *self.notes))

    def sessions(self) -> AsyncIterator[FeedSession | LiveSession]:
        """The feed's sessions."""
        return self.inner.sessions()


class BarsOnlyBroker:
    """What simulated fills need of a broker: its bars, its index and its instruments. It cannot receive an order."""

    def __init__(self, broker: Broker, name: str) -> None:
        """Raises PluginError if the broker of that name supplies no bars."""
        self._source = feed_source(broker, name)
        self._index = DAILY_VIX.of(broker)
        self._instruments = INSTRUMENTS.of(broker)
        self.capabilities = BrokerCapabilities(
            feed=True, daily_vix=self._index is not None, instruments=self._instruments is not None
        )
        self.close = broker.close

    def feed(self, request: FeedRequest) -> Feed:
        """The feed for the request."""
        return self._source.feed(request)

    async def vix_close(self, day: dt.date) -> float | None:
        """The VIX close of an exchange day; None if the broker does not have it."""
        return None if self._index is None else await self._index.vix_close(day)

    async def instruments(self, symbols: Sequence[str]) -> Sequence[Instrument]:
        """The facts of instruments, which say what is a fund."""
        return () if self._instruments is None else await self._instruments.instruments(symbols)
