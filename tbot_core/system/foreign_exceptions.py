"""Exceptions of foreign code: which ones are its failures, and their text, which may fail as well.

A native library may raise what is no Exception, such as the PanicException of Rust's pyo3, which derives from
BaseException so that few handlers catch it. All exceptions are failures but those by which the core ends its own calls.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

from tbot_core.errors import LONGEST_ALERT_PAUSE_S, RejectionMeaning, TbotError
from tbot_core.system import signals
from tbot_core.system.timeouts import Interruption, call_within

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TEXT_S: Final = 0.5
"""The time limit of an exception's text."""

Error = TypeVar("Error", bound=TbotError)
_DICT: Final = BaseException.__dict__["__dict__"].__get__
_NAME: Final = type.__dict__["__name__"].__get__


def is_failure(fault: BaseException, *, awaited: bool = False) -> bool:
    """Whether this is a failure of the called code, SystemExit included; else it ends the call of the core.

    A KeyboardInterrupt is a failure unless a signal came, and a cancellation unless the core cancelled: the called code
    may raise either by itself. `awaited`: the call was awaited, so that the core may have ended it.
    """
    from asyncio import CancelledError

    kind = type(fault)
    if issubclass(kind, Interruption):
        return False
    if issubclass(kind, KeyboardInterrupt):
        return not signals.is_interrupted()
    if issubclass(kind, CancelledError) or (awaited and issubclass(kind, GeneratorExit)):
        return not _is_ending(awaited=awaited)
    return True


def assert_failure(fault: BaseException, *, awaited: bool = False) -> None:
    """Raise what is no failure of the called code again; to be called first by who catches BaseException."""
    if not is_failure(fault, awaited=awaited):
        raise fault


def type_name(fault: BaseException) -> str:
    """The name of the exception's type, whatever its class says of itself."""
    return str(_NAME(type(fault)))


def exception_text(fault: BaseException) -> str:
    """The text of an exception; the name of its type where it has none, or where its text fails or takes too long."""
    return _read(lambda: str(fault)) or type_name(fault)


def exception_words(fault: BaseException) -> str:
    """What a failure was: the message of a `TbotError` with its remedy, else the name of the type and the text."""
    text, name = exception_text(fault), type_name(fault)
    return text if issubclass(type(fault), TbotError) or text == name else f"{name}: {text}"


def exception_trace(fault: BaseException) -> str:
    """The traceback as text, with those of its causes; the name of the type where that fails."""
    return _read(lambda: "".join(traceback.format_exception(fault))) or f"{type_name(fault)}: without a traceback\n"


def own_error(fault: Error) -> Error:
    """An error of tbot that foreign code raised, as the core may use it.

    That is itself. One of a foreign subclass, whose methods may fail, or with a part of another type or out of bounds
    is replaced by one of its kind with its sound parts.
    """
    kind = next(one for one in type(fault).__mro__ if one.__module__ == TbotError.__module__)
    parts: dict[str, object] = _DICT(fault)
    sound = {name: value for name, value in parts.items() if name in _PARTS and _PARTS[name](value)}
    if kind is type(fault) and len(sound) == len(parts):
        return fault
    message = sound.get("message") or exception_text(fault)
    found: Error = kind(message, sound.get("remedy", ""))
    found.__dict__.update({name: value for name, value in sound.items() if name in found.__dict__})
    return found


def raise_own(fault: TbotError, shown: Callable[[str], str] = str) -> NoReturn:
    """Raise `own_error` of what is being handled, its message as `shown`."""
    error = own_error(fault)
    error.message = shown(error.message)
    error.__suppress_context__ |= error is not fault
    raise error


def _is_text(value: object) -> bool:
    return type(value) is str


def _is_pause(value: object) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value <= LONGEST_ALERT_PAUSE_S)  # type: ignore[operator]  # it is a number


_PARTS: Final[Mapping[str, Callable[[object], bool]]] = {
    "message": _is_text,
    "remedy": _is_text,
    "code": _is_text,
    "retry_after_s": _is_pause,
    "meaning": lambda value: value is None or type(value) is RejectionMeaning,
    "unclear": lambda value: type(value) is bool,
}


def _read(text: Callable[[], str]) -> str:
    # What the function returns as a plain text; "" if it fails, since foreign code writes the text.
    try:
        return str.__str__(call_within(_TEXT_S, text))
    except BaseException as fault:  # noqa: BLE001  -- the border of an exception's own code
        assert_failure(fault)
        return ""


def _is_ending(*, awaited: bool) -> bool:
    # Whether the core cancels the running task; what is awaited outside of a task is closed by the core.
    import asyncio

    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return awaited if task is None else task.cancelling() > 0
