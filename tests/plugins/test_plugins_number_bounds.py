"""No number of a plugin enters the core unless it is finite and such a number can be."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import logging
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core import contracts
from tbot_core.contracts import (
    AccountActivity,
    AccountActivityKind,
    AccountSnapshot,
    Bar,
    BrokerCapabilities,
    BrokerEvent,
    DailyBar,
    DailyValue,
    DayTradeRule,
    FeedCoverage,
    FeedLabel,
    FeedQuality,
    FeedRequest,
    HaltStatus,
    Host,
    IndexQuote,
    InstrumentRules,
    ModelInput,
    OptionContract,
    OptionListing,
    OptionQuoteReport,
    OptionRight,
    OptionValuation,
    OptionVerdict,
    OrderStatusReport,
    PositionReport,
    Quote,
    Split,
)
from tbot_core.errors import PluginError, Unavailable
from tbot_core.execution.broker_port import open_port
from tbot_core.model import calendar, exit_rules, signals, types, window
from tbot_core.model.calendar import Session
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import Account, Fill
from tbot_core.model.window import Window
from tbot_core.plugins import number_bounds
from tbot_core.plugins.call_guard import CallGuard
from tbot_core.plugins.discovery import EntryPointInfo
from tbot_core.plugins.guarded import checked_valuation, guard_plugin
from tbot_core.plugins.number_bounds import FigureOutOfBounds, assert_figures, numeric_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

NOW = dt.datetime(2026, 1, 5, 15, 0, tzinfo=dt.UTC)
ENTRY = EntryPointInfo(kind="broker", name="acme", dist="tbot-broker-acme", version="1", target="acme")
LARGE = 10**5000
EVIL: tuple[Any, ...] = (
    *(float(text) for text in ("nan", "inf", "-inf")),
    *(Decimal(text) for text in ("NaN", "sNaN", "Infinity", "-Infinity", "1E+999999", "1E-999999", "0E+999999")),
    LARGE,
    -LARGE,
    True,
)
FILL = Fill(
    execution_id="e", client_order_id="c", symbol="A", buy=True, quantity=Decimal(1), price=Decimal(2),
    fees=Decimal(0), time=NOW,
)  # fmt: skip
ACCOUNT = Account(
    account_id="a", equity=Decimal(1), cash=Decimal(1), buying_power=Decimal(1), settled_cash=Decimal(1), day_trades=0,
    options_level=2,
)  # fmt: skip
HOLDING = PositionReport(symbol="A", quantity=Decimal(-1), average_price=Decimal(1), price=Decimal(1))
REPORT = OrderStatusReport(
    client_order_id="c", broker_order_id="b", kind="acknowledged", symbol="A", buy=True, quantity=Decimal(1),
    time=NOW, average_price=Decimal(1),
)  # fmt: skip
ACTIVITY = AccountActivity(activity_id="1", kind=AccountActivityKind.FEE, time=NOW)
RULE = DayTradeRule(until=NOW.date(), account="margin", equity_below=Decimal(25000), max_day_trades=3)
PUT = OptionContract(
    underlying="A", expiry=dt.date(2026, 1, 16), expires=NOW, strike=20.0, right=OptionRight.PUT
)  # fmt: skip
PRICES: dict[str, Any] = {"open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1.0}

NUMBERS: dict[type[Any], set[str]] = {
    Account: {"equity", "cash", "buying_power", "settled_cash", "day_trades", "options_level"},
    AccountActivity: {"quantity", "cash"},
    Bar: {"open", "high", "low", "close", "volume", "vwap"},
    BrokerCapabilities: {
        "lookup_window_s", "list_lag_s", "requests_per_minute", "quantity_step", "cid_length", "buy_stop_collar",
    },
    DailyBar: {"open", "high", "low", "close", "volume"},
    DailyValue: {"value"},
    DayTradeRule: {"equity_below", "max_day_trades"},
    ExitRules: {"leave", "hold"},
    FeedQuality: {"subscriptions", "history_delay_s"},
    Fill: {"quantity", "price", "fees"},
    HaltStatus: {"level"},
    IndexQuote: {"value"},
    InstrumentRules: {"tick", "quantity_step", "minimum_quantity", "minimum_notional"},
    ModelInput: {"value"},
    OptionContract: {"strike"},
    OptionListing: {"multiplier", "open_interest"},
    OptionQuoteReport: {"bid", "ask", "bid_size", "ask_size"},
    OptionValuation: {"limit", "model", "market", "deviation", "implied_volatility"},
    OrderStatusReport: {"quantity", "filled", "average_price"},
    PositionReport: {"quantity", "average_price", "price", "multiplier"},
    Quote: {"bid", "ask"},
    Session: {"minutes"},
    Split: {"before", "after"},
    Host: {"requests_per_minute"},
    Window: {"start", "analysis", "breakout", "monitoring"},
}  # fmt: skip
"""What a plugin can hand to the core, by hand."""

OF_THE_CORE = {
    "Check", "Context", "ExchangeCalendar", "ExtraFacts", "FeedRequest", "Instrument", "JournalEntry", "NamedWindow",
    "OptionQuote", "OptionRequest", "Order", "SessionGap", "SignalId", "Trade",
}  # fmt: skip
"""Classes with numbers that the core hands to plugins; the arrays of a Check are checked by themselves."""

VALID: tuple[Any, ...] = (
    FILL, ACCOUNT, HOLDING, REPORT, ACTIVITY, RULE, PUT,
    Bar(symbol="A", start=NOW, vwap=1.0, **PRICES),
    BrokerCapabilities(day_trade_rules=(RULE,)),
    DailyBar(symbol="A", date=NOW.date(), **PRICES),
    ExitRules(leave=1, hold=1),
    FeedQuality(coverage=FeedCoverage.CONSOLIDATED),
    HaltStatus(symbol="A", halted=True),
    Host("https://api.example"),
    IndexQuote(value=17.0, time=NOW),
    DailyValue(day=NOW.date(), value=-0.01),
    InstrumentRules(symbol="A", tick=Decimal("0.01")),
    ModelInput(name="rate", value=0.04, source="a file"),
    OptionListing(symbol="A260116P00020000", contract=PUT, is_standard=True, tradable=True, open_interest=7),
    OptionQuoteReport(
        symbol="A260116P00020000", bid=1.0, ask=1.1, bid_size=1, ask_size=2, time=NOW, feed="f", is_modified=False
    ),
    OptionValuation(verdict=OptionVerdict.ACCEPTED, reason="near", limit=0.1, model=1.0, market=1.0, deviation=0.0),
    Quote(symbol="A", bid=1.0, ask=1.0, time=NOW),
    Session(date=NOW.date(), open=NOW, close=NOW + dt.timedelta(hours=6)),
    Split(symbol="A", date=NOW.date(), before=1, after=10),
    Window(start=0, analysis=1, breakout=1, monitoring=1),
)  # fmt: skip


SIGNED: dict[type[Any], set[str]] = {
    Account: {"equity", "cash", "buying_power", "settled_cash"},  # a debit
    AccountActivity: {"quantity", "cash"},  # taken from the account: a reverse split, shares that were moved out
    Fill: {"fees"},  # a rebate
    DailyValue: {"value"},  # a rate
    ModelInput: {"value"},  # a rate
    PositionReport: {"quantity", "average_price", "price"},  # sold short
}
"""The numbers that may be below zero."""

UNSIGNED: dict[type[Any], set[str]] = {
    kind: NUMBERS[kind] - SIGNED.get(kind, set())
    for kind in (
        *(Account, AccountActivity, Bar, DailyBar, FeedQuality, Fill, HaltStatus, Host, IndexQuote),
        *(OptionContract, OptionListing, OptionQuoteReport, OrderStatusReport, PositionReport, Quote, Split),
    )
} | {InstrumentRules: {"tick", "quantity_step", "minimum_quantity"}, OptionValuation: {"model", "market"}}
"""The quantities, prices, counts and durations, of which none is below zero."""


@pytest.fixture(autouse=True)
def _quiet_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO):
        yield


def spoiled(valid: Any, name: str, value: object) -> Any:
    """A copy with another number, past the checks of its class."""
    copy = object.__new__(type(valid))
    for field in attrs.fields(type(valid)):
        object.__setattr__(copy, field.name, getattr(valid, field.name))
    object.__setattr__(copy, name, value)
    return copy


def classes_with_numbers() -> dict[str, type[Any]]:
    """The attrs classes of the contract, and of the values in it, whose annotations name a type of number."""
    offered = {name: getattr(contracts, name) for name in contracts.__all__}
    for module in (calendar, exit_rules, signals, types, window):
        offered |= {
            name: one for name, one in vars(module).items() if getattr(one, "__module__", "") == module.__name__
        }
    return {
        name: one
        for name, one in offered.items()
        if isinstance(one, type)
        and attrs.has(one)
        and any(re.search(r"\b(Decimal|float|int)\b", str(field.type)) for field in attrs.fields(one))
    }


def test_each_class_that_a_plugin_can_hand_over_is_known_here() -> None:
    """A class or a numeric field that is added to the contract needs its bound, and its line in these tables."""
    assert {type(one): set(numeric_fields(type(one))) for one in VALID} == NUMBERS
    assert classes_with_numbers().keys() == {one.__name__ for one in NUMBERS} | OF_THE_CORE


@pytest.mark.parametrize("valid", VALID, ids=lambda one: type(one).__name__)
def test_a_number_that_none_can_be_is_refused(valid: Any) -> None:
    """Not finite, too large, with an endless exponent, or a truth value: the error names field and value, shortly."""
    assert_figures(valid)
    assert_figures([valid])
    for name in NUMBERS[type(valid)]:
        for value in EVIL:
            with pytest.raises((TypeError, FigureOutOfBounds), match=f"{type(valid).__name__}.{name}") as refused:
                assert_figures(spoiled(valid, name, value))
            assert len(str(refused.value)) < 200


def of_snapshot(**parts: Any) -> tuple[str, Any]:
    """The answer `snapshot` with this part."""
    return "snapshot", AccountSnapshot(**{"account": ACCOUNT, **parts})


DOORS: dict[type[Any], list[Callable[[Any], tuple[str, Any]]]] = {
    Account: [
        lambda one: ("connect", one), lambda one: ("account", one), lambda one: of_snapshot(account=one),
    ],
    PositionReport: [lambda one: of_snapshot(holdings=(HOLDING, one))],
    OrderStatusReport: [
        lambda one: of_snapshot(orders=(one,)), lambda one: ("find", one), lambda one: ("open_orders", [REPORT, one]),
    ],
    AccountActivity: [lambda one: of_snapshot(activities=(one,))],
    Fill: [
        lambda one: of_snapshot(fills=(one,)),
        lambda one: of_snapshot(orders=(attrs.evolve(REPORT, fills=(one,)),)),
        lambda one: ("poll", [BrokerEvent(kind="fill", event_id="1", client_order_id="c", fill=one)]),
    ],
    InstrumentRules: [lambda one: ("instruments", [one])],
    IndexQuote: [lambda one: ("vix_now", one)],
    Session: [lambda one: ("hours", one)],
    OptionListing: [lambda one: ("option_contracts", [one])],
    OptionQuoteReport: [lambda one: ("option_quotes", [one])],
}  # fmt: skip


class Answering:
    """A broker that gives one answer to every call."""

    capabilities = BrokerCapabilities()

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def __getattr__(self, _name: str) -> Any:
        async def call(*_arguments: object) -> object:
            return self.answer

        return call


def at_once(call: Coroutine[Any, Any, Any]) -> Any:
    """The result of a call that does not wait."""
    try:
        call.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "snapshot": (NOW,), "find": ("c",), "instruments": (["A"],), "hours": (NOW.date(),), "prices": (["A"],),
    "vix_close": (NOW.date(),), "market_caps": (["A"],),
    "option_contracts": ("A", OptionRight.PUT, NOW.date(), NOW.date()), "option_quotes": (["A260116P00020000"],),
}  # fmt: skip


def ask(name: str, answer: object) -> Any:
    """What the core gets for this answer of a broker."""
    return at_once(
        getattr(open_port(ENTRY, Answering(answer), CallGuard(strict=False)), name)(*ARGUMENTS.get(name, ()))
    )


@pytest.mark.parametrize("kind", DOORS, ids=lambda one: one.__name__)
def test_a_reading_with_such_a_number_is_a_failed_reading(kind: type[Any]) -> None:
    """It is Unavailable with the plugin's name, the field and the value, through whichever call it comes."""
    (valid,) = (one for one in VALID if type(one) is kind)
    for door in DOORS[kind]:
        name, whole = door(valid)
        assert ask(name, whole) is whole
        for field in NUMBERS[kind]:
            for value in EVIL:
                with pytest.raises(Unavailable, match=rf"broker/acme failed: {name}: .*{kind.__name__}\.{field}"):
                    ask(*door(spoiled(valid, field, value)))


