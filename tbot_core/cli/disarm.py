"""`tbot disarm`: let live trading enter nothing more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tbot_core.cli.options import emit, home_option, json_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command("disarm")
@home_option
@json_option
def command(*, home: Path | None, as_json: bool) -> int:
    """Let live trading enter nothing more; positions are managed to their exits. Settings and secrets stay closed."""
    import asyncio

    from tbot_core.cli.arm import code, sentence
    from tbot_core.cli.requests import ask
    from tbot_core.clock import SystemClock
    from tbot_core.control import Verb

    answer = asyncio.run(ask(home, Verb.DISARM, SystemClock()))
    emit(answer.document(), as_json=as_json, lines=[sentence(answer)])
    return code(answer)
