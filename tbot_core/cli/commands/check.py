"""`tbot check`: checks an instance before it trades, one row per finding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from tbot_core.cli.actions.check import check_instance
from tbot_core.cli.options import emit, home_option, json_option, shared_key_option

if TYPE_CHECKING:
    from pathlib import Path


_REFUSED: Final = 3


@click.command("check")
@home_option
@click.option("--strict", is_flag=True, help="Treat warnings as failures.")
@shared_key_option
@json_option
def command(*, home: Path | None, strict: bool, allow_shared_key: bool, as_json: bool) -> int:
    """Check keys, encrypted files, settings, plugins, logs and the machine. Exits with 3 for settings and secrets."""
    found = check_instance(home, allow_shared_key=allow_shared_key)
    failed = [row for row in found if row.level == "fail" or (strict and row.level == "warn")]
    document = {"passed": not failed, "rows": [row.document for row in found]}
    emit(document, as_json=as_json, lines=(f"{row.level:<5} {row.subject:<9} {row}" for row in found))
    return max((row.exit_code for row in failed), default=0)