def below_zero(kind: type[Any], name: str) -> Any:
    """Ten of the field's own type, taken away."""
    annotation = str(getattr(attrs.fields(kind), name).type)
    return next(
        made(-10) for word, made in (("Decimal", Decimal), ("float", float), ("int", int)) if word in annotation
    )


@pytest.mark.parametrize("valid", VALID, ids=lambda one: type(one).__name__)
def test_only_what_may_be_below_zero_is(valid: Any) -> None:
    """Shares that were taken out of an account are no reason to discard its reading; a negative fill is."""
    kind = type(valid)
    for name in SIGNED.get(kind, set()):
        negative = spoiled(valid, name, below_zero(kind, name))
        assert_figures(negative)
        for door in DOORS.get(kind, []):
            ask(*door(negative))
    for name in UNSIGNED.get(kind, set()):
        with pytest.raises(FigureOutOfBounds, match=f"{kind.__name__}.{name}"):
            assert_figures(spoiled(valid, name, below_zero(kind, name)))


@pytest.mark.parametrize(
    ("name", "good", "wrap"),
    [
        ("prices", 12.5, lambda one: {"A": one}),
        ("market_caps", 3e12, lambda one: {"A": one}),
        ("vix_close", 17.5, lambda one: one),
    ],
)
def test_a_number_without_a_class_is_bounded_too(name: str, good: float, wrap: Callable[[Any], Any]) -> None:
    """Prices, capitalisations and the VIX are numbers by symbol, or one."""
    assert ask(name, wrap(good)) == wrap(good)
    for value in EVIL:
        with pytest.raises(Unavailable, match=f"broker/acme failed: {name}: "):
            ask(name, wrap(value))


