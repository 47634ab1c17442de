"""The actions of `tbot secrets`: values are written and checked, and never shown.

With whose sections there are, which names are misspelt, and which fields a form has.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.actions import discard
from tbot_core.actions.plugin_declarations import PluginDeclarations, plugin_declarations
from tbot_core.contracts.credentials import SecretField
from tbot_core.errors import AccessError, SettingsError, UsageError, VaultError
from tbot_core.instance import Instance, has_settings, read_settings_files
from tbot_core.instance.cross_checks import needed_plugin
from tbot_core.instance.plugin_settings import known_plugins
from tbot_core.instance.secret_schemas import secret_owners, secret_rules
from tbot_core.model import json_document
from tbot_core.model.formatting import printable_name
from tbot_core.system import filesystem
from tbot_core.system.redaction import SHORT
from tbot_core.system.secret import SHOWN
from tbot_core.vault import rotation
from tbot_core.vault.categories import CATEGORIES, ENV_FILE
from tbot_core.vault.error_codes import VaultErrorCode, combined_error
from tbot_core.vault.schemas import (
    assert_utf8,
    check_content,
    check_shape,
    merged_content,
    parse_content,
    plugin_sections,
    schema_key,
    short_secrets,
    stored_fields,
)
from tbot_core.vault.vault import CategoryStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterator, Mapping
    from pathlib import Path

    from tbot_core.actions import Notify
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

_MISSPELT: Final = 0.8
"""How similar a section's name in a document is to that of a plugin to be refused."""

_QUOTED: Final = 20
"""The length up to which a typed name is quoted: a longer one may be a secret that was pasted at the wrong question."""

FORMED: Final = tuple(name for name, it in CATEGORIES.items() if it.shape != "text" and name != "login")
"""The categories that hold fields; settings and users have pages of their own."""


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
        status = self.status
        return {
            "category": status.category,
            "presence": self._presence,
            "key": status.key,
            "key_id": status.key_id,
            "file": status.file,
            "format": status.format,
            "modified": self.modified,
            "fields": dict.fromkeys(self.fields, self.mask),
            "faults": [str(fault) for fault in status.faults],
        }

    @property
    def lines(self) -> Iterator[str]:
        """The category as text."""
        status = self.status
        form = status.format or ("not in a format of tbot" if "file" not in status.missing else "-")
        date = f"{self.modified:%Y-%m-%d}" if self.modified else "-"
        yield f"{status.category:13} {self._presence:12} {status.key_id or '-':16}  {date:10}  {form}"
        yield from (f"    {name} = {self.mask}" for name in self.fields)
        yield from (f"    {fault}" for fault in status.faults)

    @property
    def _presence(self) -> str:
        return {(): "present", ("file",): "no file", ("key",): "no key"}.get(self.status.missing, "absent")


@attrs.frozen(kw_only=True)
class SecretForm:
    """The fields of a category, or of a plugin's `section` in it.

    `stored` are the names of fields with a value, also of undeclared ones. `readers` are the plugins that
    read it, `used` tells whether one of them is enabled. `needs` has a sentence for each of them that is not installed.
    """

    category: str
    section: str = ""
    fields: tuple[SecretField, ...]
    stored: frozenset[str]
    readers: tuple[str, ...] = ()
    used: bool = False
    needs: tuple[str, ...] = ()

    @property
    def unknown(self) -> tuple[str, ...]:
        """The stored names of which there is no declaration."""
        return tuple(sorted(self.stored - {field.name for field in self.fields}))


def category_listings(home: Path | None, category: str | None = None) -> tuple[CategoryListing, ...]:
    """The state of each category; for a single one also the names of its fields, for which it is opened."""
    vault = vault_of_home(home, tolerant=True, ready=False)
    rows = []
    for status in vault.status():
        if category in {None, status.category}:
            names = () if category is None or "file" in status.missing else _names(vault, category)
            rows.append(CategoryListing(status=status, modified=_modified(vault, status.category), fields=names))
    return tuple(rows)


def verify_secrets(home: Path | None) -> tuple[VaultError, ...]:
    """The faults of the encrypted files and their keys, and of `.env` as it is read at a start."""
    fault = read_settings_files(Instance.at(home)).env.fault
    errors = vault_of_home(home, tolerant=True, ready=False).verify(known_schemas(home))
    first = (
        (fault,) if isinstance(fault, VaultError) and fault.message not in {error.message for error in errors} else ()
    )
    return (*first, *errors)


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
    _refuse_misspelt(schemas, category, values)
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
    _refuse_misspelt(known_schemas(home, values), category, values)
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
        _cross_check_settings(home, texts, warn)


