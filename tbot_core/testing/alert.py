"""The contract of alert channels: numbered cases, and a pytest class that a plugin's tests inherit.

A plugin's test supplies a service: the channel, the delivered messages, and a way to make it unreachable::

    class TestContract(AlertContract):
        @pytest.fixture
        def service(self) -> FakeMailServer:
            return FakeMailServer()
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from tbot_core.contracts import Alert, AlertChannel, SupportsAcknowledgement, SupportsConnectionCheck, Urgency
from tbot_core.errors import Undelivered
from tbot_core.testing.contract import ContractCase, ContractTests, NotClaimed, demand

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

_ALERT: Final = Alert(
    key="US_NY_PAPER_001-1",
    urgency=Urgency.CRITICAL,
    title="[PAPER US_NY_PAPER_001] The broker does not respond.",
    text="[PAPER US_NY_PAPER_001] The broker does not respond.\n15:00 UTC (10:00 New York)\nNext: tbot status",
    time=datetime(2026, 11, 24, 15, 0, tzinfo=UTC),
)


_TEXTS: Final = ("", "\N{WARNING SIGN} 12 \u2212 \u00e9", "x" * 5_000, "<b>&amp;'\"\\{}%s")


class ChannelUnderTest(Protocol):
    """A channel and the service behind it."""

    @property
    def channel(self) -> AlertChannel:
        """The channel."""

    def arrived(self) -> Sequence[str]:
        """The text of every delivered message, oldest first."""

    def fail(self) -> bool:
        """Make the service unreachable from now on; false if that is not possible."""

    def wait(self, call: Coroutine[Any, Any, Any]) -> None:
        """Await a call to the channel in its event loop."""


def a01_it_is_a_channel(service: ChannelUnderTest) -> None:
    """It has `send`."""
    demand(isinstance(service.channel, AlertChannel), "a channel has `send`")


def a02_what_is_sent_arrives(service: ChannelUnderTest) -> None:
    """Each alert, of any urgency, gives one message with what happened and what to run next."""
    for number, urgency in enumerate(Urgency, 1):
        _send(service, attrs.evolve(_ALERT, key=f"{_ALERT.key}-{number}", urgency=urgency))
        arrived = service.arrived()
        demand(len(arrived) == number, f"{len(arrived)} messages arrived instead of {number}")
        for words in ("[PAPER US_NY_PAPER_001] The broker does not respond.", "tbot status"):
            demand(words in arrived[-1], f"the message that arrived lacks {words!r}")


def a03_the_end_of_an_incident_is_no_error(service: ChannelUnderTest) -> None:
    """The end of an incident is accepted, also of an incident that the service does not know."""
    for key in (_ALERT.key, "US_NY_PAPER_001-2"):
        _send(service, _ALERT)
        _send(service, attrs.evolve(_ALERT, key=key, resolved=True))


def a04_a_message_sent_again_is_no_error(service: ChannelUnderTest) -> None:
    """The core resends a message that may not have arrived, with the same key."""
    _send(service, _ALERT)
    _send(service, _ALERT)
    demand(bool(service.arrived()), "nothing arrived")


def a05_any_text_is_taken(service: ChannelUnderTest) -> None:
    """Any text of any length is delivered; it may be cut."""
    for number, what in enumerate(_TEXTS, 1):
        _send(service, attrs.evolve(_ALERT, key=f"{_ALERT.key}-{number}", text=f"{_ALERT.title}\n{what}"))
        arrived = [text for text in service.arrived() if _ALERT.title in text]
        demand(len(arrived) == number, f"a message with the text {what[:20]!r} did not arrive with its title")


def a06_what_does_not_arrive_is_an_error(service: ChannelUnderTest) -> None:
    """An unreachable service raises `Undelivered`, so that the other channel is tried."""
    if not service.fail():
        raise NotClaimed("this service cannot be made unreachable")
    try:
        _send(service, _ALERT)
    except Undelivered:
        return
    raise AssertionError("an alert to an unreachable service must raise Undelivered")


def a07_an_acknowledgement_is_no_error(service: ChannelUnderTest) -> None:
    """An acknowledgement is accepted, also of an incident that the service does not know, and is no further message."""
    channel = service.channel
    if not isinstance(channel, SupportsAcknowledgement):
        raise NotClaimed("this channel reports no acknowledgements")
    _send(service, _ALERT)
    for key in (_ALERT.key, f"{_ALERT.key}-unknown"):
        service.wait(channel.acknowledge(attrs.evolve(_ALERT, key=key)))
    demand(len(service.arrived()) == 1, "an acknowledgement arrived as a message")


def a08_a_check_sends_nothing(service: ChannelUnderTest) -> None:
    """A check of the connection sends no message, and raises `Undelivered` for an unreachable service."""
    channel = service.channel
    if not isinstance(channel, SupportsConnectionCheck):
        raise NotClaimed("this channel cannot check its connection")
    service.wait(channel.check_connection())
    demand(not service.arrived(), "a check of the connection sent a message")
    if service.fail():
        try:
            service.wait(channel.check_connection())
        except Undelivered:
            return
        raise AssertionError("a check of an unreachable service must raise Undelivered")


CASES: Final[tuple[ContractCase, ...]] = (
    a01_it_is_a_channel,
    a02_what_is_sent_arrives,
    a03_the_end_of_an_incident_is_no_error,
    a04_a_message_sent_again_is_no_error,
    a05_any_text_is_taken,
    a06_what_does_not_arrive_is_an_error,
    a07_an_acknowledgement_is_no_error,
    a08_a_check_sends_nothing,
)
"""The contract, in order of the numbers."""


class AlertContract(ContractTests):
    """The contract of alert channels as tests; a subclass, or its module, has a fixture `service`."""

    cases = CASES

    def test_contract(self, case: ContractCase, service: ChannelUnderTest) -> None:
        """Run one case."""
        case(service)


def _send(service: ChannelUnderTest, alert: Alert) -> None:
    service.wait(service.channel.send(alert))
