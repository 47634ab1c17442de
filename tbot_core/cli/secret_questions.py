"""The values of secrets: from a person, question by question, or from a JSON document."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from tbot_core.actions.documents import document_json
from tbot_core.actions.secret_sections import known_schemas, section_fault, section_names
from tbot_core.actions.secrets import stored_content
from tbot_core.cli.interview import KEYS, AnswerRefused, Interview, Question, wrapped
from tbot_core.errors import UsageError
from tbot_core.vault.categories import CATEGORIES
from tbot_core.vault.schemas import schema_key, stored_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import TextIO

    from tbot_core.actions.adoption import Adoption, SecretsNeeded
    from tbot_core.contracts.credentials import SecretField

_LISTED: Final = frozenset({"choice", "boolean"})
"""Kinds whose allowed values are part of the question."""


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
    answers = {it.name: talk.ask(field_question(it, stored=it.name in there)) for it in schema.values()}
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
