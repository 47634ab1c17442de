"""Backups of the secrets: encrypted files and their keys in a bundle, verified after writing.

A backup contains no paths; they follow from the settings in it, so it can be restored anywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

import attrs

from tbot_core.system import filesystem, secure_files
from tbot_core.system.secure_memory import SecureBuffer
from tbot_core.vault import files, key_providers, keys
from tbot_core.vault.bundle import SecretBundle
from tbot_core.vault.categories import AUDIT, CATEGORIES, EVERY
from tbot_core.vault.error_codes import VaultErrorCode, vault_error
from tbot_core.vault.key_providers import PassphraseKeyProvider
from tbot_core.vault.keys import CategoryKeys, RootKey

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from tbot_core.vault.bundle import BundleCipher
    from tbot_core.vault.categories import CategoryPaths
    from tbot_core.vault.vault import Vault

_HEADER: Final = "header"
_KEPT: Final = (AUDIT, *CATEGORIES)


@attrs.frozen(kw_only=True)
class Backup:
    """An opened backup: keys, encrypted files and plaintext settings by category, and the passphrase header.

    As a context manager it is wiped at the end.
    """

    bundle: SecretBundle
    rings: Mapping[str, CategoryKeys]
    files: Mapping[str, memoryview]
    plain: Mapping[str, memoryview]
    header: memoryview | None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for ring in self.rings.values():
            ring.wipe()
        self.bundle.wipe()


def write_backup(vault: Vault, path: Path, seal: BundleCipher) -> tuple[str, ...]:
    """Write a backup of every key and file durably, after verifying its content; returns the categories in it.

    The audit log names it by its id. Raises VaultError, and AccessError for a path that cannot be written; an existing
    file is kept then.
    """

    def prove(bundle: SecretBundle) -> None:
        with open_backup(bundle, path.name) as backup:
            _prove(backup, vault.store.place)

    with vault.store.holding("env"), vault.noted("backup", EVERY) as named, ExitStack() as stack:
        parts: dict[str, bytes | memoryview] = {}
        for category in _KEPT:
            parts |= _category_parts(vault, category, stack)
        if isinstance(vault.store.keys, PassphraseKeyProvider):
            parts[_HEADER] = filesystem.read_bytes(vault.store.keys.path)
        if path.is_relative_to(vault.instance.home):
            _sweep(path)
        named(seal.write(path, parts, prove=prove, system=vault.system))
    return tuple(category for category in CATEGORIES if {f"file/{category}", f"plain/{category}"} & parts.keys())


def open_backup(bundle: SecretBundle, file: str) -> Backup:
    """Open the backup in a bundle. Raises VaultError, and wipes the bundle, for an invalid part."""
    slots: dict[str, dict[str, RootKey]] = defaultdict(dict)
    held: dict[str, dict[str, memoryview]] = {"file": {}, "plain": {}}
    for name, content in bundle.parts.items():
        match name.split("/"):
            case ["key", category, ("cur" | "next" | "prev") as slot] if (
                category in _KEPT and len(content) == keys.KEY_BYTES
            ):
                slots[category][slot] = RootKey(SecureBuffer.of([content]))
            case [("file" | "plain") as kind, category] if category in CATEGORIES:
                held[kind][category] = content
            case _ if name != _HEADER:
                bundle.wipe()
                raise vault_error(VaultErrorCode.BUNDLE_CONTENT, EVERY, file, section=name)
    return Backup(
        bundle=bundle,
        rings={category: CategoryKeys(**slots[category]) for category in _KEPT},
        files=held["file"],
        plain=held["plain"],
        header=bundle.parts.get(_HEADER),
    )


def backup_settings(backup: Backup, place: CategoryPaths) -> bytes:
    """The text of a settings file in the backup, empty without it; `place` is its category's. Raises VaultError."""
    category = place.category
    if category not in backup.files:
        return bytes(backup.plain.get(category, b""))
    plain, _ = files.open_text(backup.rings[category], place, backup.files[category])
    with plain:
        return bytes(plain.view)


def assert_restorable(vault: Vault, backup: Backup, without: Collection[str] = ()) -> None:
    """Raises VaultError for what does not open, and for existing files that differ; nothing is written.

    The keys and files of the categories in `without` may differ.
    """
    _prove(backup, vault.store.place)
    _refuse_differing(vault, backup, without)


