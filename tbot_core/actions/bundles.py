"""The actions of `tbot secrets export`, `import`, `backup` and `restore`: one file, encrypted with a passphrase."""

from __future__ import annotations

import re
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from tbot_core.actions import discard
from tbot_core.actions.checks import check_outcome
from tbot_core.actions.secrets import category_fields, check_contents, vault_of_home
from tbot_core.errors import UsageError, VaultError
from tbot_core.instance import Instance
from tbot_core.instance.sources import find_instance
from tbot_core.system import environ, filesystem
from tbot_core.vault import key_providers
from tbot_core.vault.bundle import (
    KINDS,
    BundleCipher,
    backup_of,
    backup_settings,
    parse_bundle,
    plaintext_path,
    read_text,
    restore_backup,
    write_backup,
)
from tbot_core.vault.categories import AUDIT, CATEGORIES, ENV_FILE, ENV_KEY_VARIABLE, EVERY, category_paths
from tbot_core.vault.error_codes import VaultErrorCode, vault_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tbot_core.actions import Notify
    from tbot_core.contracts.settings import DeploymentSettings
    from tbot_core.instance.preflight import PreflightFinding
    from tbot_core.system.secret import Secret
    from tbot_core.vault.audit_log import BackupHistory
    from tbot_core.vault.bundle import Backup
    from tbot_core.vault.vault import AuditAction, Vault

FOLDER: Final = "backups"
_SUFFIX: Final = ".tbot"
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][\w.+-]{0,200}\.tbot", re.ASCII)
_DATED: Final = re.compile(r"secrets-(\d{8}T\d{6}Z)\.tbot")
_TIME: Final = "%Y%m%dT%H%M%SZ"
_OUTSIDE: Final = "storage/outside"
_NOT_IN_DRILL: Final = frozenset({"machine", "plugins", "backup"})
"""Checks that do not apply to a restore drill."""


@attrs.frozen(kw_only=True)
class ImportChange:
    """What an import does to a category: the id of its key (empty while it has none) and the changed fields."""

    category: str
    state: Literal["new", "same", "differs"]
    key_id: str
    fields: tuple[str, ...]

    @property
    def line(self) -> str:
        """The change as text."""
        names = "" if self.state == "same" else ", ".join(self.fields)
        return f"{self.category:13} {self.state:8} {self.key_id or '-':16}  {names}".rstrip()


@attrs.frozen(kw_only=True)
class StoredBackup:
    """A file in the folder of backups: when it was written (by its name, else its file), and its size in bytes.

    `drilled` is when it was tried last, and `passed` how that ended; None where it was not. `fault` says why it is no
    backup; "" for one.
    """

    name: str
    made: datetime
    size: int
    id: str = ""
    drilled: datetime | None = None
    passed: bool | None = None
    fault: str = ""

    @property
    def line(self) -> str:
        """The file as text."""
        tried = "never tried" if self.drilled is None else f"tried {self.drilled:%Y-%m-%d %H:%M}"
        found = "" if self.passed is None else ", passed" if self.passed else ", failed"
        return f"{self.made:%Y-%m-%d %H:%M:%S}  {self.size:>10,}  {self.name}  {self.fault or tried + found}"


@attrs.frozen(kw_only=True)
class StoredBackups:
    """The backups of an instance: its folder and the files in it, the newest first, and when the last one was written.

    `last` is from the audit log, which also knows of those in other folders; `last_name` is its file, "" where it is
    not in the folder. `more` files are older than those listed.
    """

    folder: Path
    files: tuple[StoredBackup, ...]
    last: datetime | None
    last_name: str
    more: int = 0

    @property
    def document(self) -> dict[str, Any]:
        """The backups as a JSON document."""
        return {
            "folder": str(self.folder),
            "last": self.last,
            "last_file": self.last_name,
            "files": [attrs.asdict(file) for file in self.files],
        }

    @property
    def lines(self) -> Iterator[str]:
        """The backups as text."""
        if self.last is None:
            yield "No backup was written yet."
        else:
            place = f"{self.folder / self.last_name}" if self.last_name else f"not in {self.folder}"
            yield f"The last backup was written at {self.last:%Y-%m-%d %H:%M:%S}: {place}."
        yield from (file.line for file in self.files)


