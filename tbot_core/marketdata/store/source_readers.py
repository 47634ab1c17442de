"""Reads source files as tables of a bounded number of rows: Parquet, CSV and JSON, also compressed by gzip.

A format says how a vendor writes bars: which of its columns are ours, and how its times are meant. A file whose columns
have our names needs none. Others are recognised (`formats.toml`), or described by a mapping file.
"""

from __future__ import annotations

import csv
import functools
import gzip
import hashlib
import io
import re
import tomllib
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import attrs
import polars as pl

from tbot_core.errors import AccessError, DataError, UsageError
from tbot_core.model import json_document
from tbot_core.model.formatting import plural
from tbot_core.system import filesystem
from tbot_core.system.large_files import open_stream

SUFFIXES: Final = (".parquet", ".csv", ".txt", ".json", ".csv.gz", ".txt.gz", ".json.gz")

BATCH_ROWS: Final = 500_000

BLOCK_BYTES: Final = 32 << 20

LONGEST_JSON: Final = 64 << 20

_ALWAYS_READ: Final = 1_000_000

_ROWS_A_BYTE: Final = 2  # rows of bars take several bytes each, however they are packed

READER_FAULTS: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What the reader of tables raises for a damaged file; a panic is no Exception."""

# A table of tickers side by side begins with the lines Price, Ticker and Datetime.
_TICKER_LINES: Final = 3

_LONGEST_ROW: Final = 1000

_LONGEST_HEAD: Final = 64 << 10

_SHOWN: Final = 80

_HASHED_BYTES: Final = 1 << 20

_ERRORS: Final = ("message", "error")

_REPLIED: Final = {"t": "ts", "o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "vw": "vwap"}

UNITS: Final = ("s", "ms", "us", "ns")
"""The units of times that are numbers: since 1970 UTC."""

_KNOWN: Final = "formats.toml"

_KEYS: Final = ("zone", "format", "separator", "header", "columns")

_OURS: Final = ("symbol", "ts", "date", "time", "open", "high", "low", "close", "volume", "vwap")

_NEEDED: Final = ("open", "high", "low", "close", "volume")

_DATED: Final = re.compile(rb'"?\d{1,4}[/.-]\d{1,2}[/.-]\d{1,4}"?,')

_LARGEST: Final = 100_000


@attrs.frozen(kw_only=True, eq=False)
class RawTable:
    """Some rows of a file with its columns; `first_row` is the line or row of the first, `given` the header as written.

    `done` is the share of the file that has been read, 0 to 1.
    """

    frame: pl.DataFrame
    first_row: int
    given: tuple[str, ...]
    format: SourceFormat
    done: float


@attrs.frozen(kw_only=True)
class _Head:
    # The line that names a file's columns, as the CSV reader gets it before each block, and the line of the first row.
    line: bytes
    first_row: int
    format: SourceFormat

    @property
    def given(self) -> tuple[str, ...]:
        """The names as written: the CSV reader renames a duplicate one."""
        text = self.line.decode("utf-8-sig", errors="replace").splitlines()[:1]
        return tuple(next(csv.reader(text, delimiter=self.format.separator), []))


@attrs.frozen(kw_only=True)
class SourceFormat:
    """The way in which a file is written.

    `columns` maps its columns, in lower case, to ours; `names` are all of them for a file without a header. `needed`:
    those that a mapping file names, by ours and as written there; a file must have each. `time`: the form of its times
    as in `strptime`, or a unit of UNITS; "" for any usual one. `zone`: of times without an offset.
    `symbol`: of all its rows, "" for one that the rows or the file's name give.
    """

    columns: Mapping[str, str] = attrs.field(factory=dict)
    names: tuple[str, ...] = ()
    needed: Mapping[str, str] = attrs.field(factory=dict)
    time: str = ""
    zone: str | None = None
    separator: str = ","
    symbol: str = ""


PLAIN: Final = SourceFormat()


def suffix_of(path: Path) -> str:
    """The suffix of a file's name that says how to read it, such as .csv.gz; "" for an unknown one."""
    name = path.name.lower()
    return next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(suffix)), "")


