"""What is to become of what is held, and who wishes it: closed at once, or kept as it is when the process ends.

Each source has its own wish and takes back its own alone. A running session and the restart that reads its journal go
through the same steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.engine.control import ControlVerb
from tbot_core.journal import records
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from tbot_core.journal.projections.book import JournalEvent

ENDED: Final = (StateCause.STOP_COMMAND, StateCause.STOP_SIGNAL)
"""The stops that are over when they have been carried out; that of the file goes on while it is there."""


@attrs.define(kw_only=True)
class ClosePolicy:
    """The sources that wish what is held to be `closing`, and those that wish to be `keeping` it."""

    closing: set[StateCause] = attrs.field(factory=set)
    keeping: set[StateCause] = attrs.field(factory=set)

    def ask(self, verb: ControlVerb) -> None:
        """A command was given: the last `tbot stop` says all; `kill --flatten` closes until the kill is cleared."""
        match verb:
            case ControlVerb.KILL_FLATTEN:
                self.closing.add(StateCause.KILL_COMMAND)
            case ControlVerb.KILL_CLEAR:
                self.end(StateCause.KILL_COMMAND)
            case ControlVerb.STOP:
                self.end(StateCause.STOP_COMMAND)
            case ControlVerb.STOP_FLATTEN | ControlVerb.STOP_KEEP:
                self._stop(StateCause.STOP_COMMAND, flattens=verb is ControlVerb.STOP_FLATTEN)
            case ControlVerb.STOP_CANCEL:
                self.end(*ENDED)
            case _:
                pass

    def signal(self, *, flattens: bool) -> None:
        """A signal has asked for a stop: close what is held first, or keep it."""
        self._stop(StateCause.STOP_SIGNAL, flattens=flattens)

    def end(self, *causes: StateCause) -> None:
        """What these sources asked for is taken back, or has been carried out."""
        self.closing.difference_update(causes)
        self.keeping.difference_update(causes)

    def recall(self, event: JournalEvent, *, flattens: bool) -> None:
        """Take in what a journal says that was asked for, and what came of it; a signal `flattens` or keeps."""
        match event.kind, event.payload:
            case records.REQUEST, {"verb": verb}:
                self.ask(ControlVerb(verb))
            case records.STATE, {"cause": StateCause.STOP_SIGNAL.name, "there": True}:
                self.signal(flattens=flattens)
            case records.STATE, {"cause": cause, "there": False} if StateCause[cause] in ENDED:
                self.end(StateCause[cause])

    def _stop(self, cause: StateCause, *, flattens: bool) -> None:
        self.end(cause)
        (self.closing if flattens else self.keeping).add(cause)
