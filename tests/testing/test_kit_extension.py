"""The kit of extensions: a sound one passes, and each promise that is broken fails its case."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.testing import extension as kit
from tbot_core.testing.contract import run_cases

if TYPE_CHECKING:
    from tbot_core.contracts import Extension, JournalCursor, JournalEntry


@attrs.define
class Sound:
    """Confirms each trade."""

    async def start(self, journal: JournalCursor) -> None:
        """Follow to the end."""
        async for entry in journal:
            await self.work(journal, entry)

    async def work(self, journal: JournalCursor, entry: JournalEntry) -> None:
        """Confirm."""
        if entry.trades and journal.at_end is not None:
            await journal.confirm(entry)

    async def stop(self) -> None:
        """Nothing is open."""


class Server(Sound):
    """Follows nothing, and serves until it is cancelled."""

    async def start(self, _journal: JournalCursor) -> None:
        """Serve."""
        await asyncio.Event().wait()


class Lingers(Sound):
    """Goes on when the journal has ended."""

    async def start(self, journal: JournalCursor) -> None:
        """Follow, and wait."""
        await super().start(journal)
        await asyncio.Event().wait()


class Backwards(Sound):
    """Confirms the first entry again and again, after later ones."""

    first: JournalEntry | None = None

    async def work(self, journal: JournalCursor, entry: JournalEntry) -> None:
        """Confirm both."""
        self.first = self.first or entry
        await journal.confirm(entry)
        await journal.confirm(self.first)


class Silent(Sound):
    """Never confirms."""

    async def work(self, journal: JournalCursor, entry: JournalEntry) -> None:
        """Do the work alone."""


class Ahead(Sound):
    """Confirms what it was not given."""

    async def work(self, journal: JournalCursor, entry: JournalEntry) -> None:
        """Confirm the next one."""
        await journal.confirm(attrs.evolve(entry, seq=entry.seq + 1))


class Once(Sound):
    """Does not accept a trade twice."""

    def __init__(self) -> None:
        self.known: set[tuple[str, bool, str]] = set()

    async def work(self, journal: JournalCursor, entry: JournalEntry) -> None:
        """Refuse what is known."""
        for one in entry.trades:
            key = one.id, one.cancelled, str(one.trade.pnl)
            if key in self.known:
                raise KeyError(one.id)
            self.known.add(key)
        await super().work(journal, entry)


class Deaf(Sound):
    """Ends by no cancellation, for a while."""

    async def start(self, journal: JournalCursor) -> None:
        """Follow, and hold out."""
        try:
            await super().start(journal)
        except asyncio.CancelledError:
            await asyncio.sleep(0.3)


class Blocks(Sound):
    """Holds the event loop."""

    async def work(self, journal: JournalCursor, entry: JournalEntry) -> None:
        """Sleep without waiting."""
        time.sleep(1)  # noqa: ASYNC251  -- the fault that is tested
        await super().work(journal, entry)


class Fragile(Sound):
    """Its `stop` needs something open."""

    async def stop(self) -> None:
        """Fail."""
        raise AttributeError("nothing is open")


def failed(made: type[Sound]) -> set[str]:
    """The numbers of the cases that fail."""
    return {one.number for one in run_cases(kit.CASES, lambda: nullcontext(made())) if one.outcome == "failed"}


class TestSound(kit.ExtensionContract):
    """A sound extension keeps the contract."""

    @pytest.fixture
    def extension(self) -> Extension:
        """A sound one."""
        return Sound()


def test_one_that_follows_nothing_does_not_claim_to() -> None:
    """The cases about the journal are not claimed; it must end when it is cancelled."""
    found = {one.number: one.outcome for one in run_cases(kit.CASES, lambda: nullcontext(Server()))}
    assert found == dict.fromkeys(found, "passed") | dict.fromkeys(("e02", "e03", "e04"), "not claimed")


@pytest.mark.parametrize(
    ("made", "numbers"),
    [
        (Lingers, {"e02", "e03", "e04"}),
        (Backwards, {"e03"}),
        (Silent, {"e03"}),
        (Ahead, {"e02", "e03", "e04", "e05"}),
        (Once, {"e04", "e05"}),
        (Deaf, {"e05"}),
        (Blocks, {"e02", "e03", "e04", "e05"}),
        (Fragile, {"e02", "e03", "e04", "e05", "e06"}),
    ],
)
def test_a_broken_promise_fails_its_case(monkeypatch: pytest.MonkeyPatch, made: type[Sound], numbers: set[str]) -> None:
    """Each by its number, within short limits."""
    for name in ("END_S", "STOP_S", "STEP_S"):
        monkeypatch.setattr(kit, name, 0.1)
    assert failed(made) == numbers


def test_what_lacks_a_method_is_no_extension() -> None:
    """By its first case."""
    (first, *_) = run_cases(kit.CASES[:1], lambda: nullcontext(object()))
    assert (first.number, first.outcome) == ("e01", "failed")
