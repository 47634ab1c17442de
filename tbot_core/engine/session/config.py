"""The configuration of a session at a live market besides its trading, and the signals that its process received."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import SupportsLiveVix
from tbot_core.engine import control
from tbot_core.engine.disk_guard import DiskGuard
from tbot_core.engine.session.arming import LiveContext
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from tbot_core.execution.trading_state import TradingStateController


@attrs.frozen(kw_only=True, eq=False)
class ProcessSignals:
    """The signals that the process received; `flattens`: a stop closes all positions (STOP_POLICY)."""

    stop: asyncio.Event = attrs.field(factory=asyncio.Event)
    kill: asyncio.Event = attrs.field(factory=asyncio.Event)
    flattens: bool = False

    def raise_causes(self, conditions: TradingStateController) -> bool:
        """Make causes of them; whether a stop is new."""
        if self.kill.is_set():
            self.kill.clear()
            conditions.raise_cause(StateCause.KILL_SIGNAL)
        if not self.stop.is_set():
            return False
        self.stop.clear()
        conditions.raise_cause(StateCause.STOP_SIGNAL)
        return True


@attrs.frozen(kw_only=True, eq=False)
class LiveConfig:
    """What a session at a market needs besides its trading: the folder of requests, and how often who is asked.

    `poll_s`: how often a broker without a stream is asked for news; `watch_s`: how often requests are looked for;
    `ttl_s`: an entry that has not filled is taken back after so many seconds; `grace_s`: BAR_GRACE. `live` is there for
    a session that has to be armed. `received` is the folder for bars as they were received, None for none, and `feed`
    the feed's name.
    `timeout_s`: API_TIMEOUT, so long what is being sent at a session's end is waited for.
    `drilled`: whether failover was tried lately, without which no entry goes to another broker. `lost`: the folder in
    which a watchdog notes the plugins that a run stood still in. `vix` say the index as it is, with VIX_SOURCE=live.
    `splits`: the operator's list of them.
    """

    folder: Path
    poll_s: float
    ttl_s: float
    watch_s: float = control.POLL_S
    live: LiveContext | None = None
    signals: ProcessSignals = attrs.field(factory=ProcessSignals)
    disk_guard: DiskGuard = attrs.field(factory=DiskGuard)
    grace_s: float = 2.0
    received: Path | None = None
    feed: str = ""
    timeout_s: float = 30.0
    drilled: bool = True
    lost: Path | None = None
    splits: Path | None = None
    vix: tuple[SupportsLiveVix, ...] | None = None
