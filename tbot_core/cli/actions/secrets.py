"""What `tbot secrets` does, behind its words: values are put in, checked, and never given out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.errors import UsageError, VaultError
from tbot_core.instance import Instance, read
from tbot_core.model import json_document
from tbot_core.system import filesystem
from tbot_core.system.secret import SHOWN
from tbot_core.vault import content, rotation
from tbot_core.vault.categories import CATEGORIES, ENV_FILE
from tbot_core.vault.error_codes import Code, together
from tbot_core.vault.schemas import judge
from tbot_core.vault.vault import Standing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tbot_core.vault.audit_log import Anchor, Line
    from tbot_core.vault.rotation import Rotated
    from tbot_core.vault.schemas import Schemas
    from tbot_core.vault.vault import Upgrade, Vault

_ANEW: Final = frozenset(
    code.text
    for code in Code
    if code.name.startswith(("CONTENT_", "TOKEN_", "FERNET_")) or code in {Code.FILE_EMPTY, Code.FORMAT_UNKNOWN}
) - {code.text for code in (Code.TOKEN_VERSION, Code.TOKEN_ALGORITHM, Code.TOKEN_KEY_ID, Code.FERNET_TAG)}
"""What a file is beyond: nothing in it could be kept. A file that another key or a newer tbot would open is spared."""


@attrs.frozen(kw_only=True)
class Shown:
    """A category as people see it: how it stands, when its file was written, and its fields by name alone."""

    standing: Standing
    modified: datetime | None
    fields: tuple[str, ...] = ()
    mask: str = SHOWN


def shown(home: Path | None, category: str | None = None) -> tuple[Shown, ...]:
    """How each category stands; a single one with the names of its fields as well, which opens it."""
    vault = vault_at(home, mending=True, ready=False)
    rows = []
    for it in vault.status():
        if category in {None, it.category}:
            names = () if category is None or "file" in it.missing else _names(vault, category)
            rows.append(Shown(standing=it, modified=_modified(vault, it.category), fields=names))
    return tuple(rows)


def verified(home: Path | None) -> tuple[VaultError, ...]:
    """What is wrong with the encrypted files and their keys, and with `.env` as it is found at a start."""
    fault = read(Instance.at(home)).env.fault
    found = vault_at(home, mending=True, ready=False).verify(known(home))
    first = (fault,) if isinstance(fault, VaultError) and fault.message not in {it.message for it in found} else ()
    return (*first, *found)


def accesses(home: Path | None, *, verify: bool) -> tuple[tuple[Line, ...], Anchor | None]:
    """Every access that is logged, and with `verify` the head of the proven chain. Raises VaultError."""
    from tbot_core.vault.audit_log import entries, log_path

    instance = Instance.at(home)
    anchor = log_verified(instance) if verify else None
    return tuple(entries(log_path(instance))), anchor


def log_verified(instance: Instance) -> Anchor | None:
    """The head of the proven log of accesses; None where there has been none. Raises VaultError.

    The settings, which do not say where the log lies, stay closed: opening them would add lines to what is proven.
    """
    from tbot_core.contracts.settings import Deployment
    from tbot_core.instance.secrets import vault
    from tbot_core.vault.audit_log import Audit, anchor_path, log_path

    if not filesystem.is_present(log_path(instance)) and not filesystem.is_present(anchor_path(instance)):
        return None
    return Audit(store=vault(instance, Deployment(), ready=False).store, actor="").verify()


def put(home: Path | None, category: str, values: Mapping[str, Any]) -> Path:
    """Put values into a category beside what it holds, and return its file. Raises UsageError and VaultError.

    A file of which nothing can be kept is written anew.
    """
    from tbot_core.instance.secrets import keep

    vault = vault_at(home, mending=category == "env")
    _assert_utf8(vault, category, values)
    data = _merged(category, _held(vault, category), values)
    assess(home, vault, {category: data}, only=values)
    keep(vault, category, data)
    return vault.store.place(category).file


def edited(home: Path | None, category: str, editor: Callable[[str, bytes], bytes]) -> bool:
    """Let the editor change what a category holds; whether it did. What does not hold is not written."""
    vault = vault_at(home)
    with vault.read(category) as opened:
        data = bytes(opened.view)
    text = editor(vault.store.place(category).logical, data)
    if text == data:
        return False
    assess(home, vault, {category: text})
    vault.write(category, text)
    return True


def rekeyed(home: Path | None, category: str, values: Mapping[str, Any]) -> Rotated:
    """A new key and new content for a category."""
    vault = vault_at(home, mending=category == "env")
    _assert_utf8(vault, category, values)
    data = _merged(category, b"", values)
    assess(home, vault, {category: data})
    here = vault.store.place(category)
    for folder in (here.key.parent, here.file.parent):
        filesystem.make_folder(folder)
    return rotation.rekey(vault, category, data)


def upgraded(home: Path | None, *, dry_run: bool) -> tuple[Upgrade, ...]:
    """What was, or would be, written in the format and under the key that a write uses now."""
    return vault_at(home, ready=False).upgrade(dry_run=dry_run)


def rotated(home: Path | None, categories: tuple[str, ...], *, resume: bool) -> tuple[Rotated, ...]:
    """New keys for the categories, or the rest of a rotation that was begun."""
    return (rotation.resume if resume else rotation.rotate)(vault_at(home, ready=False), categories)


def withdrawn(home: Path | None, categories: tuple[str, ...]) -> tuple[str, ...]:
    """The categories whose rotation was under way and is not any more."""
    return rotation.abort(vault_at(home, ready=False), categories)


def vault_at(home: Path | None, *, mending: bool = False, ready: bool = True) -> Vault:
    """The vault with the paths that `.env` gives; with `mending` its faults are put up with."""
    from tbot_core.instance.secrets import vault
    from tbot_core.instance.sources import deployment_of

    env = read(Instance.at(home)).env
    if env.fault is not None and not mending:
        raise env.fault
    return vault(Instance.at(home), deployment_of(env.parsed), ready=ready)


def parsed(text: str) -> dict[str, Any]:
    """The values of a JSON document. Raises UsageError, which quotes nothing of it."""
    try:
        found = json_document.read(text)
    except json_document.Unreadable:
        found = None
    if not isinstance(found, dict) or not found:
        raise UsageError("The document is no JSON object with values.", "See `tbot secrets set --help`.")
    return found


def _assert_utf8(vault: Vault, category: str, values: Mapping[str, Any]) -> None:
    here = vault.store.place(category)
    content.assert_utf8(values, category, here.shown(here.file))


def _held(vault: Vault, category: str) -> bytes:
    # What a category holds, empty where there is nothing that could be kept.
    if not vault.store.has_file(category):
        return b""
    here = vault.store.place(category)
    try:
        with vault.read(category) as opened:
            content.check(opened.view, category, here.shown(here.file), CATEGORIES[category].shape)
            return bytes(opened.view)
    except VaultError as error:
        if error.code not in _ANEW:
            raise
        return b""


def _merged(category: str, held: bytes, values: Mapping[str, Any]) -> bytes:
    from tbot_core.cli.actions.config import with_values

    if CATEGORIES[category].shape == "text":
        return with_values(held.decode(), values)
    found = {**(json_document.read(held) if held else {}), **values}
    return json.dumps(found, sort_keys=True, ensure_ascii=False).encode()


def assess(
    home: Path | None, vault: Vault, contents: Mapping[str, bytes], only: Mapping[str, Any] | None = None
) -> None:
    """Raises VaultError or SettingsError for contents that their categories' readers would refuse.

    With `only`, sections of other names are judged by their shape alone: what is wrong there was so before.
    """
    classes, faults = known(home), list[VaultError]()
    for category, data in contents.items():
        here = vault.store.place(category)
        faults += judge(memoryview(data), category, here.shown(here.file), classes, only)
    if faults:
        raise together(faults)
    texts = {category: data for category, data in contents.items() if CATEGORIES[category].shape == "text"}
    if texts:
        hold_together(home, texts)


def is_held(home: Path | None, category: str) -> bool:
    """Whether the category has a file."""
    return vault_at(home, mending=True, ready=False).store.has_file(category)


def known(home: Path | None) -> Schemas:
    """The classes that judge secrets, those of the enabled plugins among them."""
    from tbot_core.cli.actions.config import declared
    from tbot_core.instance.secret_schemas import schemas

    return schemas(declared(home))


def hold_together(home: Path | None, contents: Mapping[str, bytes]) -> None:
    """Settings of env, env_bot or both must hold together with the others, as at a start of paper trading.

    Where `.env` cannot be opened the others cannot be found: then `tbot check` judges afterwards. Raises VaultError for
    settings that name another key of themselves than a start would look for.
    """
    from tbot_core.cli.actions.config import declared
    from tbot_core.instance import load
    from tbot_core.instance.dotenv import parse
    from tbot_core.instance.secrets import vault
    from tbot_core.instance.sources import deployment_of

    if "env" in contents:
        vault(Instance.at(home), deployment_of(parse(ENV_FILE, contents["env"])), ready=False)
    sources = read(Instance.at(home))
    if sources.env.fault is not None:
        return
    for category, field in (("env", "env"), ("env_bot", "bot")):
        if category in contents:
            source = getattr(sources, field)
            parsed = parse(f"{source.name}.enc", contents[category])
            sources = attrs.evolve(sources, **{field: attrs.evolve(source, plain=True, parsed=parsed, fault=None)})
    load(home, mode="paper", declared=declared(home), sources=sources)


def fields(category: str, file: str, data: memoryview) -> dict[str, object]:
    """What a category holds by name: variables, fields, or `section.field`. Raises VaultError."""
    from tbot_core.instance.dotenv import parse

    shape = CATEGORIES[category].shape
    if shape == "text":
        return {entry.key: entry.value for entry in parse(file, bytes(data)).entries}
    content.check(data, category, file, shape)
    found = content.parse(data, category, file)
    if shape == "object":
        return found
    return {f"{section}.{name}": value for section, part in found.items() for name, value in part.items()}


def _names(vault: Vault, category: str) -> tuple[str, ...]:
    here = vault.store.place(category)
    with vault.read(category) as opened:
        return tuple(sorted(fields(category, here.shown(here.file), opened.view)))


def _modified(vault: Vault, category: str) -> datetime | None:
    file = vault.store.place(category).file
    return datetime.fromtimestamp(filesystem.modified(file), UTC) if vault.store.has_file(category) else None