def test_the_text_of_a_number_stays_short() -> None:
    """Neither the digits of a whole number nor those of a power of ten are written out."""
    with pytest.raises(
        FigureOutOfBounds, match=r"Account\.equity is 1E[+]999999; an amount of money is at least -1E[+]15"
    ):
        assert_figures(spoiled(ACCOUNT, "equity", Decimal("1E+999999")))
    with pytest.raises(FigureOutOfBounds, match=r"Account\.day_trades is a whole number of 16610 bits; a count"):
        assert_figures(spoiled(ACCOUNT, "day_trades", LARGE))
    with pytest.raises(FigureOutOfBounds, match=r"Account\.cash is 1{40}\.\.\.; .*, with at most 64 decimals"):
        assert_figures(spoiled(ACCOUNT, "cash", Decimal("1" * 5000)))


class Feed:
    """A live session and its feed, whose messages and bars a test sets."""

    capabilities = BrokerCapabilities(feed=True)
    label = FeedLabel(name="acme", simulated=False, quotes=True)
    session = calendar.Session(date=NOW.date(), open=NOW, close=NOW + dt.timedelta(hours=6))
    symbols = ("A",)
    quality = FeedQuality(coverage=FeedCoverage.CONSOLIDATED)

    def __init__(self, found: list[Any]) -> None:
        self.found = found

    async def connect(self) -> Account:
        """Log in."""
        return ACCOUNT

    def feed(self, _request: FeedRequest) -> Any:
        """Itself."""
        return self

    async def sessions(self) -> Any:
        """Itself."""
        yield self

    async def messages(self, _symbols: object) -> Any:
        """What was found."""
        for one in self.found:
            yield one

    async def daily(self, *_which: object) -> Any:
        """What was found."""
        return self.found

    async def history(self, *_which: object) -> Any:
        """What was found."""
        return self.found

    async def splits(self, *_which: object) -> Any:
        """What was found."""
        return self.found


