"""The content of decrypted files: settings as text, or JSON objects with one section per consumer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tbot_core.model import json_document
from tbot_core.model.formatting import printable_name
from tbot_core.system.secret import Secret
from tbot_core.vault.categories import CATEGORIES
from tbot_core.vault.error_codes import VaultErrorCode, vault_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tbot_core.vault.categories import Shape


def content_fields(data: memoryview, category: str, file: str, section: str | None) -> Mapping[str, Secret]:
    """The fields of one section, or of the whole object, as secrets; values other than text as JSON.

    Raises VaultError for anything but a JSON object, for a missing section, and for an empty field.
    """
    found = parse_content(data, category, file)
    if section is not None:
        found = _section(found, category, file, section)
    return {name: _secret(value, category, file, name) for name, value in found.items()}


def replaced_fields(
    data: memoryview, category: str, file: str, section: str | None, changed: Mapping[str, str | None]
) -> bytes:
    """The content with changed fields of one section, or of the whole object; a field of None is left out.

    Raises VaultError for anything but a JSON object, and for a missing section.
    """
    found = parse_content(data, category, file)
    part = found if section is None else _section(found, category, file, section)
    for name in changed.keys() & part.keys():
        del part[name]
    part.update({name: value for name, value in changed.items() if value is not None})
    return json.dumps(found, ensure_ascii=False).encode()


def check_shape(data: memoryview, category: str, file: str, shape: Shape) -> None:
    """Raises VaultError unless the content has the category's shape."""
    if shape == "text":
        _text(data, category, file)
        return
    found = parse_content(data, category, file)
    if CATEGORIES[category].by_plugin:
        plugin_sections(found, category, file)
    parts = [_section(found, category, file, name) for name in found] if shape == "sections" else [found]
    for part in parts:
        for name, value in part.items():
            _secret(value, category, file, name).wipe()


def plugin_sections(found: Mapping[str, Any], category: str, file: str) -> dict[str, Any]:
    """The sections under the names of their plugins, which are in lower case.

    Raises VaultError, which names both, for two sections of one plugin in other spelling.
    """
    spelt: dict[str, str] = {}
    for name in found:
        if (other := spelt.setdefault(name.lower(), name)) != name:
            both = " and ".join(map(printable_name, (other, name)))
            raise vault_error(VaultErrorCode.SECTION_SPELT_TWICE, category, file, section=both)
    return {name.lower(): part for name, part in found.items()}


def parse_content(data: memoryview, category: str, file: str) -> dict[str, Any]:
    """Parse the JSON object in a file; duplicate fields are refused. Raises VaultError."""

    def pairs(items: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            raise vault_error(VaultErrorCode.CONTENT_REPEATED, category, file)
        return found

    text = _text(data, category, file)
    try:
        found = json_document.parse_json(text, pairs)
    except json_document.InvalidJson:
        raise vault_error(VaultErrorCode.CONTENT_JSON, category, file) from None
    if not isinstance(found, dict):
        raise vault_error(VaultErrorCode.CONTENT_OBJECT, category, file)
    assert_utf8(found, category, file)
    return found


def assert_utf8(found: Any, category: str, file: str) -> None:
    """Raises VaultError, naming the first field, for text that UTF-8 cannot encode."""
    for name in json_document.invalid_utf8_places(found):
        code = VaultErrorCode.CONTENT_WRONG if name else VaultErrorCode.CONTENT_UTF8
        raise vault_error(code, category, file, section=name, allowed="UTF-8 text")


def _text(data: memoryview, category: str, file: str) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise vault_error(VaultErrorCode.CONTENT_UTF8, category, file) from None


def _section(found: Mapping[str, Any], category: str, file: str, section: str) -> dict[str, Any]:
    if section not in found:
        raise vault_error(VaultErrorCode.CONTENT_ABSENT, category, file, section=section)
    part = found[section]
    if not isinstance(part, dict):
        raise vault_error(VaultErrorCode.CONTENT_SECTION, category, file, section=section)
    return part


def _secret(value: Any, category: str, file: str, name: str) -> Secret:
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    if not text:
        raise vault_error(VaultErrorCode.CONTENT_EMPTY, category, file, section=name)
    return Secret(text)
