"""`tbot data download`: past bars of a source into the bar store."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from tbot_core.cli.options import emit, home_option, json_option, print_notice
from tbot_core.errors import UsageError
from tbot_core.model.dates import day_range, parse_symbols
from tbot_core.model.formatting import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Unpack

    from tbot_core.engine.data_download import DownloadRequest, DownloadResult
    from tbot_core.instance import Instance, SettingsFiles
    from tbot_core.marketdata.history import DownloadProgress


class DownloadOptions(TypedDict):
    """The options as click passes them."""

    source: str | None
    symbols: str | None
    first: str | None
    last: str | None
    progress: Path | None
    home: Path | None
    as_json: bool


@click.command(name="download", short_help="Download past one-minute bars into the store.")
@click.option("--source", metavar="NAME", help="The broker plugin that supplies the bars. Default: DATA_SOURCE.")
@click.option(
    "--symbols",
    metavar="A,B,...",
    help="Only these symbols. Default: UNIVERSE, else as many as a session would subscribe.",
)
@click.option("--from", "first", metavar="DATE", help="First day, YYYY-MM-DD. Default: 21 sessions ago.")
@click.option("--to", "last", metavar="DATE", help="Last day, inclusive; needed with --from.")
@click.option(
    "--progress",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the number of done sessions of single symbols, and of all, to this file as JSON.",
)
@home_option
@json_option
@click.pass_context
def download_command(ctx: click.Context, /, **given: Unpack[DownloadOptions]) -> None:
    """Download past one-minute bars into the store, by default of the 21 sessions before the next one.

    Sessions that are stored already are skipped, so a download that was interrupted is continued by the same command.
    `--source paper` writes simulated sessions, in an instance that trades on the simulator. Exits with 1 if bars could
    not be stored.
    """
    first, last = given["first"], given["last"]
    if (first is None) != (last is None):
        raise UsageError("--from and --to belong together.", "Give both, or neither for the last 21 sessions.")
    days = None if first is None or last is None else day_range(first, last)
    from tbot_core.actions.bar_results import download_document, download_sentences
    from tbot_core.engine.bootstrap import data_source_name
    from tbot_core.engine.data_download import DownloadRequest
    from tbot_core.instance import read_settings_files
    from tbot_core.instance.sources import find_instance

    instance = find_instance(given["home"])
    sources = read_settings_files(instance, live=False)
    source = (given["source"] or data_source_name(sources.texts())).strip().lower()
    request = DownloadRequest(source=source, days=days, symbols=parse_symbols(given["symbols"]))
    result = download_with_progress(instance, request, sources, given["progress"])
    document = download_document(request, result)
    emit(document, as_json=given["as_json"], lines=download_sentences(document))
    if result.progress.refused:
        ctx.exit(1)


def download_with_progress(
    instance: Instance, request: DownloadRequest, sources: SettingsFiles, file: Path | None = None
) -> DownloadResult:
    """Run a download; its progress is shown on a terminal, and goes to `file`. `sources` are the settings files."""
    import asyncio

    from tbot_core.actions.assembly import assemble_action
    from tbot_core.engine.assembly import DRY_RUN
    from tbot_core.engine.bootstrap import data_source_name
    from tbot_core.engine.data_download import download

    _check_source(request.source)
    assembly = assemble_action(instance.home, DRY_RUN, {"DATA_SOURCE": request.source}, sources, print_notice)
    own_source = data_source_name(sources.texts())
    with continuable(), progress_line(file) as report:
        return asyncio.run(download(assembly, request, own_source, report))


@contextmanager
def continuable() -> Iterator[None]:
    """Say after Ctrl-C that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("tbot: What was downloaded is stored: the same command continues the download.", err=True)
        raise


def _check_source(name: str) -> None:
    # The source is an option, not a setting: its own sentence names it.
    from tbot_core.errors import PluginError
    from tbot_core.plugins import discovery

    brokers = sorted({it.entry.name for it in discovery.installed_plugins() if it.entry.kind == "broker"})
    if name not in brokers:
        raise PluginError(f"--source {name}: no such broker is installed.", f"Installed: {', '.join(brokers)}.")


@contextmanager
def progress_line(file: Path | None = None) -> Iterator[Callable[[DownloadProgress], None]]:
    """Show the progress in one line, on a terminal only, and write it to the file."""
    from tbot_core.actions.simulations import write_progress

    shown = sys.stderr.isatty()

    def report(one: DownloadProgress) -> None:
        words = f"Downloading {one.done:,} of {one.total:,} sessions of single symbols: {plural(one.bars, 'bar')}"
        if shown:
            click.echo(f"\r\x1b[K{words}", nl=False, err=True)
        if file is not None:
            write_progress(file, one.done, one.total)

    try:
        yield report
    finally:
        if shown:
            click.echo("\r\x1b[K", nl=False, err=True)