def export_secrets(home: Path | None, chosen: Sequence[str], out: Path, passphrase: Secret) -> tuple[str, ...]:
    """Write the chosen categories, or all, into a new file; returns them. An existing file is never overwritten."""
    if filesystem.is_present(out):
        raise UsageError(f"{out} exists already.", "Choose another file with --out.")
    vault = vault_of_home(home, ready=False)
    names = chosen or [category for category in CATEGORIES if vault.store.has_file(category)]
    if not names:
        raise UsageError(f"{vault.instance.home} has no encrypted file.", "Nothing to export.")
    with ExitStack() as stack:
        parts: dict[str, bytes | memoryview] = {}
        for category in names:
            stack.enter_context(vault.noted("export", category))
            parts[category] = stack.enter_context(vault.read(category)).view
        BundleCipher(kind="export", passphrase=passphrase).write(out, parts)
    return tuple(names)


def import_secrets(
    home: Path | None,
    file: Path,
    passphrase: Secret,
    action: Literal["add", "replace", "dry-run"] = "add",
    warn: Notify = discard,
) -> tuple[ImportChange, ...]:
    """Import an export file into the instance after all of it has been checked; returns the changes.

    Existing values are overwritten only with `replace`, else UsageError; a dry run writes nothing. An interrupted
    import may be repeated.
    """
    from tbot_core.instance.secrets import encrypt_category

    with BundleCipher(kind="export", passphrase=passphrase).read(file) as bundle:
        if unknown := [name for name in bundle.parts if name not in CATEGORIES]:
            raise vault_error(VaultErrorCode.BUNDLE_CONTENT, EVERY, file.name, section=unknown[0])
        vault = _vault_for(home, bundle.parts, ready=action != "dry-run")
        parts = {category: bytes(data) for category, data in bundle.parts.items()}
        check_contents(home, vault, parts, warn=warn)
        changes = tuple(_change(vault, category, data) for category, data in bundle.parts.items())
        if action != "dry-run":
            _refuse_overwrite(vault, changes, replace=action == "replace")
            for change in changes:
                if change.state != "same":
                    encrypt_category(vault, change.category, bundle.parts[change.category])
    return changes


def back_up_secrets(
    home: Path | None, folder: Path | None, passphrase: Secret, *, actor: str = ""
) -> tuple[Path, tuple[str, ...]]:
    """Write a dated backup into the folder, by default that of the instance; returns its path and its categories."""
    instance = find_instance(home)
    vault = vault_of_home(home, actor=actor)
    folder = instance.path(FOLDER) if folder is None else folder
    filesystem.make_folder(folder)
    path = folder / f"secrets-{vault.clock.now():{_TIME}}{_SUFFIX}"
    if filesystem.is_present(path):
        raise UsageError(f"{path} exists already.", "Try again in a second.")
    return path, write_backup(vault, path, BundleCipher(kind="backup", passphrase=passphrase))


def stored_backups(home: Path | None, most: int | None = None) -> StoredBackups:
    """The backups in the folder of the instance, the newest ones where there are more than `most`. Opens none.

    Raises VaultError for an invalid line of the audit log.
    """
    from tbot_core.vault.audit_log import backup_history, log_path

    instance = Instance.at(home)
    history = backup_history(log_path(instance))
    found = sorted(((_made(path), path) for path in _backup_files(instance)), reverse=True)
    files = tuple(_stored(path, made, history) for made, path in found[:most])
    last = next((file.name for file in files if history.last_id and file.id == history.last_id), "")
    return StoredBackups(
        folder=instance.path(FOLDER), files=files, last=history.last, last_name=last, more=len(found) - len(files)
    )


def stored_backup(home: Path | None, name: str) -> Path:
    """The file of that name in the folder of backups. Raises UsageError for any other name."""
    found = next((path for path in _backup_files(Instance.at(home)) if path.name == name), None)
    if found is None:
        raise UsageError("No backup of that name is in the folder of backups.", "Choose one of the list.")
    return found


def read_stored_backup(home: Path | None, name: str, *, actor: str) -> bytes:
    """The encrypted text of a backup in the folder, to be kept elsewhere; the audit log names who has read it."""
    text = read_text(stored_backup(home, name))
    bundle = parse_bundle(text, name)
    vault_of_home(home, tolerant=True, ready=False, actor=actor).note("export", EVERY, "ok", bundle.id)
    return text


def restore_secrets(home: Path | None, file: Path, passphrase: Secret) -> tuple[str, ...]:
    """Restore a backup into an empty instance, and return the restored categories."""
    with open_backup(read_text(file), file.name, passphrase) as backup:
        return restore_opened(Instance.at(home), backup)


def open_backup(text: bytes, name: str, passphrase: Secret) -> Backup:
    """Open a backup by the text of its file; `name` is used in messages. The caller wipes it. Raises VaultError."""
    return backup_of(BundleCipher(kind="backup", passphrase=passphrase).open(text, name), name)


def backup_deployment(instance: Instance, found: Backup) -> DeploymentSettings:
    """The global configuration in a backup."""
    return _deployment(_settings(instance, found))


