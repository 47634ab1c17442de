"""`tbot why SYMBOL`: what each stage compared and decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tbot_core.cli.options import emit, home_option, json_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command("why")
@click.argument("symbol")
@click.option("--at", metavar="TIME", help="The minute that ends then: HH:MM New York, or ISO 8601.")
@click.option("--date", metavar="DATE", help="The session. Default: the last one with a decision on the symbol.")
@click.option("--run", metavar="ID", help="The run, by a prefix of its id, or `paper`. Default: the newest.")
@home_option
@json_option
def command(symbol: str, *, home: Path | None, as_json: bool, **options: str | None) -> None:
    """Explain every decision on SYMBOL: each comparison with its value, its limit and its result.

    With --at any minute is recomputed from recorded bars, with or without a decision.
    """
    from tbot_core.cli.text.why import lines
    from tbot_core.model.dates import parse_symbol
    from tbot_core.status.why import why_document

    shown = why_document(parse_symbol(symbol), home, **options)
    emit(shown, as_json=as_json, lines=lines(shown))
