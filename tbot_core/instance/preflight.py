"""Checks of an instance without a network: keys, files, plugins, logs, and the machine."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from tbot_core.errors import JournalError, TbotError, VaultError
from tbot_core.execution import corporate_actions
from tbot_core.instance import journal_head, stored_files
from tbot_core.instance.certificate import certificate_findings
from tbot_core.instance.enabled_plugins import plugins_enabled
from tbot_core.instance.identity import Identity, read_identity
from tbot_core.instance.journal_key import chain_key
from tbot_core.instance.preflight_subject import PreflightFinding, PreflightSubject
from tbot_core.instance.secret_schemas import NetworkConfig, secret_rules
from tbot_core.instance.sources import deployment_of
from tbot_core.journal import integrity
from tbot_core.journal.store import NO_ROOM_BYTES, ChainKey, read_journal
from tbot_core.model.formatting import plural
from tbot_core.plugins import discovery, lock
from tbot_core.system import filesystem
from tbot_core.system.filesystem import MOUNTS, NETWORKS, file_system
from tbot_core.vault import audit_log, categories

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from tbot_core.instance.findings import Level
    from tbot_core.instance.folder import Instance
    from tbot_core.vault.vault import CategoryStatus, Vault


LOW_BYTES: Final = 500_000_000
BACKUP_DAYS: Final = 30
OF_SETTINGS: Final = frozenset({"secrets", "identity", "plugins", "folders"})
"""The subjects of the checks that depend on the settings."""

APPROVAL: Final = "Review the enabled plugins, then approve them with `tbot plugins lock`."
"""The remedy for plugins that are not as approved."""

_SQLITE: Final = (3, 37, 0)
_SKEW_S: Final = 60.0
_YOUNG_S: Final = 86_400.0
_SOURCES: Final = {"env": "env", "env_bot": "bot"}


def preflight_findings(
    subject: PreflightSubject, topics: Collection[str] | None = None
) -> tuple[PreflightFinding, ...]:
    """Return every finding in the order of a start; faults are returned, not raised.

    `topics` names the checks that are made, by the subject of their findings; None makes all.
    """
    found: list[PreflightFinding] = []
    for about, check in (
        ("secrets", _secrets),
        ("files", stored_files.exposure_findings),
        ("files", stored_files.plaintext_findings),
        ("files", stored_files.ignore_file_findings),
        ("files", stored_files.tracked_findings),
        ("identity", _identity),
        ("network", _network),
        ("plugins", _plugins),
        ("audit", _audit),
        ("journal", _journal),
        ("splits", _splits),
        ("folders", _folders),
        ("machine", _machine),
        ("backup", _backup),
    ):
        if topics is not None and about not in topics:
            continue
        try:
            found += check(subject)
        except TbotError as fault:
            found.append(
                PreflightFinding(
                    level="fail",
                    subject=about,
                    message=fault.message,
                    remedy=fault.remedy,
                    exit_code=fault.exit_code,
                )
            )
    return tuple(found)


def _secrets(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    # Categories that other checks open are not opened again.
    opened, sources = subject.vault(), subject.sources
    before = {"bot_identity", "network", *(name for name, it in _SOURCES.items() if getattr(sources, it).sealed)}
    statuses = opened.status()
    faults = [it.fault for it in sources.both if isinstance(it.fault, VaultError)]
    rules = secret_rules(subject.declared, subject.installed, required=True)
    faults += opened.verify(rules.fields, without=before, required=rules.required)
    faults += [fault for it in statuses for fault in it.faults]
    for fault in _merged({it.message: it for it in faults}.values()):
        allowed = fault.code == _SHARED and subject.allow_shared_key
        loose = fault.code in _LOOSE
        level: Level = "warn" if allowed or (loose and not subject.strict) else "fail"
        yield PreflightFinding(
            level=level, subject="secrets", message=fault.message, remedy=fault.remedy, refused_live=loose
        )
    for status in statuses:
        yield from _category_finding(status)


def _merged(faults: Iterable[VaultError]) -> Iterator[VaultError]:
    # The faults; those of modes that several categories share as one, with all paths in its remedy.
    modes: dict[str, list[VaultError]] = {}
    for fault in faults:
        if fault.code in _LOOSE:
            modes.setdefault(fault.code, []).append(fault)
        else:
            yield fault
    for code, found in modes.items():
        if len(found) == 1:
            yield found[0]
            continue
        names = ", ".join(dict.fromkeys(it.message.split()[1].rstrip(":") for it in found))
        paths = " ".join(dict.fromkeys(it.remedy.rpartition(" ")[2] for it in found))
        command = found[0].remedy.rpartition(" ")[0]
        yield VaultError(f"{code} {names}: {_LOOSE[code]}.", f"{command} {paths}", code=code)


def _category_finding(status: CategoryStatus) -> Iterator[PreflightFinding]:
    if "file" in status.missing or status.format is None:
        return
    sentence = f"{status.category}: {status.file}, {status.format}, key {status.key_id or 'unknown'}."
    yield PreflightFinding(level="ok", subject="secrets", message=sentence)


def _identity(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    found = read_identity(subject.instance, deployment_of(subject.sources.env.parsed), live=subject.strict)
    if found is None:
        sentence = "The bot has no identity: allowed for paper and replay, refused in live trading."
        yield PreflightFinding(
            level="warn", subject="identity", message=sentence, remedy="`tbot secrets set bot_identity` sets it."
        )
    else:
        broker = subject.sources.known_texts().get("BROKER_NAME")
        named = Identity.proposed(broker, found.bot_id).broker if broker else found.broker
        if named != found.broker:
            yield PreflightFinding(
                level="warn",
                subject="identity",
                message=f"The bot is {found.text}: its part for the broker is {found.broker}, BROKER_NAME is {broker}.",
                remedy=f"`tbot secrets set bot_identity` sets another one, with {named}; or correct BROKER_NAME.",
            )
            return
        yield PreflightFinding(level="ok", subject="identity", message=f"The bot is {found.text}.")


def _network(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    opened = subject.vault()
    if opened.store.has_file("network"):
        for one in certificate_findings(subject.instance, opened.read_as(NetworkConfig, "network"), subject.now):
            remedy = (
                ""
                if one.level == "ok"
                else "`tbot secrets edit network` sets other files, or a listen address of 127.0.0.1."
            )
            yield PreflightFinding(level=one.level, subject="network", message=one.message, remedy=remedy)


def _plugins(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    listings = discovery.mark_enabled(discovery.installed_plugins(), plugins_enabled(subject.sources.known_texts()))
    objections = lock.lock_objections(subject.instance.home, listings)
    for sentence in objections:
        yield PreflightFinding(
            level="fail" if subject.strict else "warn",
            subject="plugins",
            message=sentence,
            remedy=APPROVAL,
            refused_live=True,
        )
    if not objections:
        yield PreflightFinding(level="ok", subject="plugins", message="Every enabled plugin matches plugins.lock.")


def _audit(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    path, opened = audit_log.log_path(subject.instance), subject.vault()
    yield from _young_audit(opened, path)
    if not filesystem.is_present(path):
        yield PreflightFinding(level="ok", subject="audit", message="No secret has been opened here yet.")
        return
    anchor = audit_log.AuditLog(store=opened.store, actor="").verify()
    yield PreflightFinding(level="ok", subject="audit", message=f"The audit log is intact: {anchor.count} lines.")
    last = max(line.utc for line in audit_log.log_entries(path))
    if (last - subject.now).total_seconds() > _SKEW_S:
        sentence = (
            f"The clock shows {subject.now:%Y-%m-%d %H:%M}, but the audit log has a line of {last:%Y-%m-%d %H:%M}."
        )
        yield PreflightFinding(level="fail", subject="machine", message=sentence, remedy="Set the clock.", exit_code=1)


def _young_audit(opened: Vault, path: Path) -> Iterator[PreflightFinding]:
    # A log that was removed begins anew with the next access; the files that it was about are older.
    store = opened.store
    places = [store.place(name) for name in categories.CATEGORIES]
    stored = [one for it in places for one in (it.key, it.file) if filesystem.exists(one)]
    first = next(audit_log.log_entries(path), None)
    oldest = min(map(filesystem.modified, stored), default=None)
    if oldest is None or (first is not None and first.utc.timestamp() - oldest <= _YOUNG_S):
        return
    since = datetime.fromtimestamp(oldest, UTC)
    begins = "is missing" if first is None else f"begins only on {first.utc:%Y-%m-%d %H:%M}"
    yield PreflightFinding(
        level="warn",
        subject="audit",
        message=f"The audit log {begins}, but there are keys and secrets since {since:%Y-%m-%d %H:%M}.",
        remedy="Compare with the anchors in collected logs (`chain.heads`). If the files came from an older program, "
        "`tbot secrets rotate` renews the keys.",
    )


def _journal(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    # The journal of paper and live trading must be valid; an invalid one of a simulation does not prevent trading.
    path, folder = subject.instance.journal, subject.instance.runs
    if (older := journal_head.older_journal(subject.instance)) is not None:
        yield PreflightFinding(level="warn", subject="journal", message=older.sentence, remedy=journal_head.REMEDY)
    runs = (
        [one for one in filesystem.entries(folder) if one.suffix == ".sqlite"] if filesystem.is_folder(folder) else []
    )
    if integrity.journal_exists(path):
        key = chain_key(subject.instance, live=subject.strict)
        yield PreflightFinding(
            level="ok", subject="journal", message=f"The journal is intact: {_verified(path, key)} events."
        )
    elif not runs:
        yield PreflightFinding(level="ok", subject="journal", message="Nothing has been traded here yet.")
    intact = 0
    for one in runs:
        try:
            _verified(one)
        except JournalError as fault:
            remedy = "Remove it: the same command records it again."
            yield PreflightFinding(level="warn", subject="journal", message=fault.message, remedy=remedy)
        else:
            intact += 1
    if intact:
        yield PreflightFinding(
            level="ok", subject="journal", message=f"{plural(intact, 'journal')} of simulated runs verified."
        )


def _verified(path: Path, key: ChainKey | None = None) -> int:
    # The number of events in a verified journal.
    journal = read_journal(path)
    try:
        return journal.verify(key)[0]
    finally:
        journal.close()


def _splits(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    # The operator's list of splits, if there is one; an unreadable one is a fault.
    path = subject.instance.data / corporate_actions.NAME
    try:
        found = corporate_actions.read_splits(path)
    except TbotError as fault:
        yield PreflightFinding(level="fail", subject="splits", message=fault.message, remedy=fault.remedy, exit_code=3)
        return
    if found:
        last = found[-1]
        words = f"{len(found)} in {path}, the last of {last.symbol} on {last.day}."
        yield PreflightFinding(level="ok", subject="splits", message=words)


def _folders(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    # Keys and settings may be on a read-only disk, the folders that a run writes to may not.
    instance = subject.instance
    control = instance.path(deployment_of(subject.sources.env.parsed).control_dir)
    closed = [
        folder
        for folder in (instance.data, control, instance.logs, instance.path("backups"), instance.reports)
        if not filesystem.is_writable_folder(folder)
    ]
    for folder in closed:
        yield PreflightFinding(
            level="fail",
            subject="folders",
            message=f"{folder} cannot be written to.",
            remedy="It must be a folder that this user may write to, on a disk that is not read-only.",
            exit_code=1,
        )
    if not closed:
        yield PreflightFinding(
            level="ok", subject="folders", message="Every folder that a run needs can be written to."
        )


def _machine(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    good = sqlite3.sqlite_version_info >= _SQLITE
    yield PreflightFinding(
        level="ok" if good else "fail",
        subject="machine",
        message=f"SQLite is {sqlite3.sqlite_version}; one process writes, so its WAL is safe.",
        remedy="" if good else "SQLite 3.37 or newer is needed.",
        exit_code=1,
    )
    yield from local_disk_findings(subject.instance)
    free = filesystem.free_bytes(subject.instance.home)
    yield PreflightFinding(
        level="fail" if free < NO_ROOM_BYTES else "warn" if free < LOW_BYTES else "ok",
        subject="machine",
        message=f"{free / 1e9:,.1f} GB are free.",
        remedy="" if free >= LOW_BYTES else "Free some space.",
        exit_code=1,
    )


def local_disk_findings(instance: Instance, mounts: Path = MOUNTS) -> Iterator[PreflightFinding]:
    """A finding if the instance is on a network file system, where locks and the WAL are unsafe."""
    kind = file_system(instance.home, mounts=mounts)
    if kind in NETWORKS:
        yield PreflightFinding(
            level="fail",
            subject="machine",
            message=f"{instance.home} is on a network file system ({kind}), where a journal is not safe.",
            remedy="Move the instance to a local disk.",
            exit_code=1,
        )


def _backup(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    # The instance does not know where backups are; its audit log records that one was written and verified.
    moment = audit_log.last_backup(audit_log.log_path(subject.instance))
    remedy = "`tbot secrets backup` creates one; keep it on another machine."
    if moment is None:
        level: Level = "warn" if _is_irreplaceable(subject) else "ok"
        sentence = "The secrets have no backup." if level == "warn" else _NO_BACKUP
        yield PreflightFinding(level=level, subject="backup", message=sentence, remedy=remedy)
        return
    days = (subject.now - moment).days
    old = days > BACKUP_DAYS
    sentence = f"The last backup of the secrets is {days} days old."
    yield PreflightFinding(
        level="warn" if old else "ok", subject="backup", message=sentence, remedy=remedy if old else ""
    )


def _is_irreplaceable(subject: PreflightSubject) -> bool:
    # Whether a person entered something, or the journal has events, whose chain needs the key of the audit log.
    store, path = subject.vault().store, subject.instance.journal
    if any(store.has_file(name) for name in categories.CATEGORIES if name not in _MADE_BY_INIT):
        return True
    if not integrity.journal_exists(path):
        return False
    try:
        with closing(read_journal(path)) as journal:
            return next(iter(journal.events()), None) is not None
    except JournalError:
        return True


_MADE_BY_INIT: Final = frozenset({"env", "env_bot", "bot_identity"})
_NO_BACKUP: Final = "There is no backup yet: the instance holds no credentials and has not traded."

_LOOSE: Final = {
    "TB-SEC-029": "other users may read or write their key files",
    "TB-SEC-030": "other users may enter the folder of their key files",
    "TB-SEC-059": "other users may read or write their files",
    "TB-SEC-060": "other users may replace their files",
}
"""Modes that live trading refuses; other runs warn."""

_SHARED: Final = "TB-SEC-038"
