"""The risk state is the gravest of its causes, and each cause ends in its own way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations

import attrs
import pytest

from tbot_core.execution.trading_state import recall_states
from tbot_core.journal import records
from tbot_core.journal.projection import TypedEvent
from tbot_core.trading.risk.states import KINDS, QUIET, RECONCILED, CauseEnd, StateCause, TradingState

NOON = datetime(2026, 1, 5, 17, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@attrs.frozen
class Said(TypedEvent):
    """An event of a journal."""

    kind: str
    payload: dict[str, str] = attrs.field(factory=dict)
    cid: str | None = None
    applied: datetime = NOON


def after(duration: timedelta) -> datetime:
    """A moment after noon."""
    return NOON + duration


def test_nothing_is_normal() -> None:
    """Without a cause the state is normal."""
    assert TradingState().state.word == "normal"


EFFECTS = """
halted    | withdrawal | kill_file kill_command kill_signal
exit-only | withdrawal | stop_file stop_command stop_signal unreconciled control_lost not_armed left_behind
exit-only | reconcile  | unknown outcome_unknown mismatch surplus feeds_stale clock_jump stalled clock_skew disk_low
exit-only | reconcile  | journal rejects restricted login plugin_lost broker_plugin unreachable events_missed
exit-only | reconcile  | maintenance brokers_down journal_older
defense   | quiet      | primary_down universe_stale
defense   | session    | half_loss deviations
defense   | withdrawal | defense_command defense_setting
"""
TABLE = {
    StateCause[name.upper()]: (state.strip(), CauseEnd[end.strip().upper()])
    for state, end, names in (line.split("|") for line in EFFECTS.strip().splitlines())
    for name in names.split()
}
"""What the product's page says of each cause: the state that it requires, and what ends it."""

GRAVITY = ("normal", "defense", "exit-only", "halted")


def test_every_cause_has_the_effect_of_the_table() -> None:
    """No cause lacks an effect, and each has its state and its end."""
    assert {cause: (kind.state.word, kind.end) for cause, kind in KINDS.items()} == TABLE
    assert set(TABLE) == set(StateCause)


def test_of_two_causes_the_graver_counts_and_each_outlasts_the_other() -> None:
    """For every pair: the state is that of the graver; when one is over, that of the other is left, in either order."""
    for one, other in permutations(StateCause, 2):
        states = TradingState()
        for cause in (one, other):
            states.raise_cause(cause, NOON)
        graver = max(TABLE[one][0], TABLE[other][0], key=GRAVITY.index)
        assert states.state.word == states.local_state.word == graver, (one, other)
        states.clear_cause(one, NOON)
        states.lingering.pop(one, None)
        assert (states.state.word, states.causes) == (TABLE[other][0], (other,)), (one, other)


def test_of_two_causes_only_that_which_was_cleared_ends_with_its_condition() -> None:
    """For every pair: a clean reading, quiet and a new session end what was cleared, and not what stands."""
    for one, other in permutations(StateCause, 2):
        states = TradingState()
        for cause in (one, other):
            states.raise_cause(cause, NOON)
        states.clear_cause(one, NOON)
        states.on_reconciled(NOON, clean=True)
        states.expire_causes(after(QUIET))
        ended = TABLE[one][1] is not CauseEnd.SESSION
        assert set(states.causes) == ({other} if ended else {one, other}), (one, other)
        states.open_session()
        assert set(states.causes) == {other} - {cause for cause in TABLE if TABLE[cause][1] is CauseEnd.SESSION}


def test_the_gravest_cause_counts() -> None:
    """A kill goes over exits-only, that over defense; what is taken away uncovers what lies under it."""
    states = TradingState()
    states.raise_cause(StateCause.DEFENSE_COMMAND, NOON)
    assert states.state.word == "defense"
    states.raise_cause(StateCause.STOP_FILE, NOON)
    assert states.state.word == "exit-only"
    states.raise_cause(StateCause.KILL_FILE, NOON)
    assert states.state.word == "halted"
    assert states.causes == (StateCause.KILL_FILE, StateCause.STOP_FILE, StateCause.DEFENSE_COMMAND)
    states.clear_cause(StateCause.KILL_FILE, NOON)
    assert states.state.word == "exit-only"


def test_every_source_of_a_kill_must_be_clear() -> None:
    """Two sources have set it: one that is withdrawn frees nothing."""
    states = TradingState()
    states.raise_cause(StateCause.KILL_FILE, NOON)
    states.raise_cause(StateCause.KILL_COMMAND, NOON)
    states.clear_cause(StateCause.KILL_COMMAND, NOON)
    assert states.state.word == "halted"
    states.clear_cause(StateCause.KILL_FILE, NOON)
    assert states.state.word == "normal"


