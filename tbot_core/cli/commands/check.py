"""`tbot check` and `tbot broker test`: whether an instance could trade now, one row per finding; no order is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import click

from tbot_core.cli.options import emit, home_option, json_option, print_notice, print_progress, shared_key_option
from tbot_core.system import garbage

if TYPE_CHECKING:
    from pathlib import Path

_UNREACHED: Final = 4


@click.command("check")
@home_option
@click.option("--strict", is_flag=True, help="Treat warnings as failures.")
@shared_key_option
@json_option
def check(*, home: Path | None, strict: bool, allow_shared_key: bool, as_json: bool) -> int:
    """Check keys, files, settings, plugins, logs, the machine, the broker and the alert channels; no order is sent.

    The broker is reached as by `tbot broker test`, unless something else fails first. Exits with 3 for settings and
    secrets.
    """
    with garbage.kept_start():
        from tbot_core.actions.checks import check_with_broker

        result = check_with_broker(
            home, allow_shared_key=allow_shared_key, strict=strict, progress=print_progress, notify=print_notice
        )
    lines = [f"{row.level:<5} {row.subject:<9} {row}" for row in result.rows]
    emit(result.document(), as_json=as_json, lines=[*lines, result.sentence])
    return result.code


@click.group("broker")
def broker() -> None:
    """Test the connection to a broker."""


@broker.command("test", short_help="Log in and read the account; no order is sent.")
@click.argument("name", default="")
@home_option
@json_option
def broker_test_command(*, name: str, home: Path | None, as_json: bool) -> int:
    """Log in at the broker NAME (default: BROKER_NAME) and read account, positions, hours, an instrument and a price.

    No order is sent. Exits with 4 if something fails.
    """
    from tbot_core.actions.trials import connect_broker
    from tbot_core.instance.sources import find_instance

    chosen, findings = connect_broker(find_instance(home), name.lower(), print_notice)
    passed = not any(finding.level == "fail" for finding in findings)
    document = {"broker": chosen, "passed": passed, "rows": [attrs.asdict(finding) for finding in findings]}
    emit(
        document,
        as_json=as_json,
        lines=(f"{finding.level:<5} {finding.subject:<8} {finding.words}" for finding in findings),
    )
    return 0 if passed else _UNREACHED