@pytest.mark.parametrize("kind", [Bar, Quote, HaltStatus, DailyBar], ids=lambda one: one.__name__)
def test_a_bad_print_is_left_out_and_ends_no_feed(kind: type[Any], caplog: pytest.LogCaptureFixture) -> None:
    """A bar or quote with such a number is no market data; the others arrive, and the log says what was left out."""
    (valid,) = (one for one in VALID if type(one) is kind)
    evil = [value for value in EVIL if type(value) in ({float} if kind is not HaltStatus else {int})]
    found = [valid, *(spoiled(valid, field, value) for field in NUMBERS[kind] for value in evil), valid]

    async def received() -> list[Any]:
        feed: Any = open_port(ENTRY, Feed(found), CallGuard(strict=False)).feed(FeedRequest(kind="live"))
        (session,) = [one async for one in feed.sessions()]
        if kind is DailyBar:
            return list(await session.daily(("A",), NOW.date(), NOW.date()))
        if kind is Bar:
            assert list(await session.history(("A",), NOW, NOW)) == [valid, valid]
        return [one async for one in session.messages(("A",))]

    assert asyncio.run(received()) == [valid, valid]
    assert "feed.left_out" in caplog.text
    assert f"{kind.__name__}." in caplog.text


def test_one_bad_split_is_a_failed_answer() -> None:
    """It is not left out as a bar is: without it the price before it would be compared with that after it."""
    (valid,) = (one for one in VALID if type(one) is Split)

    async def received(found: list[Any]) -> list[Any]:
        feed: Any = open_port(ENTRY, Feed(found), CallGuard(strict=False)).feed(FeedRequest(kind="live"))
        (session,) = [one async for one in feed.sessions()]
        return list(await session.splits(("A",), NOW.date(), NOW.date()))

    assert asyncio.run(received([valid])) == [valid]
    for field, value in itertools.product(("before", "after"), (*EVIL, 0, -1, 1001)):
        with pytest.raises(Unavailable, match=rf"broker/acme failed: splits: .*Split\.{field}"):
            asyncio.run(received([valid, spoiled(valid, field, value)]))


