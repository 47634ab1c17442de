"""The broker of the simulation keeps the contract of brokers, whatever its venue is like."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from tbot_core.contracts import Broker, BrokerCapabilities, SupportsOrderLookup
from tbot_core.model.types import units_of
from tbot_core.rehearsal.small_world import SmallWorld
from tbot_core.rehearsal.venue_profiles import VenueProfile
from tbot_core.testing.broker import BrokerContract

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

Said = TypeVar("Said")
ABLE = BrokerCapabilities(
    brackets=True,
    replace="same_id",
    query_by_cid=True,
    lists_closed=True,
    exec_ids_unique=True,
    quantity_step=Decimal("0.000001"),
    fractional_types=frozenset({"market"}),
)
CHARACTERS = {
    "able": VenueProfile(rules=ABLE, fee_ticks=35, dedupe_window_s=86_400.0),
    "modest": VenueProfile(
        rules=BrokerCapabilities(lists_fills=True), numbers_moments=False, refuses_at_once=False, cancels_by_cid=False
    ),
    "cash": VenueProfile(
        rules=BrokerCapabilities(brackets=True, query_by_cid=True, lists_closed=True),
        margin=False,
        cancels_by_cid=False,
    ),
    "streaming": VenueProfile(rules=BrokerCapabilities(streams=True, query_by_cid=True, lists_closed=True)),
    "moody": VenueProfile(rules=BrokerCapabilities(replace="same_id", lists_fills=True), refuses_crossed_stops=True),
}


DEEP = 10**12


class Patient(SmallWorld):
    """A stage whose stream has caught up whenever an answer is there, and which trades only as the test says."""

    def __init__(self, profile: VenueProfile) -> None:
        """No depth, and no spread."""
        super().__init__(profile)
        self._path = self.market.paths[self.symbol]
        self._path.depth, self._path.half_spread = [0] * len(self._path.depth), 0

    def trade_at(self, price: Decimal) -> None:
        """Trade any quantity, once."""
        self._path.depth[self.matching.step + 1] = DEEP
        super().trade_at(price)

    def trade_some(self, price: Decimal, quantity: Decimal) -> None:
        """Trade this quantity, once."""
        self._path.depth[self.matching.step + 1] = units_of(quantity)
        super().trade_at(price)

    def wait(self, asked: Coroutine[Any, Any, Said]) -> Said:
        """The answer, and a second for the stream."""
        said = super().wait(asked)
        self.loop.pass_time(1.0)
        return said


class TestContract(BrokerContract):
    """A simulated broker without faults keeps the contract."""

    @pytest.fixture(params=[*CHARACTERS])
    def venue(self, request: pytest.FixtureRequest) -> Iterator[Patient]:
        """A venue of each character."""
        stage = Patient(CHARACTERS[request.param])
        yield stage
        stage.close()


def test_it_is_a_broker_that_finds() -> None:
    """The client has the methods of its venue."""
    stage = SmallWorld(CHARACTERS["able"])
    assert isinstance(stage.broker, Broker)
    assert isinstance(stage.broker, SupportsOrderLookup)
    stage.close()
