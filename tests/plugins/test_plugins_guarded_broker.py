"""The boundary of broker and feed plugins: whatever a plugin raises or returns, the core gets a BrokerError."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import re
import signal
from contextlib import nullcontext
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import attrs
import numpy as np
import pytest

from tbot_core.contracts import (
    AccountSnapshot,
    Bar,
    Broker,
    BrokerCapabilities,
    BrokerEvent,
    DailyBar,
    FeedCoverage,
    FeedLabel,
    FeedQuality,
    FeedRequest,
    Gap,
    HaltStatus,
    Heartbeat,
    OptionRight,
    Permit,
    Quote,
    Split,
)
from tbot_core.contracts.abilities import ABILITIES
from tbot_core.engine.session.broker_login import log_in, log_in_within
from tbot_core.errors import (
    AccountRefused,
    BrokerError,
    DataError,
    JournalError,
    OutcomeUnknown,
    PluginError,
    Rejected,
    SettingsError,
    Unavailable,
)
from tbot_core.execution.broker_port import open_port
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Account, AccountRestriction, Order
from tbot_core.plugins.call_guard import AGAIN, FAILURES, CallGuard, FailedCall, GuardSession
from tbot_core.plugins.discovery import EntryPointInfo
from tbot_core.plugins.guarded_broker import account_mode_error
from tbot_core.plugins.network.request_limits import ON_SEND
from tbot_core.system.signals import interruptible
from tbot_core.testing.trades import order, session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = dt.datetime(2026, 1, 5, 15, 0, tzinfo=dt.UTC)

ENTRY = EntryPointInfo(kind="broker", name="acme", dist="tbot-broker-acme", version="1", target="acme")

ACCOUNT = Account(account_id="a1", equity=Decimal(1000), cash=Decimal(1000))

REQUEST = FeedRequest(kind="live")

LABEL = FeedLabel(name="acme", simulated=False, quotes=True)

ASYNCHRONOUS = [
    one.method for one in ABILITIES if one.method not in {"clock_ahead_s", "feed", "events", "poll", "replace"}
]

DECLARED: dict[str, Any] = {one.capability: True for one in ABILITIES if one.capability not in {"polls", "replaces"}}

EVERYTHING = BrokerCapabilities(replace="same_id", **DECLARED)

WRONG: dict[str, list[object]] = {
    "connect": [None],
    "account": [{"equity": 1}],
    "poll": [None, ["filled"], {}, [BrokerEvent(kind="fill", event_id="1", client_order_id="c", fill=cast("Any", {}))]],
    "snapshot": [
        None,
        AccountSnapshot(account=cast("Account", None)),
        AccountSnapshot(account=ACCOUNT, holdings=cast("Any", None)),
        AccountSnapshot(account=ACCOUNT, orders=cast("Any", ("an order",))),
    ],
    "find": ["unknown"],
    "open_orders": [None, ["an order"]],
    "instruments": [None, ["AAA"]],
    "maintenance": [None, ["tonight"]],
    "hours": ["09:30"],
    "prices": [None, {"AAA": "12"}],
    "vix_close": ["17"],
    "vix_now": [17.0],
    "market_caps": [None, {"AAA": "12"}],
    "option_contracts": [None, ["AAA260116P00020000"]],
    "option_quotes": [None, {"AAA260116P00020000": 1.5}],
}


@pytest.fixture(autouse=True)
def _quiet_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO):
        yield


class Panic(BaseException):
    """A panic of a native library."""


class Interrupting:
    """A feed during whose call Ctrl-C comes."""

    @property
    def label(self) -> FeedLabel:
        """Interrupt."""
        signal.raise_signal(signal.SIGINT)
        return LABEL

    def sessions(self) -> Any:
        """None."""


class Plain:
    """A plugin without optional protocols; its calls return what a test put into `answers`, or raise it."""

    def __init__(self, *, simulated: bool = False, **answers: Any) -> None:
        self.answers = {"capabilities": BrokerCapabilities(simulated=simulated), **answers}
        self.redeems = True

    @property
    def capabilities(self) -> Any:
        """Its capabilities."""
        return self.do("capabilities")

    def do(self, name: str) -> Any:
        """Return or raise the answer of a call."""
        answer = self.answers.get(name)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def __getattr__(self, name: str) -> Any:
        """Every request returns or raises its answer."""

        async def request(*_arguments: object) -> Any:
            return self.do(name)

        return request

    async def submit(self, _order: Order, permit: Permit) -> None:
        """Redeem the permit, then fail where the test says so."""
        if self.redeems:
            permit.redeem()
        self.do("submit")


class Full(Plain):
    """A plugin with every optional method."""

    def __init__(self, **answers: Any) -> None:
        super().__init__(**{"capabilities": EVERYTHING, "connect": ACCOUNT, **answers})

    @property
    def label(self) -> Any:
        """What is known of its prices."""
        return self.answers.get("label", LABEL)

    async def events(self) -> Any:
        """The items, or the errors, that the test says."""
        for one in self.answers["events"]:
            if isinstance(one, BaseException):
                raise one
            yield one

    @property
    def clock_ahead_s(self) -> Any:
        """Compare the clocks."""
        return self.do("clock_ahead_s")

    def feed(self, _request: FeedRequest) -> Any:
        """Itself, or what the test says."""
        return self.do("feed") or self

    async def sessions(self) -> Any:
        """The sessions, or the errors, that the test says."""
        for one in self.answers["sessions"]:
            if isinstance(one, BaseException):
                raise one
            yield one


class Live:
    """A live session whose messages and bars a test sets."""

    def __init__(self, news: list[Any] | None = None, bars: Any = ()) -> None:
        self.session = session()
        self.symbols = ("AAA",)
        self.quality = FeedQuality(coverage=FeedCoverage.CONSOLIDATED)
        self._news = [Heartbeat()] if news is None else news
        self._bars = bars

    async def messages(self, _symbols: object) -> Any:
        """The messages; an exception is raised."""
        for one in self._news:
            if isinstance(one, BaseException):
                raise one
            yield one

    async def daily(self, _symbols: object, _first: object, _last: object) -> Any:
        """The bars, as of minutes."""
        return await self.history(_symbols, _first, _last)

    async def history(self, _symbols: object, _first: object, _last: object) -> Any:
        """The bars; an exception is raised."""
        if isinstance(self._bars, BaseException):
            raise self._bars
        return self._bars


def guarded(plugin: object, guard: CallGuard | None = None) -> Any:
    """The plugin as the core gets it."""
    return open_port(ENTRY, plugin, guard or CallGuard(strict=False))


def call(broker: Any, name: str) -> Any:
    """Call a method with arguments that fit it."""
    arguments = {
        "cancel": ("c1",),
        "replace": ("c1", order()),
        "snapshot": (NOW,),
        "find": ("c1",),
        "instruments": ("AAA",),
        "hours": (NOW.date(),),
        "prices": (["AAA"],),
        "vix_close": (NOW.date(),),
        "market_caps": (["AAA"],),
        "option_contracts": ("AAA", OptionRight.PUT, NOW.date(), NOW.date()),
        "option_quotes": (["AAA260116P00020000"],),
    }
    return asyncio.run(getattr(broker, name)(*arguments.get(name, ())))


@pytest.mark.parametrize(
    "name", ["connect", "account", "cancel", "replace", "poll", "snapshot", "close", *ASYNCHRONOUS]
)
@pytest.mark.parametrize("fault", [KeyError("id"), SystemExit(2), Panic("index"), asyncio.CancelledError()])
def test_an_exception_is_unavailable_and_names_plugin_and_call(
    name: str, fault: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the traceback, the error the plugin, the call and the exception."""
    with pytest.raises(Unavailable, match=f"The plugin broker/acme failed: {name}: {type(fault).__name__}") as raised:
        call(guarded(Full(simulated=False, **{name: fault})), name)
    assert raised.value.__cause__ is fault
    assert "plugin.failed" in caplog.text
    assert "test_plugins_guarded_broker" in caplog.text