def test_a_valuation_a_window_and_an_offer_are_bounded() -> None:
    """So are the inputs of a valuation, the facts that a filter declares, and a vendor's limit of requests."""
    (valid,) = (one for one in VALID if type(one) is OptionValuation)
    source = ModelInput(name="rate", value="0.04", source="a file")
    assert checked_valuation(attrs.evolve(valid, inputs=(source,))).inputs == (source,)
    with pytest.raises(FigureOutOfBounds, match=r"ModelInput\.value"):
        checked_valuation(attrs.evolve(valid, inputs=(attrs.evolve(source, value=float("inf")),)))
    (hours,) = (one for one in VALID if type(one) is Window)
    strategy = type("Theirs", (), {"window": spoiled(hours, "monitoring", LARGE)})()
    with pytest.raises(PluginError, match=r"could not be created: .*Window\.monitoring"):
        guard_plugin(attrs.evolve(ENTRY, kind="strategy"), strategy, CallGuard(strict=False))


def test_a_class_without_a_bound_is_an_error_of_the_core() -> None:
    """It cannot pass unseen; what is no class of the contract is not looked into."""

    @attrs.frozen
    class Unbounded:
        beta: float = 1.0

    Unbounded.__module__ = "theirs"
    assert_figures(attrs.make_class("Theirs", {}, bases=(Unbounded,))())
    Unbounded.__module__ = "tbot_core.contracts.broker"
    with pytest.raises(LookupError, match="the number beta of Unbounded has no bound"):
        assert_figures(Unbounded())
    assert number_bounds.QUANTITY.words == "a quantity is at least 0 and below 1E+12"
