"""What a native library raises is its failure, whatever it derives from; what ends the core's own calls is not."""

from __future__ import annotations

import asyncio
import signal
from typing import Any, cast

import pytest

from tbot_core.errors import Rejected, RejectionMeaning, Unavailable
from tbot_core.system.foreign_exceptions import (
    assert_failure,
    exception_text,
    exception_trace,
    exception_words,
    is_failure,
    own_error,
    raise_own,
)
from tbot_core.system.signals import interruptible
from tbot_core.system.timeouts import CallTimedOut, call_within


class Panic(BaseException):
    """A panic of Rust, as pyo3 raises it."""


@pytest.mark.parametrize("fault", [Panic("index"), SystemExit(3), ValueError("x"), CallTimedOut("late")])
def test_any_other_exception_is_a_failure(fault: BaseException) -> None:
    """An exit and a panic too."""
    assert is_failure(fault)
    assert_failure(fault)


def test_an_interrupt_without_a_signal_is_a_failure() -> None:
    """Only a signal interrupts; without a handler that watches for one, it is assumed."""
    assert not is_failure(KeyboardInterrupt())
    with interruptible():
        assert is_failure(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt) as raised:
            signal.raise_signal(signal.SIGINT)
        assert not is_failure(raised.value)
        with pytest.raises(KeyboardInterrupt):
            assert_failure(raised.value)
    with interruptible():
        assert is_failure(KeyboardInterrupt())


@pytest.mark.parametrize("fault", [GeneratorExit(), asyncio.CancelledError()])
def test_an_end_by_the_called_code_is_a_failure(fault: BaseException) -> None:
    """The called code may cancel, or close, by itself; awaited outside of a task it was closed by the core."""

    async def judged() -> bool:
        return is_failure(fault, awaited=True)

    async def cancelled() -> bool:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        found = await judged_while_cancelled()
        task.uncancel()
        return found

    async def judged_while_cancelled() -> bool:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return is_failure(fault, awaited=True)
        return True

    assert is_failure(fault)
    assert not is_failure(fault, awaited=True)
    assert asyncio.run(judged())
    assert not asyncio.run(cancelled())


def fails() -> Any:
    """What the text of an exception may do."""
    raise ValueError("no text")


def endless() -> Any:
    """What else it may do."""
    while True:
        pass


class Nameless(type):
    """A class whose name fails."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]  # as foreign code does
        """No name."""
        return str(fails())


class Silent(Exception, metaclass=Nameless):
    """An exception of which nothing can be read."""

    __notes__ = property(lambda _self: fails())
    __cause__ = property(lambda _self: fails())
    __class__ = property(lambda _self: fails())
    __dict__ = property(lambda _self: fails())

    def __str__(self) -> str:
        return str(fails())

    __repr__ = __str__


class Endless(Exception):
    """An exception whose text never ends."""

    def __str__(self) -> str:
        return str(endless())


class Mute(Unavailable):
    """A broker's error whose text fails."""

    message = property(lambda _self: fails(), lambda _self, _value: None)

    def __str__(self) -> str:
        return str(fails())


class Text(str):  # noqa: SLOT000  -- as foreign code has it
    """A text with methods of its own."""

    def __str__(self) -> str:
        return str(fails())


def test_an_exception_without_a_text_has_the_name_of_its_type() -> None:
    """Whatever its class does: fail, never end, or give no traceback."""
    assert exception_words(Silent("x")) == exception_text(Silent("x")) == "Silent"
    assert exception_trace(Silent("x")) == "Silent: without a traceback\n"
    assert exception_words(Endless()) == "Endless"
    assert exception_text(Mute("gone")) == "Mute"
    assert exception_words(ValueError()) == "ValueError"
    assert exception_words(ValueError("odd")) == "ValueError: odd"
    assert exception_words(Unavailable("It is gone.", "Wait.")) == "It is gone. Wait."
    assert exception_trace(ValueError("odd")) == "ValueError: odd\n"


def test_an_error_of_a_foreign_class_becomes_one_of_tbots() -> None:
    """Its methods may fail in the core, and so may its parts; what is sound is kept."""
    sound = Rejected("No.", "Pay.", meaning=RejectionMeaning.WASH_TRADE, retry_after_s=3.0)
    assert own_error(sound) is sound
    found = own_error(type("Theirs", (Rejected,), {})("No.", "Pay.", meaning=RejectionMeaning.WASH_TRADE))
    assert (type(found), found.message, found.remedy, found.meaning) == (
        Rejected, "No.", "Pay.", RejectionMeaning.WASH_TRADE,
    )  # fmt: skip
    for pause in (float("nan"), float("inf"), -1.0, 1e300, 10**5000, True, "soon"):
        later = Unavailable("Later.")
        later.retry_after_s = cast("Any", pause)
        assert own_error(later).retry_after_s is None
    assert own_error(Unavailable(Text("Later."))).message == "Unavailable"
    mute = own_error(Mute("gone"))
    assert (type(mute), str(mute)) == (Unavailable, "Mute")
    with pytest.raises(Unavailable, match=r"^Mute$") as raised:
        raise_own(Mute("gone"))
    assert type(raised.value) is Unavailable


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
