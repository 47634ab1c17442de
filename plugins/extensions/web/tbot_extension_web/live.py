"""What the page shows of the bot as it runs: read once for all viewers, and again when something has changed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.errors import TbotError
from tbot_core.instance import Instance
from tbot_core.journal.gauges import FILE as GAUGES
from tbot_core.model.clock import exchange_time
from tbot_core.status import Document
from tbot_core.status.day import DayReader
from tbot_core.status.instance import StatusReader
from tbot_core.status.runs import run_file
from tbot_core.system import filesystem, log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from tbot_core.model.clock import Clock

LOOK_S: Final = 0.25
"""How often the files are looked at for a change."""

LEAST_S: Final = 0.5
"""How long it rests after a reading for viewers, however fast the files change; a request reads at once."""

STALE_S: Final = 5.0
"""How old the snapshot becomes while nothing changes: ages and clocks go on."""

TICK_S: Final = 0.5
"""How long a viewer waits for a change: then it looks whether its session still lasts."""

MOST_SAMPLES: Final = 5000
"""How many points of the equity curve are kept in memory: a session of samples each five seconds."""

_SAMPLE_S: Final = 5.0
_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class Snapshot:
    """The bot at one moment: `status` and `day` as documents, or `fault`, why they cannot be read.

    `account_mode` is live or paper: what a start of the bot would trade.
    """

    status: Document
    day: Document
    fault: str = ""
    account_mode: str = "paper"


class LiveView:
    """The snapshot that all viewers share; it is read while somebody looks, and on request.

    `render(snapshot)` gives the parts of the dashboard by name, as HTML.
    """

    def __init__(self, home: Path, clock: Clock, render: Callable[[Snapshot], Mapping[str, str]]) -> None:
        self._home = home
        self._clock = clock
        self._render = render
        self._status = StatusReader(home)
        self._reader: DayReader | None = None
        self._samples: list[tuple[str, str]] = []
        self._sampled = -_SAMPLE_S
        self._seen: object = None
        self._read_at = -STALE_S
        self._snapshot = Snapshot(status={}, day={})
        self._parts: dict[str, tuple[int, str]] = {}
        self._version = 0
        self._viewers = 0
        self._lock = asyncio.Lock()
        self._news = asyncio.Event()
        self._ended = False
        self._task: asyncio.Task[None] | None = None

    @property
    def latest(self) -> Snapshot:
        """The snapshot that was read last; empty before the first."""
        return self._snapshot

    @property
    def viewers(self) -> int:
        """How many streams are open."""
        return self._viewers

    async def snapshot(self) -> Snapshot:
        """The bot as of now; read again if it changed or is stale."""
        await self._refresh()
        return self._snapshot

    async def parts(self) -> Mapping[str, str]:
        """The parts of the dashboard as of now."""
        await self._refresh()
        return {name: html for name, (_, html) in self._parts.items()}

    def end(self) -> None:
        """End the streams of all viewers: the page is being ended."""
        self._ended = True
        self._tell()

    async def changes(self) -> AsyncIterator[Mapping[str, str] | None]:
        """The parts that changed since the last ones, as they change; all at first. None each TICK_S without a change.

        A slow viewer gets the latest parts, not those in between, so that nothing piles up.
        """
        self._viewers += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        seen = 0
        try:
            await self._refresh()
            while not self._ended:
                fresh = {name: html for name, (version, html) in self._parts.items() if version > seen}
                seen = self._version
                yield fresh or None
                await self._wait_beyond(seen)
        finally:
            self._viewers -= 1

    async def _wait_beyond(self, version: int) -> None:
        news = self._news
        if self._version <= version and not self._ended:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), TICK_S)

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _watch(self) -> None:
        while self._viewers:
            was_read = await self._refresh()
            await asyncio.sleep(LEAST_S if was_read else LOOK_S)

    async def _refresh(self) -> bool:
        # Read again if it changed or is stale; returns whether it was read.
        async with self._lock:
            now = self._clock.monotonic()
            marks = await asyncio.to_thread(self._marks)  # seam: no run waits for the page
            if marks == self._seen and now - self._read_at < STALE_S:
                return False
            self._seen, self._read_at = marks, now
            self._snapshot = await asyncio.to_thread(self._read)  # seam: likewise
            rendered = self._render(self._snapshot)
            fresh = {name for name, html in rendered.items() if name not in self._parts or self._parts[name][1] != html}
            if not fresh:
                return True
            self._version += 1
            for name in sorted(fresh):
                self._parts[name] = (self._version, rendered[name])
        self._tell()
        return True

    def _marks(self) -> object:
        # What changes when the bot does something: journals, gauges, requests, the lock.
        instance = self._status.instance()
        folders = [instance.data, instance.runs, instance.control]
        found: list[object] = [instance.lock_holder]
        for folder in folders:
            if filesystem.is_folder(folder):
                found += [
                    (path.name, filesystem.revision(path))
                    for path in filesystem.entries(folder)
                    if folder == instance.control or _is_of_a_run(path)
                ]
        return found

    def _read(self) -> Snapshot:
        try:
            status = self._status.read(self._clock.now())
            day = self._day(status)
        except (TbotError, OSError) as fault:
            _log.warning("web.unread", reason=str(fault))
            return attrs.evolve(self._snapshot, fault=str(fault))
        return Snapshot(status=status, day=day, account_mode=self._account_mode())

    def _account_mode(self) -> str:
        # The one before where the credentials cannot be opened: the bot does not start with them either.
        try:
            return self._status.account_mode()
        except TbotError as fault:
            _log.warning("web.account_unread", reason=str(fault))
            return self._snapshot.account_mode

    def _day(self, status: Mapping[str, Any]) -> Document:
        name = status.get("run")
        if name is None:
            return {}
        if self._reader is None or self._reader.file.name != name:
            self._reader, self._samples = DayReader(run_file(Instance.at(self._home), name)), []
        day = self._reader.read()
        return {**day, "samples": self._sample(status)}

    def _sample(self, status: Mapping[str, Any]) -> list[tuple[str, str]]:
        # The equity at the bot's marks, which no journal holds: one point each five seconds while somebody looks.
        at, equity = status.get("marks_at"), status.get("equity")
        if at and equity and status.get("in_session"):
            if self._samples and _day_of(self._samples[-1][0]) != _day_of(at):
                self._samples = []
            if self._clock.monotonic() - self._sampled >= _SAMPLE_S and (
                not self._samples or at > self._samples[-1][0]
            ):
                self._sampled = self._clock.monotonic()
                self._samples = [*self._samples, (at, equity)][-MOST_SAMPLES:]
        return self._samples


def _is_of_a_run(path: Path) -> bool:
    return path.suffix in {"", ".sqlite"} or path.name == GAUGES or path.name.endswith("-wal")


def _day_of(text: str) -> object:
    from datetime import datetime

    return exchange_time(datetime.fromisoformat(text)).date()
