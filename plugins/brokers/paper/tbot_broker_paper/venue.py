"""A market of one symbol that moves minute by minute, to test the broker with."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from tbot_broker_paper.broker import PaperBroker
from tbot_broker_paper.companies import SYMBOLS
from tbot_broker_paper.config import Config
from tbot_core.model.bars import MinuteSlice
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

NOW: Final = dt.datetime(2026, 1, 5, 14, 0, tzinfo=dt.UTC)
CONFIG: Final = Config(enable_slippage_model=False)
_PRICE: Final = Decimal(20)
_VOLUME: Final = Decimal(1_000_000)
Result = TypeVar("Result")


class OneSymbolMarket:
    """A broker in a session of one symbol; each trade is a minute of its own."""

    symbol = "A"
    feed_symbols = SYMBOLS[:2]

    def __init__(self, broker: PaperBroker) -> None:
        """Open the session, and trade at 20 USD."""
        session = ExchangeCalendar().session(NOW.date()) or ExchangeCalendar().next(NOW.date())
        self.broker = broker
        broker.open_session(session, (self.symbol,), Decimal(10_000))
        self._minutes = 0
        self.trade_at(_PRICE)

    def trade_at(self, price: Decimal) -> None:
        """Show the next minute, all of it at this price."""
        self._show(price, _VOLUME)

    def trade_some(self, price: Decimal, quantity: Decimal) -> None:
        """Show a minute of which so many shares may be filled."""
        self._show(price, quantity / CONFIG.volume_limit)

    def _show(self, price: Decimal, volume: Decimal) -> None:
        value = np.array([float(price)])
        prices = dict.fromkeys(("open", "high", "low", "close", "vwap"), value)
        self.broker.observe(MinuteSlice(index=self._minutes, volume=np.array([float(volume)]), **prices))
        self._minutes += 1

    def wait(self, call: Coroutine[Any, Any, Result]) -> Result:
        """The result of a call; the paper broker needs no loop of its own."""
        return asyncio.run(call)


@contextmanager
def open_venue() -> Iterator[OneSymbolMarket]:
    """A fresh account of 10,000 USD, without slippage."""
    yield OneSymbolMarket(PaperBroker(CONFIG, ManualClock(NOW)))
