"""A field of a form: what is asked, what is allowed, what was answered, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts.setting import SettingKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LISTED: Final = "one of "
_SHOWN: Final = 80


@attrs.frozen(kw_only=True)
class Option:
    """One of a few answers, with what it means; `title` is shown in place of the value."""

    value: str
    text: str = ""
    title: str = ""


@attrs.frozen(kw_only=True)
class FormField:
    """One value of a form.

    `default` is the text that counts where it is left empty, None if a value is needed. A `hidden` value is never
    shown: `stored` tells that there is one, which an empty input keeps. `sample` is the value of a paper instance.
    `options` are the allowed answers with their meaning, where they are few. `blank`: an empty answer is an answer of
    its own, and does not mean the default.
    """

    name: str
    label: str
    doc: str
    kind: SettingKind[Any]
    default: str | None = None
    value: str = attrs.field(default="", repr=False)
    hidden: bool = False
    stored: bool = False
    sample: str = ""
    options: tuple[Option, ...] = ()
    blank: bool = False
    fault: str = ""

    @property
    def choices(self) -> tuple[Option, ...]:
        """The answers to choose from; none where text is entered."""
        if self.options:
            return self.options
        if self.kind.name == "boolean":
            return (Option(value="true"), Option(value="false"))
        if self.kind.name == "choice":
            return tuple(Option(value=word) for word in self.kind.allowed.removeprefix(_LISTED).split(", "))
        return ()

    @property
    def needed(self) -> bool:
        """Whether a value has to be entered."""
        return self.default is None and not self.stored

    @property
    def shown(self) -> str:
        """The value in the form: the answer, else the default; nothing of a hidden one."""
        if self.hidden:
            return ""
        return self.value if self.blank else self.value or self.default or ""

    @property
    def number(self) -> bool:
        """Whether a phone shows the keys of numbers."""
        return self.kind.name in {"integer", "number", "money", "percent", "fraction", "minutes"}

    def with_faults(self, sentences: Iterable[str]) -> FormField:
        """The field with more that is wrong with it."""
        return attrs.evolve(self, fault=" ".join((self.fault, *sentences)).strip())

    def given(self, text: str) -> FormField:
        """The field with an answer, judged."""
        text = text if self.hidden else text.strip()
        return attrs.evolve(self, value=text, fault=self._fault(text))

    def _fault(self, text: str) -> str:
        allowed = self.kind.allowed
        if not text:
            return f"A value is needed. Allowed: {allowed}." if self.needed else ""
        try:
            self.kind.parse(text)
        except ValueError:
            words = "This value" if self.hidden else f"{text[:_SHOWN]!r}"
            return f"{words} is not allowed. Allowed: {allowed}."
        return ""


def judged(fields: Iterable[FormField], form: Mapping[str, str]) -> tuple[FormField, ...]:
    """The fields with the answers of a form; names that no field has are not read."""
    return tuple(field.given(form.get(field.name, "")) for field in fields)


def values_of(fields: Iterable[FormField]) -> dict[str, str]:
    """The answers that are not empty, by the fields' names."""
    return {field.name: field.value for field in fields if field.value}
