"""The broker of the tutorial keeps the contract of brokers over a real connection, and survives what a venue does."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.contracts import BrokerEventKind, OrderStatus
from tbot_core.errors import BrokerError, LoginNeeded, OutcomeUnknown, Rejected, Unavailable
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.model.clock import ManualClock
from tbot_core.system.secret import Secret
from tbot_core.testing.broker import DAWN, BrokerContract
from tbot_core.testing.scripted_server import ScriptedServer, ServerFault, context
from tbot_core.testing.trades import order as order_of

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from decimal import Decimal

pytestmark = pytest.mark.usefixtures("loopback")


@pytest.fixture
def package(root: Path) -> Iterator[Path]:
    """The folder of the tutorial's package, importable."""
    folder = root / "docs" / "tutorials" / "acme-broker"
    sys.path[:0] = [str(folder), str(root / "tests" / "tutorials")]
    yield folder
    del sys.path[:2]
    for name in [name for name in sys.modules if name.startswith(("tbot_broker_acme", "acme_venue"))]:
        del sys.modules[name]


class Exchange:
    """The broker and its venue, in one event loop."""

    symbol = "ACME"

    def __init__(self, runner: asyncio.Runner, venue: Any, key: str = "acme-key") -> None:
        self._runner, self._venue = runner, venue
        self.server = ScriptedServer(venue.answer)
        runner.run(self.server.__aenter__())
        acme = importlib.import_module("tbot_broker_acme")
        plugin = acme.tbot_broker()
        credentials = acme.Credentials(api_key=Secret(key))
        given = context(
            self.server,
            hosts=plugin.needs.hosts,
            secrets={"broker": credentials},
            clock=ManualClock(DAWN),
            timeout_s=0.3,
        )
        self.broker = plugin.create(plugin.config(), given)

    def trade_at(self, price: Decimal) -> None:
        """Let the market trade at this price."""
        self._venue.trade_at(price)

    def wait(self, call: Coroutine[Any, Any, Any]) -> Any:
        """The result of a call."""
        return self._runner.run(call)

    def close(self) -> None:
        """Close both ends."""
        self.wait(self.broker.close())
        self.wait(self.server.__aexit__(None, None, None))


@pytest.fixture
def venue(package: Path) -> Iterator[Exchange]:
    """A fresh account at a market that trades at 20 USD."""
    assert package.is_dir()
    with asyncio.Runner() as runner:
        exchange = Exchange(runner, importlib.import_module("acme_venue").AcmeVenue())
        yield exchange
        exchange.close()


class TestContract(BrokerContract):
    """The tutorial's broker keeps the contract of brokers."""


def submit(venue: Exchange, order: Any) -> None:
    """Send an order with a permit."""
    venue.wait(venue.broker.submit(order, SendPermit(order, never_refuse)))


@pytest.mark.parametrize("fault", [ServerFault.LOST_REPLY, ServerFault.NO_REPLY, ServerFault.GATEWAY_TIMEOUT])
def test_g01_a_reply_that_is_lost_leaves_one_order(venue: Exchange, fault: ServerFault) -> None:
    """The outcome is unknown, the look-up finds the order, and the venue saw one post."""
    order = order_of(name="x-1", quantity="10")
    venue.server.fail(fault, path="/orders")
    with pytest.raises(OutcomeUnknown):
        submit(venue, order)
    found = venue.wait(venue.broker.find("x-1"))
    assert found.kind is OrderStatus.WORKING
    assert [one.method for one in venue.server.requests].count("POST") == 1


def test_g02_an_order_that_did_not_arrive_is_not_there(venue: Exchange) -> None:
    """The outcome is unknown until the look-up says that there is none."""
    venue.server.fail(ServerFault.LOST_REQUEST, path="/orders")
    with pytest.raises(OutcomeUnknown):
        submit(venue, order_of(name="x-1", quantity="10"))
    assert venue.wait(venue.broker.find("x-1")) is None


def test_an_id_that_was_used_is_looked_up(venue: Exchange) -> None:
    """A duplicate id is no rejection: the order is there."""
    order = order_of(name="x-1", quantity="10")
    submit(venue, order)
    with pytest.raises(OutcomeUnknown, match="used before"):
        submit(venue, order)
    with pytest.raises(Rejected, match="whole shares only"):
        submit(venue, order_of(name="x-2", quantity="1.5"))


def test_every_page_of_the_orders_is_read(venue: Exchange) -> None:
    """A snapshot is whole, or it is none."""
    for number in range(5):
        submit(venue, order_of(name=f"x-{number}", limit="1"))
    snapshot = venue.wait(venue.broker.snapshot(DAWN))
    assert [report.client_order_id for report in snapshot.orders] == [f"x-{number}" for number in range(5)]
    venue.server.fail(ServerFault.SERVER_ERROR, path="/orders")
    with pytest.raises(Unavailable):
        venue.wait(venue.broker.snapshot(DAWN))


def test_a_working_order_is_changed_in_place(venue: Exchange) -> None:
    """It keeps its id."""
    order = order_of(name="x-1", limit="1")
    submit(venue, order)
    venue.wait(venue.broker.replace("x-1", order))
    assert [event.kind for event in venue.wait(venue.broker.poll())] == [
        BrokerEventKind.ACKNOWLEDGED,
        BrokerEventKind.REPLACED,
    ]


def test_g10_a_wrong_key_needs_a_login(package: Path) -> None:
    """401 is neither silence nor a rejection of an order."""
    assert package.is_dir()
    with asyncio.Runner() as runner:
        exchange = Exchange(runner, importlib.import_module("acme_venue").AcmeVenue(), key="another")
        with pytest.raises(LoginNeeded) as caught:
            exchange.wait(exchange.broker.connect())
        exchange.close()
    assert isinstance(caught.value, BrokerError)
    assert "another" not in str(caught.value)


def test_the_package_is_small_and_complete(package: Path) -> None:
    """At most 300 lines, and an entry point that names it."""
    lines = sum(len(path.read_text().splitlines()) for path in package.rglob("*.py"))
    assert lines <= 300
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {"tbot.brokers": {"acme": "tbot_broker_acme"}}


def test_the_tutorial_shows_what_is_tested(package: Path, root: Path) -> None:
    """Each block of code on the page is a part of the package or of this file, word for word."""
    page = (root / "docs" / "tutorials" / "first-broker.md").read_text()
    sources = [path.read_text() for path in (*package.rglob("*.py"), package / "pyproject.toml", Path(__file__))]
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", page, re.DOTALL)
    assert blocks
    assert [block for block in blocks if not any(block in source for source in sources)] == []
