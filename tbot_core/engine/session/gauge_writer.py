"""Writes the gauges of a running session, about once per second, for displays: values that are not in its journal."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import TYPE_CHECKING, Final

from tbot_core.engine.session.vix import known_vix
from tbot_core.errors import AccessError
from tbot_core.journal import gauges
from tbot_core.journal.gauges import BrokerGauge, EntryQuote, Gauges, HostGauge
from tbot_core.model.types import dollars_of, price_of, ticks_of
from tbot_core.system import log
from tbot_core.system.isolated_calls import IsolatedCalls
from tbot_core.trading.risk.exposure import held_atoms

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_core.engine.session.broker_session import BrokerSession
    from tbot_core.engine.session.session import TradingSession
    from tbot_core.model.clock import Clock
    from tbot_core.plugins.network.connector import RequestBudgets

EVERY_S: Final = 1.0
UNCHANGED_S: Final = 30.0
"""The maximum age of the file in seconds while its content does not change."""

LIMIT_S: Final = 1.0
"""How long the gauges may block a run."""

_log = log.logger(__name__)


class GaugeWriter:
    """Writes the gauges of a run with this `journal` into the folder `data`, without delaying decisions.

    `budgets` are the request budgets of the run's plugins. A failure to write is logged once; another failure is
    isolated and stops no run.
    """

    def __init__(self, data: Path, journal: Path, clock: Clock, budgets: RequestBudgets | None = None) -> None:
        self._budgets = budgets
        self._data = data
        self._journal = journal.name
        self._clock = clock
        self._next = self._due = clock.monotonic()
        self._written: Gauges | None = None
        self._failed = False
        self._isolated = IsolatedCalls(clock.monotonic)

    def write_if_due(
        self,
        run: TradingSession,
        clock_ahead_s: float | None = None,
        *,
        marks_age_s: float | None = 0.0,
        at_once: bool = False,
    ) -> None:
        """Compute the gauges once a second, or `at_once`, and write them if they changed.

        `marks_age_s`: the age of the oldest price at which the positions are valued, None if it is unknown.
        """
        now = self._clock.monotonic()
        if now < self._next and not at_once:
            return
        self._next = now + EVERY_S
        self._isolated.call("gauges", partial(self._write, run, clock_ahead_s, marks_age_s, now), LIMIT_S)

    def _write(self, run: TradingSession, clock_ahead_s: float | None, marks_age_s: float | None, now: float) -> None:
        current = self._gauges(run, clock_ahead_s, marks_age_s)
        if now < self._due and current == self._written:
            return
        self._due, self._written = now + UNCHANGED_S, current
        try:
            gauges.write_gauges(self._data, current)
        except AccessError as fault:
            if not self._failed:
                self._failed = True
                _log.warning("gauges.not_written", reason=fault.message)
        else:
            self._failed = False

    def _gauges(self, run: TradingSession, clock_ahead_s: float | None, marks_age_s: float | None) -> Gauges:
        at = self._clock.now()
        limits = run.decision_engine.limits
        held = (
            position
            for broker_session in run.broker_sessions
            for position in broker_session.decision_engine.portfolio.positions.values()
        )
        return Gauges(
            journal=self._journal,
            session=run.session.date.isoformat(),
            at=at,
            marked_at=None if marks_age_s is None else at - dt.timedelta(seconds=marks_age_s),
            marks={position.symbol: price_of(position.mark) for position in held},
            daily_loss_limit=dollars_of(limits.daily_loss),
            budget=dollars_of(limits.budget),
            gross=dollars_of(held_atoms(run.decision_engine.exposure)),
            most_trades=limits.max_trades,
            most_positions=limits.max_positions,
            vix=known_vix(run.day),
            clock_ahead_s=clock_ahead_s,
            brokers=tuple(_gauge(broker_session) for broker_session in run.broker_sessions),
            hosts=() if self._budgets is None else tuple(_hosts(self._budgets)),
            quotes=_entry_quotes(run, at),
        )


def _entry_quotes(run: TradingSession, at: dt.datetime) -> dict[str, EntryQuote]:
    # The latest quotes of the entries that need a confirmation; none of a symbol without one.
    pending = run.confirmations.pending
    quotes = run.outlook.quotes if pending and run.outlook is not None else None
    found: dict[str, EntryQuote] = {}
    for name, one in pending.items():
        row = one.proposal.row
        if quotes is not None and row is not None and (quote := quotes.of(row)) is not None:
            bid, ask = (price_of(ticks_of(price)) for price in (quote.bid, quote.ask))
            found[name] = EntryQuote(bid=bid, ask=ask, at=at - dt.timedelta(seconds=quote.age_s))
    return found


def _hosts(budgets: RequestBudgets) -> Iterator[HostGauge]:
    # The request budgets of the plugins' hosts.
    for name, left, per_minute, paused_s in budgets.left():
        yield HostGauge(name=name, left=left, per_minute=per_minute, paused_s=paused_s)


def _gauge(broker_session: BrokerSession) -> BrokerGauge:
    # The responsiveness of a broker.
    broker = broker_session.execution.venue.broker
    account = broker.reported_account
    return BrokerGauge(
        name=broker_session.name,
        equity=None if account is None else account.equity,
        latency_s=broker.latency_s,
        spare=broker.available_requests,
        per_minute=broker.capabilities.requests_per_minute,
    )
