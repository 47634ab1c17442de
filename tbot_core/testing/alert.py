"""The contract of alert channels: a pytest class that a plugin's tests inherit, with one numbered case a promise.

A plugin's test gives a service: the channel, what has arrived behind it, and a way to be out of reach::

    class TestContract(AlertContract):
        @pytest.fixture
        def service(self) -> FakeMailServer:
            return FakeMailServer()
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import attrs
import pytest

from tbot_core.contracts import Alert, AlertChannel, Urgency
from tbot_core.errors import Undelivered
from tbot_core.testing.causality import demand

if TYPE_CHECKING:
    from collections.abc import Sequence

_ALERT: Final = Alert(
    key="US_NY_PAPER_001-1",
    urgency=Urgency.CRITICAL,
    title="[PAPER US_NY_PAPER_001] The broker does not answer.",
    text="[PAPER US_NY_PAPER_001] The broker does not answer.\n15:00 UTC (10:00 New York)\nNext: tbot status",
    time=datetime(2026, 11, 24, 15, 0, tzinfo=UTC),
)


class ChannelUnderTest(Protocol):
    """A channel and what stands behind it."""

    @property
    def channel(self) -> AlertChannel:
        """The channel."""

    def arrived(self) -> Sequence[str]:
        """The text of every message that has arrived, oldest first."""

    def fail(self) -> bool:
        """Be out of reach from now on; false where that cannot be."""


class AlertContract:
    """What the core demands of every alert channel; a subclass has a fixture `service`."""

    def test_a01_it_is_a_channel(self, service: ChannelUnderTest) -> None:
        """It can send."""
        demand(isinstance(service.channel, AlertChannel), "a channel has `send`")

    @pytest.mark.parametrize("urgency", list(Urgency))
    def test_a02_what_is_sent_arrives(self, service: ChannelUnderTest, urgency: Urgency) -> None:
        """One message arrives for each alert, and says what happened and what to run next."""
        _send(service, attrs.evolve(_ALERT, urgency=urgency))
        arrived = service.arrived()
        demand(len(arrived) == 1, f"{len(arrived)} messages arrived in place of 1")
        for words in ("[PAPER US_NY_PAPER_001] The broker does not answer.", "tbot status"):
            demand(words in arrived[0], f"the message that arrived lacks {words!r}")

    def test_a03_the_end_of_an_incident_is_no_error(self, service: ChannelUnderTest) -> None:
        """A resolution of an incident is taken, also of one that the service never heard of."""
        for key in (_ALERT.key, "US_NY_PAPER_001-2"):
            _send(service, _ALERT)
            _send(service, attrs.evolve(_ALERT, key=key, resolved=True))

    def test_a04_a_message_sent_again_is_no_error(self, service: ChannelUnderTest) -> None:
        """The core sends again what may not have arrived, under the same key."""
        _send(service, _ALERT)
        _send(service, _ALERT)
        demand(bool(service.arrived()), "nothing arrived")

    @pytest.mark.parametrize("what", ["", "\N{WARNING SIGN} 12 \u2212 \u00e9", "x" * 5_000, "<b>&amp;'\"\\{}%s"])
    def test_a05_any_text_is_taken(self, service: ChannelUnderTest, what: str) -> None:
        """Whatever stands in a text, and however long it is, something arrives; it may be cut."""
        _send(service, attrs.evolve(_ALERT, text=f"{_ALERT.title}\n{what}"))
        demand(any(_ALERT.title in text for text in service.arrived()), "what arrived lacks the title")

    def test_a06_what_does_not_arrive_is_an_error(self, service: ChannelUnderTest) -> None:
        """A service that is out of reach is told as `Undelivered`, so that the other channel is tried."""
        if not service.fail():
            pytest.skip("this service cannot be out of reach")
        with pytest.raises(Undelivered):
            _send(service, _ALERT)


def _send(service: ChannelUnderTest, alert: Alert) -> None:
    asyncio.run(service.channel.send(alert))
