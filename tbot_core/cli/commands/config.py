"""`tbot config`: check, show, explain, compare, edit and encrypt the settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, get_args

import attrs
import click

from tbot_core.cli.actions.config import check_config, explain_variable, plugin_declarations, show_config
from tbot_core.cli.options import emit, home_option, json_option
from tbot_core.instance.findings import Mode, SettingsFinding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.instance.effective import EffectiveSetting
    from tbot_core.instance.settings import Settings

_REFUSED: Final = 3

_mode_option = click.option(
    "--mode",
    type=click.Choice(get_args(Mode)),
    default="paper",
    show_default=True,
    help="The run mode that the settings are checked for.",
)


@click.group()
def command() -> None:
    """Check, show, explain, compare, edit and encrypt the settings."""


@command.command("check")
@home_option
@_mode_option
@click.option("--strict", is_flag=True, help="Treat warnings as failures.")
@json_option
def check_command(*, home: Path | None, mode: str, strict: bool, as_json: bool) -> int:
    """Report everything that is wrong or notable in the settings. Exits with 3 on a failure."""
    findings = check_config(home, cast("Mode", mode))
    failed = any(finding.level == "fail" or (strict and finding.level == "warn") for finding in findings)
    document = {"mode": mode, "passed": not failed, "findings": [_row(finding) for finding in findings]}
    emit(document, as_json=as_json, lines=(f"{finding.level:<5} {finding}" for finding in findings))
    return _REFUSED if failed else 0


@command.command("show")
@home_option
@_mode_option
@json_option
def show_command(*, home: Path | None, mode: str, as_json: bool) -> None:
    """Show every setting with its value and its source."""
    settings = show_config(home, cast("Mode", mode))
    document = {
        "mode": mode,
        "settings": {name: _value(effective) for name, effective in settings.values.items()},
        "settings_hash": settings.fingerprint,
        "strategies": list(settings.strategies),
        "filters": list(settings.filters),
    }
    emit(document, as_json=as_json, lines=_listing(settings))


@command.command("explain")
@click.argument("key")
@home_option
@json_option
def explain_command(*, key: str, home: Path | None, as_json: bool) -> None:
    """Explain a setting: its meaning, the allowed values, and its current value."""
    document = explain_variable(home, key)
    emit(document, as_json=as_json, lines=_sheet(document))


@command.command("encrypt")
@home_option
def encrypt_command(*, home: Path | None) -> None:
    """Encrypt the plaintext trading configuration, and delete the plaintext after the encrypted file is verified."""
    from tbot_core.cli.actions.config import encrypt_config

    click.echo(f"{encrypt_config(home)} holds the trading configuration; the plaintext is deleted.")


@command.command("edit")
@home_option
def edit_command(*, home: Path | None) -> None:
    """Edit the encrypted trading configuration in $EDITOR, in memory; invalid changes are not saved."""
    from tbot_core.cli.actions.config import edit_config
    from tbot_core.system.editor import edit

    changed = edit_config(home, plugin_declarations(home).declared, edit)
    for one in changed:
        click.echo(f"{one.name} {one.sentence}")
    click.echo("A change applies from the next session." if changed else "No value was changed.")


@command.command("diff")
@click.option(
    "--from",
    "other",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An earlier trading configuration, in plaintext. Default: the settings of the last run.",
)
@home_option
@json_option
def diff_command(*, other: Path | None, home: Path | None, as_json: bool) -> None:
    """Show the changes since the last run (without a run: from the defaults), and their effect on risk, in money."""
    from tbot_core.cli.actions.config import compare_config

    found = compare_config(home, plugin_declarations(home).declared, other)
    lines = [f"{one.name} {one.sentence}" for one in found.changes] or ["No value differs."]
    lines += [found.worst_day] if found.worst_day else []
    emit(attrs.asdict(found), as_json=as_json, lines=[f"Since {found.since}:", *lines])


def _row(finding: SettingsFinding) -> dict[str, object]:
    return {
        "level": finding.level,
        "keys": list(finding.keys),
        "where": finding.where,
        "message": finding.message,
    }


def _value(effective: EffectiveSetting) -> dict[str, str]:
    return {"value": effective.text, "origin": str(effective.origin), "owner": effective.owner}


def _listing(settings: Settings) -> Iterator[str]:
    width = max(len(name) for name in settings.values)
    for name, effective in settings.values.items():
        yield f"{name:<{width}}  {effective.text or '(empty)':<48}  {effective.origin}"
    yield f"settings_hash {settings.fingerprint}"


def _sheet(document: dict[str, Any]) -> Iterator[str]:
    yield f"{document['name']}={document['value']}    ({document['origin']})"
    yield f"  {document['meaning']}"
    yield f"  Allowed: {document['allowed']}. Default: {document['default'] or 'empty'}. File: {document['file']}."
    yield f"  Owner: {document['owner']}. Since {document['since']}."
    if document["aliases"]:
        yield f"  Aliases: {', '.join(document['aliases'])}."
    if document["note"]:
        yield f"  {document['note']}"
    for finding in document["findings"]:
        yield f"  {finding}"