@pytest.mark.parametrize(("name", "answer"), [(name, answer) for name, found in WRONG.items() for answer in found])
def test_a_wrong_answer_is_unavailable(name: str, answer: object) -> None:
    """None in place of a list, or a list of other objects, never reaches the books."""
    with pytest.raises(Unavailable, match=f"broker/acme failed: {name}: TypeError: it returned an object of type"):
        call(guarded(Full(simulated=False, **{name: answer})), name)


def test_an_error_that_is_a_sentence_keeps_its_one_full_stop() -> None:
    """Its remedy ends the message."""
    with pytest.raises(Unavailable) as raised:
        call(guarded(Full(simulated=False, poll=PluginError("The mode is wrong.", "Change it."))), "poll")
    assert raised.value.message == "The plugin broker/acme failed: poll: The mode is wrong. Change it."


def test_right_answers_and_broker_errors_pass() -> None:
    """What the contract allows arrives unchanged, with the plugin's own words."""
    snapshot, rejected = AccountSnapshot(account=ACCOUNT), Rejected("no margin.")
    broker = guarded(
        Full(connect=ACCOUNT, account=ACCOUNT, poll=[], snapshot=snapshot, prices={"AAA": 12.5}, cancel=rejected)
    )
    assert call(broker, "connect") is call(broker, "account") is ACCOUNT
    assert call(broker, "poll") == []
    assert call(broker, "snapshot") is snapshot
    assert call(broker, "prices") == {"AAA": 12.5}
    assert call(broker, "hours") is None
    assert call(broker, "vix_close") is None
    with pytest.raises(Rejected) as raised:
        call(broker, "cancel")
    assert raised.value is rejected


