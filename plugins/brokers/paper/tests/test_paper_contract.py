"""The paper broker keeps the contract of brokers, and the contract notices brokers that don't."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest
from tbot_broker_paper.broker import PaperBroker
from tbot_broker_paper.venue import CONFIG, NOW, OneSymbolMarket, open_venue

from tbot_core.contracts import BrokerCapabilities, BrokerEvent, BrokerEventKind, Permit
from tbot_core.errors import Unavailable
from tbot_core.model.clock import ManualClock
from tbot_core.testing import broker as kit
from tbot_core.testing.broker import BrokerContract
from tbot_core.testing.feed import FeedContract
from tbot_core.trading.matching import SIMULATOR_CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from decimal import Decimal

    from tbot_core.model.types import Account, Order
    from tbot_core.testing.contract import ContractCase


class TestContract(BrokerContract):
    """The paper broker keeps the contract of brokers."""

    @pytest.fixture
    def venue(self) -> Iterator[OneSymbolMarket]:
        """A fresh session at 20 USD."""
        with open_venue() as market:
            yield market


class TestFeed(FeedContract):
    """The simulated market keeps the contract of feeds, as far as whole minutes do."""

    @pytest.fixture
    def venue(self) -> Iterator[OneSymbolMarket]:
        """The simulated market at a fixed moment."""
        with open_venue() as market:
            yield market


class _Broken(PaperBroker):
    # A paper broker to be broken in one way.
    def __init__(self) -> None:
        super().__init__(CONFIG, ManualClock(NOW))


class _Repeats(_Broken):
    # Repeats its first event.
    async def poll(self) -> Sequence[BrokerEvent]:
        events = await super().poll()
        self._events = list(events[:1])
        return events


class _ReusesIds(_Broken):
    # Gives all events one id.
    async def poll(self) -> Sequence[BrokerEvent]:
        return [attrs.evolve(event, event_id="1") for event in await super().poll()]


class _Keeps(_Broken):
    # Says nothing of a cancel, and does nothing.
    async def cancel(self, client_order_id: str) -> None:
        assert client_order_id in self._reports


class _Forgets(_Broken):
    # Leaves an entry without its protection.
    async def submit(self, order: Order, permit: Permit) -> None:
        await super().submit(attrs.evolve(order, protection=()), permit)


class _LetsGo(_Broken):
    # Takes the legs away with the rest of their entry.
    async def cancel(self, client_order_id: str) -> None:
        await super().cancel("kit-stop")
        await super().cancel(client_order_id)


class _Stays(_Broken):
    # Says that a stop has moved, and leaves it where it was.
    async def replace(self, client_order_id: str, order: Order) -> None:  # noqa: ARG002 - that is the fault
        self._events.append(BrokerEvent(kind=BrokerEventKind.REPLACED, event_id="x", client_order_id=client_order_id))


class _Rounds(_Broken):
    # Fills whole shares alone.
    async def submit(self, order: Order, permit: Permit) -> None:
        await super().submit(attrs.evolve(order, quantity=order.quantity // 1), permit)


class _Generous(_Broken):
    # Shows cash that was never spent.
    async def account(self) -> Account:
        return attrs.evolve(await super().account(), cash=CONFIG.paper_cash)


class _Contradicts(_Broken):
    # Sells fractions of a share by no type of order.
    @property
    def capabilities(self) -> BrokerCapabilities:
        return attrs.evolve(SIMULATOR_CAPABILITIES, fractional_types=frozenset())


class _Wanders(_Broken):
    # Names another account each time.
    async def connect(self) -> Account:
        self._events.append(BrokerEvent(kind=BrokerEventKind.ACKNOWLEDGED, event_id="x", client_order_id="x"))
        return attrs.evolve(await super().connect(), account_id=f"PAPER-{len(self._events)}")


class _Silent(_Broken):
    # Fills without a word of acknowledgement.
    async def poll(self) -> Sequence[BrokerEvent]:
        return [event for event in await super().poll() if event.kind != BrokerEventKind.ACKNOWLEDGED]


@pytest.mark.parametrize(
    ("broken", "case"),
    [
        (_Contradicts, kit.b02_its_capabilities_fit_each_other),
        (_Wanders, kit.b03_it_says_whose_account_it_is),
        (_Silent, kit.b04_a_market_order_is_filled),
        (_Repeats, kit.b05_an_event_is_reported_once),
        (_ReusesIds, kit.b05_an_event_is_reported_once),
        (_Keeps, kit.b07_a_resting_order_is_cancelled),
        (_Keeps, kit.b08_an_unknown_order_cannot_be_cancelled),
        (_Forgets, kit.b09_protection_rests_from_the_fill_on),
        (_Forgets, kit.b19_brackets_protect_a_part),
        (_LetsGo, kit.b19_brackets_protect_a_part),
        (_Stays, kit.b10_a_stop_moves_at_once),
        (_Rounds, kit.b11_fractions_are_filled),
        (_Generous, kit.b12_cash_follows_fills),
    ],
)
def test_a_broken_broker_is_noticed(broken: type[_Broken], case: ContractCase) -> None:
    """Each fault fails the case that promises its absence."""
    with pytest.raises(AssertionError):
        case(OneSymbolMarket(broken()))


class _Claimless(_Broken):
    # Claims nothing that it need not.
    @property
    def capabilities(self) -> BrokerCapabilities:
        return BrokerCapabilities(simulated=True)


class _Unmovable(_Broken):
    # Has brackets whose stops cannot be moved.
    @property
    def capabilities(self) -> BrokerCapabilities:
        return BrokerCapabilities(simulated=True, brackets=True)


@pytest.mark.parametrize(
    ("modest", "case"),
    [
        (_Claimless, kit.b09_protection_rests_from_the_fill_on),
        (_Claimless, kit.b19_brackets_protect_a_part),
        (_Unmovable, kit.b10_a_stop_moves_at_once),
        (_Claimless, kit.b11_fractions_are_filled),
    ],
)
def test_what_is_not_claimed_is_not_asked(modest: type[_Broken], case: ContractCase) -> None:
    """A case of what the rules do not claim is skipped."""
    with pytest.raises(pytest.skip.Exception):
        case(OneSymbolMarket(modest()))


class _WholeOnly:
    # A venue that cannot fill a part.
    def __init__(self, market: OneSymbolMarket) -> None:
        self.broker, self.symbol, self.wait, self.trade_at = market.broker, "A", market.wait, market.trade_at


class _FillsAll(OneSymbolMarket):
    def trade_some(self, price: Decimal, quantity: Decimal) -> None:
        assert quantity > 0
        self.trade_at(price)


def test_brackets_are_shown_or_not_declared() -> None:
    """A venue that fills no part, or the whole order, is refused with a sentence that says what to do instead."""
    with pytest.raises(AssertionError, match=r"trade_some, to show .* or declare brackets=False"):
        kit.b19_brackets_protect_a_part(_WholeOnly(OneSymbolMarket(_Broken())))
    with pytest.raises(AssertionError, match="trade_some must fill a part"):
        kit.b19_brackets_protect_a_part(_FillsAll(_Broken()))


class _Refuses(_Broken):
    # Answers the cancel of a stranger with an error.
    async def cancel(self, client_order_id: str) -> None:
        raise Unavailable(f"{client_order_id} is not known.")


def test_a_refusal_may_be_an_error() -> None:
    """The cancel of a stranger may raise; ids of executions are looked at where they are claimed to be unique."""
    kit.b08_an_unknown_order_cannot_be_cancelled(OneSymbolMarket(_Refuses()))
    kit.b05_an_event_is_reported_once(OneSymbolMarket(_Claimless()))
