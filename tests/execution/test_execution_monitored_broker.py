"""A broker that is listened to: what its answers and silences tell the circuit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from tbot_core.contracts import BrokerCapabilities, MaintenanceWindow
from tbot_core.errors import OutcomeUnknown, Rejected, Unavailable, Withdrawn
from tbot_core.execution.circuit_breaker import CircuitBreaker, CircuitState
from tbot_core.execution.monitored_broker import MonitoredBroker
from tbot_core.execution.throttling import RateLimitedBroker
from tbot_core.model.clock import ManualClock
from tbot_core.testing.trades import order, session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.contracts import Broker


class Line:
    """A broker that fails as it is told; `find` is there like all else."""

    capabilities = BrokerCapabilities(query_by_cid=True, replace="same_id")

    def __init__(self, fault: Exception | None) -> None:
        self.fault = fault
        self.closed = False

    async def _said(self, *_parts: object) -> str:
        if self.fault is not None:
            raise self.fault
        return "said"

    connect = account = submit = cancel = replace = poll = snapshot = find = _said

    async def close(self) -> None:
        """Log out."""
        self.closed = True


class Blind:
    """A broker that does not offer find for one order."""


def heard(line: object, circuit: CircuitBreaker) -> MonitoredBroker:
    """The line, listened to."""
    return MonitoredBroker(cast("Broker", line), circuit, ManualClock(session().open))


ASKED: dict[str, tuple[Any, ...]] = {
    "connect": (),
    "account": (),
    "submit": (order(), None),
    "cancel": ("cid",),
    "replace": ("cid", order()),
    "poll": (),
    "snapshot": (session().open,),
    "find": ("cid",),
}


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("fault", [Unavailable("gone"), OutcomeUnknown("silent")])
def test_f12_three_failures_of_any_request_open_the_circuit(name: str, fault: Exception) -> None:
    """A way that is down and one that asks to be left alone fail alike; the fault goes on to whoever asked."""
    circuit = CircuitBreaker()
    broker = heard(Line(fault), circuit)
    for _ in range(3):
        with pytest.raises(type(fault)):
            asyncio.run(getattr(broker, name)(*ASKED[name]))
    assert circuit.state is CircuitState.OPEN
    assert circuit.since == session().open


@pytest.mark.parametrize("name", ASKED)
def test_a_no_is_an_answer(name: str) -> None:
    """What a broker rejects says nothing against the way to it."""
    circuit = CircuitBreaker()
    line = Line(Rejected("no"))
    for _ in range(4):
        with pytest.raises(Rejected):
            asyncio.run(getattr(heard(line, circuit), name)(*ASKED[name]))
    assert circuit.closed
    line.fault = None
    asyncio.run(getattr(heard(line, circuit), name)(*ASKED[name]))
    assert circuit.closed


def test_an_order_that_was_held_back_here_says_nothing() -> None:
    """A permit that was taken back is no failure of the way."""
    circuit = CircuitBreaker()
    for _ in range(4):
        with pytest.raises(Withdrawn):
            asyncio.run(heard(Line(Withdrawn("killed")), circuit).submit(order(), cast("Any", None)))
    assert circuit.closed


def test_what_it_does_not_hear_it_hands_on() -> None:
    """Capabilities and log-out are the broker's own; one that cannot find orders fails as one that does not answer."""
    line, circuit = Line(None), CircuitBreaker()
    broker = heard(line, circuit)
    asyncio.run(broker.close())
    assert (broker.capabilities, line.closed) == (line.capabilities, True)
    with pytest.raises(Unavailable, match="does not offer find"):
        asyncio.run(heard(Blind(), circuit).find("cid"))
    assert circuit.closed


class Knowing:
    """A broker that says prices, maintenance, hours and its time."""

    capabilities = BrokerCapabilities(prices=True, maintenance=True, hours=True, server_time=True)
    clock_ahead_s = (0.5,)
    fault: Exception | None = None

    async def prices(self, symbols: Sequence[str]) -> dict[str, float]:
        """Ten dollars each."""
        if self.fault is not None:
            raise self.fault
        return dict.fromkeys(symbols, 10.0)

    async def maintenance(self) -> tuple[MaintenanceWindow, ...]:
        """None is announced."""
        return ()

    async def hours(self, _day: object) -> None:
        """The exchange is closed."""


def test_what_a_broker_can_say_besides_is_heard_through() -> None:
    """Prices, hours and notices are passed on; that prices are not answered opens no circuit."""
    broker, circuit = Knowing(), CircuitBreaker()
    line = heard(broker, circuit)
    assert asyncio.run(line.prices(["A"])) == {"A": 10.0}
    for wrapper in (line, RateLimitedBroker(line, ManualClock(session().open))):
        assert asyncio.run(wrapper.maintenance()) == ()
        assert asyncio.run(wrapper.hours(session().date)) is None
        assert wrapper.clock_ahead_s == (0.5,)
    broker.fault = Unavailable("no prices")
    for _ in range(5):
        with pytest.raises(Unavailable):
            asyncio.run(line.prices(["A"]))
    assert circuit.state is CircuitState.CLOSED
    dumb = heard(Blind(), circuit)
    with pytest.raises(Unavailable, match="does not offer prices"):
        asyncio.run(dumb.prices(["A"]))