def restore_backup(vault: Vault, backup: Backup) -> tuple[str, ...]:
    """Restore everything, and return the categories that have a file; refuses to overwrite differing files.

    Everything is decrypted before anything is written. An interrupted restore can be repeated. Raises VaultError, and
    AccessError for a folder that cannot be created.
    """
    store = vault.store
    with store.holding("env"):
        assert_restorable(vault, backup)
        for here in map(store.place, _KEPT):
            filesystem.make_folder(here.key.parent)
            filesystem.make_folder(here.file.parent)
        if isinstance(store.keys, PassphraseKeyProvider) and backup.header is not None:
            secure_files.write(store.keys.path, backup.header, check=_accept, system=vault.system)
        _put_keys(vault, backup, AUDIT)
        with vault.noted("restore", EVERY):
            for category in CATEGORIES:
                _put_keys(vault, backup, category)
                _put_file(vault, backup, category)
    return tuple(category for category in CATEGORIES if category in backup.files)


def plaintext_path(here: CategoryPaths) -> Path | None:
    """The path of a category's plaintext; None unless the category holds settings."""
    if here.category == AUDIT or CATEGORIES[here.category].shape != "text":
        return None
    return here.file.with_suffix("")


def _category_parts(vault: Vault, category: str, stack: ExitStack) -> dict[str, bytes | memoryview]:
    # The parts of one category, wiped with the stack.
    store, here = vault.store, vault.store.place(category)
    ring = stack.enter_context(store.ring(category))
    found: dict[str, bytes | memoryview] = {
        f"key/{category}/{slot}": key.root.view for slot in keys.SLOTS if (key := getattr(ring, slot)) is not None
    }
    if category != AUDIT and store.has_file(category):
        content = files.read_file(here, strict=store.strict, system=vault.system)
        found[f"file/{category}"] = stack.enter_context(content.data).view
    elif (plain := plaintext_path(here)) is not None and filesystem.is_present(plain):
        found[f"plain/{category}"] = filesystem.read_bytes(plain, limit=files.FILE_LIMIT_BYTES)
    if found:
        vault.note("export", category, "ok", "" if ring.cur is None else ring.cur.name)
    return found


def _sweep(path: Path) -> None:
    # Remove leftovers of killed backups; no other process writes backups into this instance meanwhile.
    for left in filesystem.entries(path.parent):
        if left.name.startswith(".") and left.name.endswith(f"{path.suffix}.new"):
            filesystem.remove(left)


def _prove(backup: Backup, place: Callable[[str], CategoryPaths]) -> None:
    for category, text in backup.files.items():
        files.open_text(backup.rings[category], place(category), text)[0].wipe()


def _refuse_differing(vault: Vault, backup: Backup, without: Collection[str]) -> None:
    # Report existing files that differ from what would be restored.
    keys_from, found = vault.store.keys, list[str]()
    if isinstance(keys_from, PassphraseKeyProvider) and _differs(keys_from.path, backup.header):
        found.append(key_providers.HEADER_PATH)
    for category in (one for one in _KEPT if one not in without):
        here, ring = vault.store.place(category), backup.rings[category]
        if "put" in keys_from.capabilities:
            with vault.store.ring(category) as present:
                foreign = {key.id for key in present.members()} - {key.id for key in ring.members()}
            found += [here.shown(here.key)] if foreign else []
        paths = {} if category == AUDIT else {here.file: backup.files.get(category)}
        if (plain := plaintext_path(here)) is not None:
            paths[plain] = backup.plain.get(category)
        found += [here.shown(path) for path, text in paths.items() if _differs(path, text)]
    if found:
        raise vault_error(VaultErrorCode.RESTORE_STANDS, EVERY, ", ".join(found))


def _differs(path: Path, text: memoryview | None) -> bool:
    # Whether the path exists with another content.
    return filesystem.is_present(path) and (
        text is None or filesystem.size(path) != len(text) or filesystem.read_bytes(path) != text
    )


def _put_keys(vault: Vault, backup: Backup, category: str) -> None:
    store, ring = vault.store, backup.rings[category]
    if "put" in store.keys.capabilities:
        for slot in keys.SLOTS:
            if (key := getattr(ring, slot)) is not None:
                store.put_key(category, slot, key)
        return
    here, given = store.place(category), store.key(category)
    if given is not None:
        given.wipe()
    if ring.cur is not None and (given is None or given.id != ring.cur.id):
        raise vault_error(VaultErrorCode.RESTORE_PROVIDER, category, here.shown(here.key))


def _put_file(vault: Vault, backup: Backup, category: str) -> None:
    here, ring = vault.store.place(category), backup.rings[category]

    def prove(written: memoryview) -> None:
        files.open_text(ring, here, written)[0].wipe()

    if (text := backup.files.get(category)) is not None:
        files.write_file(here, bytes(text), prove=prove, system=vault.system)
        vault.note("write", category, "ok", "" if ring.cur is None else ring.cur.name)
    elif (text := backup.plain.get(category)) is not None and (plain := plaintext_path(here)) is not None:
        files.write_file(attrs.evolve(here, file=plain), bytes(text), prove=_accept, system=vault.system)


def _accept(_: memoryview) -> None:
    # Reading back is proof enough.
    pass