def nested_folders(path: Path) -> tuple[str, ...]:
    """The subfolders of a folder by name; an import does not search them. None of a file."""
    if not filesystem.is_folder(path):
        return ()
    return tuple(entry.name for entry in filesystem.entries(path) if filesystem.is_folder(entry))


def is_source(path: Path) -> bool:
    """Whether a file of a folder can be imported; a text file only where it has bars without a header."""
    suffix = suffix_of(path)
    if not suffix.startswith(".txt"):
        return bool(suffix)
    try:
        with open_stream(path) as file, _unpacked(path, file) as stream:
            return bool(_format_of(stream.read(_LONGEST_ROW)).names)
    except (AccessError, DataError):
        return False


def stem_of(path: Path) -> str:
    """The file's name without that suffix."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex; raises AccessError for one that cannot be read."""
    digest = hashlib.sha256()
    with open_stream(path) as file:
        while piece := file.read(_HASHED_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def read_tables(path: Path, mapping: SourceFormat | None = None) -> Iterator[RawTable]:
    """Read a file in order, at least one table; raises DataError for one that cannot be read."""
    match suffix_of(path).removesuffix(".gz"):
        case ".csv" | ".txt":
            return _csv_tables(path, mapping)
        case ".json":
            return _json_tables(path)
        case _:
            return _parquet_tables(path, mapping or PLAIN)


@functools.cache
def _known_formats() -> tuple[SourceFormat, ...]:
    # The formats that are recognised.
    path = Path(__file__).with_name(_KNOWN)
    return tuple(_format(given) for given in tomllib.loads(filesystem.read_text(path)).values())


def _format_of(start: bytes) -> SourceFormat:
    # The format of a CSV file by its first bytes; PLAIN for one that is not recognised.
    line = start.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].strip().lower()
    held = [part.strip(b'"').decode(errors="replace") for part in line.split(b",")]
    for form in _known_formats():
        times = {theirs for theirs, ours in form.columns.items() if ours == "ts"}
        if times & {*held} or (form.names and len(form.names) == len(held) and _DATED.match(line)):
            return form
    return PLAIN


def column_key(name: str) -> str:
    """A column's name for comparisons: capitals, blanks around it and a blank for an underscore make no difference."""
    return name.strip().lower().replace(" ", "_")


def zone_fault(zone: str) -> str:
    """Why a name is no time zone; "" if it is one."""
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder of zones, as America
        return f"{zone!r} is not a time zone"
    return ""


def read_mapping(path: Path) -> SourceFormat:
    """Read a mapping file; raises UsageError that names every fault of it, AccessError for an unreadable one."""
    text = filesystem.read_bytes(path, limit=_LARGEST)
    try:
        given = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise UsageError(f"{path.name}: not a TOML file: {fault}.", "See docs/data-formats.md.") from fault
    faults = list(_faults(given))
    if faults:
        raise UsageError(f"{path.name}: {'; '.join(faults)}.", "See docs/data-formats.md.")
    return attrs.evolve(_format(given), needed=given["columns"] if given.get("header", True) else {})


def _parquet_tables(path: Path, form: SourceFormat) -> Iterator[RawTable]:
    try:
        rows = pl.scan_parquet(path)
        count = int(rows.select(pl.len()).collect().item())
        if count > max(_ALWAYS_READ, filesystem.size(path) * _ROWS_A_BYTE):
            raise DataError(
                f"{path.name}: {count:,} rows in {filesystem.size(path):,} bytes.",
                "Bars are never so much alike: the file is damaged, or was made to fill the memory.",
            )
        for start in range(0, max(count, 1), BATCH_ROWS):
            frame = rows.slice(start, BATCH_ROWS).collect()
            done = (start + len(frame)) / max(count, 1)
            yield RawTable(frame=frame, first_row=start + 1, given=tuple(frame.columns), format=form, done=done)
    except READER_FAULTS as fault:
        if suffix_of(path):
            raise DataError(f"{path.name}: not a Parquet file, or a damaged one ({_sentence(fault)}).") from fault
        kinds = ", ".join(SUFFIXES)
        raise DataError(f"{path.name}: no Parquet file, and its name ends in none of {kinds}.") from fault


