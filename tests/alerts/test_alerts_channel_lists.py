"""Several channels of an urgency: each gets every alert, none twice, and what one missed reaches it later."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs
import pytest

from tbot_core.alerts.delivery import SEND_S, AlertDelivery, MessageWriter
from tbot_core.alerts.dispatcher import AlertDispatcher, AlertOptions
from tbot_core.alerts.store import FILE_NAME, AlertStore, Notice, open_store
from tbot_core.contracts import Alert, SendsOnce, Urgency
from tbot_core.errors import AccessError, PartlyDelivered, Undelivered
from tbot_core.instance import Instance
from tbot_core.model.clock import ManualClock
from tbot_core.rehearsal.virtual_loop import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW: Final = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
DOWN: Final = Undelivered("down")


@attrs.define
class Channel:
    """A channel that keeps what it is sent, and acknowledges; `fault` is raised instead while there is one."""

    got: list[str] = attrs.field(factory=list)
    fault: BaseException | None = None
    tries: int = 0

    async def send(self, alert: Alert) -> None:
        """Keep what happened."""
        self.tries += 1
        if self.fault is not None:
            raise self.fault
        self.got.append(alert.title.removeprefix("[PAPER BOT_1] "))

    async def acknowledge(self, alert: Alert) -> None:
        """Keep that."""
        self.got.append(f"acknowledged {alert.key}")


@attrs.define
class Phone(Channel):
    """A channel whose service cannot recognise a repeated message; it may hang after it has accepted one."""

    sends_once: bool = True
    hangs: bool = False

    async def send(self, alert: Alert) -> None:
        """Accept it, and never answer if it hangs."""
        await Channel.send(self, alert)
        if self.hangs:
            await asyncio.Event().wait()


class Bot:
    """A dispatcher whose critical channels are pager and chat, the routine one mail."""

    def __init__(self, home: Path) -> None:
        self.instance, self.clock = Instance.at(home), ManualClock(NOW)
        self.instance.data.mkdir(parents=True)
        self.pager, self.chat, self.mail = Channel(), Channel(), Channel()
        self.store: AlertStore = open_store(self.instance.data / FILE_NAME)
        self.dispatcher = self.started()

    def started(self, critical: tuple[str, ...] = ("pager", "chat")) -> AlertDispatcher:
        """A run."""
        channels = {"pager": self.pager, "chat": self.chat, "mail": self.mail}
        own = {Urgency.CRITICAL: critical, Urgency.ROUTINE: ("mail",)}
        writer = MessageWriter(mode="paper", identity="BOT_1")
        made = AlertDispatcher(self.instance, AlertDelivery(channels, own), writer, self.clock, AlertOptions())
        made.begin()
        return made

    def open(self, name: str) -> None:
        """Open an incident and send it."""
        self.store.open_incident(Notice(key=name, urgency=Urgency.CRITICAL, what=f"{name}."), self.clock.now())
        self.send()

    def send(self, *, after_s: float = 0.0) -> None:
        """Send what is due, in virtual time."""
        self.clock.advance(after_s)

        async def once() -> None:
            for urgency in Urgency:
                await self.dispatcher.send(urgency)
            await self.dispatcher.send_pending()

        loop = VirtualLoop()
        loop.run_until_complete(once())
        loop.finish()

    def via(self) -> list[str | None]:
        """The channels of each alert."""
        return [row.via for row in self.store.rows(10)]


@pytest.fixture
def bot(tmp_path: Path) -> Iterator[Bot]:
    """A bot with its store."""
    made = Bot(tmp_path / "x")
    yield made
    made.store.close()
    asyncio.run(made.dispatcher.finish())


def test_each_channel_gets_every_alert_of_its_urgency(bot: Bot) -> None:
    """And its end, and its acknowledgement; the other urgency's channel gets none of it."""
    bot.open("a")
    assert bot.via() == ["pager, chat"]
    bot.store.acknowledge([1], "me", NOW)
    bot.send()
    bot.store.clear_incident("a", NOW)
    bot.send(after_s=61)
    key = "acknowledged BOT_1-1-20261124T150000"
    assert bot.pager.got == bot.chat.got == ["a.", key, "Resolved: a."]
    assert bot.mail.got == []


