"""The causes at work in a running session: written down when they come and go, and imposed on the desk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.journal import records
from tbot_core.journal.projections.leases import FailoverPhase
from tbot_core.model.types import RiskState
from tbot_core.system import log
from tbot_core.trading.risk.states import StateCause, TradingState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tbot_core.journal.projection import JournalEvent
    from tbot_core.journal.recorder import JournalRecorder

OVER: Final = "over"
"""The words with which a cause goes that has lingered to its end."""

_log = log.logger(__name__)


class TradingStateController:
    """What keeps the bot from its normal state; `impose` hands the state on to whoever decides.

    `own` says what the session asks for by itself, by its settings and its losses; it is told with the rest.
    """

    def __init__(
        self,
        recorder: JournalRecorder,
        impose: Callable[[RiskState], None],
        states: TradingState,
        own: Callable[[], RiskState] = lambda: RiskState.NORMAL,
    ) -> None:
        self._recorder = recorder
        self._own = own
        self._clock = recorder.clock
        self._impose = impose
        self._states = states
        impose(states.local_state)

    @property
    def state(self) -> RiskState:
        """The gravest state that a cause asks for."""
        return self._states.state

    @property
    def local_state(self) -> RiskState:
        """The gravest state that a cause asks for at the account itself."""
        return self._states.local_state

    @property
    def is_clean(self) -> bool:
        """Whether the account was found as it should be when it was read last."""
        return self._states.clean_since is not None

    def set_failed_over(self, *, away: bool) -> None:
        """Entries go to another broker from now on, or no longer."""
        self._states.failed_over = away
        self._impose(self._states.local_state)

    def set_clean_elsewhere(self, other: TradingStateController) -> None:
        """While entries go elsewhere, the account there says since when all is well."""
        self._states.clean_elsewhere_since = other._states.clean_since

    @property
    def causes(self) -> tuple[StateCause, ...]:
        """All causes at work, the gravest first."""
        return self._states.causes

    @property
    def shared_causes(self) -> tuple[StateCause, ...]:
        """The causes that bind the other brokers of the session too, the gravest first."""
        return self._states.shared_causes

    def raise_cause(self, cause: StateCause, words: str = "") -> None:
        """A cause is there; said again it is no news."""
        if self._states.raise_cause(cause, self._clock.now()):
            self._impose(
                self._states.local_state
            )  # before it is written down: a full disk must not keep an entry alive
            self._tell(cause, there=True, words=words)

    def clear_cause(self, cause: StateCause, words: str = "") -> None:
        """A cause is gone, and lingers as long as its kind says."""
        if cause in self._states.active and self._states.clear_cause(cause, self._clock.now()):
            self._tell(cause, there=False, words=words)
            self._impose(self._states.local_state)

    def set_cause(self, cause: StateCause, words: str) -> None:
        """A cause is there as long as there are words for it."""
        if words:
            self.raise_cause(cause, words)
        else:
            self.clear_cause(cause)

    def on_reconciled(self, *, clean: bool) -> None:
        """A reading of the broker agreed with the journal, or it did not; causes that lingered to their end go."""
        self._states.on_reconciled(self._clock.now(), clean=clean)
        self.expire_causes()

    def expire_causes(self) -> None:
        """Drop causes whose linger time is over."""
        over = self._states.expire_causes(self._clock.now()) if self._states.lingering else ()
        for cause in over:
            self._tell(cause, there=False, words=OVER)
        if over:
            self._impose(self._states.local_state)

    def expire_cause(self, cause: StateCause) -> None:
        """A cause has lingered to its end, as a journal says that is repeated."""
        if self._states.lingering.pop(cause, None) is not None:
            self._tell(cause, there=False, words=OVER)
            self._impose(self._states.local_state)

    def _tell(self, cause: StateCause, *, there: bool, words: str) -> None:
        present = max(self._states.state, self._own())
        self._recorder.record(records.STATE, records.state_payload(cause, present, there=there, words=words))
        _log.warning("state", cause=cause.value, there=there, state=present.word, words=words)


def recall_states(events: Iterable[JournalEvent], broker: str = "") -> TradingState:
    """The causes that a journal's events leave at work; of a broker that is not the primary, its own."""
    states = TradingState()
    for event in events:
        note_event(states, event, broker)
    return states


def note_event(states: TradingState, event: JournalEvent, broker: str = "") -> None:
    """Take in what an event says of the causes at work."""
    if event.kind == records.STATE and event.payload.get("broker", "") == broker:
        cause = StateCause[event.payload["cause"]]
        if event.payload["there"]:
            states.raise_cause(cause, event.applied)
        elif event.payload["words"] == OVER:
            states.lingering.pop(cause, None)
        else:
            states.clear_cause(cause, event.applied)
    elif event.kind == records.FAILOVER and not broker:
        states.failed_over = event.payload["phase"] == FailoverPhase.ENTRIES.value
    elif event.kind == records.SESSION_CLOSED:
        states.failed_over = (
            False  # a way may break before the bell, so that the session's opening ends nothing of this
        )
    elif event.kind == records.SESSION_OPENED:
        states.open_session()
