"""`tbot secrets`: show, verify and change secrets, rotate their keys, export and back up, and show the audit log."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import attrs
import click

from tbot_core.cli.options import emit, home_option, json_option, print_progress, print_warning
from tbot_core.errors import UsageError
from tbot_core.system import filesystem, terminal
from tbot_core.system.secret import Secret
from tbot_core.vault.categories import CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

_REFUSED: Final = 3
_category: Final = click.argument("category", type=click.Choice(list(CATEGORIES)), metavar="CATEGORY")
_categories: Final = click.argument(
    "categories", nargs=-1, type=click.Choice(list(CATEGORIES)), metavar="[CATEGORY]..."
)
_document: Final = click.option(
    "--from-json", "document", type=click.File(), help="Read the values from a JSON file; - is standard input."
)
_passphrase: Final = click.option(
    "--passphrase-file",
    "phrase",
    type=click.File(),
    help="Read the passphrase from the first line of a file; - is standard input.",
)
_bundle: Final = click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
_PHRASE_CHARACTERS: Final = 1024


@click.group("secrets")
def command() -> None:
    """Show, verify, set, edit and rekey secrets; rotate keys, export, back up, and show the audit log.

    Values are typed into a hidden prompt or come as JSON, never as an argument.
    """


@command.command("export", short_help="Write categories into one file under a passphrase.")
@_categories
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The new file.")
@_passphrase
@home_option
def export_command(*, categories: tuple[str, ...], out: Path, phrase: TextIO | None, home: Path | None) -> None:
    """Write each CATEGORY (default: all) into one file under a passphrase, for import into another instance."""
    from tbot_core.actions import bundles

    with _read_passphrase(phrase, twice=True) as passphrase:
        done = bundles.export_secrets(home, categories, out, passphrase)
    click.echo(f"{out} holds {', '.join(done)}. Anyone with the file and the passphrase can read them.")


@command.command("import")
@_bundle
@click.option("--replace", "action", flag_value="replace", help="Overwrite existing values.")
@click.option("--dry-run", "action", flag_value="dry-run", help="Show what would change, and write nothing.")
@_passphrase
@home_option
@json_option
def import_command(
    *,
    file: Path,
    action: Literal["replace", "dry-run"] | None,
    phrase: TextIO | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """Import an export file under the keys of this instance. The whole file is checked first."""
    from tbot_core.actions import bundles

    with _read_passphrase(phrase, of=file) as passphrase:
        changes = bundles.import_secrets(home, file, passphrase, action or "add", print_warning)
    document = {"dry_run": action == "dry-run", "changes": [attrs.asdict(change) for change in changes]}
    emit(document, as_json=as_json, lines=(change.line for change in changes))


@command.command("backup", short_help="Write a dated backup of files and keys, and verify it.")
@click.option(
    "--to", "folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Default: backups/."
)
@click.option("--list", "listed", is_flag=True, help="List the backups in backups/, and write none.")
@_passphrase
@home_option
@json_option
def backup_command(
    *, folder: Path | None, listed: bool, phrase: TextIO | None, home: Path | None, as_json: bool
) -> None:
    """Write the encrypted files and their keys into one dated backup under a passphrase, and verify it.

    Keys from before a rotation that are in the backup, and older than KEEP_PREV_DAYS, are then deleted. With --list
    the backups in backups/ are shown, with the date and size of each, and whether its drill passed.
    """
    from tbot_core.actions import bundles

    if listed:
        from tbot_core.instance.sources import find_instance

        found = bundles.stored_backups(find_instance(home).home)
        emit(found.document, as_json=as_json, lines=found.lines)
        return
    with _read_passphrase(phrase, twice=True) as passphrase:
        path, done = bundles.back_up_secrets(home, folder, passphrase)
    lines = list(bundles.backup_lines(path, done))
    retired = list(_retired_key_lines(home))
    emit({"file": str(path), "categories": done}, as_json=as_json, lines=[*lines, *retired])


@command.command("restore")
@_bundle
@click.option("--verify", is_flag=True, help="Restore drill: only in memory; nothing is changed.")
@_passphrase
@home_option
@json_option
def restore_command(*, file: Path, verify: bool, phrase: TextIO | None, home: Path | None, as_json: bool) -> int:
    """Restore a backup into an empty instance, and check it. No existing file is overwritten."""
    from tbot_core.actions import bundles
    from tbot_core.actions.checks import check_instance

    check = partial(check_instance, progress=print_progress)
    with _read_passphrase(phrase, of=file) as passphrase:
        if verify:
            done, rows = bundles.verify_backup(home, file, passphrase, check)
        else:
            done = bundles.restore_secrets(home, file, passphrase)
            rows = check(home)
    failed = [row for row in rows if row.level == "fail"]
    document = {
        "categories": done,
        "passed": not failed,
        "rows": [row.document for row in rows if row.level in {"fail", "warn"}],
    }
    emit(document, as_json=as_json, lines=bundles.restore_lines(done, rows))
    return max((row.exit_code for row in failed), default=0)


@command.command("show", short_help="Show the state of each category, never a value.")
@click.argument("category", type=click.Choice(list(CATEGORIES)), metavar="[CATEGORY]", required=False)
@home_option
@json_option
def show_command(*, category: str | None, home: Path | None, as_json: bool) -> None:
    """Show the state of each category; with CATEGORY also the names of its fields, never their values."""
    from tbot_core.actions.secrets import category_listings

    rows = category_listings(home, category)
    lines = (line for row in rows for line in row.lines)
    emit({"categories": [row.document for row in rows]}, as_json=as_json, lines=lines)


@command.command("verify")
@home_option
@json_option
def verify_command(*, home: Path | None, as_json: bool) -> int:
    """Open every encrypted file and check its content. Exits with 3 on a fault."""
    from tbot_core.actions.secrets import verify_secrets

    faults = verify_secrets(home)
    rows = [{"code": fault.code, "message": fault.message, "remedy": fault.remedy} for fault in faults]
    lines = [str(fault) for fault in faults] or ["Every encrypted file opens and its content is valid."]
    emit({"verified": not faults, "faults": rows}, as_json=as_json, lines=lines)
    return _REFUSED if faults else 0


@command.command("audit", short_help="Show every access to secrets, with its result.")
@click.option("--verify", "verify", is_flag=True, help="Verify the hash chain first; exits with 3 if it was changed.")
@home_option
@json_option
def audit_command(*, verify: bool, home: Path | None, as_json: bool) -> None:
    """Show every access to secrets: when, by whom, to what, with which key, and the result."""
    from tbot_core.actions import audit

    entries, anchor = audit.logged_accesses(home, verify=verify)
    document = {"accesses": [attrs.asdict(entry) for entry in entries], "head": None if anchor is None else anchor.text}
    emit(document, as_json=as_json, lines=audit.access_lines(entries, anchor))


@command.command("set", short_help="Set values of CATEGORY; the others stay.")
@_category
@_document
@home_option
def set_command(*, category: str, document: TextIO | None, home: Path | None) -> None:
    """Set values of CATEGORY: named values are replaced, the others stay.

    The names are fields; for broker, screener_api, alert and login fields of a section, for env and env_bot variables.
    """
    from tbot_core.actions import secrets
    from tbot_core.cli.interview import read_values

    values = read_values(home, category, document)
    file = secrets.put_values(home, category, values, print_warning)
    for warning in secrets.unread_sections(home, category, values):
        print_warning(warning)
    click.echo(f"{file} holds the values. They take effect at the next start.")


@command.command("edit", short_help="Edit the content of CATEGORY in $EDITOR.")
@_category
@home_option
def edit_command(*, category: str, home: Path | None) -> None:
    """Edit the content of CATEGORY in $EDITOR, in memory.

    Invalid changes are not saved: on a terminal the faults are shown, and the editor opens again.
    """
    from tbot_core.cli.editing import edit_category

    changed = edit_category(home, category)
    click.echo("A change takes effect at the next start." if changed else "Nothing was changed.")


@command.command("rekey", short_help="Give CATEGORY a new key and new values.")
@_category
@_document
@home_option
def rekey_command(*, category: str, document: TextIO | None, home: Path | None) -> None:
    """Give CATEGORY a new key and new values, also where its key is lost. The old content is deleted."""
    from tbot_core.actions.secrets import rekey_category
    from tbot_core.cli.interview import read_values

    done = rekey_category(home, category, read_values(home, category, document, replaces=True), print_warning)
    click.echo(f"{category} has the key {done.after}.")


@command.command("upgrade")
@click.option("--dry-run", is_flag=True, help="Show what would be rewritten, and write nothing.")
@home_option
@json_option
def upgrade_command(*, dry_run: bool, home: Path | None, as_json: bool) -> None:
    """Rewrite files that are in an older format or under an older key."""
    from tbot_core.actions.secrets import upgrade_files

    found = upgrade_files(home, dry_run=dry_run)
    verb = "would be rewritten" if dry_run else "was rewritten"
    lines = [f"{it.category} {verb} as {it.after}; it was {it.before}." for it in found]
    document = {"dry_run": dry_run, "upgraded": [attrs.asdict(it) for it in found]}
    emit(document, as_json=as_json, lines=lines or ["Every file is up to date."])


@command.command("rotate")
@_categories
@click.option("--resume", is_flag=True, help="Finish an interrupted rotation.")
@click.option("--abort", is_flag=True, help="Return to the current keys.")
@home_option
def rotate_command(*, categories: tuple[str, ...], resume: bool, abort: bool, home: Path | None) -> None:
    """Give each CATEGORY (default: all) a new key. An interrupted rotation is finished or undone.

    Keys from before an earlier rotation that are in a backup, and older than KEEP_PREV_DAYS, are then deleted.
    """
    from tbot_core.actions.secrets import abort_rotation, rotate_keys

    if resume and abort:
        raise UsageError("--resume and --abort exclude each other.", "Give one of them.")
    chosen = categories or tuple(CATEGORIES)
    if abort:
        lines = [f"{category} keeps its key." for category in abort_rotation(home, chosen)]
    else:
        lines = [f"{key.category} has the key {key.after}." for key in rotate_keys(home, chosen, resume=resume)]
    for line in lines or ["No rotation was in progress." if resume or abort else "No category has a key."]:
        click.echo(line)
    for line in _retired_key_lines(home):
        click.echo(line)


@contextmanager
def _read_passphrase(phrase: TextIO | None, *, twice: bool = False, of: Path | None = None) -> Iterator[Secret]:
    # The passphrase of a bundle, from the open file or a hidden prompt, which is wiped afterwards.
    # Raises AccessError if the bundle `of` does not exist, before it prompts.
    if of is not None:
        filesystem.size(of)
    if phrase is None:
        secret = Secret(terminal.read_hidden("Passphrase of the bundle", twice=twice))
    else:
        secret = Secret(_first_line(phrase))
    try:
        yield secret
    finally:
        secret.wipe()


def _retired_key_lines(home: Path | None) -> Iterator[str]:
    from tbot_core.actions.secrets import retire_old_keys

    for category in retire_old_keys(home):
        yield f"{category}: the key from before the rotation is deleted."


def _first_line(phrase: TextIO) -> str:
    # The file may not be text, and may be endless.
    try:
        line = phrase.readline(_PHRASE_CHARACTERS + 2).rstrip("\r\n")
    except UnicodeDecodeError:
        line = ""
    if not 0 < len(line) <= _PHRASE_CHARACTERS:
        message = f"The first line of the passphrase file must be text of 1 to {_PHRASE_CHARACTERS} characters."
        raise UsageError(message, "Write the passphrase there, and nothing else.")
    return line
