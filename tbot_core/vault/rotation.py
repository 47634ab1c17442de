"""Rotation of keys: safe at every step, because where it stands is read off the keys and files themselves.

For each category: write next; seal the file with next; open it with next alone; prev = cur; cur = next; drop next. A
reader asks for next, cur and prev in that order after it has read the file, so that it never misses a key.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

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


@attrs.frozen(kw_only=True)
class RotationResult:
    """What became of a category: the ids of its current key before and after."""

    category: str
    before: str
    after: str


def rotate_categories(vault: Vault, categories: Sequence[str] = tuple(CATEGORIES)) -> tuple[RotationResult, ...]:
    """Give each category that has a key a new one. The old stays readable as prev until it is retired.

    Raises VaultError, also when a rotation of one of them was begun before: then `resume` or `abort`.
    """
    with vault.store.holding(categories[0]):
        chosen = [category for category in categories if _may_begin(vault, category)]
        begun: list[tuple[str, RootKey]] = []
        for category in chosen:
            with vault.noted("rotate", category):
                begun.append((category, _begin(vault, category)))
        return tuple(_finished(vault, category, key) for category, key in begun)


def resume_rotation(vault: Vault, categories: Sequence[str] = tuple(CATEGORIES)) -> tuple[RotationResult, ...]:
    """Finish what was begun, from wherever it stands; nothing happens to a category without a next key."""
    with vault.store.holding(categories[0]):
        begun = ((category, vault.store.key(category, "next")) for category in categories)
        return tuple(_finished(vault, category, key) for category, key in begun if key is not None)


def withdraw_rotation(vault: Vault, categories: Sequence[str] = tuple(CATEGORIES)) -> tuple[str, ...]:
    """Go back to the current keys, and return the categories that were under way.

    Where the new key is the current one already, or the only one that opens the file, it stays.
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
    """Give a category a new key and new content, also where its key is lost or damaged. Raises VaultError."""
    with vault.store.holding(category):
        old = _usable(vault, category)
        if old is not None:
            _may_begin(vault, category)
        with vault.noted("rotate", category):
            new = _begin(vault, category)
            vault.store.put(category, plaintext, new)
            return _promote(vault, category, old, new)


def retire_previous_keys(
    vault: Vault, rotated: Mapping[str, datetime], *, backed_up: datetime | None, keep_days: int
) -> tuple[str, ...]:
    """Drop the previous keys that nobody needs, and return their categories.

    `rotated` says when each category was last rotated, `backed_up` when a backup was last verified: a key goes once it
    is `keep_days` old and a later backup exists, and never while the file still needs it. Raises VaultError.
    """
    now, gone = vault.clock.now(), list[str]()
    for category, moment in sorted(rotated.items()):
        if backed_up is None or backed_up <= moment or now - moment < timedelta(days=keep_days):
            continue
        with vault.store.holding(category), vault.store.ring(category) as ring:
            if ring.prev is None or ring.cur is None or ring.next is not None:
                continue
            _prove(vault, category, ring.cur)
            with vault.noted("retire", category):
                vault.store.put_key(category, "prev", None)
            gone.append(category)
    return tuple(gone)


def _may_begin(vault: Vault, category: str) -> bool:
    here = vault.store.place(category)
    with vault.store.ring(category) as ring:
        if ring.next is not None:
            raise vault_error(VaultErrorCode.ROTATION_BEGUN, category, here.shown(here.key))
        return ring.cur is not None


def _usable(vault: Vault, category: str) -> RootKey | None:
    # The current key; None as well for one that is damaged, which a new one is to replace.
    try:
        return vault.store.key(category)
    except VaultError:
        return None


def _begin(vault: Vault, category: str) -> RootKey:
    key = keys.generate_key(vault.entropy)
    vault.store.put_key(category, "next", key)
    return key


def _finished(vault: Vault, category: str, new: RootKey) -> RotationResult:
    # From any state in which there is a next key; each step may have been done before.
    with vault.noted("rotate", category), vault.store.ring(category) as ring:
        if ring.cur is not None:
            _move(vault, category, new)
        _prove(vault, category, new)
        return _promote(vault, category, ring.cur, new)


def _promote(vault: Vault, category: str, old: RootKey | None, new: RootKey) -> RotationResult:
    # Once more after the promotion itself nothing is left to do but to drop the next key.
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
    # Seal the file with the key, unless it is already, or there is none.
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