@pytest.mark.parametrize(("redeems", "kind"), [(True, OutcomeUnknown), (False, Unavailable)])
def test_an_order_is_unknown_once_its_permit_was_redeemed(redeems: bool, kind: type[BrokerError]) -> None:
    """Before that it certainly has not left."""
    theirs = Full(submit=ValueError("bad body"))
    theirs.redeems = redeems
    with pytest.raises(kind, match="broker/acme failed: submit: ValueError: bad body"):
        asyncio.run(guarded(theirs).submit(order(), SendPermit(order(), never_refuse)))


def test_an_order_that_left_without_its_permit_is_unknown() -> None:
    """Whether the plugin fails after the first byte or says that all is well: the permit was for the core to check."""

    class Careless(Plain):
        async def submit(self, _order: Order, _permit: Permit) -> None:
            ON_SEND.get()()
            self.do("submit")

    with pytest.raises(OutcomeUnknown, match="submit: KeyError: 'id'"):
        asyncio.run(guarded(Careless(submit=KeyError("id"))).submit(order(), SendPermit(order(), never_refuse)))
    with pytest.raises(OutcomeUnknown, match="it sent an order without redeeming its permit"):
        asyncio.run(guarded(Careless()).submit(order(), SendPermit(order(), never_refuse)))


def test_a_panic_of_a_native_library_is_the_plugins_failure() -> None:
    """It derives from BaseException; an order that may have left is unknown then. So is an exit, or no real Ctrl-C."""
    with pytest.raises(OutcomeUnknown, match="submit: Panic: index"):
        asyncio.run(guarded(Full(submit=Panic("index"))).submit(order(), SendPermit(order(), never_refuse)))
    with pytest.raises(Unavailable, match="feed: Panic: index"):
        guarded(Full(feed=Panic("index"))).feed(REQUEST)
    with pytest.raises(Unavailable, match="sessions: Panic: index"):
        asyncio.run(every(guarded(Full(sessions=[Panic("index")])).feed(REQUEST).sessions()))
    with interruptible():
        for fault in (KeyboardInterrupt(), GeneratorExit(), SystemExit(3)):
            words = type(fault).__name__
            with pytest.raises(OutcomeUnknown, match=f"submit: {words}"):
                asyncio.run(guarded(Full(submit=fault)).submit(order(), SendPermit(order(), never_refuse)))
            with pytest.raises(Unavailable, match=f"feed: {words}"):
                guarded(Full(feed=fault)).feed(REQUEST)
            with pytest.raises(Unavailable, match=f"sessions: {words}"):
                asyncio.run(every(guarded(Full(sessions=[fault])).feed(REQUEST).sessions()))
        with pytest.raises(KeyboardInterrupt):
            guarded(Full(feed=Interrupting())).feed(REQUEST).label  # noqa: B018  -- reading it interrupts


def test_a_revoked_permit_and_a_failing_journal_are_not_the_plugins_failures() -> None:
    """A kill withdraws the order in its own words; an error of the core in the last check stays that error."""
    with pytest.raises(Unavailable, match="was not sent: kill"):
        asyncio.run(guarded(Full()).submit(order(), SendPermit(order(), lambda _order: "kill")))

    def fail(_order: Order) -> str:
        raise JournalError("The disk is full.")

    with pytest.raises(JournalError, match="The disk is full"):
        asyncio.run(guarded(Full()).submit(order(), SendPermit(order(), fail)))


