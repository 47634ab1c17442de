"""The dispatcher: what the journal says reaches a person once, whatever fails, and never holds trading up."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.alerts import dispatcher as module
from tbot_core.alerts.delivery import AlertDelivery, MessageWriter
from tbot_core.alerts.dispatcher import AlertDispatcher, AlertOptions
from tbot_core.alerts.service import run_with_alerts
from tbot_core.alerts.store import FILE_NAME, MOST_WAITING, AlertStore, Delivery
from tbot_core.contracts import Alert, Urgency
from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.session.requests import RequestHandler
from tbot_core.errors import AccessError, JournalError, TbotError, Undelivered
from tbot_core.execution.trading_state import TradingStateController, recall_states
from tbot_core.instance import Instance
from tbot_core.journal import records
from tbot_core.journal.store import Journal, JournalRecorder, NewEvent, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.plugins.call_guard import PluginBorder
from tbot_core.rehearsal.virtual_loop import VirtualLoop
from tbot_core.system import log
from tbot_core.system.secret import Secret
from tbot_core.system.timeouts import CallTimedOut

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path

NOW = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)


@attrs.define
class Channel:
    """A channel that keeps what it is sent; `fault` is raised instead while there is one."""

    got: list[Alert] = attrs.field(factory=list)
    fault: BaseException | None = None
    tries: int = 0

    async def send(self, alert: Alert) -> None:
        """Keep it."""
        self.tries += 1
        if self.fault is not None:
            raise self.fault
        self.got.append(alert)

    @property
    def said(self) -> list[str]:
        """What happened, without who says it."""
        return [alert.title.removeprefix("[PAPER BOT_1] ") for alert in self.got]


class Bot:
    """What stands around a dispatcher."""

    def __init__(self, home: Path) -> None:
        self.instance = Instance.at(home)
        self.instance.data.mkdir(parents=True, exist_ok=True)
        self.clock = ManualClock(NOW)
        self.pager, self.mail = Channel(), Channel()
        self.journal: Journal = open_journal(self.instance.journal)

    def dispatcher(self, **terms: Any) -> AlertDispatcher:
        """One that begins a run."""
        own = {Urgency.CRITICAL: ("pager",), Urgency.ROUTINE: ("mail",)}
        delivery = AlertDelivery({"pager": self.pager, "mail": self.mail}, own)
        voice = MessageWriter(mode="paper", identity="BOT_1")
        made = AlertDispatcher(self.instance, delivery, voice, self.clock, AlertOptions(**terms))
        made.begin()
        return made

    def write(self, kind: str, payload: dict[str, Any], cid: str | None = None) -> None:
        """An event of now."""
        self.journal.append([NewEvent(kind=kind, payload=payload, time=self.clock.now(), cid=cid)])

    def cause(self, name: str, *, there: bool = True, words: str = "") -> None:
        """A cause that comes or goes."""
        self.write("state", {"cause": name, "there": there, "state": "?", "words": words})

    def pass_time(self, **span: float) -> None:
        """Let time pass."""
        self.clock.advance(timedelta(**span).total_seconds())


async def pump(dispatcher: AlertDispatcher) -> None:
    """Read once, and send once what is due."""
    dispatcher.poll_journal()
    await dispatcher.send_questions()
    for urgency in Urgency:
        await dispatcher.send(urgency)
    await dispatcher.send_pending()


@pytest.fixture
def bot(tmp_path: Path) -> Iterator[Bot]:
    """A bot whose journal is open."""
    made = Bot(tmp_path)
    yield made
    made.journal.close()


def test_no_channel_is_given_a_secret(bot: Bot) -> None:
    """Title and text are redacted at the last step, whatever wrote them."""
    key = Secret("key-0123456789").reveal()
    asyncio.run(bot.dispatcher().send_now(f"login failed with key {key}", f"tbot renew {key}"))
    (alert,) = bot.pager.got
    assert alert.title == "[PAPER BOT_1] login failed with key [redacted]"
    assert alert.text.startswith(alert.title)
    assert alert.text.endswith("Next: tbot renew [redacted]")


@pytest.mark.parametrize("cleared", [False, True])
def test_a_kill_alerts_at_a_start_only_while_it_stands(bot: Bot, *, cleared: bool) -> None:
    """One that was asked for and cleared while no bot ran is no incident: both requests wait for the start."""
    folder, alerts = bot.instance.control, bot.dispatcher()
    for number, verb in enumerate([ControlVerb.KILL, ControlVerb.KILL_CLEAR][: 1 + cleared]):
        control.write_request(folder, verb, actor="ann", now=NOW + timedelta(minutes=number))
    recorder = JournalRecorder(journal=bot.journal, clock=bot.clock)
    states = TradingStateController(recorder, lambda _state: None, recall_states(()))
    RequestHandler(recorder, states).poll(folder)
    asyncio.run(pump(alerts))
    assert bot.pager.said == ([] if cleared else ["Halted: tbot kill, requested by ann."])


def is_logged() -> bool:
    """A watchdog that listens."""
    return True


def in_virtual_time(work: Coroutine[Any, Any, Any]) -> float:
    """Run something to its end; how many seconds it took, none of which anybody waited."""
    loop = VirtualLoop()
    try:
        loop.run_until_complete(work)
        return loop.time()
    finally:
        loop.finish()


def kept(bot: Bot) -> list[tuple[str, str | None]]:
    """What is kept of each alert, and the way it went."""
    store = AlertStore(bot.instance.data / FILE_NAME, reading=True)
    rows = store.rows(5_000)
    store.close()
    return [(row.what, row.via) for row in rows]


def test_an_incident_is_reported_once_and_again_when_it_is_over(bot: Bot) -> None:
    """A cause pages its channel with who, what, when and the next command; a minute after it went, its end."""
    alerts = bot.dispatcher()
    bot.cause("LOGIN", words="session expired")
    asyncio.run(pump(alerts))
    asyncio.run(pump(alerts))
    (page,) = bot.pager.got
    assert page.text.splitlines() == [
        "[PAPER BOT_1] Exit-only: the broker requires a new login, session expired.",
        "2026-11-24 15:00 UTC (10:00 New York)",
        "Next: tbot check",
    ]
    assert (page.urgency, page.resolved, page.key) == (Urgency.CRITICAL, False, "BOT_1-1-20261124T150000")
    bot.cause("LOGIN", there=False)
    asyncio.run(pump(alerts))
    assert len(bot.pager.got) == 1
    bot.pass_time(seconds=60)
    asyncio.run(pump(alerts))
    over = bot.pager.got[1]
    assert (over.key, over.resolved, bot.pager.said[1]) == (page.key, True, f"Resolved: {bot.pager.said[0]}")
    bot.pass_time(minutes=5)
    asyncio.run(pump(alerts))
    assert len(bot.pager.got) == 2


@pytest.mark.parametrize(
    ("cause", "until"),
    [("UNIVERSE_STALE", "15:15 UTC (10:15 New York)"), ("HALF_LOSS", "the end of the session")],
)
def test_the_end_of_an_incident_says_how_long_its_state_goes_on(bot: Bot, cause: str, until: str) -> None:
    """Defense outlasts its cause: a message that its cause is over says until when."""
    alerts = bot.dispatcher()
    bot.cause(cause, words="30 of 30")
    asyncio.run(pump(alerts))
    bot.cause(cause, there=False)
    asyncio.run(pump(alerts))
    bot.pass_time(seconds=60)
    asyncio.run(pump(alerts))
    assert bot.mail.said[1] == f"Resolved: {bot.mail.said[0].removesuffix('.')}; defense until {until}."


def test_the_end_of_lost_minutes_does_not_say_that_they_are_missing(bot: Bot) -> None:
    """What an incident says of its effects holds as long as it is open."""
    alerts = bot.dispatcher()
    bot.write(records.SESSION_OPENED, {"date": "2026-11-24", "open": NOW.isoformat(), "equity": "1000", "symbols": 1})
    bot.write(records.FEED_GAP, {"first": 0, "last": 3, "words": "no message"})
    asyncio.run(pump(alerts))
    bot.write(records.FEED_FILLED, {"minutes": [0, 1, 2, 3], "open": 0})
    asyncio.run(pump(alerts))
    bot.pass_time(seconds=60)
    asyncio.run(pump(alerts))
    lost, over = bot.mail.said[-2:]
    assert lost.endswith("(10:04 New York), not backfilled yet; symbols without these bars are not entered.")
    assert over.startswith("Resolved: The feed lost 4 minutes between")
    assert over.endswith("(10:04 New York).")


def test_a_cause_that_comes_and_goes_is_one_incident(bot: Bot) -> None:
    """What returns within a minute of its end sends no second alert, and its end is reported when it holds."""
    alerts = bot.dispatcher()
    for _ in range(20):
        bot.cause("UNREACHABLE")
        bot.cause("UNREACHABLE", there=False)
        asyncio.run(pump(alerts))
        bot.pass_time(seconds=20)
    assert [alert.resolved for alert in bot.pager.got] == [False]
    bot.pass_time(seconds=60)
    asyncio.run(pump(alerts))
    assert [alert.resolved for alert in bot.pager.got] == [False, True]


def test_what_was_there_before_the_first_run_is_not_reported(bot: Bot) -> None:
    """The first dispatcher of an instance starts where the journal ends; only what holds then is reported."""
    bot.write("request_refused", {"name": "arm", "words": "no."})
    bot.cause("DISK_LOW")
    bot.cause("DISK_LOW", there=False)
    bot.cause("LOGIN")
    asyncio.run(pump(bot.dispatcher()))
    assert (bot.mail.got, bot.pager.said) == ([], ["Exit-only: the broker requires a new login."])


def test_a_crash_loses_no_alert_and_repeats_none(bot: Bot) -> None:
    """A new dispatcher goes on after the last event that was dealt with, and knows which incidents stand."""
    first = bot.dispatcher()
    bot.cause("LOGIN")
    asyncio.run(pump(first))
    bot.cause("DISK_LOW")
    second = bot.dispatcher()
    asyncio.run(pump(second))
    assert len(bot.pager.got) == 2
    bot.cause("LOGIN", there=False)
    bot.pass_time(minutes=2)
    asyncio.run(pump(bot.dispatcher()))
    assert [alert.key for alert in bot.pager.got if alert.resolved] == ["BOT_1-1-20261124T150000"]


def test_what_could_not_be_kept_is_read_again(bot: Bot) -> None:
    """When the file of alerts is locked by somebody, nothing is half stored: the next reading reports it once."""
    alerts = bot.dispatcher()
    bot.cause("LOGIN")
    blocker = AlertStore(bot.instance.data / FILE_NAME)
    with blocker.transaction(), pytest.raises(AccessError, match="locked"):
        alerts.poll_journal()
    asyncio.run(pump(alerts))
    asyncio.run(pump(alerts))
    assert len(bot.pager.got) == 1


def test_f109_a_channel_that_is_down_is_replaced_by_the_other(bot: Bot) -> None:
    """F109: the page goes by the second channel, once, whatever the first one raises."""
    alerts = bot.dispatcher()
    bot.pager.fault = RuntimeError("no route")
    bot.cause("LOGIN")
    asyncio.run(pump(alerts))
    assert (len(bot.mail.got), kept(bot)[0][1]) == (1, "mail")


def test_f109_with_all_channels_down_alerts_wait_and_are_tried_more_and_more_rarely(bot: Bot) -> None:
    """F109: nothing is lost, each failure doubles the wait, the pause that a service asks for is respected."""
    alerts = bot.dispatcher()
    bot.pager.fault, bot.mail.fault = RuntimeError(), Undelivered("no", retry_after_s=40.0)
    bot.cause("LOGIN")
    for _ in range(100):
        asyncio.run(pump(alerts))
        bot.pass_time(seconds=1)
    assert 6 <= bot.pager.tries <= 8
    bot.mail.fault = Undelivered("later", retry_after_s=300.0)
    bot.pager.fault = Undelivered("later", retry_after_s=200.0)
    bot.pass_time(minutes=5)
    tries = bot.pager.tries
    for _ in range(199):
        asyncio.run(pump(alerts))
        bot.pass_time(seconds=1)
    assert bot.pager.tries == tries + 1
    bot.pager.fault = None
    bot.pass_time(seconds=10)
    asyncio.run(pump(alerts))
    assert len(bot.pager.got) == 1


def test_f109_the_queue_is_bounded(bot: Bot) -> None:
    """F109: of more alerts than may wait the oldest routine ones are kept unsent; the critical one is still sent."""
    alerts = bot.dispatcher()
    bot.pager.fault = bot.mail.fault = RuntimeError()
    bot.cause("LOGIN")
    refused = ({"name": f"r{number}", "words": "no."} for number in range(MOST_WAITING + 50))
    bot.journal.append([NewEvent(kind="request_refused", payload=one, time=bot.clock.now()) for one in refused])
    for _ in range(4):
        alerts.poll_journal()
    ways = [via for _, via in kept(bot)]
    assert (ways.count("kept"), ways[0]) == (51, None)
    bot.pager.fault = bot.mail.fault = None
    bot.pass_time(minutes=2)
    asyncio.run(pump(alerts))
    assert bot.pager.said == ["Exit-only: the broker requires a new login."]
    assert len(bot.mail.got) == 21
    assert bot.mail.said[-1].startswith("1,030 routine alerts, the first: The request r")


@pytest.mark.parametrize("hanging", ["pager", "mail"])
def test_f109_trading_is_not_blocked(bot: Bot, hanging: str) -> None:
    """F109: while a channel hangs the run goes on, the other urgency is sent, and each message is given up in time."""

    class Hanging(Channel):
        async def send(self, alert: Alert) -> None:
            self.tries += 1
            await asyncio.Event().wait()
            self.got.append(alert)

    setattr(bot, hanging, Hanging())
    minutes: list[float] = []

    async def work() -> None:
        bot.cause("LOGIN")
        bot.write("request_refused", {"name": "arm", "words": "no."})
        for _ in range(30):
            await asyncio.sleep(1.0)
            minutes.append(asyncio.get_running_loop().time())

    took = in_virtual_time(run_with_alerts(work(), bot.dispatcher(), is_logged))
    assert minutes == [float(second) for second in range(1, 31)]
    assert took <= 30 + module.FINISH_S
    other = bot.mail if hanging == "pager" else bot.pager
    assert len(other.got) == 2
    assert {via for _, via in kept(bot)} == {"mail" if hanging == "pager" else "pager"}


@pytest.mark.parametrize("fails", ["hang", "raise", "block"])
def test_n8_trading_continues_with_all_alerts_down(bot: Bot, fails: str) -> None:
    """N8: each second of the run begins in time, whatever the channels do; the alerts wait for the next run."""

    class Down(Channel):
        async def send(self, alert: Alert) -> None:  # noqa: ARG002  it gets no further
            self.tries += 1
            match fails:
                case "hang":
                    await asyncio.Event().wait()
                case "raise":
                    raise RuntimeError("no route")
                case _:
                    raise CallTimedOut("it did not finish within 2 s and was interrupted.")

    bot.pager, bot.mail = Down(), Down()
    seconds: list[float] = []

    async def work() -> str:
        bot.cause("LOGIN")
        bot.write("request_refused", {"name": "arm", "words": "no."})
        for _ in range(60):
            await asyncio.sleep(1.0)
            seconds.append(asyncio.get_running_loop().time())
        return "done"

    in_virtual_time(run_with_alerts(work(), bot.dispatcher(), is_logged))
    assert seconds == [float(second) for second in range(1, 61)]
    assert bot.pager.tries >= 2
    assert [via for _, via in kept(bot)] == [None, None]
    bot.pager, bot.mail = Channel(), Channel()
    asyncio.run(pump(bot.dispatcher()))
    assert (len(bot.pager.got), len(bot.mail.got)) == (1, 1)


def test_pages_are_limited(bot: Bot) -> None:
    """Five pages an hour, then one of all that waits, then none until the hour is over; its end is one message."""
    alerts = bot.dispatcher()
    names = ["LOGIN", "DISK_LOW", "MISMATCH", "SURPLUS", "CLOCK_JUMP", "REJECTS", "RESTRICTED", "UNKNOWN"]
    for name in names:
        bot.cause(name)
    asyncio.run(pump(alerts))
    assert len(bot.pager.got) == 6
    merged = bot.pager.got[5]
    assert merged.title.endswith("3 critical alerts, the first: Exit-only: MAX_REJECTS_IN_ROW")
    assert merged.text.splitlines()[2].startswith("- Exit-only: MAX_REJECTS_IN_ROW")
    assert merged.text.splitlines()[-1] == "Next: tbot alerts log"
    bot.cause("JOURNAL")
    bot.pass_time(minutes=50)
    asyncio.run(pump(alerts))
    assert len(bot.pager.got) == 6
    bot.pass_time(minutes=11)
    asyncio.run(pump(alerts))
    assert bot.pager.said[6] == "Exit-only: the journal or the audit log lost data."
    for name in names[5:]:
        bot.cause(name, there=False)
    bot.pass_time(minutes=2)
    asyncio.run(pump(alerts))
    assert [(alert.key, alert.resolved) for alert in bot.pager.got[7:]] == [(merged.key, True)]


def test_routine_alerts_wait_through_quiet_hours(bot: Bot) -> None:
    """Between the hours of ALERT_QUIET_HOURS in New York routine alerts wait; critical ones never do."""
    alerts = bot.dispatcher(quiet="09:00-11:00")
    bot.cause("LOGIN")
    bot.write("request_refused", {"name": "arm", "words": "no."})
    asyncio.run(pump(alerts))
    assert (len(bot.pager.got), len(bot.mail.got)) == (1, 0)
    bot.pass_time(hours=1)
    asyncio.run(pump(alerts))
    assert bot.mail.said == ["The request arm was refused: no."]


def ask(bot: Bot, number: int) -> None:
    """An entry that waits for a confirmation."""
    signal = {"session": "2026-03-03", "strategy": "open", "symbol": f"SYM{number}", "minute": 5, "rule": "break"}
    expires = (bot.clock.now() + timedelta(seconds=60)).isoformat()
    question = {"id": f"c{number}", "signal": signal, "price": 10.0, "quantity": "5", "side": "long"}
    bot.write("confirmation_asked", question | {"expires": expires})


def questions(channel: Channel) -> list[str]:
    """The symbols that somebody was asked about."""
    return [words.split(" @ ")[0].rsplit(" ", 1)[-1] for words in channel.said if "Needs a confirmation" in words]


def test_a_question_is_sent_at_once_whatever_holds_routine_alerts(bot: Bot) -> None:
    """In quiet hours and beyond the routine limit each question is a message of its own, with its command."""
    alerts = bot.dispatcher(quiet="09:00-11:00")
    for number in range(30):
        bot.write("request_refused", {"name": f"arm{number}", "words": "no."})
    ask(bot, 1)
    asyncio.run(pump(alerts))
    assert (questions(bot.mail), len(bot.mail.got)) == (["SYM1"], 1)
    assert bot.mail.got[0].text.endswith("Next: tbot confirm c1")
    bot.pass_time(hours=1)  # the quiet hours are over: single messages, then a digest
    asyncio.run(pump(alerts))
    assert len(bot.mail.got) == 22
    ask(bot, 2)
    ask(bot, 3)
    asyncio.run(pump(alerts))
    assert questions(bot.mail) == ["SYM1", "SYM2", "SYM3"]


def test_questions_take_no_place_of_other_routine_alerts(bot: Bot) -> None:
    """The routine limit counts routine alerts alone."""
    alerts = bot.dispatcher()
    for number in range(25):
        ask(bot, number)
    bot.write("request_refused", {"name": "arm", "words": "no."})
    asyncio.run(pump(alerts))
    assert (len(questions(bot.mail)), bot.mail.said[-1]) == (25, "The request arm was refused: no.")


def test_a_question_that_no_channel_accepts_is_tried_again(bot: Bot) -> None:
    """It goes to the other channel, and after a failure of both it is sent with the next attempt."""
    alerts = bot.dispatcher()
    ask(bot, 1)
    bot.mail.fault = bot.pager.fault = Undelivered("down.")
    asyncio.run(pump(alerts))
    bot.mail.fault = None
    asyncio.run(pump(alerts))
    assert questions(bot.mail) == []
    bot.pass_time(seconds=2)
    asyncio.run(pump(alerts))
    assert questions(bot.mail) == ["SYM1"]


def test_a_service_manager_is_notified_that_the_run_is_ready_lives_and_ends(
    bot: Bot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY once, a sign of life every second, and STOPPING before the last alerts are sent."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        in_virtual_time(run_with_alerts(asyncio.sleep(2.5), bot.dispatcher(), lambda: True))
        manager_states = [manager.recv(100).decode() for _ in range(5)]
    assert manager_states == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]


def test_a_run_that_fails_says_so(bot: Bot) -> None:
    """A journal that cannot be written pages somebody though nothing of it can be kept, and the run fails as before."""

    async def work() -> None:
        raise JournalError("The journal could not be written: disk full.", "Check the disk.")

    with pytest.raises(JournalError):
        in_virtual_time(run_with_alerts(work(), bot.dispatcher(), is_logged))
    assert bot.pager.said == ["The run has ended: The journal could not be written: disk full. Check the disk."]


async def failing() -> None:
    """A run that ends with a sentence."""
    raise JournalError("The journal could not be written: disk full.", "Check the disk.")


def test_why_a_run_ended_is_an_incident_until_the_next_one_begins(bot: Bot) -> None:
    """Sent once and kept with its channel; the run that follows clears it, and says a minute later that it is over."""
    for _ in range(2):
        with pytest.raises(JournalError):
            in_virtual_time(run_with_alerts(failing(), bot.dispatcher(), is_logged))
    words = "The run has ended: The journal could not be written: disk full. Check the disk."
    assert kept(bot) == [(words, "pager")]
    assert bot.pager.said == [words] * 2
    alerts = bot.dispatcher()
    bot.pass_time(minutes=2)
    asyncio.run(pump(alerts))
    assert bot.pager.said[2:] == [f"Resolved: {words}"]


def test_each_reason_why_a_run_ended_is_kept_in_its_own_words(bot: Bot) -> None:
    """The second of two within a minute is not taken for the first."""

    async def other() -> None:
        raise ZeroDivisionError("\udcff")

    for work in (failing, other):
        with pytest.raises((JournalError, ZeroDivisionError)):
            in_virtual_time(run_with_alerts(work(), bot.dispatcher(), is_logged))
    assert [what for what, _ in kept(bot)][1:] == ["The run has ended: ?"]


def test_why_a_run_ended_waits_for_the_next_one_where_no_channel_takes_it(bot: Bot) -> None:
    """It is kept unsent, and the dispatcher that lives next sends it."""
    bot.pager.fault = bot.mail.fault = Undelivered("no route")
    with pytest.raises(JournalError):
        in_virtual_time(run_with_alerts(failing(), bot.dispatcher(), is_logged))
    ((words, way),) = kept(bot)
    assert (way, bot.pager.got) == (None, [])
    bot.pager.fault = None
    asyncio.run(pump(bot.dispatcher()))
    assert bot.pager.said == [words]


def test_why_a_run_ended_is_sent_though_it_cannot_be_kept(bot: Bot) -> None:
    """A file of alerts that somebody else holds does not hide the reason, and the run fails as before."""
    alerts = bot.dispatcher()
    with AlertStore(bot.instance.data / FILE_NAME).transaction(), pytest.raises(JournalError):
        in_virtual_time(run_with_alerts(failing(), alerts, is_logged))
    assert len(bot.pager.said) == 1
    assert kept(bot) == []


def test_alerts_that_cannot_be_kept_are_said_once(bot: Bot) -> None:
    """While the file of alerts is broken, it is reported once, and the run goes on."""
    alerts = bot.dispatcher()
    beats: list[None] = []

    async def work() -> str:
        with AlertStore(bot.instance.data / FILE_NAME).transaction():
            bot.cause("LOGIN")
            await asyncio.sleep(5.0)
        await asyncio.sleep(2.0)
        return "done"

    def beat() -> bool:
        beats.append(None)
        return True

    in_virtual_time(run_with_alerts(work(), alerts, beat))
    assert len(beats) >= 5
    assert bot.pager.said[0].startswith("Alerts are not reliable: ")
    assert bot.pager.said[1:] == ["Exit-only: the broker requires a new login."]


def test_a_fault_of_the_dispatcher_itself_ends_nothing(bot: Bot) -> None:
    """An unforeseen error is logged; alerts begin again a second later, and the run never notices."""
    alerts = bot.dispatcher()
    bot.write("state", {"nonsense": True, "cause": "LOGIN"})

    async def work() -> str:
        await asyncio.sleep(3.0)
        return "done"

    loop = VirtualLoop()
    assert loop.run_until_complete(run_with_alerts(work(), alerts, is_logged)) == "done"
    loop.finish()


def test_alerts_that_fail_as_they_are_cancelled_end_with_the_run(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of tasks keeps such a cancel to itself; the run ends all the same."""

    async def run() -> None:
        try:
            await asyncio.sleep(3600.0)
        except asyncio.CancelledError:
            raise ExceptionGroup("both at once", [ValueError("nonsense")]) from None

    async def work() -> str:
        await asyncio.sleep(3.0)
        return "done"

    alerts = bot.dispatcher()
    monkeypatch.setattr(alerts, "run", run)
    loop = VirtualLoop()
    assert loop.run_until_complete(run_with_alerts(work(), alerts, is_logged)) == "done"
    assert loop.time() <= 5.0
    loop.finish()


