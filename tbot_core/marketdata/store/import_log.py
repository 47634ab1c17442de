"""Which source files were imported as a whole, so that a repeated import does not read them again.

`.import.sources.json` lists for each source the files of the store that held its rows afterwards. While the months
still name these files, the source has nothing to add. It is written after the months: a crash between the two repeats
work only.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.errors import AccessError, DataError
from tbot_core.marketdata.store import manifest, parquet
from tbot_core.model import json_document
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.marketdata.store.source_files import ImportOptions

FILE: Final = ".import.sources.json"
_FORMAT: Final = 1
_MOST: Final = 20_000


@attrs.frozen(kw_only=True)
class SourceRecord:
    """An imported source: its symbols and days, the store's files by month, and the counts of its rows."""

    symbols: tuple[str, ...]
    first: dt.date
    last: dt.date
    files: Mapping[str, Sequence[str]]
    bars: int
    dropped: int
    repeated: int
    rounded: int


class ImportLog:
    """The sources of a store; those noted count from `write` on."""

    def __init__(self, folder: Path) -> None:
        """Read the log; one that is damaged or absent knows no source."""
        self._folder = folder
        self._records = _read(folder)
        self._noted: dict[str, SourceRecord] = {}

    def find(self, path: Path, sha256: str, options: ImportOptions) -> SourceRecord | None:
        """The record of a source whose rows are stored as its import left them; None without one."""
        record = self._records.get(_key(path, sha256, options))
        return record if record is not None and self._holds(record, (options.adjustment, options.volume)) else None

    def note(self, path: Path, sha256: str, options: ImportOptions, record: SourceRecord) -> None:
        """Add a source whose parts will be committed."""
        self._noted[_key(path, sha256, options)] = record

    def write(self) -> None:
        """Write the log with the noted sources, after their parts were committed."""
        if not self._noted:
            return
        self._records = dict(list((self._records | self._noted).items())[-_MOST:])
        self._noted = {}
        sources = {key: attrs.asdict(record) for key, record in self._records.items()}
        text = json.dumps({"format": _FORMAT, "sources": sources}, default=str)
        filesystem.write_atomic(self._folder / FILE, f"{text}\n".encode())

    def _holds(self, record: SourceRecord, kind: tuple[str, str]) -> bool:
        # Whether the months name the source's files, as bars of its kind, and these and the daily rows are undamaged.
        try:
            for name, files in record.files.items():
                month = manifest.read_month(self._folder, name)
                entries = {} if month is None else {one.file: one for one in month.entries.values()}
                found = [entries[file] for file in files if file in entries]
                if month is None or len(found) < len(files) or any((it.adjustment, it.volume) != kind for it in found):
                    return False
                for one in found:
                    manifest.prove(self._folder / name / one.file, one.sha256)
                parquet.read_daily(self._folder, month)
        except (DataError, AccessError):
            return False
        return True


def _key(path: Path, sha256: str, options: ImportOptions) -> str:
    # With the file's name, or what is given in its place: the symbol of its rows.
    name = path.name if options.symbol is None else f"/{options.symbol}"
    how = f"{name} {sha256} {options.adjustment} {options.volume} {options.zone} {options.mapping}"
    return hashlib.sha256(how.encode()).hexdigest()


def _read(folder: Path) -> dict[str, SourceRecord]:
    path = folder / FILE
    if not filesystem.exists(path):
        return {}
    try:
        content = json_document.parse_json(filesystem.read_bytes(path))
        if content["format"] != _FORMAT:
            return {}
        return {str(key): _record(fields) for key, fields in content["sources"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _record(fields: Mapping[str, Any]) -> SourceRecord:
    days = {name: dt.date.fromisoformat(fields[name]) for name in ("first", "last")}
    return SourceRecord(**{**fields, **days, "symbols": tuple(fields["symbols"])})