def test_a_sent_order_returns_nothing() -> None:
    """A submit that worked raises nothing, whatever the plugin returns."""
    asyncio.run(guarded(Full(submit="an answer")).submit(order(), SendPermit(order(), never_refuse)))


def test_a_call_that_the_core_cancels_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """The end of a session cancels what is pending; no plugin is blamed for it."""

    class Slow(Plain):
        async def poll(self) -> Any:
            await asyncio.sleep(3600)

    async def cancelled() -> None:
        task = asyncio.ensure_future(guarded(Slow()).poll())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert "plugin.failed" not in caplog.text


def test_a_guarded_broker_offers_what_its_plugin_declares() -> None:
    """The core asks the declaration, which the guard passes on: every ability of a full plugin, none of a plain one."""
    full, plain = guarded(Full(clock_ahead_s=[])), guarded(Plain())
    assert [one.method for one in ABILITIES if one.of(full) is not full] == ["poll"]
    assert [one.method for one in ABILITIES if one.of(plain) is not None] == ["poll"]


EVENT = BrokerEvent(kind="fill", event_id="1", client_order_id="c")


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (KeyError("order"), "KeyError: 'order'"),
        ("a message", "an object of type str instead of BrokerEvent or Gap"),
        (attrs.evolve(EVENT, fill=cast("Any", {})), "an object of type dict as BrokerEvent.fill, not of type Fill"),
        (Unavailable("connection reset"), "connection reset"),
    ],
)
def test_a_stream_that_fails_is_unavailable_with_the_plugins_name(item: Any, words: str) -> None:
    """What came before is passed on; a BrokerError of the plugin passes as it is."""
    broker, received = guarded(Full(events=[Gap(words="connected"), EVENT, item])), list[Any]()

    async def listen() -> None:
        async for one in broker.events():
            received.append(one)

    with pytest.raises(Unavailable, match=re.escape(words)) as fault:
        asyncio.run(listen())
    assert received == [Gap(words="connected"), EVENT]
    assert ("broker/acme" in fault.value.message) is not isinstance(item, Unavailable)


def test_a_plugin_that_is_used_for_data_only_is_logged_in_to_once() -> None:
    """Before its first sessions, whosever account it is; not where the core has logged in, and anew after a log-out."""
    calls: list[str] = []

    class Counting(Full):
        async def connect(self) -> Any:
            """Count the logins."""
            calls.append("connect")
            return ACCOUNT

    async def sessions(broker: Any) -> None:
        async for _ in broker.feed(REQUEST).sessions():
            pass

    alone = open_port(ENTRY, Counting(sessions=[]), CallGuard(strict=False), live=True)
    asyncio.run(sessions(alone))
    asyncio.run(sessions(alone))
    assert calls == ["connect"]
    asyncio.run(alone.close())
    asyncio.run(sessions(alone))
    assert calls == ["connect", "connect"]
    calls.clear()
    both = open_port(ENTRY, Counting(sessions=[]), CallGuard(strict=False))
    asyncio.run(both.connect())
    asyncio.run(sessions(both))
    assert calls == ["connect"]


def test_what_cannot_raise_is_unknown_after_a_failure() -> None:
    """The clock has no skew, and the capabilities are the last known ones."""
    theirs = Full(clock_ahead_s=["soon"])
    broker = guarded(theirs)
    assert broker.clock_ahead_s == ()
    assert broker.capabilities is theirs.answers["capabilities"]
    before = broker.capabilities
    theirs.answers |= {"capabilities": None, "clock_ahead_s": [0.5]}
    assert broker.capabilities is before
    assert broker.clock_ahead_s == [0.5]


def test_a_venue_of_a_simulation_is_not_guarded() -> None:
    """It is called by the core's own clock, and a failure there ends the simulation."""
    venue = Plain(simulated=True, poll=KeyError("id"))
    with pytest.raises(KeyError):
        call(guarded(venue, CallGuard(strict=True)), "poll")
    with pytest.raises(Unavailable):
        call(guarded(venue), "poll")