def test_f78_a_log_on_a_full_disk_ends_nothing_and_is_reported_once(bot: Bot, tmp_path: Path) -> None:
    """F78: lines that are lost are counted, one alert says so, and the run goes on to its end."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / log.FILE_NAME).symlink_to("/dev/full")
    log.configure("info", "json", tmp_path / "full", screen=False)
    before, alerts = log.lost(), bot.dispatcher()

    async def work() -> None:
        for _ in range(5):
            log.logger("a").error("said")
            await asyncio.sleep(1.0)

    try:
        in_virtual_time(run_with_alerts(work(), alerts, is_logged))
    finally:
        log.close()
    assert log.lost() - before == 5
    assert bot.pager.said == ["The log can no longer be written; trading continues."]


@pytest.mark.parametrize("ends", ["aloud", "silently"])
def test_f90_a_part_beside_the_run_that_ends_ends_the_run_with_a_sentence(bot: Bot, ends: str) -> None:
    """F90: whether it raised or not: the work is ended too, it is reported, and what it left is returned."""
    cleaned: list[bool] = []

    async def work() -> None:
        try:
            await asyncio.sleep(1000.0)
        finally:
            cleaned.append(True)

    def beat() -> bool:
        if ends == "aloud":
            raise OSError("the heart is broken")
        raise asyncio.CancelledError

    with pytest.raises(OSError if ends == "aloud" else TbotError) as raised:
        in_virtual_time(run_with_alerts(work(), bot.dispatcher(), beat))
    assert cleaned
    assert bot.pager.said == [f"The run has ended: {raised.value}"]


def test_f90_a_watchdog_that_died_is_reported_and_the_run_goes_on(bot: Bot) -> None:
    """F90: once each time that it was received before."""
    beats = iter([True, False, False, True, True, False])

    async def work() -> str:
        await asyncio.sleep(5.5)
        return "done"

    in_virtual_time(run_with_alerts(work(), bot.dispatcher(), lambda: next(beats)))
    assert bot.pager.said == ["The watchdog process died; a new one is started."] * 2


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_f92_a_channel_that_blocks_the_loop_is_interrupted() -> None:
    """It may wait for its service; where it keeps everything else waiting it is ended, and the other channel tried."""

    class Blocking(Channel):
        async def send(self, alert: Alert) -> None:  # noqa: ARG002  it gets no further
            while True:
                pass

    other = Channel()
    both = AlertDelivery({"a": Blocking(), "b": other}, {Urgency.CRITICAL: ("a",), Urgency.ROUTINE: ("b",)})
    alert = Alert(key="k", urgency=Urgency.CRITICAL, title="t", text="t", time=datetime(2026, 11, 24, tzinfo=UTC))
    assert asyncio.run(both.send(alert)) == Delivery(reached=("b",), missing=("a",))
    assert asyncio.run(both.deliver(alert, ["a"]))["a"].fault.startswith("CallTimedOut: it did not finish within 2 s")


def test_a_channel_whose_library_panics_is_replaced_by_the_other() -> None:
    """What is no Exception is its failure too, also an unrequested cancellation."""

    class Panicking(Channel):
        raises: BaseException = BaseException("panic")

        async def send(self, alert: Alert) -> None:  # noqa: ARG002  it gets no further
            raise self.raises

    failing, other = Panicking(), Channel()
    both = AlertDelivery({"a": failing, "b": other}, {Urgency.CRITICAL: ("a",), Urgency.ROUTINE: ("b",)})
    alert = Alert(key="k", urgency=Urgency.CRITICAL, title="t", text="t", time=datetime(2026, 11, 24, tzinfo=UTC))
    assert asyncio.run(both.send(alert)) == Delivery(reached=("b",), missing=("a",))
    failing.send = lambda _alert: 1 / 0  # type: ignore[assignment, method-assign, return-value]  # it is no coroutine
    assert asyncio.run(both.send(alert)).reached == ("b",)
    del failing.send
    failing.raises = asyncio.CancelledError()
    assert asyncio.run(both.send(alert)).reached == ("b",)


def test_the_heads_of_the_chains_leave_the_machine_after_each_session(bot: Bot) -> None:
    """As the last routine alert of the day, with the command that verifies them; a stop after it brings none anew."""
    dispatcher = bot.dispatcher()
    opened = {"date": "2026-11-24", "open": NOW.isoformat(), "equity": "1000", "symbols": 1}
    closed = {"date": "2026-11-24", "pnl": "0", "equity": "1000", "cash": "1000", "trades": 0, "open": []}
    expected = []
    for _ in range(2):
        bot.write(records.SESSION_OPENED, opened)
        asyncio.run(pump(dispatcher))
        bot.pass_time(hours=6)
        asyncio.run(dispatcher.note_chain_heads())
        bot.write(records.SESSION_CLOSED, closed)
        asyncio.run(pump(dispatcher))
        asyncio.run(dispatcher.note_chain_heads())
        expected.append("{}:{}".format(*bot.journal.head))
        bot.pass_time(minutes=5)
        for _ in range(2):
            asyncio.run(dispatcher.note_chain_heads())
            asyncio.run(pump(dispatcher))
        bot.write(records.STOPPED, {"open": []})
        asyncio.run(pump(dispatcher))
        bot.pass_time(minutes=5)
        asyncio.run(dispatcher.note_chain_heads())
        asyncio.run(pump(dispatcher))
    heads = [one for one in bot.mail.got if "Heads of the hash chains" in one.text]
    assert [one.text.rpartition(" ")[2] for one in heads] == expected
    assert heads[0].text.endswith(f"Next: tbot audit verify --journal-head {expected[0]}")
    assert bot.pager.said == []


def test_a_run_that_ends_sends_the_heads_at_its_end(bot: Bot) -> None:
    """A stop in mid-session waits for nothing."""
    dispatcher = bot.dispatcher()
    bot.write(records.STOPPED, {"open": []})
    count, digest = bot.journal.head
    asyncio.run(dispatcher.finish())
    assert any(f"Heads of the hash chains: journal {count}:{digest}" in one for one in bot.mail.said)


def test_the_events_after_an_older_journal_are_reported(bot: Bot) -> None:
    """It ends before the place up to which the newer one was read; nothing of what comes next is passed over."""
    asyncio.run(pump(bot.dispatcher()))
    kept = bot.instance.journal.with_name("kept")
    with closing(sqlite3.connect(kept)) as copy, closing(sqlite3.connect(bot.instance.journal)) as whole:
        whole.backup(copy)
    for _ in range(3):
        bot.write("noted", {})
    asyncio.run(pump(bot.dispatcher()))
    bot.journal.close()
    for path in bot.instance.data.glob("tbot.sqlite*"):
        path.unlink()
    kept.rename(bot.instance.journal)
    alerts = bot.dispatcher()
    bot.journal = open_journal(bot.instance.journal)
    bot.write(records.STOPPED, {"open": ["AAA"]})
    asyncio.run(pump(alerts))
    assert bot.pager.said == ["The run was stopped and left open: AAA."]


def test_without_chains_no_heads_are_sent(tmp_path: Path) -> None:
    """An instance that has not traded has none."""
    made = Bot(tmp_path)
    made.journal.close()
    dispatcher = made.dispatcher()
    made.pass_time(hours=2)
    asyncio.run(dispatcher.note_chain_heads(end=True))
    asyncio.run(pump(dispatcher))
    assert made.mail.said == []


def test_a_notice_that_cannot_be_stored_is_logged(bot: Bot, caplog: pytest.LogCaptureFixture) -> None:
    """The caller that reports it goes on."""
    dispatcher = bot.dispatcher()
    dispatcher._store.close()
    dispatcher.notify("An observer is switched off.", "tbot plugins list")
    assert "alert.lost" in caplog.text


def test_f92_a_channel_that_hung_is_not_called_and_the_others_are(bot: Bot) -> None:
    """Its messages go by the other channels, until its session is over."""
    own = {Urgency.CRITICAL: ("pager",), Urgency.ROUTINE: ("mail",)}
    delivery = AlertDelivery(
        {"pager": bot.pager, "mail": bot.mail}, own, lambda name: PluginBorder(is_off=lambda: name == "pager")
    )
    alert = Alert(key="1", urgency=Urgency.CRITICAL, title="title", text="text", time=NOW)
    assert asyncio.run(delivery.send(alert)).reached == ("mail",)
    assert (bot.pager.tries, bot.mail.tries) == (0, 1)
