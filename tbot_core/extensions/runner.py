"""One extension beside a run: started, started again after a failure, and stopped within seconds."""

from __future__ import annotations

import asyncio
from decimal import localcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import AccessError
from tbot_core.extensions.journal_cursor import EVERY_S, FollowedJournal
from tbot_core.model.clock import Clock
from tbot_core.model.formatting import one_line
from tbot_core.plugins.call_guard import PluginBorder
from tbot_core.system import log
from tbot_core.system.foreign_exceptions import assert_failure, exception_trace, exception_words
from tbot_core.system.redaction import redact
from tbot_core.system.timeouts import steps_within

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tbot_core.contracts import Extension
    from tbot_core.extensions.progress import Progress, ProgressFile

STEP_S: Final = 0.5
"""How long an extension may run between two waits."""

_GRACE_S: Final = 0.1
"""How long an extension that has read no event yet may still begin to, at the end of a run."""

DRAIN_S: Final = 5.0
"""How long an extension may work on the last events of a run."""

STOP_S: Final = 2.0
HEALTHY_S: Final = 60.0
"""An extension that follows no events works again when it has run so long."""

_LONGEST_PAUSE_S: Final = 60.0
_LONGEST: Final = 500
_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class FollowTerms:
    """What the extensions of a run share: journal, clock, how often the journal is read, and the first pause.

    `off_s`: how often one that is off asks whether it still is.
    """

    journal: Path
    clock: Clock
    every_s: float = EVERY_S
    pause_s: float = 1.0
    off_s: float = _LONGEST_PAUSE_S


class ExtensionRunner:
    """Runs an extension, in sessions for which it is not off at its `border`.

    `on_failing` is called with the first failure after a success.
    """

    def __init__(
        self,
        subject: Extension,
        progress: ProgressFile,
        terms: FollowTerms,
        on_failing: Callable[[BaseException, str], None],
        border: PluginBorder | None = None,
    ) -> None:
        self._subject = subject
        self._border = border or PluginBorder()
        self._progress = progress
        self._terms = terms
        self._on_failing = on_failing
        self._failures = 0
        self._ending = False
        self._journal = self._follow()
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start it in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def finish(self) -> None:
        """Let it finish its events, and stop it; one that does not end in time is left behind."""
        task, self._ending = self._task, True
        if task is None:
            return
        self._journal.end()
        await asyncio.wait({task}, timeout=_GRACE_S)
        if self._journal.used:
            await asyncio.wait({task}, timeout=DRAIN_S)
        for seconds in (STOP_S + 1.0, 1.0):  # a second time for one that hangs while it stops
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            _log.warning("extension.not_stopped", extension=self._progress.state.title)
            asyncio.tasks._unregister_task(task)  # noqa: SLF001  -- the end of the loop would wait for it

    async def _run(self) -> None:
        while not await self._wait_while_off() and await self._attempt(self._journal) is not None and not self._ending:
            pause_s = min(self._terms.pause_s * 2 ** min(self._failures - 1, 10), _LONGEST_PAUSE_S)
            if await self._journal.wait_for_end(pause_s):
                return
            self._journal = self._follow()

    async def _wait_while_off(self) -> bool:
        # Wait for a session in which it may be called; whether the run ended first.
        while self._border.is_off():
            if await self._journal.wait_for_end(self._terms.off_s):
                return True
        return False

    def _follow(self) -> FollowedJournal:
        terms = self._terms
        return FollowedJournal(terms.journal, self._progress, every_s=terms.every_s, on_caught_up=self._recover)

    async def _attempt(self, journal: FollowedJournal) -> BaseException | None:
        # One call of `start`, and of `stop` after it; the failure, if there was one.
        healthy = asyncio.get_running_loop().call_later(HEALTHY_S, self._recover)
        try:
            with localcontext():
                await self._steps("start", lambda: self._subject.start(journal))
        except BaseException as fault:  # noqa: BLE001  -- the border of an extension
            assert_failure(fault, awaited=True)
            self._record(fault)
            return fault
        finally:
            healthy.cancel()
            journal.close()
            await self._stop()
        return None

    async def _steps(self, call: str, function: Callable[[], Awaitable[None]]) -> None:
        # Await a call, each step limited in time and marked.
        await steps_within(STEP_S, function(), partial(self._border.mark, call))

    async def _stop(self) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                with localcontext():
                    await self._steps("stop", self._subject.stop)
        except BaseException as fault:  # noqa: BLE001  -- the border of an extension
            assert_failure(fault, awaited=True)
            _log.error("extension.failed", extension=self._progress.state.title, phase="stop", error=_words(fault))

    def _record(self, fault: BaseException) -> None:
        self._failures += 1
        words, state = _words(fault), self._progress.state
        since = state.failing_since or self._terms.clock.now()
        trace = exception_trace(fault)
        _log.error("extension.failed", extension=state.title, error=words, traceback=trace)
        self._note(attrs.evolve(state, failing_since=since, error=words))
        if self._failures == 1:
            self._on_failing(fault, attrs.evolve(state, failing_since=since, error=words).sentence)

    def _recover(self) -> None:
        self._failures, state = 0, self._progress.state
        if state.failing_since is not None:
            _log.info("extension.recovered", extension=state.title)
            self._note(attrs.evolve(state, failing_since=None, error=""))

    def _note(self, state: Progress) -> None:
        try:
            self._progress.write(state)
        except AccessError as fault:
            _log.warning("extension.progress_not_stored", extension=state.title, reason=fault.message)


def _words(fault: BaseException) -> str:
    # The failure on one line; a `TbotError` keeps its own message.
    line = one_line(redact(exception_words(fault)))
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