def test_what_a_venue_is_shown_ends_no_session(caplog: pytest.LogCaptureFixture) -> None:
    """A failure is reported; in a simulation it ends the run."""

    class Venue(Plain):
        def close_session(self) -> None:
            """Fail."""
            self.do("close_session")

    venue = Venue(simulated=True, close_session=KeyError("position"))
    guarded(venue).close_session()
    assert "close_session: KeyError: 'position'" in caplog.text
    with pytest.raises(KeyError):
        guarded(venue, CallGuard(strict=True)).close_session()


@pytest.mark.parametrize("answer", [None, KeyError("capabilities")])
def test_a_broker_without_capabilities_is_refused(answer: object) -> None:
    """The error names the plugin before anything is connected."""
    with pytest.raises(PluginError, match=r"The broker acme .* failed: it could not be created"):
        guarded(Plain(capabilities=answer))


async def every(source: Any) -> list[Any]:
    """All items of an asynchronous iterator."""
    return [one async for one in source]


def live(one: object) -> Any:
    """The guarded live session of a feed that yields this object."""
    (found,) = asyncio.run(every(guarded(Full(sessions=[one])).feed(REQUEST).sessions()))
    return found


class Listing(Live):
    """A live session that knows what its vendor has and it does not offer."""

    def __init__(self, left_out: Any) -> None:
        super().__init__()
        self.left_out = left_out


class Splitting(Live):
    """A live session that reports splits, or raises an exception in their place."""

    def __init__(self, found: Any) -> None:
        super().__init__()
        self.found = found

    async def splits(self, _symbols: object, _first: object, _last: object) -> Any:
        """The splits; an exception is raised."""
        if isinstance(self.found, BaseException):
            raise self.found
        return self.found


def splits_of(one: object) -> Any:
    """The splits that a guarded live session reports."""
    return asyncio.run(live(one).splits(("AAA",), NOW.date(), NOW.date()))


def test_a_sound_feed_passes() -> None:
    """Label, facts, messages and bars are the plugin's; sessions of another kind pass as they are."""
    feed = guarded(Full(sessions=[])).feed(REQUEST)
    assert feed.label is LABEL
    inner = Live()
    found = live(inner)
    assert (found.session, found.symbols, found.quality) == (inner.session, inner.symbols, inner.quality)
    assert (found.left_out, live(Listing({"not tradable": 3})).left_out) == ({}, {"not tradable": 3})
    assert asyncio.run(every(found.messages(["AAA"]))) == [Heartbeat()]
    assert asyncio.run(found.history(["AAA"], NOW, NOW)) == ()
    split = Split(symbol="AAA", date=NOW.date(), before=1, after=4)
    assert (splits_of(inner), splits_of(Splitting([split]))) == ((), [split])


def test_a_broken_feed_is_unavailable() -> None:
    """An exception or a wrong object, in any part of the feed, names plugin and call."""
    wrong_symbols = Live()
    wrong_symbols.symbols = cast("Any", (1,))
    cases: dict[str, Callable[[], object]] = {
        "feed: KeyError": lambda: guarded(Full(feed=KeyError("bars"))).feed(REQUEST),
        "feed: TypeError": lambda: guarded(Full(feed="bars")).feed(REQUEST),
        "label: TypeError": lambda: guarded(Full(label="acme")).feed(REQUEST),
        "sessions: KeyError": lambda: live(KeyError("bars")),
        "sessions: TypeError": lambda: live("a session"),
        "symbols: TypeError": lambda: live(wrong_symbols),
        "left_out: TypeError": lambda: live(Listing({"not tradable": "many"})),
        "daily: KeyError": lambda: asyncio.run(live(Live(bars=KeyError("bars"))).daily((), NOW.date(), NOW.date())),
        "daily: TypeError": lambda: asyncio.run(live(Live(bars=[None])).daily((), NOW.date(), NOW.date())),
        "messages: KeyError": lambda: asyncio.run(every(live(Live([KeyError("price")])).messages(["AAA"]))),
        "messages: TypeError": lambda: asyncio.run(every(live(Live([None])).messages(["AAA"]))),
        "history: KeyError": lambda: asyncio.run(live(Live(bars=KeyError("bars"))).history((), NOW, NOW)),
        "history: TypeError": lambda: asyncio.run(live(Live(bars=None)).history((), NOW, NOW)),
        "splits: KeyError": lambda: splits_of(Splitting(KeyError("rate"))),
        "splits: TypeError": lambda: splits_of(Splitting([None])),
    }
    for words, action in cases.items():
        with pytest.raises(Unavailable, match=f"broker/acme failed: {words}"):
            action()


