"""What `tbot broker test` reads at a broker: each answer is a row, and no order is sent."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest

from tbot_core.contracts import AccountSnapshot, BrokerCapabilities, FeedLabel, FeedQuality
from tbot_core.contracts.abilities import InstrumentRules
from tbot_core.engine.live import broker_check
from tbot_core.engine.live.broker_check import BrokerFinding, check_broker
from tbot_core.errors import DataError, LoginNeeded, Unavailable
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Account
from tbot_core.testing.trades import session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import date, datetime

    from tbot_core.contracts import Broker, Feed
    from tbot_core.model.calendar import Session

ACCOUNT = Account(
    account_id="PA1", equity=Decimal(1000), cash=Decimal(1000), margin=True, live=False, evidence="a paper host"
)
SPY = InstrumentRules(symbol="SPY", tradable=True, fractionable=True)


@attrs.define
class Answers:
    """A broker that reads out what it was given; an exception in place of a value is raised."""

    account: Any = ACCOUNT
    snapshot_: Any = attrs.field(factory=lambda: AccountSnapshot(account=ACCOUNT))
    hours_: Any = attrs.field(factory=session)
    instrument: Any = SPY
    price: Any = 187.5
    clock_ahead_s: tuple[float, ...] = (0.2, 0.3, 0.1)
    closed: bool = False
    capabilities = BrokerCapabilities(hours=True, instruments=True, prices=True, server_time=True)

    async def connect(self) -> Account:
        """The account."""
        return cast("Account", told(self.account))

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """The whole account."""
        assert since < session().open
        return cast("AccountSnapshot", told(self.snapshot_))

    async def hours(self, day: date) -> Session | None:
        """The hours of that day."""
        assert day == session().date
        return cast("Session | None", told(self.hours_))

    async def instruments(self, symbols: Sequence[str]) -> Sequence[InstrumentRules]:
        """The instrument, if there is one."""
        assert list(symbols) == ["SPY"]
        found = told(self.instrument)
        return [] if found is None else [found]

    async def prices(self, symbols: Sequence[str]) -> Mapping[str, float]:
        """The price, if there is one."""
        found = told(self.price)
        return {} if found is None else dict.fromkeys(symbols, found)

    async def close(self) -> None:
        """Log out."""
        self.closed = True


def told(value: Any) -> Any:
    """The value, or its exception raised."""
    if isinstance(value, Exception):
        raise value
    return value


@attrs.frozen
class Opened:
    """A live session as far as it is read."""

    quality: FeedQuality
    session: Any = attrs.field(factory=session)
    symbols: tuple[str, ...] = ()

    async def daily(self, *_asked: object) -> list[Any]:
        """No bars."""
        return []

    history = daily

    async def messages(self, _symbols: Sequence[str]) -> AsyncIterator[Any]:
        """No messages."""
        none: tuple[Any, ...] = ()
        for one in none:
            yield one


@attrs.frozen
class Feeds:
    """A feed with these sessions; an exception in place of one is raised."""

    given: tuple[Any, ...]
    label: Any = attrs.field(factory=lambda: FeedLabel(name="Acme IEX", simulated=False, quotes=True))

    async def sessions(self) -> AsyncIterator[Any]:
        """The sessions."""
        for one in self.given:
            yield told(one)


def rows(broker: Answers, feed: Feeds | None = None) -> dict[str, BrokerFinding]:
    """The findings by subject; the broker is logged out."""
    clock = ManualClock(session().open)
    found = asyncio.run(check_broker(cast("Broker", broker), session(), clock, cast("Feed | None", feed)))
    assert broker.closed
    return {one.subject: one for one in found}


def test_a_broker_that_answers_everything_passes() -> None:
    """Account with its evidence, positions, hours, an instrument, a price and the clock are one row each."""
    found = rows(Answers())
    assert list(found) == ["login", "account", "hours", "symbols", "prices", "clock"]
    assert {one.level for one in found.values()} == {"ok"}
    assert found["login"].words == "account PA1, margin, equity 1,000.00, no live money (a paper host)"
    assert found["account"].words == "0 positions, 0 working orders"
    assert found["symbols"].words == "SPY is tradable, fractions yes, short sales not known"
    assert found["clock"].words == "this machine is 0.20 s ahead of the broker"


def test_a_login_that_fails_ends_the_test() -> None:
    """Nothing else is asked, and the reason is there."""
    found = rows(Answers(account=LoginNeeded("the key is revoked", "Make a new one.")))
    assert [(one.level, one.words) for one in found.values()] == [("fail", "the key is revoked Make a new one.")]


@pytest.mark.parametrize(
    ("changes", "subject", "level", "words"),
    [
        ({"account": attrs.evolve(ACCOUNT, live=None)}, "login", "warn", "live or paper is not known"),
        ({"account": attrs.evolve(ACCOUNT, restricted="margin call")}, "login", "fail", "margin call"),
        (
            {"account": attrs.evolve(ACCOUNT, shorting_allowed=False, buying_power=Decimal(50))},
            "login",
            "ok",
            "no short sales, buying power 50.00",
        ),
        ({"snapshot_": Unavailable("no answer")}, "account", "fail", "no answer"),
        ({"hours_": None}, "hours", "fail", "it reports that it is closed on"),
        (
            {"hours_": attrs.evolve(session(), close=session().close - timedelta(hours=3))},
            "hours",
            "warn",
            "the shorter session wins",
        ),
        ({"instrument": None}, "symbols", "fail", "SPY is not tradable"),
        ({"price": None}, "prices", "warn", "no price of SPY"),
        ({"clock_ahead_s": (-4.0,)}, "clock", "warn", "4.00 s behind the broker"),
    ],
)
def test_each_answer_is_judged(changes: dict[str, Any], subject: str, level: str, words: str) -> None:
    """What blocks trading fails, what a person should know warns."""
    found = rows(Answers(**changes))[subject]
    assert found.level == level
    assert words in found.words


@pytest.mark.parametrize(
    ("given", "level", "words"),
    [
        ((Opened(FeedQuality(coverage="single_venue", subscriptions=30)),), "ok", "at most 30 symbols"),
        ((DataError("sip was refused", "Set iex."),), "fail", "sip was refused Set iex."),
        ((), "fail", "The feed has no session."),
    ],
)
def test_the_feed_is_opened_as_the_account_has_it(given: tuple[Any, ...], level: str, words: str) -> None:
    """Its quality is that of the account's plan; what the vendor refuses is a failure in its words."""
    found = rows(Answers(), Feeds(given))["feed"]
    assert found.level == level
    assert words in found.words


def test_a_login_that_fails_says_nothing_about_the_feed() -> None:
    """Nothing was asked of it."""
    opened = Opened(FeedQuality(coverage="consolidated"))
    assert list(rows(Answers(account=LoginNeeded("the key is revoked")), Feeds((opened,)))) == ["login"]


def test_without_a_response_there_is_no_row_about_the_clock() -> None:
    """A broker that has measured nothing yet is not said to be in step."""
    assert "clock" not in rows(Answers(clock_ahead_s=()))


def test_a_call_that_hangs_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that does not answer is reported after the limit, and logged out."""

    class Hanging(Answers):
        async def connect(self) -> Account:
            await asyncio.sleep(60)
            return ACCOUNT

    monkeypatch.setattr(broker_check, "CHECK_S", 0.01)
    assert rows(Hanging())["login"].words == "no answer within 0.01 s"
