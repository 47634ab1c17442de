"""Questions on a terminal, one after the other: a wrong answer is asked again at once, and one can go back.

A script is a function that asks its questions in order. To go back the last answer is dropped, and the script runs
again: it gets the other answers without asking, so that each later question follows from the earlier answers. The
values of secrets are asked for in this way, or read from a JSON document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar, cast

import attrs
import click

from tbot_core.actions.instance_creation import document_json
from tbot_core.actions.secrets import known_schemas, section_fault, section_names, stored_content
from tbot_core.errors import UsageError
from tbot_core.vault.categories import CATEGORIES
from tbot_core.vault.schemas import schema_key, stored_fields

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import TextIO

    from tbot_core.actions.adoption import Adoption, SecretsNeeded
    from tbot_core.contracts.credentials import SecretField

T = TypeVar("T")
_WIDTH: Final = 78
_BACK: Final = frozenset({"<", "back"})
_EXPLAIN: Final = "?"
KEYS: Final = "Enter takes the value in [brackets], ? explains the question, < goes back, Ctrl-C ends."
"""What can be typed at each question."""

_LISTED: Final = frozenset({"choice", "boolean"})
"""Kinds whose allowed values are part of the question."""


class AnswerRefused(ValueError):
    """An answer that cannot be used; the text is a sentence that names what is allowed."""


class _WentBack(Exception):
    pass


class _Rewound(Exception):
    def __init__(self, mark: int) -> None:
        super().__init__()
        self.mark = mark


@attrs.frozen(kw_only=True)
class Question(Generic[T]):
    """A question in one line, with the sentences that `?` shows.

    `parse` turns the written text into a value; it raises AnswerRefused, or ValueError, for which `allowed` is shown.
    `default` is what Enter means, None if an answer is required; `shown_default` is its text in the line. `hidden`
    input is not shown.
    """

    label: str
    explanation: str
    parse: Callable[[str], T]
    allowed: str = ""
    default: str | None = None
    shown_default: str = ""
    hidden: bool = False

    @property
    def line(self) -> str:
        """The question as it is asked."""
        words = self.shown_default or self.default or ("" if self.default is None else "empty")
        return f"{self.label}{f' [{words}]' if words else ''}"


class Interview:
    """The answers of a person to the questions of a script."""

    def __init__(self) -> None:
        self._given: list[tuple[Any, bool]] = []  # values in order, and whether each was asked for
        self._next = 0

    def run(self, script: Callable[[Interview], T]) -> T:
        """The result of the script, after a person has answered. Raises click.Abort for Ctrl-C and Ctrl-D."""
        while True:
            self._next = 0
            try:
                return script(self)
            except _WentBack:
                self._drop_last_answer()
            except _Rewound as wish:
                del self._given[wish.mark :]

    def say(self, text: str = "") -> None:
        """Show text, unless it was shown before the answers that are repeated."""
        if self._next == len(self._given):
            click.echo(text)

    def ask(self, question: Question[T]) -> T:
        """The value of the answer; a person is asked until it can be used."""
        return cast("T", self._value(lambda: self._asked(question), asked=True))

    def once(self, deed: Callable[[], T]) -> T:
        """The result of the deed, which is not done again when a person goes back to a later question."""
        return cast("T", self._value(deed, asked=False))

    def mark(self) -> int:
        """The present place in the script, for `rewind`."""
        return self._next

    def rewind(self, mark: int) -> NoReturn:
        """Forget the answers since the mark, and continue there."""
        raise _Rewound(mark)

    def _value(self, find: Callable[[], object], *, asked: bool) -> object:
        if self._next == len(self._given):
            self._given.append((find(), asked))
        self._next += 1
        return self._given[self._next - 1][0]

    def _drop_last_answer(self) -> None:
        while self._given:
            _, asked = self._given.pop()
            if asked:
                return
        click.echo("This is the first question.")

    def _asked(self, question: Question[T]) -> T:
        while True:
            text = _read(question)
            word = text.strip().lower()
            if word in _BACK:
                raise _WentBack
            if word == _EXPLAIN:
                click.echo(wrapped(question.explanation, first="    ", rest="    "))
                continue
            try:
                return question.parse(text or question.default or "")
            except AnswerRefused as fault:
                _refuse(str(fault))
            except ValueError:
                given = "" if question.hidden or not text else f"{text[:40]!r} is not allowed. "
                _refuse(f"{given or 'A value is needed. ' if not text else given}Allowed: {question.allowed}.")


def choice(label: str, choices: Mapping[str, str], *, explanation: str, default: str = "") -> Question[str]:
    """A question for one name of `choices`, by the name in any case or by its number in the list."""
    names = list(choices)

    def parse(text: str) -> str:
        wanted = text.strip().lower()
        if wanted.isdecimal() and 1 <= int(wanted) <= len(names):
            return names[int(wanted) - 1]
        found = next((name for name in names if name.lower() == wanted), None)
        if found is None:
            raise ValueError(text)
        return found

    numbers = "1" if len(names) == 1 else f"a number from 1 to {len(names)}"
    return Question(
        label=label,
        explanation=explanation,
        parse=parse,
        allowed=f"{numbers}, or a name: {', '.join(names)}",
        default=default or None,
    )


def listed(choices: Mapping[str, str]) -> str:
    """The choices as numbered lines, each with its description."""
    width = max(map(len, choices))
    return "\n".join(
        wrapped(f"{description}", first=f"  {number}  {name:<{width}}  ", rest=" " * (width + 7))
        for number, (name, description) in enumerate(choices.items(), 1)
    )


def wrapped(text: str, *, first: str = "", rest: str = "") -> str:
    """The text in lines of at most 78 columns, with an indent for the first line and one for the others."""
    return fill(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,  # paths and options stay in one piece
        break_long_words=False,
    )


def read_values(home: Path | None, category: str, document: TextIO | None, *, replaces: bool = False) -> dict[str, Any]:
    """The values for a category, from the JSON document or from a person. Raises UsageError, which quotes no value.

    Enter keeps a value that is stored, unless the values replace the whole category.
    """
    if document is not None:
        return _parse_values(document)
    if CATEGORIES[category].shape == "text":
        raise UsageError(
            f"{category} holds settings, which are not prompted for one by one.",
            f"`tbot secrets edit {category}` changes them; --from-json takes a JSON object.",
        )
    click.echo(wrapped(KEYS))
    stored = {} if replaces else stored_content(home, category)
    section, found = Interview().run(partial(_ask, home=home, category=category, stored=stored))
    if not found:
        raise UsageError("No field was given.", "Give at least one.")
    return {section: found} if section else found


def ask_missing_secrets(adoption: Adoption) -> dict[str, Any]:
    """The secrets that are not there, by category, from a person; without those that are left for later.

    Raises click.Abort if the person ends the questions.
    """
    return Interview().run(partial(_ask_missing, needed=adoption.needed)) if adoption.needed else {}


def field_question(field: SecretField, *, later: bool = False, stored: bool = False) -> Question[str]:
    """The question for a field of secrets; with `later` or `stored` a required one may be left empty too."""
    needed = field.required and not (later or stored)

    def parse(text: str) -> str:
        if text or needed:
            field.kind.parse(text)
        return text

    doc, kind = field.doc.rstrip("."), field.kind
    enter = "keeps the stored value" if stored else "leaves it for later" if later else "leaves it out"
    traits = "It is required." if needed else f"Enter {enter}."
    aliases = f" Others call it {', '.join(field.aliases)}." if field.aliases else ""
    unseen = " What you type or paste is not shown." if field.hidden else ""
    note = " (hidden)" if field.hidden else f" ({kind.allowed})" if kind.name in _LISTED else ""
    return Question(
        label=f"{field.name}, {doc[0].lower()}{doc[1:]}{note}",
        explanation=f"{doc}. Allowed: {kind.allowed}. {traits}{unseen}{aliases}",
        parse=parse,
        allowed=kind.allowed,
        default=None if needed else "",
        shown_default="kept" if stored else "later" if later else field.default_text or "",
        hidden=field.hidden,
    )


def _read(question: Question[Any]) -> str:
    # One line as it was typed; without blanks around it if it is shown.
    while True:
        try:
            text: str = click.prompt(question.line, default="", show_default=False, hide_input=question.hidden)
            text.encode()
        except UnicodeError:
            _refuse("The input is not UTF-8 text. Allowed: UTF-8 text.")
        else:
            return text if question.hidden else text.strip()


def _refuse(sentence: str) -> None:
    click.echo(wrapped(sentence, first="    ", rest="    "))


def _parse_values(document: TextIO) -> dict[str, Any]:
    # Raises UsageError, which never quotes the content.
    found = document_json(document)
    if not isinstance(found, dict) or not found:
        raise UsageError("The document must be a JSON object of values.", "See `tbot secrets set --help`.")
    return found


def _ask(talk: Interview, *, home: Path | None, category: str, stored: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    # The section, "" where the category has none, and its new values.
    section = ""
    if CATEGORIES[category].shape == "sections":
        section = talk.ask(_section_question(home, category, stored))
        parts = {(name.lower() if CATEGORIES[category].by_plugin else name): part for name, part in stored.items()}
        part = parts.get(section, {})
        stored = part if isinstance(part, dict) else {}
    schema = talk.once(lambda: known_schemas(home, (section,))[schema_key(category, section)])
    there = stored_fields(stored, schema)
    answers = {field.name: talk.ask(field_question(field, stored=field.name in there)) for field in schema.values()}
    return section, {name: answer for name, answer in answers.items() if answer}


def _section_question(home: Path | None, category: str, stored: Mapping[str, Any]) -> Question[str]:
    by_plugin = CATEGORIES[category].by_plugin

    def parse(text: str) -> str:
        if not text:
            raise ValueError(text)
        name = text.lower() if by_plugin else text
        if by_plugin and (fault := section_fault(home, category, name)):
            raise AnswerRefused(fault)
        return name

    names = ", ".join(section_names(home, category, stored) if by_plugin else sorted(stored))
    what = "Plugin" if by_plugin else "User"
    return Question(
        label=f"{what}{f' ({names})' if names else ''}",
        explanation=f"{what} whose section of {category} it is{f', such as {names}' if names else ''}.",
        parse=parse,
        allowed="a name",
    )


def _ask_missing(talk: Interview, needed: Sequence[SecretsNeeded]) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    talk.say(wrapped("The settings need secrets that are not here. Nothing is written before the last answer."))
    talk.say(wrapped(KEYS))
    for one in needed:
        talk.say(f"\n{one}")
        values: dict[str, str] = {}
        fields = sorted(one.fields.values(), key=lambda field: not field.required)
        for field in fields:
            first = field is fields[0]
            value = talk.ask(field_question(field, later=first and field.required))
            if value:
                values[field.name] = value
            elif first and field.required:
                break
        if values:
            answers.setdefault(one.category, {}).update({one.section: values} if one.section else values)
    return answers
