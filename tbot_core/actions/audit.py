"""The chains of journals and secrets: verifies them, accepts a journal again, and shows the log of accesses."""

from __future__ import annotations

import datetime as dt
import re
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.actions import control_requests
from tbot_core.engine.control import ControlVerb
from tbot_core.errors import JournalError, SettingsError, UsageError, VaultError
from tbot_core.execution.trading_state import recall_states
from tbot_core.instance import Instance, has_settings, journal_chain
from tbot_core.instance.journal_chain import NOTED, accept_journal, chain_key
from tbot_core.journal import integrity
from tbot_core.journal.projections import carryover
from tbot_core.journal.store import read_journal
from tbot_core.model.clock import exchange_moment, exchange_time
from tbot_core.status.runs import PAPER, RunFile, open_run_file, run_files
from tbot_core.system import filesystem
from tbot_core.trading.risk.states import StateCause
from tbot_core.vault.audit_log import AuditAnchor, AuditLogEntry, entries_back, log_path, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tbot_core.journal.store import Journal

_DIGITS: Final = 18
# Rows of a page.
_MOST_ROWS: Final = 200

MOST_BYTES: Final = 1_048_576
"""How much of the log is searched for a page: about 2,500 lines."""

_READS: Final = frozenset({"open", "decrypt"})
_NAMES: Final = re.compile(r"[a-z0-9][a-z0-9._-]*[a-z0-9_-]")


@attrs.frozen(kw_only=True)
class AccessSearch:
    """Which accesses are wanted: a user, a category and a day of New York; empty fits each.

    `user` is a part of the name of who did it, or the whole name of a user whom the result names. Without `reads` what
    was read without a fault is left out, and beginnings, whose end is a line too, and the hourly heads of the journal.
    """

    user: str = ""
    category: str = ""
    day: dt.date | None = None
    reads: bool = False

    def fits(self, entry: AuditLogEntry) -> bool:
        """Whether the access is wanted."""
        return (
            self._is_of_user(entry)
            and self.category in {"", entry.category}
            and self.day in {None, exchange_time(entry.utc).date()}
            and (self.reads or not _is_usual(entry))
        )

    def _is_of_user(self, entry: AuditLogEntry) -> bool:
        user = self.user.casefold()
        return user in entry.actor.casefold() or user in _NAMES.findall(entry.outcome.casefold())


@attrs.frozen(kw_only=True)
class AccessPage:
    """Accesses, the newest first; `older` is where the page of those before ends, None where there are none."""

    rows: tuple[AuditLogEntry, ...] = ()
    older: int | None = None


def audit_document(
    home: Path | None, journal_head: AuditAnchor | None = None, secrets_head: AuditAnchor | None = None
) -> dict[str, Any]:
    """Whether the chains are intact, as a JSON document: a row for each journal, and that of the secrets log or None.

    The heads are earlier ones, which prove that nothing before them was cut off or replaced. Raises SettingsError
    without an instance, unless a head is given: then what is absent was there.
    """
    if journal_head is None and secrets_head is None:
        _instance(home)
    rows, secrets = _verify_journals(home, journal_head), _verify_secrets_log(home, secrets_head)
    intact = all(row["verified"] for row in (*rows, *secrets))
    return {"journals": rows, "secrets": secrets[0] if secrets else None, "verified": intact}


def lost_events(home: Path | None) -> list[str]:
    """What is known of a journal that is older than its head in the audit log, as lines; empty for any other."""
    older = journal_chain.older_journal(_instance(home))
    return [] if older is None else [older.sentence, journal_chain.REMEDY.partition(", then run")[0] + "."]


