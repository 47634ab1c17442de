"""`tbot why SYMBOL`: what each stage compared and decided."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from tbot_core.cli.options import emit, home_option, json_option
from tbot_core.cli.text.tables import wrap_sentence
from tbot_core.errors import UsageError
from tbot_core.model.dates import parse_symbol
from tbot_core.system import garbage, terminal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tbot_core.status.why_text import WhySection


@click.command("why")
@click.argument("symbol", required=False)
@click.option("--at", metavar="TIME", help="The minute that ends then: HH:MM New York, or ISO 8601.")
@click.option("--date", metavar="DATE", help="The session. Default: the last one with a decision on the symbol.")
@click.option("--run", metavar="ID", help="The run, by a prefix of its id, or `paper`. Default: the newest.")
@home_option
@json_option
def command(symbol: str | None, *, home: Path | None, as_json: bool, **options: str | None) -> None:
    """Explain every decision on SYMBOL: each comparison with its value, its limit and its result.

    With --at any minute is recomputed from recorded bars, with or without a decision. Without SYMBOL it explains a
    session: what the window of each strategy did, and why there was no trade, or not more.
    """
    if symbol is None:
        at = options.pop("at")
        if at is not None:
            raise UsageError("--at needs a symbol.", f"Write `tbot why SYMBOL --at {at}`.")
        with garbage.kept_start():
            from tbot_core.status import day_decisions, day_decisions_text

            day = day_decisions.day_decisions(home, **options)
        emit(day, as_json=as_json, lines=lines(day_decisions_text.day_sections(day), terminal.columns()))
        return
    with garbage.kept_start():
        from tbot_core.status import why, why_text

        shown = why.why_document(parse_symbol(symbol), home, **options)
    emit(shown, as_json=as_json, lines=lines(why_text.why_sections(shown, bold), terminal.columns()))


bold = partial(click.style, bold=True)


def lines(sections: Iterable[WhySection], width: int | None = None) -> Iterator[str]:
    """The whole answer as text; its longest sentences on a terminal of that width (None: no terminal)."""
    for at, section in enumerate(sections):
        if at:
            yield ""
        if section.title:
            yield bold(section.title)
        for note in section.notes:
            yield from wrap_sentence(note, width)
        yield from section.lines