def test_a_channel_that_fails_gets_it_later_and_the_others_only_once(bot: Bot) -> None:
    """No other urgency's channel is used while one of the list accepts; it survives a restart."""
    bot.chat.fault = DOWN
    bot.open("a")
    assert (bot.pager.got, bot.chat.got, bot.mail.got, bot.via()) == (["a."], [], [], ["pager"])
    bot.dispatcher = bot.started()
    bot.send()
    assert bot.chat.tries == 2
    bot.chat.fault = None
    bot.send()
    assert bot.chat.got == []
    bot.send(after_s=5)
    bot.send(after_s=5)
    assert (bot.pager.got, bot.chat.got, bot.via()) == (["a."], ["a."], ["pager, chat"])


def test_a_channel_that_failed_a_moment_ago_holds_up_no_further_alert(bot: Bot) -> None:
    """It is not tried with each new one, but gets all of them when it is back, in order."""
    bot.chat.fault = DOWN
    bot.open("a")
    tries = bot.chat.tries
    bot.open("b")
    assert (bot.chat.tries, bot.pager.got) == (tries, ["a.", "b."])
    bot.chat.fault = None
    bot.send(after_s=61)
    assert bot.chat.got == ["a.", "b."]


def test_the_other_urgencys_channels_are_used_when_all_fail(bot: Bot) -> None:
    """What failed still gets the alert later: a page that comes late is better than none."""
    bot.chat.fault = bot.pager.fault = DOWN
    bot.open("a")
    assert (bot.mail.got, bot.via()) == (["a."], ["mail"])
    bot.pager.fault = None
    bot.send(after_s=61)
    assert (bot.pager.got, bot.mail.got, bot.via()) == (["a."], ["a."], ["mail, pager"])


def test_an_alert_that_is_over_is_not_sent_late(bot: Bot) -> None:
    """Who did not get the alert does not get its end either."""
    bot.chat.fault = DOWN
    bot.open("a")
    bot.store.clear_incident("a", NOW)
    bot.chat.fault = None
    bot.clock.advance(61)
    bot.send()
    assert (bot.chat.got, bot.pager.got) == ([], ["a.", "Resolved: a."])


def test_a_channel_is_given_up_after_a_day(bot: Bot, caplog: pytest.LogCaptureFixture) -> None:
    """The log says so, and nothing waits for it any more."""
    bot.chat.fault = DOWN
    bot.open("a")
    bot.chat.fault = None
    bot.send(after_s=24 * 3600)
    assert (bot.chat.got, bot.store.pending.of("chat")) == ([], [])
    assert "alert.given_up" in caplog.text


def test_a_late_routine_alert_waits_through_quiet_hours(bot: Bot) -> None:
    """As an unknown channel."""
    own = {Urgency.CRITICAL: ("pager",), Urgency.ROUTINE: ("mail", "chat")}
    channels = {"pager": bot.pager, "chat": bot.chat, "mail": bot.mail}
    writer, options = MessageWriter(mode="paper", identity="BOT_1"), AlertOptions(quiet="10:30-11:30")
    bot.dispatcher = AlertDispatcher(bot.instance, AlertDelivery(channels, own), writer, bot.clock, options)
    bot.chat.fault = DOWN
    bot.store.add_notices([Notice(key="n", urgency=Urgency.ROUTINE, what="n.")], NOW)
    bot.send()
    bot.chat.fault = None
    bot.send(after_s=45 * 60)
    assert (bot.mail.got, bot.chat.got) == (["n."], [])
    bot.send(after_s=60 * 60)
    assert bot.chat.got == ["n."]


def test_the_state_of_each_channel_is_kept(bot: Bot) -> None:
    """When it last delivered, when and why it last failed, and how much waits; a partial delivery is a delivery."""
    bot.chat.fault, bot.pager.fault = DOWN, PartlyDelivered("Refused for b@example.com.")
    bot.open("a")
    pager, chat, other = bot.store.pending.states({"pager": 0, "chat": 0, "other": 0})
    assert (pager.delivered, pager.failed, pager.failing, pager.waiting) == (NOW, None, False, 0)
    assert (chat.delivered, chat.failed, chat.reason, chat.failing, chat.waiting) == (None, NOW, "down", True, 1)
    assert (other.delivered, other.failed, other.reason, other.failing) == (None, None, "", False)


