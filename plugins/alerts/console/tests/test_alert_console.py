"""The console channel keeps the contract of channels, and says how grave an alert is."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from tbot_alert_console import Config, Console, tbot_alert
from tbot_alert_console.venue import LogReader, RecordedLog, open_venue

from tbot_core.contracts import Alert, Context, Urgency
from tbot_core.model.clock import ManualClock
from tbot_core.testing.alert import AlertContract, ChannelUnderTest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)


@pytest.fixture
def terminal() -> Iterator[LogReader]:
    """The channel as the core makes it, before a log that is read."""
    with open_venue() as found:
        yield found


class TestContract(AlertContract):
    """The channel keeps the contract."""

    @pytest.fixture
    def service(self, terminal: LogReader) -> ChannelUnderTest:
        """The channel, and the reader of the log."""
        return terminal


@pytest.mark.parametrize(
    ("urgency", "resolved", "level"),
    [
        (Urgency.CRITICAL, False, "error"),
        (Urgency.CRITICAL, True, "info"),
        (Urgency.ROUTINE, False, "info"),
        (Urgency.ROUTINE, True, "info"),
    ],
)
def test_only_a_critical_alert_that_stands_is_an_error(
    terminal: LogReader, urgency: Urgency, resolved: bool, level: str
) -> None:
    """The level says whether somebody has to act; the line has incident and text."""
    alert = Alert(key="bot-1", urgency=urgency, title="t", text="what to do", time=NOW, resolved=resolved)
    asyncio.run(terminal.channel.send(alert))
    ((kept, event, fields),) = terminal.log.lines
    assert (kept, event, fields.pop("resolved")) == (level, "alert", resolved)
    assert fields == {"incident": "bot-1", "text": "what to do"}


def test_it_is_made_from_its_offer(tmp_path: Path) -> None:
    """What the plugin offers makes a channel that writes to the log it is given."""
    offer, log = tbot_alert(), RecordedLog()
    made = offer.create(Config(), Context(clock=ManualClock(NOW), log=log, data_dir=tmp_path))
    assert made == Console(log)
    assert (offer.name, offer.config) == ("console", Config)
