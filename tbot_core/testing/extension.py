"""The contract of extensions: numbered cases, a journal to follow, and a pytest class that a plugin's tests inherit.

A plugin's test supplies the extension, with whatever it reaches on this machine::

    class TestContract(ExtensionContract):
        @pytest.fixture
        def extension(self, tmp_path: Path) -> Extension:
            return TradeFile(tmp_path / "trades.txt")

An extension that needs secrets or hosts offers a venue (`Plugin.venue`), a context manager that yields the extension at
a server of its own on this machine.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import ClosedTrade, Extension, JournalEntry
from tbot_core.model.types import ExitReason, Side, Trade, stock
from tbot_core.system.timeouts import steps_within
from tbot_core.testing.contract import ContractCase, ContractTests, NotClaimed, demand

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence
    from typing import Any

STEP_S: Final = 0.5
BEGIN_S: Final = 0.1
END_S: Final = 5.0
STOP_S: Final = 2.0
_TIME: Final = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)


class RecordedJournal:
    """A `JournalCursor` over given entries; `given` and `confirmed` are what the extension did with it.

    `ends`: the iteration ends after the last entry, as at a run's end; else it waits.
    """

    def __init__(self, entries: Sequence[JournalEntry], *, ends: bool = True) -> None:
        self._entries = list(entries)
        self._ends = ends
        self._next = 0
        self.used = False
        self.confirmed: list[int] = []
        self.all_given = asyncio.Event()

    @property
    def given(self) -> list[JournalEntry]:
        """The entries that the extension was given."""
        return self._entries[: self._next]

    @property
    def at_end(self) -> bool:
        """Whether the last entry was given."""
        return self._next == len(self._entries)

    def __aiter__(self) -> AsyncIterator[JournalEntry]:
        """Iterate over the entries."""
        self.used = True
        return self

    async def __anext__(self) -> JournalEntry:
        """The next entry."""
        await asyncio.sleep(0)
        if self.at_end:
            self.all_given.set()
            if self._ends:
                raise StopAsyncIteration
            await asyncio.Event().wait()
        self._next += 1
        return self._entries[self._next - 1]

    async def confirm(self, entry: JournalEntry) -> None:
        """Note the position; raises ValueError for an entry that was not given."""
        await asyncio.sleep(0)
        if entry.seq not in {one.seq for one in self.given}:
            message = f"event {entry.seq} was not given"
            raise ValueError(message)
        self.confirmed.append(entry.seq)


def sample_entries() -> list[JournalEntry]:
    """A short session: two trades are closed, one of them is corrected, and the other one is cancelled."""
    first, second = _closed("AAPL", "190.20"), _closed("MSFT", "410.05")
    corrected = attrs.evolve(first, trade=attrs.evolve(first.trade, exit_price=Decimal("190.25"), pnl=Decimal("15.20")))
    steps = [
        ("session_opened", ()),
        ("fill", (first,)),
        ("fill", (second,)),
        ("corrected", (corrected,)),
        ("busted", (attrs.evolve(second, cancelled=True),)),
        ("session_closed", ()),
    ]
    return [
        JournalEntry(
            seq=seq,
            kind=kind,
            time=_TIME + timedelta(minutes=seq),
            payload=MappingProxyType({}),
            trades=tuple(trades),
        )
        for seq, (kind, trades) in enumerate(steps, 1)
    ]


def e01_it_is_an_extension(extension: Extension) -> None:
    """It has `start` and `stop`."""
    demand(isinstance(extension, Extension), "an extension has `start` and `stop`")


def e02_it_follows_the_journal_to_its_end(extension: Extension) -> None:
    """When the iteration has ended, `start` returns, and `stop` after it."""
    _run(_follow(extension, sample_entries()))


def e03_positions_go_forward(extension: Extension) -> None:
    """It confirms entries that it was given, each after those before it."""
    journal = _run(_follow(extension, sample_entries()))
    demand(
        bool(journal.confirmed),
        "it confirmed none of the entries that it was given: after each start it would be given all of them again",
    )
    demand(journal.confirmed == sorted(journal.confirmed), f"it confirmed {journal.confirmed}, in this order")


def e04_what_comes_again_is_no_error(extension: Extension) -> None:
    """After a crash it is given again what it has not confirmed, and also what it may have worked on."""

    async def twice() -> None:
        await _follow(extension, sample_entries())
        await _follow(extension, sample_entries())

    _run(twice())


def e05_a_cancelled_start_ends(extension: Extension) -> None:
    """At the end of a run `start` is cancelled: it ends at once, and can be started again."""

    async def cancelled() -> None:
        for _ in range(2):
            journal = RecordedJournal(sample_entries(), ends=False)
            task = asyncio.ensure_future(steps_within(STEP_S, extension.start(journal)))
            await _settle(task, journal, asyncio.ensure_future(journal.all_given.wait()))
            task.cancel()
            await asyncio.wait({task}, timeout=STOP_S)
            demand(task.done(), f"a cancelled `start` must end within {STOP_S:g} s")
            if not task.cancelled() and (fault := task.exception()) is not None:
                raise fault
            await _stop(extension)

    _run(cancelled())


def e06_stop_alone_is_no_error(extension: Extension) -> None:
    """`stop` may come when nothing is open, and twice."""

    async def stopped() -> None:
        await _stop(extension)
        await _stop(extension)

    _run(stopped())


CASES: Final[tuple[ContractCase, ...]] = (
    e01_it_is_an_extension,
    e02_it_follows_the_journal_to_its_end,
    e03_positions_go_forward,
    e04_what_comes_again_is_no_error,
    e05_a_cancelled_start_ends,
    e06_stop_alone_is_no_error,
)
"""The contract, in order of the numbers."""


class ExtensionContract(ContractTests):
    """The contract of extensions as tests; a subclass, or its module, has a fixture `extension`."""

    cases = CASES

    def test_contract(self, case: ContractCase, extension: Extension) -> None:
        """Run one case."""
        case(extension)


async def _follow(extension: Extension, entries: Sequence[JournalEntry]) -> RecordedJournal:
    # Let it follow the entries to their end; an extension that reads none is cancelled, as at the end of a run.
    journal = RecordedJournal(entries)
    task = asyncio.ensure_future(steps_within(STEP_S, extension.start(journal)))
    await _settle(task, journal)
    demand(task.done() or not journal.used, f"`start` did not return within {END_S:g} s of the journal's end")
    task.cancel()
    await asyncio.wait({task}, timeout=STOP_S)
    await _stop(extension)
    if task.done() and not task.cancelled() and (fault := task.exception()) is not None:
        raise fault
    if not journal.used:
        raise NotClaimed("this extension does not follow the journal")
    return journal


async def _settle(task: asyncio.Future[None], journal: RecordedJournal, *others: asyncio.Future[Any]) -> None:
    # Wait until the task has ended, or one of the others; not for long if it reads no entry.
    await asyncio.wait({task, *others}, timeout=BEGIN_S, return_when=asyncio.FIRST_COMPLETED)
    if journal.used:
        await asyncio.wait({task, *others}, timeout=END_S, return_when=asyncio.FIRST_COMPLETED)
    for other in others:
        other.cancel()


async def _stop(extension: Extension) -> None:
    async with asyncio.timeout(STOP_S):
        await steps_within(STEP_S, extension.stop())


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def _closed(symbol: str, exit_price: str) -> ClosedTrade:
    price = Decimal(exit_price)
    return ClosedTrade(
        id=f"2026-11-24/open/{symbol}/25/breakout",
        trade=Trade(
            strategy="open",
            instrument=stock(symbol),
            side=Side.LONG,
            quantity=Decimal(12),
            entry_time=_TIME,
            entry_price=price - 1,
            exit_time=_TIME + timedelta(minutes=1),
            exit_price=price,
            fees=Decimal("0.02"),
            pnl=Decimal("11.98"),
            exit_reason=ExitReason.TARGET,
            broker="acme",
        ),
        session=_TIME.date(),
        mode="paper",
        identity="ACME_US_ACME_B01",
        account="PA12345",
    )
