"""`tbot secrets export`, `import`, `backup` and `restore`: one file, encrypted with a passphrase."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import click

from tbot_core.cli.options import emit, home_option, json_option
from tbot_core.errors import UsageError
from tbot_core.vault.categories import CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from tbot_core.cli.actions.bundles import ImportChange
    from tbot_core.instance.preflight import PreflightFinding
    from tbot_core.system.secret import Secret

_PHRASE_CHARACTERS: Final = 1024
RETIRED_NOTE: Final = "{}: the key from before the rotation is deleted."
_passphrase: Final = click.option(
    "--passphrase-file",
    "phrase",
    type=click.File(),
    help="Read the passphrase from the first line of a file; - is standard input.",
)
_bundle: Final = click.argument("file", type=click.Path(path_type=Path), metavar="FILE")


@click.command("export")
@click.argument("categories", nargs=-1, type=click.Choice(list(CATEGORIES)), metavar="[CATEGORY]...")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The new file.")
@_passphrase
@home_option
def export_command(*, categories: tuple[str, ...], out: Path, phrase: TextIO | None, home: Path | None) -> None:
    """Write each CATEGORY (default: all) into one file under a passphrase, for import into another instance."""
    from tbot_core.cli.actions.bundles import export_secrets

    with _asked(phrase, twice=True) as passphrase:
        done = export_secrets(home, categories, out, passphrase)
    click.echo(f"{out} holds {', '.join(done)}. Anyone with the file and the passphrase can read them.")


@click.command("import")
@_bundle
@click.option("--replace", "deed", flag_value="replace", help="Overwrite existing values.")
@click.option("--dry-run", "deed", flag_value="dry-run", help="Show what would change, and write nothing.")
@_passphrase
@home_option
@json_option
def import_command(*, file: Path, deed: str | None, phrase: TextIO | None, home: Path | None, as_json: bool) -> None:
    """Import an export file under the keys of this instance. The whole file is checked first."""
    from tbot_core.cli.actions.bundles import import_secrets

    with _asked(phrase, of=file) as passphrase:
        changes = import_secrets(home, file, passphrase, replace=deed == "replace", dry_run=deed == "dry-run")
    document = {"dry_run": deed == "dry-run", "changes": [attrs.asdict(it) for it in changes]}
    emit(document, as_json=as_json, lines=map(_line, changes))


@click.command("backup")
@click.option(
    "--to", "folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Default: backups/."
)
@_passphrase
@home_option
def backup_command(*, folder: Path | None, phrase: TextIO | None, home: Path | None) -> None:
    """Write the encrypted files and their keys into one dated backup under a passphrase, and verify it.

    Keys from before a rotation that are in the backup, and older than KEEP_PREV_DAYS, are then deleted.
    """
    from tbot_core.cli.actions.bundles import back_up_secrets, retire_old_keys

    with _asked(phrase, twice=True) as passphrase:
        path = back_up_secrets(home, folder, passphrase)
    click.echo(
        f"{path} holds every file and key, and was verified. Keep a copy, and the passphrase, on another machine."
    )
    for category in retire_old_keys(home):
        click.echo(RETIRED_NOTE.format(category))


@click.command("restore")
@_bundle
@click.option("--verify", is_flag=True, help="Restore drill: only in memory; nothing is changed.")
@_passphrase
@home_option
@json_option
def restore_command(*, file: Path, verify: bool, phrase: TextIO | None, home: Path | None, as_json: bool) -> int:
    """Restore a backup into an empty instance, and check it. No existing file is overwritten."""
    from tbot_core.cli.actions.bundles import restore_secrets, verify_backup
    from tbot_core.cli.actions.check import check_instance

    with _asked(phrase, of=file) as passphrase:
        if verify:
            done, rows = verify_backup(home, file, passphrase)
        else:
            done = restore_secrets(home, file, passphrase)
            rows = check_instance(home)
    failed = [row for row in rows if row.level == "fail"]
    document = {"categories": done, "passed": not failed, "rows": [row.document for row in rows if row.level != "ok"]}
    emit(document, as_json=as_json, lines=_said(done, rows, passed=not failed))
    return max((row.exit_code for row in failed), default=0)


COMMANDS: Final = (export_command, import_command, backup_command, restore_command)


@contextmanager
def _asked(phrase: TextIO | None, *, twice: bool = False, of: Path | None = None) -> Iterator[Secret]:
    # The passphrase of a bundle, wiped afterwards; of one that is not there nobody is asked for it.
    from tbot_core.system import filesystem
    from tbot_core.system.secret import Secret
    from tbot_core.system.terminal import read_hidden

    if of is not None:
        filesystem.size(of)
    secret = Secret(read_hidden("Passphrase of the bundle", twice=twice) if phrase is None else _first_line(phrase))
    try:
        yield secret
    finally:
        secret.wipe()


def _first_line(phrase: TextIO) -> str:
    # Of a file that may be no text, and may never end.
    try:
        line = phrase.readline(_PHRASE_CHARACTERS + 2).rstrip("\r\n")
    except UnicodeDecodeError:
        line = ""
    if not 0 < len(line) <= _PHRASE_CHARACTERS:
        message = f"The first line of the passphrase file must be text of 1 to {_PHRASE_CHARACTERS} characters."
        raise UsageError(message, "Write the passphrase there, and nothing else.")
    return line


def _line(it: ImportChange) -> str:
    names = "" if it.state == "same" else ", ".join(it.fields)
    return f"{it.category:13} {it.state:8} {it.key_id or '-':16}  {names}".rstrip()


def _said(done: tuple[str, ...], rows: tuple[PreflightFinding, ...], *, passed: bool) -> Iterator[str]:
    yield f"The backup opens. It holds {', '.join(done) or 'only keys'}."
    yield from (f"{row.level:<5} {row.subject:<9} {row}" for row in rows if row.level != "ok")
    yield f"`tbot check` {'passes' if passed else 'fails'}, with {len(rows)} rows."
