"""LEDGER_EXPORT_MODE=auto: each closed trade in a CSV file of its session, as the journal has it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tbot_core.journal import codec, records
from tbot_core.journal.events.sessions import SessionOpened
from tbot_core.reports.trades_csv import ledger_csv, ledger_name
from tbot_core.system import filesystem

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable
    from pathlib import Path

    from tbot_core.contracts import ClosedTrade, JournalCursor, JournalEntry


class LedgerExport:
    """An extension of the core: it writes each file whole, so that a file holds each of its trades once.

    It confirms a session when the next one opens; until then it rebuilds the files from the journal after a restart.
    `run`: the name of a run with a journal of its own, in place of the mode. `write` replaces a file durably.
    """

    def __init__(
        self, folder: Path, run: str = "", write: Callable[[Path, bytes], None] = filesystem.write_atomic
    ) -> None:
        self._folder = folder
        self._run = run
        self._write = write

    async def start(self, journal: JournalCursor) -> None:
        """Write each trade when it is closed. Raises AccessError while the folder cannot be written."""
        files: dict[str, dict[str, ClosedTrade]] = {}
        day: dt.date | None = None
        changed, before = set[str](), None
        async for entry in journal:
            if entry.kind == records.SESSION_OPENED:
                opening = codec.view(SessionOpened, entry.payload)
                if opening.date != day:
                    await self._write_files(files, changed)
                    await _confirm(journal, before)
                    files, day = {}, opening.date
            for trade in entry.trades:
                name = ledger_name(trade, self._run)
                rows = files.setdefault(name, {})
                rows.pop(trade.id, None)
                if not trade.cancelled:
                    rows[trade.id] = trade
                changed.add(name)
            if journal.at_end:
                await self._write_files(files, changed)
            before = entry

    async def stop(self) -> None:
        """Nothing is left open."""

    async def _write_files(self, files: dict[str, dict[str, ClosedTrade]], changed: set[str]) -> None:
        for name in sorted(changed):
            content = ledger_csv(files[name].values()).encode()
            path = self._folder / name
            await asyncio.to_thread(self._replace, path, content)  # seam: a slow disk must not delay an order
        changed.clear()

    def _replace(self, path: Path, content: bytes) -> None:
        filesystem.make_folder(self._folder)
        if not filesystem.exists(path) or filesystem.read_bytes(path) != content:
            self._write(path, content)


async def _confirm(journal: JournalCursor, entry: JournalEntry | None) -> None:
    if entry is not None:
        await journal.confirm(entry)
