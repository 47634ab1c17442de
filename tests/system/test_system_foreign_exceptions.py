"""What a native library raises is its failure, whatever it derives from; what ends the core's own calls is not."""

from __future__ import annotations

import asyncio

import pytest

from tbot_core.system.foreign_exceptions import assert_failure, is_failure
from tbot_core.system.timeouts import CallTimedOut, call_within


class Panic(BaseException):
    """A panic of Rust, as pyo3 raises it."""


@pytest.mark.parametrize("fault", [Panic("index"), SystemExit(3), ValueError("x"), CallTimedOut("late")])
def test_any_other_exception_is_a_failure(fault: BaseException) -> None:
    """An exit and a panic too."""
    assert is_failure(fault)
    assert_failure(fault)


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()])
def test_what_ends_the_cores_calls_passes(fault: BaseException) -> None:
    """It is raised again as it is."""
    assert not is_failure(fault)
    with pytest.raises(type(fault)) as raised:
        assert_failure(fault)
    assert raised.value is fault


def test_the_end_of_a_calls_time_passes_a_guard_within_it() -> None:
    """The guard does not take the interruption for the plugin's own failure."""

    def guarded() -> None:
        while True:
            try:
                while True:
                    pass
            except BaseException as fault:  # noqa: BLE001  a guard
                assert_failure(fault)

    with pytest.raises(CallTimedOut):
        call_within(0.01, guarded)
