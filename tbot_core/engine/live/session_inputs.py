"""The inputs of a live session: those of the day, of the account, and of the feed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import attrs

from tbot_core.contracts import FeedSession, LiveSession
from tbot_core.engine.session.arming import LiveContext
from tbot_core.engine.session.broker_session import StandbyBroker
from tbot_core.engine.session.feed_session import universe_of
from tbot_core.engine.session.gauge_writer import GaugeWriter
from tbot_core.engine.session.session import SessionContext, TradingSession
from tbot_core.engine.settings_reload import SettingsReloader
from tbot_core.journal.store import Event
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.types import Account, atoms_of
from tbot_core.trading.proposals import ActiveStrategy
from tbot_core.trading.universe import Universe


async def _nothing_to_prepare(_session: Session) -> None:
    pass


async def _nothing_to_compare(_session: Session) -> None:
    pass


async def _no_standbys(_opened: Event | None) -> tuple[StandbyBroker, ...]:
    return ()


async def _whole_universe(
    source: FeedSession | LiveSession, _past: Sequence[Event], _on_wait: Callable[[str], None]
) -> Universe:
    return universe_of(source)


SelectUniverse: TypeAlias = Callable[
    [FeedSession | LiveSession, Sequence[Event], Callable[[str], None]], Awaitable[Universe]
]


@attrs.frozen(kw_only=True, eq=False)
class SessionFactory:
    """Makes the inputs of each session: calendar, bars, strategies and the rest.

    `trading` and `live` are called with the account that the broker reported; `live` returns the arming context.
    `prepare` fetches at 08:00 what the session will need. `universe` returns a source's symbols with their facts, from
    the journal's events; meanwhile it calls a function with the reason why the session is not ready. `on_idle` receives
    the awaited moment in each round of a wait. `standbys` returns the brokers that may take over from `primary`: those
    with a successful login, and after a restart those of the opened session. `is_drilled`: whether a recent failover
    drill is in the journal. `meter` writes the gauges, None for none; `on_round` is called as often. READY names `mode`
    and `worst_day`, the planned worst day as a share of equity. `compare` is called after a session has been closed.
    """

    calendar: ExchangeCalendar
    bars: Callable[[Session], Awaitable[FeedSession | LiveSession]]
    entrants: Callable[[Session], tuple[ActiveStrategy, ...]]
    trading: Callable[[Account], SessionContext]
    live: Callable[[Account], LiveContext | None] = lambda _account: None
    on_idle: Callable[[dt.datetime], None] = lambda _moment: None
    settings_reload: SettingsReloader = attrs.field(factory=SettingsReloader)
    primary: str = ""
    standbys: Callable[[Event | None], Awaitable[tuple[StandbyBroker, ...]]] = _no_standbys
    is_drilled: Callable[[Sequence[Event]], bool] = lambda _past: False
    prepare: Callable[[Session], Awaitable[None]] = _nothing_to_prepare
    universe: SelectUniverse = _whole_universe
    meter: GaugeWriter | None = None
    on_round: Callable[[TradingSession], None] = lambda _run: None
    mode: str = "paper"
    worst_day: Decimal | None = None
    compare: Callable[[Session], Coroutine[Any, Any, None]] = _nothing_to_compare


@attrs.define(eq=False)
class SessionAccount:
    """The inputs of a session that do not depend on its feed.

    `opened`: the payload of SESSION_OPENED from before a restart, {} without one. `restarted`: whether the account must
    still be matched after a restart.
    """

    account: Account
    trading: SessionContext
    opened: Mapping[str, Any]
    restarted: bool = True

    @property
    def equity_atoms(self) -> int:
        """The equity used for sizing: that of the session's open, in atoms."""
        return atoms_of(Decimal(self.opened["equity"]) if self.opened else self.account.equity)
