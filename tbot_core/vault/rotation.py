"""Rotation of keys. It can be resumed at every step, because its progress is derived from the keys and files.

For each category: write next; encrypt the file with next; decrypt it with next alone; prev = cur; cur = next; remove
next. A reader first reads the file, then the keys next, cur and prev in that order, so it never misses a key.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import VaultError
from tbot_core.vault import keys
from tbot_core.vault.categories import CATEGORIES
from tbot_core.vault.error_codes import VaultErrorCode, vault_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from tbot_core.vault.keys import CategoryKeys, RootKey
    from tbot_core.vault.vault import Vault


_NO_KEY: Final = frozenset(
    code.text for code in (VaultErrorCode.KEY_TOO_LARGE, VaultErrorCode.KEY_NOT_REGULAR, VaultErrorCode.KEY_SYMLINK)
)
"""Faults of a path at which there is another file than a key."""


@attrs.frozen(kw_only=True)
class RotationResult:
    """The result for a category: ids of its current key before and after."""

    category: str
    before: str
    after: str


def rotate_categories(vault: Vault, categories: Sequence[str] = tuple(CATEGORIES)) -> tuple[RotationResult, ...]:
    """Give each category that has a key a new one. The old key stays readable as prev until it is retired.

    Raises VaultError, also when a rotation of one of them was started before: then resume or withdraw it.
    """
    with vault.store.holding(categories[0]):
        chosen = [category for category in categories if _can_start(vault, category)]
        started: list[tuple[str, RootKey]] = []
        for category in chosen:
            with vault.noted("rotate", category):
                started.append((category, _start(vault, category)))
        return tuple(_finish(vault, category, key) for category, key in started)


def resume_rotation(vault: Vault, categories: Sequence[str] = tuple(CATEGORIES)) -> tuple[RotationResult, ...]:
    """Finish started rotations; categories without a next key are left unchanged."""
    with vault.store.holding(categories[0]):
        started = ((category, vault.store.key(category, "next")) for category in categories)
        return tuple(_finish(vault, category, key) for category, key in started if key is not None)


def withdraw_rotation(vault: Vault, categories: Sequence[str] = tuple(CATEGORIES)) -> tuple[str, ...]:
    """Return to the current keys, and return the categories whose rotation was started.

    If the new key is already the current one, or the only one that opens the file, it stays.
    """
    found: list[str] = []
    with vault.store.holding(categories[0]):
        for category in categories:
            key = vault.store.key(category, "next")
            if key is not None:
                with vault.noted("rotate", category), vault.store.ring(category) as ring:
                    _withdraw(vault, category, ring, key)
                found.append(category)
                key.wipe()
    return tuple(found)


def replace_key(vault: Vault, category: str, plaintext: bytes | bytearray | memoryview) -> RotationResult:
    """Give a category a new key and new content, also when its key is lost or damaged. Raises VaultError."""
    with vault.store.holding(category):
        old = _usable(vault, category)
        if old is not None:
            _can_start(vault, category)
        with vault.noted("rotate", category):
            new = _start(vault, category)
            vault.store.put(category, plaintext, new)
            return _promote(vault, category, old, new)


def retire_previous_keys(
    vault: Vault, rotated: Mapping[str, datetime], *, backed_up: datetime | None, keep_days: int
) -> tuple[str, ...]:
    """Remove previous keys that are no longer needed, and return their categories.

    `rotated`: when each category was last rotated; `backed_up`: when a backup was last verified. A key is removed when
    it is `keep_days` old and a later backup exists, but never while the file needs it. Raises VaultError.
    """
    now, retired = vault.clock.now(), list[str]()
    for category, moment in sorted(rotated.items()):
        if backed_up is None or backed_up <= moment or now - moment < timedelta(days=keep_days):
            continue
        with vault.store.holding(category), vault.store.ring(category) as ring:
            if ring.prev is None or ring.cur is None or ring.next is not None:
                continue
            _prove(vault, category, ring.cur)
            with vault.noted("retire", category):
                vault.store.put_key(category, "prev", None)
            retired.append(category)
    return tuple(retired)


def _can_start(vault: Vault, category: str) -> bool:
    here = vault.store.place(category)
    with vault.store.ring(category) as ring:
        if ring.next is not None:
            raise vault_error(VaultErrorCode.ROTATION_BEGUN, category, here.shown(here.key))
        return ring.cur is not None


def _usable(vault: Vault, category: str) -> RootKey | None:
    # The current key; None also for a damaged one, which is to be replaced. What is no key is never replaced.
    try:
        return vault.store.key(category)
    except VaultError as fault:
        if fault.code in _NO_KEY:
            raise
        return None


def _start(vault: Vault, category: str) -> RootKey:
    key = keys.generate_key(vault.entropy)
    vault.store.put_key(category, "next", key)
    return key


def _finish(vault: Vault, category: str, new: RootKey) -> RotationResult:
    # Works from any state with a next key; each step may have been done before.
    with vault.noted("rotate", category), vault.store.ring(category) as ring:
        if ring.cur is not None:
            _move(vault, category, new)
        _prove(vault, category, new)
        return _promote(vault, category, ring.cur, new)


def _promote(vault: Vault, category: str, old: RootKey | None, new: RootKey) -> RotationResult:
    # When repeated after the promotion, only the next key remains to be removed.
    if old is None or old.id != new.id:
        if old is not None:
            vault.store.put_key(category, "prev", old)
        vault.store.put_key(category, "cur", new)
    vault.store.put_key(category, "next", None)
    new.wipe()
    return RotationResult(category=category, before="" if old is None else old.name, after=new.name)


def _withdraw(vault: Vault, category: str, ring: CategoryKeys, new: RootKey) -> None:
    if ring.cur is None:
        if vault.store.has_file(category) and _opens(vault, category, new):
            vault.store.put_key(category, "cur", new)
    elif ring.cur.id != new.id:
        _move(vault, category, ring.cur)
        _prove(vault, category, ring.cur)
        if ring.prev is not None and ring.prev.id == ring.cur.id:
            vault.store.put_key(category, "prev", None)
    vault.store.put_key(category, "next", None)


def _move(vault: Vault, category: str, key: RootKey) -> None:
    # Encrypt the file with the key, unless that is done or there is no file.
    if vault.store.has_file(category):
        with vault.store.load(category) as opened:
            if opened.key_id != key.name:
                vault.store.put(category, opened.view, key)


def _prove(vault: Vault, category: str, key: RootKey) -> None:
    if vault.store.has_file(category) and not _opens(vault, category, key):
        here = vault.store.place(category)
        raise vault_error(VaultErrorCode.ROTATION_UNPROVEN, category, here.shown(here.file))


def _opens(vault: Vault, category: str, key: RootKey) -> bool:
    try:
        vault.store.load_with(category, key).wipe()
    except VaultError:
        return False
    return True
