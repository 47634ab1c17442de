"""Checks of an instance without a network: keys, files, plugins, logs, the page's certificate, and the machine.

Of the files: who can change them, plaintext, ignore files, and what git tracks.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts.setting import DeclaredConfig
from tbot_core.errors import AccessError, JournalError, TbotError, VaultError
from tbot_core.execution import corporate_actions
from tbot_core.instance import index_funds, journal_chain
from tbot_core.instance.enabled_plugins import plugins_enabled
from tbot_core.instance.findings import Level, SettingsFinding
from tbot_core.instance.folder import IGNORE_FILES, RECORDS, Instance
from tbot_core.instance.identity import Identity, read_identity
from tbot_core.instance.journal_chain import chain_key
from tbot_core.instance.secret_paths import SecretPaths
from tbot_core.instance.secret_schemas import NetworkConfig, secret_rules
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.instance.sources import SettingsFiles, deployment_of
from tbot_core.journal import integrity
from tbot_core.journal.store import NO_ROOM_BYTES, ChainKey, read_journal
from tbot_core.model.formatting import plural
from tbot_core.plugins import discovery, lock
from tbot_core.system import environ, filesystem, processes, secure_files
from tbot_core.system.filesystem import MOUNTS, NETWORKS, file_system
from tbot_core.vault import audit_log, categories
from tbot_core.vault.audit_log import log_path

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from cryptography.x509 import Certificate

    from tbot_core.journal.store import ChainKey
    from tbot_core.vault.vault import CategoryStatus, Vault

_LOW_BYTES: Final = 500_000_000
BACKUP_DAYS: Final = 30
OF_SETTINGS: Final = frozenset({"secrets", "identity", "plugins", "folders"})
"""The subjects of the checks that depend on the settings."""

APPROVAL: Final = "Review the enabled plugins, then approve them with `tbot plugins lock`."
"""The remedy for plugins that are not as approved."""

_SQLITE: Final = (3, 37, 0)
_SKEW_S: Final = 60.0
_YOUNG_S: Final = 86_400.0
_SOURCES: Final = {"env": "env", "env_bot": "bot"}
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
_SOON: Final = timedelta(days=21)
_LIMIT_BYTES: Final = 100_000
_GIT_S: Final = 2.0
_EXPOSED: Final[Mapping[filesystem.Exposure, tuple[str, str]]] = {
    "owner": ("{name} belongs to another user.", "chown {name} to the user who runs tbot."),
    "mode": ("Other users may write to {name}.", "chmod go-w {name}"),
}


@attrs.frozen(kw_only=True)
class PreflightFinding:
    """A finding: level, subject, sentence, remedy, and the exit code if it fails.

    `refused_live`: it is a warning on paper alone, and a failure in live trading.
    """

    level: Level
    subject: str
    message: str
    remedy: str = ""
    exit_code: int = 3
    refused_live: bool = False

    def __str__(self) -> str:
        """The sentence with its remedy."""
        return f"{self.message} {self.remedy}".rstrip()

    @property
    def document(self) -> dict[str, object]:
        """The finding for JSON."""
        return {"level": self.level, "subject": self.subject, "message": self.message, "remedy": self.remedy}


@attrs.frozen(kw_only=True)
class PreflightSubject:
    """The instance to check: its settings files as read, the time, and its plugins.

    `declared` are the loaded ones, whose secrets must be there, `installed` the (kind, name) of all.
    """

    instance: Instance
    sources: SettingsFiles
    now: datetime
    strict: bool = False
    allow_shared_key: bool = False
    declared: tuple[DeclaredConfig, ...] = ()
    installed: frozenset[tuple[str, str]] = frozenset()

    def vault(self) -> Vault:
        """The instance's vault."""
        return open_instance_vault(self.instance, deployment_of(self.sources.env.parsed), live=self.strict, ready=False)


