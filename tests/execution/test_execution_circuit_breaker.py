"""Circuits: three failures of one kind open, an answer half-opens, a proven minute closes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tbot_core.execution.circuit_breaker import PROVEN, CircuitBreaker, CircuitState
from tbot_core.plugins.broker_calls import RequestKind

START = datetime(2026, 3, 3, 15, 0, tzinfo=UTC)
READ, TRADE = RequestKind.READING, RequestKind.TRADE


def at(seconds: float) -> datetime:
    """So many seconds after the start."""
    return START + timedelta(seconds=seconds)


def opened(request: RequestKind = READ) -> CircuitBreaker:
    """A circuit that three failures have opened, at seconds 0, 1 and 2."""
    circuit = CircuitBreaker()
    for second in range(3):
        circuit.record_failure(request, at(second))
    return circuit


def state(circuit: CircuitBreaker) -> CircuitState:
    """The state as it is now."""
    return circuit.state


def test_three_failures_of_one_kind_in_a_row_open_it_since_the_first() -> None:
    """Two leave it closed; the break is as old as the first failure, not as the third."""
    circuit = CircuitBreaker()
    circuit.record_failure(READ, at(0))
    circuit.record_failure(READ, at(1))
    assert circuit.closed
    circuit.record_failure(READ, at(2))
    assert (circuit.state, circuit.since) == (CircuitState.OPEN, START)


def test_an_answer_between_begins_the_count_anew() -> None:
    """What was answered in between did not fail in a row."""
    circuit = CircuitBreaker()
    for second in range(6):
        circuit.record_failure(READ, at(second))
        if second % 2:
            circuit.record_answer(READ, at(second))
    assert circuit.closed


def test_f61_answered_readings_do_not_hide_that_orders_fail() -> None:
    """A partition of the trade endpoint alone opens the circuit all the same, and readings do not half-open it."""
    circuit = CircuitBreaker()
    for second in range(3):
        circuit.record_failure(TRADE, at(second))
        circuit.record_answer(READ, at(second))
    assert state(circuit) is CircuitState.OPEN
    circuit.record_answer(READ, at(4))
    circuit.close_if_proven(at(5), clean=True)
    assert state(circuit) is CircuitState.OPEN


def test_failed_orders_are_forgotten_after_a_minute_and_the_way_is_then_to_be_proven() -> None:
    """No order is sent to try a way: a minute after the last one it is half-open, and a proven minute later closed."""
    circuit = opened(TRADE)
    circuit.close_if_proven(at(61), clean=True)
    assert state(circuit) is CircuitState.OPEN
    circuit.close_if_proven(at(62), clean=True)
    assert state(circuit) is CircuitState.HALF_OPEN
    circuit.close_if_proven(at(122), clean=True)
    assert circuit.closed


def test_it_closes_only_when_the_account_is_clean_and_a_minute_has_held() -> None:
    """Neither is enough alone; closed, it has no break any more."""
    circuit = opened()
    circuit.record_answer(READ, at(10))
    assert state(circuit) is CircuitState.HALF_OPEN
    circuit.close_if_proven(at(10) + PROVEN, clean=False)
    circuit.close_if_proven(at(69), clean=True)
    assert state(circuit) is CircuitState.HALF_OPEN
    circuit.close_if_proven(at(70), clean=True)
    assert (circuit.state, circuit.since) == (CircuitState.CLOSED, None)


def test_f66_one_failure_while_half_open_opens_it_again_and_the_break_goes_on() -> None:
    """A way that flaps is one break, as old as its first failure."""
    circuit = opened()
    circuit.record_answer(READ, at(30))
    circuit.record_failure(READ, at(40))
    assert (circuit.state, circuit.since) == (CircuitState.OPEN, START)


@pytest.mark.parametrize("second", [3, 1000])
def test_an_open_circuit_stays_open_while_nothing_answers(second: int) -> None:
    """Time alone proves nothing."""
    circuit = opened()
    circuit.close_if_proven(at(second), clean=True)
    assert state(circuit) is CircuitState.OPEN


def test_it_is_half_open_only_when_every_kind_that_failed_has_answered() -> None:
    """A reading that works says nothing of a stream that does not."""
    circuit = opened()
    circuit.record_failure(RequestKind.STREAM, at(3))
    circuit.record_answer(READ, at(4))
    assert state(circuit) is CircuitState.OPEN
    circuit.record_answer(RequestKind.STREAM, at(5))
    assert state(circuit) is CircuitState.HALF_OPEN
