"""The content of decrypted files, checked against the fields that its users declare, and a class filled from it.

Content is settings as text, or JSON objects with one section per consumer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import attrs

from tbot_core.contracts.credentials import secret_fields
from tbot_core.errors import VaultError
from tbot_core.model import json_document
from tbot_core.model.formatting import printable_name
from tbot_core.system.redaction import SHORT
from tbot_core.system.secret import Secret
from tbot_core.vault.categories import CATEGORIES
from tbot_core.vault.error_codes import VaultErrorCode, combined_error, vault_error

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from tbot_core.contracts.credentials import SecretField
    from tbot_core.vault.categories import Shape

T = TypeVar("T")
_LONG: Final = 80
Schemas: TypeAlias = Mapping[tuple[str, str], Mapping[str, "SecretField"]]
"""The fields by category and section; the section is "" where the fields are those of the whole category."""


@attrs.frozen
class FieldLocation:
    """The location of fields: category, file as shown in messages, and section ("" for none)."""

    category: str
    file: str
    section: str = ""

    def fault(self, code: VaultErrorCode, name: str, allowed: str = "") -> VaultError:
        """Create the error of a field at this location."""
        shown = f"{self.section}.{name}" if self.section else name
        if len(shown) > _LONG or not shown.isprintable():
            shown = f"{shown[:_LONG]!a}..."
        return vault_error(code, self.category, self.file, section=shown, allowed=allowed)


def schema_key(category: str, section: str) -> tuple[str, str]:
    """The key of a section in `Schemas`."""
    return category, section if CATEGORIES[category].by_plugin else ""


def check_content(  # noqa: PLR0913, PLR0917  what is judged, its place, and the rules
    data: memoryview,
    category: str,
    file: str,
    schemas: Schemas,
    only: Collection[str] | None = None,
    required: Iterable[tuple[str, str]] = (),
) -> tuple[VaultError, ...]:
    """Return all faults of the content; sections with unknown fields are checked for shape only.

    With `only`, sections of other names are checked for shape only. `required` names sections that must be there.
    """
    shape = CATEGORIES[category].shape
    try:
        check_shape(data, category, file, shape)
    except VaultError as error:
        return (error,)
    if shape == "text":
        return ()
    sections = parse_content(data, category, file) if shape == "sections" else ("",)
    absent = sorted(section for place, section in required if place == category and section not in sections)
    errors = [vault_error(VaultErrorCode.CONTENT_ABSENT, category, file, section=name) for name in absent]
    for section in sections:
        schema = schemas.get(schema_key(category, section))
        if schema is not None and (only is None or not section or section in only):
            fields = content_fields(data, category, file, section or None)
            errors += _read(schema, fields, FieldLocation(category, file, section))[1]
            for value in fields.values():
                value.wipe()
    return tuple(errors)


def short_secrets(data: memoryview, category: str, file: str, schemas: Schemas) -> tuple[str, ...]:
    """The names of hidden fields whose values are so short that output is not well redacted; of valid content."""
    shape = CATEGORIES[category].shape
    if shape == "text":
        return ()
    found = []
    for section in parse_content(data, category, file) if shape == "sections" else ("",):
        known = schemas.get(schema_key(category, section), {})
        spelt = _spellings({name: one for name, one in known.items() if one.hidden})
        if not spelt:
            continue
        for name, value in content_fields(data, category, file, section or None).items():
            if name.lower() in spelt and len(value.inspect()) < SHORT:
                found.append(f"{section}.{spelt[name.lower()]}" if section else spelt[name.lower()])
            value.wipe()
    return tuple(found)


def fill_schema(schema: type[T], fields: Mapping[str, Secret], spot: FieldLocation) -> T:
    """Create an object of the class; non-hidden values are taken out of their secrets.

    Raises VaultError with every fault.
    """
    values, faults = _read(secret_fields(schema), fields, spot)
    if faults:
        for value in fields.values():
            value.wipe()
        raise combined_error(faults)
    return schema(**values)


def renewed_content(schema: type[Any], data: memoryview, spot: FieldLocation, values: Mapping[str, str]) -> bytes:
    """The content with new values, given by field; whatever a field's spelling was, it is the field's now.

    Raises VaultError as `content.replaced_fields` does.
    """
    section, spelt = spot.section or None, _spellings(secret_fields(schema))
    before = content_fields(data, spot.category, spot.file, section)
    changed: dict[str, str | None] = {name: None for name in before if spelt.get(name.lower()) in values}
    for value in before.values():
        value.wipe()
    return _replaced_fields(data, spot.category, spot.file, section, {**changed, **values})


def merged_content(
    stored: Mapping[str, Any], category: str, values: Mapping[str, Any], schemas: Schemas
) -> dict[str, Any]:
    """The stored content with new values: fields of the whole object, or of sections; the other fields stay.

    A value replaces its field in whatever spelling that was stored; None removes it, and a section whose last field it
    was. A section that is no object is taken as it is, for the check to name it.
    """
    kind, found = CATEGORIES[category], dict(stored)
    if kind.shape == "object":
        return _merged_fields(found, values, schemas.get(schema_key(category, ""), {}))
    if kind.by_plugin:  # a section may have been stored in another spelling
        found = {name.lower() if name.lower() in values else name: part for name, part in found.items()}
    for name, part in values.items():
        known = schemas.get(schema_key(category, name), {})
        found[name] = _merged_fields(found.get(name, {}), part, known) if isinstance(part, dict) else part
        if part and not found[name]:
            del found[name]
    return found


def stored_fields(stored: Mapping[str, Any], known: Mapping[str, SecretField]) -> frozenset[str]:
    """The known fields that have a value, in whatever spelling."""
    spelt = _spellings(known)
    return frozenset(spelt[name.lower()] for name in stored if name.lower() in spelt)


def content_fields(data: memoryview, category: str, file: str, section: str | None) -> Mapping[str, Secret]:
    """The fields of one section, or of the whole object, as secrets; values other than text as JSON.

    Raises VaultError for anything but a JSON object, for a missing section, and for an empty field.
    """
    found = parse_content(data, category, file)
    if section is not None:
        found = _section(found, category, file, section)
    return {name: _secret(value, category, file, name) for name, value in found.items()}


def _replaced_fields(
    data: memoryview, category: str, file: str, section: str | None, changed: Mapping[str, str | None]
) -> bytes:
    # The content with changed fields of one section, or of the whole object; a field of None is left out.
    # Raises VaultError for anything but a JSON object, and for a missing section.
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


def _merged_fields(
    stored: Mapping[str, Any], values: Mapping[str, Any], known: Mapping[str, SecretField]
) -> dict[str, Any]:
    spelt = _spellings(known)
    replaced = {spelt.get(name.lower(), name) for name in values}
    kept = {name: value for name, value in stored.items() if spelt.get(name.lower(), name) not in replaced}
    return {**kept, **{name: value for name, value in values.items() if value is not None}}


def _spellings(known: Mapping[str, SecretField]) -> dict[str, str]:
    return {word.lower(): field for field, it in known.items() for word in (it.name, *it.aliases)}


def _read(
    known: Mapping[str, SecretField], fields: Mapping[str, Secret], spot: FieldLocation
) -> tuple[dict[str, Any], list[VaultError]]:
    spelt = _spellings(known)
    given: dict[str, Secret] = {}
    faults: list[VaultError] = []
    for name, value in fields.items():
        field = spelt.get(name.lower())
        if field is None:
            faults.append(
                spot.fault(VaultErrorCode.CONTENT_UNKNOWN, name, ", ".join(it.name for it in known.values()) or "none")
            )
        elif field in given:
            faults.append(vault_error(VaultErrorCode.CONTENT_REPEATED, spot.category, spot.file))
        else:
            given[field] = value
    texts = {field: value.inspect() for field, value in given.items() if not known[field].hidden}
    values: dict[str, Any] = {}
    for field, it in known.items():
        try:
            if field not in given and it.fallback:
                values[field] = it.kind.parse(texts[it.fallback])
            else:
                values[field] = _value(it, given.get(field), needed=it.required or it.needed_with in given)
        except (ValueError, KeyError):
            code = VaultErrorCode.CONTENT_WRONG if field in given else VaultErrorCode.CONTENT_LACKING
            faults.append(spot.fault(code, it.name, it.kind.allowed))
    return values, faults


def _value(one: SecretField, given: Secret | None, *, needed: bool) -> Any:
    # Raises ValueError for a value that is not allowed, and for a missing one that is needed.
    if given is None:
        if needed:
            raise ValueError(one.name)
        return None if one.hidden else one.kind.parse(one.default_text or "")
    value = one.kind.parse(given.inspect())
    if one.hidden:
        return given
    given.wipe()
    return value


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
