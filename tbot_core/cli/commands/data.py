"""`tbot data`: import, download and export bars, facts and tables of plugins, list and verify stored data."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict

import attrs
import click

from tbot_core.cli.options import emit, home_option, json_option, print_notice
from tbot_core.errors import AccessError, UsageError
from tbot_core.model.dates import day_range, parse_date, parse_symbols
from tbot_core.model.formatting import plural
from tbot_core.system import filesystem, garbage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Unpack

    from tbot_core.backtest.data_download import DownloadRequest, DownloadResult
    from tbot_core.instance import Instance, SettingsFiles
    from tbot_core.marketdata.history import DownloadProgress
    from tbot_core.marketdata.store.exporter import ExportedBars
    from tbot_core.marketdata.store.importer import ImportedFile, ImportEvent, RefusedFile
    from tbot_core.marketdata.store.listing import StoreListing
    from tbot_core.marketdata.store.manifest import FactsRow
    from tbot_core.marketdata.store.reference import FactsOfDay
    from tbot_core.marketdata.store.source_files import ImportOptions
    from tbot_core.marketdata.store.verification import StoreVerification

_HEAD: Final = ("SYMBOL", "FIRST", "LAST", "SESSIONS", "BARS", "MISSING", "ADJUSTMENT", "VOLUME")
_DAYS_HEAD: Final = ("FROM", "FACT", "SOURCE", "SYMBOLS", "KNOWN")
_MOST_ARGUMENTS: Final = 2
_UNDER_WAY: Final = 0.99
_COMMAND_LINE: Final = click.core.ParameterSource.COMMANDLINE
_SERIES: Final = ("vix", "rates")
"""The series of `tbot_core.contracts.series`, which listing the commands does not import."""

_BAR: Final = 30
_PERCENT: Final = 100


class _Given(TypedDict):
    # The options of an import, as click passes them.
    adjustment: str
    volume: str
    zone: str | None
    as_of: str | None
    mapping: str | None
    symbol: str | None
    replace: bool


class _DownloadOptions(TypedDict):
    # The argument and the options as click passes them.

    series: str | None
    source: str | None
    symbols: str | None
    first: str | None
    last: str | None
    progress: Path | None
    home: Path | None
    as_json: bool


class _ExportOptions(TypedDict):
    # The options of the command.

    folder: str
    first: str
    last: str
    symbols: str | None
    form: str
    home: Path | None
    as_json: bool


@click.group(name="data")
def command() -> None:
    """Import, download, export, list and verify stored bars."""


@command.command(name="import", short_help="Import bars, facts, or a table of a plugin.")
@click.argument("words", nargs=-1, required=True, metavar="[TABLE] PATH")
@click.option(
    "--adjustment",
    type=click.Choice(("raw", "split", "total")),
    default="raw",
    show_default=True,
    help="Price adjustment of the bars: none, splits, or splits and dividends.",
)
@click.option(
    "--volume",
    type=click.Choice(("consolidated", "partial")),
    default="consolidated",
    show_default=True,
    help="Whether volumes are consolidated over all exchanges.",
)
@click.option("--zone", metavar="NAME", help="Time zone of times without an offset, for example America/New_York.")
@click.option(
    "--as-of",
    metavar="DATE",
    help="The date on which undated fundamentals became known, YYYY-MM-DD.",
)
@click.option(
    "--mapping",
    metavar="FILE",
    help="A TOML file that says which columns are which, for bars that are not recognised.",
)
@click.option(
    "--symbol", metavar="NAME", help="The symbol of bars in a file without a symbol column. Default: the file's name."
)
@click.option("--replace", is_flag=True, help="Replace stored values that differ.")
@click.option(
    "--progress",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the part of the files that is imported, in percent, to this file as JSON.",
)
@home_option
@json_option
@click.pass_context
def import_command(
    ctx: click.Context,
    /,
    words: tuple[str, ...],
    home: Path | None,
    progress: Path | None,
    *,
    as_json: bool,
    **given: Unpack[_Given],
) -> None:
    """Import one-minute bars, the daily VIX, fundamentals or splits from PATH, or a table of a plugin.

    PATH is a Parquet, CSV or JSON file, also compressed by gzip, or a folder of them. The columns of a file determine
    its kind. A file that was imported is not read again: the same command continues with those that are not stored.
    With TABLE, such as rates or funds, the file is checked by the plugin that reads that table, and replaces it.
    """
    from tbot_core.instance.sources import find_instance

    table, path = _import_arguments(words)
    if table:
        named = [name for name in given if ctx.get_parameter_source(name) is _COMMAND_LINE]
        if named:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in named)
            raise UsageError(f"{names} does not apply to a table of a plugin.", "Leave it out.")
        from tbot_core.actions.plugin_checks import import_table

        done = import_table(find_instance(home), table, path)
        emit({"table": table, "result": done}, as_json=as_json, lines=[done])
        return
    if given["symbol"] is not None and filesystem.is_folder(path):
        raise UsageError("--symbol is of one file.", "Give a file, or leave --symbol out: each file's name is used.")
    if _import_path(find_instance(home), path, _import_options(given), progress=progress, as_json=as_json):
        ctx.exit(1)


@command.command(name="list", short_help="List the stored symbols with range and bars.")
@click.option("--by-day", is_flag=True, help="Also list how many symbols have each fact from which day on.")
@json_option
@home_option
def list_command(home: Path | None, *, by_day: bool, as_json: bool) -> None:
    """List the stored symbols with their range, number of bars and missing minutes, and the other facts."""
    with garbage.kept_start():
        from tbot_core.actions.assembly import environment_rehearsal
        from tbot_core.instance.sources import find_instance
        from tbot_core.marketdata.store.listing import list_store
        from tbot_core.model.calendar import ExchangeCalendar

        instance, target = find_instance(home), environment_rehearsal()
        listing = list_store(instance.bars, ExchangeCalendar())
    days = _facts_by_day(instance) if by_day else ()
    document = _listing_document(listing) | ({"facts_by_day": [attrs.asdict(row) for row in days]} if by_day else {})
    lines = (*_listing_lines(listing), *_table((_DAYS_HEAD, *map(attrs.astuple, days)) if days else ()))
    emit(document, as_json=as_json, lines=lines)
    folder = None if target is None else attrs.evolve(instance, rehearsal=target.run).bars
    if folder is not None and filesystem.exists(folder):
        path = folder.relative_to(instance.home)
        click.echo(f"These are the instance's own; bars of the rehearsal are in {path}.", err=True)


@command.command(name="verify")
@json_option
@home_option
@click.pass_context
def verify_command(ctx: click.Context, /, home: Path | None, *, as_json: bool) -> None:
    """Read and check all stored data. Exits with 1 on faults.

    A session with fewer than 90 % of its minutes is a warning; other missing minutes are notes.
    """
    from tbot_core.instance.sources import find_instance
    from tbot_core.marketdata.store.verification import FindingLevel, verify_store
    from tbot_core.model.calendar import ExchangeCalendar

    with _file_progress("Verifying", None) as report:
        proof = verify_store(find_instance(home).bars, ExchangeCalendar(), lambda month: report(month, 1.0))
    emit(_proof_document(proof), as_json=as_json, lines=_proof_lines(proof))
    if proof.of(FindingLevel.FAULT):
        ctx.exit(1)


def _import_arguments(words: tuple[str, ...]) -> tuple[str, Path]:
    # The table, "" for none, and the path; raises UsageError for other numbers of words and an absent path.
    if len(words) > _MOST_ARGUMENTS:
        raise UsageError("`tbot data import` takes one path, or a table and one path.", "Quote a path with blanks.")
    path = Path(words[-1])
    if not filesystem.exists(path):
        raise UsageError(f"The path {words[-1]!r} does not exist.", "See `tbot data import --help`.")
    if len(words) == _MOST_ARGUMENTS and filesystem.exists(Path(words[0])):
        raise UsageError("`tbot data import` takes one path.", "Import one file or folder after the other.")
    return words[0] if len(words) == _MOST_ARGUMENTS else "", path


def _import_path(
    instance: Instance, path: Path, options: ImportOptions, *, progress: Path | None = None, as_json: bool = False
) -> int:
    # Import a file or folder into the instance and report on each file; returns the number of refused files.
    from tbot_core.marketdata.store.importer import (
        ImportCommitted,
        ImportedFile,
        ImportProgress,
        RefusedFile,
        import_files,
        source_files,
    )
    from tbot_core.model.calendar import ExchangeCalendar

    files = source_files(path)
    filesystem.make_folder(instance.data)  # private, as `tbot init` makes it
    imported: list[ImportedFile] = []
    refused: list[RefusedFile] = []
    stored = 0

    with _file_progress("Importing", len(files), progress) as report:

        def collect(event: ImportEvent) -> None:
            nonlocal stored
            match event:
                case ImportCommitted():
                    stored = event.files - len(refused)
                    return
                case ImportedFile():
                    imported.append(event)
                case RefusedFile():
                    refused.append(event)
            report(event.file, min(event.done, _UNDER_WAY) if isinstance(event, ImportProgress) else 1.0)

        with _continuable(lambda: _kept(stored, len(files))):
            import_files(instance.bars, ExchangeCalendar(), files, options, collect)
    _print_outcomes(path, imported, refused, as_json=as_json)
    return len(refused)


@click.command(name="download", short_help="Download past one-minute bars, or a daily series, into the store.")
@click.argument("series", required=False, type=click.Choice(_SERIES, case_sensitive=False), metavar="[vix|rates]")
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
def download_command(ctx: click.Context, /, **given: Unpack[_DownloadOptions]) -> None:
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
    from tbot_core.backtest.data_download import DownloadRequest
    from tbot_core.engine.bootstrap import data_source_name
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
    from tbot_core.backtest.data_download import download
    from tbot_core.engine.assembly import DRY_RUN
    from tbot_core.engine.bootstrap import data_source_name

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
def export_command(**given: Unpack[_ExportOptions]) -> None:
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
    with _file_progress("Exporting", None) as report:
        result = export_bars(store, request, lambda symbol: report(symbol, 1.0))
    emit(attrs.asdict(result), as_json=given["as_json"], lines=_lines(request.folder, result))


@contextmanager
def _file_progress(label: str, length: int | None, file: Path | None = None) -> Iterator[Callable[[str, float], None]]:
    # Show the current file, and with a known number of files a bar, on a terminal only.
    # `file` gets the part of all files that is done, in percent.
    terminal, done = sys.stderr.isatty(), 0

    def report(name: str, share: float) -> None:
        nonlocal done
        place = done + 1
        done += share >= 1
        part = min(1.0, (place - 1 + share) / length) if length else 0.0
        if file is not None:
            from tbot_core.actions.simulations import write_progress

            write_progress(file, int(part * _PERCENT), _PERCENT)
        if terminal:
            filled = round(part * _BAR)
            bar = f" of {length} [{'#' * filled}{'.' * (_BAR - filled)}] {part:.0%}" if length else ""
            click.echo(f"\r\x1b[K{label} {place}{bar}: {name}", nl=False, err=True)

    try:
        yield report
    finally:
        if terminal:
            click.echo("\r\x1b[K", nl=False, err=True)


def _import_options(given: _Given) -> ImportOptions:
    from tbot_core.actions.assembly import action_clock
    from tbot_core.marketdata.store.source_files import ImportOptions
    from tbot_core.marketdata.store.source_readers import read_mapping
    from tbot_core.model.clock import exchange_time

    as_of, mapping, symbol = given["as_of"], given["mapping"], given["symbol"]
    return ImportOptions(
        adjustment=given["adjustment"],
        volume=given["volume"],
        zone=given["zone"],
        as_of=None if as_of is None else parse_date(as_of),
        symbol=None if symbol is None else symbol.strip().upper(),
        replace=given["replace"],
        today=exchange_time(action_clock().now()).date(),
        mapping=None if mapping is None else read_mapping(Path(mapping)),
    )


def _print_outcomes(path: Path, imported: list[ImportedFile], refused: list[RefusedFile], *, as_json: bool) -> None:
    from tbot_core.actions.bar_results import import_document, import_sentences
    from tbot_core.marketdata.store.source_readers import nested_folders

    document = import_document(imported, refused, folders := nested_folders(path))
    for fault in refused:
        click.echo(f"refused: {fault.reason}", err=True)
    emit(document, as_json=as_json, lines=import_sentences(document))
    if folders:
        click.echo(f"Not imported: {', '.join(folders)}; subfolders are not searched.", err=True)


@contextmanager
def _continuable(kept: Callable[[], str]) -> Iterator[None]:
    # Say after Ctrl-C, and where the store cannot be written, what is kept of the import.
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"tbot: {kept()}", err=True)
        raise
    except AccessError as fault:
        raise AccessError(fault.message, f"{fault.remedy} {kept()}".lstrip()) from fault


def _kept(stored: int, files: int) -> str:
    if not stored:
        return "No file of this import is stored as a whole: the same command begins it again."
    kept = f"{stored} of {plural(files, 'file')} {'is' if stored == 1 else 'are'} stored"
    return f"{kept}: the same command continues with the others."


def _listing_document(listing: StoreListing) -> dict[str, object]:
    def facts(row: FactsRow | None) -> dict[str, object] | None:
        return None if row is None else attrs.asdict(row)

    return {
        "symbols": [attrs.asdict(row) for row in listing.symbols],
        "vix": facts(listing.vix),
        "rates": facts(listing.rates),
        "fundamentals": facts(listing.fundamentals),
        "splits": facts(listing.splits),
        "fetched": facts(listing.fetched),
    }


def _listing_lines(listing: StoreListing) -> Iterator[str]:
    if listing.symbols:
        yield from _table((_HEAD, *map(attrs.astuple, listing.symbols)))
    else:
        yield "No bars are stored. Import bars with `tbot data import PATH`."
    tables = {
        "Daily VIX": listing.vix,
        "Daily rates": listing.rates,
        "Fundamentals": listing.fundamentals,
        "Splits": listing.splits,
        "Facts fetched by filters": listing.fetched,
    }
    for name, facts in tables.items():
        yield (
            f"{name}: none" if facts is None else f"{name}: {plural(facts.rows, 'row')}, {facts.first} to {facts.last}"
        )


def _facts_by_day(instance: Instance) -> Sequence[FactsOfDay]:
    from tbot_core.marketdata.store.reference import facts_by_day

    return facts_by_day(instance.bars)


def _table(rows: Sequence[tuple[object, ...]]) -> Iterator[str]:
    texts = [tuple(map(str, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _proof_document(proof: StoreVerification) -> dict[str, object]:
    from tbot_core.marketdata.store.verification import FindingLevel

    found = {
        f"{level}s": [attrs.asdict(it, filter=lambda field, _: field.name != "level") for it in proof.of(level)]
        for level in FindingLevel
    }
    return {**found, "bars": proof.bars, "files": proof.files}


def _proof_lines(proof: StoreVerification) -> Iterator[str]:
    from tbot_core.marketdata.store.verification import FindingLevel

    for finding in proof.findings:
        place = "" if finding.where in finding.message else f"{finding.where}: "
        yield f"{finding.level}: {place}{finding.message} {finding.remedy}".rstrip()
    faults, warnings = len(proof.of(FindingLevel.FAULT)), len(proof.of(FindingLevel.WARNING))
    counts = f"{plural(faults, 'fault')}, {plural(warnings, 'warning')}"
    yield f"{plural(proof.files, 'file')}, {plural(proof.bars, 'bar')}: {counts}."


def _download_series(ctx: click.Context, name: str, given: _DownloadOptions) -> None:
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


def _check_source(name: str) -> None:
    # The source is an option, not a setting: its own sentence names it.
    from tbot_core.errors import PluginError
    from tbot_core.plugins import discovery

    brokers = sorted({plugin.entry.name for plugin in discovery.installed_plugins() if plugin.entry.kind == "broker"})
    if name not in brokers:
        raise PluginError(f"--source {name}: no such broker is installed.", f"Installed: {', '.join(brokers)}.")


def _lines(folder: Path, result: ExportedBars) -> Iterator[str]:
    from tbot_core.marketdata.store.selection import absence_note

    yield f"{plural(result.bars, 'bar')} in {plural(len(result.files), 'file')} written to {folder}."
    if result.absent:
        yield absence_note(result.absent)
    if (result.adjustment, result.volume) != ("raw", "consolidated"):
        yield f"Import them with --adjustment {result.adjustment} --volume {result.volume}."
    if result.simulated:
        yield "These prices are simulated; an import of the files does not label them so."


command.add_command(download_command)


command.add_command(export_command)
