"""The broker and its feed keep their contracts at the test venue, over real connections of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tbot_broker_alpaca.venue import open_venue

from tbot_core.testing.broker import BrokerContract
from tbot_core.testing.feed import FeedContract

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_broker_alpaca.venue import AlpacaExchange


@pytest.fixture
def venue(loopback: None) -> Iterator[AlpacaExchange]:  # noqa: ARG001  -- a fixture wanted for its effect
    """A fresh account at a market that trades at 20 USD."""
    with open_venue() as exchange:
        yield exchange


class TestContract(BrokerContract):
    """Each promise of `tbot_core.testing.broker`."""


class TestFeed(FeedContract):
    """Each promise of `tbot_core.testing.feed`."""
