"""The declaration of a category of secrets: one field of a frozen attrs class for each value.

Core and plugins declare in the same way. Values are validated whenever the category is written, checked or passed on::

    @attrs.frozen(kw_only=True)
    class Credentials:
        api_key: SecretValue = hidden_field(doc="Key of the account.", aliases=("key",))
        mode: str = shown_field(choice("paper", "live"), default="paper", doc="Which of the broker's hosts is used.")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol, TypedDict, TypeVar, Unpack, runtime_checkable

import attrs

from tbot_core.contracts.setting import SettingKind, text
from tbot_core.errors import PluginError
from tbot_core.model import json_document

T = TypeVar("T")
METADATA: Final = "tbot_core.contracts.credentials"
_LINE: Final = text(pattern=r"(?=.*\S)[^\x00-\x1f\x7f]{1,4096}")
_PART: Final = re.compile(r"[^\x00-\x20\x7f,][^\x00-\x1f\x7f,]{0,199}")


class PluginSecrets(Mapping[str, Any]):
    """A plugin's secrets: for each category that it receives, an object of the declared class.

    `write` stores renewed values and returns the new object; None where nothing is stored.
    """

    def __init__(
        self,
        objects: Mapping[str, Any] | None = None,
        write: Callable[[str, Mapping[str, str]], Any] | None = None,
    ) -> None:
        self._objects = dict(objects or {})
        self._write = write

    def renew(self, category: str, **values: str) -> Any:
        """Store values that the vendor renewed, such as a token, by field; returns the category's new object.

        The file is written encrypted, and the access is audited; the other fields stay. Raises PluginError where
        secrets are not stored, as in a simulation, and VaultError if a value does not fit its field or the file
        cannot be written: the object is the former one then.
        """
        if self._write is None or category not in self._objects:
            raise PluginError(f"Secrets of {category} cannot be renewed here.", "Keep the new value in memory.")
        self._objects[category] = self._write(category, values)
        return self._objects[category]

    def __getitem__(self, category: str) -> Any:
        """The object of a category."""
        return self._objects[category]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the categories."""
        return iter(self._objects)

    def __len__(self) -> int:
        """Return the number of categories."""
        return len(self._objects)

    def __repr__(self) -> str:
        """Return the categories, never a value."""
        return f"PluginSecrets({', '.join(self._objects)})"


class SecretValue(Protocol):
    """A secret that shows its value only on request."""

    def reveal(self) -> str:
        """The value as text, for a library that requires text."""

    def wipe(self) -> None:
        """Overwrite the value when it is no longer needed."""


@attrs.frozen(kw_only=True)
class SecretField:
    """One value of a category: its name, kind and meaning, and its aliases; case does not matter.

    `default_text` is the value if it is left out, None if it is required. `hidden` values are passed as secrets, and as
    None if they are optional and left out.

    `fallback` names the shown field whose value counts where this one is left out: one of the two must be given.
    `needed_with` names the field that is of no use without this one.
    """

    kind: SettingKind[Any]
    doc: str
    name: str = ""
    aliases: tuple[str, ...] = ()
    default_text: str | None = None
    hidden: bool = False
    fallback: str = ""
    needed_with: str = ""

    @property
    def required(self) -> bool:
        """Whether a value is required."""
        return self.default_text is None


class FieldTraits(TypedDict, total=False):
    """Optional traits of a shown field: its aliases, and those of `SecretField`."""

    aliases: tuple[str, ...]
    name: str
    fallback: str
    needed_with: str


def shown_field(kind: SettingKind[T], *, doc: str, default: str | None = None, **traits: Unpack[FieldTraits]) -> T:
    """A field that may be shown; `default` is text, None for a required value.

    Raises ValueError for a default that the kind does not allow.
    """
    one = SecretField(kind=kind, doc=doc, default_text=default, **traits)
    value: Any = attrs.NOTHING if default is None else kind.parse(default)
    field: T = attrs.field(default=value, metadata={METADATA: one})
    return field


def hidden_field(
    kind: SettingKind[Any] = _LINE, *, doc: str, optional: bool = False, aliases: tuple[str, ...] = ()
) -> SecretValue:
    """A field that is never shown: one line of text that `kind` allows; it is passed on as it is written."""
    one = SecretField(kind=kind, doc=doc, aliases=aliases, default_text="" if optional else None, hidden=True)
    absent: Any = None if optional else attrs.NOTHING
    field: SecretValue = attrs.field(default=absent, metadata={METADATA: one})
    return field


def secret_fields(schema: type[Any]) -> dict[str, SecretField]:
    """The declarations of an attrs class, by field and in order; each entry has its name."""
    return {
        field.name: attrs.evolve(field.metadata[METADATA], name=field.metadata[METADATA].name or field.name)
        for field in attrs.fields(schema)
        if METADATA in field.metadata
    }


def list_of(what: str, *, pattern: str = r".*", allowed: str = "") -> SettingKind[tuple[str, ...]]:
    """Any number of `what` (a plural), separated by commas or as a JSON list of text; each matches `pattern`.

    `allowed` describes the list where `what` alone does not.
    """
    part = re.compile(pattern)

    def parse(written: str) -> tuple[str, ...]:
        is_json = written.startswith("[")
        parts = json_document.parse_json(written) if is_json else [it.strip() for it in written.split(",") if written]
        if not all(isinstance(it, str) and _PART.fullmatch(it) and part.fullmatch(it) for it in parts):
            raise ValueError("no list of text")
        return tuple(parts)

    allowed = f"{allowed or what}, separated by commas or as a list"
    return SettingKind(name="several", allowed=allowed, parse=parse, show=",".join, empty=True)


@runtime_checkable
class KeyProvider(Protocol):
    """The source of the keys of the encrypted files.

    A key is 32 bytes; `category` is a category of secrets, or `audit`; `slot` is `cur`, and around a rotation `next`
    and `prev`. A failure is raised as VaultError or OSError, never returned as None.
    """

    @property
    def capabilities(self) -> frozenset[str]:
        """`put`: keys can be written, so that they can be created and rotated."""

    def get_key(self, category: str, slot: str) -> bytes | bytearray | memoryview | None:
        """The key, None if there is none; a bytearray is overwritten by the caller."""

    def put_key(self, category: str, slot: str, key: memoryview | None) -> None:
        """Store the key durably, replacing the previous one; None deletes it."""
