"""The heads of the two hash chains, audit log and journal: every hour of a run and at its end they go to the log.

Alerts send them every hour. A run that trades also records the journal's head in the audit log, and compares the two at
its start.

A chain does not show that its end was cut off, or that an older copy took its place. A head that was collected with the
log on another machine does; that in the audit log does while the audit log itself is not an older copy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from tbot_core.errors import TbotError
from tbot_core.execution.trading_state import TradingStateController, recall_states
from tbot_core.instance.journal_head import OlderJournal, note_head
from tbot_core.journal import integrity, records
from tbot_core.journal.projections import carryover
from tbot_core.journal.store import read_journal
from tbot_core.system import log
from tbot_core.trading.risk.states import StateCause
from tbot_core.vault import audit_log

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from tbot_core.engine.control import ControlRequest
    from tbot_core.instance import Instance
    from tbot_core.journal.recorder import JournalRecorder
    from tbot_core.model.types import RiskState

T = TypeVar("T")
EVERY_S: Final = 3600.0
_log = log.logger(__name__)


@attrs.frozen(kw_only=True, eq=False)
class JournalGuard:
    """Keeps a run exit-only while its journal is older than its head in the audit log.

    `judge` compares them; None for a run whose journal has no head there.
    """

    judge: Callable[[], OlderJournal | None] | None = None

    def begin(self, recorder: JournalRecorder) -> None:
        """Record at a run's start whether the journal is older; an arming in one that is ends. Raises TbotError."""
        if self.judge is None:
            return
        older, journal = self.judge(), recorder.journal
        states = recall_states(carryover.events_between_sessions(journal))
        armed, disarmed = map(journal.last_event, (records.ARMED, records.DISARMED))
        with recorder.transaction():
            controller = TradingStateController(recorder, _ignore_state, states)
            controller.set_cause(StateCause.JOURNAL_OLDER, "" if older is None else older.words)
            if older is not None and armed is not None and (disarmed is None or disarmed.seq < armed.seq):
                recorder.record(records.DISARMED, {"why": StateCause.JOURNAL_OLDER.value})

    def accept(self, trading_state: TradingStateController, request: ControlRequest) -> str:
        """Clear the cause if the audit log says that the journal was accepted; returns "", or why it stays."""
        try:
            older = None if self.judge is None else self.judge()
        except TbotError as fault:
            return fault.message
        if older is not None:
            return f"The audit log does not say that it was accepted: {older.words}."
        trading_state.clear_cause(StateCause.JOURNAL_OLDER, f"requested by {request.actor}")
        return ""


async def with_chain_heads(work: Coroutine[Any, Any, T], instance: Instance, *, audited: bool = False) -> T:
    """Await the work, and log the heads now, every hour, and when it has ended in any way.

    `audited`: record that of the journal in the audit log too.
    """
    hourly = asyncio.create_task(_log_hourly(instance, audited=audited))
    try:
        return await work
    finally:
        hourly.cancel()
        await asyncio.gather(hourly, return_exceptions=True)
        log_chain_heads(instance, audited=audited)


async def _log_hourly(instance: Instance, *, audited: bool) -> None:
    while True:
        log_chain_heads(instance, audited=audited)
        await asyncio.sleep(EVERY_S)


def log_chain_heads(instance: Instance, *, audited: bool = False) -> None:
    """Log `chain.heads` with the head of each chain that exists, as COUNT:HASH; a fault is logged instead.

    `audited`: record that of the journal in the audit log before.
    """
    try:
        if audited:
            note_head(instance)
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
