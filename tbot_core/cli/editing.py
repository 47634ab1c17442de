"""Edits content in the user's editor until it is valid, or the edit is discarded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

import click

from tbot_core.actions.config import stored_config
from tbot_core.actions.secrets import check_contents, vault_of_home
from tbot_core.actions.settings_edit import plan_settings, plan_text
from tbot_core.cli.options import print_warning
from tbot_core.errors import SettingsError, UsageError, VaultError
from tbot_core.system import editor, terminal
from tbot_core.vault.categories import CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tbot_core.actions.settings_edit import SettingsPlan

T = TypeVar("T")
_FAULTS: Final = re.compile(rb"\A(?:#![^\n]*\n)*")
_HEAD: Final = "These faults were found. Lines are counted without these comments, which are removed."


def edit_config(home: Path | None) -> SettingsPlan | None:
    """Edit the encrypted trading configuration in $EDITOR, judge the result, and store it; returns what was saved.

    None where the text is as before. Text with which the next start would fail changes nothing: see
    `edit_until_valid`. The faults of a file that is invalid already are shown first. Raises UsageError where the file
    is plaintext, SettingsError without an instance.
    """
    stored = stored_config(home)
    edited = edit_until_valid(
        stored.name,
        stored.text,
        lambda text: _without_faults(plan_text(stored, text)),
        comments=True,
        invalid=stored.fault,
    )
    if edited is None:
        return None
    _, plan = edited
    plan.save(plan.version)
    return plan


def set_config(home: Path | None, wanted: Mapping[str, str]) -> SettingsPlan:
    """Change single settings, judged and stored as by `edit_config`; returns what was saved, if anything.

    Raises UsageError for a name that is not known or not changed here, SettingsError where the next start would fail.
    """
    plan = _without_faults(plan_settings(home, wanted))
    if plan.changes:
        plan.save(plan.version)
    return plan


def _without_faults(plan: SettingsPlan) -> SettingsPlan:
    if plan.fault is not None:
        raise plan.fault
    for line in plan.warnings:
        print_warning(line)
    return plan


def edit_category(home: Path | None, category: str) -> bool:
    """Edit the content of a category in $EDITOR; returns whether it changed. Invalid changes are not saved."""
    vault = vault_of_home(home)
    edition = vault.store.edition(category)
    with vault.read(category) as opened:
        data = bytes(opened.view)
    is_text = CATEGORIES[category].shape == "text"
    edited = edit_until_valid(
        vault.store.place(category).logical,
        data,
        lambda text: check_contents(home, vault, {category: text}, warn=print_warning),
        comments=is_text,
    )
    if edited is None:
        return False
    if not vault.write(category, edited[0], edition):
        raise UsageError(f"{category} was changed meanwhile; nothing was saved.", "Make the change once more.")
    return True


def edit_until_valid(
    name: str,
    data: bytes,
    check: Callable[[bytes], T],
    *,
    comments: bool,
    invalid: SettingsError | None = None,
) -> tuple[bytes, T] | None:
    """The edited text with the result of its check; None if the text is as before.

    `invalid` tells why the text is invalid before the edit.
    On a terminal the faults of a text are shown, and the editor opens it again, with the faults at the top where the
    format has comments; or the edit is discarded, which raises click.Abort. Without a terminal SettingsError and
    VaultError of the check are raised.
    """
    shown = data if invalid is None else _with_faults(data, invalid)
    if invalid is not None:
        click.echo(f"The file is invalid now:\n{invalid.message}", err=True)
    while True:
        text = editor.edit(name, shown)
        text = _FAULTS.sub(b"", text) if comments and shown != data else text
        if text == data:
            return None
        try:
            return text, check(text)
        except (SettingsError, VaultError) as fault:
            if not terminal.is_interactive():
                raise
            _ask_again(fault)
            shown = _with_faults(text, fault) if comments else text


def _ask_again(fault: SettingsError | VaultError) -> None:
    click.echo(f"Nothing was saved:\n{fault.message}", err=True)
    words = click.Choice(["edit", "discard"], case_sensitive=False)
    if click.prompt("Edit again, or discard the changes?", type=words, default="edit") == "discard":
        raise click.Abort


def _with_faults(text: bytes, fault: SettingsError | VaultError) -> bytes:
    lines = [_HEAD, *fault.message.splitlines()]
    return "".join(f"#! {line}\n" for line in lines).encode() + text
