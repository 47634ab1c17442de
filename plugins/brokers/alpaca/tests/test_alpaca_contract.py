"""The broker and its feed keep their contracts at the test venue, over real connections of this machine."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from tbot_broker_alpaca.broker import AlpacaBroker
from tbot_broker_alpaca.venue import open_venue

from tbot_core.contracts import Gap
from tbot_core.errors import BrokerError
from tbot_core.testing import broker as kit
from tbot_core.testing import broker_faults
from tbot_core.testing.broker import BrokerContract
from tbot_core.testing.feed import FeedContract

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tbot_broker_alpaca.venue import AlpacaExchange


@pytest.fixture
def venue(loopback: None) -> Iterator[AlpacaExchange]:  # noqa: ARG001  -- a fixture wanted for its effect
    """A fresh account at a market that trades at 20 USD."""
    with open_venue() as exchange:
        yield exchange


async def ends_quietly(broker: Any) -> AsyncIterator[Any]:
    """Opens another connection by itself, and does not say that what happened between is missing."""
    first = True
    while True:
        with suppress(BrokerError):
            async for item in AlpacaBroker.events(broker):
                if first or not isinstance(item, Gap):
                    yield item
                first = False


async def numbers_events(broker: Any) -> AsyncIterator[Any]:
    """Gives each event an id of its own, also where it comes again."""
    numbers = count()
    async for item in AlpacaBroker.events(broker):
        yield item if isinstance(item, Gap) else attrs.evolve(item, event_id=str(next(numbers)))


@pytest.mark.parametrize(
    ("breach", "case"),
    [
        (ends_quietly, broker_faults.g37_a_lost_stream_is_opened_again),
        (numbers_events, broker_faults.g38_a_repeated_message_repeats_no_event),
    ],
)
def test_a_breach_of_a_stream_is_found(venue: AlpacaExchange, breach: Any, case: Any) -> None:
    """A plugin whose stream does otherwise fails the case of that promise."""
    venue.broker.events = partial(breach, venue.broker)
    with pytest.raises(AssertionError):
        case(venue)


def test_an_error_of_a_stream_is_the_finding(venue: AlpacaExchange) -> None:
    """What a plugin raises that is no BrokerError ends the case: the core would count it as a failure of the plugin."""

    async def breaks() -> AsyncIterator[Any]:
        yield Gap(words="open")
        raise KeyError("order")

    venue.broker.events = breaks
    with pytest.raises(KeyError):
        kit.b18_a_stream_says_when_it_stands(venue)


class TestContract(BrokerContract):
    """Each promise of `tbot_core.testing.broker`."""


class TestFeed(FeedContract):
    """Each promise of `tbot_core.testing.feed`."""