def _csv_tables(path: Path, mapping: SourceFormat | None) -> Iterator[RawTable]:
    head: _Head | None = None
    row, whole = 1, max(filesystem.size(path), 1)
    with open_stream(path) as file, _unpacked(path, file) as stream:
        for block in _whole_lines(path, stream):
            text = block
            if head is None:
                head, text = _head(path, block, mapping)
                row = head.first_row
            frame = _csv(path, head, text, row)
            done = min(1.0, file.tell() / whole)
            yield RawTable(frame=frame, first_row=row, given=head.given, format=head.format, done=done)
            row += len(frame)


def _head(path: Path, block: bytes, mapping: SourceFormat | None) -> tuple[_Head, bytes]:
    # The head of a file, and the rest of its first block.
    form = mapping or _format_of(block)
    if form.names:
        return _Head(line=f"{form.separator.join(form.names)}\n".encode(), first_row=1, format=form), block
    lines = block.split(b"\n", 3)
    if mapping is None and len(lines) > _TICKER_LINES and lines[0].startswith(b"Price,"):
        tickers = {one.strip().decode(errors="replace") for one in lines[1].split(b",")[1:]}
        if len(tickers) > 1:
            raise DataError(f"{path.name}: several tickers side by side.", "Save each ticker in a file of its own.")
        form = attrs.evolve(form, symbol=tickers.pop())
        line = b"Datetime" + lines[0].removeprefix(b"Price") + b"\n"
        return _Head(line=line, first_row=_TICKER_LINES + 1, format=form), lines[_TICKER_LINES]
    cut = block.find(b"\n") + 1 or len(block)
    if cut > _LONGEST_HEAD:
        raise DataError(f"{path.name}: no CSV table can be read from it (its first line is longer than 64 KB).")
    return _Head(line=block[:cut], first_row=2, format=form), block[cut:]


def _whole_lines(path: Path, stream: IO[bytes]) -> Iterator[bytes]:
    # The content in blocks that end with a line; a file of one block as it is.
    rest = b""
    while block := stream.read(BLOCK_BYTES):
        text = rest + block
        cut = text.rfind(b"\n") + 1 if len(block) == BLOCK_BYTES else len(text)
        if len(text) - cut > BLOCK_BYTES:
            raise DataError(f"{path.name}: no CSV table can be read from it (a line is longer than 32 MB).")
        if cut:
            yield text[:cut]
        rest = text[cut:]
    if rest or not stream.tell():
        yield rest


def _csv(path: Path, head: _Head, text: bytes, row: int) -> pl.DataFrame:
    # The rows of a block whose first line is `row`.
    try:
        return pl.read_csv(io.BytesIO(head.line + text), infer_schema=False, separator=head.format.separator)
    except READER_FAULTS as fault:
        rows = csv.reader(text.decode(errors="replace").splitlines(), delimiter=head.format.separator)
        with suppress(csv.Error):  # a value that is too long, as of a quote that nothing closes
            for line, values in enumerate(rows, start=row):
                if len(values) > len(head.given):
                    raise DataError(
                        f"{path.name}: line {line} has {plural(len(values), 'value')} in"
                        f" {plural(len(head.given), 'column')}: {head.format.separator.join(values)[:_SHOWN]!r}.",
                        "Write numbers with a decimal point; a separator other than a comma is named with --mapping.",
                    ) from fault
        raise DataError(f"{path.name}: no CSV table can be read from it ({_sentence(fault)}).") from fault


def _json_tables(path: Path) -> Iterator[RawTable]:
    with open_stream(path) as file, _unpacked(path, file) as stream:
        text = stream.read(LONGEST_JSON + 1)
    if len(text) > LONGEST_JSON:
        raise DataError(f"{path.name}: a JSON file of more than {LONGEST_JSON >> 20} MB.", "Split it by its pages.")
    try:
        pages = _pages(text)
        rows = [row for page in pages for row in _bars_of_page(page)]
        frame = pl.DataFrame(rows, schema=dict.fromkeys(("symbol", *_REPLIED.values()), pl.String), orient="row")
    except (ValueError, TypeError, AttributeError) as fault:
        reason = _sentence(fault) if isinstance(fault, ValueError) else "its bars are not lists of rows with names"
        raise DataError(
            f"{path.name}: no bars can be read from it ({reason}).",
            "A JSON file is the reply of a data service: bars by symbol, or a list of bars with their symbol.",
        ) from fault
    yield RawTable(frame=frame, first_row=1, given=tuple(frame.columns), format=PLAIN, done=1.0)


