"""Checks of a broker with the stored credentials, as a person asks for them: it reads, and never sends an order."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from tbot_core.contracts import LiveSession
from tbot_core.contracts.abilities import HOURS, INSTRUMENTS, PRICES, SERVER_TIME
from tbot_core.engine.session.broker_login import log_out
from tbot_core.errors import BrokerError, DataError
from tbot_core.journal.projections.failover import DrillStep
from tbot_core.model.clock import exchange_time
from tbot_core.model.formatting import format_money, plural
from tbot_core.model.steady_clock import SKEW_S, median_skew
from tbot_core.plugins.network.request_limits import PRIORITY, RequestPriority

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tbot_core.contracts import Broker, Feed, FeedSession
    from tbot_core.model.calendar import Session
    from tbot_core.model.clock import Clock
    from tbot_core.model.types import Account

T = TypeVar("T")
CHECK_S: Final = 30.0
"""How long one call may take."""

_CLOSE_S: Final = 10.0  # a log-out that fails does not change the result
_SINCE: Final = timedelta(days=1)
_SYMBOL: Final = "SPY"


@attrs.frozen(kw_only=True)
class BrokerFinding:
    """One row: `level` is ok, warn or fail, `subject` what was checked, `words` what was found."""

    level: str
    subject: str
    words: str


async def check_broker(broker: Broker, session: Session, clock: Clock, feed: Feed | None = None) -> list[BrokerFinding]:
    """Log in, and read account, positions, orders, hours, an instrument and a price; without a login nothing else.

    `session` is the present or next one of the calendar. `feed` is the broker's live feed: whether the account has it.
    Each failure is a row; the broker is logged out at the end.
    """
    PRIORITY.set(RequestPriority.PROTECTION)  # a person waits; other readings wait longer
    try:
        login = await _row("login", broker.connect, _account)
        if login.level == "fail":
            return [login]
        found = [login, await _row("account", lambda: broker.snapshot(clock.now() - _SINCE), _holdings)]
        hours, instruments, prices = HOURS.of(broker), INSTRUMENTS.of(broker), PRICES.of(broker)
        if hours is not None:
            found.append(await _row("hours", lambda: hours.hours(session.date), lambda told: _hours(told, session)))
        if instruments is not None:
            found.append(await _row("symbols", lambda: instruments.instruments([_SYMBOL]), _instrument))
        if prices is not None:
            found.append(await _row("prices", lambda: prices.prices([_SYMBOL]), _price))
        if feed is not None:
            found.append(await _row("feed", lambda: _opened(feed), lambda one: _quality(feed, one)))
        return [*found, *_skew(broker)]
    finally:
        await log_out({"broker": broker}, _CLOSE_S)


async def _row(
    subject: str, read: Callable[[], Awaitable[T]], describe: Callable[[T], tuple[str, str]]
) -> BrokerFinding:
    try:
        async with asyncio.timeout(CHECK_S):
            level, words = describe(await read())
    except (BrokerError, DataError) as fault:
        level, words = "fail", str(fault)
    except TimeoutError:
        level, words = "fail", f"no answer within {CHECK_S:g} s"
    return BrokerFinding(level=level, subject=subject, words=words)


async def _opened(feed: Feed) -> FeedSession | LiveSession:
    # Its first session, which the vendor is asked for; nothing is subscribed.
    async for one in feed.sessions():
        return one
    raise DataError("The feed has no session.", "Try again later.")


def _quality(feed: Feed, opened: FeedSession | LiveSession) -> tuple[str, str]:
    words = f": {opened.quality.words}" if isinstance(opened, LiveSession) else ""
    return "ok", f"{feed.label.name}{words}"


def _account(account: Account) -> tuple[str, str]:
    kind = {True: "margin", False: "cash", None: "of unknown type, treated as a cash account"}[account.margin]
    money = {True: "live money", False: "no live money", None: "live or paper is not known"}[account.live]
    evidence = f" ({account.evidence})" if account.evidence else ""
    words = f"account {account.account_id}, {kind}, equity {format_money(account.equity)}, {money}{evidence}"
    words += {None: "", True: ", short sales allowed", False: ", no short sales"}[account.shorting_allowed]
    if account.buying_power is not None:
        words += f", buying power {format_money(account.buying_power)}"
    if account.blocking_words:
        return "fail", f"{words}; it accepts no new position: {account.blocking_words}"
    return ("ok" if account.live is not None else "warn"), words


def _holdings(snapshot: Any) -> tuple[str, str]:
    working = sum(one.kind.name == "WORKING" for one in snapshot.orders)
    return "ok", f"{plural(len(snapshot.holdings), 'position')}, {plural(working, 'working order')}"


def _hours(told: Session | None, ours: Session) -> tuple[str, str]:
    if told is None:
        return "fail", f"it reports that it is closed on {ours.date}"
    span = f"{exchange_time(told.open):%H:%M} to {exchange_time(told.close):%H:%M} New York on {told.date}"
    same = (told.open, told.close) == (ours.open, ours.close)
    return ("ok", span) if same else ("warn", f"{span}; the calendar differs, and the shorter session wins")


def _instrument(told: Any) -> tuple[str, str]:
    one = next((it for it in told if it.symbol == _SYMBOL), None)
    if one is None or not one.tradable:
        return "fail", f"{_SYMBOL} is not tradable"
    traits = {"fractions": one.fractionable, "short sales": one.may_be_shorted}
    words = ", ".join(
        f"{name} {'yes' if has else 'not known' if has is None else 'no'}" for name, has in traits.items()
    )
    return "ok", f"{_SYMBOL} is tradable, {words}"


def _price(told: Any) -> tuple[str, str]:
    price = told.get(_SYMBOL)
    return ("ok", f"{_SYMBOL} at {price:,.2f}") if price is not None else ("warn", f"no price of {_SYMBOL}")


def _skew(broker: Broker) -> list[BrokerFinding]:
    reported = SERVER_TIME.of(broker)
    ahead = None if reported is None else median_skew(reported.clock_ahead_s)
    if ahead is None:
        return []
    words = f"this machine is {abs(ahead):.2f} s {'ahead of' if ahead > 0 else 'behind'} the broker"
    return [BrokerFinding(level="ok" if abs(ahead) < SKEW_S else "warn", subject="clock", words=words)]


async def probe_broker(name: str, broker: Broker, session: Session, clock: Clock) -> DrillStep:
    """Log in, read the account and request the hours of the next session; no order is sent."""
    what = f"{name} answers"
    try:
        account = await broker.connect()
        held = len((await broker.snapshot(clock.now() - _SINCE)).holdings)
        tells = HOURS.of(broker)
        hours = session if tells is None else await tells.hours(session.date)
    except BrokerError as fault:
        return DrillStep(what=what, passed=False, words=fault.message)
    finally:
        await log_out({name: broker}, _CLOSE_S)
    kind = {True: "margin", False: "cash", None: "of unknown type, treated as a cash account"}[account.margin]
    words = f"account {account.account_id}, {kind}, equity {format_money(account.equity)}, {held} held"
    if account.live is not None:
        words += f"; {'live' if account.live else 'no live'} money: {account.evidence or 'no evidence'}"
    if hours is None:
        return DrillStep(what=what, passed=False, words=f"{words}; it reports that it is closed on {session.date}")
    return DrillStep(what=what, passed=True, words=words)