def backup_texts(instance: Instance, found: Backup) -> dict[str, str]:
    """The texts of both settings files in a backup, by category; bytes that are not UTF-8 are replaced."""
    place = category_paths("env_bot", instance, backup_deployment(instance, found))
    texts = {"env": _settings(instance, found), "env_bot": backup_settings(found, place)}
    return {category: text.decode(errors="replace") for category, text in texts.items()}


def restore_opened(instance: Instance, found: Backup, actor: str = "") -> tuple[str, ...]:
    """Restore an opened backup with the folders of an instance; returns the restored categories."""
    from tbot_core.instance.folder import FOLDERS
    from tbot_core.instance.secret_paths import SecretPaths

    filesystem.make_private_folder(instance.home, mode=0o755)
    deployment = backup_deployment(instance, found)
    done = _restore_files(instance, found, deployment, actor)
    for folder in FOLDERS:
        filesystem.make_private_folder(instance.path(folder))
    SecretPaths(instance, deployment).write_ignore_files()
    return done


def verify_backup(
    home: Path | None,
    file: Path,
    passphrase: Secret,
    check_instance: Callable[[Path], tuple[PreflightFinding, ...]],
    *,
    actor: str = "",
) -> tuple[tuple[str, ...], tuple[PreflightFinding, ...]]:
    """Restore a backup in memory with temporary key files, check it, and delete everything that was written.

    Returns its categories and the rows of `tbot check`, without the checks that do not apply to a backup. Paths
    outside of the instance are mapped into it during the drill, so that no existing file is changed. The instance at
    `home` only gets lines in its audit log, if it has one and its key: the last one says whether the drill passed.
    """
    from tbot_core.instance.folder import IGNORE_FILES
    from tbot_core.instance.sources import keep_opened_settings
    from tbot_core.system.editor import in_memory
    from tbot_core.vault.audit_log import PASSED

    _log_drill(home, actor, "open", "ok")
    text = read_text(file)
    with (
        environ.without_variables(ENV_KEY_VARIABLE, key_providers.VARIABLE),
        keep_opened_settings(),
        in_memory() as folder,
        open_backup(text, file.name, passphrase) as backup,
    ):
        instance = Instance(folder)
        done = _restore_inside(instance, backup)
        for name in IGNORE_FILES:
            filesystem.write_atomic(instance.path(name), b"*\n")
        rows = tuple(row for row in check_instance(folder) if row.subject not in _NOT_IN_DRILL)
    failed = any(row.level == "fail" for row in rows)
    _log_drill(home, actor, "drill", "failed" if failed else PASSED, parse_bundle(text, file.name).id)
    return done, rows


def backup_lines(path: Path, categories: Sequence[str]) -> Iterator[str]:
    """What a backup that was just written holds, as text."""
    yield f"{path} holds {', '.join(categories) or 'no file'} and every key, and was opened again to prove it."
    yield "It holds no journal and no log. Keep a copy, and the passphrase, on another machine."


def restore_lines(categories: tuple[str, ...], rows: Sequence[PreflightFinding]) -> Iterator[str]:
    """The result of a restore or a drill as text: its categories, and the failures and warnings of `tbot check`."""
    yield f"The backup opens. It holds {', '.join(categories) or 'only keys'}."
    yield "It holds no journal: kills, stops and armings are not restored with it."
    yield from (f"{row.level:<5} {row.subject:<9} {row}" for row in rows if row.level in {"fail", "warn"})
    yield check_outcome([row.level for row in rows])


def _log_drill(home: Path | None, actor: str, action: AuditAction, outcome: str, key_id: str = "") -> None:
    # In the audit log of the instance, if it has one and its key.
    from tbot_core.vault.audit_log import log_path

    instance = Instance.at(home)
    if filesystem.is_present(log_path(instance)):
        vault = vault_of_home(home, tolerant=True, ready=False, actor=actor)
        if (key := vault.store.key(AUDIT)) is not None:
            key.wipe()
            vault.note(action, EVERY, outcome, key_id)


def _backup_files(instance: Instance) -> list[Path]:
    # What may be a backup, by its name.
    folder = instance.path(FOLDER)
    paths = filesystem.files(folder) if filesystem.is_folder(folder) else []
    return [path for path in paths if path.parent == folder and _FILE_NAME.fullmatch(path.name)]


def _made(path: Path) -> datetime:
    named = _DATED.fullmatch(path.name)
    try:
        return datetime.strptime(named[1], _TIME).replace(tzinfo=UTC) if named else _modified(path)
    except ValueError:  # digits that are no date
        return _modified(path)


