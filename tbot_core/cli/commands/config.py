"""`tbot config`: check, show, explain, compare, change and encrypt the settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, cast, get_args

import attrs
import click

from tbot_core.cli.options import emit, home_option, json_option
from tbot_core.errors import UsageError
from tbot_core.instance.findings import Mode

if TYPE_CHECKING:
    from tbot_core.actions.settings_edit import SettingsPlan

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
    """Check, show, explain, compare, change and encrypt the settings."""


@command.command("check")
@home_option
@_mode_option
@click.option("--strict", is_flag=True, help="Treat warnings as failures.")
@json_option
def check_command(*, home: Path | None, mode: str, strict: bool, as_json: bool) -> int:
    """Report everything that is wrong or notable in the settings. Exits with 3 on a failure."""
    from tbot_core.actions.config import check_config

    findings = check_config(home, cast("Mode", mode))
    failed = any(finding.level == "fail" or (strict and finding.level == "warn") for finding in findings)
    document = {"mode": mode, "passed": not failed, "findings": [finding.document for finding in findings]}
    emit(document, as_json=as_json, lines=(f"{finding.level:<5} {finding}" for finding in findings))
    return _REFUSED if failed else 0


@command.command("show")
@home_option
@_mode_option
@json_option
def show_command(*, home: Path | None, mode: str, as_json: bool) -> None:
    """Show every setting with its value and its source."""
    from tbot_core.actions.config import settings_document, settings_lines, show_config

    settings = show_config(home, cast("Mode", mode))
    emit(settings_document(settings, mode), as_json=as_json, lines=settings_lines(settings))


@command.command("explain", short_help="Explain a setting, its allowed values and its value.")
@click.argument("key")
@home_option
@json_option
def explain_command(*, key: str, home: Path | None, as_json: bool) -> None:
    """Explain a setting: its meaning, the allowed values, and its current value."""
    from tbot_core.actions.config import explain_variable, explanation_lines

    document = explain_variable(home, key)
    emit(document, as_json=as_json, lines=explanation_lines(document))


@command.command("encrypt", short_help="Encrypt the settings files that are plaintext.")
@home_option
def encrypt_command(*, home: Path | None) -> None:
    """Encrypt .env and the trading configuration where they are plaintext.

    Each plaintext is deleted after its encrypted file was opened again.
    """
    from tbot_core.actions.config import encrypt_config

    for file in encrypt_config(home):
        click.echo(f"{file} is written; the plaintext is deleted.")


@command.command("edit", short_help="Edit the encrypted trading configuration in $EDITOR.")
@home_option
def edit_command(*, home: Path | None) -> None:
    """Edit the encrypted trading configuration in $EDITOR, in memory; invalid changes are not saved."""
    from tbot_core.cli.editing import edit_config

    _print_saved(edit_config(home))


@command.command("set", short_help="Change settings in the encrypted files: NAME=VALUE.")
@click.argument("assignments", metavar="NAME=VALUE...", nargs=-1, required=True)
@home_option
def set_command(*, assignments: tuple[str, ...], home: Path | None) -> None:
    """Change settings, judged as by `tbot config edit`: nothing is saved with which the next start would fail."""
    from tbot_core.cli.editing import set_config

    pairs = [assignment.partition("=") for assignment in assignments]
    if wrong := [name for name, sign, _ in pairs if not sign]:
        raise click.UsageError(f"{wrong[0]} is not NAME=VALUE.")
    wanted = {name.strip(): text for name, _, text in pairs}
    names = [name.strip() for name, _, _ in pairs]
    if twice := [name for name in wanted if names.count(name) > 1]:
        raise UsageError(f"{twice[0]} is given twice.", "Give each setting one value.")
    _print_saved(set_config(home, wanted))


def _print_saved(plan: SettingsPlan | None) -> None:
    changes = plan.changes if plan is not None else ()
    for change in changes:
        click.echo(f"{change.name} {change.sentence}")
    if plan is not None and plan.worst_day:
        click.echo(plan.worst_day)
    for name, reason in plan.guarded.items() if plan is not None else ():
        click.echo(f"{name} permits more: {reason}")
    click.echo("A change applies from the next session." if changes else "No value was changed.")


@command.command("diff", short_help="Show the changes since the last run, and their effect.")
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
    from tbot_core.actions.config import compare_config

    comparison = compare_config(home, other)
    lines = [f"{change.name} {change.sentence}" for change in comparison.changes] or ["No value differs."]
    lines += [comparison.worst_day] if comparison.worst_day else []
    emit(attrs.asdict(comparison), as_json=as_json, lines=[f"Since {comparison.since}:", *lines])
