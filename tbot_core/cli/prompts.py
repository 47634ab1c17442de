"""Prompts for the fields of a category of secrets: one by one with their meaning, hidden where the value is secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.contracts.credentials import SecretField


def prompt_fields(schema: Mapping[str, SecretField] | None, *, anew: bool) -> dict[str, str]:
    """The answers by name, what was left empty left out; with `anew` until all that must be given is.

    Where nothing says what is held, names are asked for too.
    """
    if schema is not None:
        answers = {it.name: _asked(it, anew=anew) for it in schema.values()}
        return {name: answer for name, answer in answers.items() if answer}
    found: dict[str, str] = {}
    while name := click.prompt("Field name (empty to finish)", default="", show_default=False).strip():
        found[name] = click.prompt(name, hide_input=True)
    return found


def _asked(one: SecretField, *, anew: bool) -> str:
    def checked(written: str) -> str:
        try:
            one.kind.parse(written)
        except ValueError:
            if written or (anew and one.required):
                raise click.BadParameter(f"Allowed: {one.kind.allowed}.") from None
        return written

    hint = "" if anew and one.required else f" [{one.default_text}]" if anew and one.default_text else " [empty]"
    label = f"{one.name}, {one.doc[0].lower()}{one.doc[1:].rstrip('.')}{hint}"
    answer: str = click.prompt(label, default="", show_default=False, hide_input=one.hidden, value_proc=checked)
    return answer
