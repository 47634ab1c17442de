"""`tbot data download`: past bars of a source into the bar store."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict

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


SERIES: Final = ("vix", "rates")
"""The series of `tbot_core.contracts.series`, which listing the commands does not import."""


class DownloadOptions(TypedDict):
    """The argument and the options as click passes them."""

    series: str | None
    source: str | None
    symbols: str | None
    first: str | None
    last: str | None
    progress: Path | None
    home: Path | None
    as_json: bool


@click.command(name="download", short_help="Download past one-minute bars, or a daily series, into the store.")
@click.argument("series", required=False, type=click.Choice(SERIES, case_sensitive=False), metavar="[vix|rates]")
@click.option(
    "--source",
    metavar="NAME",
    help="The broker plugin that supplies the bars, or the extension that publishes the series. "
    "Default: DATA_SOURCE; of a series the first enabled extension whose answer is plausible.",
)
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

    With vix or rates the days of that series which are not stored are added, from an extension that publishes it. A
    stored day is never overwritten: one with another value is reported, and the command exits with 1.
    """
    if given["series"] is not None:
        _download_series(ctx, given["series"], given)
        return
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


def _download_series(ctx: click.Context, name: str, given: DownloadOptions) -> None:
    import asyncio

    from tbot_core.actions.assembly import assemble_action
    from tbot_core.actions.bar_results import series_document, series_sentences
    from tbot_core.engine.assembly import DRY_RUN
    from tbot_core.engine.daily_series import download_series
    from tbot_core.instance.sources import find_instance

    named = [f"--{one}" for one in ("symbols", "from", "to", "progress") if _is_given(ctx, one)]
    if named:
        verb, them = ("does", "it") if len(named) == 1 else ("do", "them")
        words = f"{', '.join(named)} {verb} not apply to a series."
        raise UsageError(words, f"Leave {them} out: a series is stored whole.")
    source = None if given["source"] is None else given["source"].strip().lower()
    assembly = assemble_action(find_instance(given["home"]).home, DRY_RUN, notify=print_notice)
    result = asyncio.run(assembly.closing(download_series(assembly, name, source)))
    document = series_document(result)
    emit(document, as_json=given["as_json"], lines=series_sentences(document))
    if result.merge.changed:
        ctx.exit(1)


def _is_given(ctx: click.Context, option: str) -> bool:
    parameter = {"from": "first", "to": "last"}.get(option, option)
    return ctx.get_parameter_source(parameter) is click.core.ParameterSource.COMMANDLINE


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