def accept_chain(home: Path | None, actor: str = "") -> dict[str, Any]:
    """Accept the journal as it is now, and return what was recorded in the audit log, as a JSON document.

    `keyed_from`: from which event on its chain is keyed. `head`: the accepted head of a journal that was older than the
    recorded one, else None. `pending`: why a running bot does not go on yet, "" if it does or none runs. `actor`: who
    accepts, by default the account's user. Raises SettingsError without an instance.
    """
    instance = _instance(home)
    first, is_new = accept_journal(instance)
    head = journal_chain.accept_head(instance, actor) if journal_chain.older_journal(instance) else None
    text = None if head is None else f"{head[0]}:{head[1]}"
    accepted = is_new or head is not None
    pending = _pass_on(instance, actor) if head is not None or _awaits_acceptance(instance) else ""
    return {"keyed_from": first, "accepted": accepted, "head": text, "pending": pending}


def acceptance_lines(done: Mapping[str, Any]) -> Iterator[str]:
    """What `accept_chain` did, as text."""
    said = "Accepted: the audit log now says" if done["accepted"] else "Nothing to accept: the audit log says already"
    if done["head"] is None:
        yield f"{said} that the chain of the journal is keyed from event {done['keyed_from']} on."
    else:
        count = done["head"].partition(":")[0]
        yield f"Accepted: the audit log now has the journal up to event {count}. Live trading needs a new `tbot arm`."
    if done["pending"]:
        yield done["pending"]


def parse_head(text: str | None) -> AuditAnchor | None:
    """The head of a chain as the log shows it; None without one. Raises UsageError."""
    if text is None:
        return None
    count, _, digest = text.partition(":")
    if not (count.isdecimal() and len(count) <= _DIGITS and int(count) and digest):
        raise UsageError(f"{text[:_DIGITS]} is not a head.", "Give COUNT:HASH as in the line chain.heads of the log.")
    return AuditAnchor(count=int(count), hash=digest)


def _verify_journals(home: Path | None, head: AuditAnchor | None = None) -> list[dict[str, Any]]:
    # Each journal with its number of events and its head hash, or with its fault; the newest first.
    # `head`: an earlier head of the journal of paper and live trading.
    instance, rows = Instance.at(home), list[dict[str, Any]]()
    files = run_files(instance)
    if head is not None and all(file.path != instance.journal for file in files):
        files = [RunFile(name=PAPER, path=instance.journal, changed=0.0), *files]  # its absence is a fault then
    for file in files:
        row = {"run": file.name, "verified": False, "events": None, "head": None, "fault": ""}
        own = file.path == instance.journal
        try:
            with open_run_file(file) as journal:
                events, digest = journal.verify(chain_key(instance) if own else None)
                if own:
                    _assert_recorded_head(instance)
                if own and head is not None:
                    _assert_head(journal, head)
                row |= {"verified": True, "events": events, "head": digest}
        except (JournalError, VaultError) as fault:
            row["fault"] = str(fault)
        rows.append(row)
    return rows


def _verify_secrets_log(home: Path | None, head: AuditAnchor | None = None) -> list[dict[str, Any]]:
    # The secrets audit log as a row like that of a journal; no row where nothing is logged and no head is given.
    instance = Instance.at(home)
    row = {"run": log_path(instance).name, "verified": False, "events": None, "head": None, "fault": ""}
    try:
        anchor = verify_audit_log(instance, () if head is None else (head,))
    except VaultError as fault:
        return [row | {"fault": str(fault)}]
    return [] if anchor is None else [row | {"verified": True, "events": anchor.count, "head": anchor.hash}]


def logged_accesses(home: Path | None, *, verify: bool) -> tuple[tuple[AuditLogEntry, ...], AuditAnchor | None]:
    """All logged accesses, and with `verify` the head of the verified chain. Raises VaultError."""
    from tbot_core.vault.audit_log import log_entries, log_path

    instance = Instance.at(home)
    anchor = verify_audit_log(instance) if verify else None
    return tuple(log_entries(log_path(instance))), anchor