def _pages(text: bytes) -> list[Any]:
    # One reply, or one a line.
    try:
        return [json_document.parse_json(text)]
    except json_document.InvalidJson:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) <= 1:
            raise
        return [json_document.parse_json(line) for line in lines]


def _bars_of_page(page: Any) -> Iterator[tuple[str | None, ...]]:
    page = page if isinstance(page, dict) else {}
    listed = page.get("bars")
    lacking = [name for name in ("bars", "symbol") if name not in page]
    if lacking and not (isinstance(listed, dict) and lacking == ["symbol"]):
        said = next((f", {name} {page[name]!r:.{_SHOWN}}" for name in _ERRORS if isinstance(page.get(name), str)), "")
        raise ValueError(f"a reply without {lacking[0]}: it has {', '.join(page) or 'no names'}{said}")
    by_symbol = listed if isinstance(listed, dict) else {page["symbol"]: listed}
    for symbol, bars in by_symbol.items():
        for bar in bars or ():
            yield (symbol, *(None if bar.get(name) is None else str(bar[name]) for name in _REPLIED))


@contextmanager
def _unpacked(path: Path, file: IO[bytes]) -> Iterator[IO[bytes]]:
    if not suffix_of(path).endswith(".gz"):
        yield file
        return
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            yield cast("IO[bytes]", stream)
    except (gzip.BadGzipFile, EOFError, zlib.error) as fault:
        raise DataError(f"{path.name}: not a gzip file, or a damaged one ({_sentence(fault)}).") from fault


def _sentence(fault: Exception) -> str:
    return str(fault).strip().splitlines()[0].rstrip(".") if str(fault).strip() else type(fault).__name__


def _format(given: Mapping[str, Any]) -> SourceFormat:
    columns: Mapping[str, Any] = given["columns"]
    form = SourceFormat(time=given.get("format", ""), zone=given.get("zone"), separator=given.get("separator", ","))
    if given.get("header", True):
        named = {column_key(theirs): ours for ours, theirs in columns.items()}
        return attrs.evolve(form, columns=named)
    places = {place: ours for ours, place in columns.items()}
    return attrs.evolve(form, names=tuple(places.get(at, f"column_{at}") for at in range(1, max(places) + 1)))


def _faults(given: Mapping[str, Any]) -> list[str]:
    # What is wrong with a mapping file.
    found = [f"unknown key {name}" for name in given if name not in _KEYS]
    found += [f"{name} must be text" for name in ("zone", "format", "separator") if not _is_text(given, name)]
    if isinstance(zone := given.get("zone"), str) and (fault := zone_fault(zone)):
        found.append(f"zone {fault}")
    if len(str(given.get("separator", ",")).encode()) != 1:
        found.append("separator must be one character")
    columns, header = given.get("columns"), given.get("header", True)
    if not isinstance(columns, dict):
        return [*found, "the table [columns] is missing"]
    found += [f"unknown column {name}, known are {', '.join(_OURS)}" for name in columns if name not in _OURS]
    found += [f"column {name} is missing" for name in _NEEDED if name not in columns]
    if not {"ts", "date", "time"} & columns.keys():
        found.append("column ts is missing, or date and time")
    return [*found, *_wrong_values(columns, header)]


def _is_text(given: Mapping[str, Any], name: str) -> bool:
    return isinstance(given.get(name, ""), str)


def _wrong_values(columns: Mapping[str, Any], header: object) -> Collection[str]:
    kind, words = (str, "the name of a column") if header else (int, "the number of a column, from 1")
    return [
        f"column {ours} must be {words}"
        for ours, theirs in columns.items()
        if not isinstance(theirs, kind) or (isinstance(theirs, int) and not 1 <= theirs <= len(_OURS) * len(_OURS))
    ]
