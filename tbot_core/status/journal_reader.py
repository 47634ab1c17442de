"""A journal that is read again and again: each reading takes the events that came since the last one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import JournalError, TbotError
from tbot_core.instance.journal_key import chain_key
from tbot_core.journal import records
from tbot_core.journal.projection import project
from tbot_core.journal.projections.arming import ArmingState
from tbot_core.journal.projections.book import SessionBook
from tbot_core.journal.projections.carryover import LASTING
from tbot_core.journal.projections.confirmations import PendingConfirmations
from tbot_core.journal.projections.external_holdings import ExternalHoldings
from tbot_core.journal.projections.feed_health import DataHealth
from tbot_core.journal.projections.restarts import Restart
from tbot_core.journal.verification_checkpoint import verify_new_events
from tbot_core.status.live_figures import SessionActivity
from tbot_core.status.runs import PAPER, RunFile, open_run_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tbot_core.instance import Instance
    from tbot_core.journal.store import Event, Journal

_SHOWN: Final = frozenset({*LASTING, records.READY, records.NOT_READY, records.RUN_STARTED, records.FAILOVER})
"""Kinds of which a status shows events of earlier sessions too."""


@attrs.frozen(kw_only=True)
class Projections:
    """What a journal adds up to, as far as a status shows it."""

    book: SessionBook = attrs.field(factory=SessionBook)
    activity: SessionActivity = attrs.field(factory=SessionActivity)
    arming: ArmingState = attrs.field(factory=ArmingState)
    pending: PendingConfirmations = attrs.field(factory=PendingConfirmations)
    holdings: ExternalHoldings = attrs.field(factory=ExternalHoldings)
    health: DataHealth = attrs.field(factory=DataHealth)
    restart: Restart = attrs.field(factory=Restart)


class JournalReader:
    """Reads one journal.

    After a reading `read` holds the projections, `events` those since the opening of the last session with the lasting
    kinds before it, `damage` what is wrong with a journal whose events can still be read. The first reading checks the
    file as well; each later one the chain of the events that are new.
    """

    def __init__(self, file: RunFile) -> None:
        self.file = file
        self.damage: JournalError | None = None
        self._begin()

    def _begin(self) -> None:
        self.read = Projections()
        self._lasting: list[Event] = []
        self._since: list[Event] = []
        self._seq = 0
        self._verified: tuple[int, str] | None = None

    @property
    def events(self) -> list[Event]:
        """The events that a status needs, in their order."""
        return [*self._lasting, *self._since]

    def update(self, instance: Instance) -> None:
        """Take what is new; a damaged journal, and another one under this name, are read from the first event.

        Raises JournalError for a file that cannot be read, and the damage of one whose events are not those that tbot
        wrote.
        """
        with open_run_file(self.file) as journal:
            if journal.head[0] < self._seq or self.damage is not None:
                self._begin()
            self.damage = self._find_damage(journal, instance)
            fresh = list(journal.events(self._seq))
        try:
            project(fresh, *attrs.astuple(self.read, recurse=False))
        except (LookupError, TypeError, ValueError, ArithmeticError) as fault:
            self._begin()
            damage = self.damage or self._whole_damage(instance)
            if damage is None:
                raise
            raise damage from fault
        self._keep(fresh)

    def _keep(self, fresh: Iterable[Event]) -> None:
        for event in fresh:
            if event.kind == records.SESSION_OPENED:
                self._lasting += [one for one in self._since if one.kind in _SHOWN]
                self._since = []
            self._since.append(event)
            self._seq = event.seq

    def _find_damage(self, journal: Journal, instance: Instance) -> JournalError | None:
        # What is wrong; None for an intact one. Those of runs have no key.
        try:
            key = chain_key(instance) if self.file.name == PAPER else None
            if self._verified is not None:
                try:
                    self._verified = journal.verify_chain(key, after=self._verified)
                except JournalError:  # another journal may have taken its place: judge the whole
                    self._begin()
                else:
                    return None
            self._verified = journal.verify(key) if self.file.name != PAPER else verify_new_events(journal, key)
        except JournalError as fault:
            return fault
        except TbotError as fault:
            return JournalError(f"The journal cannot be verified: {fault.message}", fault.remedy)
        return None

    def _whole_damage(self, instance: Instance) -> JournalError | None:
        # The damage among the events of before the last start too.
        if self.file.name != PAPER:
            return None
        with open_run_file(self.file) as journal:
            try:
                journal.verify(chain_key(instance))
            except JournalError as fault:
                return fault
            except TbotError as fault:
                return JournalError(f"The journal cannot be verified: {fault.message}", fault.remedy)
        return None