def preflight_findings(
    subject: PreflightSubject, topics: Collection[str] | None = None
) -> tuple[PreflightFinding, ...]:
    """Return every finding in the order of a start; faults are returned, not raised.

    `topics` names the checks that are made, by the subject of their findings; None makes all.
    """
    findings: list[PreflightFinding] = []
    for about, check in (
        ("secrets", _secrets),
        ("files", _exposure_findings),
        ("files", plaintext_findings),
        ("files", ignore_file_findings),
        ("files", tracked_findings),
        ("identity", _identity),
        ("network", _network),
        ("plugins", _plugins),
        ("audit", _audit),
        ("journal", _journal),
        ("splits", _splits),
        ("index funds", _index_funds),
        ("folders", _folders),
        ("machine", _machine),
        ("backup", _backup),
    ):
        if topics is not None and about not in topics:
            continue
        try:
            findings += check(subject)
        except TbotError as fault:
            findings.append(
                PreflightFinding(
                    level="fail",
                    subject=about,
                    message=fault.message,
                    remedy=fault.remedy,
                    exit_code=fault.exit_code,
                )
            )
    return tuple(findings)


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


def certificate_findings(instance: Instance, network: NetworkConfig, now: datetime) -> Iterator[SettingsFinding]:
    """Check the certificate and the key that the network configuration names."""
    if network.certificate is None and network.private_key is None:
        if network.public or not _is_loopback(network.host):
            yield _fail(f"The web page would listen on {network.host} for other machines without TLS.")
        return
    if network.certificate is None or network.private_key is None:
        yield _fail("The network configuration names only one of certificate and private_key.")
        return
    try:
        certificate = _certificate(instance.path(network.certificate))
        yield from _key(instance, network.private_key, certificate)
    except (AccessError, ValueError) as fault:
        words = fault.message if isinstance(fault, AccessError) else str(fault)
        yield _fail(f"The certificate or its key cannot be used: {words}")
        return
    yield _term(network.certificate, certificate, now)


