"""How the positions at one broker are protected: measured, journaled, and emulated while no stop rests there.

A position is protected by a stop or an exit that the broker has acknowledged. Without one its stop is emulated on
fresh prices; without those it is bare.
"""

from __future__ import annotations

import math
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

import attrs

from tbot_core.engine.live.data_guard import BREACH_HOLDS_S, MAX_SPREAD
from tbot_core.execution.frozen_instruments import lacks_execution
from tbot_core.execution.intents import MinuteCommands
from tbot_core.journal import records
from tbot_core.journal.events.risk import ProtectionChanged
from tbot_core.model.types import Leg
from tbot_core.trading.orders import WORKING
from tbot_core.trading.portfolio import Position

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tbot_core.engine.session.broker_session import BrokerSession
    from tbot_core.journal.store import Event
    from tbot_core.marketdata.feed_health import FeedHealth
    from tbot_core.model.clock import Clock
    from tbot_core.model.types import SignalId
    from tbot_core.trading.account_book import ManagedPosition


class Protection(StrEnum):
    """What protects a position: an order at the broker, the bot on fresh prices, or nothing."""

    RESTING = "resting"
    EMULATED = "emulated"
    BARE = "bare"


@attrs.define(kw_only=True)
class ProtectionRecord:
    """The protection of one position; times are seconds of a steady clock.

    `protection` holds `since`, `reported` is the last one in the journal. `breached_at`: since when prices are beyond
    its emulated stop.
    """

    position: Position
    protection: Protection
    since: float
    reported: Protection | None = None
    seconds: dict[Protection, float] = attrs.field(factory=lambda: dict.fromkeys(Protection, 0.0))
    breached_at: float | None = None

    @property
    def symbol(self) -> str:
        """The symbol that is held."""
        return self.position.symbol

    @property
    def lot(self) -> str:
        """Which lot of a fund it is, by its signal; "" for a symbol with one position."""
        return self.position.signal.text if self.position.instrument.is_shared else ""

    def advance(self, now: float, protection: Protection) -> None:
        """Count the seconds to now, and note what protects the position from now on."""
        if protection is not self.protection:
            self.seconds[self.protection] += now - self.since
            self.protection, self.since = protection, now

    def total(self, protection: Protection, now: float) -> float:
        """The seconds with a protection to now."""
        return self.seconds[protection] + (now - self.since if protection is self.protection else 0.0)


class ProtectionMonitor:
    """Watches the positions at one broker; call `run_once` about twice a second. `health` is None without a feed."""

    def __init__(self, broker_session: BrokerSession, clock: Clock, health: FeedHealth | None) -> None:
        self._broker_session = broker_session
        self._clock = clock
        self._health = health
        self._records: dict[SignalId, ProtectionRecord] = {}
        self._before: dict[tuple[str, str], dict[Protection, float]] = {}

    def restore(self, past: Iterable[Event]) -> None:
        """Restore the seconds of the positions from before a restart."""
        for event in past:
            if event.kind == records.PROTECTION and event.broker == self._broker_session.journal_tag:
                last = event.facts(ProtectionChanged)
                seconds = {Protection.BARE: float(last.bare_s), Protection.EMULATED: float(last.emulated_s)}
                self._before[last.symbol, last.lot] = {} if last.state == records.CLOSED else seconds

    async def run_once(self) -> None:
        """One round: measure and journal the protection of each position, and close those beyond an emulated stop."""
        now, held = self._clock.monotonic(), self._broker_session.decision_engine.position_manager.held
        if not (held or self._records):
            return
        for signal in [one for one in self._records if one not in held]:
            self._journal(records.CLOSED, self._records.pop(signal), now)
        breached = []
        for signal, position in held.items():
            protection, record = self._protection(position), self._records.get(signal)
            if record is None:
                record = ProtectionRecord(position=position.position, protection=protection, since=now)
                record.seconds |= self._before.pop((record.symbol, record.lot), {})
                self._records[signal] = record
            record.advance(now, protection)
            if protection is not record.reported:
                record.reported = protection
                self._journal(protection, record, now)
            if self._is_breached(position, record, now):
                breached.append((signal, position))
        for signal, position in breached:
            if held.get(signal) is position:  # not closed while another one was
                await self._close(position)

    def _protection(self, position: ManagedPosition) -> Protection:
        # What protects a position now.
        manager = self._broker_session.decision_engine.position_manager
        tickets = [one for one in (position.stop, position.exit, position.trim) if one is not None]
        working = [ticket for ticket in tickets if ticket.state in WORKING and not ticket.must_look_up]
        needed, closed = manager.units_to_close(position), sum(ticket.closing_units for ticket in working)
        if 0 < needed <= closed:
            return Protection.BARE if self._holds_more(position) else Protection.RESTING
        if not position.plan.stop_rests:  # the strategy closes it on closed bars
            return Protection.EMULATED
        if position.exit_reason is not None:  # no price closes it sooner than its exit
            return Protection.BARE
        waits = position.reading_after is not None or manager.exits.exits_blocked(position.position.symbol)
        return Protection.BARE if waits or self._price(position) is None else Protection.EMULATED

    def _holds_more(self, position: ManagedPosition) -> bool:
        # Whether an entry of it has filled for more than is booked.
        signal, tickets = position.position.signal, self._broker_session.execution.tickets.values()
        entries = (ticket for ticket in tickets if ticket.order.leg is Leg.ENTRY and ticket.order.signal == signal)
        return any(lacks_execution(entry, since=-math.inf) for entry in entries)

    def _price(self, position: ManagedPosition) -> float | None:
        # A fresh price of its signal's symbol, by which its stop is emulated; None without one.
        if self._health is None:
            return None
        return self._health.price(position.position.signal.symbol, self._clock.monotonic(), widest=MAX_SPREAD)

    def _is_breached(self, position: ManagedPosition, record: ProtectionRecord, now: float) -> bool:
        # Whether prices have been beyond an emulated stop at two readings. One that the strategy closes on bars is not
        # emulated here.
        price = self._price(position) if record.protection is Protection.EMULATED else None
        plan = position.plan
        if price is None or not plan.stop_rests or not plan.stop_passed(price):
            record.breached_at = None
            return False
        record.breached_at = now if record.breached_at is None else record.breached_at
        return now - record.breached_at >= BREACH_HOLDS_S

    async def _close(self, position: ManagedPosition) -> None:
        manager = self._broker_session.decision_engine.position_manager
        actions = manager.close_at_stop(position)
        await self._broker_session.execution.execute(MinuteCommands(actions=actions))

    def _journal(self, state: str, record: ProtectionRecord, now: float) -> None:
        since = self._clock.now() - timedelta(seconds=now - record.since)
        self._broker_session.execution.recorder.record(
            ProtectionChanged(
                symbol=record.symbol,
                lot=record.lot,
                state=state,
                since=since,
                bare_s=f"{record.total(Protection.BARE, now):.1f}",
                emulated_s=f"{record.total(Protection.EMULATED, now):.1f}",
            )
        )
