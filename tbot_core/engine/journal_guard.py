"""The heads of the two hash chains, audit log and journal: a run that trades logs them once a day and at its end.

Alerts send them after each session. A run that trades also records the journal's head in the audit log, and compares
the two at its start.

A chain does not show that its end was cut off, or that an older copy took its place. A head that was collected with the
log on another machine does; that in the audit log does while the audit log itself is not an older copy.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from tbot_core.errors import TbotError
from tbot_core.execution.trading_state import TradingStateController, recall_states
from tbot_core.instance import Instance
from tbot_core.instance.journal_chain import OlderJournal, note_head, older_journal
from tbot_core.journal import integrity, records
from tbot_core.journal.events.risk import Disarmed
from tbot_core.journal.projections import carryover
from tbot_core.journal.store import Journal, JournalRecorder, NewEvent, read_journal
from tbot_core.system import log
from tbot_core.trading.risk.states import StateCause
from tbot_core.vault import audit_log

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from typing import Any

    from tbot_core.engine.control import ControlRequest
    from tbot_core.instance.journal_chain import OlderJournal
    from tbot_core.journal.store import JournalRecorder, NewEvent
    from tbot_core.model.types import RiskState

T = TypeVar("T")
EVERY_S: Final = 3600.0
DAY_S: Final = 86400.0
_GRAVE: Final = frozenset({records.STATE, records.REQUEST, records.ARMED, records.DISARMED})
_log = log.logger(__name__)


@attrs.define(kw_only=True, eq=False)
class JournalGuard:
    """Keeps a run exit-only while its journal is older than its head in the audit log, and records the head.

    Without an `instance` it does nothing, as for a run with a journal of its own.
    """

    instance: Instance | None = None
    _journal: Journal | None = attrs.field(default=None, init=False)
    _is_older: bool = attrs.field(default=False, init=False)
    _due: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)

    def begin(self, recorder: JournalRecorder) -> None:
        """Record at a run's start whether the journal is older; an arming in one that is ends. Raises TbotError."""
        if self.instance is None:
            return
        journal = self._journal = recorder.journal
        older = self._compare(self.instance)
        states = recall_states(carryover.events_between_sessions(journal))
        armed, disarmed = map(journal.last_event, (records.ARMED, records.DISARMED))
        with recorder.transaction():
            controller = TradingStateController(recorder, _ignore_state, states)
            controller.set_cause(StateCause.JOURNAL_OLDER, "" if older is None else older.words)
            if older is not None and armed is not None and (disarmed is None or disarmed.seq < armed.seq):
                recorder.record(Disarmed(why=StateCause.JOURNAL_OLDER.value))
        self.note()

    def accept(self, trading_state: TradingStateController, request: ControlRequest) -> str:
        """Clear the cause if the audit log says that the journal was accepted; returns "", or why it stays."""
        try:
            older = None if self.instance is None else self._compare(self.instance)
        except TbotError as fault:
            return fault.message
        if older is not None:
            return f"The audit log does not say that it was accepted: {older.words}."
        trading_state.clear_cause(StateCause.JOURNAL_OLDER, f"requested by {request.actor}")
        return ""

    def note(self) -> None:
        """Record the head in the audit log, unless the journal is older; a fault is logged instead."""
        if self.instance is None or self._journal is None or self._is_older:
            return
        try:
            note_head(self.instance, self._journal.head)
        except TbotError as fault:
            _log.warning("journal.head_not_recorded", reason=str(fault))

    def on_events(self, entries: Sequence[NewEvent]) -> None:
        """Have the head recorded soon after a request, or a change of the state or arming, was written."""
        if any(entry.kind in _GRAVE for entry in entries):
            self._due.set()

    async def note_when_due(self) -> None:
        """Record the head soon after each event that must not be lost, until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            self.note()

    def _compare(self, instance: Instance) -> OlderJournal | None:
        older = older_journal(instance, self._journal)
        self._is_older = older is not None
        return older


async def with_chain_heads(work: Coroutine[Any, Any, T], instance: Instance, guard: JournalGuard) -> T:
    """Await the work; where the guard has an instance, log the heads once a day, and when it has ended in any way.

    The guard records the journal's head now, every hour, at the end, and whenever that is due.
    """
    if guard.instance is None:
        return await work
    parts = (_note_hourly(guard), guard.note_when_due(), _log_daily(instance))
    beside = [asyncio.create_task(part) for part in parts]
    try:
        return await work
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        guard.note()
        log_chain_heads(instance)


async def _note_hourly(guard: JournalGuard) -> None:
    while True:
        guard.note()
        await asyncio.sleep(EVERY_S)


async def _log_daily(instance: Instance) -> None:
    while True:
        await asyncio.sleep(DAY_S)
        log_chain_heads(instance)


def log_chain_heads(instance: Instance) -> None:
    """Log `chain.heads` with the head of each chain that exists, as COUNT:HASH; a fault is logged instead."""
    try:
        heads = read_chain_heads(instance)
    except TbotError as fault:
        _log.warning("chain.heads_unknown", reason=str(fault))
        return
    if heads:
        _log.info("chain.heads", **heads)


def read_chain_heads(instance: Instance) -> dict[str, str]:
    """The head of each chain that exists, `secrets` and `journal`, as COUNT:HASH. Raises TbotError."""
    heads: dict[str, str] = {}
    secrets = audit_log.log_head(audit_log.log_path(instance))
    if secrets.count:
        heads["secrets"] = secrets.text
    if integrity.journal_exists(instance.journal):
        with closing(read_journal(instance.journal)) as journal:
            count, digest = journal.head
        if count:
            heads["journal"] = f"{count}:{digest}"
    return heads


def _ignore_state(state: RiskState) -> None:
    # Before the first session no decision depends on the state.
    pass