def test_a_state_that_cannot_be_kept_is_logged(
    bot: Bot, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message went out all the same."""

    def fail(*_values: object) -> None:
        raise AccessError("locked")

    monkeypatch.setattr(type(bot.store.pending), "note", fail)
    bot.open("a")
    assert bot.pager.got == ["a."]
    assert "alert.channel_state_lost" in caplog.text


class TestN5:
    """A channel that sends once gets each message at most once, whatever happens."""

    @pytest.fixture
    def phone(self, bot: Bot) -> Phone:
        """The phone takes the place of the pager, and is the only critical channel."""
        assert isinstance(Phone(), SendsOnce)
        bot.pager = Phone()
        bot.dispatcher = bot.started(("pager",))
        return bot.pager

    def test_n5_after_a_time_out_the_others_get_it(self, bot: Bot, phone: Phone) -> None:
        """The text message may have arrived or not: the other channel is used, and it is not sent again."""
        phone.hangs = True
        bot.open("a")
        phone.hangs = False
        bot.send(after_s=120)
        assert (phone.tries, bot.mail.got, bot.via()) == (1, ["a."], ["pager, mail"])
        assert SEND_S == 10.0

    @pytest.mark.parametrize("fault", [Undelivered("reset", unclear=True), RuntimeError("a bug")])
    def test_n5_after_an_unclear_error_it_is_not_sent_again(self, bot: Bot, phone: Phone, fault: Exception) -> None:
        """Though no other channel accepted it: these are tried until one does."""
        phone.fault = fault
        bot.mail.fault = DOWN
        bot.open("a")
        phone.fault = None
        bot.send(after_s=120)
        assert (phone.tries, bot.via()) == (1, ["pager"])
        bot.mail.fault = None
        bot.send(after_s=120)
        assert (phone.tries, bot.mail.got, bot.via()) == (1, ["a."], ["pager, mail"])

    def test_n5_a_clear_refusal_is_tried_again(self, bot: Bot, phone: Phone) -> None:
        """First by itself, then with what is late."""
        phone.fault = bot.mail.fault = DOWN
        bot.open("a")
        bot.send(after_s=120)
        bot.mail.fault = None
        bot.send(after_s=120)
        bot.send(after_s=120)
        phone.fault = None
        bot.send(after_s=120)
        assert (phone.got, bot.mail.got, bot.via()) == (["a."], ["a."], ["mail, pager"])

    @pytest.mark.parametrize("late", [False, True])
    def test_n5_a_process_that_dies_while_it_waits_does_not_send_again(
        self, bot: Bot, phone: Phone, *, late: bool
    ) -> None:
        """The next run takes it for sent, also where the phone got it late, and the other channel gets it."""
        if late:
            phone.fault = DOWN
            bot.open("a")
            phone.fault = None
            bot.clock.advance(61)
        phone.hangs = True
        tries = phone.tries

        async def killed() -> None:
            sending = asyncio.ensure_future(
                bot.dispatcher.send_pending() if late else bot.dispatcher.send(Urgency.CRITICAL)
            )
            await asyncio.sleep(0.01)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

        if not late:
            bot.store.open_incident(Notice(key="a", urgency=Urgency.CRITICAL, what="a."), NOW)
        asyncio.run(killed())
        phone.hangs = False
        bot.dispatcher = bot.started(("pager",))
        bot.send(after_s=61)
        assert (phone.tries, bot.mail.got) == (tries + 1, ["a."])
        assert sorted((bot.via()[0] or "").split(", ")) == ["mail", "pager"]

    def test_n5_what_cannot_be_recorded_is_not_sent(
        self, bot: Bot, phone: Phone, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The other channel is used."""

        def fail(*_values: object) -> bool:
            raise AccessError("locked")

        monkeypatch.setattr(type(bot.store.pending), "begin", fail)
        bot.open("a")
        assert (phone.tries, bot.mail.got) == (0, ["a."])
