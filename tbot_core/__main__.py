"""The process `tbot`, also as `python -m tbot_core`: it minds signals before anything heavy is imported."""

from __future__ import annotations

import sys

from tbot_core.seams.interrupts import INTERRUPTED, interruptible


def main() -> int:
    """The console script `tbot`."""
    try:
        with interruptible():
            from tbot_core.cli import main as command_line

            return command_line()
    except KeyboardInterrupt:  # before a command began, or after it had ended
        sys.stderr.write("tbot: Stopped.\n")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
