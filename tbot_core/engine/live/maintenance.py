"""Announced maintenance of a broker: exits only there, and no alarm for missing responses."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from tbot_core.contracts.abilities import MAINTENANCE
from tbot_core.errors import BrokerError
from tbot_core.system import log
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.contracts import Broker, MaintenanceWindow
    from tbot_core.execution.trading_state import TradingStateController
    from tbot_core.model.clock import Clock

POLL_INTERVAL_S: Final = 600.0
LEAD: Final = timedelta(minutes=2)
"""Entries are blocked for this long before maintenance begins, so that orders are settled by then."""

_log = log.logger(__name__)


class MaintenanceMonitor:
    """The announcements of one broker of a session, and whether one applies now."""

    def __init__(self, broker: Broker, trading_state: TradingStateController, clock: Clock) -> None:
        self._source = MAINTENANCE.of(broker)
        self._trading_state = trading_state
        self._clock = clock
        self._announced: Sequence[MaintenanceWindow] = ()
        self._poll_at = 0.0

    @property
    def current(self) -> MaintenanceWindow | None:
        """The announced period that applies now, including the minutes before it."""
        now = self._clock.now()
        return next((one for one in self._announced if one.begins - LEAD <= now < one.ends), None)

    def update_cause(self) -> None:
        """Raise the cause, and clear it when the period is over."""
        found = self.current
        words = "" if found is None else f"until {found.ends:%H:%M} UTC{found.words and ': '}{found.words}"
        self._trading_state.set_cause(StateCause.MAINTENANCE, words)

    async def poll(self) -> None:
        """Request the announcements if due; the last ones apply until then."""
        now = self._clock.monotonic()
        if self._source is None or now < self._poll_at or self.current is not None:
            return
        self._poll_at = now + POLL_INTERVAL_S
        try:
            self._announced = await self._source.maintenance()
        except BrokerError as fault:
            _log.warning("maintenance.not_read", reason=fault.message)
        self.update_cause()
