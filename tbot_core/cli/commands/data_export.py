"""`tbot data export`: write stored bars to files that can be imported again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import attrs
import click

from tbot_core.cli.file_progress import file_progress
from tbot_core.cli.options import emit, home_option, json_option
from tbot_core.model.dates import day_range, parse_symbols
from tbot_core.model.formatting import plural

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Unpack

    from tbot_core.marketdata.store.exporter import ExportedBars


class ExportOptions(TypedDict):
    """The options of the command."""

    folder: str
    first: str
    last: str
    symbols: str | None
    form: str
    home: Path | None
    as_json: bool


@click.command(name="export", short_help="Write stored bars to CSV or Parquet files.")
@click.argument("folder")
@click.option("--from", "first", metavar="DATE", required=True, help="First day, YYYY-MM-DD.")
@click.option("--to", "last", metavar="DATE", required=True, help="Last day, inclusive.")
@click.option("--symbols", metavar="A,B,...", help="Only these symbols. Default: all that are stored.")
@click.option(
    "--format", "form", type=click.Choice(("csv", "parquet")), default="parquet", show_default=True, help="The format."
)
@home_option
@json_option
def export_command(**given: Unpack[ExportOptions]) -> None:
    """Write the bars of a range to FOLDER, one file for each symbol.

    The files can be imported again, with the same content hash. A file that exists is not overwritten.
    """
    from tbot_core.instance.sources import find_instance
    from tbot_core.marketdata.store.exporter import ExportRequest, export_bars
    from tbot_core.marketdata.store.store import BarStore
    from tbot_core.model.calendar import ExchangeCalendar

    first, last = day_range(given["first"], given["last"])
    request = ExportRequest(
        first=first,
        last=last,
        symbols=parse_symbols(given["symbols"]),
        folder=Path(given["folder"]),
        format=given["form"],
    )
    store = BarStore(folder=find_instance(given["home"]).bars, calendar=ExchangeCalendar())
    with file_progress("Exporting", None) as report:
        result = export_bars(store, request, lambda symbol: report(symbol, 1.0))
    emit(attrs.asdict(result), as_json=given["as_json"], lines=_lines(request.folder, result))


def _lines(folder: Path, result: ExportedBars) -> Iterator[str]:
    from tbot_core.marketdata.store.selection import absence_note

    yield f"{plural(result.bars, 'bar')} in {plural(len(result.files), 'file')} written to {folder}."
    if result.absent:
        yield absence_note(result.absent)
    if (result.adjustment, result.volume) != ("raw", "consolidated"):
        yield f"Import them with --adjustment {result.adjustment} --volume {result.volume}."
    if result.simulated:
        yield "These prices are simulated; an import of the files does not label them so."
