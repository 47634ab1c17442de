"""The head of the instance's journal in the audit log: it shows that an older copy took the journal's place.

A trading run records the head at its start, every hour and at its end, as its own writes left it and after they are on
disk: the head is never newer than the journal, and it is not that of a file which took the journal's place meanwhile. A
journal that goes on from its head is as it should be. Without a key of the audit log nothing is recorded or judged.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance.journal_key import chain_key
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.journal import integrity
from tbot_core.journal.store import START, Journal, read_journal
from tbot_core.model.formatting import plural
from tbot_core.system import filesystem
from tbot_core.vault import audit_log
from tbot_core.vault.categories import AUDIT, JOURNAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.instance.folder import Instance
    from tbot_core.vault.audit_log import AuditLogEntry
    from tbot_core.vault.keys import RootKey
    from tbot_core.vault.vault import AuditAction

NOTED: Final[AuditAction] = "anchor"
"""The action of a line that a run writes."""

ACCEPTED: Final[AuditAction] = "accept"
"""The action of a line by which a person accepts a journal; from then on its head counts."""

REMEDY: Final = (
    "Put the newer journal back, with the files beside it. If there is none, compare positions, kills and the arming "
    "with what was last known, then run `tbot audit accept`."
)
"""What to do about a journal that is older than its head."""

_HEAD: Final = "head "


@attrs.frozen(kw_only=True)
class OlderJournal:
    """A journal without the head that the audit log names.

    `head`: number and hash of that event; `recorded`: when it was logged, aware UTC. `events`: how many events the
    journal has now.
    """

    head: tuple[int, str]
    recorded: datetime
    events: int

    @property
    def missing(self) -> int:
        """The least number of missing events; 0 where the journal went on with others since."""
        return max(self.head[0] - self.events, 0)

    @property
    def words(self) -> str:
        """What is known, without a period at its end."""
        logged = f"the audit log had its event {self.head[0]} on {self.recorded.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        lost = f"{plural(self.missing, 'event')} or more" if self.missing else "events"
        now = f"it ends at event {self.events}" if self.missing else f"its event {self.head[0]} is another one"
        return f"{logged}, but {now}: {lost} are missing, perhaps a kill, a stop or a disarm"

    @property
    def sentence(self) -> str:
        """What is wrong, as a sentence."""
        return f"The journal is older than its head in the audit log: {self.words}."


def older_journal(instance: Instance, journal: Journal | None = None) -> OlderJournal | None:
    """What is known of a journal that does not have the last head in the audit log; None for one that has it.

    None too without an audit log, its key or a head. `journal`: the instance's, if it is open. A missing one has no
    event. Raises VaultError for a head that was not written with the key, JournalError for a journal that cannot be
    read.
    """
    recorded = _last_head(instance)
    if recorded is None or recorded[0] == START:
        return None
    (seq, digest), moment = recorded
    if journal is not None:
        events, found = _end_and_hash(journal, seq)
    elif integrity.journal_exists(instance.journal):
        with closing(read_journal(instance.journal)) as opened:
            events, found = _end_and_hash(opened, seq)
    else:
        events, found = 0, ""
    return None if found == digest else OlderJournal(head=(seq, digest), recorded=moment, events=events)


def note_head(instance: Instance, head: tuple[int, str]) -> None:
    """Record the head of the journal that a run writes, where there is an audit log with its key.

    The caller knows that this journal has the last recorded head. That one is not recorded again. Raises VaultError.
    """
    recorded = _last_head(instance)
    if head[0] and _has_key(instance) and (recorded is None or head != recorded[0]):
        _record(instance, NOTED, head)


def accept_head(instance: Instance, actor: str = "") -> tuple[int, str]:
    """Record the head of the journal as it is now as accepted, and return it; its whole chain is verified before.

    `actor`: who accepts it, by default the user and the program. Raises VaultError, and JournalError for a broken
    chain.
    """
    head = START
    if integrity.journal_exists(instance.journal):
        with closing(read_journal(instance.journal)) as journal:
            head = journal.verify(chain_key(instance))
    _record(instance, ACCEPTED, head, actor)
    return head


def _has_key(instance: Instance) -> bool:
    with _audit_key(instance) as root:
        return root is not None


@contextmanager
def _audit_key(instance: Instance) -> Iterator[RootKey | None]:
    # The key of the audit log, None where one of the two is missing; wiped at the end.
    if not filesystem.is_present(audit_log.log_path(instance)):
        yield None
        return
    root = open_instance_vault(instance, DeploymentSettings(), ready=False).store.key(AUDIT)
    try:
        yield root
    finally:
        if root is not None:
            root.wipe()


def _record(instance: Instance, action: AuditAction, head: tuple[int, str], actor: str = "") -> None:
    opened = open_instance_vault(instance, DeploymentSettings(), ready=False, actor=actor)
    opened.note(action, JOURNAL, f"{_HEAD}{head[0]}:{head[1]}")


def _last_head(instance: Instance) -> tuple[tuple[int, str], datetime] | None:
    # The last head in the audit log, and when it was recorded.
    with _audit_key(instance) as root:
        entry = None if root is None else audit_log.last_entry(audit_log.log_path(instance), root, _is_head)
    if entry is None:
        return None
    count, _, digest = entry.outcome.removeprefix(_HEAD).partition(":")
    return (int(count), digest), entry.utc


def _is_head(entry: AuditLogEntry) -> bool:
    return entry.category == JOURNAL and entry.action in {NOTED, ACCEPTED}


def _end_and_hash(journal: Journal, seq: int) -> tuple[int, str]:
    # The number of events, and the hash of the event of this number; "" where there is none.
    event = next(journal.events(seq - 1), None)
    return journal.head[0], "" if event is None else event.hash
