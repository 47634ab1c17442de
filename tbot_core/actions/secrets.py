"""The actions of `tbot secrets`: values are written and checked, and never shown."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.actions.notices import discard
from tbot_core.actions.secret_sections import known_schemas, refuse_misspelt
from tbot_core.errors import AccessError, SettingsError, UsageError, VaultError
from tbot_core.instance import Instance, is_there, read_settings_files
from tbot_core.model import json_document
from tbot_core.system import filesystem
from tbot_core.system.redaction import SHORT
from tbot_core.system.secret import SHOWN
from tbot_core.vault import content, rotation
from tbot_core.vault.categories import CATEGORIES, ENV_FILE
from tbot_core.vault.error_codes import VaultErrorCode, combined_error
from tbot_core.vault.schemas import check_content, merged_content, short_secrets
from tbot_core.vault.vault import CategoryStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from tbot_core.actions.notices import Notify
    from tbot_core.vault.rotation import RotationResult
    from tbot_core.vault.schemas import Schemas
    from tbot_core.vault.vault import FormatUpgrade, Vault

_TRIES: Final = 10
_CONTENT_INVALID: Final = frozenset(
    code.text for code in VaultErrorCode if code.name.startswith("CONTENT_") or code.name == "SECTION_SPELT_TWICE"
)
_CONTENT_LOST: Final = frozenset(
    code.text
    for code in VaultErrorCode
    if code.name.startswith(("CONTENT_", "TOKEN_", "FERNET_"))
    or code in {VaultErrorCode.FILE_EMPTY, VaultErrorCode.FORMAT_UNKNOWN}
) - {
    code.text
    for code in (
        VaultErrorCode.TOKEN_VERSION,
        VaultErrorCode.TOKEN_ALGORITHM,
        VaultErrorCode.TOKEN_KEY_ID,
        VaultErrorCode.FERNET_TAG,
    )
}
"""Faults of a file whose content is lost in any case. A file of another key or of a newer tbot is kept."""


@attrs.frozen(kw_only=True)
class CategoryListing:
    """A category as it is shown: its state, the time of its file, and the names of its fields."""

    status: CategoryStatus
    modified: datetime | None
    fields: tuple[str, ...] = ()
    mask: str = SHOWN

    @property
    def document(self) -> dict[str, Any]:
        """The category as a JSON document."""
        it = self.status
        return {
            "category": it.category,
            "presence": self._presence,
            "key": it.key,
            "key_id": it.key_id,
            "file": it.file,
            "format": it.format,
            "modified": self.modified,
            "fields": dict.fromkeys(self.fields, self.mask),
            "faults": [str(fault) for fault in it.faults],
        }

    @property
    def lines(self) -> Iterator[str]:
        """The category as text."""
        it = self.status
        form = it.format or ("not in a format of tbot" if "file" not in it.missing else "-")
        date = f"{self.modified:%Y-%m-%d}" if self.modified else "-"
        yield f"{it.category:13} {self._presence:12} {it.key_id or '-':16}  {date:10}  {form}"
        yield from (f"    {name} = {self.mask}" for name in self.fields)
        yield from (f"    {fault}" for fault in it.faults)

    @property
    def _presence(self) -> str:
        return {(): "present", ("file",): "no file", ("key",): "no key"}.get(self.status.missing, "absent")


def category_listings(home: Path | None, category: str | None = None) -> tuple[CategoryListing, ...]:
    """The state of each category; for a single one also the names of its fields, for which it is opened."""
    vault = vault_of_home(home, tolerant=True, ready=False)
    rows = []
    for it in vault.status():
        if category in {None, it.category}:
            names = () if category is None or "file" in it.missing else _names(vault, category)
            rows.append(CategoryListing(status=it, modified=_modified(vault, it.category), fields=names))
    return tuple(rows)


def verify_secrets(home: Path | None) -> tuple[VaultError, ...]:
    """The faults of the encrypted files and their keys, and of `.env` as it is read at a start."""
    fault = read_settings_files(Instance.at(home)).env.fault
    found = vault_of_home(home, tolerant=True, ready=False).verify(known_schemas(home))
    first = (fault,) if isinstance(fault, VaultError) and fault.message not in {it.message for it in found} else ()
    return (*first, *found)


def put_values(
    home: Path | None, category: str, values: Mapping[str, Any], warn: Notify = discard, *, actor: str = ""
) -> Path:
    """Set values of a category, keep its others, and return its file. Raises UsageError, SettingsError and VaultError.

    None removes a field of a category that holds fields. A file whose content is lost is written anew.
    """
    from tbot_core.instance.secrets import encrypt_category

    _refuse_shadowing(home, category)
    vault = vault_of_home(home, tolerant=category == "env", actor=actor)
    values = _input_values(vault, category, values)
    schemas = known_schemas(home, values)
    refuse_misspelt(schemas, category, values)
    for _ in range(_TRIES):
        edition = vault.store.edition(category)
        data = _merged(category, _content(vault, category), values, schemas)
        with _input_faults():
            check_contents(home, vault, {category: data}, values, warn)
        if encrypt_category(vault, category, data, edition):
            return vault.store.place(category).file
    raise AccessError(f"Other processes keep writing {category}; nothing was stored.", "Try again.")


def rekey_category(
    home: Path | None, category: str, values: Mapping[str, Any], warn: Notify = discard
) -> RotationResult:
    """Give a category a new key and new content."""
    _refuse_shadowing(home, category)
    vault = vault_of_home(home, tolerant=category == "env")
    values = _input_values(vault, category, values)
    refuse_misspelt(known_schemas(home, values), category, values)
    data = _merged(category, b"", values, {})
    with _input_faults():
        check_contents(home, vault, {category: data}, warn=warn)
    paths = vault.store.place(category)
    for folder in (paths.key.parent, paths.file.parent):
        filesystem.make_folder(folder)
    return rotation.replace_key(vault, category, data)


def upgrade_files(home: Path | None, *, dry_run: bool) -> tuple[FormatUpgrade, ...]:
    """The files that were, or would be, rewritten in the current format and under the current key."""
    return vault_of_home(home, ready=False).upgrade(dry_run=dry_run)


def rotate_keys(
    home: Path | None, categories: tuple[str, ...], *, resume: bool, actor: str = ""
) -> tuple[RotationResult, ...]:
    """New keys for the categories, or the rest of an interrupted rotation."""
    return (rotation.resume_rotation if resume else rotation.rotate_categories)(
        vault_of_home(home, ready=False, actor=actor), categories
    )


def abort_rotation(home: Path | None, categories: tuple[str, ...]) -> tuple[str, ...]:
    """The categories whose interrupted rotation was undone."""
    return rotation.withdraw_rotation(vault_of_home(home, ready=False), categories)


def retire_old_keys(home: Path | None, actor: str = "") -> tuple[str, ...]:
    """Delete the previous keys that are KEEP_PREV_DAYS old and in a later backup; returns their categories."""
    from tbot_core.vault import audit_log

    vault = vault_of_home(home, ready=False, actor=actor)
    log = audit_log.log_path(vault.instance)
    days = vault.deployment.keep_prev_days
    return rotation.retire_previous_keys(
        vault, audit_log.last_rotations(log), backed_up=audit_log.last_backup(log), keep_days=days
    )


def vault_of_home(home: Path | None, *, tolerant: bool = False, ready: bool = True, actor: str = "") -> Vault:
    """The vault with the paths of `.env`; with `tolerant` faults in it are tolerated. `actor`: whom its log names."""
    from tbot_core.instance.secrets import open_instance_vault
    from tbot_core.instance.sources import deployment_of

    env = read_settings_files(Instance.at(home)).env
    if env.fault is not None and not tolerant:
        raise env.fault
    return open_instance_vault(Instance.at(home), deployment_of(env.parsed), ready=ready, actor=actor)


def _refuse_shadowing(home: Path | None, category: str) -> None:
    # An encrypted file takes precedence over the plaintext beside it, whose other settings would be lost. A folder
    # without settings is no instance: the file would be written where it is not looked for.
    if not is_there(Instance.at(home)):
        raise SettingsError(f"{Instance.at(home).home} is not an instance.", "Give its folder with --home.")
    if CATEGORIES[category].shape != "text":
        return
    sources = read_settings_files(Instance.at(home))
    source = sources.env if category == "env" else sources.bot
    if source.plain and not source.sealed:
        raise UsageError(
            f"{source.name} is plaintext; an encrypted file beside it would replace all of its settings.",
            "Encrypt it first with `tbot config encrypt`, or edit it directly.",
        )


def _input_values(vault: Vault, category: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    # The values, sections of plugins under the plugins' names. Raises VaultError.
    paths = vault.store.place(category)
    content.assert_utf8(values, category, paths.shown(paths.file))
    if not CATEGORIES[category].by_plugin:
        return values
    try:
        return content.plugin_sections(values, category, paths.shown(paths.file))
    except VaultError as fault:
        raise _input_error(fault) from None


def _input_error(fault: VaultError) -> VaultError:
    # Invalid content is that of the input, since nothing of it is stored yet.
    return VaultError(fault.message, "Correct the input; nothing was stored.", code=fault.code)


def _content(vault: Vault, category: str) -> bytes:
    # The content of a category; empty if there is no file, or its content is lost.
    if not vault.store.has_file(category):
        return b""
    paths = vault.store.place(category)
    try:
        with vault.read(category) as opened:
            content.check_shape(opened.view, category, paths.shown(paths.file), CATEGORIES[category].shape)
            return bytes(opened.view)
    except VaultError as error:
        if error.code not in _CONTENT_LOST:
            raise
        return b""


def _merged(category: str, current: bytes, values: Mapping[str, Any], schemas: Schemas) -> bytes:
    # The content with new values; the other fields stay, also those of a section.
    from tbot_core.instance.dotenv import replace_values

    if CATEGORIES[category].shape == "text":
        return replace_values(current.decode(), values)
    found = merged_content(json_document.parse_json(current) if current else {}, category, values, schemas)
    return json.dumps(found, sort_keys=True, ensure_ascii=False).encode()


def check_contents(
    home: Path | None,
    vault: Vault,
    contents: Mapping[str, bytes],
    only: Mapping[str, Any] | None = None,
    warn: Notify = discard,
) -> None:
    """Check contents as the readers of their categories do. Raises VaultError or SettingsError.

    With `only`, other sections are only checked for their shape: their faults existed before.
    """
    sections = only if only is not None else {name for data in contents.values() for name in _sections(data)}
    classes, faults = known_schemas(home, sections), list[VaultError]()
    for category, data in contents.items():
        paths = vault.store.place(category)
        faults += check_content(memoryview(data), category, paths.shown(paths.file), classes, only)
    if faults:
        raise combined_error(faults)
    warn_of_short_secrets(contents, classes, warn)
    texts = {category: data for category, data in contents.items() if CATEGORIES[category].shape == "text"}
    if texts:
        cross_check_settings(home, texts, warn)


def warn_of_short_secrets(contents: Mapping[str, bytes], schemas: Schemas, warn: Notify) -> None:
    """Name the secrets that are too short to be redacted well; `contents` are valid."""
    for category, data in contents.items():
        for name in short_secrets(memoryview(data), category, CATEGORIES[category].logical, schemas):
            warn(
                f"{category} {name} has fewer than {SHORT} characters: it is redacted only where it stands alone in a "
                "text. Use a longer one."
            )


@contextmanager
def _input_faults() -> Iterator[None]:
    # Invalid content gets the remedy for the input.
    try:
        yield
    except VaultError as fault:
        if fault.code not in _CONTENT_INVALID:
            raise
        raise _input_error(fault) from None


def stored_content(home: Path | None, category: str) -> Mapping[str, Any]:
    """The stored content of a category of secrets; empty where there is none, or it is lost."""
    data = _content(vault_of_home(home, tolerant=True, ready=False), category)
    found: dict[str, Any] = json_document.parse_json(data) if data else {}
    return found


def _sections(data: bytes) -> Collection[str]:
    # The sections of a category's content; none in one that is no JSON object, which has a fault of its own.
    try:
        found = json_document.parse_json(data)
    except json_document.InvalidJson:
        return ()
    return found if isinstance(found, dict) else ()


def cross_check_settings(home: Path | None, contents: Mapping[str, bytes], warn: Notify = discard) -> None:
    """Check that settings of env, env_bot or both are valid together with the others, as at a paper start.

    If `.env` cannot be opened, the other files cannot be found: then `tbot check` reports faults later. Raises
    VaultError for settings whose key is not the one that a start would use.
    """
    from tbot_core.actions.plugin_declarations import load_edited
    from tbot_core.instance.dotenv import parse_dotenv
    from tbot_core.instance.secrets import open_instance_vault
    from tbot_core.instance.sources import deployment_of

    if "env" in contents:
        open_instance_vault(Instance.at(home), deployment_of(parse_dotenv(ENV_FILE, contents["env"])), ready=False)
    before = sources = read_settings_files(Instance.at(home))
    if sources.env.fault is not None:
        return
    for category, field in (("env", "env"), ("env_bot", "bot")):
        if category in contents:
            source = getattr(sources, field)
            parsed = parse_dotenv(f"{source.name}.enc", contents[category])
            sources = attrs.evolve(sources, **{field: attrs.evolve(source, sealed=True, parsed=parsed, fault=None)})
    load_edited(home, sources, before, warn)


def category_fields(category: str, file: str, data: memoryview) -> dict[str, object]:
    """The names in a category: variables, fields, or `section.field`. Raises VaultError."""
    from tbot_core.instance.dotenv import parse_dotenv

    shape = CATEGORIES[category].shape
    if shape == "text":
        return {entry.key: entry.value for entry in parse_dotenv(file, bytes(data)).entries}
    content.check_shape(data, category, file, shape)
    found = content.parse_content(data, category, file)
    if shape == "object":
        return found
    return {f"{section}.{name}": value for section, part in found.items() for name, value in part.items()}


def _names(vault: Vault, category: str) -> tuple[str, ...]:
    paths = vault.store.place(category)
    with vault.read(category) as opened:
        return tuple(sorted(category_fields(category, paths.shown(paths.file), opened.view)))


def _modified(vault: Vault, category: str) -> datetime | None:
    file = vault.store.place(category).file
    return datetime.fromtimestamp(filesystem.modified(file), UTC) if vault.store.has_file(category) else None