BAR: dict[str, Any] = {"symbol": "AAA", "open": 1.0, "high": 1, "low": 1.0, "close": 1.0, "volume": np.float32(1)}


def test_messages_of_a_feed_have_times_and_numbers() -> None:
    """A time without a zone, or a text for a number, is the plugin's failure; any number is good."""
    sound = [
        Bar(start=NOW, **BAR), Quote(symbol="AAA", bid=1.0, ask=2, time=NOW), HaltStatus(symbol="AAA", halted=True)
    ]  # fmt: skip
    assert asyncio.run(every(live(Live(list(sound))).messages(["AAA"]))) == sound
    assert asyncio.run(live(Live(bars=sound[:1])).history((), NOW, NOW)) == sound[:1]
    naive, text = NOW.replace(tzinfo=None), cast("Any", "1.0")
    wrong = [
        Bar(start=naive, **BAR), Bar(start=text, **BAR), Bar(start=NOW, **BAR | {"close": text}),
        Quote(symbol="AAA", bid=text, ask=2.0, time=NOW), Quote(symbol="AAA", bid=1.0, ask=2.0, time=naive),
    ]  # fmt: skip
    for one in wrong:
        with pytest.raises(Unavailable, match="messages: TypeError"):
            asyncio.run(every(live(Live([one])).messages(["AAA"])))
    with pytest.raises(Unavailable, match="history: TypeError"):
        asyncio.run(live(Live(bars=wrong[:1])).history((), NOW, NOW))


def test_a_decimal_among_market_data_is_named() -> None:
    """`.json()` gives Decimals for fractions, and prices of bars and quotes are floats: field and remedy are named."""
    bars = [Bar(start=NOW, **BAR), Bar(start=NOW, **BAR | {"close": Decimal("1.25")})]
    with pytest.raises(
        Unavailable, match=r"type Decimal as Bar\.close, not a number; market data are floats: float\(\)"
    ):
        asyncio.run(live(Live(bars=bars)).history((), NOW, NOW))
    quote = Quote(symbol="AAA", bid=cast("Any", Decimal("0.5")), ask=1.0, time=NOW)
    with pytest.raises(Unavailable, match=r"type Decimal as Quote\.bid"):
        asyncio.run(every(live(Live([quote])).messages(["AAA"])))


def test_daily_bars_have_dates_and_numbers() -> None:
    """A moment, or a text, for a date is the plugin's failure, and so is a text for a number."""
    row: dict[str, Any] = {"date": NOW.date(), **BAR}
    sound = [DailyBar(**row)]
    assert asyncio.run(live(Live(bars=sound)).daily((), NOW.date(), NOW.date())) == sound
    for name, value in (("date", NOW), ("date", "2026-01-05"), ("close", "1.0")):
        with pytest.raises(Unavailable, match="daily: TypeError"):
            asyncio.run(live(Live(bars=[DailyBar(**row | {name: value})])).daily((), NOW.date(), NOW.date()))


def test_errors_that_the_contract_of_a_feed_names_pass() -> None:
    """Missing data is said by the plugin; a lost connection is a BrokerError."""
    with pytest.raises(DataError, match="no bars"):
        guarded(Full(feed=DataError("no bars."))).feed(REQUEST)
    with pytest.raises(DataError, match="no bars"):
        live(DataError("no bars."))
    with pytest.raises(Unavailable, match=r"^reset"):
        asyncio.run(every(live(Live([Unavailable("reset.")])).messages(["AAA"])))
    with pytest.raises(Unavailable, match=r"^reset"):
        guarded(Full(feed=Unavailable("reset."))).feed(REQUEST)


def watched(clock: ManualClock) -> tuple[CallGuard, list[FailedCall]]:
    """A guard in a session at a real market, and the failures that it records."""
    guard, recorded = CallGuard(strict=False), list[FailedCall]()
    guard.open_session(GuardSession(clock=clock, on_failure=recorded.append, on_broker_failure=recorded.append))
    return guard, recorded


def fail_once(broker: Any) -> None:
    """One failing poll."""
    with pytest.raises(Unavailable):
        call(broker, "poll")