def warn_of_short_secrets(contents: Mapping[str, bytes], schemas: Schemas, warn: Notify) -> None:
    """Name the secrets that are too short to be redacted well; `contents` are valid."""
    for category, data in contents.items():
        for name in short_secrets(memoryview(data), category, CATEGORIES[category].logical, schemas):
            warn(
                f"{category} {name} has fewer than {SHORT} characters: it is redacted only where it stands alone in a "
                "text. Use a longer one."
            )


def stored_content(home: Path | None, category: str) -> Mapping[str, Any]:
    """The stored content of a category of secrets; empty where there is none, or it is lost."""
    data = _content(vault_of_home(home, tolerant=True, ready=False), category)
    found: dict[str, Any] = json_document.parse_json(data) if data else {}
    return found


def _cross_check_settings(home: Path | None, contents: Mapping[str, bytes], warn: Notify = discard) -> None:
    # Check that settings of env, env_bot or both are valid together with the others, as at a paper start.
    # If `.env` cannot be opened, the other files cannot be found: then `tbot check` reports faults later. Raises
    # VaultError for settings whose key is not the one that a start would use.
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
    check_shape(data, category, file, shape)
    found = parse_content(data, category, file)
    if shape == "object":
        return found
    return {f"{section}.{name}": value for section, part in found.items() for name, value in part.items()}


def known_schemas(home: Path | None, sections: Container[str] = ()) -> Schemas:
    """The fields that validate secrets: of the enabled plugins, and of the installed ones named in `sections`."""
    from tbot_core.actions.plugin_declarations import plugin_declarations
    from tbot_core.instance.secret_schemas import secret_rules

    plugins = plugin_declarations(home, sections)
    return secret_rules(plugins.declared, plugins.installed).fields


def section_names(home: Path | None, category: str, stored: Collection[str] = ()) -> list[str]:
    """The plugins that read a section of the category, and those of the stored sections that are installed."""
    return sorted(_readers(known_schemas(home), category) | (_installed() & {name.lower() for name in stored}))


def section_fault(home: Path | None, category: str, name: str) -> str:
    """Why the fields of a plugin's section cannot be asked for; "" where they are known."""
    schemas = known_schemas(home, (name,))
    if schema_key(category, name) in schemas:
        return ""
    readers, shown = _readers(schemas, category), printable_name(name) if len(name) <= _QUOTED else "This name"
    if name in readers or name in _installed():
        return (
            f"The fields of {shown} are not known: its plugin declares none for {category}, or does not load. "
            "`tbot plugins list` says which; --from-json takes the values as they are."
        )
    near = get_close_matches(name[:80], sorted(readers), n=1)
    meant = f"; did you mean {near[0]}?" if near else "."
    return f"{shown} is unknown; allowed: {', '.join(sorted(readers))}{meant}"


