"""One notice for the operator."""

from __future__ import annotations

from typing import Final

import attrs

from tbot_core.contracts import Urgency

STATUS_COMMAND: Final = "tbot status"


@attrs.frozen(kw_only=True)
class Notice:
    """A notice: `what` happened, with its numbers, and the one command to run next.

    `key` is the name of the incident; for a single event it is the event's name.
    """

    key: str
    urgency: Urgency
    what: str
    command: str = STATUS_COMMAND
