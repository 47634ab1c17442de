"""`tbot broker`: tests the connection to a broker with the stored credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import click

from tbot_core.cli.options import emit, home_option, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.engine.bootstrap import Assembly
    from tbot_core.engine.live.broker_check import BrokerFinding

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
    import asyncio

    from tbot_core.cli.assembly import assemble_command
    from tbot_core.instance import load_settings
    from tbot_core.instance.secrets import account_mode
    from tbot_core.status.runs import find_instance

    instance = find_instance(home)
    live = account_mode(load_settings(instance.home, mode="replay"), name.lower()) == "live"
    assembly = assemble_command(instance.home, "live" if live else "paper")
    chosen = name.lower() or assembly.settings.trading.broker_name
    found = asyncio.run(assembly.closing(_tested(assembly, chosen)))
    passed = not any(one.level == "fail" for one in found)
    document = {"broker": chosen, "passed": passed, "rows": [attrs.asdict(one) for one in found]}
    emit(document, as_json=as_json, lines=(f"{one.level:<5} {one.subject:<8} {one.words}" for one in found))
    return 0 if passed else _UNREACHED


async def _tested(assembly: Assembly, name: str) -> list[BrokerFinding]:
    from tbot_core.engine.live.broker_check import BrokerFinding, check_broker

    broker, clock = assembly.broker(name), assembly.clock
    if broker.capabilities.simulated:
        return [BrokerFinding(level="ok", subject="login", words=f"{name} is a simulation: there is no login")]
    session = assembly.calendar.current(clock.now())
    found = await check_broker(broker, session, clock)
    quality = assembly.quality(name)
    return [*found, *([BrokerFinding(level="ok", subject="feed", words=quality.words)] if quality else [])]
