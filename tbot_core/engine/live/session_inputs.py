"""The inputs of a live session: those that its run provides, and those of the account."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from tbot_core.engine.session.gauge_writer import GaugeWriter
from tbot_core.engine.session.session import SessionContext, TradingSession
from tbot_core.engine.settings_reload import SettingsReloader
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.types import Account, atoms_of

if TYPE_CHECKING:
    from tbot_core.contracts import FeedSession, LiveSession
    from tbot_core.engine.session.arming import LiveContext
    from tbot_core.journal.store import Event
    from tbot_core.trading.proposals import ActiveStrategy
    from tbot_core.trading.universe import Universe


class SessionInputs(Protocol):
    """What a run in real time provides for each of its sessions."""

    async def prepare(self, session: Session) -> None:
        """Fetch at 08:00 what the session will need; a fault is reported when the session needs it."""

    async def bars(self, session: Session) -> FeedSession | LiveSession:
        """The session's feed."""

    async def universe(
        self, source: FeedSession | LiveSession, past: Sequence[Event], on_wait: Callable[[str], None]
    ) -> Universe:
        """The symbols of a source with their facts, from the journal's events.

        Meanwhile it calls `on_wait` with the reason why the session is not ready.
        """

    def entrants(self, session: Session) -> tuple[ActiveStrategy, ...]:
        """The strategies of the session."""

    async def context(self, account: Account, opened: Event | None) -> SessionContext:
        """The context of a session at the account that the primary broker reported.

        Its standbys are the brokers with a successful login, and after a restart those of the `opened` session.
        """

    def arming_terms(self, account: Account) -> LiveContext | None:
        """The arming context at an account; None if the session need not be armed."""

    def is_drilled(self, past: Sequence[Event]) -> bool:
        """Whether a recent failover drill is in the journal."""

    async def compare(self, session: Session) -> None:
        """Compare a closed session with a shadow run."""


@attrs.frozen(kw_only=True, eq=False)
class DailyServices:
    """What the daily cycle uses between and beside sessions.

    `primary` names the broker that it logs in to first. `meter` writes the gauges, None for none. READY names `mode`
    and `worst_day`, the planned worst day as a share of equity. `on_idle` receives the awaited moment in each round of
    a wait; `on_round` is called about once a second of a session. With `once` the cycle ends after the first session.
    """

    calendar: ExchangeCalendar
    primary: str = ""
    settings_reload: SettingsReloader = attrs.field(factory=SettingsReloader)
    meter: GaugeWriter | None = None
    mode: str = "paper"
    worst_day: Decimal | None = None
    on_idle: Callable[[dt.datetime], None] = lambda _moment: None
    on_round: Callable[[TradingSession], None] = lambda _run: None
    once: bool = False


@attrs.define(eq=False)
class SessionAccount:
    """The inputs of a session that do not depend on its feed.

    `opened`: the payload of SESSION_OPENED from before a restart, {} without one. `restarted`: whether the account must
    still be matched after a restart.
    """

    account: Account
    context: SessionContext
    opened: Mapping[str, Any]
    restarted: bool = True

    @property
    def equity_atoms(self) -> int:
        """The equity used for sizing: that of the session's open, in atoms."""
        return atoms_of(Decimal(self.opened["equity"]) if self.opened else self.account.equity)