def test_three_failures_in_ten_minutes_block_entries_and_the_plugin_stays_in_use() -> None:
    """The third is `off`; while it goes on, one failure in half a minute is recorded, and every call is made."""
    clock = ManualClock(NOW)
    guard, recorded = watched(clock)
    theirs = Full(poll=KeyError("id"))
    broker = guarded(theirs, guard)
    for _ in range(FAILURES + 2):
        fail_once(broker)
    assert [(one.plugin, one.call, one.turn, one.off) for one in recorded] == [
        ("broker/acme", "poll", 0, False), ("broker/acme", "poll", 1, False), ("broker/acme", "poll", 2, True)
    ]  # fmt: skip
    assert recorded[0].error == "poll: KeyError: 'id'"
    clock.advance(AGAIN.total_seconds())
    fail_once(broker)
    assert [one.off for one in recorded] == [False, False, True, True]
    theirs.answers["poll"] = []
    assert call(broker, "poll") == []


def test_failures_far_apart_block_nothing() -> None:
    """Three failures in more than ten minutes are recorded and leave entries allowed."""
    clock = ManualClock(NOW)
    guard, recorded = watched(clock)
    broker = guarded(Full(poll=KeyError("id")), guard)
    for _ in range(2 * FAILURES):
        fail_once(broker)
        clock.advance(301)
    assert [one.off for one in recorded] == [False] * 2 * FAILURES


def test_failures_from_before_a_restart_count() -> None:
    """The journal's failures of the session are restored, so that a restart is no forgiveness."""
    guard, recorded = watched(ManualClock(NOW))
    before = FailedCall(plugin="broker/acme", call="poll", turn=0, error="", off=False)
    guard.restore([(NOW, before), (NOW, before)])
    fail_once(guarded(Full(poll=KeyError("id")), guard))
    assert [one.off for one in recorded] == [True]


def test_at_a_simulated_venue_failures_are_logged_only(caplog: pytest.LogCaptureFixture) -> None:
    """Its journal repeats after a restart, and the failures of a data source do not."""
    guard, recorded = CallGuard(strict=False), list[FailedCall]()
    guard.open_session(GuardSession(clock=ManualClock(NOW), on_failure=recorded.append))
    for _ in range(FAILURES):
        fail_once(guarded(Full(poll=KeyError("id")), guard))
    assert recorded == []
    assert caplog.text.count("plugin.failed") >= FAILURES


def test_what_a_broker_says_is_one_line_without_control_characters() -> None:
    """An error, an event and a failure that quote it write over no terminal and begin no line of a log."""
    said, shown = "no\x1b[2J\r\ntbot: all is well\u202e\x9b1A", "no [2J tbot: all is well 1A"
    broker = guarded(Full(cancel=Rejected(said), account=ValueError(said), capabilities=EVERYTHING))
    with pytest.raises(Rejected) as refused:
        asyncio.run(broker.cancel("c1"))
    assert refused.value.message == shown
    with pytest.raises(Unavailable, match=re.escape(f"ValueError: {shown}.")):
        asyncio.run(broker.account())
    assert BrokerEvent(kind="rejected", event_id="1", client_order_id="c", words=said).words == shown


def test_f92_a_watchdog_sees_each_step_of_a_broker_and_its_feed() -> None:
    """Awaited calls, items of streams and properties are marked by name while the plugin's code runs."""
    guard, marked = CallGuard(strict=False, clock=ManualClock(NOW)), list[str]()

    def where(words: str) -> nullcontext[None]:
        marked.append(words)
        return nullcontext()

    guard.where = where
    broker = guarded(Full(events=[Gap(words="connected")], prices={}), guard)
    marked.clear()
    call(broker, "prices")
    asyncio.run(every(broker.events()))
    assert broker.capabilities is EVERYTHING
    moment = NOW.isoformat()
    assert marked[0] == f"broker/acme prices 0 {moment}"
    assert [one.split(" ")[1] for one in dict.fromkeys(marked)] == ["prices", "events", "capabilities"]


SILENT = Account(account_id="A-1", equity=Decimal(1000), cash=Decimal(1000))

LIVE = attrs.evolve(SILENT, live=True, evidence="host api.acme.example serves live accounts only")

PAPER = attrs.evolve(SILENT, live=False, evidence="host paper.acme.example serves paper only")


