"""The configuration of a live session besides its trading rules, and the signals that its process received."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import SupportsLiveVix
from tbot_core.engine import control
from tbot_core.engine.disk_guard import DiskGuard
from tbot_core.engine.journal_guard import JournalGuard
from tbot_core.engine.session.arming import LiveContext
from tbot_core.trading.risk.states import StateCause

PRE_OPEN: Final = dt.time(8)
"""When, in New York, the preparation of a session begins."""

READY_AT: Final = dt.time(9)
"""When, in New York, a session should be ready."""

if TYPE_CHECKING:
    from tbot_core.execution.trading_state import TradingStateController


@attrs.frozen(kw_only=True, eq=False)
class ProcessSignals:
    """The signals that the process received; `flattens`: a stop closes all positions (STOP_POLICY).

    `stop` stays set until the stop is withdrawn, so that a second signal is known as one.
    """

    stop: asyncio.Event = attrs.field(factory=asyncio.Event)
    kill: asyncio.Event = attrs.field(factory=asyncio.Event)
    flattens: bool = False
    _applied: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)

    def raise_causes(self, trading_state: TradingStateController) -> bool:
        """Raise the causes of received signals; returns whether a new stop was received."""
        if self.kill.is_set():
            self.kill.clear()
            trading_state.raise_cause(StateCause.KILL_SIGNAL)
        if not self.stop.is_set():
            return False
        if is_new := not self._applied.is_set():
            self._applied.set()
            trading_state.raise_cause(StateCause.STOP_SIGNAL)
        elif StateCause.STOP_SIGNAL not in trading_state.causes:  # withdrawn
            self._applied.clear()
            self.stop.clear()
        return is_new


@attrs.frozen(kw_only=True, eq=False)
class LiveConfig:
    """What a live session needs besides its trading rules.

    `folder`: the control folder. `poll_s`: the interval for polling a broker without a stream. `watch_s`: the
    interval for polling requests. `ttl_s`: an unfilled entry is cancelled after so many seconds. `grace_s`:
    BAR_GRACE. `timeout_s`: API_TIMEOUT, the longest wait at a session's end for requests in progress. `live`: set
    if the session must be armed. `restarted`: an earlier process began the session, so that its account must be matched
    first. `received`: the folder for received bars, None for no recording. `feed`: the
    feed's name. `drilled`: whether a recent failover drill passed; without one no entry moves to another broker.
    `lost`: the folder in which the watchdog notes hung plugins. `request_limit`: the vendor's limit on requests as
    text. `vix`: the brokers that report the live VIX, with VIX_SOURCE=live. `splits`: the operator's list of
    splits.
    """

    folder: Path
    poll_s: float
    ttl_s: float
    watch_s: float = control.POLL_S
    live: LiveContext | None = None
    restarted: bool = True
    signals: ProcessSignals = attrs.field(factory=ProcessSignals)
    disk_guard: DiskGuard = attrs.field(factory=DiskGuard)
    journal_guard: JournalGuard = attrs.field(factory=JournalGuard)
    grace_s: float = 2.0
    received: Path | None = None
    feed: str = ""
    request_limit: str = ""
    timeout_s: float = 30.0
    drilled: bool = True
    lost: Path | None = None
    splits: Path | None = None
    vix: tuple[SupportsLiveVix, ...] | None = None