def test_a_cause_begins_once() -> None:
    """Raising it again is no news and does not move its beginning; withdrawing what is not there is no news either."""
    states = TradingState()
    assert states.raise_cause(StateCause.UNKNOWN, NOON)
    assert not states.raise_cause(StateCause.UNKNOWN, after(SECOND))
    assert states.active[StateCause.UNKNOWN] == NOON
    assert not states.clear_cause(StateCause.STOP_FILE, NOON)


@pytest.mark.parametrize("cause", [cause for cause in StateCause if TABLE[cause][1] is CauseEnd.RECONCILE])
def test_doubt_ends_with_a_clean_reconcile_that_held(cause: StateCause) -> None:
    """Exits-only lasts until reconciliation has agreed for 60 s without a break, counted from the cause's end."""
    states = TradingState()
    states.raise_cause(cause, NOON)
    states.clear_cause(cause, NOON)
    assert not states.expire_causes(after(timedelta(hours=1)))
    states.on_reconciled(NOON, clean=True)
    assert not states.expire_causes(after(RECONCILED - SECOND))
    states.on_reconciled(after(RECONCILED - SECOND), clean=False)
    assert not states.expire_causes(after(RECONCILED))
    states.on_reconciled(after(RECONCILED), clean=True)
    assert not states.expire_causes(after(2 * RECONCILED - SECOND))
    assert states.expire_causes(after(2 * RECONCILED)) == (cause,)
    assert states.state.word == "normal"


def test_a_doubt_that_stands_does_not_expire() -> None:
    """However long reconciliation agrees, a cause that was not withdrawn goes on."""
    states = TradingState()
    states.raise_cause(StateCause.DISK_LOW, NOON)
    states.on_reconciled(NOON, clean=True)
    assert not states.expire_causes(after(timedelta(days=1)))
    assert states.state.word == "exit-only"


def test_a_clean_reconcile_before_the_cause_ended_does_not_count() -> None:
    """The 60 s begin when both hold: the cause is gone and the books agree."""
    states = TradingState()
    states.on_reconciled(NOON, clean=True)
    states.raise_cause(StateCause.UNREACHABLE, NOON)
    states.clear_cause(StateCause.UNREACHABLE, after(timedelta(minutes=5)))
    assert not states.expire_causes(after(timedelta(minutes=5) + RECONCILED - SECOND))
    assert states.expire_causes(after(timedelta(minutes=5) + RECONCILED)) == (StateCause.UNREACHABLE,)


def test_defense_ends_after_quiet() -> None:
    """15 minutes after its last cause, and not before; a cause that returns begins it anew."""
    states = TradingState()
    states.raise_cause(StateCause.UNIVERSE_STALE, NOON)
    states.clear_cause(StateCause.UNIVERSE_STALE, NOON)
    states.raise_cause(StateCause.UNIVERSE_STALE, after(SECOND))
    states.clear_cause(StateCause.UNIVERSE_STALE, after(2 * SECOND))
    assert not states.expire_causes(after(QUIET))
    assert states.state.word == "defense"
    assert states.expire_causes(after(QUIET + 2 * SECOND)) == (StateCause.UNIVERSE_STALE,)


def test_what_holds_to_the_sessions_end_outlasts_its_cause() -> None:
    """Half of the loss limit used is defense for the whole session, also when the loss has shrunk again."""
    states = TradingState()
    states.raise_cause(StateCause.HALF_LOSS, NOON)
    states.clear_cause(StateCause.HALF_LOSS, NOON)
    states.on_reconciled(NOON, clean=True)
    assert not states.expire_causes(after(timedelta(hours=6)))
    assert states.state.word == "defense"


def test_a_new_session_begins_without_what_held_to_the_last_ones_end() -> None:
    """Half of the loss limit used is forgotten, standing or lingering; every other cause goes on."""
    states = TradingState()
    for cause in (StateCause.HALF_LOSS, StateCause.DEVIATIONS, StateCause.DEFENSE_COMMAND, StateCause.UNIVERSE_STALE):
        states.raise_cause(cause, NOON)
    for cause in (StateCause.DEVIATIONS, StateCause.UNIVERSE_STALE):
        states.clear_cause(cause, NOON)
    states.open_session()
    assert (list(states.active), list(states.lingering)) == (
        [StateCause.DEFENSE_COMMAND],
        [StateCause.UNIVERSE_STALE],
    )


def test_a_break_before_the_bell_outlasts_the_bell_and_ends_with_its_session() -> None:
    """Whoever folds the journal finds entries away as the running bot does: until the session is closed."""
    away = Said(records.FAILOVER, {"phase": "entries go on"})
    opened, closed = Said(records.SESSION_OPENED), Said(records.SESSION_CLOSED)
    assert recall_states([away, opened]).failed_over
    assert not recall_states([away, opened, closed]).failed_over


def test_a_reconcile_that_goes_on_agreeing_keeps_its_beginning() -> None:
    """The 60 s count from the first of a row of readings that agreed."""
    states = TradingState()
    for moment in (NOON, after(SECOND)):
        states.on_reconciled(moment, clean=True)
    assert states.clean_since == NOON
