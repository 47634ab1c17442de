"""One thing that a person is told."""

from __future__ import annotations

from typing import Final

import attrs

from tbot_core.contracts import Urgency

STATUS_COMMAND: Final = "tbot status"


@attrs.frozen(kw_only=True)
class Notice:
    """One thing to be told: `what` happened, with its numbers, and the one command to run next.

    `key` is the incident's name; what merely happened bears its event's.
    """

    key: str
    urgency: Urgency
    what: str
    command: str = STATUS_COMMAND
