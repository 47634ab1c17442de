"""The blocks of a store's months: mapped, or made where a month has none."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import AccessError
from tbot_core.marketdata.store import block_files, manifest
from tbot_core.marketdata.store.block_collector import BlockMemory, MonthFiles
from tbot_core.marketdata.store.block_files import BlockLayout, MonthBlock
from tbot_core.marketdata.store.daily_rows import DailyRows
from tbot_core.model.calendar import Session
from tbot_core.system import file_streams, log
from tbot_core.system.daemon_threads import DaemonThreads
from tbot_core.system.worker_threads import iterate_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from concurrent.futures import Future


# A smaller share of a month's symbols is read from their own files.
_BLOCK_SHARE: Final = 8
_log = log.logger(__name__)


@attrs.frozen(kw_only=True, eq=False)
class WantedMonth:
    """A month, and of it the sessions by length and the symbols that are wanted."""

    month: manifest.MonthManifest
    groups: tuple[tuple[Session, ...], ...]
    symbols: tuple[str, ...]

    @property
    def wants_block(self) -> bool:
        """Whether a block of the whole month serves it; few symbols of many come from their own files."""
        held = self.month.entries
        return _BLOCK_SHARE * sum(symbol in held for symbol in self.symbols) >= len(held)


@attrs.define(eq=False)
class MonthBlocks:
    """Reads and makes blocks; `folder` is that of the store, `daily` has the daily rows of the months in question.

    Raises DataError when a file of a month was changed, or removed by an import, and AccessError for one that cannot
    be read. A block that cannot be written is noted once, and served from memory.
    """

    folder: Path
    daily: Mapping[str, DailyRows]
    _has_warned: bool = attrs.field(default=False, init=False)

    def block(self, wanted: WantedMonth) -> MonthBlock:
        """The bars of a month."""
        if not wanted.wants_block:
            return self._files(wanted.month).collect(wanted.groups, wanted.symbols)
        layout = self._layout(wanted.month)
        return block_files.read_block(layout) or self._made(wanted.month, layout)

    def in_order(self, months: Sequence[WantedMonth]) -> Generator[MonthBlock, None, None]:
        """Iterate over the bars of months; while one is used the next is read ahead, or made in threads.

        One month is made ahead, in memory that is used again. An error is raised in the place of its month.
        """
        if len(months) == 1:
            yield self.block(months[0])
        else:
            with closing(iterate_ahead(self._ahead(months))) as ahead:
                yield from map(operator.call, ahead)

    def _ahead(self, months: Iterable[WantedMonth]) -> Generator[Callable[[], MonthBlock], None, None]:
        # For each month what returns its block. Ended early, it waits for those that are being kept.
        memory = BlockMemory()
        with ExitStack() as ends:
            for wanted in months:
                yield self._begun(wanted, memory, ends)

    def _begun(self, wanted: WantedMonth, memory: BlockMemory, ends: ExitStack) -> Callable[[], MonthBlock]:
        # A block as far as it is made ahead: what is written is put on the disk while the next month is collected.
        if not wanted.wants_block:
            return partial(_same, self._files(wanted.month).collect(wanted.groups, wanted.symbols))
        layout = self._layout(wanted.month)
        if (block := block_files.read_block(layout)) is not None:
            file_streams.read_ahead(layout.path)
            return partial(_same, block)
        try:
            writing = self._written(wanted.month, layout, memory)
        except AccessError:  # made once it is needed, in memory of its own; the fault is raised or noted there
            return partial(self.block, wanted)
        kept = DaemonThreads().submit(writing.close)
        ends.callback(kept.exception)
        return partial(self._kept, kept, wanted)

    def _kept(self, kept: Future[None], wanted: WantedMonth) -> MonthBlock:
        with suppress(AccessError):  # as where it cannot be written
            kept.result()
        return self.block(wanted)

    def _written(self, month: manifest.MonthManifest, layout: BlockLayout, memory: BlockMemory) -> ExitStack:
        # Write a block; it is kept once the stack is closed.
        with ExitStack() as failing:
            write = failing.enter_context(block_files.writing(layout))
            write(self._files(month).collect(layout.groups, layout.symbols, memory))
            return failing.pop_all()

    def _made(self, month: manifest.MonthManifest, layout: BlockLayout) -> MonthBlock:
        made = self._files(month).collect(layout.groups, layout.symbols)
        try:
            with block_files.writing(layout) as write:
                write(made)
        except AccessError as fault:
            if not self._has_warned:
                _log.warning("bars.block_not_kept", reason=fault.message, effect="each run reads Parquet: slower")
            self._has_warned = True
            return made
        return block_files.read_block(layout) or made  # the file, so that the memory is free for the next month

    def _layout(self, month: manifest.MonthManifest) -> BlockLayout:
        return BlockLayout.of(self.folder, month, self.daily[month.name].days)

    def _files(self, month: manifest.MonthManifest) -> MonthFiles:
        return MonthFiles(folder=self.folder, month=month, daily=self.daily[month.name])


def _same(block: MonthBlock) -> MonthBlock:
    return block