def access_lines(entries: Sequence[AuditLogEntry], anchor: AuditAnchor | None) -> Iterator[str]:
    """The accesses as text; with the head of the chain if it was verified."""
    for entry in entries:
        key = entry.key_id or "-"
        what = f"{entry.action:8} {entry.category:13} {key:16}  {entry.outcome:10} {entry.actor}"
        yield f"{entry.utc:%Y-%m-%d %H:%M:%S}  {what}"
    if not entries:
        yield "No access is logged yet."
    if anchor is not None:
        yield f"The chain of {anchor.count} accesses is intact, head {anchor.hash[:16]}."


def verify_audit_log(instance: Instance, collected: Sequence[AuditAnchor] = ()) -> AuditAnchor | None:
    """The head of the verified log of accesses; None if nothing was logged. Raises VaultError.

    `collected`: anchors that were kept elsewhere.

    The settings are not opened, since that would add lines to the log that is verified.
    """
    from tbot_core.contracts.settings import DeploymentSettings
    from tbot_core.instance.secrets import open_instance_vault
    from tbot_core.vault.audit_log import AuditLog, anchor_path, log_path

    kept = [filesystem.is_present(path) for path in (log_path(instance), anchor_path(instance))]
    if not (collected or any(kept)):
        return None
    store = open_instance_vault(instance, DeploymentSettings(), ready=False).store
    return AuditLog(store=store, actor="").verify(collected)


def access_page(
    home: Path | None, search: AccessSearch, before: int | None = None, most: int = _MOST_ROWS
) -> AccessPage:
    """The latest accesses that fit, or the latest before a place, not verified. Raises VaultError.

    It reads no more than MOST_BYTES, and finds a day by bisection, whatever the size of the log: a page may have fewer
    rows, or none.
    """
    path, ended = log_path(Instance.at(home)), None
    found: list[AuditLogEntry] = []
    if search.day is not None and before is None:
        before = place_of(path, exchange_moment(search.day + dt.timedelta(days=1), dt.time()))
    with closing(entries_back(path, before)) as entries:
        for start, entry in entries:
            if search.day is not None and exchange_time(entry.utc).date() < search.day:
                break
            ended = start if ended is None else ended
            if search.fits(entry):
                found.append(entry)
            if len(found) == most or ended - start >= MOST_BYTES:
                return AccessPage(rows=tuple(found), older=start or None)
    return AccessPage(rows=tuple(found))


def _instance(home: Path | None) -> Instance:
    instance = Instance.at(home)
    if not (has_settings(instance) or filesystem.is_folder(instance.data)):
        raise SettingsError(f"{instance.home} is not an instance.", "Give its folder with --home.")
    return instance


def _awaits_acceptance(instance: Instance) -> bool:
    # Whether the last run is exit-only for an older journal, or was.
    if not integrity.journal_exists(instance.journal):
        return False
    with closing(read_journal(instance.journal)) as journal:
        return StateCause.JOURNAL_OLDER in recall_states(carryover.events_between_sessions(journal)).active


def _pass_on(instance: Instance, actor: str) -> str:
    # Ask a running bot to compare again; a start does by itself.
    if instance.lock_holder is None or filesystem.lock_purpose(instance.lock):
        return ""
    answer = control_requests.request(ControlVerb.ACCEPT_JOURNAL, instance.home, actor=actor)
    return "" if answer.process is None else answer.lost


def _assert_recorded_head(instance: Instance) -> None:
    if (older := journal_chain.older_journal(instance)) is not None:
        raise JournalError(older.sentence, journal_chain.REMEDY)


def _assert_head(journal: Journal, head: AuditAnchor) -> None:
    event = next(journal.events(head.count - 1), None)
    if event is None or event.hash != head.hash:
        raise JournalError(
            f"The journal {journal.path} does not have the event {head.count} of the given head: its end was cut off, "
            "or another journal took its place.",
            "Restore it from a backup, or keep it as evidence.",
        )


def _is_usual(entry: AuditLogEntry) -> bool:
    # What is left out unless asked for: beginnings, readings without a fault, and the hourly heads of the journal.
    read = entry.action in _READS and entry.outcome == "ok"
    return read or entry.outcome == "begun" or entry.action == NOTED
