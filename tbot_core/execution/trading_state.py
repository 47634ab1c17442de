"""The trading state of a running session: journals changes of its causes, and applies the resulting risk state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.journal import records
from tbot_core.journal.events.failover import FailoverChanged
from tbot_core.journal.events.risk import StateChanged
from tbot_core.model.types import RiskState
from tbot_core.system import log
from tbot_core.trading.risk.states import FailoverPhase, StateCause, TradingState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tbot_core.journal.projection import JournalEvent
    from tbot_core.journal.store import JournalRecorder

OVER: Final = "over"
"""The `words` of the event that ends a lingering cause."""

_log = log.logger(__name__)


class TradingStateController:
    """Controls the risk state of one account; `impose` receives each new state.

    `own` returns the state that the session itself requires by its settings and losses; it is reported too.
    """

    def __init__(
        self,
        recorder: JournalRecorder,
        impose: Callable[[RiskState], None],
        states: TradingState,
        own: Callable[[], RiskState] = lambda: RiskState.NORMAL,
    ) -> None:
        self._recorder = recorder
        self._own_state = own
        self._clock = recorder.clock
        self._impose = impose
        self._states = states
        impose(states.local_state)

    @property
    def state(self) -> RiskState:
        """The most severe state of the causes that apply at any broker."""
        return self._states.state

    @property
    def local_state(self) -> RiskState:
        """The most severe state of all causes of this account."""
        return self._states.local_state

    @property
    def is_clean(self) -> bool:
        """Whether the account matched the books at the last reading."""
        return self._states.clean_since is not None

    def set_failed_over(self, *, away: bool) -> None:
        """Set whether entries go to another broker."""
        self._states.failed_over = away
        self._impose(self._states.local_state)

    def set_clean_elsewhere(self, other: TradingStateController) -> None:
        """Take over since when the other broker's account has been clean, while entries go there."""
        self._states.clean_elsewhere_since = other._states.clean_since

    @property
    def causes(self) -> tuple[StateCause, ...]:
        """All causes, the most severe first."""
        return self._states.causes

    @property
    def shared_causes(self) -> tuple[StateCause, ...]:
        """The causes that apply to all brokers of the session, the most severe first."""
        return self._states.shared_causes

    def is_active(self, cause: StateCause) -> bool:
        """Whether the cause was raised and not cleared."""
        return cause in self._states.active

    def raise_cause(self, cause: StateCause, words: str = "") -> None:
        """Raise a cause; raising it again has no effect."""
        if self._states.raise_cause(cause, self._clock.now()):
            self._impose(self._states.local_state)  # before it is journaled: a full disk must not allow an entry
            self._record_change(cause, there=True, words=words)

    def clear_cause(self, cause: StateCause, words: str = "") -> None:
        """Clear a cause, which lingers as its kind defines."""
        if self.is_active(cause) and self._states.clear_cause(cause, self._clock.now()):
            self._record_change(cause, there=False, words=words)
            self._impose(self._states.local_state)

    def set_cause(self, cause: StateCause, words: str) -> None:
        """Raise a cause if `words` are given, else clear it."""
        if words:
            self.raise_cause(cause, words)
        else:
            self.clear_cause(cause)

    def on_reconciled(self, *, clean: bool) -> None:
        """Record whether a reading of the account agreed with the journal, and expire causes."""
        self._states.on_reconciled(self._clock.now(), clean=clean)
        self.expire_causes()

    def expire_causes(self) -> None:
        """Remove the causes whose effect has ended."""
        over = self._states.expire_causes(self._clock.now()) if self._states.lingering else ()
        for cause in over:
            self._record_change(cause, there=False, words=OVER)
        if over:
            self._impose(self._states.local_state)

    def expire_cause(self, cause: StateCause) -> None:
        """End a lingering cause, as a replayed journal says."""
        if self._states.lingering.pop(cause, None) is not None:
            self._record_change(cause, there=False, words=OVER)
            self._impose(self._states.local_state)

    def _record_change(self, cause: StateCause, *, there: bool, words: str) -> None:
        present = max(self._states.state, self._own_state())
        self._recorder.record(StateChanged(cause=cause, there=there, state=present.word, words=words))
        _log.warning("state", cause=cause.value, active=there, state=present.word, detail=words)


def recall_states(events: Iterable[JournalEvent], broker: str = "") -> TradingState:
    """The trading state after a journal's events; `broker` is "" for the primary."""
    states = TradingState()
    for event in events:
        note_event(states, event, broker)
    return states


def note_event(states: TradingState, event: JournalEvent, broker: str = "") -> None:
    """Apply one journal event to the trading state."""
    if event.kind == records.STATE and event.broker == broker:
        change = event.facts(StateChanged)
        if change.there:
            states.raise_cause(change.cause, event.applied)
        elif change.words == OVER:
            states.lingering.pop(change.cause, None)
        else:
            states.clear_cause(change.cause, event.applied)
    elif event.kind == records.FAILOVER and not broker:
        states.failed_over = event.facts(FailoverChanged).phase is FailoverPhase.ENTRIES
    elif event.kind == records.SESSION_CLOSED:
        states.failed_over = False  # not at the opening: a connection may break before it
    elif event.kind == records.SESSION_OPENED:
        states.open_session()
