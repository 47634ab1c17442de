"""`tbot check`: checks an instance before it trades, one row per finding; a start runs the same checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tbot_core.cli.options import emit, home_option, json_option, print_notice, print_progress, shared_key_option
from tbot_core.system import garbage

if TYPE_CHECKING:
    from pathlib import Path


@click.command("check")
@home_option
@click.option("--strict", is_flag=True, help="Treat warnings as failures.")
@shared_key_option
@json_option
def command(*, home: Path | None, strict: bool, allow_shared_key: bool, as_json: bool) -> int:
    """Check keys, files, settings, plugins, logs, the machine, the broker and the alert channels; no order is sent.

    The broker is reached as by `tbot broker test`, unless something else fails first. Exits with 3 for settings and
    secrets.
    """
    with garbage.kept_start():
        from tbot_core.actions.checks import check_with_broker

        found = check_with_broker(
            home, allow_shared_key=allow_shared_key, strict=strict, progress=print_progress, notify=print_notice
        )
    lines = [f"{row.level:<5} {row.subject:<9} {row}" for row in found.rows]
    emit(found.document(), as_json=as_json, lines=[*lines, found.sentence])
    return found.code
