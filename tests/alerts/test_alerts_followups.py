"""What follows a message: its end and its acknowledgement reach the channel that delivered it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs
import pytest

from tbot_core.alerts.delivery import AlertDelivery, MessageWriter
from tbot_core.alerts.dispatcher import AlertDispatcher, AlertOptions
from tbot_core.alerts.store import FILE_NAME, AlertStore, Delivery, Notice, open_store
from tbot_core.contracts import Alert, SupportsAcknowledgement, Urgency
from tbot_core.errors import PartlyDelivered, Unavailable, Undelivered
from tbot_core.instance import Instance
from tbot_core.model.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW: Final = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)


@attrs.define
class Mail:
    """A channel that cannot acknowledge."""

    got: list[str] = attrs.field(factory=list)
    fault: Exception | None = None

    async def send(self, alert: Alert) -> str:
        """Keep what was sent."""
        if self.fault is not None:
            raise self.fault
        self.got.append(f"{'end' if alert.resolved else 'alert'} {alert.key}")
        return "250 OK"


@attrs.define
class Pager(Mail):
    """A channel that can."""

    async def acknowledge(self, alert: Alert) -> None:
        """Keep it."""
        if self.fault is not None:
            raise self.fault
        self.got.append(f"acknowledged {alert.key}")


class Bot:
    """A dispatcher with a pager and mail, and its store."""

    def __init__(self, home: Path) -> None:
        self.instance, self.clock = Instance.at(home), ManualClock(NOW)
        self.instance.data.mkdir(parents=True)
        self.pager, self.mail = Pager(), Mail()
        self.store: AlertStore = open_store(self.instance.data / FILE_NAME)
        self.dispatcher = self.started()

    def started(self) -> AlertDispatcher:
        """A run."""
        own = {Urgency.CRITICAL: ("pager",), Urgency.ROUTINE: ("mail",)}
        delivery = AlertDelivery({"pager": self.pager, "mail": self.mail}, own)
        writer = MessageWriter(mode="paper", identity="BOT_1")
        made = AlertDispatcher(self.instance, delivery, writer, self.clock, AlertOptions())
        made.begin()
        return made

    def incident(self, name: str = "a") -> None:
        """Open one and send it."""
        self.store.open_incident(Notice(key=name, urgency=Urgency.CRITICAL, what=f"Incident {name}."), self.clock.now())
        self.send()

    def end(self, name: str = "a") -> None:
        """Close it, and let the minute pass after which that is reported."""
        self.store.clear_incident(name, self.clock.now())
        self.clock.advance(61)
        self.send()

    def send(self) -> None:
        """Send what is due."""
        for urgency in Urgency:
            asyncio.run(self.dispatcher.send(urgency))
        asyncio.run(self.dispatcher.send_pending())


@pytest.fixture
def bot(tmp_path: Path) -> Iterator[Bot]:
    """A bot with its store."""
    made = Bot(tmp_path / "x")
    yield made
    made.store.close()
    asyncio.run(made.dispatcher.finish())


KEY: Final = "BOT_1-1-20261124T150000"


def test_an_acknowledgement_reaches_the_channel_once(bot: Bot) -> None:
    """Also where the bot was started again in between."""
    bot.incident()
    bot.store.acknowledge([1], "me", NOW)
    bot.send()
    bot.dispatcher = bot.started()
    bot.send()
    assert isinstance(bot.pager, SupportsAcknowledgement)
    assert bot.pager.got == [f"alert {KEY}", f"acknowledged {KEY}"]


def test_an_acknowledgement_waits_for_every_alert_of_the_message(bot: Bot) -> None:
    """A merged message is acknowledged as a whole."""
    for number in range(7):
        bot.store.add_notices([Notice(key="n", urgency=Urgency.CRITICAL, what=f"Notice {number}.")], NOW)
    bot.send()
    merged = bot.pager.got[-1].removeprefix("alert ")
    bot.store.acknowledge([6], "me", NOW)
    bot.send()
    assert len(bot.pager.got) == 6
    bot.store.acknowledge([7], "me", NOW)
    bot.send()
    assert bot.pager.got[6:] == [f"acknowledged {merged}"]


def test_a_channel_without_acknowledgements_gets_none(bot: Bot) -> None:
    """As a mail server."""
    bot.store.add_notices([Notice(key="n", urgency=Urgency.ROUTINE, what="Notice.")], NOW)
    bot.send()
    bot.store.acknowledge([1], "me", NOW)
    bot.send()
    assert bot.mail.got == [f"alert {KEY}"]


def test_a_failed_acknowledgement_delays_no_alert_and_is_tried_for_an_hour(bot: Bot) -> None:
    """Later it is of no use to the service."""
    bot.incident()
    bot.store.acknowledge([1], "me", NOW)
    bot.pager.fault = Undelivered("down", retry_after_s=30.0)
    bot.send()
    bot.pager.fault = None
    bot.clock.advance(29)
    bot.incident("b")
    assert bot.pager.got == [f"alert {KEY}", "alert BOT_1-2-20261124T150029"]
    bot.clock.advance(1)
    bot.send()
    assert bot.pager.got[2:] == [f"acknowledged {KEY}"]
    bot.store.acknowledge([2], "me", bot.clock.now())
    bot.clock.advance(3600)
    bot.send()
    assert len(bot.pager.got) == 3


def test_an_ended_incident_is_not_acknowledged(bot: Bot) -> None:
    """The service has closed it."""
    bot.incident()
    bot.end()
    bot.store.acknowledge([1], "me", bot.clock.now())
    bot.send()
    assert bot.pager.got == [f"alert {KEY}", f"end {KEY}"]


def test_the_end_goes_to_the_channel_that_delivered_the_incident(bot: Bot) -> None:
    """Also where it was the other one."""
    bot.pager.fault = Undelivered("down")
    bot.incident()
    bot.pager.fault = None
    bot.end()
    assert (bot.pager.got, bot.mail.got) == ([], [f"alert {KEY}", f"end {KEY}"])


def test_an_end_waits_an_hour_for_its_channel_and_delays_no_alert(bot: Bot) -> None:
    """A service that opened an incident must close it; after an hour the other channel reports the end."""
    bot.incident()
    bot.pager.fault = Undelivered("down")
    bot.end()
    bot.incident("b")
    assert bot.mail.got == ["alert BOT_1-2-20261124T150101"]
    bot.clock.advance(3600)
    bot.send()
    assert bot.mail.got[1:] == [f"end {KEY}"]


def test_the_end_of_a_channel_that_is_no_longer_set_goes_to_the_others(bot: Bot) -> None:
    """The settings may have changed since."""
    bot.incident()
    bot.store.mark_sent(bot.store.rows(1), KEY, Delivery(reached=("earlier",)), NOW)
    bot.end()
    assert bot.pager.got == [f"alert {KEY}", f"end {KEY}"]


def test_a_partly_delivered_message_counts_as_delivered_and_is_reported_once(bot: Bot) -> None:
    """The report itself may be refused for the same recipients."""
    bot.mail.fault = PartlyDelivered("Refused for b@example.com (550 no).")
    for number in range(3):
        bot.store.add_notices([Notice(key="n", urgency=Urgency.ROUTINE, what=f"Notice {number}.")], NOW)
        bot.send()
    rows = [(row.what, row.command, row.via) for row in bot.store.rows(10)]
    assert rows[1] == (
        "The channel mail does not reach everybody: Refused for b@example.com (550 no).",
        "tbot alerts test mail",
        "mail",
    )
    assert [what for what, _, _ in rows[2:]] == ["Notice 1.", "Notice 2."]
    assert bot.pager.got == []


def test_the_answer_of_a_channel_is_returned_by_a_test(bot: Bot) -> None:
    """Its words, or why it failed; a message that some recipients lack is a failure."""
    delivery, writer = bot.dispatcher._delivery, MessageWriter(mode="paper", identity="")
    alert = writer.compose_test(Urgency.ROUTINE, NOW)
    assert (alert.mode, alert.identity, alert.command) == ("paper", "", "tbot status")
    found = asyncio.run(delivery.deliver(alert, ["mail"]))["mail"]
    assert (found.words, found.fault) == ("250 OK", "")
    bot.mail.fault = PartlyDelivered("Refused for b@example.com (550 no).")
    assert asyncio.run(delivery.deliver(alert, ["mail"]))["mail"].fault == "Refused for b@example.com (550 no)."


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Undelivered("No route.", "Check the network."), "No route. Check the network."),
        (Unavailable("It refuses."), "Unavailable: It refuses."),
        (TimeoutError(), "It took longer than 10 s."),
    ],
)
def test_an_expected_failure_of_a_channel_is_logged_in_one_line(
    bot: Bot, caplog: pytest.LogCaptureFixture, fault: Exception, reason: str
) -> None:
    """A warning with the reason; only what no channel should raise is logged with its traceback."""
    alert = MessageWriter(mode="paper", identity="").compose_test(Urgency.ROUTINE, NOW)
    bot.mail.fault = fault
    assert asyncio.run(bot.dispatcher._delivery.deliver(alert, ["mail"]))["mail"].fault == reason
    (line,) = [one for one in caplog.records if one.name.startswith("tbot_core")]
    assert line.levelname == "WARNING"
    assert reason in line.getMessage()
    assert "Traceback" not in caplog.text
    bot.mail.fault = RuntimeError("a bug")
    asyncio.run(bot.dispatcher._delivery.deliver(alert, ["mail"]))
    assert caplog.records[-1].levelname == "ERROR"
    assert "Traceback" in caplog.text


def test_a_store_of_an_older_version_gets_its_new_tables(bot: Bot) -> None:
    """Its alerts stay, and what follows them reaches their channel."""
    bot.incident()
    tables = "DROP TABLE reported; DROP TABLE deliveries; DROP TABLE channels"
    bot.store._connection.executescript(f"DROP INDEX alerts_acknowledged; {tables};")
    bot.dispatcher = bot.started()
    bot.store.acknowledge([1], "me", NOW)
    bot.send()
    assert bot.pager.got == [f"alert {KEY}", f"acknowledged {KEY}"]
