"""What a session at a broker's own market is made of: by the day, by the account, and by the feed it is heard on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import attrs

from tbot_core.contracts import FeedSession, LiveSession
from tbot_core.engine.session.arming import LiveContext
from tbot_core.engine.session.broker_session import StandbyBroker
from tbot_core.engine.session.gauge_writer import GaugeWriter
from tbot_core.engine.session.session import SessionContext, TradingSession
from tbot_core.engine.settings_reload import SettingsReloader
from tbot_core.journal.store import Event
from tbot_core.model.bars import DayFacts
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.types import Account, atoms_of
from tbot_core.trading.proposals import ActiveStrategy


async def _alone(_opened: Event | None) -> tuple[StandbyBroker, ...]:
    # No other broker may take over.
    return ()


async def _its_own(source: FeedSession | LiveSession) -> DayFacts:
    # Nobody knows more than the source.
    return source.day


@attrs.frozen(kw_only=True, eq=False)
class SessionFactory:
    """What each session is made of: the owner's calendar, its bars, the strategies that trade it, and all else.

    `trading` is asked for whenever the broker has said whose account it is, and so is `live`: what makes a session a
    live one. `idle` is told once a look what is waited for. `standbys` are the brokers that may take over from
    `primary`: those that can be logged in to, and after a restart those of the session that was opened; `drilled`
    tells from the journal whether that was tried lately. `facts` adds to what the bars' source knows before the bell.
    `meter` writes the figures of a session, None for nobody, and `look` gets them as often. READY names the `mode` and
    the planned worst day as a share of equity.
    """

    calendar: ExchangeCalendar
    bars: Callable[[Session], Awaitable[FeedSession | LiveSession]]
    entrants: Callable[[Session], tuple[ActiveStrategy, ...]]
    trading: Callable[[Account], SessionContext]
    live: Callable[[Account], LiveContext | None] = lambda _account: None
    on_idle: Callable[[dt.datetime], None] = lambda _moment: None
    settings_reload: SettingsReloader = attrs.field(factory=SettingsReloader)
    primary: str = ""
    standbys: Callable[[Event | None], Awaitable[tuple[StandbyBroker, ...]]] = _alone
    is_drilled: Callable[[Sequence[Event]], bool] = lambda _past: False
    facts: Callable[[FeedSession | LiveSession], Awaitable[DayFacts]] = _its_own
    meter: GaugeWriter | None = None
    on_round: Callable[[TradingSession], None] = lambda _run: None
    mode: str = "paper"
    worst_day: Decimal | None = None


@attrs.frozen
class SessionFeed:
    """A feed, and what is known before the bell where that is more than the feed knows."""

    source: FeedSession | LiveSession
    day: DayFacts | None


@attrs.define(eq=False)
class SessionAccount:
    """What a session is traded with, whichever feed it is heard on.

    `opened` is what was written down before a restart, {} where none was. `restarted`: whether a restart has
    still to be found matched.
    """

    account: Account
    trading: SessionContext
    opened: Mapping[str, Any]
    restarted: bool = True

    @property
    def equity_atoms(self) -> int:
        """What everything is sized by: the equity that the session was opened with."""
        return atoms_of(Decimal(self.opened["equity"]) if self.opened else self.account.equity)
