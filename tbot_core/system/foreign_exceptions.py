"""Which exceptions of foreign code are its failures: all but those by which the core ends its own calls.

A native library may raise what is no Exception, such as the PanicException of Rust's pyo3, which derives from
BaseException so that few handlers catch it.
"""

from __future__ import annotations

from tbot_core.system.timeouts import Interruption


def is_failure(fault: BaseException) -> bool:
    """Whether this is a failure of the called code, SystemExit included; else it ends the call of the core."""
    from asyncio import CancelledError

    return not isinstance(fault, KeyboardInterrupt | GeneratorExit | CancelledError | Interruption)


def assert_failure(fault: BaseException) -> None:
    """Raise what is no failure of the called code again; to be called first by who catches BaseException."""
    if not is_failure(fault):
        raise fault
