"""How vendors write bars: which of their columns are ours, and how their times are meant.

A file whose columns have our names needs no format. Others are recognised (`formats.toml`), or described by a mapping
file.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import attrs

from tbot_core.errors import UsageError
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Collection

UNITS: Final = ("s", "ms", "us", "ns")
"""The units of times that are numbers: since 1970 UTC."""

_KNOWN: Final = "formats.toml"
_KEYS: Final = ("zone", "format", "separator", "header", "columns")
_OURS: Final = ("symbol", "ts", "date", "time", "open", "high", "low", "close", "volume", "vwap")
_NEEDED: Final = ("open", "high", "low", "close", "volume")
_DATED: Final = re.compile(rb'"?\d{1,4}[/.-]\d{1,2}[/.-]\d{1,4}"?,')
_LARGEST: Final = 100_000


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


@functools.cache
def known_formats() -> tuple[SourceFormat, ...]:
    """The formats that are recognised."""
    path = Path(__file__).with_name(_KNOWN)
    return tuple(_format(given) for given in tomllib.loads(filesystem.read_text(path)).values())


def format_of(start: bytes) -> SourceFormat:
    """The format of a CSV file by its first bytes; PLAIN for one that is not recognised."""
    line = start.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].strip().lower()
    held = [part.strip(b'"').decode(errors="replace") for part in line.split(b",")]
    for form in known_formats():
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
