"""`tbot broker`: tests the connection to a broker with the stored credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import click

from tbot_core.cli.options import emit, home_option, json_option, print_notice

if TYPE_CHECKING:
    from pathlib import Path

_UNREACHED: Final = 4


@click.group("broker")
def command() -> None:
    """Test the connection to a broker."""


@command.command("test", short_help="Log in and read the account; no order is sent.")
@click.argument("name", default="")
@home_option
@json_option
def test_command(*, name: str, home: Path | None, as_json: bool) -> int:
    """Log in at the broker NAME (default: BROKER_NAME) and read account, positions, hours, an instrument and a price.

    No order is sent. Exits with 4 if something fails.
    """
    from tbot_core.actions.broker_findings import connect_broker
    from tbot_core.instance.sources import find_instance

    chosen, found = connect_broker(find_instance(home), name.lower(), print_notice)
    passed = not any(one.level == "fail" for one in found)
    document = {"broker": chosen, "passed": passed, "rows": [attrs.asdict(one) for one in found]}
    emit(document, as_json=as_json, lines=(f"{one.level:<5} {one.subject:<8} {one.words}" for one in found))
    return 0 if passed else _UNREACHED
