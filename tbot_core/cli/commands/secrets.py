"""`tbot secrets`: show, verify and change secrets, rotate their keys, export and back up, and show the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from tbot_core.cli.commands.bundles import COMMANDS, RETIRED_NOTE
from tbot_core.cli.options import document_text, emit, home_option, json_option
from tbot_core.errors import UsageError
from tbot_core.vault.categories import CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO

    from tbot_core.cli.actions.secrets import CategoryListing
    from tbot_core.vault.vault import CategoryStatus

_REFUSED: Final = 3

_category: Final = click.argument("category", type=click.Choice(list(CATEGORIES)), metavar="CATEGORY")
_document: Final = click.option(
    "--from-json", "document", type=click.File(), help="Read the values from a JSON file; - is standard input."
)


@click.group("secrets")
def command() -> None:
    """Show, verify, set, edit and rekey secrets; rotate keys, export, back up, and show the audit log.

    Values are typed into a hidden prompt or come as JSON, never as an argument.
    """


for _it in COMMANDS:
    command.add_command(_it)


@command.command("show")
@click.argument("category", type=click.Choice(list(CATEGORIES)), metavar="[CATEGORY]", required=False)
@home_option
@json_option
def show_command(*, category: str | None, home: Path | None, as_json: bool) -> None:
    """Show the state of each category; with CATEGORY also the names of its fields, never their values."""
    from tbot_core.cli.actions.secrets import category_listings

    rows = category_listings(home, category)
    emit({"categories": [_row(row) for row in rows]}, as_json=as_json, lines=_listing(rows))


@command.command("verify")
@home_option
@json_option
def verify_command(*, home: Path | None, as_json: bool) -> int:
    """Open every encrypted file and check its content. Exits with 3 on a fault."""
    from tbot_core.cli.actions.secrets import verify_secrets

    faults = verify_secrets(home)
    rows = [{"code": it.code, "message": it.message, "remedy": it.remedy} for it in faults]
    lines = [str(it) for it in faults] or ["Every encrypted file opens and its content is valid."]
    emit({"verified": not faults, "faults": rows}, as_json=as_json, lines=lines)
    return _REFUSED if faults else 0


@command.command("audit")
@click.option("--verify", "verify", is_flag=True, help="Verify the hash chain first; exits with 3 if it was changed.")
@home_option
@json_option
def audit_command(*, verify: bool, home: Path | None, as_json: bool) -> None:
    """Show every access to secrets: when, by whom, to what, with which key, and the result."""
    from tbot_core.cli.actions.secrets import logged_accesses

    lines, anchor = logged_accesses(home, verify=verify)
    document = {"accesses": [attrs.asdict(it) for it in lines], "head": None if anchor is None else anchor.text}
    said = [
        f"{it.utc:%Y-%m-%d %H:%M:%S}  {it.action:8} {it.category:13} {it.key_id or '-':16}  {it.outcome:10} {it.actor}"
        for it in lines
    ]
    ending = [] if anchor is None else [f"The chain of {anchor.count} accesses is intact, head {anchor.hash[:16]}."]
    emit(document, as_json=as_json, lines=[*(said or ["No access is logged yet."]), *ending])


@command.command("set")
@_category
@_document
@home_option
def set_command(*, category: str, document: TextIO | None, home: Path | None) -> None:
    """Set values of CATEGORY: named values are replaced, the others stay.

    The names are fields; for broker, screener_api, alert and login whole sections, for env and env_bot variables.
    """
    from tbot_core.cli.actions.secrets import put_values

    file = put_values(home, category, _values(home, category, document))
    click.echo(f"{file} holds the values. They take effect at the next start.")


@command.command("edit")
@_category
@home_option
def edit_command(*, category: str, home: Path | None) -> None:
    """Edit the content of CATEGORY in $EDITOR, in memory; invalid changes are not saved."""
    from tbot_core.cli.actions.secrets import edit_category
    from tbot_core.system.editor import edit

    changed = edit_category(home, category, edit)
    click.echo("A change takes effect at the next start." if changed else "Nothing was changed.")


@command.command("rekey")
@_category
@_document
@home_option
def rekey_command(*, category: str, document: TextIO | None, home: Path | None) -> None:
    """Give CATEGORY a new key and new values, also where its key is lost. The old content is deleted."""
    from tbot_core.cli.actions.secrets import rekey_category

    done = rekey_category(home, category, _values(home, category, document))
    click.echo(f"{category} has the key {done.after}.")


@command.command("upgrade")
@click.option("--dry-run", is_flag=True, help="Show what would be rewritten, and write nothing.")
@home_option
@json_option
def upgrade_command(*, dry_run: bool, home: Path | None, as_json: bool) -> None:
    """Rewrite files that are in an older format or under an older key."""
    from tbot_core.cli.actions.secrets import upgrade_files

    found = upgrade_files(home, dry_run=dry_run)
    verb = "would be rewritten" if dry_run else "was rewritten"
    lines = [f"{it.category} {verb} as {it.after}; it was {it.before}." for it in found]
    document = {"dry_run": dry_run, "upgraded": [attrs.asdict(it) for it in found]}
    emit(document, as_json=as_json, lines=lines or ["Every file is up to date."])


@command.command("rotate")
@click.argument("categories", nargs=-1, type=click.Choice(list(CATEGORIES)), metavar="[CATEGORY]...")
@click.option("--resume", is_flag=True, help="Finish an interrupted rotation.")
@click.option("--abort", is_flag=True, help="Return to the current keys.")
@home_option
def rotate_command(*, categories: tuple[str, ...], resume: bool, abort: bool, home: Path | None) -> None:
    """Give each CATEGORY (default: all) a new key. An interrupted rotation is finished or undone.

    Keys from before an earlier rotation that are in a backup, and older than KEEP_PREV_DAYS, are then deleted.
    """
    from tbot_core.cli.actions.bundles import retire_old_keys
    from tbot_core.cli.actions.secrets import abort_rotation, rotate_keys

    if resume and abort:
        raise UsageError("--resume and --abort exclude each other.", "Give one of them.")
    chosen = categories or tuple(CATEGORIES)
    if abort:
        lines = [f"{category} keeps its key." for category in abort_rotation(home, chosen)]
    else:
        lines = [f"{it.category} has the key {it.after}." for it in rotate_keys(home, chosen, resume=resume)]
    for line in lines or ["No rotation was in progress." if resume or abort else "No category has a key."]:
        click.echo(line)
    for category in retire_old_keys(home):
        click.echo(RETIRED_NOTE.format(category))


def _values(home: Path | None, category: str, document: TextIO | None) -> dict[str, Any]:
    # From the document, else from a person. Raises UsageError, which quotes nothing of it.
    from tbot_core.cli.actions.secrets import has_file, known_schemas, parse_values
    from tbot_core.cli.prompts import prompt_fields
    from tbot_core.vault.schemas import schema_key

    if document is not None:
        return parse_values(document_text(document))
    kind, section = CATEGORIES[category], ""
    if kind.shape == "text":
        raise UsageError(
            f"{category} holds settings, which are not prompted for one by one.",
            f"`tbot secrets edit {category}` changes them; --from-json takes a JSON object.",
        )
    if kind.shape == "sections":
        section = click.prompt("Plugin" if kind.by_plugin else "User").strip()
    found = prompt_fields(
        known_schemas(home).get(schema_key(category, section)), anew=bool(section) or not has_file(home, category)
    )
    if not found:
        raise UsageError("No field was given.", "Give at least one.")
    return {section: found} if section else dict(found)


def _listing(rows: tuple[CategoryListing, ...]) -> Iterator[str]:
    for row in rows:
        it = row.standing
        said = it.format or ("not in a format of tbot" if "file" not in it.missing else "-")
        date = f"{row.modified:%Y-%m-%d}" if row.modified else "-"
        yield f"{it.category:13} {_presence(it):12} {it.key_id or '-':16}  {date:10}  {said}"
        yield from (f"    {name} = {row.mask}" for name in row.fields)
        yield from (f"    {fault}" for fault in it.faults)


def _presence(it: CategoryStatus) -> str:
    return {(): "present", ("file",): "no file", ("key",): "no key"}.get(it.missing, "absent")


def _row(row: CategoryListing) -> dict[str, Any]:
    it = row.standing
    return {
        "category": it.category,
        "presence": _presence(it),
        "key": it.key,
        "key_id": it.key_id,
        "file": it.file,
        "format": it.format,
        "modified": row.modified,
        "fields": dict.fromkeys(row.fields, row.mask),
        "faults": [str(fault) for fault in it.faults],
    }
