"""The notes on a feed's quality for a run, and the feeds that it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import Broker, BrokerCapabilities, Feed, FeedCoverage, FeedLabel, FeedQuality
from tbot_core.contracts.abilities import DAILY_VIX, INSTRUMENTS, LIVE_VIX, MARKET_CAPS
from tbot_core.engine.assembly import feed_source
from tbot_core.errors import SettingsError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence

    from tbot_core.contracts import FeedRequest, FeedSession, IndexQuote, InstrumentRules, LiveSession
    from tbot_core.engine.assembly import Assembly
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


def request_limit(assembly: Assembly) -> str:
    """The limit on requests of the vendor of the data, as text; "" without one."""
    trading = assembly.settings.trading
    source = ("broker", trading.data_source or trading.broker_name)
    needs = (one.plugin.needs for one in assembly.loaded if (one.entry.kind, one.entry.name) == source)
    return next((one.request_limit for one in needs), "")


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
    """The part of a broker that is used for data alone: its bars, index and instruments. It cannot receive an order.

    `vix_close`, `vix_now`, `market_caps` and `instruments` are there if the broker has them.
    """

    vix_close: Callable[[dt.date], Coroutine[Any, Any, float | None]]
    vix_now: Callable[[], Coroutine[Any, Any, IndexQuote | None]]
    market_caps: Callable[[Sequence[str]], Coroutine[Any, Any, Mapping[str, float]]]
    instruments: Callable[[Sequence[str]], Coroutine[Any, Any, Sequence[InstrumentRules]]]

    def __init__(self, broker: Broker, name: str) -> None:
        """Raises PluginError if the broker of that name supplies no bars."""
        self._source = feed_source(broker, name)
        self.close = broker.close
        declared = broker.capabilities
        self.capabilities = BrokerCapabilities(
            feed=True,
            daily_vix=declared.daily_vix,
            live_vix=declared.live_vix,
            market_caps=declared.market_caps,
            instruments=declared.instruments,
        )
        if (daily := DAILY_VIX.of(broker)) is not None:
            self.vix_close = daily.vix_close
        if (live := LIVE_VIX.of(broker)) is not None:
            self.vix_now = live.vix_now
        if (caps := MARKET_CAPS.of(broker)) is not None:
            self.market_caps = caps.market_caps
        if (facts := INSTRUMENTS.of(broker)) is not None:
            self.instruments = facts.instruments

    def feed(self, request: FeedRequest) -> Feed:
        """The feed for the request."""
        return self._source.feed(request)
