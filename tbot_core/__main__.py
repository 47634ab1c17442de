"""The process `tbot`, also as `python -m tbot_core`: it minds signals before anything heavy is imported."""

from __future__ import annotations

import gc
import sys
from typing import Final

from tbot_core.system import environ
from tbot_core.system.signals import INTERRUPTED, interruptible

_YOUNG: Final = 10_000
"""How many new objects are looked through for garbage at a time. To start makes that many and more, and drops few."""


def main() -> int:
    """The console script `tbot`."""
    gc.set_threshold(_YOUNG)
    environ.without_blas_threads()
    try:
        with interruptible():
            from tbot_core.cli import main as command_line

            return command_line()
    except KeyboardInterrupt:  # before a command began, or after it had ended
        sys.stderr.write("tbot: Stopped.\n")
        return INTERRUPTED
    finally:
        # What is left goes with the process: to sort it first takes a short command an eighth of its time.
        gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
