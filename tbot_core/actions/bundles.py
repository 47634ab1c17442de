"""The actions of `tbot secrets export`, `import`, `backup` and `restore`: one file, encrypted with a passphrase."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Literal

import attrs

from tbot_core.actions.checks import check_outcome
from tbot_core.actions.notices import discard
from tbot_core.actions.secrets import category_fields, check_contents, vault_of_home
from tbot_core.errors import UsageError, VaultError
from tbot_core.instance import Instance, is_there
from tbot_core.system import environ, filesystem
from tbot_core.vault import backup, key_providers
from tbot_core.vault.bundle import BundleCipher
from tbot_core.vault.categories import AUDIT, CATEGORIES, ENV_FILE, ENV_KEY_VARIABLE, EVERY, category_paths
from tbot_core.vault.error_codes import VaultErrorCode, vault_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tbot_core.actions.notices import Notify
    from tbot_core.contracts.settings import DeploymentSettings
    from tbot_core.instance.preflight_subject import PreflightFinding
    from tbot_core.system.secret import Secret
    from tbot_core.vault.backup import Backup
    from tbot_core.vault.vault import Vault

SUFFIX: Final = ".tbot"
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
            for it in changes:
                if it.state != "same":
                    encrypt_category(vault, it.category, bundle.parts[it.category])
    return changes


def back_up_secrets(home: Path | None, folder: Path | None, passphrase: Secret) -> Path:
    """Write a dated backup into the folder, by default that of the instance, and return its path."""
    instance = Instance.at(home)
    if not is_there(instance):
        raise UsageError(f"{instance.home} is not an instance.", "Give one with --home.")
    vault = vault_of_home(home)
    folder = instance.home / "backups" if folder is None else folder
    filesystem.make_folder(folder)
    path = folder / f"secrets-{vault.clock.now():%Y%m%dT%H%M%SZ}{SUFFIX}"
    if filesystem.is_present(path):
        raise UsageError(f"{path} exists already.", "Try again in a second.")
    backup.write_backup(vault, path, BundleCipher(kind="backup", passphrase=passphrase))
    return path


def restore_secrets(home: Path | None, file: Path, passphrase: Secret) -> tuple[str, ...]:
    """Restore a backup into an empty instance, and return the restored categories."""
    from tbot_core.instance.folder import FOLDERS
    from tbot_core.instance.secret_paths import SecretPaths

    instance = Instance.at(home)
    with _opened(file, passphrase) as found:
        filesystem.make_private_folder(instance.home, mode=0o755)
        deployment = _deployment(_settings(instance, found))
        done = _restore_files(instance, found, deployment)
    for folder in FOLDERS:
        filesystem.make_private_folder(instance.path(folder))
    SecretPaths(instance, deployment).write_ignore_files()
    return done


def verify_backup(
    home: Path | None,
    file: Path,
    passphrase: Secret,
    check_instance: Callable[[Path], tuple[PreflightFinding, ...]],
) -> tuple[tuple[str, ...], tuple[PreflightFinding, ...]]:
    """Restore a backup in memory with temporary key files, check it, and delete everything that was written.

    Returns its categories and the rows of `tbot check`, without the checks that do not apply to a backup. Paths
    outside of the instance are mapped into it during the drill, so that no existing file is changed. The instance at
    `home` only gets a line in its audit log, if it has one and its key.
    """
    from tbot_core.instance.folder import IGNORE_FILES
    from tbot_core.system.editor import in_memory

    _log_drill(home)
    with (
        environ.without_variables(ENV_KEY_VARIABLE, key_providers.VARIABLE),
        in_memory() as folder,
        _opened(file, passphrase) as found,
    ):
        instance = Instance(folder)
        done = _restore_inside(instance, found)
        for name in IGNORE_FILES:
            filesystem.write_atomic(instance.path(name), b"*\n")
        rows = tuple(row for row in check_instance(folder) if row.subject not in _NOT_IN_DRILL)
    return done, rows


def restore_lines(categories: tuple[str, ...], rows: Sequence[PreflightFinding]) -> Iterator[str]:
    """The result of a restore or a drill as text: its categories, and the rows of `tbot check` that are not ok."""
    yield f"The backup opens. It holds {', '.join(categories) or 'only keys'}."
    yield "It holds no journal: kills, stops and armings are not restored with it."
    yield from (f"{row.level:<5} {row.subject:<9} {row}" for row in rows if row.level != "ok")
    yield check_outcome([row.level for row in rows])


def _log_drill(home: Path | None) -> None:
    # In the audit log of the instance, if it has one and its key.
    from tbot_core.vault.audit_log import log_path

    instance = Instance.at(home)
    if filesystem.is_present(log_path(instance)):
        vault = vault_of_home(home, tolerant=True, ready=False)
        if (key := vault.store.key(AUDIT)) is not None:
            key.wipe()
            vault.note("open", EVERY, "ok")


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
    plaintexts = [backup.plaintext_path(vault.store.place(it.category)) for it in changes]
    clear = [plain.name for plain in plaintexts if plain is not None and filesystem.is_present(plain)]
    if clear:
        raise UsageError(
            f"{', '.join(clear)} in plaintext would lie beside the encrypted file.",
            "Move the plaintext file away first.",
        )
    differing = [it.category for it in changes if it.state == "differs"]
    if differing and not replace:
        message = f"The import would overwrite {', '.join(differing)}."
        raise UsageError(message, "Use --replace to overwrite; --dry-run shows the differences.")


def _opened(file: Path, passphrase: Secret) -> Backup:
    return backup.open_backup(BundleCipher(kind="backup", passphrase=passphrase).read(file), file.name)


def _settings(instance: Instance, found: Backup) -> bytes:
    from tbot_core.contracts.settings import DeploymentSettings

    return backup.backup_settings(found, category_paths("env", instance, DeploymentSettings()))


def _deployment(text: bytes) -> DeploymentSettings:
    from tbot_core.instance.dotenv import parse_dotenv
    from tbot_core.instance.sources import deployment_of

    return deployment_of(parse_dotenv(ENV_FILE, text))


def _restore_files(instance: Instance, found: Backup, deployment: DeploymentSettings) -> tuple[str, ...]:
    from tbot_core.instance.secrets import open_instance_vault

    return backup.restore_backup(open_instance_vault(instance, deployment, ready=False), found)


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