class Reporting:
    """A broker whose account a test sets."""

    capabilities = BrokerCapabilities()

    def __init__(self, account: Account) -> None:
        self.reported = account

    async def connect(self) -> Account:
        """Log in."""
        return self.reported

    async def account(self) -> Account:
        """The account."""
        return self.reported

    async def snapshot(self, _since: object) -> AccountSnapshot:
        """The account alone."""
        return AccountSnapshot(account=self.reported)


def guarded_account(account: Account, *, live: bool | None) -> tuple[Reporting, Any]:
    """A broker, and what the core gets of it in a mode."""
    broker = Reporting(account)
    return broker, open_port(ENTRY, broker, CallGuard(strict=False), live=live)


@pytest.mark.parametrize(
    ("account", "live", "words"),
    [
        (LIVE, True, ""),
        (PAPER, True, "holds no live money (host paper.acme.example serves paper only)"),
        (SILENT, True, "it is not known whether the account A-1 at acme holds live money"),
        (attrs.evolve(LIVE, evidence=" "), True, "it is not known whether"),
        (attrs.evolve(SILENT, evidence="a guess"), True, "it is not known whether"),
        (LIVE, False, "holds live money (host api.acme.example serves live accounts only)"),
        (attrs.evolve(LIVE, evidence=""), False, "holds live money (the broker reports it)"),
        (PAPER, False, ""),
        (SILENT, False, ""),
    ],
)
def test_the_mode_is_checked_against_the_evidence(account: Account, live: bool, words: str) -> None:
    """Live needs live money with evidence, paper refuses it; every refusal has a remedy and exit code 3."""
    fault = account_mode_error(account, "acme", live=live)
    if not words:
        assert fault is None
        return
    assert fault is not None
    assert words in fault.message
    assert fault.remedy
    assert fault.exit_code == 3


def test_what_the_plugin_must_report_is_named() -> None:
    """An author who lets live trading be refused reads which fields are missing."""
    fault = account_mode_error(SILENT, "acme", live=True)
    assert fault is not None
    assert "The plugin must report Account.live and Account.evidence" in fault.remedy


@pytest.mark.parametrize("opened", [None, {"accounts": {"acme": {"account": "A-1", "equity": "500"}}}])
def test_a_login_to_an_account_of_another_mode_ends_the_start(opened: dict[str, Any] | None) -> None:
    """Also after a restart, and at a standby: it is no silence that is waited for."""
    event: Any = None if opened is None else type("Opened", (), {"payload": opened})
    _, broker = guarded_account(LIVE, live=False)
    with pytest.raises(SettingsError, match="The mode is paper"):
        asyncio.run(log_in(cast("Broker", broker), "acme", event))
    with pytest.raises(SettingsError, match="The mode is paper"):
        asyncio.run(log_in_within(1.0, cast("Broker", broker), "acme", event))


def test_an_account_that_becomes_another_one_is_not_read() -> None:
    """In a session the refusal is a BrokerError, which blocks entries and ends no run."""
    broker, core = guarded_account(PAPER, live=False)
    assert asyncio.run(core.account()) is PAPER
    broker.reported = LIVE
    for call in (core.account, core.connect, lambda: core.snapshot(session().open)):
        with pytest.raises(AccountRefused):
            asyncio.run(call())
    assert issubclass(AccountRefused, BrokerError)


def test_without_a_mode_no_account_is_judged() -> None:
    """A dry run or a simulation trades no account."""
    _, core = guarded_account(LIVE, live=None)
    assert asyncio.run(core.connect()) is LIVE


@pytest.mark.parametrize(
    ("restricted", "flags", "words"),
    [
        ("", [], ""),
        ("margin call of 100 USD", ["trading blocked"], "margin call of 100 USD"),
        ("", ["trading blocked", "account blocked"], "account blocked, trading blocked"),
        ("", ["transfers blocked"], ""),
    ],
)
def test_a_restriction_blocks_with_the_brokers_word(restricted: str, flags: list[str], words: str) -> None:
    """Its own words come first; blocked transfers concern no order."""
    account = attrs.evolve(SILENT, restricted=restricted, restrictions=cast("Any", flags))
    assert account.blocking_words == words
    assert account.restrictions == {AccountRestriction(flag) for flag in flags}


def test_an_unknown_restriction_is_no_flag() -> None:
    """A text that the core does not know is refused, since it may mean anything."""
    with pytest.raises(ValueError, match="asleep"):
        attrs.evolve(SILENT, restrictions=cast("Any", ["asleep"]))