def unread_sections(home: Path | None, category: str, values: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each section whose name is that of no known and no installed plugin."""
    for section in _unread(known_schemas(home), category, values):
        yield f"No known plugin reads the section {printable_name(section)} of {category}; it was stored."


def _refuse_misspelt(schemas: Schemas, category: str, values: Mapping[str, Any]) -> None:
    # Refuse values for a section that no plugin reads, and whose name is similar to one that is read.
    # Raises SettingsError. What is stored under such a name can be removed.
    readers = sorted(_readers(schemas, category))
    for section in _unread(schemas, category, values):
        near = get_close_matches(section[:80], readers, n=1, cutoff=_MISSPELT)
        part = values[section]
        if near and not (isinstance(part, dict) and all(value is None for value in part.values())):
            raise SettingsError(
                f"The section {printable_name(section[:80])} of {category} is unknown; "
                f"allowed: {', '.join(readers)}; did you mean {near[0]}?",
                "Correct the name, or install the plugin first; nothing was stored.",
            )


def secret_forms(home: Path | None, category: str) -> tuple[SecretForm, ...]:
    """The forms of a category: of the plugins that are enabled, then of the others, with what is stored."""
    plugins = plugin_declarations(home)
    owners = [name for place, name in secret_owners(plugins.enabled, plugins.declared) if place == category]
    stored = stored_content(home, category)
    if not CATEGORIES[category].by_plugin:
        others = [plugin.name for plugin in known_plugins() if category in plugin.secrets]
        fields = secret_rules(plugins.declared, plugins.installed).fields.get(schema_key(category, ""), {})
        names = _stored_names(stored, fields)
        readers = tuple(dict.fromkeys([*owners, *others]))
        return (
            SecretForm(
                category=category,
                fields=tuple(fields.values()),
                stored=names,
                readers=readers,
                used=bool(owners),
                needs=_needs(category, readers, plugins),
            ),
        )
    parts = {name.lower(): part for name, part in stored.items() if isinstance(part, dict)}
    known = [plugin.name for plugin in known_plugins() if category in plugin.secrets]
    sections = dict.fromkeys([*owners, *sorted({*known, *parts})])
    rules = secret_rules(plugin_declarations(home, sections).declared, plugins.installed).fields
    made = []
    for section in sections:
        fields = rules.get(schema_key(category, section), {})
        names = _stored_names(parts.get(section, {}), fields)
        made.append(
            SecretForm(
                category=category,
                section=section,
                fields=tuple(fields.values()),
                stored=names,
                readers=(section,),
                used=section in owners,
                needs=_needs(category, (section,), plugins),
            )
        )
    return tuple(made)


def _refuse_shadowing(home: Path | None, category: str) -> None:
    # An encrypted file takes precedence over the plaintext beside it, whose other settings would be lost. A folder
    # without settings is no instance: the file would be written where it is not looked for.
    if not has_settings(Instance.at(home)):
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
    assert_utf8(values, category, paths.shown(paths.file))
    if not CATEGORIES[category].by_plugin:
        return values
    try:
        return plugin_sections(values, category, paths.shown(paths.file))
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
            check_shape(opened.view, category, paths.shown(paths.file), CATEGORIES[category].shape)
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


@contextmanager
def _input_faults() -> Iterator[None]:
    # Invalid content gets the remedy for the input.
    try:
        yield
    except VaultError as fault:
        if fault.code not in _CONTENT_INVALID:
            raise
        raise _input_error(fault) from None


def _sections(data: bytes) -> Collection[str]:
    # The sections of a category's content; none in one that is no JSON object, which has a fault of its own.
    try:
        found = json_document.parse_json(data)
    except json_document.InvalidJson:
        return ()
    return found if isinstance(found, dict) else ()


def _names(vault: Vault, category: str) -> tuple[str, ...]:
    paths = vault.store.place(category)
    with vault.read(category) as opened:
        return tuple(sorted(category_fields(category, paths.shown(paths.file), opened.view)))


def _modified(vault: Vault, category: str) -> datetime | None:
    file = vault.store.place(category).file
    return datetime.fromtimestamp(filesystem.modified(file), UTC) if vault.store.has_file(category) else None


def _unread(schemas: Schemas, category: str, values: Mapping[str, Any]) -> Iterator[str]:
    # The sections of plugins that are neither known nor installed.
    if CATEGORIES[category].by_plugin:
        read = _readers(schemas, category) | _installed()
        yield from (section for section in values if section.lower() not in read)


def _readers(schemas: Schemas, category: str) -> set[str]:
    # The plugins that are known to have a section of the category.
    from tbot_core.instance.plugin_settings import known_plugins

    ours = {plugin.name for plugin in known_plugins() if category in plugin.secrets}
    return ours | {name for place, name in schemas if place == category}


def _installed() -> set[str]:
    from tbot_core.plugins.discovery import installed_plugins

    return {plugin.entry.name for plugin in installed_plugins()}


def _needs(category: str, readers: tuple[str, ...], plugins: PluginDeclarations) -> tuple[str, ...]:
    # The sentences on readers that are known and not installed.
    owners = [
        f"{plugin.kind} {plugin.name}"
        for plugin in known_plugins()
        if category in plugin.secrets and plugin.name in readers
    ]
    return tuple(filter(None, (needed_plugin(owner, plugins.installed) for owner in owners)))


def _stored_names(stored: Mapping[str, Any], fields: Mapping[str, SecretField]) -> frozenset[str]:
    known = stored_fields(stored, fields)
    spelt = {word.lower() for field in fields.values() for word in (field.name, *field.aliases)}
    names = {one.name for field, one in fields.items() if field in known}
    return frozenset(names | {name for name in stored if name.lower() not in spelt})
