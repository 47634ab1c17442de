"""What failed plugin calls mean for a session: they are journaled, and repeated ones block entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.journal.events.sessions import PluginFailed
from tbot_core.plugins.call_guard import FailedCall, GuardSession
from tbot_core.plugins.guarded_broker import FEED_CALLS
from tbot_core.trading.risk.exposure import block_entries, lose_plugin
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.engine.session.broker_session import BrokerSession
    from tbot_core.journal.store import NewEvent


class PluginFailures:
    """The failed calls of one session; `opening` holds the events of its opening while they are being made."""

    def __init__(self, broker_sessions: Sequence[BrokerSession]) -> None:
        self._broker_sessions = broker_sessions
        self.opening: list[NewEvent] | None = None

    @property
    def guard_session(self) -> GuardSession:
        """This session for the guard of its plugins' calls."""
        execution = self._broker_sessions[0].execution
        return GuardSession(
            clock=execution.recorder.clock, on_failure=self._on_failure, on_broker_failure=self._on_broker_failure
        )

    def _on_failure(self, failure: FailedCall) -> None:
        self._record(failure, lost=failure.off)

    def _on_broker_failure(self, failure: FailedCall) -> None:
        # A call about an account concerns that account, a call for data all of them.
        account_calls = failure.call not in FEED_CALLS
        found = [one for one in self._broker_sessions if account_calls and failure.plugin == f"broker/{one.name}"]
        for broker in found if failure.off else ():
            block_entries(broker.decision_engine.exposure, StateCause.BROKER_PLUGIN, failure.error)
        self._record(failure, lost=failure.off and not found)

    def _record(self, failure: FailedCall, *, lost: bool) -> None:
        # A failure during the opening is recorded after SESSION_OPENED.
        primary = self._broker_sessions[0]
        if lost:
            lose_plugin(primary.decision_engine.exposure, failure.plugin)
        entry = primary.execution.recorder.entry(PluginFailed(**attrs.asdict(failure)))
        if self.opening is None:
            primary.execution.recorder.write(entry)
        else:
            self.opening.append(entry)
