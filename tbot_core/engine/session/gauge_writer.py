"""Writes the gauges of a running session, about once per second, for displays: values that are not in its journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.engine.session.vix import known_vix
from tbot_core.errors import AccessError
from tbot_core.execution.throttling import RateLimitedBroker
from tbot_core.journal import gauges
from tbot_core.journal.gauges import BrokerGauge, Gauges
from tbot_core.model.types import dollars_of, price_of
from tbot_core.system import log
from tbot_core.trading.risk.exposure import held_atoms

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.engine.session.broker_session import BrokerSession
    from tbot_core.engine.session.session import TradingSession
    from tbot_core.model.clock import Clock

EVERY_S: Final = 1.0
UNCHANGED_S: Final = 30.0
"""So old may the file be while nothing in it has changed."""

_log = log.logger(__name__)


class GaugeWriter:
    """Writes the gauges of a run whose journal lies at `journal`, into its folder `data`; never in a decision's way.

    That they cannot be written is said once, and is no reason to stop.
    """

    def __init__(self, data: Path, journal: Path, clock: Clock) -> None:
        self._data = data
        self._journal = journal.name
        self._clock = clock
        self._next = self._due = clock.monotonic()
        self._known: Gauges | None = None
        self._lost = False

    def write_if_due(self, run: TradingSession, ahead_s: float | None = None, *, at_once: bool = False) -> None:
        """Take the gauges where the last ones are a second old, or `at_once`, and write them if they have changed."""
        now = self._clock.monotonic()
        if now < self._next and not at_once:
            return
        self._next = now + EVERY_S
        taken = self._gauges(run, ahead_s)
        if now < self._due and taken == self._known:
            return
        self._due, self._known = now + UNCHANGED_S, taken
        try:
            gauges.write_gauges(self._data, taken)
        except AccessError as fault:
            if not self._lost:
                self._lost = True
                _log.warning("gauges.not_written", reason=fault.message)
        else:
            self._lost = False

    def _gauges(self, run: TradingSession, ahead_s: float | None) -> Gauges:
        limits = run.decision_engine.limits
        held = (
            position for post in run.broker_sessions for position in post.decision_engine.portfolio.positions.items()
        )
        return Gauges(
            journal=self._journal,
            session=run.session.date.isoformat(),
            at=self._clock.now(),
            marks={symbol: price_of(position.mark) for symbol, position in held},
            daily_loss_limit=dollars_of(limits.daily_loss),
            budget=dollars_of(limits.budget),
            gross=dollars_of(held_atoms(run.decision_engine.exposure)),
            most_trades=limits.max_trades,
            most_positions=limits.max_positions,
            vix=known_vix(run.day),
            clock_ahead_s=ahead_s,
            brokers=tuple(_gauge(post) for post in run.broker_sessions),
        )


def _gauge(post: BrokerSession) -> BrokerGauge:
    # How a post's broker answers; of one that is simulated in this process there is nothing to say.
    broker = post.execution.venue.broker
    if not isinstance(broker, RateLimitedBroker):
        return BrokerGauge(name=post.name)
    return BrokerGauge(
        name=post.name,
        equity=broker.equity,
        latency_s=broker.latency_s,
        spare=broker.available_requests,
        per_minute=broker.rules.requests_per_minute,
    )
