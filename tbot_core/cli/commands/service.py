"""`tbot service`: keeps `tbot run` going under a supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tbot_core.cli.options import emit, home_option, json_option, print_progress, shared_key_option

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.actions.service import ServiceChange


@click.group("service", no_args_is_help=True)
def command() -> None:
    """Keep `tbot run` going, day after day, without a terminal: it is started again after a crash.

    Where systemd's user manager answers, a user unit does it, else a small supervisor of tbot's own.
    """


@command.command("start")
@click.option("--symbols", metavar="A,B", help="Only these symbols.")
@shared_key_option
@home_option
@json_option
def start(*, symbols: str | None, allow_shared_key: bool, home: Path | None, as_json: bool) -> int:
    """Start the bot and keep it going; one that is kept going already stays as it is.

    Exits with 1 if it does not run, or if a bot runs here that was started by hand.
    """
    from tbot_core.actions.service import start_service
    from tbot_core.model.dates import parse_symbols

    named = ",".join(parse_symbols(symbols))
    options = [f"--symbols={named}"] if named else []
    options += ["--allow-shared-key"] if allow_shared_key else []
    return _show(start_service(home, options, notice=print_progress), as_json=as_json)


@command.command("stop")
@home_option
@json_option
def stop(*, home: Path | None, as_json: bool) -> int:
    """Stop the bot by STOP_POLICY, and its supervisor, also for after a reboot. Exits with 1 if anything stays open."""
    from tbot_core.actions.service import stop_service

    return _show(stop_service(home, notice=print_progress), as_json=as_json)


@command.command("status")
@home_option
@json_option
def status(*, home: Path | None, as_json: bool) -> int:
    """Show whether the bot is kept going, since when, its restarts, its last exit and its last lines.

    Exits with 1 if it is down although it was started and not stopped.
    """
    from tbot_core.actions.service import service_status, status_lines

    found = service_status(home)
    emit(found or {"running": False, "wanted": False, "failed": False}, as_json=as_json, lines=status_lines(found))
    return int(found is not None and found["failed"])


def _show(change: ServiceChange, *, as_json: bool) -> int:
    emit(change.document(), as_json=as_json, lines=change.sentences)
    return change.code
