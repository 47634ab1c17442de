"""The daily rows of a month as arrays, and a file of them beside the Parquet file of record.

::

    <folder>/2018-02/days-<content>.block

A command that finds it need not load polars, whose import takes longer than reading a year. It is made from the Parquet
file on first use, has that file's SHA-256 in its name, and can be removed at any time; an import removes it with the
month's old manifest. After a line with the format come the SHA-256 of the rest, the length of the symbols' names, these
as JSON, and the rows.
"""

from __future__ import annotations

import hashlib
import json
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np
import numpy.typing as npt

from tbot_core.errors import AccessError
from tbot_core.marketdata.store import manifest
from tbot_core.model import json_document
from tbot_core.system import filesystem

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    import polars as pl

_FORMAT: Final = b"tbot daily rows 2\n"
_DIGEST_LENGTH: Final = 32
_NUMBERS: Final = {"bars": "<i8", "open": "<f8", "high": "<f8", "low": "<f8", "close": "<f8", "volume": "<i8"}
_ROW: Final = np.dtype([("code", "<i4"), ("date", "<M8[D]"), *_NUMBERS.items(), ("digest", f"V{_DIGEST_LENGTH}")])


@attrs.frozen(kw_only=True, eq=False)
class DailyRows:
    """One row per symbol and session of a month: the columns of the Parquet file, the symbol as its place in `names`.

    `names` are sorted; the column `code` has the places.
    """

    names: tuple[str, ...]
    table: npt.NDArray[Any]

    @classmethod
    def of(cls, frame: pl.DataFrame) -> DailyRows:
        """The rows of a month's daily file."""
        table = np.empty(len(frame), dtype=_ROW)
        table["code"] = frame["symbol"].rank("dense").to_numpy() - 1
        table["date"] = frame["date"].to_numpy()
        for name in _NUMBERS:
            table[name] = frame[name].to_numpy()
        table["digest"] = np.frombuffer(b"".join(frame["digest"]), dtype=f"V{_DIGEST_LENGTH}")
        return cls(names=tuple(frame["symbol"].unique().sort()), table=table)

    @classmethod
    def none(cls) -> DailyRows:
        """No rows."""
        return cls(names=(), table=np.empty(0, dtype=_ROW))

    @property
    def days(self) -> set[dt.date]:
        """The sessions that have bars."""
        return set(np.unique(self.table["date"]).tolist())


def read_daily(folder: Path, month: manifest.MonthManifest) -> DailyRows:
    """Read the month's daily rows; raises DataError as `parquet.read_daily` does."""
    path = folder / month.name / f"days-{month.daily_sha256[: manifest.NAME_LENGTH]}{manifest.BLOCK_SUFFIX}"
    if (found := _read(path)) is not None:
        return found
    from tbot_core.marketdata.store import parquet

    made = DailyRows.of(parquet.read_daily(folder, month))
    with suppress(AccessError):  # where it cannot be kept each run reads the Parquet file
        filesystem.write_atomic(path, _encoded(made))
    return made


def _read(path: Path) -> DailyRows | None:
    # The rows of a file; None where there is none, or one that is damaged or of another format.
    try:
        data = filesystem.read_bytes(path) if filesystem.exists(path) else b""
    except AccessError:
        return None
    start = len(_FORMAT) + _DIGEST_LENGTH
    if not data.startswith(_FORMAT) or hashlib.sha256(data[start:]).digest() != data[len(_FORMAT) : start]:
        return None
    stop = start + 4 + int.from_bytes(data[start : start + 4], "little")
    names = tuple(json_document.parse_json(data[start + 4 : stop]))
    return DailyRows(names=names, table=np.frombuffer(data, dtype=_ROW, offset=stop))


def _encoded(rows: DailyRows) -> bytes:
    names = json.dumps(rows.names).encode()
    content = struct.pack("<I", len(names)) + names + rows.table.tobytes()
    return _FORMAT + hashlib.sha256(content).digest() + content