def _modified(path: Path) -> datetime:
    return datetime.fromtimestamp(filesystem.modified(path), UTC)


def _stored(path: Path, made: datetime, history: BackupHistory) -> StoredBackup:
    stored = StoredBackup(name=path.name, made=made, size=filesystem.size(path))
    try:
        bundle = parse_bundle(read_text(path), path.name)
    except VaultError as fault:
        return attrs.evolve(stored, fault=fault.message)
    if bundle.kind != KINDS["backup"]:
        return attrs.evolve(stored, fault="It is an export, not a backup.")
    drilled, passed = history.drills.get(bundle.id, (None, None))
    return attrs.evolve(stored, id=bundle.id, drilled=drilled, passed=passed)


def _vault_for(home: Path | None, parts: Mapping[str, memoryview], *, ready: bool) -> Vault:
    # The vault with the paths that the instance has after the import.
    from tbot_core.instance.secrets import open_instance_vault

    if "env" not in parts:
        return vault_of_home(home, ready=ready)
    return open_instance_vault(Instance.at(home), _deployment(bytes(parts["env"])), ready=ready)


def _change(vault: Vault, category: str, data: memoryview) -> ImportChange:
    here = vault.store.place(category)
    after, before = category_fields(category, here.shown(here.file), data), dict[str, object]()
    key, exists = vault.store.key(category), vault.store.has_file(category)
    same = False
    if exists:
        try:
            with vault.read(category) as opened:
                same = opened.view == data
                before = category_fields(category, here.shown(here.file), opened.view)
        except VaultError:
            before = {}  # an import is how a damaged file is repaired
    if key is not None:
        key.wipe()
    changed = (name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return ImportChange(
        category=category,
        state="same" if same else "differs" if exists else "new",
        key_id="" if key is None else key.name,
        fields=tuple(sorted(changed)),
    )


def _refuse_overwrite(vault: Vault, changes: Sequence[ImportChange], *, replace: bool) -> None:
    # Raises UsageError if values would be overwritten, or if settings exist in plaintext.
    plaintexts = [plaintext_path(vault.store.place(change.category)) for change in changes]
    clear = [plain.name for plain in plaintexts if plain is not None and filesystem.is_present(plain)]
    if clear:
        raise UsageError(
            f"{', '.join(clear)} in plaintext would lie beside the encrypted file.",
            "Move the plaintext file away first.",
        )
    differing = [change.category for change in changes if change.state == "differs"]
    if differing and not replace:
        message = f"The import would overwrite {', '.join(differing)}."
        raise UsageError(message, "Use --replace to overwrite; --dry-run shows the differences.")


def _settings(instance: Instance, found: Backup) -> bytes:
    from tbot_core.contracts.settings import DeploymentSettings

    return backup_settings(found, category_paths("env", instance, DeploymentSettings()))


def _deployment(text: bytes) -> DeploymentSettings:
    from tbot_core.instance.dotenv import parse_dotenv
    from tbot_core.instance.sources import deployment_of

    return deployment_of(parse_dotenv(ENV_FILE, text))


def _restore_files(
    instance: Instance, found: Backup, deployment: DeploymentSettings, actor: str = ""
) -> tuple[str, ...]:
    from tbot_core.instance.secrets import open_instance_vault

    return restore_backup(open_instance_vault(instance, deployment, ready=False, actor=actor), found)


def _restore_inside(instance: Instance, found: Backup) -> tuple[str, ...]:
    # As `_restore_files`, but paths outside of the instance, and that of the key of `.env`, are moved into it.
    from tbot_core.instance.dotenv import replace_values
    from tbot_core.instance.secrets import open_instance_vault

    text = _settings(instance, found)
    original = _deployment(text)
    text = replace_values(text.decode(), _paths_inside(instance, original))
    deployment = _deployment(text)
    done = _restore_files(instance, found, deployment)
    if deployment != original and "env" in found.files:
        open_instance_vault(instance, deployment, ready=False).write("env", text)
    elif deployment != original:
        filesystem.write_atomic(instance.env, text)
    return done


def _paths_inside(instance: Instance, original: DeploymentSettings) -> dict[str, str]:
    # The variables whose paths are moved into the instance, with their new values.
    from tbot_core.contracts.setting import declarations
    from tbot_core.contracts.settings import DeploymentSettings

    known = declarations(DeploymentSettings)
    own = CATEGORIES["env"].key_field
    moved = {known[own].name: known[own].default_text}
    for kind in CATEGORIES.values():
        for field in (kind.key_field, kind.file_field):
            if field is not None and field != own and instance.outside(getattr(original, field)):
                moved[known[field].name] = f"{_OUTSIDE}/{field}"
    return moved