def _exposure_findings(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    # Folders and files that another user could change, and by which trading is decided: live trading refuses them.
    # They are the instance, its control folder, its records, the files of the journal, the audit log, and settings in
    # plaintext. Keys, encrypted files and plugins.lock are judged where they are read.
    instance = subject.instance
    control = instance.path(deployment_of(subject.sources.env.parsed).control_dir)
    plain = [file.path for file in subject.sources.both if file.plain]
    records = [*(instance.path(name) for name in RECORDS), *integrity.journal_files(instance.journal)]
    for path in dict.fromkeys((instance.home, control, *records, log_path(instance), *plain)):
        exposure = filesystem.write_exposure(path) if filesystem.exists(path) else None
        if exposure is not None:
            message, remedy = (words.format(name=path) for words in _EXPOSED[exposure])
            level: Level = "fail" if subject.strict else "warn"
            yield PreflightFinding(level=level, subject="files", message=message, remedy=remedy, refused_live=True)


def plaintext_findings(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    """Plaintext settings and secrets. Both forms of a file are a warning when loading settings, but a fault here."""
    for source in subject.sources.both:
        if source.plain and source.sealed:
            sentence = f"The plaintext {source.name} is stored beside {source.active_name}."
            yield PreflightFinding(level="fail", subject="files", message=sentence, remedy=f"Remove {source.name}.")
        elif source.plain and source is subject.sources.bot:
            sentence = f"{source.name} is plaintext: allowed for paper and replay, refused in live trading."
            yield PreflightFinding(
                level="warn", subject="files", message=sentence, remedy="`tbot config encrypt` encrypts it."
            )
    paths = _paths(subject)
    for path in paths.plaintext_of_secrets():
        yield PreflightFinding(
            level="fail",
            subject="files",
            message=f"{_shown(subject, path)} is a plaintext file of secrets.",
            remedy="Enter its values with `tbot secrets set`; then remove it.",
        )
    for path in paths.copies_of_keys():
        yield PreflightFinding(
            level="fail",
            subject="files",
            message=f"{_shown(subject, path)} is a copy of a key.",
            remedy="Remove it, and keep copies of keys on another machine: `tbot secrets backup` makes one.",
        )
    for path in paths.leftovers():
        yield PreflightFinding(
            level="warn",
            subject="files",
            message=f"{_shown(subject, path)} is left from a write that was interrupted.",
            remedy="The next write of a secret removes it.",
        )


def ignore_file_findings(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    """What the ignore files of git and scp do not exclude."""
    for name in IGNORE_FILES:
        path = subject.instance.path(name)
        lines = set(filesystem.read_text(path).splitlines()) if filesystem.exists(path) else set()
        missing = [] if "*" in lines else [line for line in _paths(subject).ignored() if line not in lines]
        if missing:
            sentence = f"{name} does not exclude {', '.join(missing)}."
            yield PreflightFinding(
                level="warn", subject="files", message=sentence, remedy=f"Add these lines to {name}."
            )


def tracked_findings(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    """Keys and secrets known to git: they are in every clone, forever."""
    paths = _paths(subject)
    for folder in paths.folders():
        if not any(filesystem.exists(one / ".git") for one in (folder, *folder.parents)):
            continue
        names, fault = _tracked(folder)
        for path in paths.secrets_among(folder / name for name in names):
            shown = _shown(subject, path)
            remedy = f"git rm --cached {shown}, and create new keys and credentials: they are in the history."
            yield PreflightFinding(level="fail", subject="files", message=f"git tracks {shown}.", remedy=remedy)
        if fault:
            message = f"git does not say what it tracks in {folder}: {fault}."
            remedy = "Make `git ls-files` work there, so that tracked keys are found."
            yield PreflightFinding(level="warn", subject="files", message=message, remedy=remedy)


def _secrets(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    # Categories that other checks open are not opened again.
    opened, sources = subject.vault(), subject.sources
    before = {"bot_identity", "network", *(name for name, it in _SOURCES.items() if getattr(sources, it).sealed)}
    statuses = opened.status()
    faults = [file.fault for file in sources.both if isinstance(file.fault, VaultError)]
    rules = secret_rules(subject.declared, subject.installed, required=True)
    faults += opened.verify(rules.fields, without=before, required=rules.required)
    faults += [fault for it in statuses for fault in it.faults]
    for fault in _merged({error.message: error for error in faults}.values()):
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
    for code, errors in modes.items():
        if len(errors) == 1:
            yield errors[0]
            continue
        names = ", ".join(dict.fromkeys(error.message.split()[1].rstrip(":") for error in errors))
        paths = " ".join(dict.fromkeys(error.remedy.rpartition(" ")[2] for error in errors))
        command = errors[0].remedy.rpartition(" ")[0]
        yield VaultError(f"{code} {names}: {_LOOSE[code]}.", f"{command} {paths}", code=code)


def _category_finding(status: CategoryStatus) -> Iterator[PreflightFinding]:
    if "file" in status.missing or status.format is None:
        return
    sentence = f"{status.category}: {status.file}, {status.format}, key {status.key_id or 'unknown'}."
    yield PreflightFinding(level="ok", subject="secrets", message=sentence)


def _identity(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    identity = read_identity(subject.instance, deployment_of(subject.sources.env.parsed), live=subject.strict)
    if identity is None:
        sentence = "The bot has no identity: allowed for paper and replay, refused in live trading."
        yield PreflightFinding(
            level="warn", subject="identity", message=sentence, remedy="`tbot secrets set bot_identity` sets it."
        )
    else:
        broker = subject.sources.known_texts().get("BROKER_NAME")
        named = Identity.proposed(broker, identity.bot_id).broker if broker else identity.broker
        if named != identity.broker:
            yield PreflightFinding(
                level="warn",
                subject="identity",
                message=f"The bot is {identity.text}: its part for the broker is {identity.broker},"
                f" BROKER_NAME is {broker}.",
                remedy=f"`tbot secrets set bot_identity` sets another one, with {named}; or correct BROKER_NAME.",
            )
            return
        yield PreflightFinding(level="ok", subject="identity", message=f"The bot is {identity.text}.")


def _network(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    opened = subject.vault()
    if opened.store.has_file("network"):
        for finding in certificate_findings(subject.instance, opened.read_as(NetworkConfig, "network"), subject.now):
            remedy = (
                ""
                if finding.level == "ok"
                else "`tbot secrets edit network` sets other files, or a listen address of 127.0.0.1."
            )
            yield PreflightFinding(level=finding.level, subject="network", message=finding.message, remedy=remedy)


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
    stored = [one for place in places for one in (place.key, place.file) if filesystem.exists(one)]
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
    if (older := journal_chain.older_journal(subject.instance)) is not None:
        yield PreflightFinding(level="warn", subject="journal", message=older.sentence, remedy=journal_chain.REMEDY)
    runs = (
        [entry for entry in filesystem.entries(folder) if entry.suffix == ".sqlite"]
        if filesystem.is_folder(folder)
        else []
    )
    if integrity.journal_exists(path):
        key = chain_key(subject.instance, live=subject.strict)
        yield PreflightFinding(
            level="ok", subject="journal", message=f"The journal is intact: {_verified(path, key)} events."
        )
    elif not runs:
        yield PreflightFinding(level="ok", subject="journal", message="Nothing has been traded here yet.")
    intact = 0
    for run in runs:
        try:
            _verified(run)
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


def _index_funds(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    # The operator's table of index funds, if there is one; an unreadable one is a fault.
    path = subject.instance.table(index_funds.NAME)
    try:
        table = index_funds.read_fund_table(path)
    except TbotError as fault:
        yield PreflightFinding(
            level="fail", subject="index funds", message=fault.message, remedy=fault.remedy, exit_code=3
        )
        return
    if table is not None:
        words = (
            f"{plural(sum(map(len, table.values())), 'fund')} of {plural(len(table), 'index', 'indexes')} in {path}."
        )
        yield PreflightFinding(level="ok", subject="index funds", message=words)


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
        level="fail" if free < NO_ROOM_BYTES else "warn" if free < _LOW_BYTES else "ok",
        subject="machine",
        message=f"{free / 1e9:,.1f} GB are free.",
        remedy="" if free >= _LOW_BYTES else "Free some space.",
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


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _certificate(path: Path) -> Certificate:
    # The first certificate of the chain; raises ValueError if invalid, AccessError if unreadable.
    from cryptography.x509 import load_pem_x509_certificates

    if filesystem.is_endless(path):
        raise ValueError("the certificate is not a regular file.")
    try:
        return load_pem_x509_certificates(filesystem.read_bytes(path, limit=_LIMIT_BYTES))[0]
    except ValueError:
        raise ValueError("the certificate is not in PEM.") from None


def _key(instance: Instance, path: str, certificate: Certificate) -> Iterator[SettingsFinding]:
    # Raises ValueError for an invalid key, or the key of another certificate.
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    content = secure_files.read(instance.path(path), limit=_LIMIT_BYTES, strict=False)
    with content.data as text:
        try:
            public = load_pem_private_key(bytes(text.view), password=None).public_key()
        except (TypeError, ValueError):
            raise ValueError("the key is not in PEM, or has a passphrase.") from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if public.public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise ValueError("the key belongs to another certificate.")
    if content.flaws:
        yield SettingsFinding(level="warn", message=f"Other users may read or replace {path}: chmod 600 {path}")


def _term(path: str, certificate: Certificate, now: datetime) -> SettingsFinding:
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not first <= now <= last:
        return _fail(f"{path} is only valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}.")
    if last - now < _SOON:
        return SettingsFinding(level="warn", message=f"{path} is valid until {last:%Y-%m-%d}: renew it.")
    return SettingsFinding(level="ok", message=f"{path} is valid until {last:%Y-%m-%d}.")


def _fail(sentence: str) -> SettingsFinding:
    return SettingsFinding(level="fail", message=sentence)


def _paths(subject: PreflightSubject) -> SecretPaths:
    return SecretPaths(subject.instance, deployment_of(subject.sources.env.parsed))


def _shown(subject: PreflightSubject, path: Path) -> Path:
    home = subject.instance.home
    return path.relative_to(home) if path.is_relative_to(home) else path


def _tracked(folder: Path) -> tuple[list[str], str]:
    # The files below the folder in git's index, and why they are unknown. A repository of another user is read too, and
    # no program that its configuration names is started.
    args = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C", str(folder), "ls-files", "-z"]
    try:
        done = processes.run_program(args, timeout_s=_GIT_S, environment=environ.minimal_environment())
    except AccessError as fault:
        return [], fault.message.removesuffix(".")
    if done.code:  # negative where it did not answer in time
        return [], (done.errors.splitlines() or [f"exit code {done.code}"])[0].removesuffix(".")
    return [name for name in done.output.split("\0") if name], ""
