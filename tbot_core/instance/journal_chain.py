"""The hash chain of the instance's journal: its key, and its head in the audit log.

The key is derived from that of the audit log, where there is one. One line of the audit log says from which event on
the chain is keyed, so a chain that was written anew without the key is refused. The first such line counts, and it must
be authentic; without it the journal is not used.

The head shows that an older copy took the journal's place. A trading run records it at its start, every hour and at its
end, as its own writes left it and after they are on disk: it is never newer than the journal, and it is not that of a
file which took the journal's place meanwhile. A journal that goes on from its head is as it should be. Without a key of
the audit log nothing is recorded or judged.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance.journal_key_start import note_switch, read_switch
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.journal import integrity
from tbot_core.journal.store import START, ChainKey, Journal, is_keyed, open_journal, read_journal, verify_all_events
from tbot_core.model.formatting import plural
from tbot_core.system import filesystem
from tbot_core.vault import audit_log, categories, keys
from tbot_core.vault.categories import AUDIT, JOURNAL
from tbot_core.vault.error_codes import VaultErrorCode, vault_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.errors import VaultError
    from tbot_core.instance.folder import Instance
    from tbot_core.vault.audit_log import AuditLogEntry
    from tbot_core.vault.keys import RootKey
    from tbot_core.vault.vault import AuditAction, Vault

_LABEL: Final = b"tbot journal v1"
NOTED: Final[AuditAction] = "anchor"
"""The action of a line that a run writes."""

# The action of a line by which a person accepts a journal; from then on its head counts.
_ACCEPTED: Final[AuditAction] = "accept"

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


def open_instance_journal(instance: Instance, *, live: bool = False) -> Journal:
    """Open the journal of paper and live trading for writing; its new events get keyed hashes if there is a key.

    The whole chain is verified, about a second for 100,000 events. `live` refuses loose modes of the key file. Raises
    JournalError and VaultError.
    """
    filesystem.make_folder(instance.data)
    opened = _vault(instance, live=live)
    key = _key(instance, opened)
    journal = open_journal(instance.journal, key=key)
    try:
        if key is not None and key.since is None:
            _begin_chain(opened, journal)
        verify_all_events(journal, key)
    except BaseException:
        journal.close()
        raise
    return journal


def chain_key(instance: Instance, *, live: bool = False) -> ChainKey | None:
    """The key with which the instance's journal is verified; None without one.

    Raises VaultError, also when the audit log does not say from which event on the journal is keyed.
    """
    opened = _vault(instance, live=live)
    key = _key(instance, opened)
    if key is not None and key.since is None:
        raise _fault(opened, VaultErrorCode.AUDIT_JOURNAL_UNSAID)
    return key


def accept_journal(instance: Instance) -> tuple[int, bool]:
    """Record in the audit log from which event on the chain of the journal, as it is now, is keyed.

    Returns the event, and whether that was recorded now. The chain is verified before. Where the log says it already,
    nothing is recorded. Raises VaultError, JournalError for a chain that is broken, and AccessError while a bot uses
    the instance.
    """
    opened = _vault(instance, live=False)
    root = audit_log.AuditLog(store=opened.store, actor="").key()
    secret = keys.derived_key(root, _LABEL)
    try:
        first = read_switch(instance, root)
        if first is not None:
            return first, False
        with filesystem.hold_lock(instance.lock, folder=instance.home):
            first = _first_keyed(instance, ChainKey(secret=secret))
            note_switch(opened, first)
            return first, True
    finally:
        root.wipe()


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
    _record(instance, _ACCEPTED, head, actor)
    return head


def _begin_chain(opened: Vault, journal: Journal) -> None:
    # An empty journal is keyed from its first event on; about one with events the log has to say it already.
    if journal.head[0]:
        raise _fault(opened, VaultErrorCode.AUDIT_JOURNAL_UNSAID)
    note_switch(opened, 1)


def _first_keyed(instance: Instance, key: ChainKey) -> int:
    # The first event with a keyed hash, else the next event, of a journal whose chain is whole.
    if not integrity.journal_exists(instance.journal):
        return 1
    with closing(read_journal(instance.journal)) as journal:
        journal.verify(key)
        return next((event.seq for event in journal.events() if is_keyed(event.hash)), journal.head[0] + 1)


def _vault(instance: Instance, *, live: bool) -> Vault:
    # The path of the audit log's key cannot be set.
    return open_instance_vault(instance, DeploymentSettings(), live=live, ready=False)


def _key(instance: Instance, opened: Vault) -> ChainKey | None:
    # A provider that derives its keys has one before the first access, so then the log may not exist yet.
    logged = filesystem.is_present(audit_log.log_path(instance))
    stored = "put" in opened.store.keys.capabilities
    if not (logged or stored or integrity.journal_exists(instance.journal)):
        return None
    root = opened.store.key(categories.AUDIT)
    if root is None:
        return None
    try:
        if not logged:
            raise _fault(opened, VaultErrorCode.AUDIT_GONE)
        return ChainKey(secret=keys.derived_key(root, _LABEL), since=read_switch(instance, root))
    finally:
        root.wipe()


def _fault(opened: Vault, code: VaultErrorCode) -> VaultError:
    here = opened.store.place(categories.AUDIT)
    return vault_error(code, categories.AUDIT, here.shown(here.file))


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
    return entry.category == JOURNAL and entry.action in {NOTED, _ACCEPTED}


def _end_and_hash(journal: Journal, seq: int) -> tuple[int, str]:
    # The number of events, and the hash of the event of this number; "" where there is none.
    event = next(journal.events(seq - 1), None)
    return journal.head[0], "" if event is None else event.hash
