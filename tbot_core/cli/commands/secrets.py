"""`tbot secrets`: show, verify and change secrets, rotate their keys, carry them away, and read the log of accesses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from tbot_core.cli.commands.bundles import COMMANDS, RETIRED
from tbot_core.cli.options import emit, home_option, json_option, whole
from tbot_core.errors import UsageError
from tbot_core.vault.categories import CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO

    from tbot_core.cli.actions.secrets import Shown
    from tbot_core.vault.vault import Standing

_REFUSED: Final = 3

_category: Final = click.argument("category", type=click.Choice(list(CATEGORIES)), metavar="CATEGORY")
_document: Final = click.option(
    "--from-json", "document", type=click.File(), help="Take the values from a JSON file; - is standard input."
)


@click.group("secrets")
def command() -> None:
    """Show, verify, set, edit and rekey secrets, rotate their keys, carry them away, and read the log of every access.

    Values are typed unseen or come as JSON; none is ever an argument.
    """


for _it in COMMANDS:
    command.add_command(_it)


@command.command("show")
@click.argument("category", type=click.Choice(list(CATEGORIES)), metavar="[CATEGORY]", required=False)
@home_option
@json_option
def show_command(*, category: str | None, home: Path | None, as_json: bool) -> None:
    """Show how each category stands; with CATEGORY also the names of its fields, whose values stay unseen."""
    from tbot_core.cli.actions.secrets import shown

    rows = shown(home, category)
    emit({"categories": [_row(row) for row in rows]}, as_json=as_json, lines=_listing(rows))


@command.command("verify")
@home_option
@json_option
def verify_command(*, home: Path | None, as_json: bool) -> int:
    """Open every encrypted file and judge its content; exit 3 when something is wrong."""
    from tbot_core.cli.actions.secrets import verified

    faults = verified(home)
    rows = [{"code": it.code, "message": it.message, "remedy": it.remedy} for it in faults]
    lines = [str(it) for it in faults] or ["Every encrypted file opens and holds what its category asks for."]
    emit({"verified": not faults, "faults": rows}, as_json=as_json, lines=lines)
    return _REFUSED if faults else 0


@command.command("audit")
@click.option("--verify", "verify", is_flag=True, help="Walk the chain first; exit 3 where it was changed.")
@home_option
@json_option
def audit_command(*, verify: bool, home: Path | None, as_json: bool) -> None:
    """Show every access to secrets: when, by whom, to what, with which key, and what came of it."""
    from tbot_core.cli.actions.secrets import accesses

    lines, anchor = accesses(home, verify=verify)
    document = {"accesses": [attrs.asdict(it) for it in lines], "head": None if anchor is None else anchor.text}
    said = [
        f"{it.utc:%Y-%m-%d %H:%M:%S}  {it.action:8} {it.category:13} {it.key_id or '-':16}  {it.outcome:10} {it.actor}"
        for it in lines
    ]
    ending = [] if anchor is None else [f"The chain of {anchor.count} accesses fits, head {anchor.hash[:16]}."]
    emit(document, as_json=as_json, lines=[*(said or ["No access is logged yet."]), *ending])


@command.command("set")
@_category
@_document
@home_option
def set_command(*, category: str, document: TextIO | None, home: Path | None) -> None:
    """Give CATEGORY values: what is named is replaced, what is not stays.

    Named are fields, for broker, screener_api, alert and login whole sections, for env and env_bot variables.
    """
    from tbot_core.cli.actions.secrets import put

    file = put(home, category, _values(home, category, document))
    click.echo(f"{file} holds the values. They apply from the next start.")


@command.command("edit")
@_category
@home_option
def edit_command(*, category: str, home: Path | None) -> None:
    """Change what CATEGORY holds in $EDITOR, in memory; what does not hold is not written."""
    from tbot_core.cli.actions.secrets import edited
    from tbot_core.system.editor import edit

    changed = edited(home, category, edit)
    click.echo("A change applies from the next start." if changed else "Nothing was changed.")


@command.command("rekey")
@_category
@_document
@home_option
def rekey_command(*, category: str, document: TextIO | None, home: Path | None) -> None:
    """Give CATEGORY a new key and new values, also where its key is lost; what it held before is gone."""
    from tbot_core.cli.actions.secrets import rekeyed

    done = rekeyed(home, category, _values(home, category, document))
    click.echo(f"{category} has the key {done.after}.")


@command.command("upgrade")
@click.option("--dry-run", is_flag=True, help="Say what would be written anew, and write nothing.")
@home_option
@json_option
def upgrade_command(*, dry_run: bool, home: Path | None, as_json: bool) -> None:
    """Write anew what is in an older format or under an older key."""
    from tbot_core.cli.actions.secrets import upgraded

    found = upgraded(home, dry_run=dry_run)
    verb = "would be written" if dry_run else "was written"
    lines = [f"{it.category} {verb} as {it.after}; it was {it.before}." for it in found]
    document = {"dry_run": dry_run, "upgraded": [attrs.asdict(it) for it in found]}
    emit(document, as_json=as_json, lines=lines or ["Every file is up to date."])


@command.command("rotate")
@click.argument("categories", nargs=-1, type=click.Choice(list(CATEGORIES)), metavar="[CATEGORY]...")
@click.option("--resume", is_flag=True, help="Finish what was begun.")
@click.option("--abort", is_flag=True, help="Go back to the current keys.")
@home_option
def rotate_command(*, categories: tuple[str, ...], resume: bool, abort: bool, home: Path | None) -> None:
    """Give each CATEGORY, else all, a new key. A rotation that was stopped is finished or withdrawn.

    Keys from before an earlier rotation that are in a backup, and older than KEEP_PREV_DAYS, are then dropped.
    """
    from tbot_core.cli.actions.bundles import retired
    from tbot_core.cli.actions.secrets import rotated, withdrawn

    if resume and abort:
        raise UsageError("--resume and --abort contradict each other.", "Give one of them.")
    chosen = categories or tuple(CATEGORIES)
    if abort:
        lines = [f"{category} keeps its key." for category in withdrawn(home, chosen)]
    else:
        lines = [f"{it.category} has the key {it.after}." for it in rotated(home, chosen, resume=resume)]
    for line in lines or ["No rotation was under way." if resume or abort else "No category has a key."]:
        click.echo(line)
    for category in retired(home):
        click.echo(RETIRED.format(category))


def _values(home: Path | None, category: str, document: TextIO | None) -> dict[str, Any]:
    # From the document, else from a person. Raises UsageError, which quotes nothing of it.
    from tbot_core.cli.actions.secrets import is_held, known, parsed
    from tbot_core.cli.prompts import fields
    from tbot_core.vault.schemas import key

    if document is not None:
        return parsed(whole(document))
    kind, section = CATEGORIES[category], ""
    if kind.shape == "text":
        raise UsageError(
            f"{category} holds settings, which are not asked for one by one.",
            f"`tbot secrets edit {category}` changes them; --from-json takes an object of them.",
        )
    if kind.shape == "sections":
        section = click.prompt("Plugin" if kind.by_plugin else "User").strip()
    found = fields(known(home).get(key(category, section)), anew=bool(section) or not is_held(home, category))
    if not found:
        raise UsageError("No field was given.", "Name at least one.")
    return {section: found} if section else dict(found)


def _listing(rows: tuple[Shown, ...]) -> Iterator[str]:
    for row in rows:
        it = row.standing
        said = it.format or ("in no format of tbot" if "file" not in it.missing else "-")
        date = f"{row.modified:%Y-%m-%d}" if row.modified else "-"
        yield f"{it.category:13} {_presence(it):12} {it.key_id or '-':16}  {date:10}  {said}"
        yield from (f"    {name} = {row.mask}" for name in row.fields)
        yield from (f"    {fault}" for fault in it.faults)


def _presence(it: Standing) -> str:
    return {(): "present", ("file",): "no file", ("key",): "no key"}.get(it.missing, "absent")


def _row(row: Shown) -> dict[str, Any]:
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
