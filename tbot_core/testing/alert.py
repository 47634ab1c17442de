"""The contract of alert channels: a pytest class that a plugin's tests inherit, with one numbered test per rule.

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
import pytest

from tbot_core.contracts import Alert, AlertChannel, Urgency
from tbot_core.errors import Undelivered
from tbot_core.testing.causality import demand

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

_ALERT: Final = Alert(
    key="US_NY_PAPER_001-1",
    urgency=Urgency.CRITICAL,
    title="[PAPER US_NY_PAPER_001] The broker does not respond.",
    text="[PAPER US_NY_PAPER_001] The broker does not respond.\n15:00 UTC (10:00 New York)\nNext: tbot status",
    time=datetime(2026, 11, 24, 15, 0, tzinfo=UTC),
)


class ChannelUnderTest(Protocol):
    """A channel and the service behind it."""

    @property
    def channel(self) -> AlertChannel:
        """The channel."""

    def arrived(self) -> Sequence[str]:
        """The text of every delivered message, oldest first."""

    def fail(self) -> bool:
        """Make the service unreachable from now on; false if that is not possible."""

    def wait(self, call: Coroutine[Any, Any, None]) -> None:
        """Await a call to the channel in its event loop."""


class AlertContract:
    """The contract of alert channels; a subclass has a fixture `service`."""

    def test_a01_it_is_a_channel(self, service: ChannelUnderTest) -> None:
        """It has `send`."""
        demand(isinstance(service.channel, AlertChannel), "a channel has `send`")

    @pytest.mark.parametrize("urgency", list(Urgency))
    def test_a02_what_is_sent_arrives(self, service: ChannelUnderTest, urgency: Urgency) -> None:
        """Each alert gives one message with what happened and what to run next."""
        _send(service, attrs.evolve(_ALERT, urgency=urgency))
        arrived = service.arrived()
        demand(len(arrived) == 1, f"{len(arrived)} messages arrived instead of 1")
        for words in ("[PAPER US_NY_PAPER_001] The broker does not respond.", "tbot status"):
            demand(words in arrived[0], f"the message that arrived lacks {words!r}")

    def test_a03_the_end_of_an_incident_is_no_error(self, service: ChannelUnderTest) -> None:
        """The end of an incident is accepted, also of an incident that the service does not know."""
        for key in (_ALERT.key, "US_NY_PAPER_001-2"):
            _send(service, _ALERT)
            _send(service, attrs.evolve(_ALERT, key=key, resolved=True))

    def test_a04_a_message_sent_again_is_no_error(self, service: ChannelUnderTest) -> None:
        """The core resends a message that may not have arrived, with the same key."""
        _send(service, _ALERT)
        _send(service, _ALERT)
        demand(bool(service.arrived()), "nothing arrived")

    @pytest.mark.parametrize("what", ["", "\N{WARNING SIGN} 12 \u2212 \u00e9", "x" * 5_000, "<b>&amp;'\"\\{}%s"])
    def test_a05_any_text_is_taken(self, service: ChannelUnderTest, what: str) -> None:
        """Any text of any length is delivered; it may be cut."""
        _send(service, attrs.evolve(_ALERT, text=f"{_ALERT.title}\n{what}"))
        demand(any(_ALERT.title in text for text in service.arrived()), "the delivered message lacks the title")

    def test_a06_what_does_not_arrive_is_an_error(self, service: ChannelUnderTest) -> None:
        """An unreachable service raises `Undelivered`, so that the other channel is tried."""
        if not service.fail():
            pytest.skip("this service cannot be made unreachable")
        with pytest.raises(Undelivered):
            _send(service, _ALERT)


def _send(service: ChannelUnderTest, alert: Alert) -> None:
    service.wait(service.channel.send(alert))
